"""Indirect objects, pronouns and agreement in English."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cutaway.core import InputError
from cutaway.tasks.in_english import words
from cutaway.tasks.in_english.drafts import Draft, Drawer, keep
from cutaway.tasks.reading import Reader

# ---------------------------------------------------------------- indirect objects (after Wang et al. 2022)
INDIRECT_OBJECTS = (
    "When {A} and {B} went to the {place}, {S} gave a {object} to",
    "Then, {A} and {B} had lunch at the {place}, and {S} handed a {object} to",
    "After {A} and {B} came back from the {place}, {S} showed a {object} to",
    "While {A} and {B} were waiting at the {place}, {S} threw a {object} to",
    "Yesterday {A} and {B} met near the {place}. Before leaving, {S} sold a {object} to",
    "Then, {A} and {B} had a long talk at the {place}. Afterwards {S} sent a {object} to",
    "Last week {A} and {B} worked together at the {place}. In the end {S} lent a {object} to",
    "As soon as {A} and {B} reached the {place}, {S} passed a {object} to",
    "Once {A} and {B} had found the {place}, {S} offered a {object} to",
    "Because {A} and {B} liked the {place}, {S} bought a {object} for",
    "The {place} was quiet when {A} and {B} came in. At once {S} gave a {object} to",
    "In the {place} {A} and {B} found a {object}, and {S} decided to give it to",
    "When {A} and {B} got a {object} at the {place}, {S} wanted to give it to",
    "Then, {A} and {B} argued at the {place}. To make peace, {S} brought a {object} to",
    "Every day {A} and {B} walk to the {place}, and today {S} took a {object} to",
)


def indirect_objects(reader: Reader, kind: str) -> Drawer:
    """flip: S2 becomes IO (the answer becomes S). abc: three new names. names: IO and S become two other people."""
    names, note = keep(reader, words.MEN + words.WOMEN, "names", 6)

    def draw(rng: np.random.Generator) -> Draft:
        first, second, a, b, c = pick(rng, names, 5)
        subject, indirect = (first, second) if rng.random() < 0.5 else (second, first)
        io, s1 = ("B", "A") if subject == first else ("A", "B")
        where = int(rng.integers(len(INDIRECT_OBJECTS)))
        common = {"place": pick(rng, words.PLACES)[0], "object": pick(rng, words.OBJECTS)[0]}
        slots = {**common, "A": first, "B": second, "S": subject}
        other = {
            "flip": {**slots, "S": indirect},
            "abc": {**common, "A": a, "B": b, "S": c},
            "names": {**common, "A": a, "B": b, "S": a if subject == first else b},
        }[kind]
        told = {"flip": subject, "abc": None, "names": b if subject == first else a}[kind]
        places = {"IO": (io, 0, 0), "S1": (s1, 0, 0), "S1+1": (s1, 0, 1), "S2": ("S", 0, 0)}
        return Draft(INDIRECT_OBJECTS[where], slots, other, indirect, subject, told, where, places)

    return Drawer(draw, INDIRECT_OBJECTS, noted(note))


# ---------------------------------------------------------------- gendered pronouns
PRONOUNS = (
    ("Last night {N} went home early because", ("he", "she")),
    ("The teacher thanked {N} because", ("he", "she")),
    ("When {N} heard the news,", ("he", "she")),
    ("Everyone likes {N}, because", ("he", "she")),
    ("We waited for {N}, but", ("he", "she")),
    ("After lunch {N} said that", ("he", "she")),
    ("In the mirror {N} saw", ("himself", "herself")),
    ("At the shop {N} bought a book for", ("himself", "herself")),
    ("On the way home {N} lost one of", ("his", "her")),
    ("As far as we know {N} loves", ("his", "her")),
)


def pronouns(reader: Reader, kind: str) -> Drawer:
    """flip: a name of the other gender."""
    men, lost_men = keep(reader, words.MEN, "men's names", 3)
    women, lost_women = keep(reader, words.WOMEN, "women's names", 3)
    forms = sorted({form for _, pair in PRONOUNS for form in pair})
    kept, lost = keep(reader, forms, "pronouns", 2)
    frames = [(i, frame, pair) for i, (frame, pair) in enumerate(PRONOUNS) if set(pair) <= set(kept)]
    if not frames:
        raise InputError(f"{reader.whose} has no pair of pronouns as one token each; it has {', '.join(kept)}.")

    def draw(rng: np.random.Generator) -> Draft:
        where, frame, pair = frames[int(rng.integers(len(frames)))]
        female = int(rng.random() < 0.5)
        name, other = (pick(rng, group)[0] for group in ((men, women)[female], (women, men)[female]))
        wrong = pair[1 - female]
        return Draft(frame, {"N": name}, {"N": other}, pair[female], wrong, wrong, where, {"name": ("N", 0, 0)})

    return Drawer(draw, tuple(frame for frame, _ in PRONOUNS), noted(lost_men, lost_women, lost))


# ---------------------------------------------------------------- subject-verb agreement
AGREEMENT = (
    ("The {n} near the {m}", ("is", "are")),
    ("Today the {n} behind the {m}", ("is", "are")),
    ("I know that the {n} beside the {m}", ("is", "are")),
    ("Yesterday the {n} next to the {m}", ("was", "were")),
    ("Last year the {n} with the {m}", ("was", "were")),
    ("For many years the {n} by the {m}", ("has", "have")),
)


def agreement(reader: Reader, kind: str) -> Drawer:
    """flip: the subject in the other number; the attractor, of either number, stays."""
    pairs = [tuple(pair.split("/")) for pair in words.NOUNS]
    known, _ = keep(reader, [w for pair in pairs for w in pair], "nouns", 8)
    nouns = [pair for pair in pairs if set(pair) <= set(known)]
    if len(nouns) < 4:
        raise InputError(
            f"{reader.whose} has {len(nouns)} of our {len(pairs)} nouns as one token in both numbers; "
            "4 are needed. Make one with words that it has: Task.from_pairs(model, …)."
        )
    note = f"nouns: {len(nouns)} of {len(pairs)} are one token in both numbers" if len(nouns) < len(pairs) else None

    def draw(rng: np.random.Generator) -> Draft:
        where = int(rng.integers(len(AGREEMENT)))
        frame, verb = AGREEMENT[where]
        first, second = rng.choice(len(nouns), 2, replace=False)
        number, attractor = rng.integers(2, size=2)
        slots = {"n": nouns[first][number], "m": nouns[second][attractor]}
        wrong = verb[1 - number]
        places = {"subject": ("n", 0, 0), "attractor": ("m", 0, 0)}
        return Draft(frame, slots, {**slots, "n": nouns[first][1 - number]}, verb[number], wrong, wrong, where, places)

    return Drawer(draw, tuple(frame for frame, _ in AGREEMENT), noted(note))


# ---------------------------------------------------------------- shared
def pick(rng: np.random.Generator, pool: Sequence[str], k: int = 1) -> list[str]:
    """k different entries."""
    return [pool[int(i)] for i in rng.choice(len(pool), k, replace=False)]


def noted(*notes: str | None) -> tuple[str, ...]:
    return tuple(note for note in notes if note)
