"""One dictionary while it is trained: its parameters, its loss, its step.

    x^l, y^l   input and output of MLP l, less their mean, divided by one scale a layer (folded away at the end)
    h^l        W_enc^l x^l + b_enc^l;  a^l the chosen h (activations.py)
    y_hat^m    b_dec^m + sum over l that write to m of W_dec^{l->m} a^l  (+ W_skip^m x^m)
    loss       mean over tokens, sum over layers of |y - y_hat|^2 / (|y|^2 + floor d), plus the terms of settings.py

Layers are looped over: each has its own active set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from cutaway.core import InputError
from cutaway.features.activations import Chosen
from cutaway.features.architectures import ARCHITECTURES, At
from cutaway.features.dead import resample, revive
from cutaway.features.normalise import Normalisation
from cutaway.features.sae import SAE
from cutaway.features.settings import DictionarySettings, Kind
from cutaway.features.sparse import Active, decode
from cutaway.features.transcoders import Layer, Transcoders


@dataclass
class Step:
    """What one step did: numbers for the live frontier."""

    loss: float
    l0: list[float]
    median_error: list[float]
    explained_variance: list[float]
    dead: float


@dataclass
class Forward:
    """A pass over a batch: what was chosen a layer, the activations there [nnz], and y_hat [layers][n, d_out]."""

    chosen: list[Chosen]
    values: list[Tensor]
    y_hat: list[Tensor]
    nested: list[list[Tensor]]  # of a Matryoshka: y_hat of each prefix, the last one whole


class Learner:
    """Parameters (normalised units), Adam's state and the counts of one dictionary.

    Raises `InputError` where settings and shapes disagree.
    """

    def __init__(
        self, settings: DictionarySettings, n_layers: int, d_in: int, d_out: int, normal: Normalisation,
        *, bf16: bool = False, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        self.settings, self.normal, self.bf16 = settings, normal, bf16
        self.architecture = ARCHITECTURES[settings.activation]
        self.bounds = self.architecture.bounds(settings.features, settings.groups)
        self.n_layers, self.d_in, self.d_out = n_layers, d_in, d_out
        self.lr = settings.lr or 0.15 / d_in**0.5
        self.take(_initial(settings, n_layers, d_in, d_out, dtype, device))
        self.threshold = torch.zeros(n_layers, dtype=dtype)
        self.since_fired = torch.zeros(n_layers, settings.features, dtype=torch.long, device=device)
        self.buffers = {
            name: torch.full((n_layers,), value, dtype=torch.float64)
            for name, value in self.architecture.buffers(settings).items()
        }
        self.k = settings.l0
        self.done, self.seen = 0.0, 0  # share of the steps, tokens
        self.dense_pre: dict[int, Tensor] = {}  # pre-activations of the batch at hand

    # ------------------------------------------------------------------------------------------------- structure

    def writes(self, layer: int) -> range:
        return range(layer, self.n_layers if self.settings.kind == "clt" else layer + 1)

    def weight(self, name: str, layer: int) -> nn.Parameter:
        return self.parameters[f"{name}_{layer}"]

    def take(self, parameters: dict[str, nn.Parameter]) -> None:
        """Train these, with a new optimiser."""
        self.parameters = parameters
        learned = [p for p in parameters.values() if p.requires_grad]
        self.optimiser = torch.optim.Adam(learned, lr=self.lr, betas=(0.9, 0.999), fused=True)

    # ----------------------------------------------- what several processes agree on (parallel.py); alone, as it is

    def pooled(self, value: Tensor) -> Tensor:
        """Of this process's mean over tokens, the number for the whole batch and all features. Differentiable."""
        return value

    def anywhere(self, n: int) -> bool:
        """Whether any process has any."""
        return n > 0

    def among_largest(self, values: Tensor, k: int) -> Tensor:
        """Which of a token's values [n, at most k] are among its k largest of all features."""
        return torch.ones_like(values, dtype=torch.bool)

    def combine_gradients(self) -> None:
        """After the backward pass, before the step."""
        return

    def whole(self) -> Learner:
        """With all features."""
        return self

    # --------------------------------------------------------------------------------------------------- forward

    def at(self, layer: int) -> At:
        return At(self, layer)

    def choose_fixed(self, layer: int, x: Tensor) -> Chosen:
        """The active pairs of [n, d_in] in normalised units, as the finished dictionary will have them."""
        return self.architecture.choose_fixed(self.at(layer), x)

    def written(self, layer: int, values: Tensor, active: Active, W_dec: Tensor | None = None) -> Sequence[Tensor]:
        """What a layer's features write to each output of `writes(layer)`: tensors [n, d_out]."""
        W_dec = self.weight("W_dec", layer) if W_dec is None else W_dec  # [F, outputs, d_out]
        return decode(values, W_dec.flatten(1), active).view(active.n_tokens, -1, self.d_out).unbind(1)

    def bias(self, layer: int, x: Tensor) -> Tensor:
        """[n, d_out]: the output's bias, with the skip connection where there is one."""
        out = self.weight("b_dec", layer).expand(x.shape[0], -1)
        return out + x @ self.weight("W_skip", layer).T if self.settings.skip else out

    def forward(self, x: Tensor) -> Forward:
        """x [layers, n, d_in], normalised."""
        found, values, y_hat = [], [], [self.bias(layer, x[layer]) for layer in range(self.n_layers)]
        nested = [list(y_hat) for _ in self.bounds]
        for layer in range(self.n_layers):
            at = self.at(layer)
            chosen, pre = self.architecture.choose(at, x[layer])
            a = self.architecture.values(at, chosen)
            for m, part in zip(self.writes(layer), self.written(layer, a, chosen.active) if not self.bounds else ()):
                y_hat[m] = y_hat[m] + part
            for prefix, part, active in self._groups(a, chosen.active):
                for m, written in zip(self.writes(layer), self.written(layer, part, active)):
                    for longer in nested[prefix:]:
                        longer[m] = longer[m] + written
            found.append(chosen)
            values.append(a)
            self.dense_pre[layer] = pre
        return Forward(found, values, nested[-1] if nested else y_hat, nested)

    def _groups(self, values: Tensor, active: Active) -> Iterator[tuple[int, Tensor, Active]]:
        """The pairs of each nested prefix that the one before does not have."""
        for prefix, (start, end) in enumerate(zip((0, *self.bounds), self.bounds)):
            inside = (active.features >= start) & (active.features < end)
            yield prefix, values[inside], active.kept(inside)

    # ------------------------------------------------------------------------------------------------------ loss

    def loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Forward]:
        """x [layers, n, d_in], y [layers, n, d_out], normalised -> the loss to step on."""
        self.dense_pre = {}
        forward = self.forward(x)
        total = x.new_zeros(())
        for layer in range(self.n_layers):
            total = total + self._reconstructions(y[layer], layer, forward)
            chosen, values = forward.chosen[layer], forward.values[layer]
            total = total + self.architecture.penalty(self.at(layer), chosen, values)
        total = total + revive(self, x, y, forward)
        total = total + self.architecture.also(self, x, y, forward)
        return total, forward

    def _reconstructions(self, y: Tensor, layer: int, forward: Forward) -> Tensor:
        if not forward.nested:
            return self.reconstruction(y, forward.y_hat[layer])
        return torch.stack([self.reconstruction(y, prefix[layer]) for prefix in forward.nested]).mean()

    def reconstruction(self, y: Tensor, y_hat: Tensor) -> Tensor:
        """mean over tokens of |y - y_hat|^2 / (|y|^2 + floor d); units are such that the median of |y|^2 is d."""
        return ((y - y_hat).square().sum(-1) * self.token_weight(y)).mean()

    def token_weight(self, y: Tensor) -> Tensor:
        """[n, d_out] -> [n]."""
        if self.settings.floor is None:
            return torch.full_like(y[:, 0], 1 / self.d_out)
        return 1 / (y.square().sum(-1) + self.settings.floor * self.d_out).clamp_min(1e-12)

    # ------------------------------------------------------------------------------------------------------ step

    def begin(self, x: Tensor) -> Self:
        """Before the first step, on raw inputs x [layers, n, d_in]."""
        for layer in range(self.n_layers):
            self.architecture.begin(self.at(layer), self.normal.inputs(x[layer], layer).to(self.threshold.dtype))
        return self

    def anneal(self, done: float) -> None:
        """Bring the l0 down from where it starts; `done` is the share of the steps taken."""
        start, end = self.settings.l0_start or 3 * self.settings.l0, self.settings.l0
        left = 1 - done / self.settings.l0_anneal if self.settings.l0_anneal else 0.0
        self.k = min(self.settings.features, round(end + (start - end) * max(0.0, left)))
        self.done = done
        self.architecture.anneal(self, done)

    def step(self, x: Tensor, y: Tensor, lr: float) -> Step:
        """One Adam step on raw activations x [layers, n, d_in], y [layers, n, d_out].

        Raises `InputError` where the loss is NaN or infinite, before the parameters are.
        """
        x, y = self.normal.inputs(x), self.normal.outputs(y)
        loss, forward = self.loss(x, y)
        if not bool(torch.isfinite(loss.detach())):
            why = "the rate is too high" if _finite(x, y) else "some activations are NaN or infinite"
            raise InputError(f"{self.settings.name}: the loss is {float(loss.detach())}: {why} (rate {lr:.2g}).")
        self.update(loss, lr)
        self.count(forward)
        every = self.settings.resample
        before, self.seen = self.seen, self.seen + x.shape[1]
        if every and before // every < self.seen // every:
            resample(self, x, y, forward, self.seen)
        return self.report(float(loss.detach()), y, forward)

    def update(self, loss: Tensor, lr: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        loss.backward()  # type: ignore[no-untyped-call]
        self.combine_gradients()
        if self.settings.decoder == "unit":
            self._along_the_sphere()
        self.optimiser.step()
        if self.settings.decoder == "unit":
            self._to_the_sphere()
        self.optimiser.zero_grad(set_to_none=True)

    @torch.no_grad()
    def count(self, forward: Forward) -> None:
        """Keep which features fired, and the running threshold of BatchTopK."""
        for layer, chosen in enumerate(forward.chosen):
            features = chosen.active.features[forward.values[layer].detach() > 0]
            self.since_fired[layer] += chosen.active.n_tokens
            self.since_fired[layer, features] = 0
            self.architecture.count(self.at(layer), chosen, forward.values[layer])

    @torch.no_grad()
    def _along_the_sphere(self) -> None:
        """Take out of each decoder's gradient what would change its length."""
        for layer in range(self.n_layers):
            W_dec = self.weight("W_dec", layer)
            if W_dec.grad is not None:
                flat, g = W_dec.flatten(1), W_dec.grad.flatten(1)
                unit = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-12)
                W_dec.grad -= ((g * unit).sum(1, keepdim=True) * unit).view_as(W_dec)

    @torch.no_grad()
    def _to_the_sphere(self) -> None:
        for layer in range(self.n_layers):
            W_dec = self.weight("W_dec", layer)
            W_dec.div_(W_dec.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None])

    @torch.no_grad()
    def replace_rows(self, name: str, layer: int, rows: Tensor, value: Tensor) -> None:
        """Write parameters of some features, and forget what Adam knew of them."""
        p = self.weight(name, layer)
        p[rows] = value
        for key in ("exp_avg", "exp_avg_sq"):
            held = self.optimiser.state.get(p, {})
            if key in held:
                held[key][rows] = 0

    @torch.no_grad()
    def report(self, loss: float, y: Tensor, forward: Forward) -> Step:
        l0, median, explained = [], [], []
        for layer in range(self.n_layers):
            error = (y[layer] - forward.y_hat[layer]).square().sum(-1)
            size = y[layer].square().sum(-1)
            l0.append(float(self.pooled((forward.values[layer] > 0).double().sum() / y.shape[1])))
            median.append(float((error / size.clamp_min(1e-12)).median()))
            explained.append(1 - float(error.sum() / size.sum().clamp_min(1e-12)))
        dead = float((self.since_fired > self.settings.dead_after).float().mean())
        return Step(loss, l0, median, explained, dead)

    # ---------------------------------------------------------------------------------------------------- export

    @torch.no_grad()
    def calibrate(self, x: Tensor, margin: float = 0.98) -> None:
        """At the end, on raw inputs x [layers, n, d_in]: set the levels at which features fire.

        They leave `margin` x l0 active features a token, since on other text a few more fire than on this. Nothing
        moves where no L0 was asked for: a penalty of fixed weight.
        """
        for layer in range(self.n_layers):
            self.architecture.calibrate(self.at(layer), self.normal.inputs(x[layer], layer), margin * self.settings.l0)

    @torch.no_grad()
    def folded(self, layer: int) -> Layer:
        """One layer in the model's own units: normalisation folded into weights and biases, exactly."""
        scale_x, scale_y = self.normal.x_scale[layer], self.normal.y_scale
        W_enc, b_enc, threshold = self.architecture.folded(self.at(layer))
        outputs = self.writes(layer)
        W_dec = self.weight("W_dec", layer) * scale_y[outputs.start : outputs.stop, None]
        b_dec = self.weight("b_dec", layer) * scale_y[layer] + self.normal.y_mean[layer]
        if not self.architecture.reads_pairs:  # its values scale with its input, and its decoder reads
            return Layer(W_enc=W_enc, b_enc=b_enc, W_dec=W_enc[:, None].clone(), b_dec=b_dec)
        W_enc = W_enc / scale_x
        b_enc = b_enc - W_enc @ self.normal.x_mean[layer]
        W_skip = None
        if self.settings.skip:
            W_skip = self.weight("W_skip", layer) * scale_y[layer] / scale_x
            b_dec = b_dec - W_skip @ self.normal.x_mean[layer]
        # Unit decoders: an activation is then the length of what the feature writes, in every dictionary alike.
        # TopK compares activations with one another, so there each keeps its scale.
        norm = W_dec.flatten(1).norm(dim=1).clamp_min(1e-12)
        if not self.architecture.scale_free:
            norm = torch.ones_like(norm)
        return Layer(
            W_enc=W_enc * norm[:, None], b_enc=b_enc * norm, W_dec=W_dec / norm[:, None, None], b_dec=b_dec,
            threshold=None if threshold is None else threshold * norm, W_skip=W_skip,
        )  # fmt: skip

    def transcoders(self, **about: Any) -> Transcoders:
        """The finished set."""
        layers = tuple(self.folded(layer) for layer in range(self.n_layers))
        fields = {**self.architecture.saved_fields(self.settings), **about}
        return Transcoders(
            kind=cast(Kind, self.settings.kind), rule=self.architecture.saved_as, layers=layers, **fields
        )

    def sae(self, **about: Any) -> SAE:
        """The finished dictionary of one point."""
        held = self.folded(0)
        fields = {**self.architecture.saved_fields(self.settings), **about}
        tensors = {**held.tensors(), "W_dec": held.W_dec[:, 0]}
        return SAE.from_tensors(tensors, rule=self.architecture.saved_as, **fields)

    # ----------------------------------------------------------------------------------------------------- state

    def state(self) -> dict[str, Tensor]:
        """All that a step changes, for a checkpoint."""
        out = {f"parameter.{name}": p.detach() for name, p in self.parameters.items()}
        for name, p in self.parameters.items():
            for key, value in self.optimiser.state.get(p, {}).items():
                out[f"adam.{name}.{key}"] = value
        out |= {f"buffer.{name}": value for name, value in self.buffers.items()}
        if self.settings.resample:
            out["seen"] = torch.tensor(self.seen)
        return {**out, "threshold": self.threshold, "since_fired": self.since_fired}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        for name, p in self.parameters.items():
            p.copy_(state[f"parameter.{name}"])
            prefix = f"adam.{name}."
            held = {key.removeprefix(prefix): value.clone() for key, value in state.items() if key.startswith(prefix)}
            if held:
                self.optimiser.state[p] = held
        for name, value in self.buffers.items():
            value.copy_(state[f"buffer.{name}"])
        self.seen = int(state.get("seen", torch.tensor(0)))
        self.threshold.copy_(state["threshold"])
        self.since_fired.copy_(state["since_fired"])


