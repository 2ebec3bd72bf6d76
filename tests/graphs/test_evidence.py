"""A graph's evidence: complete, reproducible, honest about what was left out; its path sums are the graph's."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from graphs.tiny_case import IDS, build_model, random_dictionary

from cutaway.core import Evidence, write_json
from cutaway.evidence import rerandomise
from cutaway.graphs import arms as arms_
from cutaway.graphs import nodes as kinds
from cutaway.graphs.evidence import OTHERS, RANDOM, measure, measure_graph
from cutaway.graphs.influence import influence, total_effects
from cutaway.graphs.trace import graph_of
from cutaway.graphs.trial import Plan, path_effects, readout, try_graph

PLAN = Plan(top=20, sample=15, top_edges=20, sample_edges=15, together=4, draws=8)


@pytest.fixture(scope="module")
def case():
    model, dictionary = build_model("llama"), random_dictionary("clt")
    return model, dictionary, graph_of(model, IDS, dictionary)


@pytest.fixture(scope="module")
def trial(case):
    return try_graph(*case, PLAN)


@pytest.fixture(scope="module")
def quick(case):
    model, dictionary, graph = case
    return measure(model, graph, dictionary, quick=True, plan=PLAN)


def test_the_top_features_are_those_of_most_influence_and_the_sample_is_of_the_others(case, trial):
    _, _, graph = case
    every = np.flatnonzero(graph.nodes.kind == kinds.FEATURE)
    size = influence(graph)
    f = trial.features
    assert f.top.sum() == PLAN.top
    assert len(f) == PLAN.top + PLAN.sample
    assert len(set(f.row.tolist())) == len(f)
    assert size[f.row[f.top]].min() >= size[np.setdiff1d(every, f.row[f.top])].max()
    assert trial.target in graph.logit_rows
    between = graph.nodes.kind[np.concatenate([trial.edges.source, trial.edges.target])]
    assert (between == kinds.FEATURE).all()
    assert trial.edges.weight == pytest.approx(
        np.asarray(graph.edges[trial.edges.target, trial.edges.source]).ravel().astype(float)
    )


def test_path_effects_on_a_logit_are_the_total_effects(case):
    _, _, graph = case
    every = np.flatnonzero(graph.nodes.kind == kinds.FEATURE)
    logit = graph.logit_rows[int(np.argmax(graph.probabilities))]
    assert path_effects(graph, every, np.full(len(every), logit)) == pytest.approx(
        total_effects(graph)[every], rel=1e-6
    )


def test_path_effects_count_every_path(case):
    """By hand on the dense matrix: E (I - G E)^-1."""
    _, _, graph = case
    n = len(graph.nodes)
    edges, gain = graph.edges.toarray().astype(float), np.zeros(n)
    feature = graph.nodes.kind == kinds.FEATURE
    gain[feature] = 1 / graph.nodes.pre_activation[feature].astype(float)
    whole = edges @ np.linalg.inv(np.eye(n) - gain[:, None] * edges)
    target, source = np.argwhere((whole != 0) & feature[:, None] & feature[None]).T
    assert path_effects(graph, source[::7], target[::7]) == pytest.approx(
        whole[target[::7], source[::7]], rel=1e-5, abs=1e-6
    )


def test_fewer_are_measured_on_a_large_model_and_never_less_than_a_fifth(case, monkeypatch):
    model, _, _ = case
    assert Plan.for_model(model, 20) == Plan()
    for n_parameters, top in ((120_000_000, 43), (10**12, 20)):
        large = replace(model.facts, n_parameters=n_parameters)
        monkeypatch.setattr(model, "facts", large)
        assert Plan.for_model(model, 64).top == pytest.approx(top, abs=2)


def test_the_readout_is_the_likeliest_token_or_the_contrast(case):
    model, dictionary, graph = case
    logits = model.run(IDS).logits
    assert readout(model, graph).token == int(logits[0, -1].argmax())
    contrast = graph_of(model, IDS, dictionary, contrast=(4, 9))
    assert (readout(model, contrast).token, readout(model, contrast).against) == (4, 9)


def test_quick_says_what_it_left_out(quick):
    assert len(quick.evidence) == 7
    for record in quick.evidence[:4]:
        assert {item.what for item in record.not_done} == {
            arms_.TWIN,
            arms_.UNTRAINED,
            arms_.NEURONS,
            arms_.OTHER_PROMPTS,
            arms_.PARAPHRASES,
        }
        assert [null.estimate.name for null in record.nulls] == [RANDOM]
    for record in quick.evidence[4:6]:
        assert [null.estimate.name for null in record.nulls] == [RANDOM, OTHERS]
    assert [null.estimate.name for null in quick.evidence[6].nulls] == ["as many active features drawn at random"]


def test_every_number_is_in_the_record_or_named_as_missing(quick):
    for record in quick.evidence:
        assert record.effect.n > 0
        assert math.isfinite(record.effect.value)
        assert record.seeds == (0,)
        assert record.verdict != "no null was run"
    tail = quick.evidence[1].residual_tail
    errors = [abs(item.predicted - item.measured) for item in tail]
    assert errors == sorted(errors, reverse=True)
    ids = set(quick.nodes.ids())
    assert all(item.item in ids for item in tail)


def test_measurements_are_rows_that_point_at_nodes(quick):
    ids = set(quick.nodes.ids())
    count = dict.fromkeys(("feature", "sample", "random", "edge", "edge sample"), 0)
    for row in quick.measurements:
        count[row["kind"]] += 1
        assert set(row["id"].split("->")) <= ids
        assert row["target"] in ids
        assert math.isfinite(row["predicted"])
        assert math.isfinite(row["measured"])
    assert count == {"feature": 20, "sample": 15, "random": 35, "edge": 20, "edge sample": 15}


def test_the_seed_decides_all(case, quick):
    model, dictionary, graph = case
    again, rows = measure_graph(model, dictionary, graph, quick=True, plan=PLAN)
    assert again == quick.evidence
    assert rows == quick.measurements
    other, _ = measure_graph(model, dictionary, graph, quick=True, plan=Plan(**{**vars(PLAN), "seed": 5}))
    assert other != again


def test_it_survives_json(quick, tmp_path):
    write_json(tmp_path / "e.json", [record.to_json() for record in quick.evidence])
    read = tuple(Evidence.from_json(value) for value in json.loads((tmp_path / "e.json").read_text()))
    assert [r.to_json() for r in read] == [r.to_json() for r in quick.evidence]


def test_the_arms_run_the_same_procedure(case):
    model, dictionary, graph = case
    twin = (rerandomise(model), random_dictionary("clt", seed=1))
    done = arms_.run_arms(model, dictionary, graph, PLAN, twin=twin, paraphrases=["no tokenizer"][:0])
    assert arms_.TWIN in done.trials
    assert arms_.UNTRAINED in done.trials
    other = done.trials[arms_.TWIN]
    assert other.graph.tokens == graph.tokens
    assert other.graph.model != graph.model
    assert len(other.features) == len(done.trials[arms_.UNTRAINED].features) == 35
    assert done.trials[arms_.UNTRAINED].target_name == try_graph(model, dictionary, graph, PLAN).target_name
    records, _ = measure_graph(model, dictionary, graph, plan=PLAN, twin=twin)
    assert [n.estimate.name for n in records[1].nulls] == [RANDOM, arms_.TWIN, arms_.UNTRAINED]
    assert arms_.PARAPHRASES in {item.what for item in records[1].not_done}


def test_an_absent_twin_is_said(case):
    model, dictionary, graph = case
    done = arms_.run_arms(model, dictionary, graph, PLAN)
    (why,) = [item.why for item in done.not_done if item.what == arms_.TWIN]
    assert "no dictionary trained on the re-randomised model" in why


def test_a_twin_dictionary_is_found_beside_the_dictionary_and_checked(case, tmp_path):
    from cutaway.features import load
    from cutaway.features.train import facts_of

    model, dictionary, graph = case
    dictionary.save(tmp_path / "clt")
    random_dictionary("clt", seed=1).with_(model=facts_of(rerandomise(model))).save(tmp_path / "clt-null")
    found = arms_.run_arms(model, load(tmp_path / "clt"), graph, PLAN)
    assert arms_.TWIN in found.trials
    random_dictionary("clt", seed=1).with_(model=facts_of(rerandomise(model, seed=9))).save(tmp_path / "clt-null")
    refused = arms_.run_arms(model, load(tmp_path / "clt"), graph, PLAN)
    assert arms_.TWIN not in refused.trials
    assert "another model" in next(item.why for item in refused.not_done if item.what == arms_.TWIN)
