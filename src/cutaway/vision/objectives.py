"""What a picture is optimised for: a unit, a direction, a dictionary's feature, a name; and terms added to it.

An objective says which points it reads and gives one number a picture. Objectives are added and scaled:
`channel(p, 3) + 0.5 * diversity(p)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cutaway.core import InputError
from cutaway.core.protocols import Dictionary
from cutaway.model import Run
from cutaway.vision.pictures import Pictures
from cutaway.vision.tower import Tower

Value = Callable[[Tower, Run], Tensor]


@dataclass(frozen=True, eq=False)
class Objective:
    """`value(tower, run)` -> [n], larger is better; `reads` are the points that it needs. `first`: of a sum, its first
    term."""

    name: str
    reads: tuple[str, ...]
    value: Value
    first: Objective | None = None

    @property
    def subject(self) -> Objective:
        """What is shown, without what is added to it."""
        return self.first or self

    def __add__(self, other: Objective) -> Objective:
        return Objective(
            f"{self.name} + {other.name}",
            tuple(dict.fromkeys((*self.reads, *other.reads))),
            lambda tower, run: self.value(tower, run) + other.value(tower, run),
            self.subject,
        )

    def __rmul__(self, factor: float) -> Objective:
        return Objective(f"{factor:g} {self.name}", self.reads, lambda tower, run: factor * self.value(tower, run))


def units_last(values: Tensor) -> Tensor:
    """[n, unit], a map or positions as [n, place, unit]."""
    if values.ndim == 2:
        return values[:, None]
    return values.flatten(2).transpose(1, 2) if values.ndim == 4 else values


def channel(point: str, unit: int) -> Objective:
    """The mean of a unit over space. Raises InputError (as it is measured) for a unit that is not there."""

    def value(_: Tower, run: Run) -> Tensor:
        return _unit(units_last(run[point]), unit, point).mean(1)

    return Objective(f"{point} unit {unit}", (point,), value)


def neuron(point: str, unit: int, at: tuple[int, int] | int | None = None) -> Objective:
    """A unit at one place: (y, x) of a map, a position, or the middle."""

    def value(_: Tower, run: Run) -> Tensor:
        x = run[point]
        if x.ndim == 4:
            y, c = at if isinstance(at, tuple) else (x.shape[2] // 2, x.shape[3] // 2)
            return _unit(x[:, None, :, y, c], unit, point)[:, 0]
        place = at if isinstance(at, int) else units_last(x).shape[1] // 2
        return _unit(units_last(x), unit, point)[:, place]

    return Objective(f"{point} unit {unit} at {'the middle' if at is None else at}", (point,), value)


def direction(point: str, vector: Tensor, name: str = "") -> Objective:
    """The dot product with a direction [unit], mean over space. Raises InputError for another width."""

    def value(_: Tower, run: Run) -> Tensor:
        x = units_last(run[point])
        if vector.shape != x.shape[-1:]:
            raise InputError(f"{point} has {x.shape[-1]} units; the direction is {list(vector.shape)}.")
        return (x @ vector.to(x)).mean(1)

    return Objective(name or f"a direction at {point}", (point,), value)


def feature(point: str, dictionary: Dictionary, index: int) -> Objective:
    """A dictionary's feature at a point, mean over space."""
    if not 0 <= index < dictionary.n_features:
        raise InputError(f"no feature {index}; the dictionary has {dictionary.n_features}.")

    def value(_: Tower, run: Run) -> Tensor:
        return dictionary.encode(units_last(run[point]))[..., index].mean(1)

    return Objective(f"feature {index} at {point}", (point,), value)


def says(name: str, names: Sequence[str] = ()) -> Objective:
    """The tower's score for a caption's concept or a class: its logit, less the largest of the other `names`."""
    others = [n for n in names if n != name]

    def value(tower: Tower, run: Run) -> Tensor:
        embedding = tower.embed(run) if tower.embed is not None else run.logits
        scores = tower.judge(embedding, [name, *others])
        return scores[:, 0] - (scores[:, 1:].max(1).values if others else 0.0)

    return Objective(f"says {name}", (), value)


def diversity(point: str) -> Objective:
    """- the mean cosine between the Gram matrices of a picture and of each other one in the batch (Olah et al. 2017):
    G = X^T X of a map's places by units. Zero for a single picture."""

    def value(_: Tower, run: Run) -> Tensor:
        x = units_last(run[point])
        if len(x) < 2:
            return x.sum((1, 2)) * 0
        gram = F.normalize((x.transpose(1, 2) @ x).flatten(1), dim=-1)
        cosine = gram @ gram.T
        return -(cosine.sum(1) - cosine.diagonal()) / (len(x) - 1)

    return Objective(f"diversity at {point}", (point,), value)


def faceted(of: Objective, lower: str, weight: Tensor) -> Objective:
    """f(g(x)) + w . (g(x) * grad f(g(x))): `of`, pulled towards a facet (Goh et al. 2021). g are the units of `lower`,
    w [unit] a linear probe there for the facet (see `facet_probe`); the gradient is held while it is used.

    Costs one more forward and backward a step.
    """

    def value(tower: Tower, run: Run) -> Tensor:
        with torch.enable_grad():
            again = tower.model.run(
                run.batch.ids.detach(), [*dict.fromkeys((*of.reads, *tower.reads))], grad=[lower], keep_graph=True
            )
            leaf = again.leaves[lower]
            (slope,) = torch.autograd.grad(of.value(tower, again).sum(), leaf, allow_unused=True)
        here = units_last(run[lower])
        if slope is None:
            raise InputError(f"{of.name} does not depend on {lower}; a facet's point lies below what is shown.")
        pull = (here * units_last(slope.detach())).mean(1) @ weight.to(here)
        return of.value(tower, run) + pull

    return Objective(f"{of.name}, faceted at {lower}", tuple(dict.fromkeys((*of.reads, lower))), value, of.subject)


def facet_probe(tower: Tower, pictures: Pictures, facet: str, lower: str) -> tuple[Tensor, float]:
    """(w [unit] of length one, the probe's held-out accuracy): a logistic probe for a facet (a kind of picture, or a
    label) on the mean of `lower`'s units over space. Raises InputError for a facet that too few pictures, or all but
    too few, have."""
    from sklearn.linear_model import LogisticRegression

    from cutaway.vision.units import activations

    of_each = [(kind, *labels) for kind, labels in zip(pictures.facets, pictures.labels)]
    is_it = torch.tensor([facet in names for names in of_each]).numpy()
    if is_it.sum() < 8 or (~is_it).sum() < 8:
        raise InputError(
            f"a probe for the facet {facet!r} needs eight pictures with it and eight without; "
            f"facets here: {', '.join(dict.fromkeys((*pictures.facets, *pictures.concepts)))}."
        )
    x = activations(tower, pictures, lower, "mean")
    spread = x.std(0)
    x = (x - x.mean(0)) / (spread + 1e-6)
    held = torch.arange(len(x)).numpy() % 3 == 0
    found: Any = LogisticRegression(C=0.1, max_iter=300).fit(x[~held], is_it[~held])
    weight = torch.tensor(found.coef_[0] / (spread + 1e-6), dtype=torch.float32)
    return F.normalize(weight, dim=0), float(found.score(x[held], is_it[held]))


def _unit(x: Tensor, unit: int, point: str) -> Tensor:
    if not -x.shape[-1] <= unit < x.shape[-1]:
        raise InputError(f"no unit {unit} at {point}; it has {x.shape[-1]} (0 … {x.shape[-1] - 1}).")
    return x[..., unit]
