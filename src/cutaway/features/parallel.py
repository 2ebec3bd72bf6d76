"""One dictionary over several processes: the step is that of one process on the whole batch.

    batch      each process takes a share of every batch, all hold all features; gradients are averaged
    features   each holds a share of the features, all see the whole batch; what they write is summed

What a loss asks of the whole batch, or of all features, is agreed on (`pooled`): the n k largest of BatchTopK, the k
largest of a token, the L0 that a penalty or `adapt` looks at, the dead features that AuxK takes. Equal to one process
to 1e-8 over 20 steps in float64 (tests/features/test_parallel.py). Resampling draws tokens by their loss and is
refused; matching pursuit looks for one best feature after another, so that its features stay together.

    torchrun --nproc-per-node 2 -m cutaway dictionary train …
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cutaway.core import InputError
from cutaway.features import activations as rules
from cutaway.features import processes
from cutaway.features.activations import Chosen
from cutaway.features.architectures.base import Architecture, At
from cutaway.features.architectures.batchtopk import BatchTopK, Matryoshka
from cutaway.features.architectures.topk import TopK
from cutaway.features.learner import Forward, Learner
from cutaway.features.settings import DictionarySettings
from cutaway.features.sparse import Active

Split = Literal["batch", "features"]
SPLITS = ("batch", "features")
_WHOLE = ("b_dec", "W_skip")  # parameters that are no feature's


def check_split(split: Split, batch: int) -> None:
    """Raises `InputError` for a split that is none, and a batch that does not divide over the processes."""
    if split not in SPLITS:
        raise InputError(f"work is split over processes by {' or '.join(SPLITS)}, not {split!r}.")
    if split == "batch":
        processes.divides(batch, "the batch")


def learner_class(split: Split) -> type[Learner]:
    """The class of the learners here: plain in a process that is alone."""
    if not processes.active():
        return Learner
    return BatchShare if split == "batch" else FeatureShare


def share_of_batch(split: Split, n: int) -> slice:
    """Which of a batch's n tokens this process trains on."""
    return processes.share(n) if split == "batch" else slice(None)


class _Parallel(Learner):
    def __init__(self, settings: DictionarySettings, *args: Any, **more: Any) -> None:
        if settings.resample:
            raise InputError(f"{settings.name}: resampling draws from the whole batch's losses: one process only.")
        super().__init__(settings, *args, **more)
        self.architecture = _OURS.get(settings.activation, self.architecture)

    def wanted(self, n_tokens: int) -> int:
        """How many pairs of the whole batch BatchTopK keeps; n_tokens: here."""
        raise NotImplementedError


class BatchShare(_Parallel):
    """All features, a share of every batch."""

    def wanted(self, n_tokens: int) -> int:
        return self.k * n_tokens * processes.world()

    def pooled(self, value: Tensor) -> Tensor:
        return value + (processes.total(value) / processes.world() - value.detach())

    def combine_gradients(self) -> None:
        for p in self.parameters.values():
            if p.requires_grad:
                p.grad = processes.total(torch.zeros_like(p) if p.grad is None else p.grad) / processes.world()

    @torch.no_grad()
    def count(self, forward: Forward) -> None:
        before = self.since_fired.clone()
        super().count(forward)
        fired = processes.total((self.since_fired == 0).to(torch.int32)) > 0
        tokens = forward.chosen[0].active.n_tokens * processes.world()
        self.since_fired = torch.where(fired, torch.zeros_like(before), before + tokens)


