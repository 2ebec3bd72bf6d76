"""Clean and counterfactual prompts with their answers: the least that a sweep needs of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model.sweeps.metric import LogitDifference
from cutaway.model.tokens import Batch, Prompt

if TYPE_CHECKING:
    from cutaway.model.model import Model


@dataclass(frozen=True, eq=False)
class Pairs:
    """n pairs of prompts, aligned position by position. Made by `pairs`; any task does as well.

    clean, counterfactual: batches [n, position]; answers [n], wrong [n] or None: token ids read at "end".
    """

    name: str
    clean: Batch
    counterfactual: Batch | None
    answers: Tensor
    wrong: Tensor | None
    positions: Mapping[str, Tensor]

    @cached_property
    def metric(self) -> Callable[..., Tensor]:
        return LogitDifference(self.answers, self.wrong)

    def __len__(self) -> int:
        return len(self.answers)


def pairs(
    model: Model,
    clean: Prompt | Batch,
    counterfactual: Prompt | Batch | None = None,
    answers: Any = None,
    wrong: Any = None,
    name: str = "your prompts",
) -> Pairs:
    """Pairs from prompts and answers (texts of one token, or ids; one, or one a prompt). For an encoder-decoder the
    prompts are batches with what its encoder reads: model.batch(tokens, source=…).

    Raises InputError: pairs of different lengths, an answer of several tokens.
    """
    first = model.batch([clean] if isinstance(clean, str) else clean)
    other = None
    if counterfactual is not None:
        other = model.batch([counterfactual] if isinstance(counterfactual, str) else counterfactual)
        _aligned(model, first, other)
    n = len(first.ids)
    if answers is None:
        raise InputError("a sweep measures an answer: give answers= (one token, or one a prompt).")
    lengths = first.mask.sum(-1)
    return Pairs(
        name,
        first,
        other,
        _ids(model, answers, n, "answer"),
        None if wrong is None else _ids(model, wrong, n, "wrong"),
        {"end": lengths - 1},
    )


def _aligned(model: Model, clean: Batch, other: Batch) -> None:
    if len(clean.ids) != len(other.ids):
        raise InputError(f"{len(clean.ids)} clean prompts and {len(other.ids)} counterfactual ones: give as many.")
    for row, (a, b) in enumerate(zip(clean.mask.sum(-1).tolist(), other.mask.sum(-1).tolist())):
        if a != b:
            texts = [" ".join(model.token_strings(x.ids[row][x.mask[row]])) for x in (clean, other)]
            raise InputError(
                f"pair {row} does not align: the clean prompt has {a} tokens, the counterfactual {b} "
                f"({texts[0]!r} and {texts[1]!r}). Use prompts of equal length."
            )
    if clean.source is not None and other.source is not None:  # what an encoder reads is patched position by position
        _aligned(model, clean.source, other.source)


def _ids(model: Model, given: Any, n: int, what: str) -> Tensor:
    """[n] token ids from ids, or from texts of one token each (with or without the space before them)."""
    if isinstance(given, Tensor):
        items: list[Any] = given.reshape(-1).tolist()
    else:
        items = [given] if isinstance(given, (str, int)) else list(given)
    if len(items) == 1:
        items = items * n
    if len(items) != n:
        raise InputError(f"{len(items)} {what}s for {n} prompts; give one, or one a prompt.")
    return torch.tensor([item if isinstance(item, int) else _one_token(model, item, what) for item in items])


def _one_token(model: Model, text: str, what: str) -> int:
    if model.tokenizer is None:
        raise InputError(f"the model has no tokenizer: give the {what} as a token id.")
    tried = []
    for candidate in dict.fromkeys((text, " " + text.strip(), text.strip())):
        ids = model.tokenizer(candidate, add_special_tokens=False)["input_ids"]
        if len(ids) == 1:
            return int(ids[0])
        tried.append(f"{candidate!r} is {len(ids)} tokens")
    raise InputError(f"the {what} {text!r} is not one token ({'; '.join(tried)}); choose another word.")
