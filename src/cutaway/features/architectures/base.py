"""What an architecture is: which features it chooses, their values, what it asks of them, what it is saved as."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from cutaway.features.activations import Chosen, Inference

if TYPE_CHECKING:
    from cutaway.features.learner import Forward, Learner
    from cutaway.features.settings import DictionarySettings


@dataclass(frozen=True)
class At:
    """One layer of a dictionary in training, as its architecture sees it. All in normalised units."""

    learner: Learner
    layer: int

    def weight(self, name: str) -> nn.Parameter:
        return self.learner.weight(name, self.layer)

    @property
    def settings(self) -> DictionarySettings:
        return self.learner.settings

    @property
    def k(self) -> int:
        """The L0 aimed at in this step."""
        return self.learner.k

    @property
    def bf16(self) -> bool:
        return self.learner.bf16

    def buffer(self, name: str) -> Tensor:
        """A number a layer that is kept with the run, not trained: a view that may be written to."""
        return self.learner.buffers[name][self.layer]

    def decoder_norms(self) -> Tensor:
        """[F]: |W_dec| over all outputs of a feature."""
        norms: Tensor = self.weight("W_dec").flatten(1).norm(dim=1)
        return norms


class Architecture(ABC):
    """Stateless: what is learned lies in the learner's parameters, what is counted in its buffers.

    recipe       settings that suit it, beside the general ones
    saved_as     the activation of the finished dictionary
    scale_free   a feature's encoder may be scaled and its decoder divided by the same without changing anything
    reads_pairs  encodes by rows of W_enc; else it has no encoder of its own, no AuxK, and is for SAEs alone
    """

    saved_as: Inference
    recipe: Mapping[str, float] = MappingProxyType({})
    scale_free: bool = True
    reads_pairs: bool = True

    def parameters(self, settings: DictionarySettings, zeros: Tensor) -> dict[str, Tensor]:
        """Of one layer, besides W_enc, b_enc, W_dec and b_dec. zeros: [F], of the right kind."""
        return {}

    def buffers(self, settings: DictionarySettings) -> dict[str, float]:
        """Name -> first value, one a layer."""
        return {}

    @abstractmethod
    def choose(self, at: At, x: Tensor) -> tuple[Chosen, Tensor]:
        """[n, d_in] -> the pairs (with their differentiable pre-activations), and the dense ones [n, F] as `theta`."""

    def choose_fixed(self, at: At, x: Tensor) -> Chosen:
        """As the finished dictionary will; `pre` holds the activations."""
        chosen, _ = self.choose(at, x)
        return Chosen(chosen.active, self.values(at, chosen))

    def values(self, at: At, chosen: Chosen) -> Tensor:
        """The activations at the pairs, [nnz]."""
        return chosen.pre

    def penalty(self, at: At, chosen: Chosen, values: Tensor) -> Tensor | float:
        """What one layer's activations cost, a token."""
        return 0.0

    def also(self, learner: Learner, x: Tensor, y: Tensor, forward: Forward) -> Tensor | float:
        """Terms of the loss that need all layers."""
        return 0.0

    def bounds(self, features: int, groups: tuple[float, ...]) -> tuple[int, ...]:
        """Ends of the nested prefixes, each of which must reconstruct alone; () for one dictionary."""
        return ()

    @abstractmethod
    def theta(self, at: At) -> Tensor:
        """[F]: the pre-activation over which a feature is active; zeros where that is no threshold."""

    def pre_offset(self, at: At, features: Tensor) -> Tensor | float:
        """What the dense pre-activations of `choose` lack."""
        return 0

    def begin(self, at: At, x: Tensor) -> None:
        """Before the first step, on normalised inputs [n, d_in]: where activity is a threshold's, it starts near what
        will be asked for, since a bias that Adam must carry there takes more steps than a short run has."""
        return

    def anneal(self, learner: Learner, done: float) -> None:
        """Before a step; `done` is the share of steps taken."""
        return

    def count(self, at: At, chosen: Chosen, values: Tensor) -> None:
        """After a step."""
        return

    def calibrate(self, at: At, x: Tensor, l0: float) -> None:
        """At the end, on normalised inputs [n, d_in]: set the levels at which features fire, so that `l0` of them do a
        token. Training only follows that: by a running mean, or by a penalty's weight, which a rate that falls to
        zero leaves without effect."""
        return

    def folded(self, at: At) -> tuple[Tensor, Tensor, Tensor | None]:
        """(W_enc [F, d_in], b_enc [F], threshold [F] or None) of the finished dictionary."""
        return at.weight("W_enc"), at.weight("b_enc"), None

    def saved_fields(self, settings: DictionarySettings) -> dict[str, Any]:
        """What else the finished dictionary holds."""
        return {}


DAMPING = 20  # steps ahead at which the change of the L0 is looked at
REACH = 4.0  # how far log lambda can move in a run, however short


def adapting(settings: DictionarySettings, always: bool = False) -> dict[str, float]:
    """The buffers of a penalty whose weight moves (or that keeps one always)."""
    moving = {"penalty": settings.sparsity, "error": math.nan, "before": math.nan}
    return moving if settings.adapt else {"penalty": settings.sparsity} if always else {}


def adapted(at: At, chosen: Chosen, values: Tensor) -> None:
    """Move the weight of a penalty towards the L0 aimed at in this step, with damping, since L0 follows it late:

    e = log(L0 / k) within +-1;   log lambda += rate (e_t + 20 (e_t - e_{t-1})),   rate = max(adapt, 4 / steps)

    so that a short run, too, can go as far as it must.
    """
    if at.settings.adapt:
        l0 = float(at.learner.pooled((values.detach() > 0).double().sum() / chosen.active.n_tokens))
        error = max(-1.0, min(1.0, math.log(max(l0, 1e-9) / at.k)))
        before = float(at.buffer("error"))
        change = 0.0 if math.isnan(before) else error - before
        at.buffer("error").fill_(error)
        stride = at.learner.done - float(at.buffer("before"))  # NaN at the first step
        at.buffer("before").fill_(at.learner.done)
        rate = max(at.settings.adapt, REACH * stride) if stride > 0 else at.settings.adapt
        # Damping looks as far ahead in a short run as its steps are many.
        ahead = min(DAMPING, 1 / rate)
        at.buffer("penalty").mul_(math.exp(rate * (error + ahead * change)))
