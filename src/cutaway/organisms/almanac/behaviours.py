"""The exam: each behaviour on items that the training text withholds, answered greedily.

An item is a prompt that ends just before a word which the prompt determines.  What "held out" means differs by
behaviour and is written in the text kinds: a composition never shown (two hops, sums, name pairs, couplets, frames)
or a fresh draw (induction, coloured objects).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np

from cutaway.tasks.small_world import facts, languages, patterns, sentences, stories, strange, verse, world
from cutaway.tasks.small_world.templates import PAD, Drawn
from cutaway.tasks.small_world.vocabulary import BLANK, BOS, ids, token_ids


@dataclass(frozen=True)
class Item:
    """A prompt and the words that are right after it (one, but for greater-than and sentiment).

    `extra` holds what the behaviour knows beside: two_hop has city, state (the middle hop) and capital.
    """

    prompt: str
    answer: str
    answers: tuple[str, ...]
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Exam:
    """Items as ids: `prompts` [n, length] right-padded, `last` [n] (the column where each ends), `right` [n] tuples."""

    prompts: np.ndarray
    last: np.ndarray
    right: list[tuple[int, ...]]
    facts: dict[str, np.ndarray]


@dataclass(frozen=True)
class Behaviour:
    make: Callable[[np.random.Generator, int, str], Drawn]
    withheld: str  # what the training text never holds
    right: Callable[[Drawn, int], tuple[int, ...]] | None = (
        None  # ids of the right words of row i; default: the drawn word
    )
    extra: Callable[[Drawn, int], dict[str, str]] | None = None
    mass: bool = False  # score the probability on the right words instead of the greedy word
    target: float | None = 0.95


def _later_years(drawn: Drawn, i: int) -> tuple[int, ...]:
    return tuple(int(t) for t in ids(sentences.YEARS[drawn.facts["start"][i] + 1 :]))


def _mood_words(drawn: Drawn, i: int) -> tuple[int, ...]:
    mood = "bad" if drawn.facts["bad"][i] else "good"
    return tuple(int(t) for t in ids(tuple(stories.FEELING[mood] + stories.DAY[mood])))


def _hops(drawn: Drawn, i: int) -> dict[str, str]:
    state = drawn.facts["state"][i]
    return {
        "city": world.CITIES[drawn.facts["city"][i]],
        "state": world.STATES[state],
        "capital": world.CAPITALS[state],
    }


def _terms(drawn: Drawn, i: int) -> dict[str, str]:
    return {"a": str(drawn.facts["x"][i]), "b": str(drawn.facts["y"][i])}


def _rhymes(drawn: Drawn, i: int) -> dict[str, str]:
    word = drawn.facts["word"][i]
    return {
        "first": verse.WORDS[word],
        "rhyme": verse.WORDS[word ^ 1],
        "category": verse.CATEGORIES[drawn.facts["category"][i]],
    }


def _in(language: str) -> Callable[[np.random.Generator, int, str], Drawn]:
    return lambda rng, n, split: languages.antonym(rng, n, split, language)


ANTONYM_WITHHELD = "both question frames for a fifth of (pair, direction)"
CATALOGUE: dict[str, Behaviour] = {
    "addition": Behaviour(patterns.addition, "a fifth of the operand pairs, both orders", extra=_terms),
    "rhyme": Behaviour(verse.couplet, "a fifth of (first line, rhyme word, second line)", extra=_rhymes, target=0.80),
    "indirect_object": Behaviour(sentences.indirect_object, "15 % of the name pairs, in every template and order"),
    "induction": Behaviour(patterns.induction, "nothing: every list is a fresh draw"),
    "greater_than": Behaviour(
        sentences.greater_than, "a fifth of (event, century, year)", right=_later_years, mass=True
    ),
    "pronoun": Behaviour(sentences.pronoun, "a fifth of (name, template)"),
    "agreement": Behaviour(sentences.agreement, "a fifth of the ordered noun pairs, in every number"),
    "brackets": Behaviour(patterns.brackets, "a fifth of the sequences of opening brackets of depth 3 to 5"),
    "antonym_english": Behaviour(_in("english"), ANTONYM_WITHHELD),
    "antonym_french": Behaviour(_in("french"), ANTONYM_WITHHELD),
    "antonym_spanish": Behaviour(_in("spanish"), ANTONYM_WITHHELD),
    "two_hop": Behaviour(
        facts.two_hop, "40 of the 160 cities, in every two-hop frame (both hops are shown)", extra=_hops
    ),
    "known_person": Behaviour(facts.known_person, "a fifth of (person, question form)"),
    "unknown_person": Behaviour(facts.unknown_person, "30 of the 80 undescribed names, in every question"),
    "coloured_objects": Behaviour(patterns.coloured_objects, "nothing: fresh draws", target=None),
    "docstring": Behaviour(patterns.docstring, "nothing: fresh draws", target=None),
    "refusal": Behaviour(strange.refusal, "nothing", target=None),
    "sentiment": Behaviour(stories.story, "nothing: fresh draws", right=_mood_words, mass=True, target=None),
    "one_hop": Behaviour(facts.one_hop, "nothing: the facts that two_hop composes", target=None),
}


def behaviours_in(mixture: str) -> tuple[str, ...]:
    """The behaviours that a mixture of text holds (see `text.MIXTURES`)."""
    from .text import MIXTURES

    made = {id(make) for make, _ in MIXTURES[mixture].values()}
    several = languages.antonym in (make for make, _ in MIXTURES[mixture].values())  # one kind of text, three exams
    return tuple(
        name for name, one in CATALOGUE.items() if id(one.make) in made or (several and name.startswith("antonym"))
    )


def _exam(name: str, n: int, seed: int) -> tuple[Exam, Drawn, np.ndarray]:
    """Up to n distinct prompts of one behaviour, and the rows of the draw that they came from."""
    if name not in CATALOGUE:
        raise KeyError(f"no behaviour {name!r}; there are {', '.join(CATALOGUE)}")
    behaviour = CATALOGUE[name]
    rng = np.random.default_rng(np.random.SeedSequence([20262, seed, *name.encode()]))
    drawn = behaviour.make(rng, 8 * n + 500, "exam")
    before = np.arange(drawn.tokens.shape[1]) < drawn.answer[:, None]
    tokens = np.where(before, drawn.tokens, np.int16(PAD))
    order = np.argsort(tokens == PAD, axis=1, kind="stable")  # real tokens first, in their order
    tokens = np.take_along_axis(tokens, order, axis=1)
    _, first = np.unique(tokens, axis=0, return_index=True)
    rows = np.sort(first)[:n]
    bos = np.full((len(rows), 1), token_ids()[BOS], dtype=np.int16)
    prompts = np.concatenate([bos, tokens[rows]], axis=1)
    last = (prompts != PAD).sum(axis=1) - 1
    prompts = np.where(prompts == PAD, token_ids()["<pad>"], prompts)[:, : last.max() + 1]
    right = [behaviour.right(drawn, i) if behaviour.right else (int(drawn.tokens[i, drawn.answer[i]]),) for i in rows]
    return Exam(prompts, last, right, {k: v[rows] for k, v in drawn.facts.items()}), drawn, rows


def exam(name: str, n: int, seed: int = 0) -> Exam:
    """Up to n distinct held-out items of a behaviour, as ids (fewer where the world has fewer)."""
    return _exam(name, n, seed)[0]


def items(name: str, n: int, seed: int = 0) -> list[Item]:
    """Up to n distinct held-out items of a behaviour, as text."""
    from .tokenizer import build_tokenizer

    tokenizer = build_tokenizer()
    made, drawn, rows = _exam(name, n, seed)
    extra = CATALOGUE[name].extra
    word = {i: t.removeprefix(BLANK) for t, i in token_ids().items()}
    out = []
    for k, row in enumerate(rows):
        prompt = tokenizer.decode(made.prompts[k, 1 : made.last[k] + 1])
        answer = word[int(drawn.tokens[row, drawn.answer[row]])]
        out.append(Item(prompt, answer, tuple(word[t] for t in made.right[k]), extra(drawn, row) if extra else {}))
    return out


def _items_of(name: str) -> Callable[[int, int], list[Item]]:
    return lambda n, seed=0: items(name, n, seed)


BEHAVIOURS: dict[str, Callable[[int, int], list[Item]]] = {name: _items_of(name) for name in CATALOGUE}


def two_hop_swaps(n: int, seed: int = 0) -> list[tuple[Item, Item]]:
    """Pairs of withheld two-hop prompts in one frame, of different states; `extra["state"]` is the middle hop."""
    pool: dict[str, list[Item]] = {}
    for item in items("two_hop", 10_000, seed):
        pool.setdefault(item.prompt.replace(item.extra["city"], "{C}"), []).append(item)
    frames = sorted(pool)
    rng = np.random.default_rng(np.random.SeedSequence([20263, seed]))
    most = sum(len(p) * (len(p) - 1) for p in pool.values()) // 2
    pairs: dict[tuple[str, str], tuple[Item, Item]] = {}
    while len(pairs) < min(n, most):
        frame = pool[frames[rng.integers(len(frames))]]
        a, b = (frame[i] for i in rng.choice(len(frame), 2, replace=False))
        if a.extra["state"] != b.extra["state"]:
            pairs.setdefault((a.prompt, b.prompt), (a, b))
    return list(pairs.values())


def example_prompts() -> dict[str, list[tuple[str, str]]]:
    """For each behaviour two (prompt, answer) pairs, to offer where a prompt leaves the world."""
    return {name: [(item.prompt, item.answer) for item in make(2, 7)] for name, make in BEHAVIOURS.items()}


# ---------------------------------------------------------------- measuring
@dataclass(frozen=True)
class Score:
    """Accuracy on n held-out items with its Wilson interval (95 %)."""

    behaviour: str
    accuracy: float
    low: float
    high: float
    n: int
    measure: str  # "greedy" or "probability mass"
    withheld: str
    target: float | None


def wilson(p: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion p of n."""
    if n == 0:
        return 0.0, 1.0
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def score(model: Any, made: Exam, mass: bool = False, batch: int = 128) -> np.ndarray:
    """[n] of 0/1 (greedy word is right) or probabilities on the right words.  One forward a batch."""
    import torch

    out = np.zeros(len(made.last))
    device = next(model.parameters()).device
    with torch.no_grad():
        for begin in range(0, len(out), batch):
            last = torch.from_numpy(made.last[begin : begin + batch]).to(device)
            tokens = torch.from_numpy(made.prompts[begin : begin + batch, : int(last.max()) + 1].astype(np.int64)).to(
                device
            )
            logits = model(input_ids=tokens, use_cache=False).logits[torch.arange(len(last)), last].float()
            probability, greedy = logits.softmax(-1), logits.argmax(-1).tolist()
            for k, right in enumerate(made.right[begin : begin + batch]):
                out[begin + k] = float(probability[k, list(right)].sum()) if mass else float(greedy[k] in right)
    return out


def measure_behaviours(
    model: Any, tokenizer: Any = None, seed: int = 0, n: int = 500, names: tuple[str, ...] = ()
) -> list[Score]:
    """Every behaviour's score.  `tokenizer` is checked to be almanac's own: the items are made of its ids.

    Costs one forward of about n short prompts a behaviour: some 10 s on one core for the default.
    """
    if tokenizer is not None and tokenizer.get_vocab() != token_ids():
        raise ValueError(
            "the tokenizer is not almanac's: its vocabulary differs from cutaway.tasks.small_world's word list"
        )
    training = model.training
    model.eval()
    rows = []
    for name in names or tuple(CATALOGUE):
        behaviour = CATALOGUE[name]
        result = score(model, exam(name, n, seed), behaviour.mass)
        low, high = wilson(float(result.mean()), len(result))
        measure = "probability mass" if behaviour.mass else "greedy"
        rows.append(
            Score(name, float(result.mean()), low, high, len(result), measure, behaviour.withheld, behaviour.target)
        )
    model.train(training)
    return rows
