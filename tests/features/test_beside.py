"""What a dictionary stands beside: components, frozen halves, floors, other seeds, known concepts. Laws of each."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cutaway.core import InputError
from cutaway.core.protocols import Dictionary
from cutaway.evidence import explained_variance
from cutaway.features import (
    SAE,
    Concepts,
    DictionarySettings,
    TrainSettings,
    document_concepts,
    evaluate_sae,
    fit_rows,
    knowledge,
    spelled_concepts,
    splitting,
    stability,
    train,
)
from cutaway.features.absorption import absorption
from cutaway.features.components import ica, neurons, pca, random_dictionary
from cutaway.features.density import Density
from cutaway.features.detectors import all_aurocs
from cutaway.features.recovery import recovery
from cutaway.toys.synthetic import SyntheticSettings, synthetic


def mixed(n=3000, seed=0):
    g = torch.Generator().manual_seed(seed)
    sources = torch.empty(n, 6).exponential_(generator=g) * torch.randn(n, 6, generator=g).sign()
    return sources @ torch.randn(6, 6, generator=g) + 1, sources


@pytest.mark.parametrize("make", [pca, ica, neurons, lambda x, k: random_dictionary(x, k, 9)])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_components_are_dictionaries_that_keep_k_and_reconstruct_what_they_say(make, k):
    x, _ = mixed()
    found = make(x, k)
    assert isinstance(found, Dictionary)
    a = found.encode(x)
    assert (a != 0).sum(1).max() <= k
    y_hat, active = found.reconstruct(x)
    assert torch.allclose(y_hat, found.decode(a), atol=1e-5)
    assert len(active) == int((a != 0).sum())


def test_all_components_are_the_whole_and_few_are_the_best_plane():
    x, _ = mixed()
    for make in (pca, ica, neurons):
        assert explained_variance(x, make(x, 6).reconstruct(x)[0]) == pytest.approx(1, abs=1e-5)
    ours = explained_variance(x, pca(x, 2).reconstruct(x)[0])
    values = torch.linalg.svdvals((x - x.mean(0)).double()).square()
    assert ours == pytest.approx(float(values[:2].sum() / values.sum()), abs=1e-6)


def test_ica_finds_the_sources():
    x, sources = mixed(6000)
    found = ica(x, 6).encode(x)
    r = np.abs(np.corrcoef(found.numpy().T, sources.numpy().T)[:6, 6:])
    assert (r.max(0) > 0.97).all()


def test_one_row_has_no_components():
    with pytest.raises(InputError, match="at least two"):
        pca(torch.ones(1, 3), 1)


def test_stability_of_the_same_of_noise_and_of_splits():
    g = torch.Generator().manual_seed(0)
    own = torch.randn(40, 16, generator=g)
    same = stability(own, [own[torch.randperm(40, generator=g)] * 3])
    assert same.found_again == same.close == 1
    assert same.cosine.min() > 0.999
    noise = stability(own, [torch.randn(40, 16, generator=g)])
    assert noise.found_again < 0.2
    assert noise.close < 0.2
    tree = splitting([torch.cat([own[:5] + 0.05 * torch.randn(5, 16, generator=g) for _ in range(4)]), own[:5]])
    assert tree.widths == (5, 20)
    assert all(len(tree.children(0, f)) == 4 for f in range(5))
    assert "5 features split, the most into 4" in str(tree)
    with pytest.raises(InputError, match="at least one"):
        stability(own, [])
    with pytest.raises(InputError, match="one width"):
        stability(own, [torch.ones(3, 4)])
    with pytest.raises(InputError, match="at least two"):
        splitting([own])


def test_recovery_of_the_truth_of_its_half_and_of_random_directions():
    toy = synthetic(SyntheticSettings.plain())
    held = toy.sample(4000, seed=0)
    truth = SAE(rule="relu", W_enc=toy.directions, b_enc=-toy.directions @ toy.bias - 0.5,
                W_dec=toy.directions, b_dec=toy.bias)  # fmt: skip
    found = recovery(truth, toy.directions, held.x, held.a)
    assert found.mcc == pytest.approx(1, abs=1e-5)
    assert found.f1 > 0.99
    assert found.uniqueness == 1
    half = truth.with_(W_enc=truth.W_enc[:32], b_enc=truth.b_enc[:32], W_dec=truth.W_dec[:32])
    assert recovery(half, toy.directions, held.x, held.a).mcc == pytest.approx(1, abs=1e-5)
    assert recovery(half, toy.directions, held.x, held.a).explained_variance < 0.9 * found.explained_variance
    noise = random_dictionary(held.x, 2, 64)
    assert recovery(noise, toy.directions, held.x, held.a).mcc < 0.5


def test_density_counts_every_feature_once():
    x, _ = mixed()
    eye = torch.eye(6)
    sae = SAE(rule="relu", W_enc=torch.cat([eye, eye]), b_enc=torch.tensor([0.0] * 6 + [-1e9] * 6),
              W_dec=torch.cat([eye, eye]), b_dec=torch.zeros(6))  # fmt: skip
    found = Density.of(sae, x)
    assert found.dead == 6
    assert sum(found.counts) == 6
    assert found.dense == 6
    assert "6 never fired" in str(found)


def test_frozen_halves_stay_as_they_were_drawn_and_cost_reconstruction():
    toy = synthetic(SyntheticSettings(features=60, d=24, roots=0, p_max=0.2))
    x = toy.sample(6000, seed=0).x

    def made(frozen, seed=0):
        one = DictionarySettings(name="x", kind="sae", at="resid_post.0", features=48, l0=3, frozen=frozen, seed=seed,
                                 dead_after=2000)  # fmt: skip
        return fit_rows(x, TrainSettings(dictionaries=(one,), tokens=12_000, batch=128))["x"]

    free, decoder, encoder = made(None), made("decoder"), made("encoder")
    ev = [explained_variance(x, one.reconstruct(x)[0]) for one in (free, decoder, encoder)]
    assert ev[0] > max(ev[1:])
    unit = torch.nn.functional.normalize
    # A frozen half is random: no closer to the truth than random directions are.
    near = (unit(decoder.W_dec, dim=1) @ toy.directions.T).max(1).values.mean()
    chance = (unit(torch.randn(48, 24), dim=1) @ toy.directions.T).max(1).values.mean()
    assert float(near) == pytest.approx(float(chance), abs=0.06)


def test_the_report_holds_every_control_and_its_verdict(model, rows):
    run = TrainSettings(
        dictionaries=(DictionarySettings(name="x", kind="sae", at="resid_post.1", features=48, l0=4),),
        tokens=64 * 60, batch=64, block=600,
    )  # fmt: skip
    sae = train(model, rows[20:], run, quiet=True)["x"]
    report = evaluate_sae(model, sae, rows[:20], fit_rows=rows[20:], control_tokens=400, control_seeds=(0, 1))
    assert report.controls is not None
    assert len(report.controls.same) == len(report.controls.floor) == 2
    assert [one.name for one in report.controls.frozen] == ["frozen decoder", "frozen encoder"]
    assert report.rows[0].kl is not None
    assert report.rows[0].kl.value >= 0
    told = str(report)
    for word in ("ICA", "raw neurons", "random dictionary", "frozen decoder", "Gaussian floor", "stability", "density"):
        assert word in told
    assert report.to_json()["controls"]["stability"]["null_95"] > 0
    assert not any("frozen" in one.what for one in report.evidence.not_done)


# ---- concepts


def test_auroc_of_many_columns_is_the_auroc_of_each():
    from cutaway.evidence import auroc

    g = torch.Generator().manual_seed(0)
    values, labels = torch.randn(200, 5, generator=g).round(decimals=1), torch.rand(200, 3, generator=g) < 0.3
    found = all_aurocs(values, labels)
    for i in range(5):
        for j in range(3):
            assert found[i, j] == pytest.approx(auroc(values[:, i].double().numpy(), labels[:, j].numpy()).value)


def test_spelling_and_documents_give_labels():
    spell = ["<bos>", " cat", "Dog", "7", "."].__getitem__
    rows = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 1, -1, -1]])
    found = spelled_concepts(rows, spell)
    at = {name: found.labels[..., i] for i, name in enumerate(found.names)}
    assert at["begins with c"].nonzero().tolist() == [[0, 1], [1, 1], [1, 2]]
    assert at["capitalised"].nonzero().tolist() == [[0, 2]]
    assert at["digit"].nonzero().tolist() == [[0, 3]]
    assert at["punctuation"].nonzero().tolist() == [[0, 4]]
    held = document_concepts(rows, [{"a": True}, {"b": True}], "test")
    assert held.labels[0, :, 0].all()
    assert held.labels[1].sum() == 3
    with pytest.raises(InputError, match="one set of labels"):
        document_concepts(rows, [{"a": True}], "test")
    with pytest.raises(InputError, match="give more text"):
        found.enough()
    with pytest.raises(InputError, match="labels are"):
        Concepts(("a",), rows, held.labels, "test")


def test_a_feature_that_is_the_concept_covers_it(model):
    """Token 5's embedding direction, planted as a feature: it alone tells token 5 apart."""
    g = torch.Generator().manual_seed(1)
    rows = torch.randint(1, 37, (400, 12), generator=g, dtype=torch.int32)
    embedded = model.run(torch.arange(37)[:, None], read=["resid_pre.0"])["resid_pre.0"][:, 0]
    whiten = torch.linalg.pinv(torch.cov((embedded - embedded.mean(0)).T))
    direction = whiten @ (embedded[5] - embedded.mean(0))
    scores = embedded @ direction
    cut = float(scores.sort().values[-2:].mean())
    W = torch.stack([direction, torch.randn(16, generator=g)])
    sae = SAE(
        rule="relu", W_enc=W, b_enc=torch.tensor([-cut, 0.0]), W_dec=W, b_dec=torch.zeros(16), point="resid_pre.0"
    )
    labels = ((rows == 5)[..., None]).expand(-1, -1, 1)
    found = knowledge(model, sae, Concepts(("token 5",), rows, labels, "test"))
    one = found.coverage.found[0]
    assert one.feature == 0
    assert one.auroc.value == pytest.approx(1)
    assert one.beside["linear probe"] > 0.9
    assert one.bands[0][1] == pytest.approx(1)  # sensitivity of firing at all
    assert all(s == 1 or math.isnan(s) for s, _, _ in one.bands)
    assert found.absorption is None
    assert found.documents is None
    assert "AUROC >= 0.95: 1 of 1" in str(found.coverage)
    assert found.to_json()["coverage"]["schema"] == "cutaway.coverage/1"


