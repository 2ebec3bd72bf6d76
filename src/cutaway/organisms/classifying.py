"""Labelled texts by name or file, and a dictionary for them: what `cutaway classify` begins with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cutaway.core import InputError, UnknownName

if TYPE_CHECKING:
    from cutaway.features import SAE
    from cutaway.features.classify import ClassifyTable
    from cutaway.model import Model

Say = Callable[[str], None]
OWN = {
    "topics": "stories of the small world, by topic (8)",
    "moods": "the same, by mood, without the last sentence",
}
TRAINED = 60_000


def classify(
    model: str, data: str, *, dictionary: str | None = None, at: str | None = None, shifted: str | Path | None = None,
    few: int = 10, most: int = 2000, seed: int = 0, text_column: str = "text", label_column: str = "label",
    on: Say = lambda message: None,
) -> ClassifyTable:  # fmt: skip
    """data: topics, moods, or a .csv or .jsonl file of texts and labels. dictionary: a folder; without one it is
    trained here, on the texts, at `at` (by default the last layer's output but one). most: texts at most.

    Raises InputError, UnknownName.
    """
    import cutaway as cw
    from cutaway.features import check_fit
    from cutaway.features.classify import classify_table
    from cutaway.organisms.dictionary_studies import find_sae

    loaded = cw.load(model)
    if loaded.tokenizer is None:
        raise InputError(f"{loaded.name} has no tokenizer, so texts cannot be read for it.")
    texts, labels = _data(data, most, seed, text_column, label_column)
    other = None if shifted is None else _data(str(shifted), most, seed, text_column, label_column)
    if dictionary is not None:
        sae = check_fit(loaded, find_sae(loaded, dictionary))
    else:
        on(f"training a dictionary on the texts ({TRAINED:,} tokens)")
        sae = _trained(loaded, texts, at, seed)
    return classify_table(loaded, sae, texts, labels, shifted=other, few=few, seed=seed, data=data, on=on)


def _trained(model: Model, texts: list[str], at: str | None, seed: int) -> SAE:
    from cutaway.features import SAE, DictionarySettings, TrainSettings, train
    from cutaway.features.embedding import text_rows

    point = at or f"resid_post.{max(0, model.facts.n_layers - 2)}"
    one = DictionarySettings(
        name="here", kind="sae", at=point, features=max(256, 4 * model.facts.d_model), l0=16, seed=seed,
        dead_after=10_000,
    )  # fmt: skip
    made = train(
        model, text_rows(model, texts), TrainSettings(dictionaries=(one,), tokens=TRAINED, batch=512), quiet=True
    )
    found = made["here"]
    assert isinstance(found, SAE)
    return found


def _data(given: str, most: int, seed: int, text: str, label: str) -> tuple[list[str], list[str]]:
    if given in OWN:
        return _stories(given, most, seed)
    path = Path(given)
    if not path.exists():
        raise UnknownName("labelled data", given, [*OWN, "a .csv or .jsonl file"])
    from cutaway.readouts import read_labelled

    found = read_labelled(path, text=text, label=label)
    if found.words is not None:
        raise InputError(f"{given} labels words; texts with a label each are classified.")
    order = np.random.default_rng(seed).permutation(len(found.texts))[:most]
    return [found.texts[i] for i in order], [str(found.labels[i]) for i in order]


def _stories(kind: str, most: int, seed: int) -> tuple[list[str], list[str]]:
    """Stories as text. Of moods the last sentence, whose words name the feeling, is cut."""
    from cutaway.tasks.small_world.stories import TOPICS, story
    from cutaway.tasks.small_world.templates import PAD
    from cutaway.tasks.small_world.vocabulary import token_ids

    words = {i: word.replace("▁", " ") for word, i in token_ids().items()}
    drawn = story(np.random.default_rng(np.random.SeedSequence([20267, seed])), min(most, 1500), "any")
    names = list(TOPICS)
    texts, labels = [], []
    for row, topic, bad in zip(drawn.tokens, drawn.facts["topic"], drawn.facts["bad"]):
        said = [words[int(t)] for t in row if t != PAD]
        if kind == "moods":
            stops = [i for i, word in enumerate(said) if word.strip() == "."]
            said = said[: stops[-2] + 1] if len(stops) > 1 else said
        texts.append("".join(said).strip())
        labels.append(names[int(topic)] if kind == "topics" else ("bad" if bad else "good"))
    return texts, labels


def listed() -> dict[str, Any]:
    return dict(OWN)
