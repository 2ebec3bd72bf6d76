"""Indirect objects, whole: laws of the search, the classes and the comparison; almanac; a model that cannot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import cutaway as cw
from cutaway.circuits import faithfulness, measure, opened
from cutaway.core import InputError
from cutaway.exams.ioi import across, ioi_case, published_heads
from cutaway.exams.ioi.across import _features
from cutaway.exams.ioi.behaviours import Behaviours, ports
from cutaway.exams.ioi.classes import CLASSES, PUBLISHED, name_classes
from cutaway.exams.ioi.published import beside_published
from cutaway.exams.ioi.search import Trials, smallest

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "tokenizers" / "gpt2"


@pytest.fixture(scope="module")
def almanac():
    return cw.load("almanac")


@pytest.fixture(scope="module")
def case(almanac):
    return ioi_case(almanac, n=48, draws=40, resamples=2, quick=True)


# ---- the search


class Additive(Trials):
    """A model whose metric is a sum over heads: what is left must be the heads that carry the sum."""

    weights = {"a0.h0": 6.0, "a0.h1": 0.01, "a1.h0": 3.0, "a1.h1": 1.0, "a2.h0": 0.0, "a2.h1": 0.02}

    def __init__(self):
        self.ablations, self.known, self.task = ("one", "two"), {}, [0] * 4

    @property
    def heads(self):
        return tuple(self.weights)

    def run(self, sets):
        values = torch.tensor([[sum(self.weights[h] for h in s)] * 2 for s in sets], dtype=torch.float64)
        return values[..., None].expand(-1, -1, 4)


def test_the_search_leaves_the_heads_that_carry_the_metric_and_no_other():
    assert smallest(Additive(), band=0.05) == ("a0.h0", "a1.h0", "a1.h1")
    assert smallest(Additive(), band=0.15) == ("a0.h0", "a1.h0")
    assert set(smallest(Additive(), band=0.0)) == {"a0.h0", "a0.h1", "a1.h0", "a1.h1", "a2.h1"}


def test_trials_are_the_masked_forward_of_heads(almanac):
    wires = opened(almanac)
    task = cw.task("ioi", almanac, n=4, seed=2, counterfactual="abc")
    trials = Trials(wires, wires.split, task, ("resample", "mean"))
    some = frozenset({"a1.h0", "a3.h2"})
    keep = torch.tensor([not s.startswith("a") or s in some for s in wires.split.sources])
    for i, kind in enumerate(trials.ablations):
        masked = measure(wires, wires.split, task, wires.split.exists & keep[:, None], kind)
        torch.testing.assert_close(trials.run([some])[0, i], masked, rtol=1e-5, atol=1e-4)
    f = trials.faithfulness([frozenset(trials.heads), frozenset()])
    torch.testing.assert_close(f, torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64))


# ---- classes


def behaving(rows, whole=10.0, n=24):
    """Behaviours of heads given as {head: {name: mean}}, a little noise over items."""
    rng = np.random.default_rng(0)
    heads = tuple(rows)

    def table(name):
        return np.array([[rows[h].get(name, 0.0)] * n for h in heads]) + 1e-3 * rng.normal(size=(len(heads), n))

    attention = {k: table(k) for k in ("END to IO", "END to S1", "END to S2", "S2 to S1", "S2 to S1+1", "S1+1 to S1")}
    scores = {k: table(k)[:, 0] for k in ("previous token", "duplicate token", "prefix matching", "first token")}
    scores["OV copying (eigenvalues)"] = table("eigen")[:, 0]
    null = dict.fromkeys((*scores, "copying"), 0.1)
    null |= dict.fromkeys(attention, 0.1)
    ways = ("direct effect", "lowers S", "through queries of name movers", "alone", "joint")
    effects = {k: table(k) for k in ways}
    return Behaviours(heads, whole, attention, {"copying": table("copying")}, scores, null, effects)


def test_a_head_has_the_class_of_what_it_does():
    b = behaving(
        {
            "a0.h0": {"S2 to S1": 0.8, "duplicate token": 0.9},
            "a0.h1": {"S1+1 to S1": 0.9, "previous token": 0.9},
            "a1.h0": {"S2 to S1+1": 0.7, "prefix matching": 0.6},
            "a1.h1": {"END to S2": 0.9, "through queries of name movers": 3.0},
            "a2.h0": {"END to IO": 0.9, "direct effect": 5.0, "copying": 1.0},
            "a2.h1": {"END to IO": 0.6, "alone": 0.0, "joint": 2.0, "copying": 1.0},
            "a2.h2": {"END to IO": 0.5, "direct effect": -3.0},
            "a2.h3": {"END to IO": 0.9, "direct effect": 5.0, "copying": 0.0},  # moves something, copies no name
            "a2.h4": {"END to S2": 0.9},  # looks, and does nothing
            "a2.h5": {"END to IO": 0.6, "alone": -2.0, "joint": 0.0},  # harms less, and backs nothing up
            "a2.h6": {"END to S2": 0.9, "direct effect": 4.0, "lowers S": 3.5},
            "a2.h7": {"END to S2": 0.9, "direct effect": 4.0, "lowers S": -0.5},  # does it by something else
        }
    )
    named = name_classes(b, ("a0.h0", "a0.h1", "a1.h0", "a1.h1", "a2.h0", "a2.h2", "a2.h3", "a2.h4", "a2.h6"))
    assert {c: named.inside[c] for c in CLASSES} == {
        "name mover": ("a2.h0",),
        "negative name mover": ("a2.h2",),
        "S-inhibition": ("a1.h1",),
        "duplicate token": ("a0.h0",),
        "previous token": ("a0.h1",),
        "induction": ("a1.h0",),
        "backup name mover": (),
        "S-suppression": ("a2.h6",),
    }
    assert named.outside["backup name mover"] == ("a2.h1",)
    assert named.absent == ()
    assert name_classes(b, ("a2.h0",)).absent == tuple(
        c for c in CLASSES if c not in ("name mover", "backup name mover")
    )
    assert named.of("a2.h3") == named.of("a2.h4") == named.of("a2.h7") == ()


def test_a_model_whose_heads_do_nothing_has_no_classes():
    named = name_classes(behaving({f"a0.h{i}": {} for i in range(8)}), tuple(f"a0.h{i}" for i in range(8)))
    assert named.absent == CLASSES


# ---- almanac


def test_almanac_has_a_small_circuit_that_meets_what_it_is_held_to(case):
    assert case.competence.does == "yes"
    named = {one.name: one for one in case.criteria}
    assert named["share of heads"].met
    assert named["faithfulness, resample ablation"].met
    assert named["faithfulness, mean ablation"].met
    assert all(one.met for name, one in named.items() if name.startswith("share of random circuits"))
    assert case.named.inside["name mover"]
    assert case.named.inside["S-inhibition"]
    assert set(case.named.inside["S-inhibition"]).isdisjoint(case.named.inside["name mover"])


def test_the_result_is_json_and_its_circuit_is_read_back_and_measures_the_same(case, almanac, tmp_path):
    from cutaway.cli.circuit_scoring import read_circuit
    from cutaway.core import write_json

    body = case.to_json()
    json.dumps(body, allow_nan=False)
    assert body["schema"] == "cutaway.ioi/1"
    assert {row["head"] for row in body["measured"] if row["in_circuit"]} == set(case.heads)
    write_json(tmp_path / "result.json", body)
    read = read_circuit(tmp_path)
    task = cw.task("ioi", almanac, n=8, seed=5, counterfactual="abc")
    assert faithfulness(almanac, read, task).estimate == faithfulness(almanac, case.circuit, task).estimate


def test_a_model_is_most_like_itself(case):
    found = across([case, case])
    assert found.jaccard == (1.0,)
    named = [h for h in case.heads if case.named.of(h)]
    assert found.agreement == (len(named) / len(case.heads),)
    assert found.p[0] < 0.05
    assert _features(case).shape == (16, 6)
    with pytest.raises(InputError, match="two models"):
        across([case])


# ---- published heads, other models


def test_the_published_heads_are_26_in_seven_classes():
    found = published_heads()
    assert len(found.heads) == len(set(found.heads)) == 26
    assert tuple(sorted(found.classes)) == tuple(sorted(PUBLISHED))
    assert {"a9.h9", "a10.h7", "a5.h5"} <= set(found.heads)
    exact = beside_published(found.heads, 144)
    assert exact.effect.value == 1.0
    assert exact.verdict == "distinguishable from null"
    others = [f"a{i}.h{j}" for i in range(12) for j in range(12) if f"a{i}.h{j}" not in found.heads]
    assert beside_published(others[:26], 144).verdict == "worse than null"


def test_a_model_that_does_not_do_it_is_refused(almanac):
    from cutaway.evidence import rerandomise

    with pytest.raises(InputError, match="DOES NOT DO ioi"):
        ioi_case(rerandomise(almanac, seed=0), n=16, quick=True)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the GPT-2 tokenizer of ../shared/data")
def test_a_gpt2_folder_takes_the_same_path(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

    torch.manual_seed(0)
    tokenizer = GPT2TokenizerFast.from_pretrained(DATA)
    config = GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=64, vocab_size=len(tokenizer))
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = cw.load(tmp_path)
    with pytest.raises(InputError, match="--force"):
        ioi_case(model, n=8, quick=True)
    case = ioi_case(model, n=8, resamples=2, quick=True, force=True)
    assert case.competence.does == "no"
    assert not case.passed or len(case.heads) <= 1
    json.dumps(case.to_json(), allow_nan=False)


def test_ports_of_grouped_heads_are_shared_ones(almanac):
    from cutaway.model.families import tiny

    assert ports(opened(almanac).split, ["a1.h0", "a2.h3"], "q") == ["a1.h0<q>", "a2.h3<q>"]
    wires = opened(cw.load(tiny("llama")))
    if wires.split.shared:
        stem, group = next((s, g) for s, g in wires.split.shared.items() if len(g) > 1)
        assert ports(wires.split, group, "v") == [f"{stem}<v>"]
        assert ports(wires.split, group, "q") == [f"{h}<q>" for h in group]
