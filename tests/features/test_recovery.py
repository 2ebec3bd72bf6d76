"""Known features: each architecture finds directions that sparse combinations were made of, better than chance."""

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
def test_known_features_are_found_at_about_the_l0_that_was_asked_for(rule):
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
    assert 0.5 * ACTIVE < l0 < 2 * ACTIVE
    assert mcc(sae.W_dec, directions) > random + 0.15
