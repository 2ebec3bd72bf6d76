"""The sparse path equals a plain dense one in float64: choice, forward, and every gradient, for each architecture."""

from __future__ import annotations

import pytest
import torch

from cutaway.features import activations as rules
from cutaway.features.learner import Learner
from cutaway.features.normalise import Normalisation
from cutaway.features.products import affine
from cutaway.features.settings import DictionarySettings
from cutaway.features.sparse import Active, at_features, decode, encode_at, transpose_times

L, N, D_IN, D_OUT, F, K = 3, 29, 10, 8, 48, 5


def sample(seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(L, N, D_IN, generator=g, dtype=dtype)
    y = torch.randn(L, N, D_OUT, generator=g, dtype=dtype) * torch.logspace(-1, 1, N, dtype=dtype)[None, :, None]
    return x, y


def learner(kind, rule, *, dead=(), skip=False, **more):
    x, y = sample()
    settings = DictionarySettings(
        kind=kind, activation=rule, features=F, l0=K, skip=skip, aux=0.3, aux_k=3, dead_after=10, **more
    )
    made = Learner(settings, L, D_IN, D_OUT, Normalisation.of(x, y), dtype=torch.float64)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in made.parameters.items():
            p.add_(0.2 * torch.randn(p.shape, generator=g, dtype=torch.float64))
            if "threshold" in name:
                p.sub_(0.5)
    made.since_fired[:, list(dead)] = 10_000
    return made


def dense_loss(made, x, y):
    """The same loss in plain dense autograd: masks, matrix products, nothing sparse."""
    s = made.settings
    P = {name: p.detach().clone().requires_grad_() for name, p in made.parameters.items()}
    a, h, theta = [], [], []
    for layer in range(L):
        pre = x[layer] @ P[f"W_enc_{layer}"].T + P[f"b_enc_{layer}"]
        h.append(pre)
        if s.activation == "relu":
            a.append(pre.relu())
        elif s.activation == "topk":
            cut = pre.topk(K, dim=1).values[:, -1:]
            a.append(pre * ((pre >= cut) & (pre > 0)))
        elif s.activation == "batchtopk":
            cut = pre.flatten().topk(K * N).values[-1]
            a.append(pre * ((pre >= cut) & (pre > 0)))
        else:
            t = P[f"log_threshold_{layer}"].exp()
            theta.append(t)
            # The straight-through gradient of theta, written out as a surrogate with that derivative.
            near = ((pre - t).abs() < s.bandwidth / 2).double().detach()
            surrogate = -(t.detach() / s.bandwidth) * near * t
            a.append(pre * (pre > t) + surrogate - surrogate.detach())
    y_hat = []
    for m in range(L):
        out = P[f"b_dec_{m}"].expand(N, -1)
        if s.skip:
            out = out + x[m] @ P[f"W_skip_{m}"].T
        for layer in range(m + 1) if s.kind == "clt" else (m,):
            out = out + a[layer] @ P[f"W_dec_{layer}"][:, m - layer]
        y_hat.append(out)
    weight = 1 / (y.square().sum(-1) + s.floor * D_OUT)
    loss = sum(((y[m] - y_hat[m]).square().sum(-1) * weight[m]).mean() for m in range(L))
    if s.activation == "relu":
        for layer in range(L):
            loss = loss + s.sparsity * (a[layer] * P[f"W_dec_{layer}"].flatten(1).norm(dim=1)).sum() / N
    if s.activation == "jumprelu":
        for layer in range(L):
            near = ((h[layer] - theta[layer]).abs() < s.bandwidth / 2).double().detach()
            surrogate = -(1 / s.bandwidth) * near * theta[layer]
            l0 = ((h[layer] > theta[layer]).double() + surrogate - surrogate.detach()).sum() / N
            loss = loss + s.sparsity * (l0 / K - 1).square()
    dead = [(made.since_fired[layer] > s.dead_after).nonzero()[:, 0] for layer in range(L)]
    for m in range(L):
        written, any_dead = 0, False
        for layer in range(m + 1) if s.kind == "clt" else (m,):
            if len(dead[layer]) == 0:
                continue
            pre = h[layer][:, dead[layer]]
            k = min(s.aux_k, len(dead[layer]))
            chosen = pre.relu() * (pre >= pre.topk(k, dim=1).values[:, -1:])
            written = written + chosen @ P[f"W_dec_{layer}"][dead[layer], m - layer]
            any_dead = True
        if any_dead:
            left = (y[m] - y_hat[m]).detach()
            loss = loss + s.aux * ((left - written).square().sum(-1) * weight[m]).mean()
    return loss, P, a


@pytest.mark.parametrize("kind", ["plt", "clt"])
@pytest.mark.parametrize("rule", ["relu", "topk", "batchtopk", "jumprelu"])
@pytest.mark.parametrize("dead", [(), (0, 1, 7, 30, 31)], ids=["alive", "dead"])
def test_the_loss_and_every_gradient_equal_the_dense_reference(kind, rule, dead):
    made = learner(kind, rule, dead=dead, skip=kind == "plt")
    x, y = sample(5)
    loss, forward = made.loss(x, y)
    loss.backward()
    expected, reference, a = dense_loss(made, x, y)
    expected.backward()
    for layer in range(L):
        torch.testing.assert_close(
            forward.chosen[layer].active.dense(forward.values[layer].detach()), a[layer].detach()
        )
    torch.testing.assert_close(loss, expected)
    for name, p in made.parameters.items():
        torch.testing.assert_close(p.grad, reference[name].grad, rtol=1e-9, atol=1e-12, msg=name)


def test_auxk_trains_the_encoders_of_the_dead_and_nothing_else():
    """The gradient that AuxK adds is zero for living features and for the bias, and reaches dead encoders."""
    dead = [2, 3, 40]
    x, y = sample(5)
    gradients = []
    for weight in (0.0, 1.0):
        made = learner("clt", "batchtopk", dead=dead)
        made.settings = made.settings.model_copy(update={"aux": weight})
        made.loss(x, y)[0].backward()
        gradients.append({name: p.grad for name, p in made.parameters.items()})
    living = [f for f in range(F) if f not in dead]
    for layer in range(L):
        added = {
            n: gradients[1][f"{n}_{layer}"] - gradients[0][f"{n}_{layer}"] for n in ("W_enc", "b_enc", "W_dec", "b_dec")
        }
        assert added["b_dec"].abs().max() < 1e-12
        for name in ("W_enc", "b_enc", "W_dec"):
            assert added[name][living].abs().max() < 1e-12
            assert added[name][dead].abs().max() > 1e-6


def test_the_input_gradient_flows_as_in_the_dense_path():
    """Through the replacement model the codes' gradient goes on into x."""
    x, _ = sample()
    g = torch.Generator().manual_seed(2)
    W, b, D = (
        torch.randn(*s, generator=g, dtype=torch.float64, requires_grad=True) for s in ((F, D_IN), (F,), (F, D_OUT))
    )
    given = x[0].clone().requires_grad_()
    pre = given @ W.T + b
    active = rules.above(pre.detach(), 0.8)
    values = encode_at(given, W, b, active) * at_features(b.abs(), active)
    out = decode(values, D, active)
    probe = torch.randn(out.shape, generator=g, dtype=torch.float64)
    ours = torch.autograd.grad((out * probe).sum(), (given, W, b, D))
    dense = ((pre * (pre > 0.8)) * b.abs()) @ D
    theirs = torch.autograd.grad((dense * probe).sum(), (given, W, b, D))
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("features", [24, 31, 64, 8192, 8200])
def test_above_finds_exactly_the_pairs_over_the_bound(features):
    g = torch.Generator().manual_seed(features)
    pre = torch.randn(13, features, generator=g)
    for bound in (-1.0, 0.5, 2.0, 9.0, pre.median(1, keepdim=True).values):
        active = rules.above(pre, bound)
        assert torch.equal(active.dense(torch.ones(len(active))) > 0, pre > bound)
        assert torch.equal(active.tokens, active.tokens.sort().values)


@pytest.mark.parametrize("guess", [0.0, 0.1, 1.0, 2.5, 100.0])
def test_batch_topk_does_not_depend_on_the_guess(guess):
    x, _ = sample()
    W = torch.randn(F, D_IN, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    b = torch.zeros(F, dtype=torch.float64)
    pre = rules.dense_pre(x[0], W, b, bf16=False)
    chosen = rules.batch_topk(pre, x[0], W, b, K, guess)
    cut = pre.flatten().topk(K * N).values[-1]
    assert torch.equal(chosen.active.dense(chosen.pre) > 0, pre >= cut)


@pytest.mark.parametrize("rule", ["topk", "batchtopk"])
def test_candidates_in_bf16_choose_what_full_precision_chooses(rule):
    g = torch.Generator().manual_seed(0)
    x, W = torch.randn(64, 32, generator=g), torch.randn(256, 32, generator=g)
    b = torch.zeros(256)
    chosen = []
    for bf16 in (False, True):
        pre = rules.dense_pre(x, W, b, bf16=bf16)
        found = rules.topk(pre, x, W, b, 8) if rule == "topk" else rules.batch_topk(pre, x, W, b, 8, guess=6.0)
        chosen.append(found.active.dense(found.pre))
    torch.testing.assert_close(chosen[0], chosen[1])


def test_rows_of_inactive_features_have_no_gradient():
    active = Active.of(torch.tensor([0, 0, 2]), torch.tensor([5, 1, 5]), 3, 9)
    out = transpose_times(torch.tensor([1.0, 2.0, 3.0]), torch.ones(3, 4), active)
    assert out.abs().sum(1).nonzero()[:, 0].tolist() == [1, 5]
    assert out[5].tolist() == [4.0] * 4
    nothing = Active.of(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), 3, 9)
    assert decode(torch.zeros(0), torch.ones(9, 4), nothing).abs().sum() == 0
    assert encode_at(torch.ones(3, 2), torch.ones(9, 2), torch.ones(9), nothing).shape == (0,)


@pytest.mark.parametrize("kind", ["plt", "clt"])
@pytest.mark.parametrize("rule", ["topk", "jumprelu", "relu"])
def test_what_is_exported_computes_what_was_trained(kind, rule):
    """Normalisation and unit decoders fold away exactly."""
    made = learner(kind, rule, skip=True)
    x, _ = sample(5)
    normal = made.normal
    with torch.no_grad():
        forward = made.forward(normal.inputs(x))
        expected = torch.stack(forward.y_hat) * normal.y_scale[:, None, None] + normal.y_mean[:, None]
    dictionary = made.transcoders()
    by_layer = x.transpose(0, 1)
    a = dictionary.encode(by_layer)
    torch.testing.assert_close(dictionary.decode(a, by_layer).transpose(0, 1), expected)
    torch.testing.assert_close(dictionary.reconstruct(x)[0], expected)
    for layer in range(L):
        chosen = forward.chosen[layer].active.dense(forward.values[layer])
        assert torch.equal(a[:, layer] > 0, chosen > 0)
        if rule != "topk":  # which compares activations, so that their scale matters
            norms = dictionary.layers[layer].W_dec.flatten(1).norm(dim=1)
            torch.testing.assert_close(norms, torch.ones_like(norms))


def test_batch_topk_becomes_a_threshold_with_the_same_l0():
    made = learner("plt", "batchtopk")
    x, y = sample(5)
    for _ in range(3):
        _, forward = made.loss(x, y)
        made.count(forward)
    for layer, chosen in enumerate(forward.chosen):
        made.threshold[layer] = chosen.lowest * (1 - 1e-9)
    dictionary = made.transcoders()
    a = dictionary.encode(made.normal.x_mean[None] + x.transpose(0, 1) * made.normal.x_scale[None, :, None])
    assert [(a[:, layer] > 0).sum().item() for layer in range(L)] == [K * N] * L


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_product_that_finds_candidates_is_that_of_addmm(dtype):
    g = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=g).to(dtype) for shape in ((64, 96), (512, 96), (512,)))
    expected = torch.addmm(bias, x, weight.t())
    scale = float(expected.abs().max())
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 2**-7, torch.float64: 0.0}[dtype]
    assert float((affine(x, weight, bias) - expected).abs().max()) <= tolerance * scale
    assert torch.equal(affine(x[:2], weight, bias), torch.addmm(bias, x[:2], weight.t()))  # too small to be worth it


@pytest.mark.parametrize("rule", ["topk", "batchtopk"])
def test_chosen_values_are_those_of_their_pairs_to_the_bit(rule):
    """They are kept from the choice, not computed again."""
    g = torch.Generator().manual_seed(0)
    x, W, b = (torch.randn(*shape, generator=g) for shape in ((40, 64), (256, 64), (256,)))
    pre = rules.dense_pre(x, W, b, bf16=True)
    chosen = rules.topk(pre, x, W, b, 5) if rule == "topk" else rules.batch_topk(pre, x, W, b, 5, guess=1.0)
    assert len(chosen.active) == 200
    assert torch.equal(chosen.pre, encode_at(x, W, b, chosen.active))
