"""A run: one forward with what was read, what was changed, and the gradients asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.core.table import columns
from cutaway.model.freeze import Frozen
from cutaway.model.hooks import Touch
from cutaway.model.interventions import Intervention
from cutaway.model.reduce import Kept
from cutaway.model.selection import Layout
from cutaway.model.tokens import Batch

if TYPE_CHECKING:
    from cutaway.model.model import Model


@dataclass(frozen=True, eq=False)
class Firing:
    """That an intervention fired at an address: how often, how many entries it set, root mean square of its change.

    `steps`: while generating, the forwards it fired in: 0 the prompt's, k that of the k-th new token.
    """

    intervention: Intervention
    address: str
    times: int
    entries: int
    rms: float
    steps: tuple[int, ...] = (0,)


@dataclass(frozen=True, eq=False, repr=False)
class Fired:
    """The report of a run's interventions. Numbers are fetched from the device when first looked at."""

    interventions: tuple[Intervention, ...]
    touches: tuple[Touch, ...]

    @property
    def rows(self) -> tuple[Firing, ...]:
        found: dict[tuple[int, str], list[Touch]] = {}
        for touch in self.touches:
            found.setdefault((touch.number, touch.address), []).append(touch)
        rows = []
        for number, address in sorted(found, key=lambda key: key[0]):
            group = found[number, address]
            entries = sum(touch.entries for touch in group)
            squares = sum(float(touch.squares) for touch in group)
            rms = (squares / max(entries, 1)) ** 0.5
            steps = tuple(dict.fromkeys(touch.step for touch in group))
            rows.append(Firing(self.interventions[number], address, len(group), entries, rms, steps))
        return tuple(rows)

    def __len__(self) -> int:
        return len({(touch.number, touch.address) for touch in self.touches})

    def table(self, how_often: str, of: Callable[[Firing], str]) -> str:
        """A line an intervention and address; one column, `how_often`, is what `of` says."""
        if not self.touches:
            return "no interventions"
        rows = self.rows
        head = ["intervention", "at", how_often, "entries", "rms change"]
        shown = [
            [str(row.intervention)[:60], row.address, of(row), str(row.entries), f"{row.rms:.4g}"] for row in rows[:40]
        ]
        lines = columns([head, *shown], right=(2, 3, 4), indent="")
        return "\n".join(lines + ([f"… and {len(rows) - 40} more"] if len(rows) > 40 else []))

    def __str__(self) -> str:
        return self.table("times", lambda row: str(row.times))

    __repr__ = __str__


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """What `model.run` gives. `run["resid_post.3"]` is the tensor read there, after any interventions.

    `tokens` [batch, position]; `mask` [batch, position] is False on padding; `logits` [batch, position, vocab], an
    error where not asked for; `grad["resid_post.3"]` is the gradient of `of` there.
    """

    model: Model
    batch: Batch
    interventions: tuple[Intervention, ...]
    frozen: Frozen | None
    fired: Fired
    grad: Reads
    leaves: Reads  # with keep_graph: the tensors at the points in `grad`, to differentiate by
    _logits: Tensor | None
    _read: Kept

    @property
    def tokens(self) -> Tensor:
        return self.batch.ids

    @property
    def mask(self) -> Tensor:
        return self.batch.mask

    @property
    def layout(self) -> Layout:
        return self.batch.layout

    @property
    def logits(self) -> Tensor:
        if self._logits is None:
            raise InputError(
                "this run was made with logits=False (or stop_after=) and stopped early; run again with logits=True."
            )
        return self._logits

    def __getitem__(self, address: Any) -> Tensor:
        names = self.model.addresses(address)
        if len(names) != 1:
            raise InputError(f"{address} stands for {len(names)} points; read them one at a time.")
        if names[0] not in self._read:
            raise InputError(
                f"{names[0]} was not read in this run (read: {', '.join(self._read) or 'nothing'}); "
                f"ask for it with read=[{names[0]!r}]."
            )
        return self._read[names[0]]

    def whole(self, address: Any) -> Tensor:
        """As `run[address]`, which must be all of the point and not what a read kept of it. Raises InputError."""
        x = self[address]
        if set(self.model.addresses(address)) & self._read.reduced:
            raise InputError(f"{address} was reduced as it was read, and all of it is needed here; read it whole.")
        return x

    def __contains__(self, address: Any) -> bool:
        """Whether all that `address` stands for was read; False for a point that the model has not. Raises
        UnknownName for what is no point at all."""
        if address == "logits":
            return self._logits is not None
        if self.model.refuses(address) is not None:
            return False
        return all(name in self._read for name in self.model.addresses(address))

    def addresses(self, pattern: Any) -> tuple[str, ...]:
        """The addresses that `pattern` stands for, all of which were read."""
        names = self.model.addresses(pattern)
        for name in names:
            self[name]
        return names

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(self._read)

    def at(self, address: Any, position: int = -1) -> Tensor:
        """One position of each row: [batch, …]. `address` may be "logits". Positions count a row's own tokens."""
        x = self.logits if address == "logits" else self[address]
        if address != "logits" and self.model.addresses(address)[0] in self._read.reduced:
            raise InputError(f"{address} was reduced as it was read; index what was kept: run[{str(address)!r}].")
        layout = self.layout
        if x.ndim < 3 or (address == "logits" and x.shape[1] != layout.width):
            raise InputError(
                f"{address} is {list(x.shape)} here, with no axis of positions to choose from; take it whole "
                f"({'run.logits' if address == 'logits' else f'run[{str(address)!r}]'})."
            )
        rows = range(len(layout.lengths))
        columns = [layout.column(row, position, str(address)) for row in rows]
        return x[torch.arange(len(columns), device=x.device), torch.tensor(columns, device=x.device)]

    def again(self, read: Sequence[Any] = (), **more: Any) -> Run:
        """The same tokens, interventions and freezing run again with other reads."""
        return self.model.run(self.batch, read, self.interventions, freeze=self.frozen, **more)

    def token_strings(self, row: int = 0) -> list[str]:
        """The tokens of one row, without padding."""
        return self.model.token_strings(self.tokens[row][self.mask[row]])

    def __str__(self) -> str:
        rows, width = self.mask.shape
        lines = [f"run of {self.model.name}: {rows} row{'s' if rows > 1 else ''}, {width} positions"]
        if self._logits is not None and self._logits.ndim == 3 and not self.batch.pixels:
            for row in range(min(rows, 4)):
                lines.append(self._prediction(row))
        if self._read:
            lines += [f"{'read':24} shape"] + [
                f"{name:24} {list(x.shape)}" for name, x in list(self._read.items())[:60]
            ]
            if len(self._read) > 60:
                lines.append(f"… and {len(self._read) - 60} more")
        if self.interventions:
            lines.append(str(self.fired))
        return "\n".join(lines)

    __repr__ = __str__

    def _prediction(self, row: int) -> str:
        probabilities = self.at("logits")[row].float().softmax(-1)
        top = probabilities.topk(min(5, probabilities.shape[-1]))
        named = zip(self.model.token_strings(top.indices), top.values.tolist())
        return f"  row {row} predicts: " + "  ".join(f"{token!r} {p:.3f}" for token, p in named)


