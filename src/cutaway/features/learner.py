"""One dictionary while it is trained: its parameters, its loss, its step.

    x^l, y^l   input and output of MLP l, less their mean, divided by one scale a layer (folded away at the end)
    h^l        W_enc^l x^l + b_enc^l;  a^l the chosen h (activations.py)
    y_hat^m    b_dec^m + sum over l that write to m of W_dec^{l->m} a^l  (+ W_skip^m x^m)
    loss       mean over tokens, sum over layers of |y - y_hat|^2 / (|y|^2 + floor d), plus the terms of settings.py

Layers are looped over: each has its own active set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.features import activations as rules
from cutaway.features.activations import Chosen
from cutaway.features.normalise import Normalisation
from cutaway.features.settings import DictionarySettings
from cutaway.features.sparse import Active, at_features, decode, encode_at
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


class Learner:
    """Parameters (normalised units), Adam's state and the counts of one dictionary.

    Raises `InputError` where settings and shapes disagree.
    """

    def __init__(
        self, settings: DictionarySettings, n_layers: int, d_in: int, d_out: int, normal: Normalisation,
        *, bf16: bool = False, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        self.settings, self.normal, self.bf16 = settings, normal, bf16
        self.n_layers, self.d_in, self.d_out = n_layers, d_in, d_out
        self.parameters = _initial(settings, n_layers, d_in, d_out, dtype, device)
        self.lr = settings.lr or 0.15 / d_in**0.5
        self.optimiser = torch.optim.Adam(self.parameters.values(), lr=self.lr, betas=(0.9, 0.999), fused=True)
        self.threshold = torch.zeros(n_layers, dtype=dtype)
        self.since_fired = torch.zeros(n_layers, settings.features, dtype=torch.long, device=device)
        self.k = settings.l0
        self._pre: dict[int, Tensor] = {}  # dense pre-activations of the batch at hand

    # ------------------------------------------------------------------------------------------------- structure

    def writes(self, layer: int) -> range:
        return range(layer, self.n_layers if self.settings.kind == "clt" else layer + 1)

    def weight(self, name: str, layer: int) -> nn.Parameter:
        return self.parameters[f"{name}_{layer}"]

    # --------------------------------------------------------------------------------------------------- forward

    def choose(self, layer: int, x: Tensor) -> tuple[Chosen, Tensor]:
        """[n, d_in] in normalised units -> the active pairs, and the dense pre-activations [n, F] they came from."""
        W_enc, b_enc = self.weight("W_enc", layer), self.weight("b_enc", layer)
        rule = self.settings.activation
        if rule == "jumprelu":
            theta = self.weight("log_threshold", layer).exp()
            pre = rules.dense_pre(x, W_enc, b_enc - theta, bf16=self.bf16)
            return rules.over(pre, x, W_enc, b_enc, theta, band=self.settings.bandwidth / 2), pre
        pre = rules.dense_pre(x, W_enc, b_enc, bf16=self.bf16)
        if rule == "topk":
            return rules.topk(pre, x, W_enc, b_enc, self.k), pre
        if rule == "relu":
            return rules.over(pre, x, W_enc, b_enc, torch.zeros_like(b_enc)), pre
        return rules.batch_topk(pre, x, W_enc, b_enc, self.k, float(self.threshold[layer])), pre

    def choose_fixed(self, layer: int, x: Tensor) -> Chosen:
        """As `choose`, but as the finished dictionary will: BatchTopK by its running threshold."""
        if self.settings.activation != "batchtopk":
            chosen, _ = self.choose(layer, x)
            return Chosen(chosen.active, self.values(layer, chosen))
        W_enc, b_enc = self.weight("W_enc", layer), self.weight("b_enc", layer)
        theta = self._theta(layer)
        pre = rules.dense_pre(x, W_enc, b_enc - theta, bf16=self.bf16)
        return rules.over(pre, x, W_enc, b_enc, theta)

    def values(self, layer: int, chosen: Chosen) -> Tensor:
        """The activations at the pairs, [nnz]."""
        if self.settings.activation != "jumprelu":
            return chosen.pre
        theta = at_features(self.weight("log_threshold", layer).exp(), chosen.active)
        return rules.gated(chosen.pre, theta, self.settings.bandwidth)

    def written(self, layer: int, values: Tensor, active: Active) -> Sequence[Tensor]:
        """What a layer's features write to each output of `writes(layer)`: tensors [n, d_out]."""
        W_dec = self.weight("W_dec", layer)  # [F, outputs, d_out]
        return decode(values, W_dec.flatten(1), active).view(active.n_tokens, -1, self.d_out).unbind(1)

    def bias(self, layer: int, x: Tensor) -> Tensor:
        """[n, d_out]: the output's bias, with the skip connection where there is one."""
        out = self.weight("b_dec", layer).expand(x.shape[0], -1)
        return out + x @ self.weight("W_skip", layer).T if self.settings.skip else out

    def forward(self, x: Tensor) -> Forward:
        """x [layers, n, d_in], normalised."""
        found, values, y_hat = [], [], [self.bias(layer, x[layer]) for layer in range(self.n_layers)]
        for layer in range(self.n_layers):
            chosen, pre = self.choose(layer, x[layer])
            a = self.values(layer, chosen)
            for m, part in zip(self.writes(layer), self.written(layer, a, chosen.active)):
                y_hat[m] = y_hat[m] + part
            found.append(chosen)
            values.append(a)
            self._pre[layer] = pre
        return Forward(found, values, y_hat)

    # ------------------------------------------------------------------------------------------------------ loss

    def loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Forward]:
        """x [layers, n, d_in], y [layers, n, d_out], normalised -> the loss to step on."""
        self._pre = {}
        forward = self.forward(x)
        total = x.new_zeros(())
        for layer in range(self.n_layers):
            total = total + self.reconstruction(y[layer], forward.y_hat[layer])
            total = total + self._sparsity(layer, forward)
        total = total + self._for_the_dead(x, y, forward)
        return total, forward

    def reconstruction(self, y: Tensor, y_hat: Tensor) -> Tensor:
        """mean over tokens of |y - y_hat|^2 / (|y|^2 + floor d); units are such that the median of |y|^2 is d."""
        return ((y - y_hat).square().sum(-1) * self.token_weight(y)).mean()

    def token_weight(self, y: Tensor) -> Tensor:
        """[n, d_out] -> [n]."""
        return 1 / (y.square().sum(-1) + self.settings.floor * self.d_out).clamp_min(1e-12)

    def _sparsity(self, layer: int, forward: Forward) -> Tensor | float:
        rule, weight = self.settings.activation, self.settings.sparsity
        chosen = forward.chosen[layer]
        if rule == "relu":  # lambda sum_i |W_dec,i| a_i, a token
            norms = self.weight("W_dec", layer).flatten(1).norm(dim=1)
            return weight * (forward.values[layer] * at_features(norms, chosen.active)).sum() / chosen.active.n_tokens
        if rule == "jumprelu":  # lambda (L0 / l0 - 1)^2
            theta = at_features(self.weight("log_threshold", layer).exp(), chosen.active)
            l0 = rules.counted(chosen.pre, theta, self.settings.bandwidth) / chosen.active.n_tokens
            return weight * (l0 / self.k - 1).square()
        return 0.0

    def _for_the_dead(self, x: Tensor, y: Tensor, forward: Forward) -> Tensor | float:
        """AuxK: the dead features with the largest h model what is left of y; the target is detached, so only they
        learn from it, encoders included. Pre-activation loss: ReLU(theta - h) |W_dec| brings them up."""
        total: Tensor | float = 0.0
        rule = self.settings.activation
        parts: dict[int, list[Tensor]] = {m: [] for m in range(self.n_layers)}
        for layer in range(self.n_layers):
            dead = (self.since_fired[layer] > self.settings.dead_after).nonzero()[:, 0]
            if len(dead) == 0:
                continue
            W_enc, b_enc = self.weight("W_enc", layer), self.weight("b_enc", layer)
            if self.settings.aux:
                # The dense pass of a JumpReLU is less its threshold.
                h = self._pre[layer][:, dead] + (self._theta(layer)[dead] if rule == "jumprelu" else 0)
                top = h.topk(min(self.settings.aux_k, len(dead)), dim=1).indices
                n, k = top.shape
                active = Active.of(
                    torch.arange(n, device=x.device).repeat_interleave(k), dead[top].view(-1), n, W_enc.shape[0]
                )
                values = encode_at(x[layer], W_enc, b_enc, active).relu()
                for m, part in zip(self.writes(layer), self.written(layer, values, active)):
                    parts[m].append(part)
            if self.settings.pre_activation:
                h = torch.addmm(b_enc[dead], x[layer], W_enc[dead].T)
                short = (self._theta(layer)[dead] - h).relu()
                norms = self.weight("W_dec", layer)[dead].flatten(1).norm(dim=1).detach()
                total = total + self.settings.pre_activation * (short * norms).sum(1).mean()
        for m, written in parts.items():
            if written:
                left = (y[m] - forward.y_hat[m]).detach()
                total = (
                    total
                    + self.settings.aux * ((left - sum(written)).square().sum(-1) * self.token_weight(y[m])).mean()
                )
        return total

    def _theta(self, layer: int) -> Tensor:
        if self.settings.activation == "jumprelu":
            return self.weight("log_threshold", layer).exp().detach()
        return self.threshold[layer].to(self.since_fired.device).expand(self.settings.features)

    # ------------------------------------------------------------------------------------------------------ step

    def anneal(self, done: float) -> None:
        """Bring the l0 down from where it starts; `done` is the share of the steps taken."""
        start, end = self.settings.l0_start or 3 * self.settings.l0, self.settings.l0
        left = 1 - done / self.settings.l0_anneal if self.settings.l0_anneal else 0.0
        self.k = min(self.settings.features, round(end + (start - end) * max(0.0, left)))

    def step(self, x: Tensor, y: Tensor, lr: float) -> Step:
        """One Adam step on raw activations x [layers, n, d_in], y [layers, n, d_out]."""
        x, y = self.normal.inputs(x), self.normal.outputs(y)
        loss, forward = self.loss(x, y)
        self.update(loss, lr)
        self.count(forward)
        return self.report(float(loss.detach()), y, forward)

    def update(self, loss: Tensor, lr: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    @torch.no_grad()
    def count(self, forward: Forward) -> None:
        """Keep which features fired, and the running threshold of BatchTopK."""
        for layer, chosen in enumerate(forward.chosen):
            features = chosen.active.features[forward.values[layer].detach() > 0]
            self.since_fired[layer] += chosen.active.n_tokens
            self.since_fired[layer, features] = 0
            if self.settings.activation == "batchtopk" and len(chosen.active):
                old, new = self.threshold[layer], chosen.lowest
                self.threshold[layer] = new if old == 0 else 0.98 * old + 0.02 * new

    @torch.no_grad()
    def report(self, loss: float, y: Tensor, forward: Forward) -> Step:
        l0, median, explained = [], [], []
        for layer in range(self.n_layers):
            error = (y[layer] - forward.y_hat[layer]).square().sum(-1)
            size = y[layer].square().sum(-1)
            l0.append(float((forward.values[layer] > 0).sum()) / y.shape[1])
            median.append(float((error / size.clamp_min(1e-12)).median()))
            explained.append(1 - float(error.sum() / size.sum().clamp_min(1e-12)))
        dead = float((self.since_fired > self.settings.dead_after).float().mean())
        return Step(loss, l0, median, explained, dead)

    # ---------------------------------------------------------------------------------------------------- export

    @torch.no_grad()
    def calibrate(self, x: Tensor, margin: float = 0.95) -> None:
        """Set BatchTopK's thresholds on raw inputs x [layers, n, d_in]: a running mean lags behind weights that move.

        They leave `margin` x l0 active features a token, so that on other text, too, l0 is not exceeded.
        """
        if self.settings.activation != "batchtopk":
            return
        for layer in range(self.n_layers):
            here = self.normal.inputs(x[layer], layer)
            W_enc, b_enc = self.weight("W_enc", layer), self.weight("b_enc", layer)
            pre = rules.dense_pre(here, W_enc, b_enc, bf16=self.bf16)
            chosen = rules.batch_topk(pre, here, W_enc, b_enc, self.settings.l0, float(self.threshold[layer]))
            h = chosen.pre.sort().values
            if len(h):
                dropped = min(len(h) - 1, round((1 - margin) * len(h)))
                self.threshold[layer] = h[dropped] * (1 - 1e-6)

    @torch.no_grad()
    def transcoders(self, **about: object) -> Transcoders:
        """The dictionary in the model's own units: normalisation folded into weights and biases, exactly."""
        layers = []
        for layer in range(self.n_layers):
            scale_x, scale_y = self.normal.x_scale[layer], self.normal.y_scale
            W_enc = self.weight("W_enc", layer) / scale_x
            b_enc = self.weight("b_enc", layer) - W_enc @ self.normal.x_mean[layer]
            outputs = self.writes(layer)
            W_dec = self.weight("W_dec", layer) * scale_y[outputs.start : outputs.stop, None]
            b_dec = self.weight("b_dec", layer) * scale_y[layer] + self.normal.y_mean[layer]
            W_skip = None
            if self.settings.skip:
                W_skip = self.weight("W_skip", layer) * scale_y[layer] / scale_x
                b_dec = b_dec - W_skip @ self.normal.x_mean[layer]
            threshold = None
            if self.settings.activation in ("jumprelu", "batchtopk"):
                threshold = self._theta(layer).clone()
            # Unit decoders: an activation is then the length of what the feature writes, in every dictionary alike.
            # TopK compares activations with one another, so there each keeps its scale.
            norm = W_dec.flatten(1).norm(dim=1).clamp_min(1e-12)
            if self.settings.activation == "topk":
                norm = torch.ones_like(norm)
            layers.append(
                Layer(
                    W_enc=W_enc * norm[:, None], b_enc=b_enc * norm, W_dec=W_dec / norm[:, None, None], b_dec=b_dec,
                    threshold=None if threshold is None else threshold * norm, W_skip=W_skip,
                )
            )  # fmt: skip
        rule = "jumprelu" if self.settings.activation == "batchtopk" else self.settings.activation
        k = self.settings.l0 if rule == "topk" else None
        return Transcoders(kind=self.settings.kind, rule=rule, layers=tuple(layers), k=k, **about)  # type: ignore[arg-type]

    # ----------------------------------------------------------------------------------------------------- state

    def state(self) -> dict[str, Tensor]:
        """All that a step changes, for a checkpoint."""
        out = {f"parameter.{name}": p.detach() for name, p in self.parameters.items()}
        for name, p in self.parameters.items():
            for key, value in self.optimiser.state.get(p, {}).items():
                out[f"adam.{name}.{key}"] = value
        return {**out, "threshold": self.threshold, "since_fired": self.since_fired}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        for name, p in self.parameters.items():
            p.copy_(state[f"parameter.{name}"])
            prefix = f"adam.{name}."
            held = {key.removeprefix(prefix): value.clone() for key, value in state.items() if key.startswith(prefix)}
            if held:
                self.optimiser.state[p] = held
        self.threshold.copy_(state["threshold"])
        self.since_fired.copy_(state["since_fired"])


def _initial(
    settings: DictionarySettings, n_layers: int, d_in: int, d_out: int, dtype: torch.dtype, device: torch.device | str
) -> dict[str, nn.Parameter]:
    """Encoders: random unit rows. Decoders: small and random, so that no feature starts by writing much."""
    generator = torch.Generator().manual_seed(settings.seed)
    features = settings.features

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device=device, dtype=dtype)

    out: dict[str, Tensor] = {}
    for layer in range(n_layers):
        outputs = n_layers - layer if settings.kind == "clt" else 1
        W_enc = normal(features, d_in)
        out[f"W_enc_{layer}"] = W_enc / W_enc.norm(dim=1, keepdim=True)
        out[f"b_enc_{layer}"] = torch.zeros(features, dtype=dtype, device=device)
        out[f"W_dec_{layer}"] = normal(features, outputs, d_out) * 0.1 / (outputs * d_out) ** 0.5
        out[f"b_dec_{layer}"] = torch.zeros(d_out, dtype=dtype, device=device)
        if settings.skip:
            out[f"W_skip_{layer}"] = torch.zeros(d_out, d_in, dtype=dtype, device=device)
        if settings.activation == "jumprelu":
            out[f"log_threshold_{layer}"] = torch.full((features,), 0.0, dtype=dtype, device=device)
    return {name: nn.Parameter(value) for name, value in out.items()}
