"""A plan: many independent sets of interventions ("cells") on the same prompts, measured by one number a row.

Cells share forwards. Each is gone on with from the first block and column that it changes, with the rest taken from the
base run; rows that a cell does not change are not run; the last block and the unembedding are computed only where the
metric looks. All of it is exact, and one cell in each plan is compared with a plain run before the others are made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.core.numbers import whole
from cutaway.model.content import Content
from cutaway.model.inputs import refuse_seen_padding
from cutaway.model.interventions import Intervention
from cutaway.model.progress import Progress
from cutaway.model.sweeps import memory as measured
from cutaway.model.sweeps.cells import Cell, resolve
from cutaway.model.sweeps.chunks import Chunk, chunks
from cutaway.model.sweeps.execute import Executor, one_at_a_time
from cutaway.model.sweeps.metric import Measure
from cutaway.model.sweeps.replay import TOLERANCE, Base, CannotRestart, Replay
from cutaway.model.sweeps.store import Store

if TYPE_CHECKING:
    from cutaway.model.model import Model
    from cutaway.model.tokens import Batch, Prompt

How = Literal["restart", "whole", "one"]
COMPARED = 8  # kinds of points at most, in the comparison with plain runs
# Tokens in one batch at d_model 768: at most (so that on a CPU its neurons stay in the cache), and as many as make
# it worth computing some columns for nothing. Of narrow models a batch takes more.
TOKENS = {"cpu": (512, 64), "cuda": (65_536, 4096)}


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """Made by `plan`. Prints what it will do; `run` does it."""

    model: Model
    base: Base
    measure: Measure
    cells: tuple[Cell, ...]
    how: How
    reason: str  # why not "restart", or ""
    error: float  # of the compared cells, over the largest logit
    memory: int  # bytes that a batch may take
    bytes_per_token: float  # measured; NaN where nothing is to be run
    most: int  # tokens in a batch
    least: int
    end: int
    _executor: Executor

    @property
    def unchanged(self) -> Tensor:
        """[row] the metric of the base prompts."""
        return self.measure.base

    @property
    def chunks(self) -> list[Chunk]:
        """The batches that it takes, in order."""
        live = [cell for cell in self.cells if cell.rows]
        if self.how == "one":
            return []
        whole = [cell for cell in live if self.how == "whole" or cell.stage < 0]
        rest = [cell for cell in live if not (self.how == "whole" or cell.stage < 0)]
        whole = [_from_the_start(cell) for cell in whole]
        return chunks(whole, self.base.width - 1, self.most, self.least) + chunks(rest, self.end, self.most, self.least)

    @property
    def work(self) -> float:
        """Share of the blocks' work of one whole forward a cell that is to be done."""
        layers, full = self.model.facts.n_layers, self.base.rows * self.base.width * self.model.facts.n_layers
        if self.how == "one":
            return 1.0
        done = sum(_cost(chunk, layers, self.end, self.base.width) for chunk in self.chunks)
        return done / max(1, full * len(self.cells))

    def run(self, out: str | Path | None = None, progress: bool | None = None) -> Tensor:
        """The metric of every cell and row, [cell, row].

        `out`: a folder for finished batches, from which a run that was killed goes on to the same bytes (not used where
        cells are run one at a time). Progress goes to stderr after a few seconds. Raises InputError for a folder that
        holds another plan's work.
        """
        values = self.unchanged[None].repeat(len(self.cells), 1)
        layers = self.model.facts.n_layers
        if self.how == "one":
            return self._one_by_one(values, progress)
        todo = self.chunks
        store = None if out is None else Store(Path(out), self.fingerprint(), [_extent(chunk) for chunk in todo])
        costs = [_cost(chunk, layers, self.end, self.base.width) for chunk in todo]
        with Progress(sum(costs), "sweep", "blocks x tokens", progress) as shown:
            for number, (chunk, cost) in enumerate(zip(todo, costs)):
                found = store.read(number) if store is not None else None
                if found is None:
                    found = torch.cat(self._chunk(chunk))
                    if store is not None:
                        store.write(number, found)
                for part in chunk.parts:
                    values[part.cell.number, list(part.rows)] = found[part.start : part.stop].to(values)
                shown.step(cost)
        return values

    def _chunk(self, chunk: Chunk) -> list[Tensor]:
        """A chunk's values, by parts; in halves where the device has no room for it."""
        try:
            return self._executor.values(chunk, self.measure)
        except torch.OutOfMemoryError:
            if chunk.lanes < 2:
                raise
        torch.cuda.empty_cache()
        first, second = chunk.halves()
        return [torch.cat([*self._chunk(first), *self._chunk(second)])]

    def _one_by_one(self, values: Tensor, progress: bool | None) -> Tensor:
        every = torch.arange(len(self.unchanged))
        with Progress(len(self.cells), "sweep", "cells", progress) as shown:
            for cell in self.cells:
                if cell.rows:
                    values[cell.number] = self.measure(one_at_a_time(self.model, self.base, list(cell.ops)), every).to(
                        values
                    )
                shown.step(1)
        return values

    def fingerprint(self) -> str:
        """Of all that the values depend on but the metric's code: model, tokens, interventions, the metric's name."""
        digest = hashlib.sha256(f"{self.model.fingerprint} {self.measure.name} {self.how}".encode())
        few = self.measure.few
        tensors = [self.base.batch.ids, self.base.batch.mask, self.base.columns]
        for x in tensors if few is None else [*tensors, few.tokens]:
            digest.update(Content(x).digest.encode())
        for cell in self.cells:
            for op in cell.ops:
                digest.update(f"{cell.number} {op.site.address} {_words(op.intervention)}".encode())
        return digest.hexdigest()

    def __str__(self) -> str:
        live = sum(bool(cell.rows) for cell in self.cells)
        batches = len(self.chunks) if self.how != "one" else live
        how = {
            "restart": "each from the first block and column that it changes",
            "whole": "as whole forwards, many cells in one",
            "one": "as whole forwards, one cell at a time",
        }[self.how]
        lines = [
            f"{len(self.cells)} cells on {self.base.rows} rows of {self.base.width} tokens, measured by "
            f"{self.measure.name}"
        ]
        if not live:
            return lines[0] + "\n  none changes anything where the metric looks: nothing is to be run"
        lines += [
            f"  {live} change something; run {how}",
            f"  {batches} batches of at most {self.most:,} tokens "
            f"({self.bytes_per_token / 1024:.0f} KiB each, measured; {self.memory >> 20:,} MiB allowed)",
            f"  {self.work:.1%} of the blocks' work of one whole forward a cell",
            f"  compared with a plain run: {self.error:.1e} of the largest logit apart",
        ]
        if self.how == "one":
            lines = lines[:-3]
        if self.reason:
            lines.append(f"  not restarted: {self.reason}")
        return "\n".join(lines)

    __repr__ = __str__


