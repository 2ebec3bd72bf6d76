"""Feature visualisation: pictures made by gradient ascent.

A unit that is silent on noise is climbed towards through the ReLUs that are shut (`redirected`); where that leads
nowhere, from the real pictures that excite it most. `shown` puts the same on a network that learned nothing beside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.core import CutawayError, InputError, atomic_path
from cutaway.model import Model
from cutaway.vision.fourier import Fourier, Parametrisation
from cutaway.vision.objectives import Objective
from cutaway.vision.pictures import Pictures
from cutaway.vision.redirected import redirected
from cutaway.vision.tower import BATCH, Tower
from cutaway.vision.transforms import Crops, Transforms

STATE_EVERY = 64
_PATIENCE = 40  # steps without any gradient after which there will be none
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, eq=False)
class Start:
    """Real pictures that are climbed from, [n, 3, side, side]; `rows` of the pictures that they are of, what these
    show, and the objective on each."""

    images: Tensor
    rows: tuple[int, ...]
    labels: tuple[tuple[str, ...], ...]
    values: tuple[float, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Visualisation:
    """`pictures` [n, 3, side, side]; `alpha` [n, side, side], how much gradient each pixel had; `reached` [n], the
    objective (of a sum, its first term) on the picture itself; `trace` the mean of all that is climbed over steps.

    `start`: the real pictures that it began with, None for noise. `redirected`: steps on which a ReLU that was shut let
    the gradient through. `silent` [n]: the objective has no gradient on the picture made, and is no higher than on the
    one that it began with.
    """

    tower: str
    objective: str
    pictures: Tensor
    alpha: Tensor
    reached: tuple[float, ...]
    trace: tuple[float, ...]
    steps: int
    method: str
    start: Start | None = None
    redirected: int = 0
    silent: tuple[bool, ...] = ()

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
    start: Start | None = None,
    seen: Pictures | None = None,
    state: Path | None = None,
    progress: Progress | None = None,
    silent: bool = False,
) -> Visualisation:
    """Pictures that make `objective` large, from noise or from `start` (see `strongest`). With `seen`, what stays
    silent from noise is climbed once more from the pictures there that excite it most.

    With `state`, what has been done is kept there every 64 steps and a killed run goes on from it, to the same pixels.
    `silent`: an objective that cannot be woken is left as it is and no error (a null).

    Costs `steps` forwards and backwards of n pictures (n * crops with MACO), twice where noise leads nowhere, and then
    a forward of each picture of `seen`. Raises InputError; CutawayError where the objective becomes NaN, or is silent
    on all that was tried.
    """
    if not isinstance(tower, Tower):
        what = f"the model {tower.name}" if isinstance(tower, Model) else type(tower).__name__
        raise InputError(f"visualise takes a tower, as cw.look('primer') makes it of a vision model; given {what}.")
    if not isinstance(objective, Objective):
        raise InputError(
            f"visualise takes an objective, as cutaway.vision.neuron('mlp_act.2', 5); given {type(objective).__name__}."
        )
    how = settings or Settings()
    if how.n < 1 or how.steps < 1:
        raise InputError(f"at least one picture and one step; given {how.n} and {how.steps}.")
    shape = parametrisation or Fourier(tower.side)
    made = _climbed(tower, objective, how, shape, start, state, progress)
    found = strongest(tower, objective, seen, how.n) if all(made.silent) and start is None and seen else None
    if found is not None:
        second = None if state is None else state.with_name(f"pictures.{state.name}")
        made = _climbed(tower, objective, how, shape, found, second, progress)
    if all(made.silent) and not silent:
        if seen is None:
            real = "With pictures given, the one that excites it most would be tried as the start."
        elif made.start is None:
            real = f"It is the same on all of the {len(seen)} real pictures, too: nothing is known that drives it."
        else:
            real = "Nor did as many from the real pictures that excite it most."
        raise CutawayError(
            f"{objective.subject.name} stays silent: {how.steps} steps from noise did not wake it, though the gradient "
            f"was let through ReLUs that are shut. {real}"
        )
    return made


def on_pictures(tower: Tower, objective: Objective, seen: Pictures) -> Tensor:
    """The objective (of a sum, its first term) on each picture, [n]. Costs a forward a picture."""
    what = objective.subject
    with torch.no_grad():
        parts = [what.value(tower, tower.see(part, what.reads)) for part in torch.split(seen.images, BATCH)]
    return torch.cat(parts).double()


def strongest(tower: Tower, objective: Objective, seen: Pictures, n: int) -> Start | None:
    """The n pictures that excite an objective most, again from the first where fewer than n do; None where all leave it
    at the same value. Costs a forward a picture."""
    values = on_pictures(tower, objective, seen)
    order = values.argsort(descending=True, stable=True)
    best: list[int] = order[values[order] > values.min()][:n].tolist()
    if not best:
        return None
    rows = [best[i % len(best)] for i in range(n)]
    return Start(
        seen.images[rows], tuple(rows), tuple(seen.labels[r] for r in rows), tuple(float(values[r]) for r in rows)
    )


def _climbed(
    tower: Tower, objective: Objective, how: Settings, shape: Parametrisation, start: Start | None, state: Path | None,
    progress: Progress | None,
) -> Visualisation:  # fmt: skip
    noise = torch.Generator().manual_seed(how.seed)
    began = shape.start(how.n, noise) if start is None else shape.parameters(start.images)
    parameters = began.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([parameters], how.learning_rate)
    kept = _Kept(alpha=torch.zeros(how.n, tower.side, tower.side))
    what = f"{tower.model.fingerprint} {objective.name} {how}"
    if start is not None:
        what += f" {hashlib.sha256(start.images.numpy().tobytes()).hexdigest()[:16]}"
    kept.resume(state, parameters, optimiser, what)
    while kept.done < how.steps:
        step = kept.done
        # A draw of its own for each step, so that a run that goes on draws what a whole one does.
        generator = torch.Generator().manual_seed(how.seed * 1_000_003 + step)
        pictures = shape.pictures(parameters)
        pictures.retain_grad()
        changed = how.transforms(pictures, generator, step / how.steps)
        with redirected() as relus:
            values = _value(tower, objective, changed)
        if not torch.isfinite(values).all():
            raise CutawayError(f"{objective.name} became NaN or infinite at step {step}; try a smaller learning rate.")
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(-values.sum() / max(1, len(changed) // how.n))
        if parameters.grad is None:
            raise InputError(f"{objective.name} does not depend on the picture.")
        assert pictures.grad is not None
        kept.alpha += pictures.grad.abs().mean(1)
        optimiser.step()
        kept.trace.append(float(values.detach().mean()))
        kept.redirected += relus.opened
        kept.done = step + 1
        if progress is not None:
            progress(step + 1, how.steps, kept.trace[-1])
        if state is not None and ((step + 1) % STATE_EVERY == 0 or step + 1 == how.steps):
            kept.keep(state, parameters, optimiser, what)
        if step + 1 == _PATIENCE and float(kept.alpha.sum()) == 0:
            break
    with torch.no_grad():
        final, first = shape.pictures(parameters), shape.pictures(began)
        before = _value(tower, objective.subject, first)
    reached, flat = _slope(tower, objective.subject, final)
    top = kept.alpha.flatten(1).quantile(0.9, dim=1)[:, None, None].clamp(min=1e-12)
    return Visualisation(
        tower.name, objective.name, final.detach(), (kept.alpha / top).clamp(0, 1), tuple(reached.tolist()),
        tuple(kept.trace), kept.done, getattr(shape, "method", type(shape).__name__.lower()), start, kept.redirected,
        tuple((flat & (reached <= before)).tolist()),
    )  # fmt: skip


def _value(tower: Tower, objective: Objective, pictures: Tensor) -> Tensor:
    run = tower.see(pictures, objective.reads, keep_graph=True)
    return objective.value(tower, run)


def _slope(tower: Tower, objective: Objective, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """(the objective [n], whether its true gradient vanishes on a picture [n])."""
    leaf = pictures.detach().requires_grad_(True)
    values = _value(tower, objective, leaf)
    (slope,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), slope.flatten(1).abs().sum(1) == 0


@dataclass
class _Kept:
    """What a killed run goes on from, besides the parameters and Adam's moments."""

    alpha: Tensor
    trace: list[float] = field(default_factory=list)
    done: int = 0
    redirected: int = 0

    def keep(self, state: Path, parameters: Tensor, optimiser: Any, what: str) -> None:
        from safetensors.torch import save_file

        moments = optimiser.state[parameters]
        with atomic_path(state) as path:
            save_file(
                {
                    "parameters": parameters.detach(),
                    "first": moments["exp_avg"],
                    "second": moments["exp_avg_sq"],
                    "count": moments["step"],
                    "alpha": self.alpha,
                    "trace": torch.tensor(self.trace, dtype=torch.float64),
                },
                path,
                metadata={"step": str(self.done), "redirected": str(self.redirected), "what": what},
            )

    def resume(self, state: Path | None, parameters: Tensor, optimiser: Any, what: str) -> None:
        """Fill this, the parameters and the optimiser from `state`, where there is one. Raises InputError for another
        run's."""
        if state is None or not state.is_file():
            return
        from safetensors import safe_open

        with safe_open(state, framework="pt") as file:
            told = file.metadata() or {}
            if told.get("what") != what:
                raise InputError(f"{state} is the state of another visualisation; give another folder or remove it.")
            kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        with torch.no_grad():
            parameters.copy_(kept["parameters"])
        self.alpha.copy_(kept["alpha"])
        optimiser.state[parameters] = {"step": kept["count"], "exp_avg": kept["first"], "exp_avg_sq": kept["second"]}
        self.trace[:], self.done, self.redirected = (
            kept["trace"].tolist(), int(told["step"]), int(told.get("redirected", 0)),
        )  # fmt: skip
