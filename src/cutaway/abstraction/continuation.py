"""A network gone on with from a change: what comes before the first changed place is computed once and kept.

Where the family's blocks can be called alone (see `cutaway.model.sweeps.replay`), only the blocks after the place and
the positions from it on are run; in an `nn.Sequential`, only the modules after it; elsewhere the whole forward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cutaway.core import InputError
from cutaway.model.hooks import Forward, Op
from cutaway.model.interventions import Intervention
from cutaway.model.sweeps.execute import rows_of
from cutaway.model.sweeps.replay import Base, CannotRestart, Replay, unembedded
from cutaway.model.threads import suited

if TYPE_CHECKING:
    from cutaway.model import Model
    from cutaway.model.sites import Site
    from cutaway.model.tokens import Batch

Heads = tuple[int, ...] | None


@dataclass(frozen=True, eq=False)
class Edit:
    """At a point, in each lane, the vectors at `columns` [lane, P] become change(vectors [lane, P, width])."""

    address: str
    columns: Tensor
    change: Callable[[Tensor], Tensor]
    head: Heads = None


@dataclass(frozen=True, eq=False)
class _EditOp(Op):
    edit: Edit


class _Changed(Forward):
    """A forward of lanes that makes edits; it holds columns from `start` on."""

    def __init__(self, model: Model, edits: Sequence[tuple[Site, Edit]], layout: Any, lanes: int, start: int) -> None:
        ops: list[Op] = [_EditOp(i, Intervention(site.address), site, e) for i, (site, e) in enumerate(edits)]
        super().__init__(
            layout, reads=[], ops=ops, leaves=[], norms=model.norms, frozen=None, configs=model.contract.configs,
            keep_graph=True, stop=None,
        )  # fmt: skip
        self.batch, self.start = lanes, start

    def _apply(self, x: Tensor, ops: list[Op]) -> Tensor:
        for op in ops:
            assert isinstance(op, _EditOp)
            x = changed(x, op.edit, self.start)
        return x


class Continuation:
    """The base rows of one job. `read[address]` is each point wanted, `logits` [row, vocab] at `answers` [row].

    Costs two forwards of the rows (one with every block called alone, which is checked against the other); holds a
    residual stream, keys and values of each layer. `reason` says why a model is run whole, or "".
    """

    def __init__(self, model: Model, batch: Batch, answers: Tensor, addresses: Sequence[str]) -> None:
        self.model, self.batch, self.answers = model, batch, answers
        self.sites = {address: model.site(address) for address in addresses}
        for site in self.sites.values():
            _refuse(site)
        self.base = Base(model, batch, answers, list(self.sites.values()))
        if missing := [a for a in self.sites if a not in self.base.read]:
            raise InputError(f"never reached in a forward of these inputs: {', '.join(missing)}.")
        self.read = self.base.read
        self.logits = self.base.logits
        for address, x in self.read.items():
            if x.shape[0] != len(answers) or (x.ndim not in (2, 3, 4)):
                raise InputError(f"{address} is {list(x.shape)}: variables are looked for in [row, (position,) width].")
        self.children = _children(model)
        self.replay: Replay | None = None
        self.reason = ""
        if self.children is None:
            try:
                self.replay = Replay(self.base)
            except CannotRestart as error:
                self.reason = str(error)

    @property
    def vocab(self) -> int:
        return int(self.logits.shape[-1])

    @property
    def lane(self) -> int:
        """Numbers in the largest tensor of one lane's forward."""
        facts = self.model.facts
        wide = max(
            [facts.d_model, facts.d_mlp, *(x[0, 0].numel() if x.ndim > 2 else x.shape[-1] for x in self.read.values())]
        )
        return max(1, self.vocab, self.base.width * wide)

    @property
    def lane_kept(self) -> int:
        """About how many numbers a lane's forward keeps for its backward: some dozens of a stream's in each block."""
        facts = self.model.facts
        each = 20 * facts.d_model + 4 * max(facts.d_mlp, facts.d_model)
        return max(1, 3 * self.vocab + self.base.width * each * max(1, facts.n_layers))

    def vectors(self, address: str, columns: Tensor, head: Heads = None) -> Tensor:
        """[row, P, width] of the base run."""
        return vectors(self.read[address], columns, head, address)

    def run(self, rows: Tensor, edits: Sequence[Edit]) -> Tensor:
        """Logits [lane, vocab] where the answer is read, lane i being base row rows[i] with its edits made.

        Differentiable by what the edits hold. Edits at one point are made in order.
        """
        lanes = len(rows)
        placed = [(self.sites[e.address], e) for e in edits]
        with suited(self.model.facts.d_model, lanes * self.base.width, self.model.device):
            if self.children is not None and all(self._child(site) is not None for site, _ in placed):
                return self._through_children(rows, placed)
            if self.replay is not None and all(_stage(site) is not None for site, _ in placed):
                return self._restarted(rows, placed)
            return self._whole(rows, placed)

    # ---- three ways

    def _whole(self, rows: Tensor, edits: list[tuple[Site, Edit]]) -> Tensor:
        forward = _Changed(self.model, edits, self.base.layout, len(rows), 0)
        batch = rows_of(self.batch, rows)
        found: Tensor = forward.run(lambda: unembedded(self.model, batch, self.answers[rows]))
        return found

    def _child(self, site: Site) -> int | None:
        assert self.children is not None
        known = [i for i, child in enumerate(self.children) if child is site.module]
        return known[0] if site.free and site.via == "output" and len(known) == 1 else None

    def _through_children(self, rows: Tensor, edits: list[tuple[Site, Edit]]) -> Tensor:
        assert self.children is not None
        at = [(self._child(site), site, edit) for site, edit in edits]
        first = min(number for number, _, _ in at if number is not None)
        address = next(site.address for number, site, _ in at if number == first)
        x = self.read[address].index_select(0, rows.to(self.model.device))
        for number in range(first, len(self.children)):
            if number > first:
                x = self.children[number](x)
            for mine, _, edit in at:
                if mine == number:
                    x = changed(x, edit, 0)
        if x.ndim == 3:
            x = x[torch.arange(len(rows), device=x.device), self.answers[rows].to(x.device)]
        return x

    def _restarted(self, rows: Tensor, edits: list[tuple[Site, Edit]]) -> Tensor:
        replay, base = self.replay, self.base
        assert replay is not None
        assert base.output is not None
        layers, device = len(replay.blocks), base.output.device
        at, wanted = rows.to(device), self.answers[rows].to(device)
        end, low = int(wanted.max()), int(wanted.min())
        start = min(end, *(int(edit.columns.min()) for _, edit in edits))
        stages = [_stage(site) for site, _ in edits]
        first = min(stage for stage, _ in stages)  # type: ignore[misc]
        stream = {k: [e for s, (_, e) in zip(stages, edits) if s == (k, True)] for k in range(first, layers + 1)}
        inner = {k: [one for s, one in zip(stages, edits) if s == (k, False)] for k in range(first, layers)}
        x = (base.inputs[first] if first < layers else base.output)[:, start : end + 1][at]
        for layer in range(first, layers):
            for edit in stream[layer]:
                x = changed(x, edit, start)
            prefix = None
            if layer == layers - 1 and low > start and not inner[layer]:
                # Of the earlier columns the last block owes only keys and values.
                prefix = replay.keep(layer, x[:, : low - start], at, start)
                x, start = x[:, low - start :], low
            if inner[layer]:
                forward = _Changed(self.model, inner[layer], base.layout, len(rows), start)
                entering = x
                x = forward.run(lambda: replay.block(layer, entering, at, start))  # noqa: B023
            else:
                x = replay.block(layer, x, at, start, prefix)
        for edit in stream[layers]:
            x = changed(x, edit, start)
        last = x[torch.arange(len(rows), device=device), wanted - start]
        return replay.logits(last[:, None])[:, 0]


