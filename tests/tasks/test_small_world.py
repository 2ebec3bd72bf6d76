"""The small world's tasks: its text is what it was, withheld items stay out of it, and the shipped model does them."""

from __future__ import annotations

import hashlib

import pytest

import cutaway as cw
from cutaway.organisms.almanac import behaviours, text
from cutaway.tasks.catalogue import ENTRIES
from cutaway.tasks.small_world import sentences, world
from cutaway.tasks.small_world.vocabulary import BOS, token_ids

# SHA-256 of what the generator made when the shipped models were trained on it. Another figure here means that their
# training text can no longer be made, and that what is withheld may have changed.
ROWS = {
    "train": "52de9e97ecfb6b3c07657293b04ed5474e2bae55ce6ea5f68db984377ef72b95",
    "exam": "60931c48ecbb624dd61772e42703b0d0cd6447f9d138b8cea93c0e75181ff3cb",
    "any": "3b4bc2d217672b8565b4ab3255bc8511419bdc026d16867e7bee89f635b9c0b7",
}
TRAINING = "d98c8329eaa598d3db1a0dac2a68f6affcb1a348415caedfa21b438978f465ff"
VOCABULARY = "706ee0bf09301b3c4d3eddac6684c35c966acf436981f2ebcd372a019ae3524f"
CLAIMED = {  # tasks on which the model's card claims .95, and the behaviour there
    "ioi": "indirect_object",
    "greater-than": "greater_than",
    "pronouns": "pronoun",
    "agreement": "agreement",
    "induction": "induction",
    "two-hop": "two_hop",
    "addition": "addition",
    "antonyms": "antonym_english",
    "antonyms-french": "antonym_french",
    "antonyms-spanish": "antonym_spanish",
    "known-people": "known_person",
}
WITHHELD = ("addition", "two-hop", "known-people", "pronouns", "greater-than")  # by whole prompts


def test_the_text_that_the_shipped_models_learned_from_is_still_made() -> None:
    assert _digest(text.token_rows(400, seed=0).tobytes()) == TRAINING
    assert {s: _digest(text.held_out_rows(400, seed=3, split=s).tobytes()) for s in ROWS} == ROWS
    assert _digest(repr(token_ids()).encode()) == VOCABULARY


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def documents() -> list[str]:
    word = {i: t.removeprefix("▁") for t, i in token_ids().items()}
    flat = " ".join(word[t] for t in text.token_rows(4096, seed=12).ravel().tolist())
    return [d.strip(" ") for d in flat.split(BOS)]


def test_withheld_prompts_are_not_in_the_training_text(documents: list[str], almanac: cw.Model) -> None:
    joined = "\n" + "\n".join(documents)
    word = {i: t.removeprefix("▁") for t, i in token_ids().items()}
    for name in WITHHELD:
        task = cw.task(name, almanac, n=150)
        prompts = [" ".join(word[t] for t in row[m].tolist()[1:]) for row, m in zip(task.clean.ids, task.clean.mask)]
        assert not [p for p in prompts if f"\n{p} " in joined]
    # The same look finds what was trained on, so it could fail.
    trained = cw.task("pronouns", almanac, n=150, split="train")
    prompts = [i.clean.replace(",", " ,") for i in trained.items]
    assert [p for p in prompts if f"\n{p} " in joined]


def test_withheld_name_pairs_and_words(documents: list[str], almanac: cw.Model) -> None:
    barred = sentences.withheld_name_pairs()
    index = {name: i for i, name in enumerate(world.FIRST_NAMES)}
    for split, expected in (("test", True), ("train", False)):
        pairs = [(i.values["IO"], i.values["S"]) for i in cw.task("ioi", almanac, n=100, split=split).items]
        assert all(barred[index[a], index[b]] == expected for a, b in pairs)
    asked = {i.values["word"] for i in cw.task("antonyms", almanac, n=100).items}
    assert not [d for d in documents for w in asked if d.lower().startswith(f"the opposite of {w} is")]


@pytest.mark.parametrize("name", list(CLAIMED))
def test_the_shipped_model_does_what_its_card_claims(name: str, almanac: cw.Model) -> None:
    task = cw.task(name, almanac, n=100)
    found = task.check(almanac)
    assert found.does == "yes"
    assert found.accuracy >= 0.95
    assert found.evidence[0].verdict == "distinguishable from null"
    if name == "greater-than":  # the card's figure is the probability of all later years
        assert float(task.measure(almanac.run(task.clean), "probability").mean()) >= 0.95
    if found.correct_counterfactual is not None:
        assert float(found.correct_counterfactual.mean()) >= 0.95


def test_claims_are_the_cards() -> None:
    assert {b: behaviours.CATALOGUE[b].target for b in CLAIMED.values()} == dict.fromkeys(CLAIMED.values(), 0.95)
    for entry in ENTRIES:
        behaviour = {**CLAIMED, "colours": "coloured_objects", "docstring": "docstring"}.get(entry.name)
        if behaviour is not None and entry.small is not None:
            said = behaviours.CATALOGUE[behaviour].withheld
            assert entry.small.withheld == said or said.startswith("nothing")


def test_unknown_people_are_said_to_be_unknown(almanac: cw.Model) -> None:
    task = cw.task("known-people", almanac, n=80)
    found = task.check(almanac, null=False)
    assert {i.counterfactual_answer for i in task.items} == {"unknown"}
    assert float(found.correct_counterfactual.mean()) >= 0.95


def test_agreement_holds_against_an_attractor_of_the_other_number(almanac: cw.Model) -> None:
    task = cw.task("agreement", almanac, n=200)
    plural = [[item.values[noun] in sentences.PLURALS for noun in ("subject", "attractor")] for item in task.items]
    apart = [i for i, (subject, attractor) in enumerate(plural) if subject != attractor]
    assert 50 < len(apart) < 150
    hard = task.take(apart)
    assert float(hard.measure(almanac.run(hard.clean), "accuracy").mean()) >= 0.95


def test_docstring_and_refusal_and_facts_are_done_too(almanac: cw.Model) -> None:
    for name in ("docstring", "refusal", "facts"):
        assert cw.task(name, almanac, n=60).check(almanac, null=False).accuracy >= 0.9


def test_a_task_that_is_done_in_part_is_said_to_be(almanac: cw.Model) -> None:
    found = cw.task("colours", almanac, n=150).check(almanac)
    assert found.does == "partly"
    assert "in part" in found.verdict
    assert min(share for _, _, share in found.templates) < 0.6 < max(share for _, _, share in found.templates)