def plan(
    model: Model,
    batch: Prompt | Batch,
    cells: Sequence[Sequence[Intervention]],
    metric: Callable[..., Tensor],
    *,
    at: int | Tensor | Sequence[int] = -1,
    memory: int | str | None = None,
    tokens: int | None = None,
    how: How | None = None,
) -> Plan:
    """Plan independent cells, each a list of interventions made together on `batch`, all measured by `metric`.

    `metric`: logits [row, vocab] at the position `at` of each row (one number, or one a row; counted in its own tokens)
    -> [row]. A `LogitDifference` is unembedded at its tokens alone. A metric with a parameter `rows` is asked for some
    rows only: metric(logits [m, vocab], rows [m]).
    `memory`: bytes that one batch may take, or text as "2GB"; by default a quarter of what is free (three quarters on
    CUDA). `tokens`: at most so many in a batch. `how`: "restart", "whole" or "one", in place of the best that works.

    Equal to one run a cell to 1e-5 of the logits' scale (in float32). Costs about four forwards of the base prompts
    (the base run, the same by blocks, and the comparison), two more for each other kind of point. Holds for each row
    the residual stream, keys and values of all layers, and the points that cells touch.
    Raises InputError as a run with the interventions would.
    """
    given = model.batch(batch)
    refuse_seen_padding(model, given)
    tokens = None if tokens is None else whole(tokens, "tokens=", 1)
    ops = [model._ops(cell, given) for cell in cells]
    columns = _columns(at, given)
    every = (site for its_ops in ops for op in its_ops for site in (op.site, op.source) if site is not None)
    sites = {site.address: site for site in every}
    base = Base(model, given, columns, list(sites.values()))
    if missing := [address for address in sites if address not in base.read]:
        raise InputError(f"never reached in a forward of these prompts: {', '.join(missing)}.")
    measure = Measure(metric, base.rows, base.logits)
    found = resolve(model, cells, ops, base.read, base.layout, given.mask.cpu())
    end = int(columns.max())
    replay, reason = None, ""
    if how in (None, "restart"):
        try:
            replay = Replay(base)
        except CannotRestart as error:
            reason = str(error)
            if how == "restart":
                raise InputError(f"{model.name} cannot be restarted: {reason}.") from None
    else:
        reason = f"how={how!r} was asked for"
    return _checked(model, base, measure, found, replay, reason, end, memory, tokens, how)