def test_absorption_is_seen_where_it_was_built():
    """A letter's feature that is silent on one word, whose own feature writes the letter too, is absorbed there."""
    g = torch.Generator().manual_seed(0)
    n, d = 2000, 16
    basis = torch.linalg.qr(torch.randn(d, d, generator=g)).Q
    letter, word = basis[0], basis[1]
    holds = torch.rand(n, generator=g) < 0.4
    special = holds & (torch.rand(n, generator=g) < 0.3)
    x = holds[:, None] * 2 * letter + special[:, None] * 2 * word + 0.02 * torch.randn(n, d, generator=g)

    class Built:
        def __init__(self, absorbed):
            self.written = torch.stack([letter, word + letter if absorbed else word, basis[2]])
            self.absorbed = absorbed

        def encode(self, x):
            has, is_word = x @ letter > 1, x @ word > 1
            first = (has & ~is_word) if self.absorbed else has
            return torch.stack([first * 2.0, is_word * 2.0, torch.zeros(len(x))], 1)

    learn = torch.arange(n) % 2 == 0
    split = absorption(Built(True), Built(False), x, holds[:, None], ["begins with a"], learn)
    assert split.letters[0].main[0] == 0
    if len(split.letters[0].main) == 1:
        assert split.rate.value == pytest.approx(0.3, abs=0.05)
    assert split.null.value < 0.02


