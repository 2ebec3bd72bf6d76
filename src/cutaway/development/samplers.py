"""Samplers of p(w) ~ exp(-n beta L_n(w) - gamma/2 |w - w*|^2), one rule each, for all chains at once.

A rule moves positions w [chains, d] given grad L [chains, d] on each chain's batch and standard normal noise of the
same shape. In all of them eps is a step in time such that a mode of curvature k is stable for eps k < 4.

SGLD (Welling & Teh 2011; Lau et al. 2023)   w += eps/2 (-n beta grad L - gamma (w - w*)) + N(0, eps)
RMSprop-SGLD (Li et al. 2016)                the same with eps G, G = 1/(sqrt(v) + 0.1), v a running mean of grad L^2
SGNHT (Ding et al. 2014)                     dw = p dt, dp = -grad U dt - xi p dt + sqrt(2 A) dW, dxi = (p.p/d - 1) dt,
                                             h = sqrt(eps), split as BADODAB (Leimkuhler & Shang 2016)
HMC (Duane et al. 1987)                      leapfrogs of h = sqrt(eps) on all data, accepted or not; exact for any eps
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from cutaway.core import UnknownName

SPAN = 131_072  # numbers: half a MB in single precision


@dataclass(frozen=True)
class Posterior:
    """n beta, gamma and w* [d]."""

    n_beta: float
    localisation: float
    origin: Tensor

    def gradient(self, w: Tensor, grad: Tensor, at: slice = slice(None)) -> Tensor:
        """grad U = n beta grad L + gamma (w - w*), or its part `at` from those parts of w and grad L."""
        return torch.add(grad * self.n_beta, w - self.origin[at], alpha=self.localisation)

    def energy(self, w: Tensor, loss: Tensor) -> Tensor:
        """U [chains] = n beta L + gamma/2 |w - w*|^2."""
        return self.n_beta * loss + 0.5 * self.localisation * distance(w, self.origin).square()


def spans(w: Tensor) -> Iterator[slice]:
    """Parts of w [chains, d] that stay in the cache while several operations go over them: those of ten million
    weights wait for memory, and allocate more of it, for longer than they compute."""
    width = max(1, SPAN // len(w))
    for at in range(0, w.shape[1], width):
        yield slice(at, at + width)


def distance(w: Tensor, origin: Tensor) -> Tensor:
    """|w - w*| of each chain, [chains]."""
    norms, held = [], torch.empty_like(w[:, : max(1, SPAN // len(w))])
    for at in spans(w):
        part = w[:, at]
        apart = torch.sub(part, origin[at], out=held[:, : part.shape[1]])
        norms.append(torch.linalg.vector_norm(apart, dim=-1))
    whole: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    return whole


@dataclass
class State:
    """Positions [chains, d] and whatever a rule carries along."""

    w: Tensor
    more: dict[str, Tensor] = field(default_factory=dict)


Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]  # w -> (grad L, L) on this step's batch


class Sampler(Protocol):
    """One rule. `step` draws the loss at the current position, then moves: it returns that loss [chains].

    `spread` is the covariance eps G of a Langevin proposal at the rule's step, by which chains.py says how many moves
    a Metropolis test would accept; None for a rule that tests its moves itself.
    """

    @property
    def name(self) -> str: ...

    @property
    def full_batch(self) -> bool: ...

    def start(self, state: State, posterior: Posterior, eps: float) -> None: ...

    def step(
        self, state: State, evaluate: Evaluate, posterior: Posterior, eps: float, noise: Tensor, uniform: Tensor
    ) -> Tensor: ...

    def spread(self, state: State, eps: float) -> Tensor | float | None: ...


def langevin(w: Tensor, grad: Tensor, posterior: Posterior, spread: Tensor | float, noise: Tensor) -> None:
    """w += S/2 (-n beta grad L - gamma (w - w*)) + N(0, S), S the `spread`; in place, no memory but what S has."""
    gamma, n_beta, origin = posterior.localisation, posterior.n_beta, posterior.origin
    for at in spans(w):
        part, home = w[:, at], origin[at].expand_as(w[:, at])
        if isinstance(spread, Tensor):
            s = spread[:, at]
            part.lerp_(home, s * (gamma / 2))
            part.addcmul_(grad[:, at], s, value=-n_beta / 2).addcmul_(noise[:, at], s.sqrt())
        else:
            if gamma:
                part.lerp_(home, spread * gamma / 2)
            part.add_(grad[:, at], alpha=-spread * n_beta / 2).add_(noise[:, at], alpha=spread**0.5)


@dataclass(frozen=True)
class SGLD:
    name: str = "sgld"
    full_batch: bool = False

    def start(self, state: State, posterior: Posterior, eps: float) -> None:
        pass

    def step(
        self, state: State, evaluate: Evaluate, posterior: Posterior, eps: float, noise: Tensor, uniform: Tensor
    ) -> Tensor:
        grad, loss = evaluate(state.w)
        langevin(state.w, grad, posterior, eps, noise)
        return loss

    def spread(self, state: State, eps: float) -> float:
        return eps


@dataclass(frozen=True)
class RMSpropSGLD:
    """`stability` is the 0.1 of G; v starts at the first gradient's square, so that early steps are not large.

    G depends on where the chain is, and the term in its divergence is left out, as by Li et al.: on a regular model of
    10 weights estimates are 14, 5 and 2 % high at alpha .9, .99 and .999, whatever the step.
    """

    alpha: float = 0.99
    stability: float = 0.1
    name: str = "rmsprop"
    full_batch: bool = False

    def start(self, state: State, posterior: Posterior, eps: float) -> None:
        pass

    def step(
        self, state: State, evaluate: Evaluate, posterior: Posterior, eps: float, noise: Tensor, uniform: Tensor
    ) -> Tensor:
        grad, loss = evaluate(state.w)
        v = state.more.setdefault("v", grad.square())
        v.mul_(self.alpha).addcmul_(grad, grad, value=1 - self.alpha)
        langevin(state.w, grad, posterior, self.spread(state, eps), noise)
        return loss

    def spread(self, state: State, eps: float) -> Tensor:
        """eps G of the last step. What G changes from step to step is not in it, nor in the move."""
        return eps / (state.more["v"].sqrt() + self.stability)


@dataclass(frozen=True)
class SGNHT:
    """`friction`: A h, what momenta lose in a step; the thermostat xi finds the rest, batch noise included."""

    friction: float = 0.2
    name: str = "sgnht"
    full_batch: bool = False

    def start(self, state: State, posterior: Posterior, eps: float) -> None:
        state.more["xi"] = torch.full_like(state.w[:, :1], self.friction / eps**0.5)

    def step(
        self, state: State, evaluate: Evaluate, posterior: Posterior, eps: float, noise: Tensor, uniform: Tensor
    ) -> Tensor:
        grad, loss = evaluate(state.w)
        if "p" not in state.more:  # momenta start in equilibrium
            state.more["p"] = noise.clone()
        h, a, p, xi = eps**0.5, self.friction / eps**0.5, state.more["p"], state.more["xi"]
        p.sub_(posterior.gradient(state.w, grad), alpha=h)
        state.w.add_(p, alpha=h / 2)
        xi.add_(p.square().mean(-1, keepdim=True) - 1, alpha=h / 2)
        # dp = -xi p dt + sqrt(2 A) dW, exactly over h: the variance added is A (1 - exp(-2 xi h)) / xi
        safe = torch.where(xi.abs() < 1e-6, 1e-6, xi)
        p.mul_(torch.exp(-h * safe)).add_((a * -torch.expm1(-2 * h * safe) / safe).sqrt() * noise)
        xi.add_(p.square().mean(-1, keepdim=True) - 1, alpha=h / 2)
        state.w.add_(p, alpha=h / 2)
        return loss

    def spread(self, state: State, eps: float) -> float:
        """A Langevin proposal of variance h^2 is one leapfrog of h with a fresh momentum."""
        return eps


@dataclass(frozen=True)
class HMC:
    """`leapfrogs` steps a draw. For tiny cases: every leapfrog reads all data."""

    leapfrogs: int = 20
    name: str = "hmc"
    full_batch: bool = True

    def start(self, state: State, posterior: Posterior, eps: float) -> None:
        state.more["accepted"] = torch.zeros_like(state.w[:, 0])

    def step(
        self, state: State, evaluate: Evaluate, posterior: Posterior, eps: float, noise: Tensor, uniform: Tensor
    ) -> Tensor:
        # Trajectories of one length would never mix a mode whose period they are a multiple of.
        h, w, p = eps**0.5 * (0.7 + 0.3 * uniform[1][:, None]), state.w.clone(), noise
        if "grad" not in state.more:
            grad, state.more["loss"] = evaluate(w)
            state.more["grad"] = grad.clone()  # the next evaluation may write where this one did
        grad, loss = state.more["grad"], state.more["loss"]
        before = posterior.energy(w, loss) + 0.5 * p.square().sum(-1)
        p = p - 0.5 * h * posterior.gradient(w, grad)
        for i in range(self.leapfrogs):
            w = w + h * p
            grad, new = evaluate(w)
            p = p - (0.5 if i == self.leapfrogs - 1 else 1.0) * h * posterior.gradient(w, grad)
        after = posterior.energy(w, new) + 0.5 * p.square().sum(-1)
        # A trajectory that left the floats is refused like any other of infinite energy.
        accept = uniform[0] < (before - after).nan_to_num(nan=-torch.inf).exp()
        state.w = torch.where(accept[:, None], w, state.w)
        state.more["grad"] = torch.where(accept[:, None], grad, state.more["grad"])
        state.more["loss"] = torch.where(accept, new, loss)
        state.more["accepted"] += accept
        return loss

    def spread(self, state: State, eps: float) -> None:
        return None


LANGEVIN = ("sgld", "rmsprop")  # rules whose step is itself a Langevin proposal
SAMPLERS: dict[str, Callable[..., Any]] = {"sgld": SGLD, "rmsprop": RMSpropSGLD, "sgnht": SGNHT, "hmc": HMC}


def named(sampler: str | Sampler) -> Sampler:
    """A sampler by name, or as given. Raises UnknownName."""
    if not isinstance(sampler, str):
        return sampler
    if sampler not in SAMPLERS:
        raise UnknownName("sampler", sampler, SAMPLERS)
    made: Sampler = SAMPLERS[sampler]()
    return made
