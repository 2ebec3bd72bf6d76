"""A law over widths and attributions to an answer, where the truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from features.tiny import tiny_llama

import cutaway as cw
from cutaway.core import InputError
from cutaway.features import SAE
from cutaway.features.attribution import attribute_features
from cutaway.features.scaling import scaling
from cutaway.model.tokens import Batch


def axes(width, d=16, point="resid_post.1"):
    """One feature a direction and sign, of the first `width` of 2 d."""
    W = torch.cat([torch.eye(d), -torch.eye(d)])[torch.randperm(2 * d, generator=torch.Generator().manual_seed(0))]
    W = W[:width]
    return SAE(rule="relu", W_enc=W, b_enc=torch.zeros(width), W_dec=W, b_dec=torch.zeros(d), point=point)


def test_the_law_is_that_of_the_errors(model, rows):
    saes = [axes(w) for w in (24, 8, 16)]
    found = scaling(model, saes, rows)
    assert found.widths == (8, 16, 24)
    x = model.run(rows.long(), read=["resid_post.1"])["resid_post.1"][:, 1:].flatten(0, 1)
    fvu = [
        float((x - s.decode(s.encode(x))).square().sum() / (x - x.mean(0)).square().sum())
        for s in sorted(saes, key=lambda s: s.n_features)
    ]
    assert [e.value for e in found.fvu] == pytest.approx(fvu, rel=1e-4)
    slope = torch.linalg.lstsq(
        torch.stack([torch.ones(3), torch.tensor([8.0, 16, 24]).log()], 1), torch.tensor(fvu).log()[:, None]
    ).solution[1]
    assert found.alpha.value == pytest.approx(-float(slope), rel=1e-3)
    assert found.alpha.interval.low < found.alpha.value < found.alpha.interval.high
    assert "random directions" in str(found)
    assert found.to_json()["schema"] == "cutaway.scaling/1"


def test_too_few_widths_and_other_points_are_refused(model, rows):
    with pytest.raises(InputError, match="needs 3 widths; 2"):
        scaling(model, [axes(8), axes(8), axes(16)], rows)
    with pytest.raises(InputError, match="one point"):
        scaling(model, [axes(8), axes(16), axes(24, point="resid_post.0")], rows)


@dataclass
class Answers:
    """Logits of token 5 less those of token 6, after each prompt."""

    clean: object
    name: str = "five"

    def columns(self, name):
        return (self.clean.mask.sum(1) - 1).tolist()

    def metric(self, logits):
        return logits[:, 5] - logits[:, 6]


@pytest.fixture
def task():
    model = tiny_llama()
    ids = torch.randint(1, 37, (6, 9), generator=torch.Generator().manual_seed(4))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[2, 6:] = False
    return model, Answers(Batch(ids, mask))


def test_where_all_is_linear_attribution_is_the_effect(task):
    model, answers = task
    with (
        torch.no_grad()
    ):  # the metric is linear in the last residual stream but for the norm: hold it by a constant one
        model.hf.model.norm.weight.fill_(1.0)
    model.hf.model.norm = torch.nn.Identity()
    model = cw.load(model.hf)
    found = attribute_features(model, axes(32), answers, top=12)
    assert len(found.rows) == 24
    for row in found.rows:
        assert row.attribution == pytest.approx(row.effect.value, abs=2e-4)
    assert found.evidence.effect.value > 0.999
    assert abs(found.evidence.nulls[0].estimate.value) < 0.9
    assert "taken out" in str(found)


def test_padding_is_not_counted(task):
    model, answers = task
    found = attribute_features(model, axes(32), answers, top=5)
    other = Answers(Batch(answers.clean.ids.masked_fill(~answers.clean.mask, 9), answers.clean.mask))
    again = attribute_features(model, axes(32), other, top=5)
    assert [r.attribution for r in found.rows] == pytest.approx([r.attribution for r in again.rows], abs=1e-4)


def test_a_dictionary_that_never_fires_is_said_to(task):
    model, answers = task
    silent = axes(8).with_(b_enc=torch.full((8,), -1e6))
    with pytest.raises(InputError, match="no feature"):
        attribute_features(model, silent, answers)