def test_documents_are_pooled_over_their_own_tokens(model):
    """A feature that fires once in a document of a kind tells the kind, though at most tokens it is silent."""
    g = torch.Generator().manual_seed(2)
    rows = torch.randint(10, 37, (200, 10), generator=g, dtype=torch.int32)
    marked = torch.arange(200) % 3 == 0
    rows[marked, torch.randint(1, 10, (200,), generator=g)[marked]] = 5
    rows[::7, 6:] = -1
    marked = (rows == 5).any(1)
    embedded = model.run(torch.arange(37)[:, None], read=["resid_pre.0"])["resid_pre.0"][:, 0]
    whiten = torch.linalg.pinv(torch.cov((embedded - embedded.mean(0)).T))
    direction = whiten @ (embedded[5] - embedded.mean(0))
    cut = float((embedded @ direction).sort().values[-2:].mean())
    W = torch.stack([torch.randn(16, generator=g), direction])
    b_enc = torch.tensor([0.0, -cut])
    sae = SAE(rule="relu", W_enc=W, b_enc=b_enc, W_dec=W, b_dec=torch.zeros(16), point="resid_pre.0")
    held = document_concepts(rows, [{"marked": bool(m)} for m in marked], "test")
    found = knowledge(model, sae, held)
    assert found.documents is not None
    assert found.documents.units == "documents"
    assert found.documents.found[0].feature == 1
    assert found.documents.found[0].auroc.value == pytest.approx(1)
    assert found.coverage.found[0].auroc.value < 0.8  # at a token the feature is mostly silent
