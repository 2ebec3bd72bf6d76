"""Ways of steering, as values: each turns a strength into interventions, compares by content, goes to JSON and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName
from cutaway.core.numbers import finite
from cutaway.core.protocols import Dictionary
from cutaway.model import Intervention, add, clamp_features, project_out
from cutaway.model.content import Content

SCHEMA = "cutaway.steering/1"


@runtime_checkable
class Steering(Protocol):
    """What every way of steering has. Strength 0 changes nothing."""

    @property
    def at(self) -> str: ...

    def interventions(self, strength: float = 1.0) -> list[Intervention]:
        """For `model.run(…, interventions=…)`. Raises InputError for a strength that has no meaning here."""
        ...

    def random(self, seed: int) -> Steering:
        """The same in a random direction of equal norm: the control."""
        ...

    def to_json(self) -> dict[str, Any]: ...


def _number(strength: float) -> float:
    return finite(strength, "a strength")


@dataclass(frozen=True)
class Direction:
    """x + strength * vector at every position (or at `positions`, counted in each prompt's own tokens).

    Difference-in-means steering and contrastive activation addition (Rimsky et al. 2024) add such a vector.
    """

    at: str
    vector: Content  # [width]
    positions: tuple[int, ...] | None = None
    kind: ClassVar[str] = "direction"

    @property
    def norm(self) -> float:
        return float(self.vector.tensor.float().norm())

    def interventions(self, strength: float = 1.0) -> list[Intervention]:
        strength = _number(strength)
        where = {} if self.positions is None else {"positions": self.positions}
        return [add(self.at, strength * self.vector.tensor, **where)] if strength else []

    def random(self, seed: int) -> Direction:
        return Direction(self.at, Content(_random_like(self.vector.tensor, seed)), self.positions)

    def to_json(self) -> dict[str, Any]:
        positions = None if self.positions is None else list(self.positions)
        return _json(self, {"vector": self.vector.to_json(), "positions": positions})

    def __str__(self) -> str:
        return f"add a direction of norm {self.norm:.3g} at {self.at}"


@dataclass(frozen=True)
class ActivationAddition:
    """x + strength * vectors at the first positions of each prompt, one vector a position (Turner et al. 2024)."""

    at: str
    vectors: Content  # [positions, width]
    kind: ClassVar[str] = "activation addition"

    def interventions(self, strength: float = 1.0) -> list[Intervention]:
        strength = _number(strength)
        vectors = self.vectors.tensor
        return [add(self.at, strength * vectors[None], positions=range(len(vectors)))] if strength else []

    def random(self, seed: int) -> ActivationAddition:
        return ActivationAddition(self.at, Content(_random_like(self.vectors.tensor, seed)))

    def to_json(self) -> dict[str, Any]:
        return _json(self, {"vectors": self.vectors.to_json()})

    def __str__(self) -> str:
        return f"add {len(self.vectors.tensor)} vectors at the first positions at {self.at}"


@dataclass(frozen=True)
class Projection:
    """x - r r^T x / |r|^2 at every position of all of `points`: the direction is taken out wherever it could be read
    (Arditi et al., "Refusal in language models is mediated by a single direction", 2024). Strength is 1, or 0 for
    nothing."""

    at: str  # where the direction was found
    vector: Content  # [width]
    points: tuple[str, ...]
    kind: ClassVar[str] = "projection"

    def interventions(self, strength: float = 1.0) -> list[Intervention]:
        strength = _number(strength)
        if strength not in (0.0, 1.0):
            raise InputError(f"a direction is taken out (1) or left (0); strength {strength:g} has no meaning.")
        return [project_out(point, self.vector.tensor) for point in self.points] if strength else []

    def random(self, seed: int) -> Projection:
        return Projection(self.at, Content(_random_like(self.vector.tensor, seed)), self.points)

    def to_json(self) -> dict[str, Any]:
        return _json(self, {"vector": self.vector.to_json(), "points": list(self.points)})

    def __str__(self) -> str:
        return f"take the direction of {self.at} out at {len(self.points)} points"


@dataclass(frozen=True)
class FeatureClamp:
    """A dictionary's feature set to the value `strength` at every position; what the dictionary misses is kept
    ("Scaling Monosemanticity", 2024). `source` names the dictionary, so that JSON can: the features themselves are not
    written. Strength 0 sets the feature to zero: for this one way, that is a change."""

    at: str
    dictionary: Dictionary = field(compare=False)
    feature: int
    source: str = ""
    kind: ClassVar[str] = "clamp"

    def __post_init__(self) -> None:
        if not isinstance(self.dictionary, Dictionary):
            raise InputError(
                f"a clamp needs a dictionary with encode and decode; {type(self.dictionary).__name__} given."
            )
        if not 0 <= self.feature < self.dictionary.n_features:
            raise InputError(f"no feature {self.feature}; the dictionary has {self.dictionary.n_features}.")

    def interventions(self, strength: float = 1.0) -> list[Intervention]:
        return [clamp_features(self.at, self.dictionary, {self.feature: _number(strength)})]

    def random(self, seed: int) -> FeatureClamp:
        """Another feature of the dictionary: not of equal norm, but as the dictionary has them."""
        generator = torch.Generator().manual_seed(seed)
        other = int(torch.randint(self.dictionary.n_features - 1, (), generator=generator))
        return FeatureClamp(self.at, self.dictionary, other + (other >= self.feature), self.source)

    def to_json(self) -> dict[str, Any]:
        return _json(self, {"feature": self.feature, "source": self.source})

    def __str__(self) -> str:
        return f"clamp feature {self.feature} of {self.source or 'a dictionary'} at {self.at}"


def from_json(value: dict[str, Any], dictionary: Dictionary | None = None) -> Steering:
    """What `to_json` wrote. A clamp needs its `dictionary` again. Raises InputError."""
    if value.get("schema") != SCHEMA:
        raise InputError(f"not a steering: schema {value.get('schema')!r}, expected {SCHEMA!r}.")
    kind, at = value.get("kind"), str(value.get("at"))
    if kind == Direction.kind:
        positions = value.get("positions")
        return Direction(at, Content.from_json(value["vector"]), None if positions is None else tuple(positions))
    if kind == ActivationAddition.kind:
        return ActivationAddition(at, Content.from_json(value["vectors"]))
    if kind == Projection.kind:
        return Projection(at, Content.from_json(value["vector"]), tuple(value["points"]))
    if kind == FeatureClamp.kind:
        if dictionary is None:
            raise InputError(
                f"a clamp is of a dictionary ({value.get('source') or 'unnamed'}): give it as dictionary=."
            )
        return FeatureClamp(at, dictionary, int(value["feature"]), str(value.get("source", "")))
    kinds = (Direction.kind, ActivationAddition.kind, Projection.kind, FeatureClamp.kind)
    raise UnknownName("kind of steering", str(kind), kinds)


def _json(of: Any, body: dict[str, Any]) -> dict[str, Any]:
    return {"schema": SCHEMA, "kind": of.kind, "at": of.at, **body}


def _random_like(x: Tensor, seed: int) -> Tensor:
    """Uniformly random directions [..., width], each of the norm of its fellow."""
    drawn = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    scaled: Tensor = drawn * (x.float().cpu().norm(dim=-1) / drawn.norm(dim=-1))[..., None]
    return scaled.to(x)
