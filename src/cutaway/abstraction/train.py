"""Training featurizers on counterfactuals, and measuring them: many cells (places, seeds, controls) in one forward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.abstraction.continuation import Edit
from cutaway.abstraction.data import Data, Spot
from cutaway.abstraction.featurizers import (
    Coordinates,
    DictionaryFeatures,
    Featurizer,
    Subspace,
    Whole,
    principal,
)
from cutaway.abstraction.learners import Boundless, Fixed, Learner, Mask, Rotation
from cutaway.abstraction.nonlinear import NonlinearLearner
from cutaway.abstraction.places import Place
from cutaway.abstraction.written import loss, right
from cutaway.core import CutawayError, InputError
from cutaway.model.progress import Progress

LANES = 1 << 25  # numbers of one batch of logits when measuring: 128 MiB


@dataclass(frozen=True)
class Training:
    """Steps of Adam on batches of items; the rate falls to zero in a line over the last half.

    rate: for rotations; masks take ten times it, boundaries ten times it.
    """

    steps: int = 300
    batch: int = 64
    rate: float = 1e-2
    sparsity: float = 1e-3  # of masks

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or not self.rate > 0:
            raise InputError(f"training needs steps, batch and rate above zero; given {self}.")


@dataclass(frozen=True, eq=False)
class Cell:
    """One featurizer a variable to be trained or measured by itself. `wanted` [n, s] are its labels."""

    spots: tuple[Spot, ...]
    wanted: Tensor
    seed: int = 0


def train(
    data: Data, places: Sequence[Place], cells: Sequence[Cell], rows: Tensor, training: Training,
    progress: bool | None = None,
) -> list[list[Featurizer]]:  # fmt: skip
    """Each cell's featurizers, one a variable. All cells are at the same points, and of the same sizes. Places of which
    nothing is learned are exchanged beside the others; where nothing is learned at all, nothing is run.

    The network is frozen; the loss is the cross-entropy of the labels. Costs `steps` forwards and backwards of
    `batch` x cells lanes, from the first changed block and position on. Raises CutawayError where the loss is NaN.
    """
    groups = _groups(places, cells)
    learners = [_learner(data, places, group, cells, rows, training) for group in groups]
    if not any(learner.parameters() for learner in learners):
        return _collected(groups, learners, len(cells), len(places))
    parameters = [
        {"params": [p], "lr": training.rate * factor} for learner in learners for p, factor in learner.parameters()
    ]
    optimiser = torch.optim.Adam(parameters, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, 2 * (1 - step / training.steps)) if training.steps > 1 else 1.0
    )
    wanted = torch.stack(same_width([cell.wanted for cell in cells]))  # [cell, n, s]
    count = min(training.batch, len(rows))
    drawn = batches(rows, data.continuation.answers[rows], count, 7 + min(cell.seed for cell in cells))
    with torch.enable_grad(), Progress(training.steps, "alignment", "steps", progress) as shown:
        for step, items in zip(range(training.steps), drawn):
            for learner in learners:
                learner.cool(step / max(1, training.steps - 1))
            edits = [_edit(data, group, cells, items, learner) for group, learner in zip(groups, learners)]
            logits = data.continuation.run(items.repeat(len(cells)), edits)
            labels = wanted[:, items].flatten(0, 1).to(logits.device)
            each = loss(logits, labels).reshape(len(cells), count).mean(1)
            for learner in learners:
                if (penalty := learner.penalty()) is not None:
                    each = each + penalty
            total = each.sum()
            if not bool(torch.isfinite(total)):
                raise CutawayError(
                    f"the loss is {float(total)} at step {step}; try a smaller rate than {training.rate}."
                )
            optimiser.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            shown.step(1)
    return _collected(groups, learners, len(cells), len(places))


def batches(rows: Tensor, ends: Tensor, count: int, seed: int) -> Iterator[Tensor]:
    """Batches of `count` of `rows`, without end, every row once an epoch; those of a batch have the same one of `ends`
    (the column of the answer) where there are enough of them, so that no row waits for a longer one: what comes after
    the answer is never run, and of the last block only the answer's column is. Ends with fewer rows than a batch go
    with their neighbours."""
    kinds: list[list[int]] = []  # ends that share batches, all of which have enough rows but perhaps the last
    sizes = dict(sorted(Counter(ends.tolist()).items()))
    for end in sizes:
        if kinds and sum(sizes[e] for e in kinds[-1]) < count:
            kinds[-1].append(end)
        else:
            kinds.append([end])
    if len(kinds) > 1 and sum(sizes[e] for e in kinds[-1]) < count:
        kinds[-2] += kinds.pop()
    kind = {end: number for number, group in enumerate(kinds) for end in group}
    waiting: list[list[int]] = [[] for _ in kinds]
    generator = torch.Generator().manual_seed(seed)
    while True:
        for i in torch.randperm(len(rows), generator=generator).tolist():
            queue = waiting[kind[int(ends[i])]]
            queue.append(i)
            if len(queue) == count:
                yield rows[queue]
                queue.clear()


def _collected(
    groups: Sequence[list[int]], learners: Sequence[Learner], cells: int, variables: int
) -> list[list[Featurizer]]:
    found: list[list[Featurizer | None]] = [[None] * variables for _ in range(cells)]
    for group, learner in zip(groups, learners):
        for cell, featurizers in zip(found, learner.frozen()):
            for variable, featurizer in zip(group, featurizers):
                cell[variable] = featurizer
    return [[f for f in cell if f is not None] for cell in found]


def _groups(places: Sequence[Place], cells: Sequence[Cell]) -> list[list[int]]:
    """Variables whose rotations share a vector are learned together, so that their subspaces are orthogonal."""
    groups: list[list[int]] = []
    for v, place in enumerate(places):
        for group in groups:
            first = places[group[0]]
            spots = [(cell.spots[group[0]], cell.spots[v]) for cell in cells]
            if place.how == first.how == "rotation" and all(
                a.address == b.address and a.head == b.head and torch.equal(a.columns, b.columns) for a, b in spots
            ):
                group.append(v)
                break
        else:
            groups.append([v])
    return groups


def _learner(
    data: Data, places: Sequence[Place], group: list[int], cells: Sequence[Cell], rows: Tensor, training: Training
) -> Learner:
    place, seeds = places[group[0]], [cell.seed for cell in cells]
    width = cells[0].spots[group[0]].width
    if place.how == "rotation":
        sizes = [int(places[v].dims or 1) for v in group]
        if sum(sizes) > width:
            raise InputError(f"{place.where} is {width} wide, and {sum(sizes)} dimensions are asked for.")
        return Rotation(width, sizes, seeds)
    if place.how == "boundless":
        return Boundless(width, min(place.dims or width, width), seeds)
    if place.how == "nonlinear":
        if int(place.dims or 1) > width:
            raise InputError(f"{place.where} is {width} wide, and {place.dims} features are asked for.")
        return NonlinearLearner(width, int(place.dims or 1), seeds)
    if place.how == "neurons" and place.learned:
        return Mask(width, len(cells), None, training.sparsity)
    if place.how == "dictionary" and place.learned:
        with torch.no_grad():
            features = place.dictionary.encode(cells[0].spots[group[0]].source[:1])
        return Mask(int(features.shape[-1]), len(cells), place.dictionary, training.sparsity)
    return Fixed([_fixed(data, place, cell.spots[group[0]], rows) for cell in cells])


def _fixed(data: Data, place: Place, spot: Spot, rows: Tensor) -> Featurizer:
    """The featurizer of a place of which nothing is learned. Raises InputError where it does not fit the point."""
    if place.how == "whole":
        return Whole(spot.width)
    if place.how == "pca":
        natural = torch.cat([data.base(spot)[rows], spot.source[rows]]).flatten(0, 1)
        return Subspace(principal(natural, int(place.dims or 1)), "pca")
    if place.how == "given":
        assert place.basis is not None
        if place.basis.shape[1] != spot.width:
            raise InputError(f"{place.where} is {spot.width} wide, the basis given {place.basis.shape[1]}.")
        return Subspace.spanning(place.basis)
    assert place.which is not None
    size = spot.width if place.how == "neurons" else int(place.dictionary.encode(spot.source[:1].float()).shape[-1])
    if bad := [i for i in place.which if not 0 <= i < size]:
        raise InputError(f"{place.where}: no coordinate {bad[0]}; there are {size} (0 … {size - 1}).")
    if place.how == "neurons":
        return Coordinates(place.which, spot.width)
    return DictionaryFeatures(place.which, place.dictionary)


def _edit(data: Data, group: list[int], cells: Sequence[Cell], items: Tensor, learner: Learner) -> Edit:
    first = cells[0].spots[group[0]]
    columns = torch.cat([cell.spots[group[0]].columns[items] for cell in cells])
    source = torch.stack(
        [torch.stack([cell.spots[v].source[items] for cell in cells]).flatten(1, 2) for v in group]
    ).float()  # [variable, cell, vector, width]
    positions = columns.shape[1]
    weight = _weights(data, group, len(cells), items, positions, source)
    if len(group) == 1:
        source, weight = source[0], None if weight is None else weight[0]

    def change(x: Tensor) -> Tensor:
        lanes, places, width = x.shape
        base = x.reshape(len(cells), -1, width)
        return learner.change(base, source, weight).reshape(lanes, places, width)

    return Edit(first.address, columns, change, first.head)


def _weights(data: Data, group: list[int], cells: int, items: Tensor, positions: int, like: Tensor) -> Tensor | None:
    """[variable, cell, vector, 1]: 1 where an item exchanges the variable; None where all do."""
    which = data.pairs.which[items][:, group]  # [m, variable]
    if bool(which.all()):
        return None
    each = which.T[:, None, :, None].expand(-1, cells, -1, positions)
    return each.reshape(len(group), cells, -1, 1).to(like)


def same_width(labels: Sequence[Tensor]) -> list[Tensor]:
    """Labels [n, s] padded to the widest."""
    most = max(x.shape[1] for x in labels)
    return [torch.nn.functional.pad(x, (0, most - x.shape[1]), value=-1) for x in labels]


# ---- measuring


@dataclass(frozen=True, eq=False)
class Measured:
    """Of each cell and row: whether the largest logit is right, the token that it is, -log P(right)."""

    hits: Tensor
    said: Tensor
    loss: Tensor


def measure(data: Data, cells: Sequence[Cell], featurizers: Sequence[Sequence[Featurizer]], rows: Tensor) -> Measured:
    """Every cell with its featurizers (one a variable) on the items `rows`. Costs a forward of cells x rows lanes, from
    the first changed place on. Cells may be at different points: those at the same ones share forwards."""
    hits = torch.zeros(len(cells), len(rows), dtype=torch.bool)
    said = torch.zeros(len(cells), len(rows), dtype=torch.long)
    losses = torch.zeros(len(cells), len(rows))
    together: dict[tuple[str, ...], list[int]] = {}
    for number, cell in enumerate(cells):
        together.setdefault(tuple(spot.address for spot in cell.spots), []).append(number)
    room = max(1, LANES // max(1, data.continuation.vocab))
    with torch.no_grad():
        for numbers in together.values():
            for lanes in torch.cartesian_prod(torch.tensor(numbers), torch.arange(len(rows))).split(room):  # type: ignore[no-untyped-call]
                which, at = lanes[:, 0], lanes[:, 1]
                logits = data.continuation.run(rows[at], _edits(data, cells, featurizers, which, rows[at]))
                labels = torch.nn.utils.rnn.pad_sequence(
                    [cells[c].wanted[r] for c, r in zip(which.tolist(), rows[at].tolist())],
                    batch_first=True, padding_value=-1,
                ).to(logits.device)  # fmt: skip
                hits[which, at] = right(logits, labels).cpu()
                said[which, at] = logits.argmax(-1).cpu()
                losses[which, at] = loss(logits, labels).float().cpu()
    return Measured(hits, said, losses)


def _edits(
    data: Data, cells: Sequence[Cell], featurizers: Sequence[Sequence[Featurizer]], which: Tensor, items: Tensor
) -> list[Edit]:
    """The edits of lanes, lane i being cell which[i] on item items[i]; variables in order."""
    spans = [(c, (which == c).nonzero()[:, 0]) for c in sorted(set(which.tolist()))]
    edits = []
    for v in range(len(cells[0].spots)):
        first = cells[int(which[0])].spots[v]
        columns = torch.zeros(len(which), first.columns.shape[1], dtype=torch.long)
        if len({cells[c].spots[v].columns.shape[1] for c, _ in spans}) > 1:
            raise InputError("cells that are measured together have as many positions each.")
        for c, lanes in spans:
            columns[lanes] = cells[c].spots[v].columns[items[lanes]]

        def change(x: Tensor, v: int = v) -> Tensor:
            new = x.clone()
            for c, lanes in spans:
                source = cells[c].spots[v].source[items[lanes]]
                swapped = featurizers[c][v].swap(x[lanes].float(), source.float()).to(x.dtype)
                used = data.pairs.which[items[lanes], v].to(x.device)
                new[lanes] = torch.where(used[:, None, None], swapped, x[lanes])
            return new

        edits.append(Edit(first.address, columns, change, first.head))
    return edits
