"""Reference sets for means and resampling: one run, many, or a tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model.content import Content
from cutaway.model.interventions.recorded import Recorded

if TYPE_CHECKING:
    from cutaway.model.run import Run


def mean_of(at: str, over: Any, per_position: bool) -> Content | Recorded:
    """The mean of a reference: over the tokens of all rows, or by position over the rows that reach it.

    A mean of attention patterns is always by position, over prompts of one length.
    """
    if isinstance(over, Tensor):
        return Content(_mean_of_tensor(at, Content.of(over, "over").tensor, per_position))
    totals: dict[str, _Total] = {}
    model = ""
    for run in _each(at, over, "over"):
        recorded = Recorded.of(at, run)
        model, lengths = recorded.model, recorded.lengths or ()
        for address, content in recorded.values:
            x, axes = content.tensor, run.model.site(address).axes
            total = totals.setdefault(address, _Total(address, "query" in axes, per_position, x.dtype))
            total.add(x, lengths if x.ndim == len(axes) else None)
    values = tuple((address, Content(total.mean)) for address, total in totals.items())
    some = next(iter(totals.values()))
    return Recorded(values, (some.length,) if some.by_position else None, model)


class _Total:
    """Sums of a point over rows, and how many tokens are in each."""

    def __init__(self, address: str, pattern: bool, per_position: bool, dtype: torch.dtype) -> None:
        self.address, self.pattern, self.dtype = address, pattern, dtype
        self.by_position = pattern or per_position
        self.sum: Tensor | None = None
        self.count: Tensor | None = None

    @property
    def length(self) -> int:
        assert self.sum is not None
        return int(self.sum.shape[2 if self.pattern else 1])

    @property
    def mean(self) -> Tensor:
        assert self.sum is not None
        assert self.count is not None
        return (self.sum / self.count.clamp(min=1)).to(self.dtype)

    def add(self, x: Tensor, lengths: tuple[int, ...] | None) -> None:
        """x [row, position, …] or, for patterns, [row, head, query, key]; `lengths` None: all of it is meant."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.pattern:
            if any(length != x.shape[2] for length in lengths or ()) or (
                self.sum is not None and self.length != x.shape[2]
            ):
                raise InputError("a mean over attention patterns needs prompts of one length; these are padded.")
            self._add(wide.sum(0, keepdim=True), x.new_full((1,) * x.ndim, x.shape[0], dtype=wide.dtype))
            return
        if x.ndim < 2:
            raise InputError(f"{self.address}: a mean needs a reference [rows, position, …]; given {list(x.shape)}.")
        own = torch.ones(x.shape[:2], device=x.device)
        if lengths is not None:
            own = (torch.arange(x.shape[1]) < torch.tensor(lengths)[:, None]).to(x.device)
        weight = own.to(wide).reshape(*x.shape[:2], *([1] * (x.ndim - 2)))
        over = 0 if self.by_position else (0, 1)
        self._add((wide * weight).sum(over, keepdim=True), weight.sum(over, keepdim=True))

    def _add(self, x: Tensor, count: Tensor) -> None:
        if self.sum is None or self.count is None:
            self.sum, self.count = x, count
            return
        if self.by_position and not self.pattern:
            longest = max(x.shape[1], self.sum.shape[1])
            x, count = _longer(x, longest), _longer(count, longest)
            self.sum, self.count = _longer(self.sum, longest), _longer(self.count, longest)
        self.sum, self.count = self.sum + x, self.count + count


def _longer(x: Tensor, length: int) -> Tensor:
    more = x.new_zeros(x.shape[0], length - x.shape[1], *x.shape[2:])
    return torch.cat([x, more], 1)


def _mean_of_tensor(at: str, x: Tensor, per_position: bool) -> Tensor:
    """[n, position, …] -> [1, position, …] or [1, 1, …]; of patterns [n, head, query, key] -> [1, head, query, key]."""
    if x.ndim < 2:
        raise InputError(f"a mean needs a reference [rows, position, …]; given {list(x.shape)}.")
    pattern = any(name in at for name in ("attn_scores", "attn_probs", "hook_pattern"))
    return x.mean(0 if per_position or pattern else (0, 1), keepdim=True)


def rows_of(at: str, over: Any, name: str) -> Content | Recorded:
    """All rows of a reference, which must be of one length."""
    if isinstance(over, Tensor):
        return Content.of(over, name)
    parts = [Recorded.of(at, run) for run in _each(at, over, name)]
    lengths = {length for part in parts for length in part.lengths or ()}
    if len(lengths) > 1:
        raise InputError(f"resample needs reference prompts of one length; these have {sorted(lengths)[:6]} tokens.")
    if len(parts) == 1:
        return parts[0]
    values = tuple((a, Content(torch.cat([part.at(a) for part in parts]))) for a in parts[0].addresses)
    return replace(parts[0], values=values, lengths=tuple(n for part in parts for n in part.lengths or ()))


def _each(at: str, over: Any, name: str) -> Iterator[Run]:
    if hasattr(over, "addresses"):
        yield over
        return
    if isinstance(over, str) or not isinstance(over, Iterable):
        raise InputError(f"{name}= takes a run or several, or a tensor; run the prompts first: {_hint(at)}.")
    found = False
    for run in over:
        if not hasattr(run, "addresses"):
            raise InputError(
                f"{name}= takes runs, and one of these is {type(run).__name__}; run the prompts first: {_hint(at)}."
            )
        found = True
        yield run
    if not found:
        raise InputError(f"{name}= holds no run; a reference needs at least one prompt.")


def _hint(at: str) -> str:
    return f"model.run(prompts, read=[{at!r}]), or model.stream(prompts, read=[{at!r}]) for many"
