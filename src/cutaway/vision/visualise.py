"""Feature visualisation: pictures made by gradient ascent, and beside them the same on a network that learned nothing.

Every visualisation is made twice, on the tower and on its re-randomised twin, with the same seeds, steps and
transforms: what both show is of the method and not of what was learned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.core import Comparison, CutawayError, Evidence, InputError, NotDone, atomic_path
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import bootstrap
from cutaway.evidence.statistics import bootstrap_difference
from cutaway.vision.fourier import Fourier, Parametrisation
from cutaway.vision.objectives import Objective
from cutaway.vision.tower import Tower
from cutaway.vision.transforms import Crops, Transforms

STATE_EVERY = 64
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, eq=False, repr=False)
class Visualisation:
    """`pictures` [n, 3, side, side]; `alpha` [n, side, side], how much gradient each pixel had; `reached` [n], the
    objective on the picture itself; `trace` its mean over steps."""

    tower: str
    objective: str
    pictures: Tensor
    alpha: Tensor
    reached: tuple[float, ...]
    trace: tuple[float, ...]
    steps: int
    method: str

    def shaded(self, ground: float = 1.0) -> Tensor:
        """The pictures with what had no gradient faded to the ground."""
        return self.pictures * self.alpha[:, None] + ground * (1 - self.alpha[:, None])


@dataclass(frozen=True)
class Settings:
    """How pictures are optimised. 512 steps of Adam at 0.05 are usual; small towers settle in half of that."""

    n: int = 4
    steps: int = 256
    learning_rate: float = 0.05
    seed: int = 0
    transforms: Transforms | Crops = field(default_factory=Transforms)


def visualise(
    tower: Tower,
    objective: Objective,
    settings: Settings | None = None,
    parametrisation: Parametrisation | None = None,
    *,
    state: Path | None = None,
    progress: Progress | None = None,
    silent: bool = False,
) -> Visualisation:
    """Pictures that make `objective` large. With `state`, what has been done is kept there every 64 steps and a killed
    run goes on from it, to the same pixels. `silent`: a unit without a gradient is left as it is and no error (a null).

    Costs `steps` forwards and backwards of n pictures (n * crops with MACO). Raises InputError; CutawayError where the
    objective becomes NaN or has no gradient at all (a dead unit).
    """
    how = settings or Settings()
    if how.n < 1 or how.steps < 1:
        raise InputError(f"at least one picture and one step; given {how.n} and {how.steps}.")
    shape = parametrisation or Fourier(tower.side)
    parameters = shape.start(how.n, torch.Generator().manual_seed(how.seed)).requires_grad_(True)
    optimiser = torch.optim.Adam([parameters], how.learning_rate)
    alpha = torch.zeros(how.n, tower.side, tower.side)
    done, trace = _resumed(state, parameters, optimiser, alpha, f"{tower.model.fingerprint} {objective.name} {how}")
    for step in range(done, how.steps):
        # A draw of its own for each step, so that a run that goes on draws what a whole one does.
        generator = torch.Generator().manual_seed(how.seed * 1_000_003 + step)
        pictures = shape.pictures(parameters)
        pictures.retain_grad()
        changed = how.transforms(pictures, generator, step / how.steps)
        values = _value(tower, objective, changed)
        if not torch.isfinite(values).all():
            raise CutawayError(f"{objective.name} became NaN or infinite at step {step}; try a smaller learning rate.")
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(-values.sum() / max(1, len(changed) // how.n))
        if parameters.grad is None:
            raise InputError(f"{objective.name} does not depend on the picture.")
        assert pictures.grad is not None
        alpha += pictures.grad.abs().mean(1)
        optimiser.step()
        trace.append(float(values.detach().mean()))
        if not silent and step == min(40, how.steps - 1) and float(alpha.sum()) == 0:
            raise CutawayError(
                f"{objective.name} has no gradient on any of {step + 1} steps: behind a ReLU a unit that is "
                "silent on noise shows no way up from it. Try a point before the ReLU, or another seed or unit."
            )
        if progress is not None:
            progress(step + 1, how.steps, trace[-1])
        if state is not None and ((step + 1) % STATE_EVERY == 0 or step + 1 == how.steps):
            _keep(state, parameters, optimiser, alpha, step + 1, trace,
                  f"{tower.model.fingerprint} {objective.name} {how}")  # fmt: skip
    with torch.no_grad():
        final = shape.pictures(parameters)
        reached = _value(tower, objective, final)
    top = alpha.flatten(1).quantile(0.9, dim=1)[:, None, None].clamp(min=1e-12)
    return Visualisation(
        tower.name, objective.name, final.detach(), (alpha / top).clamp(0, 1), tuple(reached.tolist()), tuple(trace),
        how.steps, getattr(shape, "method", type(shape).__name__.lower()),
    )  # fmt: skip


def _value(tower: Tower, objective: Objective, pictures: Tensor) -> Tensor:
    run = tower.see(pictures, objective.reads, keep_graph=True)
    return objective.value(tower, run)


# ---- what is kept


def _keep(
    state: Path, parameters: Tensor, optimiser: Any, alpha: Tensor, step: int, trace: list[float], what: str
) -> None:
    from safetensors.torch import save_file

    moments = optimiser.state[parameters]
    with atomic_path(state) as path:
        save_file(
            {
                "parameters": parameters.detach(),
                "first": moments["exp_avg"],
                "second": moments["exp_avg_sq"],
                "count": moments["step"],
                "alpha": alpha,
                "trace": torch.tensor(trace, dtype=torch.float64),
            },
            path,
            metadata={"step": str(step), "what": what},
        )


def _resumed(
    state: Path | None, parameters: Tensor, optimiser: Any, alpha: Tensor, what: str
) -> tuple[int, list[float]]:
    """(steps done, their trace), with the tensors given filled. Raises InputError for another run's state."""
    if state is None or not state.is_file():
        return 0, []
    from safetensors import safe_open

    with safe_open(state, framework="pt") as file:
        told = file.metadata() or {}
        if told.get("what") != what:
            raise InputError(f"{state} is the state of another visualisation; give another folder or remove it.")
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    with torch.no_grad():
        parameters.copy_(kept["parameters"])
        alpha.copy_(kept["alpha"])
    optimiser.state[parameters] = {"step": kept["count"], "exp_avg": kept["first"], "exp_avg_sq": kept["second"]}
    return int(told["step"]), kept["trace"].tolist()