class Reads(dict[str, Tensor]):
    """Tensors by address; accepts the same names as the model."""

    def __init__(self, model: Model, values: dict[str, Tensor]) -> None:
        super().__init__(values)
        self._model = model

    def __missing__(self, key: str) -> Tensor:
        names = self._model.addresses(key)
        if len(names) == 1 and dict.__contains__(self, names[0]):
            return dict.__getitem__(self, names[0])
        raise InputError(f"no gradient was asked for at {key}; there are: {', '.join(self) or 'none'}.")


def gradients(
    of: Callable[[Tensor], Tensor], logits: Tensor, leaves: dict[str, Tensor], keep_graph: bool
) -> dict[str, Tensor]:
    """d of(logits) / d leaf for each leaf, zero where nothing depends on it.

    `of` may give one number for each row: rows do not see one another, so the gradient of their sum at a row's entries
    is the gradient of that row's number.
    """
    if not leaves:
        return {}
    value = of(logits)
    if not isinstance(value, Tensor) or (value.numel() != 1 and value.shape != logits.shape[:1]):
        shown = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"of= must turn logits into one number, or one for each row; it gave {shown}.")
    if not logits.requires_grad:  # what is held lets none of the points reach them
        return {address: torch.zeros_like(leaf) for address, leaf in leaves.items()}
    if not value.requires_grad:
        raise InputError("of= gave a number that does not depend on the logits, so there is no gradient.")
    if not torch.isfinite(value).all():
        raise InputError("of= gave NaN or infinity, which has no gradient.")
    found = torch.autograd.grad(
        value.sum(), list(leaves.values()), allow_unused=True, retain_graph=keep_graph, create_graph=keep_graph
    )
    return {
        address: torch.zeros_like(leaf) if gradient is None else gradient
        for (address, leaf), gradient in zip(leaves.items(), found)
    }


def logits_of(output: Any) -> Tensor:
    """The logits in what a module gave. Raises InputError."""
    found = getattr(output, "logits", None)
    if found is None:
        found = output[0] if isinstance(output, (tuple, list)) or hasattr(output, "to_tuple") else output
    if not isinstance(found, Tensor):
        raise InputError(f"the module gave {type(output).__name__}, in which there are no logits.")
    return found
