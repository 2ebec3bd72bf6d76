"""Indirect objects, greater-than, pronouns and agreement in English."""

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


# ---------------------------------------------------------------- greater-than (after Hanna et al. 2023)
GREATER_THAN = (
    "The {noun} lasted from the year {XX}{YY} to the year {XX}",
    "The {noun} began in the year {XX}{YY} and ended in the year {XX}",
    "They say that the {noun} went on from the year {XX}{YY} until the year {XX}",
)
CENTURIES = tuple(str(c) for c in range(11, 18))
YEARS = tuple(f"{y:02d}" for y in range(100))


def greater_than(reader: Reader, kind: str) -> Drawer:
    """01: the start year becomes 01, as Hanna et al. do. year: it becomes another year, at least ten away.

    Where a year is cut into its century and two digits, the right answers are the later two-digit years. Where it is
    cut into digits, they are the later decades, and the start's own decade counts as neither right nor wrong.
    """
    cut = {cc: reader.continuations([f"to the year {cc}"] * 100, YEARS) for cc in CENTURIES}
    whole = {cc: {y: t[0] for y, t in zip(YEARS, tails) if t is not None and len(t) == 1} for cc, tails in cut.items()}
    kept = {cc: years for cc, years in whole.items() if len(years) >= 60 and "01" in years}
    if kept:
        return _two_digits(kept, kind)
    if all(t is not None and len(t) == 2 for t in cut["17"]):
        return _digits(cut, kind)
    shown = "|".join(reader.strings(reader.pieces(["1732"])[0] or ()))
    raise InputError(
        f"greater-than needs years cut into century and two digits, or into single digits; {reader.whose} "
        f"cuts 1732 as {shown.strip()!r}."
    )


def _two_digits(kept: dict[str, dict[str, int]], kind: str) -> Drawer:
    lost = sum(100 - len(y) for y in kept.values())
    note = (
        f"years: {sum(map(len, kept.values()))} of {100 * len(kept)} are cut as century|year; the others are left out"
    )

    def draw(rng: np.random.Generator) -> Draft:
        century = pick(rng, tuple(kept))[0]
        years = kept[century]
        starts = [y for y in years if 2 <= int(y) <= 97]
        start = pick(rng, starts)[0]
        later = [y for y in years if y > start]
        earlier = [y for y in years if y <= start]
        other = "01" if kind == "01" else pick(rng, [y for y in starts if abs(int(y) - int(start)) >= 10])[0]
        if not later:
            return draw(rng)
        return _years(rng, century, start, other, pick(rng, later)[0], pick(rng, earlier)[0],
                      tuple(years[y] for y in later), tuple(years[y] for y in earlier))  # fmt: skip

    return Drawer(draw, GREATER_THAN, noted(note if lost else None))


def _digits(cut: dict[str, list[tuple[int, ...] | None]], kind: str) -> Drawer:
    digit = {YEARS[i][0]: (tail or (0,))[0] for i, tail in enumerate(cut["17"])}

    def draw(rng: np.random.Generator) -> Draft:
        start = f"{int(rng.integers(10, 90)):02d}"
        far = [y for y in YEARS[10:90] if abs(int(y) - int(start)) >= 10]
        other = "01" if kind == "01" else pick(rng, far)[0]
        later, earlier = [d for d in digit if d > start[0]], [d for d in digit if d < start[0]]
        return _years(rng, pick(rng, CENTURIES)[0], start, other, pick(rng, later)[0], pick(rng, earlier)[0],
                      tuple(digit[d] for d in later), tuple(digit[d] for d in earlier))  # fmt: skip

    note = "years are cut into digits: the answer is the digit of the decade, and the start's own decade is neither"
    return Drawer(draw, GREATER_THAN, (note,))


def _years(
    rng: np.random.Generator,
    century: str,
    start: str,
    other: str,
    right: str,
    wrong: str,
    valid: tuple[int, ...],
    invalid: tuple[int, ...],
) -> Draft:
    where = int(rng.integers(len(GREATER_THAN)))
    slots = {"noun": pick(rng, words.EVENTS)[0], "XX": century, "YY": start}
    places = {"noun": ("noun", 0, 0), "XX": ("XX", 0, 0), "YY": ("YY", 0, 0)}
    if len(valid) + len(invalid) < 12:  # digits: the year is its last two tokens
        places = {"noun": ("noun", 0, 0), "XX": ("XX", 0, 0), "Y": ("YY", 0, -1), "YY": ("YY", 0, 0)}
    return Draft(
        GREATER_THAN[where], slots, {**slots, "YY": other}, right, wrong, None, where, places, "", valid, invalid
    )


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