# ---- with its null beside


@dataclass(frozen=True, eq=False, repr=False)
class Shown(Drawn):
    """A visualisation, the same on the re-randomised tower, and what the objective reaches on real pictures."""

    trained: Visualisation
    null: Visualisation | None
    best_picture: float | None  # the largest value on the pictures given
    evidence: Evidence

    def to_json(self) -> dict[str, Any]:
        def one(v: Visualisation | None) -> dict[str, Any] | None:
            if v is None:
                return None
            return {"model": v.tower, "reached": [round(x, 5) for x in v.reached],
                    "trace": [round(x, 5) for x in v.trace[:: max(1, len(v.trace) // 64)]]}  # fmt: skip

        return {
            "schema": "cutaway.visualisation/1",
            "model": self.trained.tower,
            "objective": self.trained.objective,
            "method": self.trained.method,
            "steps": self.trained.steps,
            "trained": one(self.trained),
            "null": one(self.null),
            "best_picture": self.best_picture,
            "evidence": [self.evidence.to_json()],
        }

    def __str__(self) -> str:
        rows = [("", "reached (each picture)")]
        for v in (self.trained, self.null):
            if v is not None:
                rows.append((v.tower, "  ".join(f"{x:.3g}" for x in v.reached)))
        if self.best_picture is not None:
            rows.append(("best of the real pictures", f"{self.best_picture:.3g}"))
        head = f"{self.trained.objective}: {len(self.trained.reached)} pictures, {self.trained.steps} steps, "
        return "\n".join([head + self.trained.method, *columns(rows), str(self.evidence)])

    __repr__ = __str__


def shown(trained: Visualisation, null: Visualisation | None, real: Any = None, seed: int = 0) -> Shown:
    """Join a visualisation with its null. `real` [m]: the objective on real pictures, whose mean and spread make the
    two models' values comparable; `real` may be a pair, one for each model."""
    mine, theirs = real if isinstance(real, tuple) else (real, None)
    first = _in_spreads(trained.reached, mine)
    unit = " SD" if mine is not None else ""
    name = "objective reached" + (", in SDs above its mean on real pictures" if unit else "")
    effect = bootstrap(first, name=name, over="pictures made", unit=unit, method="percentile", seed=seed)
    nulls: tuple[Comparison, ...] = ()
    if null is not None:
        second = _in_spreads(null.reached, theirs if unit else None)
        name = "re-randomised model"
        estimate = bootstrap(second, name=name, over="pictures made", unit=unit, method="percentile", seed=seed)
        apart = bootstrap_difference(first, second, paired=False, over="pictures made", seed=seed)
        nulls = (Comparison(estimate=estimate, difference=apart),)
    return Shown(
        trained,
        null,
        None if mine is None else float(np.max(mine)),
        Evidence(
            claim=f"Pictures made for {trained.objective} drive it further than the same steps drive a network that "
            "learned nothing",
            effect=effect,
            nulls=nulls,
            seeds=(seed,),
            how=f"{trained.method} parametrisation, {trained.steps} steps; measured on the pictures as they are, "
            "without transforms. That a picture drives a unit does not say that people see in it what the unit is for: "
            "compare with the null's pictures.",
            not_done=() if null is not None else (NotDone(what="re-randomised model", why="it was left out"),),
        ),
    )


def _in_spreads(values: tuple[float, ...], real: Any) -> list[float]:
    if real is None:
        return list(values)
    mean, spread = float(np.mean(real)), float(np.std(real))
    return [(v - mean) / max(spread, 1e-9) for v in values]
