"""The shipped model does what its card says, on items it never saw."""

import pytest

import cutaway as cw
from cutaway.core.registry import model_examples, shipped_models
from cutaway.organisms import measure_organism
from cutaway.organisms.almanac.behaviours import CATALOGUE
from cutaway.organisms.almanac.card import examples


@pytest.fixture(scope="module")
def almanac() -> cw.Model:
    return cw.load("almanac")


def test_every_offered_prompt_works(almanac: cw.Model) -> None:
    assert almanac.folder is not None
    offered = model_examples(almanac.folder)
    assert offered == examples()["prompts"]
    wrong = []
    for example in offered:
        assert almanac.spelled_out(example["prompt"]) == []
        best = int(almanac.run(example["prompt"]).logits[0, -1].argmax())
        if almanac.token_strings([best])[0].strip() != example["answer"]:
            wrong.append(example)
    assert wrong == []


def test_behaviours_reach_their_targets_on_held_out_items(almanac: cw.Model) -> None:
    rows = measure_organism(almanac, seed=77, n=100)
    targets = {name: behaviour.target for name, behaviour in CATALOGUE.items()}
    assert {row["behaviour"] for row in rows} == set(targets)
    # The interval's upper end: what a hundred items can refute.
    missed = [r["behaviour"] for r in rows if (t := targets[r["behaviour"]]) is not None and r["interval"][1] < t]
    assert missed == []


def test_a_dozen_checkpoints_of_its_training_ship_and_load(almanac: cw.Model) -> None:
    folder = shipped_models()["almanac"] / "checkpoints"
    steps = sorted(folder.glob("step-*"))
    assert len(steps) >= 12
    first, last = cw.load(steps[0]), cw.load(steps[-1])
    prompt = almanac.tokens("36 + 59 =")
    assert (last.run(prompt).logits - almanac.run(prompt).logits).abs().max() < 1e-3
    assert (first.run(prompt).logits - almanac.run(prompt).logits).abs().max() > 1
