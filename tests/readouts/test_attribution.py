"""Direct effects add up to the logit difference exactly; each is what taking the component out does, all else held."""

import numpy as np
import pytest
import torch
from model.families import FAMILIES, ids, model

import cutaway as cw
from cutaway.core import InputError
from cutaway.readouts import direct_effects
from cutaway.readouts.attribution import ablated, decompose

ANSWERS, WRONG = torch.tensor([5, 6, 7]), torch.tensor([8, 9, 10])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("wrong", [None, WRONG], ids=["mean logit", "pair"])
def test_the_sum_is_the_difference(family: str, wrong: torch.Tensor | None) -> None:
    m = model(family)
    batch = m.batch(ids(3, 7))
    names, direct, difference, error = decompose(m, batch, ANSWERS, wrong)
    assert error < 1e-5
    assert np.allclose(direct.sum(1), difference, atol=1e-4)
    logits = m.run(batch, read="lm_head").at("lm_head").double() * m.facts.logit_scale
    other = logits.mean(-1) if wrong is None else logits[torch.arange(3), wrong]
    assert np.allclose(difference, (logits[torch.arange(3), ANSWERS] - other).numpy(), atol=1e-5)
    heads = [name for name in names if name.startswith("head ")]
    assert len(heads) == m.facts.n_layers * m.facts.n_heads


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2"])
def test_a_last_layer_component_taken_out_under_a_frozen_norm(family: str) -> None:
    """Nothing but the final norm lies after it, so the direct effect is all that it does."""
    m = model(family)
    batch = m.batch(ids(3, 7))
    last = m.facts.n_layers - 1
    names, direct, difference, _ = decompose(m, batch, ANSWERS, WRONG)
    held = cw.freeze(m.run(batch), "norm")
    run = m.run(batch, read="lm_head", interventions=[cw.zero(f"mlp_out_post.{last}")], freeze=held)
    logits = run.at("lm_head").double() * m.facts.logit_scale
    without = (logits[torch.arange(3), ANSWERS] - logits[torch.arange(3), WRONG]).numpy()
    assert np.allclose(difference - without, direct[:, names.index(f"mlp {last}")], atol=1e-4)


@pytest.mark.parametrize("wrong", [None, WRONG[:2]], ids=["mean logit", "pair"])
def test_ablations_together_equal_one_at_a_time(wrong: torch.Tensor | None) -> None:
    m = model("llama")
    batch = m.batch(ids(2, 7))
    names = ("embedding", "head 0.2", "mlp 1", "head 2.5", "constant")
    got = ablated(m, batch, ANSWERS[:2], wrong, names)
    assert np.isnan(got[:, [0, 4]]).all()

    def difference(*interventions: cw.Intervention) -> torch.Tensor:
        logits = m.run(batch, interventions=interventions).at("logits").double()
        other = logits.mean(-1) if wrong is None else logits[torch.arange(2), wrong]
        return logits[torch.arange(2), ANSWERS[:2]] - other

    for column, made in ((1, cw.zero("z.0", head=2)), (2, cw.zero("mlp_out.1")), (3, cw.zero("z.2", head=5))):
        assert np.allclose(got[:, column], (difference() - difference(made)).numpy(), atol=1e-4)


def test_padding_changes_nothing() -> None:
    m = model("gpt2")
    rows = [ids(1, 4)[0].tolist(), ids(1, 9, seed=1)[0].tolist()]
    both = decompose(m, m.batch(rows), ANSWERS[:2], WRONG[:2])[1]
    for i, row in enumerate(rows):
        alone = decompose(m, m.batch([row]), ANSWERS[i : i + 1], WRONG[i : i + 1])[1]
        assert np.allclose(both[i], alone[0], atol=1e-4)


def test_a_task_gives_prompts_and_answers(almanac: cw.Model) -> None:
    task = cw.task("ioi", almanac, n=8, seed=0)
    found = direct_effects(almanac, task, ablate=0)
    assert len(found.difference) == 8
    assert found.evidence == ()
    mean = dict(zip(found.components, found.direct.mean(0)))
    assert found.difference.mean() > 3
    assert max(mean, key=lambda name: mean[name]).startswith(("mlp 3", "head 3"))
    low, high = found.intervals.T
    assert (low <= found.direct.mean(0) + 1e-9).all()
    assert (found.direct.mean(0) <= high + 1e-9).all()


def test_the_record_says_what_a_null_matches(almanac: cw.Model) -> None:
    found = direct_effects(almanac, "When Mary and John went to the shop, John gave a book to", "Mary", "John")
    (record,) = found.evidence
    assert [null.estimate.name for null in record.nulls] == [f"re-randomised model, seed {i}" for i in range(3)]
    assert record.effect.n == 20
    assert found.to_json()["components"][0]["name"] == "embedding"
    assert "sum" in str(found)


def test_bad_input(almanac: cw.Model) -> None:
    with pytest.raises(InputError, match="same token"):
        direct_effects(almanac, "hi", "Mary", "Mary")
    with pytest.raises(InputError, match="not one token"):
        direct_effects(almanac, "hi", "zebrafish", "Mary")
    with pytest.raises(InputError, match="2 for 1"):
        direct_effects(almanac, "hi", ["Mary", "John"])
    bare = cw.load(torch.nn.Sequential(torch.nn.Embedding(7, 4), torch.nn.Linear(4, 7)))
    with pytest.raises(InputError, match="taken apart"):
        direct_effects(bare, torch.tensor([[1, 2]]), 1, 2)
