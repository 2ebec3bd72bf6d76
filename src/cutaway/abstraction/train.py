"""Training featurizers on counterfactuals: many cells (places, seeds, controls) in the same forwards."""

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
from cutaway.abstraction.measure import Cell
from cutaway.abstraction.nonlinear import NonlinearLearner
from cutaway.abstraction.places import Place
from cutaway.abstraction.written import loss, same_width
from cutaway.core import CutawayError, InputError
from cutaway.model.progress import Progress

KEPT = 1 << 29  # numbers that one batch of lanes may keep for its backward: 2 GiB; more cells take turns
SEED = 7  # of the order of the items, the same for every cell


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


def train(
    data: Data, places: Sequence[Place], cells: Sequence[Cell], rows: Tensor, training: Training,
    progress: bool | None = None, what: str = "alignment",
) -> list[list[Featurizer]]:  # fmt: skip
    """Each cell's featurizers, one a variable. All cells are at the same points, and of the same sizes. Places of which
    nothing is learned are exchanged beside the others; where nothing is learned at all, nothing is run.

    The network is frozen; the loss is the cross-entropy of the labels. Costs `steps` forwards and backwards of
    `batch` x cells lanes, from the first changed block and position on (cells that do not fit together in 2 GiB take
    turns). Raises CutawayError where the loss is NaN.
    """
    most = max(1, KEPT // (data.continuation.lane_kept * min(training.batch, len(rows))))
    if len(cells) > most:  # each cell ends as it does alone
        parts = [
            train(data, places, cells[i : i + most], rows, training, progress, what) for i in range(0, len(cells), most)
        ]
        return [featurizers for part in parts for featurizers in part]
    groups = _groups(places, cells)
    learners = [_learner(data, places, group, cells, rows, training) for group in groups]
    if not any(learner.parameters() for learner in learners):
        return _collected(groups, learners, len(cells), len(places))
    learned = [pair for learner in learners for pair in learner.parameters()]
    parameters = [parameter for parameter, _ in learned]
    optimiser = torch.optim.Adam([{"params": [p], "lr": training.rate} for p in parameters], fused=True)
    wanted = torch.stack(same_width([cell.wanted for cell in cells]))  # [cell, n, s]
    count = min(training.batch, len(rows))
    drawn = batches(rows, data.continuation.answers[rows], count, SEED)
    with torch.enable_grad(), Progress(training.steps, what, "steps", progress) as shown:
        for step, items in zip(range(training.steps), drawn):
            for learner in learners:
                learner.cool(step / max(1, training.steps - 1))
            edits = [_edit(data, group, cells, items, learner) for group, learner in zip(groups, learners)]
            logits = data.continuation.run(items.repeat(len(cells)), edits)
            labels = wanted.index_select(1, items).flatten(0, 1).to(logits.device)
            each = loss(logits, labels).reshape(len(cells), count).mean(1)
            for learner in learners:
                if (penalty := learner.penalty()) is not None:
                    each = each + penalty
            total = each.sum()
            if not bool(torch.isfinite(total)):
                raise CutawayError(
                    f"the loss is {float(total)} at step {step}; try a smaller rate than {training.rate}."
                )
            left = min(1.0, 2 * (1 - step / training.steps))
            for group, slope, (parameter, factor) in zip(
                optimiser.param_groups, torch.autograd.grad(total, parameters, allow_unused=True), learned
            ):
                # The fused step reads a gradient in its parameter's own order of memory.
                parameter.grad = None if slope is None else slope.contiguous()
                group["lr"] = training.rate * factor * left
            optimiser.step()
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
        few = kinds.pop()
        kinds[-1] += few
    numbers = {end: number for number, group in enumerate(kinds) for end in group}
    kind = torch.tensor([numbers[end] for end in ends.tolist()])  # of each row
    waiting = [rows[:0] for _ in kinds]
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(rows), generator=generator)
        full: list[tuple[int, Tensor]] = []  # the place in `order` at which a batch is full, and the batch
        for number in range(len(kinds)):
            places = (kind[order] == number).nonzero().flatten()
            left = len(waiting[number])
            queue = torch.cat([waiting[number], rows[order[places]]])
            whole = len(queue) // count * count
            full += [(int(places[at + count - 1 - left]), queue[at : at + count]) for at in range(0, whole, count)]
            waiting[number] = queue[whole:]
        for _, batch in sorted(full, key=lambda one: one[0]):
            yield batch


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
    columns = torch.cat([cell.spots[group[0]].columns.index_select(0, items) for cell in cells])
    vectors = [_together([_taken(cell.spots[v].source, items).flatten(0, 1) for cell in cells]) for v in group]
    source = _together(vectors).float()  # [variable, cell, vector, width]
    positions = columns.shape[1]
    weight = _weights(data, group, len(cells), items, positions, source)
    if len(group) == 1:
        source, weight = source[0], None if weight is None else weight[0]

    def change(x: Tensor) -> Tensor:
        lanes, places, width = x.shape
        base = x.reshape(len(cells), -1, width)
        return learner.change(base, source, weight).reshape(lanes, places, width)

    return Edit(first.address, columns, change, first.head)


def _taken(x: Tensor, items: Tensor) -> Tensor:
    """Rows of x by copying whole rows, several times faster than x[items]."""
    return x.index_select(0, items.to(x.device))


def _together(parts: Sequence[Tensor]) -> Tensor:
    return parts[0][None] if len(parts) == 1 else torch.stack(list(parts))


def _weights(data: Data, group: list[int], cells: int, items: Tensor, positions: int, like: Tensor) -> Tensor | None:
    """[variable, cell, vector, 1]: 1 where an item exchanges the variable; None where all do."""
    which = data.pairs.which[items][:, group]  # [m, variable]
    if bool(which.all()):
        return None
    each = which.T[:, None, :, None].expand(-1, cells, -1, positions)
    return each.reshape(len(group), cells, -1, 1).to(like)
