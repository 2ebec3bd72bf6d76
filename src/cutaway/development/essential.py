"""Essential dynamics: training as a curve through the space of outputs, seen in its principal components.

Outputs on fixed inputs at T checkpoints, [T, numbers], are projected onto their principal components. In a plane of
two of them the curve has at each time an osculating circle; its centres trace the evolute, and where the curvature is
extremal the evolute has a cusp: the "forms" that trajectories turn about (Hoogland et al. 2024, "Loss landscape
degeneracy and stagewise development in transformers").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cutaway.core import InputError
from cutaway.core.drawing import Drawn
from cutaway.development.chains import Floats


@dataclass(frozen=True)
class Form:
    """A cusp of the evolute in the plane of two components: its step, the curve's point and the circle there."""

    step: float
    plane: tuple[int, int]
    point: tuple[float, float]
    centre: tuple[float, float]
    radius: float


@dataclass(frozen=True, eq=False)
class Circles:
    """The osculating circles of the curve in the plane of two components: centres [T, 2], signed curvatures [T]."""

    plane: tuple[int, int]
    centres: Floats
    curvatures: Floats


@dataclass(frozen=True, eq=False, repr=False)
class EssentialDynamics(Drawn):
    """scores [T, k] in the principal components, explained [k] shares of the variance, null [k] the same with each
    output's checkpoints shuffled by itself; the osculating circles in each plane of two components, and its forms."""

    steps: tuple[float, ...]
    scores: Floats
    explained: Floats
    null: Floats
    circles: tuple[Circles, ...]
    forms: tuple[Form, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.essential/1",
            "steps": list(self.steps),
            "scores": self.scores.tolist(),
            "explained": self.explained.tolist(),
            "null": self.null.tolist(),
            "circles": [
                {"plane": list(c.plane), "centres": _finite(c.centres), "curvatures": _finite(c.curvatures)}
                for c in self.circles
            ],
            "forms": [
                {"step": f.step, "plane": list(f.plane), "point": list(f.point), "centre": list(f.centre),
                 "radius": f.radius}
                for f in self.forms
            ],
        }  # fmt: skip

    def __str__(self) -> str:
        shares = " / ".join(f"{x:.2f}" for x in self.explained)
        null = " / ".join(f"{x:.2f}" for x in self.null)
        lines = [f"essential dynamics: components explain {shares} of the variance (checkpoints shuffled: {null})"]
        for plane in dict.fromkeys(f.plane for f in self.forms):
            steps = [f"{f.step:g}" for f in self.forms if f.plane == plane]
            shown = ", ".join(steps[:8]) + (f" and {len(steps) - 8} more" if len(steps) > 8 else "")
            lines.append(f"  forms of components {plane[0] + 1} and {plane[1] + 1} at step {shown}")
        return "\n".join(lines)

    __repr__ = __str__


def essential_dynamics(
    steps: ArrayLike, outputs: ArrayLike, components: int = 3, smooth: float = 1.0, seed: int = 0
) -> EssentialDynamics:
    """Principal components of outputs [T, numbers] over checkpoints, with osculating circles in each plane of two.

    smooth: the width, in checkpoints, of the Gaussian that curves are smoothed with before they are differentiated.
    Raises InputError for fewer than four checkpoints or outputs that are not finite.
    """
    s, x = np.asarray(steps, dtype=np.float64), np.asarray(outputs, dtype=np.float64)
    if x.ndim != 2 or len(x) != len(s) or len(s) < 4 or not np.isfinite(x).all():
        raise InputError(f"essential dynamics needs finite outputs [T, numbers] of T >= 4 steps; given {x.shape}.")
    components = min(components, len(s) - 1, x.shape[1])
    u, sigma, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    explained = sigma**2 / max(float((sigma**2).sum()), 1e-300)
    shuffled = np.random.default_rng(seed).permuted(x, axis=0)
    null = np.linalg.svd(shuffled - shuffled.mean(0), compute_uv=False) ** 2
    scores = u[:, :components] * sigma[:components]
    circles, forms = [], []
    for a in range(components):
        for b in range(a + 1, components):
            curve = scores[:, [a, b]]
            found = Circles((a, b), *osculating_circles(np.arange(len(s), dtype=np.float64), curve, smooth))
            circles.append(found)
            forms += _forms(s, curve, found)
    shuffled_shares = (null / max(null.sum(), 1e-300))[:components]
    return EssentialDynamics(
        tuple(s.tolist()), scores, explained[:components], shuffled_shares, tuple(circles), tuple(forms)
    )


def osculating_circles(times: ArrayLike, curve: ArrayLike, smooth: float = 0.0) -> tuple[Floats, Floats]:
    """(centres [T, 2], signed curvatures [T]) of a plane curve [T, 2] at times [T].

    centre = x + n / kappa,  kappa = (x' y'' - y' x'') / |v|^3,  n the unit normal to the left.
    """
    from scipy.ndimage import gaussian_filter1d

    t, c = np.asarray(times, dtype=np.float64), np.asarray(curve, dtype=np.float64)
    if smooth > 0:
        c = gaussian_filter1d(c, smooth, axis=0, mode="nearest")
    velocity = np.gradient(c, t, axis=0, edge_order=2)
    force = np.gradient(velocity, t, axis=0, edge_order=2)
    speed = np.maximum(np.linalg.norm(velocity, axis=1), 1e-300)
    kappa = (velocity[:, 0] * force[:, 1] - velocity[:, 1] * force[:, 0]) / speed**3
    normal = np.stack([-velocity[:, 1], velocity[:, 0]], 1) / speed[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        centres = c + normal / kappa[:, None]
    return centres, kappa


def _forms(steps: Floats, curve: Floats, circles: Circles) -> list[Form]:
    """Inner maxima of |kappa|, two checkpoints off either end, where derivatives are one-sided."""
    centres, size = circles.centres, np.abs(circles.curvatures)
    found = []
    for i in range(2, len(steps) - 2):
        if size[i] > size[i - 1] and size[i] > size[i + 1] and np.isfinite(centres[i]).all():
            found.append(
                Form(
                    step=float(steps[i]),
                    plane=circles.plane,
                    point=(float(curve[i, 0]), float(curve[i, 1])),
                    centre=(float(centres[i, 0]), float(centres[i, 1])),
                    radius=float(1 / size[i]),
                )
            )
    return found


def _finite(values: Floats) -> list[Any]:
    """As nested lists; None where a straight piece has its centre at infinity."""
    given = values.astype(object)
    given[~np.isfinite(values)] = None
    nested: list[Any] = given.tolist()
    return nested
