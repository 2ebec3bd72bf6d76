"""Runs one batch of cells: from the first changed block and column on, unembedding only where the metric looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cutaway.model.hooks import Forward, Op
from cutaway.model.sweeps.chunks import Chunk
from cutaway.model.sweeps.lanes import Lanes
from cutaway.model.sweeps.metric import Measure
from cutaway.model.sweeps.replay import Base, Replay, unembedded
from cutaway.model.threads import suited
from cutaway.model.tokens import Batch

if TYPE_CHECKING:
    from cutaway.model.model import Model


class Executor:
    """Turns chunks into values. Without a replay, every batch is a whole forward of its rows."""

    def __init__(self, model: Model, base: Base, replay: Replay | None, end: int) -> None:
        self.model, self.base, self.replay, self.end = model, base, replay, end

    def values(self, chunk: Chunk, measure: Measure) -> list[Tensor]:
        """The metric of each part's rows. Costs the blocks after the chunk's stage, on its columns."""
        found = self.logits(chunk, measure)
        few = measure.few
        if isinstance(found, tuple):  # only the tokens' logits
            assert few is not None
            return [few.of(found[0][part.start : part.stop]).float().cpu() for part in chunk.parts]
        return [measure(found[part.start : part.stop], torch.tensor(part.rows)) for part in chunk.parts]

    def logits(self, chunk: Chunk, measure: Measure | None = None) -> Tensor | tuple[Tensor]:
        """[lane, vocab] at each lane's column; or ([lane, k],) of the metric's tokens where it needs no others."""
        lanes = Lanes(self.model, list(chunk.parts), self.base.read, self.base.layout)
        rows = torch.tensor([row for part in chunk.parts for row in part.rows])
        columns = self.base.width if chunk.stage < 0 else self.end + 1 - chunk.start
        one_thread = suited(self.model.facts.d_model, chunk.lanes * columns, self.model.device)
        with one_thread, torch.no_grad(), self.model.kernels.during(chunk.lanes * columns):
            if self.replay is None or chunk.stage < 0:
                whole: Tensor = lanes.run(lambda: self._whole(lanes, rows))
                return whole
            last = lanes.run(lambda: self._blocks(lanes, chunk, rows))
            heads = any(op.site.name in _HEAD for part in chunk.parts for op in part.cell.ops)
            if measure is not None and measure.few is not None and not heads:
                tokens = measure.few.tokens[rows].to(last.device)
                if (few := self.replay.logits_of(last[:, 0], tokens)) is not None:
                    return (few,)
            lanes.columns = self.base.columns[rows][:, None].to(last.device)
            replay = self.replay
            logits: Tensor = lanes.run(lambda: replay.logits(last)) if heads else replay.logits(last)
            return logits[:, 0]

    def _whole(self, lanes: Lanes, rows: Tensor) -> Tensor:
        lanes.columns = torch.arange(self.base.width, device=self.model.device)
        lanes.keys = self.base.width
        return unembedded(self.model, rows_of(self.base.batch, rows), self.base.columns[rows])

    def _blocks(self, lanes: Lanes, chunk: Chunk, rows: Tensor) -> Tensor:
        """[lane, 1, d_model] leaving the last block at each lane's column."""
        replay, base = self.replay, self.base
        assert replay is not None
        assert base.output is not None
        device = base.output.device
        at, wanted = rows.to(device), base.columns[rows].to(device)
        layers = len(replay.blocks)
        end, start = int(wanted.max()), chunk.start
        x: Tensor | None = None  # [lane, column from `start`, d_model] entering the block

        def block(layer: int, x: Tensor, first: int, **more: object) -> Tensor:
            lanes.columns = torch.arange(first, first + x.shape[1], device=device)
            lanes.keys = first + x.shape[1]
            return replay.block(layer, x, at, first, **more)  # type: ignore[arg-type]

        for layer in range(chunk.stage, layers):
            clean = base.inputs[layer]
            first_local = x is None and chunk.local
            if x is None:
                stop = min(chunk.last, end) if first_local else end
                x = clean[:, start : stop + 1][at]
            elif x.shape[1] < end + 1 - start:  # after a block where only some columns changed
                x = torch.cat([x, clean[:, start + x.shape[1] : end + 1][at]], 1)
            from_ = int(wanted.min())
            if layer == layers - 1 and not first_local and from_ > start:
                # Of the earlier columns, the last block owes only keys and values.
                lanes.columns = torch.arange(start, from_, device=device)
                lanes.keys = from_
                prefix = replay.keep(layer, x[:, : from_ - start], at, start)
                return self._at(block(layer, x[:, from_ - start :], from_, prefix=prefix), from_, at, wanted)
            x = block(layer, x, start)
        if x is None:  # the first change is after the blocks
            return base.output[at, wanted][:, None]
        return self._at(x, start, at, wanted)

    def _at(self, x: Tensor, first: int, rows: Tensor, wanted: Tensor) -> Tensor:
        """x [lane, column from `first`, d_model] at each lane's column; unchanged where x does not hold it."""
        assert self.base.output is not None
        clean = self.base.output[rows, wanted]
        offset = wanted - first
        inside = (offset >= 0) & (offset < x.shape[1])
        lane = torch.arange(len(rows), device=x.device)
        mine = x[lane, offset.clamp(0, x.shape[1] - 1)]
        return torch.where(inside[:, None], mine, clean)[:, None]


def rows_of(batch: Batch, rows: Tensor) -> Batch:
    """Some rows of a batch, with repeats."""
    at = rows.to(batch.ids.device)
    source = None if batch.source is None else rows_of(batch.source, rows)
    return Batch(batch.ids[at], batch.mask[at], source)


_HEAD = ("final_norm_scale", "final_normalized", "final_norm", "lm_head")


def one_at_a_time(model: Model, base: Base, ops: list[Op]) -> Tensor:
    """The logits [row, vocab] of one plain forward with one cell's interventions."""
    forward = Forward(
        base.layout, reads=[], ops=ops, leaves=[], norms=model.norms, frozen=None, configs=model.contract.configs,
        keep_graph=False, stop=None,
    )  # fmt: skip
    with suited(model.facts.d_model, base.rows * base.width, model.device), torch.no_grad():
        logits: Tensor = forward.run(lambda: unembedded(model, base.batch, base.columns))
    return logits
