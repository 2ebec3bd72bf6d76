"""Inputs and outputs of a causal model as a network has them: prompts, positions, answer tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.abstraction.causal_model import CausalModel, Values
from cutaway.core import InputError, UnknownName
from cutaway.core.answers import one_token
from cutaway.model.positions import look_up, positions_of

if TYPE_CHECKING:
    from cutaway.model import Model
    from cutaway.model.tokens import Batch


@dataclass(frozen=True, eq=False)
class Written:
    """Rows of a network: a batch, the inputs that each row stands for, and what each prompt was."""

    batch: Batch
    inputs: tuple[Values, ...]
    prompts: tuple[Any, ...]


def answers(model: Model, causal: CausalModel, rows: Written) -> Tensor:
    """[row] the column where the answer is read: the causal model's position "answer", or the last token."""
    return columns(model, causal, rows, "answer", "where the answer is read")[:, 0]


def written(model: Model, causal: CausalModel, inputs: Sequence[Values]) -> Written:
    """Each input as the network is given it. Raises InputError: no prompt=, one that fails, unequal shapes."""
    if causal.prompt is None:
        raise InputError(
            f"{causal.name} does not say how its inputs are put to a network: give it prompt=, a function of them."
        )
    prompts = []
    for values in inputs:
        try:
            prompts.append(causal.prompt(values))
        except Exception as error:
            raise InputError(f"{causal.name}: prompt= fails on {values}: {type(error).__name__}: {error}") from error
    if odd := [p for p in prompts if not isinstance(p, (str, list, tuple, Tensor))]:
        raise InputError(
            f"{causal.name}: prompt= gives text, a list of token ids, or a tensor; given {odd[0]!r} for {inputs[0]}."
        )
    return Written(model.batch(_stacked(prompts)), tuple(inputs), tuple(prompts))


def _stacked(prompts: list[Any]) -> Any:
    """Tensors of one shape as one tensor; texts and lists of ids as they are."""
    if not isinstance(prompts[0], Tensor):
        return prompts
    shapes = {tuple(p.shape) for p in prompts}
    if len(shapes) == 1:
        return torch.stack(prompts)
    if prompts[0].is_floating_point():
        raise InputError(f"prompt= gives tensors of different shapes: {sorted(shapes)[:4]}.")
    return [p.tolist() for p in prompts]


def columns(model: Model, causal: CausalModel, rows: Written, positions: Any, what: str) -> Tensor:
    """[row, P] columns of the positions of a place. Raises InputError: no such position in a row, rows that have
    different numbers of them; UnknownName."""
    layout = rows.batch.layout
    if positions is None:
        if len(set(layout.lengths)) > 1:
            raise InputError(f"{what}: all positions of rows of different lengths do not line up; name positions.")
        own = [list(range(n)) for n in layout.lengths]
    else:
        several = isinstance(positions, (list, tuple))
        each = [_own(model, causal, rows, one, what) for one in (positions if several else [positions])]
        own = [[column for part in each for column in part[row]] for row in range(len(rows.inputs))]
    if len({len(row) for row in own}) > 1:
        raise InputError(f"{what}: the rows have different numbers of these positions; name one, or as many in each.")
    if any(len(set(row)) < len(row) for row in own):
        raise InputError(f"{what}: a position is named twice in some row.")
    return torch.tensor([[start + p for p in row] for start, row in zip(layout.starts, own)])


def _own(model: Model, causal: CausalModel, rows: Written, position: Any, what: str) -> list[list[int]]:
    """Of each row its own positions, counted from its first token."""
    layout, n = rows.batch.layout, len(rows.inputs)
    given: list[Any]
    if isinstance(position, str) and position in causal.positions:
        said = causal.positions[position]
        try:
            given = [said(values) for values in rows.inputs] if callable(said) else [said] * n
        except Exception as error:
            raise InputError(
                f"{causal.name}: the position {position} fails: {type(error).__name__}: {error}"
            ) from error
        if odd := [p for p in given if isinstance(p, bool) or not isinstance(p, (int, str))]:
            raise InputError(
                f"{causal.name}: the position {position} is a number or the text of a token; given {odd[0]!r}."
            )
    elif position == "answer":
        given = [-1] * n
    elif isinstance(position, str):
        raise UnknownName(f"position ({what})", position, [*causal.positions, "answer"])
    elif isinstance(position, int) and not isinstance(position, bool):
        given = [position] * n
    else:
        raise InputError(f"{what}: a position is a name or a number; given {position!r}.")
    if any(isinstance(p, str) for p in given):
        ids, mask = rows.batch.ids, rows.batch.mask
        found = []
        for row, text in enumerate(given):
            if not isinstance(text, str):
                found.append([layout.own(row, int(text), what)])
                continue
            strings = [model.token_strings(ids[row][mask[row]])]
            token = positions_of(text, what)
            places = look_up(token, strings, f"{what}, row {row}").rows[0]  # type: ignore[arg-type]
            found.append([places[-1]])
        return found
    return [[layout.own(row, int(p), what)] for row, p in enumerate(given)]


def tokens(model: Model, causal: CausalModel, outputs: Sequence[Any]) -> Tensor:
    """[n, s] the ids that are right for each output, padded with -1. Raises InputError."""
    known: dict[Any, list[int]] = {}
    rows = []
    for value in outputs:
        try:
            found = known.get(value)
        except TypeError:
            found = None
        if found is None:
            found = _ids(model, causal, value)
            known[value] = found
        rows.append(found)
    most = max(map(len, rows))
    return torch.tensor([row + [-1] * (most - len(row)) for row in rows])


def _ids(model: Model, causal: CausalModel, value: Any) -> list[int]:
    try:
        said = value if causal.answer is None else causal.answer(value)
    except Exception as error:
        raise InputError(
            f"{causal.name}: answer= fails on {causal.out} = {value!r}: {type(error).__name__}: {error}"
        ) from error
    several = list(said) if isinstance(said, (list, tuple, set, frozenset, range)) else [said]
    if not several:
        raise InputError(f"{causal.name}: answer= names no token for {causal.out} = {value!r}.")
    found = []
    for one in several:
        if isinstance(one, bool) and model.tokenizer is None:
            one = int(one)
        if not isinstance(one, (str, int)) or isinstance(one, bool):
            raise InputError(
                f"{causal.name}: answer= turns a value of {causal.out} into the text of a token or its id; for "
                f"{value!r} it gave {one!r}."
            )
        bare = model.architecture is None and isinstance(one, int)
        found.append(int(one) if bare else one_token(model, one))
    return list(dict.fromkeys(found))


def right(logits: Tensor, wanted: Tensor) -> Tensor:
    """[n] whether the largest logit [n, vocab] is one of the ids wanted [n, s] (-1: none)."""
    return (logits.argmax(-1)[:, None] == wanted.to(logits.device)).any(-1)


def loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """[n] -log of the probability of the ids wanted [n, s]: cross-entropy where one is right."""
    there = wanted >= 0
    logits = logits.float()
    chosen = logits.gather(-1, wanted.clamp(min=0))
    if wanted.shape[1] == 1:
        return logits.logsumexp(-1) - chosen[:, 0]
    return logits.logsumexp(-1) - chosen.masked_fill(~there, -torch.inf).logsumexp(-1)


def same_width(labels: Sequence[Tensor]) -> list[Tensor]:
    """Labels [n, s] padded to the widest."""
    most = max(x.shape[1] for x in labels)
    return [torch.nn.functional.pad(x, (0, most - x.shape[1]), value=-1) for x in labels]
