"""Pairs of token rows become a Task: checked, padded, answers and positions as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model.tokens import Batch
from cutaway.tasks.checks import sound
from cutaway.tasks.items import Pair
from cutaway.tasks.metrics import Target, bind
from cutaway.tasks.reading import Reader
from cutaway.tasks.task import Task


def assemble(
    name: str,
    pairs: Sequence[Pair],
    reader: Reader,
    *,
    metric: str | Callable[..., Tensor] | None = None,
    drop: bool | None = None,
    numbers: Sequence[int] = (),
    **more: Any,
) -> Task:
    """The task of these pairs. Rows are padded on the right; a position keeps its number, padded or not.

    metric: by default mass_difference where many tokens are right, logit_difference where there is a wrong answer,
    else log_probability. Raises InputError from the checks.
    """
    kept = sound(pairs, reader, drop=drop, numbers=numbers)
    if len({p.wrong is None for p in kept}) > 1:
        raise InputError("either every item has a wrong answer or none has.")
    target = Target(
        torch.tensor([p.answer for p in kept]),
        None if kept[0].wrong is None else torch.tensor([p.wrong for p in kept]),
        *_sets(kept),
    )
    default = "mass_difference" if target.sign is not None else "log_probability"
    if target.sign is None and target.wrong is not None:
        default = "logit_difference"
    known = all(p.counterfactual_answer is not None for p in kept)
    return Task(
        name=name,
        clean=_batch([p.clean for p in kept]),
        counterfactual=_batch([p.counterfactual for p in kept]),
        answers=target.answers,
        wrong=target.wrong,
        positions=_positions(kept),
        template=torch.tensor([p.item.template for p in kept]),
        items=tuple(p.item for p in kept),
        metric=bind(metric or default, target),
        counterfactual_answers=torch.tensor([p.counterfactual_answer for p in kept]) if known else None,
        tokenizer=reader.tokenizer,
        **more,
    )


def _batch(rows: Sequence[tuple[int, ...]]) -> Batch:
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for r, row in enumerate(rows):
        ids[r, : len(row)] = torch.tensor(row)
        mask[r, : len(row)] = True
    return Batch(ids, mask)


def _positions(pairs: Sequence[Pair]) -> dict[str, Tensor]:
    """Names that every item has; "end" is the last token of each row unless it is given."""
    names = [n for n in pairs[0].positions if all(n in p.positions for p in pairs)]
    for row, pair in enumerate(pairs):
        for name in names:
            if not 0 <= pair.positions[name] < len(pair.clean):
                raise InputError(
                    f"row {row}: position {name} is {pair.positions[name]}, and the row has {len(pair.clean)} tokens."
                )
    found = {name: torch.tensor([p.positions[name] for p in pairs]) for name in names}
    end = found.pop("end", torch.tensor([len(p.clean) - 1 for p in pairs]))
    return {**found, "end": end}


def _sets(pairs: Sequence[Pair]) -> tuple[Tensor | None, Tensor | None]:
    """candidates [c] and sign [n, c], where items list several right tokens."""
    if not any(p.valid for p in pairs):
        return None, None
    candidates = sorted({i for p in pairs for i in (*p.valid, *p.invalid, p.answer)})
    column = {token: c for c, token in enumerate(candidates)}
    sign = torch.zeros(len(pairs), len(candidates))
    for row, pair in enumerate(pairs):
        sign[row, [column[i] for i in pair.invalid]] = -1
        sign[row, [column[i] for i in (pair.valid or (pair.answer,))]] = 1
    return torch.tensor(candidates), sign
