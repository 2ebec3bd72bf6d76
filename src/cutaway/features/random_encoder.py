"""The dictionary that learned no features: random encoders at the same L0, decoders fitted in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cutaway.features.activations import batch_topk, dense_pre
from cutaway.features.normalise import Normalisation
from cutaway.features.settings import DictionarySettings, Kind
from cutaway.features.sparse import times, transpose_times
from cutaway.features.transcoders import Layer, Transcoders

_RIDGE = 1e-2  # times the mean squared activation of a feature


@torch.no_grad()
def fit_decoders(settings: DictionarySettings, x: Tensor, y: Tensor, **about: Any) -> Transcoders:
    """From a sample x [layers, n, d_in], y [layers, n, d_out].

    Encoder rows are random unit vectors (of the standardised input); each layer's threshold leaves l0 features a token.
    Decoders: ridge regression, stage by stage: layer l's features are fitted to what the layers below left of every
    output they write to. Tokens are weighted as in training, so that the null is judged by the same rule.
    """
    normal = Normalisation.of(x, y)
    x_n, left = normal.inputs(x), normal.outputs(y).clone()
    n_layers, n, d_in = x.shape
    d_out, features = y.shape[2], settings.features
    floor = settings.floor
    weight = (  # [layers, n]
        torch.ones_like(left[..., 0]) if floor is None else 1 / (left.square().sum(-1) + max(floor, 1e-3) * d_out)
    )
    generator = torch.Generator().manual_seed(settings.seed)
    layers = []
    for layer in range(n_layers):
        W_enc = torch.randn(features, d_in, generator=generator).to(x)
        W_enc /= W_enc.norm(dim=1, keepdim=True)
        b_enc = torch.zeros(features).to(x)
        pre = dense_pre(x_n[layer], W_enc, b_enc, bf16=False)
        some = pre[:256]
        guess = float(some.flatten().topk(settings.l0 * some.shape[0]).values[-1])
        chosen = batch_topk(pre, x_n[layer], W_enc, b_enc, settings.l0, guess)
        active, a = chosen.active, chosen.pre
        W_dec = []
        for m in range(layer, n_layers if settings.kind == "clt" else layer + 1):
            w = weight[m]
            gram = transpose_times(a * w[active.tokens], active.dense(a), active)  # A^T diag(w) A, [F, F]
            ridge = _RIDGE * gram.diagonal().mean()
            right = transpose_times(a, left[m] * w[:, None], active)
            solved = torch.linalg.solve(gram + ridge * torch.eye(features).to(x), right)  # [F, d_out]
            left[m] -= times(a, solved, active)
            W_dec.append(solved * normal.y_scale[m])
        folded = W_enc / normal.x_scale[layer]
        layers.append(
            Layer(
                W_enc=folded,
                b_enc=b_enc - folded @ normal.x_mean[layer],
                W_dec=torch.stack(W_dec, 1),
                b_dec=normal.y_mean[layer],
                threshold=torch.full((features,), chosen.lowest * (1 - 1e-6)).to(x),
            )
        )
    training = {"settings": settings.to_json(), "untrained": True, "tokens": n}
    kind: Kind = "clt" if settings.kind == "clt" else "plt"
    return Transcoders(kind=kind, rule="jumprelu", layers=tuple(layers), training=training, **about)
