"""The two-hop case: its arithmetic on cases whose truth is known, and one run on the shipped model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from graphs.tiny_case import N_LAYERS, build_model, random_dictionary

import cutaway as cw
from cutaway.core import InputError
from cutaway.evidence import proportion
from cutaway.exams import swapper as sw
from cutaway.exams import two_hop as th
from cutaway.exams.two_hop import Cases, How, Swap, rows, two_hop

EVERYWHERE = How(("subject", "end"), N_LAYERS, 0.0, 1.0)


def question(subject, middle, frame="f", length=6, answer=0):
    ids = tuple([1] + [20 + ord(frame) % 7] * (length - 3) + [30 + subject, 2])
    return sw.Question(ids, length - 2, f"s{subject}", middle, answer, frame)


QUESTIONS = [question(i, f"m{i % 3}", f) for i in range(12) for f in ("f", "g")]


@pytest.fixture(scope="module")
def tiny():
    return sw.Swapper(build_model("llama"), random_dictionary("clt"), QUESTIONS, QUESTIONS, seed=0)


def test_eta_squared_is_the_share_of_variance_between_groups():
    g = torch.Generator().manual_seed(0)
    which = torch.arange(300) % 3
    noise = torch.randn(300, generator=g)
    by_group = which.double() - 1
    x = torch.stack([by_group, noise, by_group + noise, torch.ones(300)], dim=1)
    eta, means = sw.eta_squared(x, which, 3)
    assert eta[0] == pytest.approx(1)
    assert eta[1] < 0.03
    assert eta[2] == pytest.approx(float((2 / 3) / (2 / 3 + 1)), abs=0.08)
    assert eta[3] == 0
    assert means[:, 0] == pytest.approx([-1, 0, 1])


def test_a_feature_carries_the_middle_term_only_if_it_prefers_the_same_in_both_kinds_of_question():
    eta = np.full(3, 0.9)
    by = np.array([[0.0, 0, 0], [1, 1, 1], [5, 5, 5]])
    other = np.array([[0.0, 5, 3], [1, 1, 0], [5, 0, 3.5]])
    assert sw.carries(eta, by, np.array([0.8, 0.9, 0.1]), other) == pytest.approx([0.8, 0, 0])


def test_features_are_found_on_other_subjects_than_they_are_judged_on():
    found, judged = th._halves(QUESTIONS)
    assert not {q.subject for q in found} & {q.subject for q in judged}
    assert {q.middle for q in found} == {q.middle for q in judged} == {"m0", "m1", "m2"}
    assert len(found) + len(judged) == len(QUESTIONS)


def test_practice_pairs_share_a_frame_and_differ_in_the_middle_term():
    pairs = th._practice(QUESTIONS, 50, seed=1)
    assert len(pairs) == 50
    assert all(a.frame == b.frame and a.middle != b.middle for a, b in pairs)
    assert th._practice([q for q in QUESTIONS if q.middle == "m0"], 50, seed=1) == []


def test_swapping_a_question_with_itself_changes_nothing(tiny):
    ready = tiny.prepared([(q, q) for q in QUESTIONS[:6]])
    clean = [int(tiny.model.run(torch.tensor([q.ids])).logits[0, -1].argmax()) for q in QUESTIONS[:6]]
    for direct in (False, True):
        assert tiny.answers(ready, EVERYWHERE, direct=direct).tolist() == clean


def test_the_swap_moves_activations_from_a_to_b(tiny):
    """Through the decoders, factor b - a, at the chosen places; random directions keep the norms."""
    (group,) = tiny.prepared([(QUESTIONS[0], QUESTIONS[2])])
    deltas = tiny._difference_of_features(group, How(("end",), 1, 0.0, 2.0), others=False)
    a, b = (
        tiny.dictionary.activations(0, tiny.model.run(torch.tensor([q.ids]), read=["mlp_in.0"])["mlp_in.0"][:, -1])
        for q in (QUESTIONS[0], QUESTIONS[2])
    )
    kept = tiny.chosen(How(("end",), 1, 0.0, 2.0), "end")[0]
    change = torch.zeros_like(a)
    change[:, kept] = 2 * b[:, kept] - a[:, kept]
    assert set(deltas) == {(f"mlp_out.{to}", "end") for to in range(N_LAYERS)}
    for to in range(N_LAYERS):
        expected = change @ tiny.dictionary.layers[0].W_dec[:, to]
        assert torch.allclose(deltas[f"mlp_out.{to}", "end"], expected, atol=1e-5)


def test_pairs_of_several_lengths_come_back_in_their_order(tiny):
    long = [question(i, f"m{i % 3}", "h", length=9) for i in range(4)]
    pairs = [(QUESTIONS[0], QUESTIONS[2]), (long[0], long[1]), (QUESTIONS[4], QUESTIONS[2]), (long[2], long[1])]
    together = tiny.answers(tiny.prepared(pairs), EVERYWHERE)
    alone = [int(tiny.answers(tiny.prepared([pair]), EVERYWHERE)[0]) for pair in pairs]
    assert together.tolist() == alone


def test_only_pairs_answered_right_on_both_sides_count(tiny):
    top = [int(tiny.model.run(torch.tensor([q.ids])).logits[0, -1].argmax()) for q in QUESTIONS]
    knows = [sw.Question(**{**vars(q), "answer": t}) for q, t in zip(QUESTIONS, top)]
    wrong = [sw.Question(**{**vars(q), "answer": (t + 1) % 61}) for q, t in zip(QUESTIONS, top)]
    assert len(tiny.right([(knows[0], knows[2]), (knows[0], wrong[2]), (wrong[0], knows[2])])) == 1


def test_a_model_that_answers_nothing_right_is_refused():
    cases = Cases(QUESTIONS, QUESTIONS, [(QUESTIONS[0], QUESTIONS[2])])
    with pytest.raises(InputError, match="nothing to swap"):
        two_hop(build_model("llama"), random_dictionary("plt"), cases, choose_on=10)


@pytest.mark.parametrize(("flips", "random", "passed"), [(80, 10, (True, True)), (79, 11, (False, False))])
def test_a_row_passes_within_its_tolerance_and_a_report_is_not_judged(flips, random, passed):
    def share(k):
        return proportion(k, 100, name="x")

    swap = Swap("plt", EVERYWHERE, {}, 100, share(flips), share(random), *[share(50)] * 5, failures=())
    made = rows(swap)
    assert (made[0]["passed"], made[1]["passed"]) == passed
    assert all(row["passed"] is None for row in made[2:])
    assert made[0]["interval"][0] < flips / 100 < made[0]["interval"][1]


def test_the_shipped_model_follows_the_swap():
    from cutaway.core.registry import shipped_dictionaries
    from cutaway.exams.cases import two_hop_cases
    from cutaway.features import load

    folders = shipped_dictionaries("almanac")
    if "plt" not in folders:
        pytest.skip("no dictionaries ship with almanac in this checkout")
    model = cw.load("almanac")
    cases = two_hop_cases(model, n_pairs=40)
    withheld = {q.subject for pair in cases.pairs for q in pair}
    assert not withheld & {q.subject for q in cases.training}
    swap = two_hop(model, load(folders["plt"]), cases, choose_on=16)
    assert swap.flips.n <= 40
    assert len(swap.failures) == round(swap.flips.n * (1 - swap.flips.value))
    assert swap.flips.interval.low > swap.random.interval.high
    assert swap.direct.value < swap.flips.value
    assert swap.evidence().verdict in ("distinguishable from null", "beaten by a baseline")
