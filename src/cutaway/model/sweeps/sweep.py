"""`sweep`: every part of a point changed by itself, and what that does to a task's metric."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName, refuse_name
from cutaway.core.numbers import seeded
from cutaway.model.model import Model
from cutaway.model.sweeps.execute import rows_of
from cutaway.model.sweeps.grid import KINDS, Axes, Kind, axes_of, changer, counted
from cutaway.model.sweeps.pairs import Pairs, pairs
from cutaway.model.sweeps.plan import How, plan
from cutaway.model.sweeps.replay import Base
from cutaway.model.sweeps.result import Sweep
from cutaway.model.tokens import Batch, Prompt

if TYPE_CHECKING:
    from cutaway.core.protocols import Task

Null = Literal["other prompt", "auto"] | Model | None
GROUP = 64  # items planned together: their values, keys and residual streams are held


def sweep(
    model: Model,
    task: Task | Pairs | None = None,
    at: str = "resid_post.*",
    each: Sequence[str] | str = ("position",),
    how: Kind = "denoise",
    metric: str | Callable[..., Tensor] | None = None,
    *,
    clean: Prompt | Batch | None = None,
    counterfactual: Prompt | Batch | None = None,
    answers: Any = None,
    wrong: Any = None,
    positions: Sequence[str | int] | None = None,
    null: Null = "auto",
    memory: int | str | None = None,
    tokens: int | None = None,
    plan_how: How | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Sweep:
    """Change each part of a point by itself, on every item of a task, and measure what that does.

    `at`: an address ("z.*" for every layer). `each`: what is told apart within a layer: "head", "position", "neuron",
    any that the point has; () changes a whole layer at once. `positions`: only these, by number or by the task's names;
    by default all, and where the prompts differ in length the named ones.
    `how`:
      denoise   the counterfactual's run with a part set to what it was in the clean run (which parts suffice)
      noise     the clean run with a part set to what it was in the counterfactual's (which parts are needed)
      zero      the clean run with a part set to zero
      mean      … to its mean over the counterfactual prompts (the clean ones where there are none), at each position
                and within a template
      resample  … to what it was in the counterfactual of another item, drawn by `seed`
    `metric`: logits at "end" [n, vocab] -> [n], in place of the task's.
    In place of a task: `clean`, `counterfactual`, `answers`, `wrong` (see `pairs`).
    `null`: the same sweep with each item's values taken from another item's prompt ("other prompt", for denoise and
    noise), or on another model (such as `cutaway.evidence.rerandomise(model)`), or None.
    `out`: a folder in which finished batches are kept, and the sweep is written when done; killed, it goes on.
    `memory`, `tokens`, `plan_how`: see `plan`.

    Exact: each value is that of a run with the one intervention (1e-5 of the logits' scale). Costs for each cell and
    item the blocks after the first changed one, at the positions after it; with a null by prompts twice that.
    Raises InputError, UnknownName.
    """
    refuse_name("sweep", model=model, task=task)
    seed = seeded(seed)
    if how not in KINDS:
        raise UnknownName("way to change a part", str(how), KINDS)
    if task is None:
        if clean is None:
            raise InputError("sweep takes a task, or clean= with answers= (and counterfactual= for denoise and noise).")
        task = pairs(model, clean, counterfactual, answers, wrong)
    work = _Work(model, task, at, each, how, metric, positions, memory, tokens, plan_how, seed, progress)
    null = ("other prompt" if how in ("denoise", "noise") else None) if null == "auto" else null
    folder = None if out is None else Path(out)
    values = work.values(None if folder is None else folder / "batches")
    beside, label = None, ""
    if null == "other prompt":
        if how not in ("denoise", "noise"):
            raise InputError(
                f"{how} takes nothing from the item's own prompts; give null= a model that learned nothing."
            )
        label = "values from another prompt"
        if not bool(work._lacking().all()):
            beside = work.values(None if folder is None else folder / "null-batches", shuffled=True)
    elif isinstance(null, Model):
        label = null.name
        other = _Work(null, task, at, each, how, metric, positions, memory, tokens, plan_how, seed, progress)
        beside = other.values(None if folder is None else folder / "null-batches")
        beside = beside - other.base + work.base  # its change, from where this model starts
    elif null is not None:
        raise InputError(f"null= is 'other prompt', a model or None; given {null!r}.")
    result = work.result(values, beside, label)
    if folder is not None:
        result.save(folder)
    return result


class _Work:
    """One sweep of one model over a task, in groups of items."""

    def __init__(
        self, model: Model, task: Any, at: str, each: Sequence[str] | str, how: Kind, metric: Any,
        positions: Sequence[str | int] | None, memory: int | str | None, tokens: int | None, plan_how: How | None,
        seed: int, progress: bool | None,
    ) -> None:  # fmt: skip
        self.model, self.task, self.at, self.how, self.seed, self.progress = model, task, at, how, seed, progress
        self.limits: dict[str, Any] = {"memory": memory, "tokens": tokens, "how": plan_how}
        self.n = len(task)
        if self.n == 0:
            raise InputError(f"{task.name} has no items.")
        if how in ("denoise", "noise", "resample") and task.counterfactual is None:
            raise InputError(f"{how} takes values from counterfactual prompts, and {task.name} has none.")
        self.metric = _metric(task, metric)
        self.lengths = task.clean.mask.sum(-1).tolist()
        named = {name: [int(p) for p in where] for name, where in task.positions.items()}
        self.end = torch.tensor(named.get("end", [length - 1 for length in self.lengths]))
        self.note = ""
        if positions is None and "position" in each and len(set(self.lengths)) > 1 and len(named) > 1:
            positions = list(named)
            self.note = "positions by the task's names, as the prompts differ in length"
        self.axes: Axes = axes_of(model, at, each, positions, self.lengths, named)
        self.groups = [list(range(start, min(start + GROUP, self.n))) for start in range(0, self.n, GROUP)]
        self.base = torch.zeros(self.n)
        self.source: Tensor | None = None if task.counterfactual is None else torch.zeros(self.n)
        self.notes: list[str] = []
        self._means: dict[str, Tensor] | None = None

    def values(self, folder: Path | None, shuffled: bool = False) -> Tensor:
        """The metric of every cell and item, [*axes, item]; NaN where an item has no such position.

        `shuffled`: each item's values come from another item.
        """
        found = []
        for number, items in enumerate(self.groups):
            where = None if folder is None else folder / f"{number:04}"
            found.append(self._group(items, where, shuffled))
        values = torch.cat(found, -1)
        absent = ~self.axes.present(self.n)
        if shuffled or self.how == "resample":
            absent |= self._lacking()
        return values.masked_fill(absent, float("nan"))

    def _group(self, items: list[int], folder: Path | None, shuffled: bool) -> Tensor:
        task, model = self.task, self.model
        base_batch = task.counterfactual if self.how == "denoise" else task.clean
        from_batch = task.clean if self.how == "denoise" else task.counterfactual
        base_batch = rows_of(base_batch, torch.tensor(items))
        values, source = self._source(from_batch, items, shuffled)
        self.axes = self._count(base_batch) if self.axes.parts == 0 else self.axes
        cells = self.axes.cells(changer(self.how, values), items)
        live = [cell for cell in cells if cell]  # those that some item of the group has
        metric = _Part(self.metric, items, self.n)
        made = plan(model, base_batch, live, metric, at=self.end[items], **self.limits)
        if not shuffled:
            self.base[items] = made.unchanged.float()
            if source is not None and self.source is not None:
                self.source[items] = metric(source).detach().float().cpu()
            if not self.notes:
                self.notes = str(made).splitlines()
        out = torch.full((len(cells), len(items)), float("nan"))
        out[[i for i, cell in enumerate(cells) if cell]] = made.run(folder, self.progress).float()
        return out.reshape(*self.axes.shape, len(items))

    def _columns(self, batch: Batch, items: list[int]) -> Tensor:
        starts = torch.tensor(batch.layout.starts)
        return starts + self.end[items]

    def _count(self, batch: Batch) -> Axes:
        """The axes with their number of heads or neurons."""
        site = self.model.site(self.axes.addresses[0])
        first = rows_of(batch, torch.tensor([0]))
        run = self.model.run(first, read=[site.address], logits=False)
        return counted(self.axes, tuple(run[site.address].shape), site)

    def _source(self, batch: Batch | None, items: list[int], shuffled: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """(what cells are set to at each address [item, position, …], the logits at the end of the other prompts)."""
        if batch is None:
            return self._mean_values(items) if self.how == "mean" else {}, None
        some = rows_of(batch, torch.tensor(items))
        sites = [self.model.site(address) for address in self.axes.addresses]
        reads = [] if self.how in ("zero", "mean") else sites
        seen = Base(self.model, some, self._columns(some, items), reads)
        if self.how == "zero":
            return {}, seen.logits
        if self.how == "mean":
            return self._mean_values(items), seen.logits
        values = seen.read
        if shuffled or self.how == "resample":
            order, starts = self._others(items), some.layout.starts
            values = {address: self._moved(x, items, order, starts) for address, x in values.items()}
        return values, seen.logits

    def _others(self, items: list[int]) -> list[int]:
        """For each item of a group the row of another, drawn by the seed; its own where there is none.

        Positions told apart are matched by what they are called, so any item serves; else one of the same length.
        """
        generator = torch.Generator().manual_seed(self.seed)
        kinds: dict[int, list[int]] = {}
        for row, item in enumerate(items):
            kinds.setdefault(0 if self._by_position else self.lengths[item], []).append(row)
        order = list(range(len(items)))
        for rows in kinds.values():
            shuffled = [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]
            for a, b in zip(shuffled, [*shuffled[1:], shuffled[0]]):  # a cycle: nobody keeps its own
                order[a] = b
        return order

    @property
    def _by_position(self) -> bool:
        site = self.model.site(self.axes.addresses[0])
        return bool(self.axes.positions) and site.axes[1] == "position"

    def _moved(self, x: Tensor, items: list[int], order: list[int], starts: Sequence[int]) -> Tensor:
        """x [row, column, …] with each row's values from row order[row], at the positions that are called the same."""
        if not self._by_position:
            return x[order]
        moved = x.clone()
        for _, at in self.axes.positions:
            for row, other in enumerate(order):
                here, there = at[items[row]], at[items[other]]
                if here is not None and there is not None:
                    moved[row, starts[row] + here] = x[other, starts[other] + there]
        return moved

    def _lacking(self) -> Tensor:
        """Truth values [*axes, item]: no other item has a value for this cell of this item."""
        lacking = torch.zeros(*self.axes.shape, self.n, dtype=torch.bool)
        for items in self.groups:
            for row, other in enumerate(self._others(items)):
                if other == row:
                    lacking[..., items[row]] = True
                elif self._by_position:
                    axis = self.axes.names.index("position")
                    for number, (_, at) in enumerate(self.axes.positions):
                        if at[items[other]] is None:
                            lacking.movedim(axis, 0)[number, ..., items[row]] = True
        return lacking

    def _mean_values(self, items: list[int]) -> dict[str, Tensor]:
        """Means over all items of one template and length, at each position: [item, position, …]."""
        template = getattr(self.task, "template", None)
        kinds = [(self.lengths[i], 0 if template is None else int(template[i])) for i in range(self.n)]
        if self._means is None:
            self._means = self._sum(kinds)
        which = list(dict.fromkeys(kinds))
        return {address: x[[which.index(kinds[i]) for i in items]] for address, x in self._means.items()}

    def _sum(self, kinds: list[tuple[int, int]]) -> dict[str, Tensor]:
        batch = self.task.clean if self.task.counterfactual is None else self.task.counterfactual
        which = list(dict.fromkeys(kinds))
        counts = torch.tensor([kinds.count(kind) for kind in which], dtype=torch.float32)
        sums: dict[str, Tensor] = {}
        for items in self.groups:
            run = self.model.run(rows_of(batch, torch.tensor(items)), read=list(self.axes.addresses), logits=False)
            to = torch.tensor([which.index(kinds[i]) for i in items], device=run.tokens.device)
            for address in self.axes.addresses:
                x = run[address]
                held = sums.setdefault(address, x.new_zeros(len(which), *x.shape[1:]))
                held.index_add_(0, to.to(x.device), x)
        return {address: x / counts.to(x).reshape(-1, *([1] * (x.ndim - 1))) for address, x in sums.items()}

    def result(self, values: Tensor, null: Tensor | None, null_name: str) -> Sweep:
        task = self.task
        clean, other = (self.source, self.base) if self.how == "denoise" else (self.base, self.source)
        assert clean is not None
        return Sweep(
            model=self.model.name,
            task=task.name,
            at=self.at,
            how=self.how,
            axes=self.axes,
            labels=self._labels(),
            tokens=self._tokens(),
            values=values,
            clean=clean,
            counterfactual=other,
            null=null,
            null_name=null_name,
            metric=_name(self.metric),
            unit=str(getattr(self.metric, "unit", "logits" if _name(self.metric).startswith("logit") else "")),
            plan="\n".join(self.notes),
            seed=self.seed,
            note=self.note,
        )

    def _labels(self) -> tuple[tuple[str, ...], ...]:
        layers = tuple(address.partition(".")[2] or address for address in self.axes.addresses)
        parts = tuple(str(i) for i in range(self.axes.parts))
        places = tuple(label for label, _ in self.axes.positions)
        return (layers, *({"position": places}.get(name, parts) for name in self.axes.each))

    def _tokens(self) -> tuple[str, ...]:
        """What stands at each position swept over: the token that all clean prompts have there, or the first prompt's
        in ‹ › where they differ."""
        clean: Batch = self.task.clean
        starts = clean.layout.starts
        shown = []
        for _, at in self.axes.positions:
            ids = [int(clean.ids[i, starts[i] + p]) for i, p in enumerate(at) if p is not None]
            text = self.model.token_strings(ids[:1])[0]
            shown.append(text if len(set(ids)) == 1 else f"‹{text.strip() or text}›")
        return tuple(shown)


@dataclass(frozen=True, eq=False)
class _Part:
    """A metric of all items, asked for those of one group."""

    metric: Callable[..., Tensor]
    items: list[int]
    n: int

    @property
    def name(self) -> str:
        return _name(self.metric)

    @property
    def target(self) -> Any:
        """The answers of the group's items, where the metric says what they are."""
        target = getattr(self.metric, "target", self.metric)
        answers, wrong = getattr(target, "answers", None), getattr(target, "wrong", None)
        if answers is None or wrong is None:
            return None
        return _Target(answers[self.items], wrong[self.items])

    def __call__(self, logits: Tensor, rows: Tensor | None = None) -> Tensor:
        at = torch.tensor(self.items)
        at = at if rows is None else at[rows.cpu()]
        if _by_rows(self.metric):
            return self.metric(logits, at)
        # It takes the logits of all items at once: those not asked for are left out of what it gives.
        whole = logits.new_zeros(self.n, logits.shape[-1])
        whole[at.to(whole.device)] = logits
        return self.metric(whole)[at]


@dataclass(frozen=True, eq=False)
class _Target:
    answers: Tensor
    wrong: Tensor


def _by_rows(metric: Callable[..., Tensor]) -> bool:
    try:
        return "rows" in inspect.signature(metric).parameters
    except (TypeError, ValueError):
        return False


def _metric(task: Any, metric: str | Callable[..., Tensor] | None) -> Callable[..., Tensor]:
    if metric is None:
        found: Callable[..., Tensor] = task.metric
        return found
    bind = getattr(task, "with_metric", None)
    if bind is not None:
        bound: Callable[..., Tensor] = bind(metric).metric
        return bound
    if isinstance(metric, str):
        raise InputError(f"{task.name} has no metric by name; give metric= a function of logits [n, vocab].")
    return metric


def _name(metric: Any) -> str:
    return str(getattr(metric, "name", None) or getattr(metric, "__name__", type(metric).__name__))