def _children(model: Model) -> list[nn.Module] | None:
    return list(model.hf.children()) if type(model.hf) is nn.Sequential else None


def _stage(site: Site) -> tuple[int, bool] | None:
    """(block, whether the stream that enters it is what is changed), or None for what lies in no block."""
    if site.layer is None or site.free:
        return None
    if site.name == "resid_pre":
        return site.layer, True
    if site.name == "resid_post":
        return site.layer + 1, True
    return site.layer, False


def _refuse(site: Site) -> None:
    """Raise for a point at which there is no vector a position."""
    if not site.free and (len(site.axes) < 2 or site.axes[1] != "position" or site.axes[-1] == "one"):
        raise InputError(
            f"{site.address} has axes {', '.join(site.axes)}: a variable is looked for at points with a vector for "
            "each position, as resid_post.2, mlp_act.1 or z.0."
        )


# ---- vectors of a point


def vectors(x: Tensor, columns: Tensor, head: Heads, what: str) -> Tensor:
    """x [lane, position, (head,) width] at columns [lane, P] -> [lane, P, width], the heads chosen side by side."""
    if x.ndim == 2:  # a bare module's [row, width]
        return x[:, None]
    lane = torch.arange(len(x), device=x.device)[:, None]
    found = x[lane, columns.to(x.device)]
    return found if found.ndim == 3 else _of_heads(found, head, what).flatten(2)


def _of_heads(x: Tensor, head: Heads, what: str) -> Tensor:
    if head is None:
        return x
    if bad := [h for h in head if not 0 <= h < x.shape[2]]:
        raise InputError(f"{what}: no head {bad[0]}; there are {x.shape[2]} (0 … {x.shape[2] - 1}).")
    return x[:, :, list(head)]


def changed(x: Tensor, edit: Edit, start: int) -> Tensor:
    """x, whose columns are `start` …, with the edit made; columns that x does not hold are left out."""
    if x.ndim == 2:
        return edit.change(x[:, None])[:, 0].to(x.dtype)
    at = edit.columns.to(x.device) - start
    inside = (at >= 0) & (at < x.shape[1])
    every = bool(inside.all())
    at = at if every else at.clamp(0, x.shape[1] - 1)
    old = vectors(x, at, edit.head, edit.address)
    new = edit.change(old).to(x.dtype)
    if x.ndim == 3 and x.shape[1] == 1 and at.shape[1] == 1 and every:
        return new
    new = new if every else torch.where(inside[..., None], new, old)
    lane = torch.arange(len(x), device=x.device)[:, None]
    if x.ndim == 3:
        return x.index_put((lane, at), new)
    if edit.head is None:
        return x.index_put((lane, at), new.reshape(*new.shape[:2], *x.shape[2:]))
    heads = torch.tensor(edit.head, device=x.device)
    shaped = new.reshape(*new.shape[:2], len(edit.head), x.shape[-1])
    return x.index_put((lane[..., None], at[..., None], heads), shaped)
