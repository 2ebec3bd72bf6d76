"""Every architecture against a plain dense reference in float64; what is exported against what was trained."""

from __future__ import annotations

import pytest
import torch
from features.dense import ARCHITECTURES, D, F, K, N, dense_loss, learner, sample

from cutaway.core import InputError
from cutaway.core.protocols import Dictionary
from cutaway.features import ARCHITECTURES as registered
from cutaway.features import DictionarySettings
from cutaway.features.learner import Learner
from cutaway.features.normalise import Normalisation


@pytest.mark.parametrize("dead", [(), (0, 1, 7, 30, 31)], ids=["alive", "dead"])
@pytest.mark.parametrize(
    ("rule", "more"), ARCHITECTURES, ids=[f"{r}-{'-'.join(map(str, m))}" for r, m in ARCHITECTURES]
)
def test_the_loss_and_every_gradient_equal_the_dense_reference(rule, more, dead):
    made = learner(rule, dead=dead, **more)
    x = sample(5)
    loss, forward = made.loss(x[None], x[None])
    loss.backward()
    expected, reference, a = dense_loss(made, x)
    expected.backward()
    torch.testing.assert_close(forward.chosen[0].active.dense(forward.values[0].detach()), a.detach())
    torch.testing.assert_close(loss, expected)
    for name, p in made.parameters.items():
        torch.testing.assert_close(p.grad, reference[name].grad, rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize("rule", ["relu", "gated", "p_anneal"])
def test_the_recipe_reaches_features_that_are_nowhere_active(rule):
    """AuxK does not: ReLU(h) has no slope where h < 0."""
    recipe = registered[rule].recipe
    made = learner(rule, dead=(3,), **recipe)
    x = sample(5)
    with torch.no_grad():
        made.weight("b_enc", 0)[3] = -100
    made.loss(x[None], x[None])[0].backward()
    slope = made.weight("b_enc", 0).grad[3]
    assert slope < 0  # a step down the loss brings its bias up
    without = learner(rule, dead=(3,), **{**recipe, "pre_activation": 0.0})
    with torch.no_grad():
        without.weight("b_enc", 0)[3] = -100
    without.loss(x[None], x[None])[0].backward()
    assert without.weight("b_enc", 0).grad[3] == 0


@pytest.mark.parametrize("normalise", ["median", "rms", "none"])
@pytest.mark.parametrize(
    ("rule", "more"), ARCHITECTURES, ids=[f"{r}-{'-'.join(map(str, m))}" for r, m in ARCHITECTURES]
)
def test_the_folded_dictionary_gives_the_same_output_on_raw_activations(rule, more, normalise):
    made = learner(rule, normalise=normalise, **more)
    x = 3 * sample(7) + 2
    made.normal = Normalisation.of(x[None], x[None], normalise)
    with torch.no_grad():
        inside = made.normal.inputs(x[None])
        made.calibrate(x[None], margin=1.0)
        chosen = made.choose_fixed(0, inside[0])
        y = made.written(0, chosen.pre, chosen.active)[0] + made.bias(0, inside[0])
        expected = y * made.normal.y_scale[0] + made.normal.y_mean[0]
    sae = made.sae()
    assert isinstance(sae, Dictionary)
    a = sae.encode(x)
    torch.testing.assert_close(sae.decode(a), expected)
    torch.testing.assert_close(sae.reconstruct(x)[0], expected)
    assert torch.equal(a > 0, chosen.active.dense(chosen.pre) > 0)


def test_a_gate_equals_the_threshold_that_it_is_saved_as():
    """The two-path equations, not the trainer's: 1[pi > 0] ReLU(exp(r) W x + b_mag)."""
    made = learner("gated")
    made.normal = Normalisation(*(torch.zeros(1, D).double(),) * 2, *(torch.ones(1).double(),) * 2)
    P = {name: p.detach() for name, p in made.parameters.items()}
    x = sample(3)
    z = x @ P["W_enc_0"].T
    a = (z + P["b_enc_0"] > 0) * (P["r_mag_0"].exp() * z + P["b_mag_0"]).relu()
    assert 0.05 < (a > 0).double().mean() < 0.95
    torch.testing.assert_close(made.sae().decode(made.sae().encode(x)), a @ P["W_dec_0"][:, 0] + P["b_dec_0"])


@pytest.mark.parametrize("kind", ["plt", "clt"])
@pytest.mark.parametrize("rule", ["gated", "matryoshka", "p_anneal"])
def test_architectures_serve_transcoders_of_all_layers_too(kind, rule):
    """A set of one layer is a single transcoder; layers of a per-layer set do not touch one another."""
    settings = DictionarySettings(kind=kind, activation=rule, features=F, l0=K, aux=0.3, dead_after=10)
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, N, D, generator=g, dtype=torch.float64) for _ in range(2))
    made = Learner(settings, 2, D, D, Normalisation.of(x, y), dtype=torch.float64)
    for _ in range(5):
        made.anneal(0.5)
        made.step(x, y, 1e-2)
    made.calibrate(x, margin=1.0)
    with torch.no_grad():
        inside = made.normal.inputs(x)
        hats = [made.bias(layer, inside[layer]) for layer in range(2)]
        for layer in range(2):
            chosen = made.choose_fixed(layer, inside[layer])
            for m, part in zip(made.writes(layer), made.written(layer, chosen.pre, chosen.active)):
                hats[m] = hats[m] + part
        expected = torch.stack(hats) * made.normal.y_scale[:, None, None] + made.normal.y_mean[:, None]
    torch.testing.assert_close(made.transcoders().reconstruct(x)[0], expected)


