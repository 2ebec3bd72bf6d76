"""Chains of a sampler, all at once, and what they draw: losses, distances, acceptance, anything observed.

A chain's noise and batches come from generators of its own, so that a chain is the same whatever runs beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core import CutawayError, InputError
from cutaway.development.loss import Loss
from cutaway.development.samplers import LANGEVIN, Evaluate, Posterior, Sampler, State, distance, langevin, named, spans

Floats = NDArray[np.float64]
Observe = Mapping[str, Callable[[Tensor], Tensor]]
_BLOCK = 4_000_000  # normal numbers drawn at a time over all chains: 16 MB
_WORTH_A_THREAD = 1_000_000  # normal numbers: 3 ms
_MALA_CHECKS = 20
_WORTH_RECORDING = 200  # steps: recording a transformer's gradient takes seconds, and saves some ms a step


@dataclass(frozen=True)
class Setting:
    """How chains are run. `eps`, `n_beta` and `localisation` as in samplers.py; `batch` None is all data."""

    n_beta: float
    localisation: float
    eps: float
    sampler: str = "sgld"
    chains: int = 8
    draws: int = 500
    burn_in: int = 100
    every: int = 1
    batch: int | None = None
    seed: int = 0

    def check(self) -> None:
        """Raises InputError for a setting that makes no sense."""
        for name in ("n_beta", "eps"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is positive; {getattr(self, name)} was given.")
        if self.localisation < 0 or self.chains < 1 or self.draws < 2 or self.burn_in < 0 or self.every < 1:
            raise InputError(
                "localisation and burn-in are at least 0, chains and steps between draws at least 1, draws at least 2; "
                f"given {self.localisation}, {self.burn_in}, {self.chains}, {self.every}, {self.draws}."
            )
        if self.batch is not None and self.batch < 1:
            raise InputError(f"a batch has at least one item; {self.batch} was given.")


@dataclass(frozen=True, eq=False)
class Draws:
    """What chains drew after burn-in, `every` steps apart.

    excess [chains, draws]: the batch's loss less the same items' loss at w*, whose mean is E[L_n(w)] - L_n(w*).
    distance [chains, draws]: |w - w*|. acceptance: of Langevin proposals of the chains' step and preconditioner from
    where they are, had they been put to a Metropolis test (MALA); for HMC its own. observed: name ->
    [chains, draws, …]. last: positions to go on from.
    """

    setting: Setting
    excess: Floats
    distance: Floats
    acceptance: float
    observed: dict[str, Tensor]
    last: State
    how: str
    seconds: float
    steps: int
    generators: list[torch.Generator] = field(default_factory=list, repr=False)


def sample(
    loss: Loss,
    setting: Setting,
    *,
    sampler: Sampler | None = None,
    observe: Observe | None = None,
    traced: bool = True,
    after: Draws | None = None,
    on: Callable[[int, int], None] | None = None,
) -> Draws:
    """Run chains from w*, or go on from `after` (without burn-in).

    Cost: (burn_in + draws x every) x chains gradients of a batch, and about 20 more a chain for the acceptance; memory
    about 4 chains x d numbers, 5 with several threads. `observe`: functions of the positions [chains, d], called at
    each draw.
    Raises CutawayError where a chain leaves the floats: the step is too large.
    """
    import time

    setting.check()
    rule = sampler or named(setting.sampler)
    full = rule.full_batch or setting.batch is None or setting.batch >= loss.n
    posterior = Posterior(setting.n_beta, setting.localisation, loss.origin)
    total = (0 if after is not None else setting.burn_in) + setting.draws * setting.every
    gradients = loss.gradients(shared=full, traced=traced and total >= _WORTH_RECORDING)
    begun = time.perf_counter()
    if after is None:
        seeds = [setting.seed * 1_000_003 + c for c in range(setting.chains)]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        state = State(loss.origin.repeat(setting.chains, 1))
        rule.start(state, posterior, setting.eps)
        burn_in = setting.burn_in
    else:
        generators, state, burn_in = after.generators, after.last, 0
    # A check costs a gradient: one step in twenty at most.
    checks = set(range(burn_in, total, max(20, (total - burn_in) // _MALA_CHECKS)))
    whole = loss.at_origin.mean()
    excess, apart, accepted = [], [], []
    observed: dict[str, list[Tensor]] = {name: [] for name in observe or {}}
    with _Source(generators, loss, None if full else setting.batch, total) as source:
        for step in range(total):
            noise, uniform, rows = source.next()
            batch = loss.data if rows is None else loss.batch(rows)
            base = whole if rows is None else loss.at_origin[rows].mean(1)
            drawn = step >= burn_in and (step - burn_in) % setting.every == 0
            if drawn:
                apart.append(distance(state.w, loss.origin))
                for name, function in (observe or {}).items():
                    with torch.no_grad():
                        observed[name].append(function(state.w).detach())

            def evaluate(w: Tensor, batch: tuple[Tensor, ...] = batch) -> tuple[Tensor, Tensor]:
                return gradients(w, *batch)

            if step in checks and not rule.full_batch:
                before = state.w.clone()
                known = evaluate(before)
                current = rule.step(state, lambda w, known=known: known, posterior, setting.eps, noise, uniform)  # type: ignore[misc]
                spread = rule.spread(state, setting.eps)
                if spread is not None:
                    there = state.w
                    if rule.name not in LANGEVIN:
                        there = before.clone()
                        langevin(there, known[0], posterior, spread, noise)
                    accepted.append(_mala(posterior, spread, before, current, there, noise, evaluate))
            else:
                current = rule.step(state, evaluate, posterior, setting.eps, noise, uniform)
            if drawn:
                excess.append(current - base)
                if not bool(excess[-1].isfinite().all()):
                    lost = int((~excess[-1].isfinite()).sum())
                    raise CutawayError(
                        f"{lost} of {setting.chains} chains left the floats at step {step}: the step "
                        f"eps = {setting.eps:.3g} is too large for n beta = {setting.n_beta:.3g}."
                    )
            if on is not None:
                on(step + 1, total)
    acceptance = float(torch.stack(accepted).mean()) if accepted else float("nan")
    if "accepted" in state.more:
        acceptance = float(state.more["accepted"].mean()) / total
        state.more["accepted"].zero_()
    return Draws(
        setting=setting,
        excess=torch.stack(excess, 1).double().cpu().numpy(),
        distance=torch.stack(apart, 1).double().cpu().numpy(),
        acceptance=acceptance,
        observed={name: torch.stack(values, 1) for name, values in observed.items()},
        last=state,
        how=gradients.how,
        seconds=time.perf_counter() - begun,
        steps=total,
        generators=generators,
    )


def _mala(
    posterior: Posterior,
    spread: Tensor | float,
    w: Tensor,
    loss: Tensor,
    new: Tensor,
    noise: Tensor,
    evaluate: Evaluate,
) -> Tensor:
    """min(1, p(w') q(w | w') / (p(w) q(w' | w))) of each chain's Langevin proposal w' = `new`, on one batch (Roberts &
    Tweedie 1996). With S the spread, log q(w' | w) = -|noise|^2 / 2 and log q(w | w') = -|w - w' + S/2 grad U(w')|^2 /
    2S, but for the same constant."""
    grad, after = evaluate(new)
    log_q = torch.zeros_like(loss)
    for at in spans(w):
        s = spread[:, at] if isinstance(spread, Tensor) else spread
        back = posterior.gradient(new[:, at], grad[:, at], at).mul_(s).mul_(0.5).add_(w[:, at]).sub_(new[:, at])
        back = back.div_(s.sqrt() if isinstance(s, Tensor) else s**0.5)
        log_q += (noise[:, at].square().sum(-1) - back.square().sum(-1)) / 2
    return (posterior.energy(w, loss) - posterior.energy(new, after) + log_q).exp().clamp(max=1).nan_to_num(0)


class _Source:
    """Noise [chains, d], uniforms [2, chains] and rows [chains, batch] of each step, from a chain's own generator.

    Normal numbers are as much work as the gradients of a large network, and torch draws them by one thread: with
    several, one draws the next block while the others use this one. They are the same numbers.
    """

    def __init__(self, generators: list[torch.Generator], loss: Loss, batch: int | None, steps: int) -> None:
        self.generators, self.n, self.d, self.batch = generators, loss.n, loss.d, batch
        self.like = loss.origin
        # The same block whatever the number of chains, so that a chain draws the same alone.
        self.block = max(1, min(64, _BLOCK // (8 * loss.d)))
        self.at = self.block
        self.threads = torch.get_num_threads()
        self.ahead = self.threads > 1 and len(generators) * self.block * self.d >= _WORTH_A_THREAD
        self._drawn = self._blocks(-(-steps // self.block))

    def __enter__(self) -> _Source:
        if self.ahead:
            torch.set_num_threads(self.threads - 1)
        return self

    def __exit__(self, *error: object) -> None:
        self._drawn.close()
        if self.ahead:
            torch.set_num_threads(self.threads)

    def next(self) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.at >= self.block:
            self.at = 0
            noise, uniform, rows = next(self._drawn)
            to = self.like.device
            self.block_of = noise.to(to), uniform.to(to), None if rows is None else rows.to(to)
        noise, uniform, rows = self.block_of
        i = self.at
        self.at += 1
        return noise[:, i], uniform[:, :, i], None if rows is None else rows[:, i]

    def _blocks(self, count: int) -> Generator[tuple[Tensor, Tensor, Tensor | None], None, None]:
        shape, dtype = (len(self.generators), self.block, self.d), self.like.dtype
        buffers = [torch.empty(shape, dtype=dtype) for _ in range(1 + self.ahead)]
        if not self.ahead:
            for _ in range(count):
                yield self._draw(buffers[0])
            return
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._draw, buffers[0])
            for i in range(count):
                block = coming.result()
                if i + 1 < count:
                    coming = pool.submit(self._draw, buffers[(i + 1) % 2])
                yield block

    def _draw(self, noise: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        for out, generator in zip(noise, self.generators):
            out.normal_(generator=generator)
        uniform = torch.stack([torch.rand(2, self.block, generator=g, dtype=noise.dtype) for g in self.generators], 1)
        if self.batch is None:
            return noise, uniform, None
        size = (self.block, self.batch)
        return noise, uniform, torch.stack([torch.randint(self.n, size, generator=g) for g in self.generators])
