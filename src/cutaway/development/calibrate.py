"""An LLC that finds its own setting, and says where none will do.

1. The step: eps = 0.2 / (n beta h + gamma), h the largest curvature at w* and where pilot chains go.
2. Halving: the same at eps/2 with twice the steps. SGLD's bias is linear in eps, so 2 x second - first is the limit.
3. Localisation: the same at gamma/4 and 4 gamma. On a plateau the estimate is the loss's; off it, gamma's.
4. Chains: burn-in and draws double until R-hat and effective draws suffice or the budget is spent.

Refused, with the reason, where halving or localisation moves the estimate by more than is allowed, where chains do not
agree, where they find losses lower than w*'s, and where few moves would be accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from cutaway.core import CutawayError, InputError
from cutaway.development.chains import Setting, sample
from cutaway.development.curvature import largest_eigenvalue
from cutaway.development.llc import LLC, Check, default_n_beta, llc, over_chains
from cutaway.development.loss import Loss

STABLE = 0.2  # eps k of the stiffest direction: 5 % too wide there before extrapolation
HALVING = 0.10
LOCALISATION = 0.25
ACCEPTANCE = 0.6
R_HAT, ESS = 1.05, 200.0


def find_step(loss: Loss, setting: Setting, rounds: int = 6) -> Setting:
    """The setting with its eps from curvature at w* and along short pilot chains (singular points are flat at w* and
    steep around it). Costs up to `rounds` pilots of 50 steps and 4 curvatures each (about 30 gradients a curvature).

    Raises CutawayError where no step keeps the pilots within the floats.
    """
    g = _preconditioner(loss, setting)

    def stiffness(w: Tensor) -> float:
        k = setting.n_beta * largest_eigenvalue(loss, w, scale=g, seed=setting.seed)
        return k + setting.localisation * (1.0 if g is None else float(g.max()))

    largest = stiffness(loss.origin)
    for _ in range(rounds):
        eps = STABLE / max(largest, 1e-12)
        pilot = replace(
            setting, eps=eps, chains=min(4, setting.chains), draws=50, burn_in=0, every=1, sampler=_gentle(setting)
        )
        try:
            last = sample(loss, pilot, traced=False).last.w
        except CutawayError:
            largest *= 10
            continue
        around = max(stiffness(w) for w in last)
        if around <= 1.5 * largest:
            return replace(setting, eps=STABLE / max(largest, around))
        largest = around
    if not torch.isfinite(torch.tensor(largest)):
        raise CutawayError("no step keeps the chains within the floats; lower n beta or raise the localisation.")
    return replace(setting, eps=STABLE / largest)


def calibrated_llc(
    loss: Loss,
    *,
    n_beta: float | None = None,
    localisation: float = 1.0,
    sampler: str = "sgld",
    chains: int = 8,
    draws: int = 500,
    batch: int | None = None,
    eps: float | None = None,
    budget: int = 2_000_000,
    sweep: bool = True,
    seed: int = 0,
    on: Callable[[str], None] = lambda message: None,
) -> LLC:
    """lambda hat in the limit of small steps, with checks of step, localisation and convergence.

    n_beta: n / log n by default, n the items of the data. localisation: gamma, varied by 4 either way. eps: found from
    curvature unless given. budget: gradients of a batch in all (draws double while chains disagree and it lasts).
    Costs about 6 times chains x draws gradients where chains agree at once. The estimate is never clipped.
    """
    if chains < 2:
        raise InputError(f"chains are compared with one another: at least 2 are needed, {chains} given.")
    setting = Setting(
        n_beta=default_n_beta(loss.n) if n_beta is None else n_beta,
        localisation=localisation,
        eps=1.0 if eps is None else eps,
        sampler=sampler,
        chains=chains,
        draws=draws,
        burn_in=draws // 2,
        batch=batch,
        seed=seed,
    )
    setting.check()
    if eps is None:
        setting = find_step(loss, setting)
        on(f"step eps {setting.eps:.3g} from curvature")
    spent, seconds = 0, 0.0

    def measured(at: Setting) -> LLC:
        nonlocal spent, seconds
        found = llc(loss, at)
        spent += found.gradients
        seconds += found.seconds
        return found

    first = measured(setting)
    while not _converged(first) and spent + 2 * first.gradients < budget / 4:
        # Longer by steps between draws: what is kept stays small, and burn-in grows along.
        setting = replace(setting, every=setting.every * 2, burn_in=setting.burn_in * 2)
        on(f"R-hat {first.r_hat:.2f}, {first.ess:.0f} effective draws: {setting.every} steps a draw")
        first = measured(setting)
    # HMC is exact at any step, and half the step is a half as long trajectory: nothing to extrapolate.
    exact = sampler == "hmc"
    for attempt in range(3):
        half = replace(setting, eps=setting.eps / 2, every=setting.every * 2, burn_in=setting.burn_in * 2)
        second = first if exact else measured(half)
        moved = abs(second.value - first.value) / max(abs(second.value), 1e-12)
        if moved <= HALVING or _within_noise(first, second) or attempt == 2 or spent + 4 * second.gradients > budget:
            break
        on(f"halving the step moves the estimate by {moved:.0%}: again from eps {half.eps:.3g}")
        setting, first = half, second
    per_chain = 2 * second.per_chain - first.per_chain
    estimate = over_chains(per_chain, seed)
    checks = [
        Check("change on halving eps", moved, f"<= {HALVING:g}", moved <= HALVING or _within_noise(first, second))
    ]
    refused = list(second.refused)
    if not checks[-1].passed:
        refused.append(
            f"the step dominates: {first.value:.3g} at eps {first.setting.eps:.3g}, {second.value:.3g} at half of it"
        )
    rows: list[dict[str, float]] = [
        {"localisation": localisation, "eps": first.setting.eps, "lambda": first.value},
        {"localisation": localisation, "eps": second.setting.eps, "lambda": second.value},
    ]
    if sweep and localisation > 0:
        ends = [measured(replace(setting, localisation=localisation * factor)) for factor in (0.25, 4.0)]
        rows += [
            {"localisation": e.setting.localisation, "eps": e.setting.eps, "lambda": e.value, "r_hat": e.r_hat}
            for e in ends
        ]
        swing = abs(ends[0].value - ends[1].value) / max(abs(first.value), 1e-12)
        steady = swing <= LOCALISATION or _within_noise(ends[0], ends[1])
        checks.append(Check("change from gamma/4 to 4 gamma", swing, f"<= {LOCALISATION:g}", steady))
        if not steady:
            refused.append(
                f"the localisation dominates: {ends[0].value:.3g} at gamma {localisation / 4:.3g}, "
                f"{ends[1].value:.3g} at {localisation * 4:.3g}"
            )
    if first.acceptance == first.acceptance:
        enough = first.acceptance >= ACCEPTANCE
        checks.append(Check("MALA acceptance", first.acceptance, f">= {ACCEPTANCE:g}", enough))
        if not enough:
            refused.append(f"few moves would be accepted ({first.acceptance:.2f}): the step is too large")
    return replace(
        second,
        estimate=estimate,
        per_chain=per_chain,
        acceptance=first.acceptance,
        checks=(*second.checks, *checks),
        refused=tuple(dict.fromkeys(refused)),
        sweep=tuple(rows),
        gradients=spent,
        seconds=seconds,
    )


def _converged(found: LLC) -> bool:
    return found.r_hat <= R_HAT and found.ess >= ESS


def _within_noise(a: LLC, b: LLC) -> bool:
    """Whether two estimates differ by less than their intervals' half-widths, added in squares, allow."""
    spans = [x.estimate.interval for x in (a, b)]
    if any(span is None for span in spans):
        return False
    half = sum(((span.high - span.low) / 2) ** 2 for span in spans if span is not None) ** 0.5
    return bool(abs(a.value - b.value) <= half)


def _gentle(setting: Setting) -> str:
    return "sgld" if setting.sampler in ("hmc", "sgnht") else setting.sampler


def _preconditioner(loss: Loss, setting: Setting) -> Tensor | None:
    """G = 1 / (sqrt(v) + 0.1) of RMSprop, v from 20 gradients at w*; None for the others."""
    if setting.sampler != "rmsprop":
        return None
    generator = torch.Generator().manual_seed(setting.seed)
    size = min(setting.batch or loss.n, loss.n)
    gradients = loss.gradients(shared=True, traced=False)
    v = torch.zeros_like(loss.origin)
    for _ in range(20):
        rows = torch.randint(loss.n, (size,), generator=generator) if size < loss.n else torch.arange(loss.n)
        v += gradients(loss.origin[None], *loss.batch(rows))[0][0].square() / 20
    return 1 / (v.sqrt() + 0.1)