def test_a_prefix_of_a_matryoshka_is_a_dictionary_of_its_own():
    """The gradient of a feature in the first prefix comes from all prefixes; the last group's from the whole alone."""
    made = learner("matryoshka")
    x = sample(5)
    forward = made.forward(x[None])
    assert made.bounds[-1] == F
    a = forward.chosen[0].active.dense(forward.values[0])
    W, b = made.weight("W_dec", 0)[:, 0], made.weight("b_dec", 0)
    for end, y_hat in zip(made.bounds, forward.nested):
        torch.testing.assert_close(y_hat[0], a[:, :end] @ W[:end] + b)


def test_the_exponent_falls_and_the_penalty_does_not_jump():
    made = learner("p_anneal", sparsity=0.02)
    made.buffers["stage"].zero_()
    x = sample(5)
    chosen, _ = made.architecture.choose(made.at(0), x)
    values = made.architecture.values(made.at(0), chosen).detach()
    seen = []
    for done in (0.0, 0.2, 0.5, 0.95):
        before = float(made.architecture.penalty(made.at(0), chosen, values).detach())
        made.anneal(done)
        after = float(made.architecture.penalty(made.at(0), chosen, values).detach())
        seen.append(made.architecture.exponent(made.settings, int(made.buffers["stage"][0])))
        if done == 0.2:  # one stage on: the penalty is the same there
            assert after == pytest.approx(before, rel=1e-9)
        made.architecture.count(made.at(0), chosen, values)
    assert seen == sorted(seen, reverse=True)
    assert seen[0] == 1
    assert seen[-1] == pytest.approx(0.2)


def test_unit_decoders_stay_on_the_sphere():
    made = learner("topk", decoder="unit")
    x = sample(5)
    for _ in range(3):
        made.step(x[None], x[None], 1e-2)
    norms = made.weight("W_dec", 0).flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


@pytest.mark.parametrize(("frozen", "name"), [("encoder", "W_enc_0"), ("decoder", "W_dec_0")])
def test_what_is_frozen_stays_as_it_was_drawn(frozen, name):
    made = learner("topk", frozen=frozen)
    before = {n: p.detach().clone() for n, p in made.parameters.items()}
    x = sample(5)
    for _ in range(3):
        made.step(x[None], x[None], 1e-2)
    moved = {n for n, p in made.parameters.items() if not torch.equal(p, before[n])}
    assert name not in moved
    assert moved >= {"W_enc_0", "W_dec_0", "b_dec_0"} - {name}


def test_resampling_brings_the_dead_to_tokens_that_are_badly_reconstructed():
    made = learner("batchtopk", resample=N, dead=(2, 3))
    with torch.no_grad():
        for name in ("W_enc_0", "b_enc_0"):
            made.parameters[name][[2, 3]] = -50 if name == "b_enc_0" else 0.01
    x = sample(5)
    made.step(x[None], x[None], 1e-3)
    assert made.since_fired[0, [2, 3]].tolist() == [0, 0]
    inside = made.normal.inputs(x[None])[0]
    W = made.weight("W_enc", 0)[[2, 3]]
    cosine = torch.nn.functional.cosine_similarity(W[:, None], inside[None], dim=-1).amax(1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))  # each reads one token's direction
    held = made.optimiser.state[made.parameters["W_enc_0"]]["exp_avg"]
    assert held[[2, 3]].abs().max() == 0
    assert held.abs().max() > 0


@pytest.mark.parametrize(("given", "why"), [(float("nan"), "some activations"), (1e200, "the rate")])
def test_a_loss_that_is_no_number_ends_training_before_the_parameters_are_lost(given, why):
    """Activations of a later block may be broken where those that the units were measured on are not."""
    made = learner("topk", floor=None)
    before = {name: p.detach().clone() for name, p in made.parameters.items()}
    x = sample(5)
    x[3, 2] = given
    with pytest.raises(InputError, match=f"loss is (nan|inf): {why}"):
        made.step(x[None], x[None], 1e-2)
    assert all(torch.equal(p, before[name]) for name, p in made.parameters.items())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"kind": "sae"}, "at"),
        ({"kind": "plt", "at": "resid_post.1"}, "at"),
        ({"kind": "plt", "activation": "matching_pursuit"}, "matching pursuit"),
        ({"kind": "sae", "at": "z.0", "finetune": 9}, "finetune"),
        ({"kind": "sae", "at": "z.0", "groups": [0.5, 2.0]}, "groups"),
        ({"activation": "softmax"}, "activation"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        DictionarySettings.read({"features": 32, "l0": 4, **wrong})


def test_settings_of_few_architectures_are_written_only_where_they_are_used():
    assert not {"at", "groups", "p_end", "adapt", "resample"} & set(DictionarySettings().to_json())
    used = DictionarySettings(kind="sae", at="resid_post.0", resample=100)
    assert DictionarySettings.read(used.to_json()) == used
