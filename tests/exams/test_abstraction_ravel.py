"""RAVEL's case: the entities kept are those that the model knows, training and test have different ones, and a model
that knows too little is told so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import cutaway as cw
from cutaway.abstraction import Training, align, counterfactuals
from cutaway.abstraction.data import Data
from cutaway.core import CutawayError, InputError, UnknownName
from cutaway.exams.abstraction_ravel import LEAST, ravel_case
from cutaway.tasks.small_world import languages

ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "tasks" / "ravel" / "data.tgz"


@pytest.fixture(scope="module")
def almanac() -> Any:
    return cw.load("almanac")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small world's words in RAVEL's files, with one attribute that nobody could know."""
    folder = tmp_path_factory.mktemp("ravel")
    values = {
        c[side]: {"opposite": c[1 - side], "french": c[2 + side], "shoe size": "seven"}
        for c in languages.CONCEPTS
        for side in (0, 1)
    }
    french = languages.TRANSLATION["english", "french"].split(" *")[0].replace("{a}", "%s")
    prompts = {
        "opposite": ["the opposite of the word %s is the word", "%s %s"],
        "french": [french],
        "shoe size": ["the opposite of the word %s is the word"],
    }
    files = {
        "entity_attributes": values, "attribute_to_prompts": prompts, "entity_to_split": {}, "prompt_to_split": {},
    }  # fmt: skip
    for name, body in files.items():
        (folder / f"ravel_word_{name}.json").write_text(json.dumps(body))
    return folder


def test_what_is_kept_is_known_and_held_out_by_entity(almanac: Any, words: Path) -> None:
    case = ravel_case(almanac, words, "word")
    assert set(case.places) == {"opposite", "french"}, "the attribute that it does not know is left out"
    assert len(case.causal.variables["entity"].domain) >= LEAST
    parts = [counterfactuals(case.causal, tuple(case.places), 64, part=part) for part in ("train", "test")]
    seen = [{values["entity"] for rows in (pairs.base, *pairs.sources) for values in rows} for pairs in parts]
    assert not seen[0] & seen[1]
    data = Data(almanac, case.causal, tuple(case.places), parts[0], [place.at for place in case.places.values()])
    assert bool(data.competent.all())
    for place, base, column in zip(
        [case.places["french"]] * 64, parts[0].base, data.spot(case.places["french"], 1).columns[:, 0].tolist()
    ):
        row = parts[0].base.index(base)
        token = data.rows.batch.ids[row][column]
        assert almanac.tokenizer.decode([int(token)]).strip() == base["entity"], place.where
    found = align(almanac, case.causal, case.places, n=96, n_test=48, quick=True, seeds=(0,), training=Training(4, 16))
    assert {part.name for part in found.attributes} == {"opposite", "french"}
    assert "values of entity unseen in training" in str(found)


def test_a_model_that_does_not_know_is_told_so(almanac: Any, words: Path) -> None:
    from cutaway.evidence import rerandomise

    with pytest.raises(CutawayError, match=r"does not know RAVEL's word: .* opposite 0%"):
        ravel_case(rerandomise(almanac), words, "word")
    with pytest.raises(CutawayError, match="knows opposite, shoe size of only 0 among"):
        ravel_case(almanac, words, "word", ["opposite", "shoe size"])
    if not ARCHIVE.is_file():
        pytest.skip("RAVEL's data are not here")
    with pytest.raises(CutawayError, match="does not know RAVEL's verb"):
        ravel_case(almanac, ARCHIVE, "verb")


def test_one_answer_for_all_is_no_knowledge(almanac: Any, tmp_path: Path) -> None:
    """A prompt that has one answer whoever is asked of: right for three in four of these."""
    words = [c[side] for c in languages.CONCEPTS for side in (0, 1)]
    said = almanac.tokenizer.decode(
        [int(almanac.run("the opposite of the word hot is").logits[0, -1].argmax())]
    ).strip()
    values = {word: dict.fromkeys(("one", "other"), said if i % 4 else "seven") for i, word in enumerate(words)}
    prompts = {name: ["the opposite of the word hot is"] for name in ("one", "other")}
    prompts = {name: [f"%s. {text}" for text in texts] for name, texts in prompts.items()}
    bodies = {
        "entity_attributes": values,
        "attribute_to_prompts": prompts,
        "entity_to_split": {},
        "prompt_to_split": {},
    }
    for name, body in bodies.items():
        (tmp_path / f"ravel_word_{name}.json").write_text(json.dumps(body))
    with pytest.raises(CutawayError, match=r"does not know RAVEL's word|the same (one|other)"):
        ravel_case(almanac, tmp_path, "word")
    with pytest.raises(CutawayError, match=r"does not know RAVEL's word|the same (one|other)"):
        ravel_case(almanac, tmp_path, "word", ["one", "other"])


def test_what_is_asked_wrongly_is_named(almanac: Any, words: Path) -> None:
    with pytest.raises(InputError, match=r"--data data.tgz"):
        ravel_case(almanac, None)
    with pytest.raises(UnknownName, match="opposite"):
        ravel_case(almanac, words, "word", ["oposite", "french"])
    with pytest.raises(InputError, match="at least two"):
        ravel_case(almanac, words, "word", ["french"])
    with pytest.raises(UnknownName, match="word"):
        ravel_case(almanac, words, "wrd")
    with pytest.raises(InputError, match="no tokenizer"):
        ravel_case(cw.load(torch.nn.Sequential(torch.nn.Linear(2, 2))), words, "word")