def _checked(
    model: Model, base: Base, measure: Measure, cells: list[Cell], replay: Replay | None, reason: str, end: int,
    memory: int | str | None, tokens: int | None, how: How | None,
) -> Plan:  # fmt: skip
    """The plan, after a comparison of some cells with plain runs; the next simpler way where they differ."""
    kind = "cuda" if model.device.type == "cuda" else "cpu"
    most, least = _tokens(kind, model.facts.d_model)
    share = 0.75 if kind == "cuda" else 0.25
    allowed = int(share * measured.free(model.device)) if memory is None else measured.in_bytes(memory)
    tolerance = TOLERANCE.get(base.logits.dtype, 3e-2)
    ways: list[How] = ["restart"] if replay is not None else []
    ways += ["whole", "one"] if how is None else []
    if how in ("whole", "one"):
        ways = [how]
    if any(op.site.free for cell in cells for op in cell.ops) and how is None:
        ways, reason = ["one"], "a module path is changed, whose axes are not known"
    for way in ways:
        executor = Executor(model, base, replay if way == "restart" else None, end)
        if way == "one":
            break
        # A block that could be restarted has shown that it does not look ahead.
        mine = [_until(cell, base.columns, model.facts.n_layers) for cell in cells] if way == "restart" else cells
        error, size = _compare(executor, measure, mine, way, end)
        if error <= tolerance:
            limit = max(1, int(allowed / size)) if size > 0 else most
            chosen = min(tokens or most, limit)
            return Plan(
                model, base, measure, tuple(mine), way, reason if way != "restart" else "", error, allowed, size,
                chosen, min(least, chosen), end, executor,
            )  # fmt: skip
        apart = f"a cell run that way differs from a plain run by {error:.1e} of the largest logit"
        reason = f"{reason}; {apart}" if reason else apart
        if how is not None:
            raise InputError(f"how={how!r} does not hold for {model.name}: {apart}.")
    return Plan(
        model, base, measure, tuple(cells), "one", reason, 0.0, allowed, float("nan"), most, least, end, executor
    )


def _tokens(kind: str, width: int) -> tuple[int, int]:
    """(at most, worth filling) tokens of a batch: what a batch holds grows with the width, its work with the square."""
    most, least = TOKENS[kind]
    narrow = max(1.0, 768 / width) if width else 1.0
    most = min(65_536, int(most * narrow))
    return most, min(most, int(least * narrow**2))