def _finite(*values: Tensor) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in values)


def _initial(
    settings: DictionarySettings, n_layers: int, d_in: int, d_out: int, dtype: torch.dtype, device: torch.device | str
) -> dict[str, nn.Parameter]:
    """Encoders: random unit rows. Decoders: small and random, so that no feature starts by writing much."""
    generator = torch.Generator().manual_seed(settings.seed)
    features, architecture = settings.features, ARCHITECTURES[settings.activation]

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device=device, dtype=dtype)

    out: dict[str, Tensor] = {}
    for layer in range(n_layers):
        outputs = n_layers - layer if settings.kind == "clt" else 1
        W_enc = normal(features, d_in)
        out[f"W_enc_{layer}"] = W_enc / W_enc.norm(dim=1, keepdim=True)
        out[f"b_enc_{layer}"] = torch.zeros(features, dtype=dtype, device=device)
        W_dec = normal(features, outputs, d_out) * 0.1 / (outputs * d_out) ** 0.5
        if settings.begins_tied and d_in == d_out:
            W_dec[:, 0] = 0.1 * out[f"W_enc_{layer}"]
        if settings.decoder == "unit" or settings.frozen == "decoder":
            W_dec = W_dec / W_dec.flatten(1).norm(dim=1)[:, None, None]
        out[f"W_dec_{layer}"] = W_dec
        out[f"b_dec_{layer}"] = torch.zeros(d_out, dtype=dtype, device=device)
        if settings.skip:
            out[f"W_skip_{layer}"] = torch.zeros(d_out, d_in, dtype=dtype, device=device)
        more = architecture.parameters(settings, torch.zeros(features, dtype=dtype, device=device))
        out |= {f"{name}_{layer}": value for name, value in more.items()}
        if not architecture.reads_pairs:
            del out[f"W_enc_{layer}"], out[f"b_enc_{layer}"]
    held = {"encoder": "W_enc", "decoder": "W_dec", None: "none"}[settings.frozen]
    return {name: nn.Parameter(value, requires_grad=not name.startswith(held)) for name, value in out.items()}