class FeatureShare(_Parallel):
    """The whole batch, features first : first + F / world. All are drawn as one process draws them, then cut."""

    def __init__(self, settings: DictionarySettings, *args: Any, **more: Any) -> None:
        processes.divides(settings.features, f"{settings.name}: the number of features")
        if settings.activation == "matching_pursuit":
            raise InputError("matching pursuit looks for one best feature after another: split the batch instead.")
        super().__init__(settings, *args, **more)
        each = settings.features // processes.world()
        self.first = processes.rank() * each
        self.mine = slice(self.first, self.first + each)
        held = {name: self._cut(name, p.detach()) for name, p in self.parameters.items()}
        self.take({name: nn.Parameter(value, self.parameters[name].requires_grad) for name, value in held.items()})
        self.since_fired = self.since_fired[:, self.mine].clone()

    def _cut(self, name: str, value: Tensor) -> Tensor:
        return value if name.rpartition("_")[0] in _WHOLE or value.ndim == 0 else value[self.mine].clone()

    def wanted(self, n_tokens: int) -> int:
        return self.k * n_tokens

    def pooled(self, value: Tensor) -> Tensor:
        return value + (processes.total(value) - value.detach())

    def anywhere(self, n: int) -> bool:
        return bool(processes.total(torch.tensor(n, device=self.since_fired.device)) > 0)

    def among_largest(self, values: Tensor, k: int) -> Tensor:
        padded = values.new_full((len(values), k), -torch.inf)
        padded[:, : values.shape[1]] = values.detach()
        every = processes.gathered(padded, 1)
        return values >= every.topk(k, dim=1).values[:, -1:]

    def written(
        self, layer: int, values: Tensor, active: Active, W_dec: Tensor | None = None
    ) -> Sequence[Tensor]:  # fmt: skip
        parts = torch.stack(list(super().written(layer, values, active, W_dec)))
        return processes.summed(parts).unbind(0)

    def choose_fixed(self, layer: int, x: Tensor) -> Chosen:
        return super().choose_fixed(layer, processes.spread(x))

    def _groups(self, values: Tensor, active: Active) -> Iterator[tuple[int, Tensor, Active]]:
        for prefix, (start, end) in enumerate(zip((0, *self.bounds), self.bounds)):
            inside = (active.features >= start - self.first) & (active.features < end - self.first)
            yield prefix, values[inside], active.kept(inside)

    def combine_gradients(self) -> None:
        # Everyone computes the same here; averaged, so that not even rounding sets them apart.
        for name, p in self.parameters.items():
            if p.grad is not None and name.rpartition("_")[0] in _WHOLE:
                p.grad = processes.total(p.grad) / processes.world()

    def whole(self) -> Learner:
        made = Learner(
            self.settings, self.n_layers, self.d_in, self.d_out, self.normal, bf16=self.bf16,
            dtype=self.threshold.dtype, device=self.since_fired.device,
        )  # fmt: skip
        held = {}
        for name, value in super().state().items():
            kind, _, rest = name.partition(".")
            parameter, _, moment = rest.partition(".")
            if name == "since_fired":
                value = processes.gathered(value, 1)
            elif kind in ("parameter", "adam") and moment != "step" and parameter.rpartition("_")[0] not in _WHOLE:
                value = processes.gathered(value)
            held[name] = value
        made.restore(held)
        made.k, made.done = self.k, self.done
        return made

    def state(self) -> dict[str, Tensor]:
        """As one process has it, so that a run goes on with another number of them."""
        return self.whole().state()

    def restore(self, state: dict[str, Tensor]) -> None:
        held = {}
        for name, value in state.items():
            kind, _, rest = name.partition(".")
            if name == "since_fired":
                value = value[:, self.mine]
            elif kind in ("parameter", "adam"):
                value = self._cut(rest.partition(".")[0], value)
            held[name] = value
        super().restore(held)


class _Global(BatchTopK):
    """The n k largest of all processes' pairs."""

    def choose(self, at: At, x: Tensor) -> tuple[Chosen, Tensor]:
        learner = at.learner
        assert isinstance(learner, _Parallel)
        W_enc, b_enc = at.weight("W_enc"), at.weight("b_enc")
        pre = rules.dense_pre(x, W_enc, b_enc, bf16=at.bf16)
        wanted, bound = learner.wanted(len(x)), 0.9 * max(0.0, float(learner.threshold[at.layer]))
        while True:  # the same bound everywhere, so that all look as often
            own = rules.over(pre - bound, x, W_enc, b_enc, torch.full_like(b_enc, bound))
            found = int(processes.total(torch.tensor(len(own.active), device=x.device)))
            if found >= wanted or bound <= 0:
                break
            bound = bound / 2 if bound > 1e-3 else 0.0
        if found > wanted:
            values = own.pre.detach()
            keep = values >= processes.gathered(values).topk(wanted).values[-1]
            own = Chosen(own.active.kept(keep), own.pre[keep.nonzero()[:, 0]])
        return own, pre

    def count(self, at: At, chosen: Chosen, values: Tensor) -> None:
        lowest = float(processes.least(torch.tensor(chosen.lowest, dtype=torch.float64, device=values.device)))
        if lowest < float("inf"):
            threshold = at.learner.threshold
            old = threshold[at.layer]
            threshold[at.layer] = lowest if old == 0 else 0.98 * old + 0.02 * lowest


class _GlobalMatryoshka(_Global, Matryoshka):
    pass


class _EachToken(TopK):
    """The k largest of a token over all processes' features."""

    def choose(self, at: At, x: Tensor) -> tuple[Chosen, Tensor]:
        own, pre = super().choose(at, x)
        active = own.active
        place = torch.arange(len(active), device=x.device) - active.offsets[active.tokens]
        values = own.pre.new_full((len(x), at.k), -torch.inf)
        values[active.tokens, place] = own.pre.detach()
        keep = at.learner.among_largest(values, at.k)[active.tokens, place]
        return Chosen(active.kept(keep), own.pre[keep.nonzero()[:, 0]]), pre


_OURS: dict[str, Architecture] = {"batchtopk": _Global(), "matryoshka": _GlobalMatryoshka(), "topk": _EachToken()}