def _compare(executor: Executor, measure: Measure, cells: list[Cell], way: How, end: int) -> tuple[float, float]:
    """(the largest error over the largest logit, bytes a token) of a cell of each kind beside plain runs of them."""
    base = executor.base
    kinds: dict[tuple[str, ...], list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.stage, cell.first, -len(cell.rows), cell.number)):
        if cell.rows:
            kinds.setdefault(tuple(sorted({op.site.name for op in cell.ops})), []).append(cell)
    worst, size = 0.0, 0.0
    for group in list(kinds.values())[:COMPARED]:
        cell = group[len(group) // 3]
        some = Cell(cell.number, cell.ops, cell.stage, cell.rows[:8], cell.first, cell.last, cell.local)
        if way == "whole" or cell.stage < 0:
            some = _from_the_start(some)
        (chunk,) = chunks([some], end, 1 << 60, 1)
        found: list[Any] = []
        width = (base.width if some.stage < 0 else end + 1 - some.first) * len(some.rows)
        held = measured.peak(lambda: found.append(executor.logits(chunk, measure)), executor.model.device)  # noqa: B023
        size = max(size, held / width)
        mine = found[0]
        plain = one_at_a_time(executor.model, base, list(cell.ops))[list(some.rows)]
        if isinstance(mine, tuple):
            assert measure.few is not None
            plain, mine = plain.gather(1, measure.few.tokens[list(some.rows)].to(plain.device)), mine[0]
        scale = base.logits.abs().max().clamp(min=1e-12)
        worst = max(worst, float((mine - plain).abs().max() / scale))
    return worst, size


def _columns(at: int | Tensor | Sequence[int], batch: Batch) -> Tensor:
    """[row] the column of the padded batch at which each row's logits are read."""
    layout = batch.layout
    n = len(layout.lengths)
    wanted = [
        whole(i, "at=")
        for i in (at.tolist() if isinstance(at, Tensor) else at if isinstance(at, Sequence) else [at] * n)
    ]
    if len(wanted) != n:
        raise InputError(f"at= is one position, or one for each of {n} rows; given {len(wanted)}.")
    return torch.tensor([layout.column(row, position, "at=") for row, position in enumerate(wanted)])


def _until(cell: Cell, columns: Tensor, n_layers: int) -> Cell:
    """The cell without the rows that cannot matter: changed only after the column where their logits are read, or in
    the last block at other columns alone."""
    if cell.stage < 0:
        return cell
    # In the last block a local change shows only at its own columns, unless something after the blocks is changed too.
    at_own = cell.stage == n_layers - 1 and cell.local and not any(op.site.layer is None for op in cell.ops)
    wanted = columns[list(cell.rows)].tolist()
    rows = tuple(
        row for row, column in zip(cell.rows, wanted) if cell.first <= column and not (at_own and cell.last < column)
    )
    return Cell(cell.number, cell.ops, cell.stage, rows, cell.first, cell.last, cell.local)


def _from_the_start(cell: Cell) -> Cell:
    return Cell(cell.number, cell.ops, -1, cell.rows, 0, 0, False)


def _cost(chunk: Chunk, layers: int, end: int, width: int) -> float:
    """Tokens times blocks."""
    if chunk.stage < 0:
        return float(chunk.lanes * width * layers)
    if chunk.stage >= layers:
        return float(chunk.lanes)
    columns = end + 1 - chunk.start
    first = min(chunk.last, end) + 1 - chunk.start if chunk.local else columns
    # The last block owes keys and values of all, about a quarter of it, and one column in full.
    rest = max(0, layers - chunk.stage - 2) * columns + (columns / 4 + 1 if chunk.stage < layers - 1 else 0)
    return chunk.lanes * (first + rest)


def _extent(chunk: Chunk) -> list[list[int]]:
    """[cell, first row, rows] of each part: what a stored batch holds."""
    return [[part.cell.number, part.rows[0], len(part.rows)] for part in chunk.parts]


def _words(value: Any) -> str:
    """An intervention's content as text. Raises InputError for one that holds a dictionary or a function."""
    if isinstance(value, Content):
        return value.digest
    if isinstance(value, (tuple, list)):
        return "(" + ",".join(_words(v) for v in value) + ")"
    if value is None or isinstance(value, (str, int, float, bool)):
        return repr(value)
    if is_dataclass(value) and not isinstance(value, type):
        inner = ",".join(f"{f.name}={_words(getattr(value, f.name))}" for f in fields(value))
        return f"{type(value).__name__}({inner})"
    raise InputError(
        f"a sweep that holds a {type(value).__name__} cannot be resumed from a folder; run it without out=."
    )


__all__ = ["How", "Plan", "plan"]
