"""The architectures' losses written out densely: masks, matrix products, plain autograd; nothing sparse or shared."""

from __future__ import annotations

import torch

from cutaway.features import DictionarySettings
from cutaway.features.learner import Learner
from cutaway.features.normalise import Normalisation

N, D, F, K = 29, 10, 48, 5
ARCHITECTURES = [
    ("relu", {"sparsity": 0.1}),
    ("relu", {"floor": None, "sparsity": 0.1}),
    ("topk", {}),
    ("batchtopk", {}),
    ("jumprelu", {}),
    ("jumprelu", {"penalty": "tanh", "sparsity": 0.1}),
    ("jumprelu", {"penalty": "l0", "pre_activation": 0.3}),
    ("gated", {"sparsity": 0.1}),
    ("matryoshka", {}),
    ("p_anneal", {"sparsity": 0.1}),
    ("matching_pursuit", {}),
]


def sample(seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(N, D, generator=g, dtype=torch.float64) * torch.logspace(-1, 1, N, dtype=torch.float64)[:, None]


def learner(rule, *, dead=(), **more):
    x = sample()[None]
    settings = DictionarySettings(
        kind="sae", at="resid_post.0", activation=rule, features=F, l0=K, aux=0.3, aux_k=3, dead_after=10, **more
    )
    made = Learner(settings, 1, D, D, Normalisation.of(x, x), dtype=torch.float64)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in made.parameters.items():
            if settings.frozen is None:
                p.add_(0.2 * torch.randn(p.shape, generator=g, dtype=torch.float64))
            if "threshold" in name:
                p.sub_(0.5)
    made.since_fired[:, list(dead)] = 10_000
    if "stage" in made.buffers:
        made.buffers["stage"].fill_(4)
    return made


def dense_loss(made, x):
    """(loss, parameters, activations [n, F]) on normalised x, which is its own target."""
    s, rule = made.settings, made.settings.activation
    P = {name: p.detach().clone().requires_grad_() for name, p in made.parameters.items()}
    W_dec, b_dec = P["W_dec_0"][:, 0], P["b_dec_0"]
    norms = W_dec.norm(dim=1)
    weight = torch.full((N,), 1 / D, dtype=x.dtype) if s.floor is None else 1 / (x.square().sum(-1) + s.floor * D)

    def error(y_hat):
        return ((x - y_hat).square().sum(-1) * weight).mean()

    if rule == "matching_pursuit":
        unit, r, a = W_dec / norms[:, None], x - b_dec, torch.zeros(N, F, dtype=x.dtype)
        for _ in range(K):
            scores = r @ unit.T
            mask = torch.nn.functional.one_hot(scores.argmax(1), F)
            value = (scores * mask).relu()
            a, r = a + value, r - value @ unit
        a = a / norms
        return error(a @ W_dec + b_dec), P, a
    pre = x @ P["W_enc_0"].T + P["b_enc_0"]
    extra = 0.0
    if rule in ("relu", "p_anneal"):
        a = pre.relu()
        p = 1 + (s.p_end - 1) * 4 / s.p_steps if rule == "p_anneal" else 1.0
        shift = 1e-3 if rule == "p_anneal" else 0.0
        sizes = (a * norms)[a > 0]
        extra = s.sparsity * ((sizes + shift) ** p - shift**p).sum() / N
    elif rule == "topk":
        a = pre * ((pre >= pre.topk(K, dim=1).values[:, -1:]) & (pre > 0))
    elif rule in ("batchtopk", "matryoshka"):
        a = pre * ((pre >= pre.flatten().topk(K * N).values[-1]) & (pre > 0))
    elif rule == "gated":
        z = x @ P["W_enc_0"].T
        a = (pre > 0) * (P["r_mag_0"].exp() * z + P["b_mag_0"]).relu()
        extra = s.sparsity * (pre.relu() * norms.detach()).sum() / N
        extra = extra + error(pre.relu() @ W_dec.detach() + b_dec.detach())
    else:
        t = P["log_threshold_0"].exp()
        near = ((pre - t).abs() < s.bandwidth / 2).double().detach()
        jump = -(t.detach() / s.bandwidth) * near * t  # the straight-through gradient, as a surrogate
        a = pre * (pre > t) + jump - jump.detach()
        if s.penalty == "tanh":
            extra = s.sparsity * torch.tanh(s.tanh_scale * a * norms).sum() / N
        else:
            step = -(1 / s.bandwidth) * near * t
            l0 = ((pre > t).double() + step - step.detach()).sum() / N
            extra = s.sparsity * (l0 / K if s.penalty == "l0" else (l0 / K - 1).square())
    y_hat = a @ W_dec + b_dec
    loss = error(y_hat)
    if rule == "matryoshka":
        ends = [max(1, round(share * F)) for share in (*s.groups, 1)]
        loss = sum(error(a[:, :end] @ W_dec[:end] + b_dec) for end in ends) / len(ends)
    loss = loss + extra
    dead = (made.since_fired[0] > s.dead_after).nonzero()[:, 0]
    if len(dead):
        h = pre[:, dead]
        chosen = h.relu() * (h >= h.topk(min(s.aux_k, len(dead)), dim=1).values[:, -1:])
        loss = loss + s.aux * (((x - y_hat).detach() - chosen @ W_dec[dead]).square().sum(-1) * weight).mean()
        if s.pre_activation:
            short = (P["log_threshold_0"].exp().detach()[dead] - h).relu()
            loss = loss + s.pre_activation * (short * norms[dead].detach()).sum(1).mean()
    return loss, P, a
