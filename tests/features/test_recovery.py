"""Known features: each architecture finds directions that sparse combinations were made of, better than chance, at the
L0 that was asked for."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from cutaway.features import ARCHITECTURES, DictionarySettings
from cutaway.features.learner import Learner
from cutaway.features.normalise import Normalisation

D, TRUE, ACTIVE, BATCH = 16, 24, 2, 128


def draw(n, generator, directions):
    """[n, D]: two features of 24 at a time, with sizes in 0.5 … 1.5."""
    chosen = torch.rand(n, TRUE, generator=generator).topk(ACTIVE, dim=1).indices
    size = 0.5 + torch.rand(n, ACTIVE, generator=generator)
    return torch.zeros(n, TRUE).scatter(1, chosen, size) @ directions


def mcc(rows, directions):
    """Mean cosine of the best one-to-one matching of dictionary rows to true directions."""
    unit = torch.nn.functional.normalize(rows, dim=1)
    cosine = (directions @ unit.T).numpy()
    true, found = linear_sum_assignment(-cosine)
    return float(cosine[true, found].mean())


@pytest.mark.parametrize("rule", ARCHITECTURES)
def test_known_features_are_found_at_the_l0_that_was_asked_for(rule):
    g = torch.Generator().manual_seed(11)
    directions = torch.nn.functional.normalize(torch.randn(TRUE, D, generator=g), dim=1)
    x = draw(4096, g, directions)
    settings = DictionarySettings.read(
        {
            "kind": "sae", "at": "resid_post.0", "features": 32, "l0": ACTIVE, "activation": rule, "dead_after": 5000,
            "lr": 3e-3, **ARCHITECTURES[rule].recipe,
        }
    )  # fmt: skip
    made = Learner(settings, 1, D, D, Normalisation.of(x[None], x[None]))
    random = mcc(made.weight("W_dec", 0)[:, 0].detach(), directions)
    steps = 1000 if ARCHITECTURES[rule].recipe else 400  # a penalty's weight takes its time
    for step in range(steps):
        made.anneal(step / steps)
        batch = draw(BATCH, g, directions)[None]
        made.step(batch, batch, made.lr * min(1.0, 2 - 2 * step / steps))
    made.calibrate(x[None])
    sae = made.sae()
    l0 = float((sae.encode(x) > 0).sum()) / x.shape[0]
    assert 0.95 * ACTIVE <= l0 <= 1.05 * ACTIVE
    assert mcc(sae.W_dec, directions) > random + 0.15


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("kind", ["sae", "plt", "clt"])
@pytest.mark.parametrize("rule", [name for name in ARCHITECTURES if name not in ("topk", "matching_pursuit")])
def test_a_short_run_ends_at_the_l0_that_was_asked_for_on_other_rows_too(rule, kind, bf16):
    """However few the steps: what the penalty's weight has left is made up by the levels at which features fire."""
    g = torch.Generator().manual_seed(3)
    directions = torch.nn.functional.normalize(torch.randn(TRUE, D, generator=g), dim=1)
    layers, n = (1 if kind == "sae" else 2), 8192
    x = torch.stack([draw(n, g, directions) for _ in range(layers)])
    point = {"at": "resid_post.0"} if kind == "sae" else {}
    settings = DictionarySettings.read(
        {"kind": kind, "features": 32, "l0": 4, "activation": rule, **point, **ARCHITECTURES[rule].recipe}
    )
    train, held = x[:, : n // 2], x[:, n // 2 :]
    made = Learner(settings, layers, D, D, Normalisation.of(train, train), bf16=bf16).begin(train)
    for step in range(12):
        made.anneal(step / 12)
        made.step(train[:, :512], train[:, :512], made.lr)
    made.calibrate(train)
    if kind == "sae":
        counts = [float((made.sae().encode(held[0]) > 0).sum())]
    else:
        counts = [float(len(active)) for active in made.transcoders().reconstruct(held)[1]]
    for count in counts:
        assert count / held.shape[1] == pytest.approx(4, rel=0.05)


def test_a_penalty_of_fixed_weight_keeps_the_l0_that_it_led_to():
    x = draw(512, torch.Generator().manual_seed(0), torch.eye(TRUE, D))
    for rule, more in (("relu", {}), ("gated", {}), ("jumprelu", {"penalty": "tanh"})):
        settings = DictionarySettings(
            kind="sae", at="resid_post.0", features=32, l0=ACTIVE, activation=rule, sparsity=0.1, **more
        )
        made = Learner(settings, 1, D, D, Normalisation.of(x[None], x[None])).begin(x[None])
        before = made.sae().encode(x)
        made.calibrate(x[None])
        assert torch.equal(made.sae().encode(x), before)
