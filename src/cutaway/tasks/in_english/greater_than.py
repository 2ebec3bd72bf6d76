"""Greater-than in English (after Hanna et al. 2023), for the three ways in which tokenizers cut years.

| 1732 is cut | prompt ends | right | neither right nor wrong |
|---|---|---|---|
| 17, 32 (GPT-2) | … to the year 17 | the later years of the century | - |
| 1, 7, 3, 2 | … to the year 17 | the digits of later decades | the start's own decade |
| 173, 2 | … to the year | the later decades of the century | the start's own decade |
"""

from __future__ import annotations

import numpy as np

from cutaway.core import InputError
from cutaway.tasks.in_english import words
from cutaway.tasks.in_english.drafts import Draft, Drawer, Place
from cutaway.tasks.in_english.sentences import noted, pick
from cutaway.tasks.reading import Reader

GREATER_THAN = (
    "The {noun} lasted from the year {XX}{YY} to the year {XX}",
    "The {noun} began in the year {XX}{YY} and ended in the year {XX}",
    "They say that the {noun} went on from the year {XX}{YY} until the year {XX}",
)
CENTURIES = tuple(str(c) for c in range(11, 18))
YEARS = tuple(f"{y:02d}" for y in range(100))
DIGITS = tuple("0123456789")
OWN_DECADE = "the start's own decade counts as neither right nor wrong"


def greater_than(reader: Reader, kind: str) -> Drawer:
    """01: the start year becomes 01, as Hanna et al. do. year: it becomes another year, at least ten away.

    Raises InputError where the tokenizer cuts years in none of the three ways.
    """
    cut = {cc: reader.continuations([f"to the year {cc}"] * 100, YEARS) for cc in CENTURIES}
    whole = {cc: {y: t[0] for y, t in zip(YEARS, tails) if t is not None and len(t) == 1} for cc, tails in cut.items()}
    kept = {cc: years for cc, years in whole.items() if len(years) >= 60 and "01" in years}
    if kept:
        return _two_digits(kept, kind)
    if all(t is not None and len(t) == 2 and not reader.unknown(t) for t in cut["17"]):
        digit = {y[0]: (t or (0,))[0] for y, t in zip(YEARS, cut["17"])}
        return _decades(dict.fromkeys(CENTURIES, digit), kind, GREATER_THAN, "", "into digits")
    if (decades := _three_digits(reader)) is not None:
        frames = tuple(frame.removesuffix(" {XX}") for frame in GREATER_THAN)
        return _decades(decades, kind, frames, " ", "after their third digit")
    shown = reader.cut(reader.pieces(["1732"])[0] or ())
    raise InputError(f"greater-than needs years cut as 17|32, 1|7|3|2 or 173|2; {reader.whose} cuts 1732 as {shown!r}.")


def _two_digits(kept: dict[str, dict[str, int]], kind: str) -> Drawer:
    count, total = sum(map(len, kept.values())), 100 * len(kept)
    note = f"years: {count} of {total} are cut as century|year; the others are left out" if count < total else None

    def draw(rng: np.random.Generator) -> Draft:
        century = pick(rng, tuple(kept))[0]
        years = kept[century]
        starts = [y for y in years if 2 <= int(y) <= 97]
        start = pick(rng, [y for y in starts if any(z > y for z in years)])[0]
        other = "01" if kind == "01" else pick(rng, _far(starts, start))[0]
        later, earlier = [y for y in years if y > start], [y for y in years if y <= start]
        where = int(rng.integers(len(GREATER_THAN)))
        slots = {"noun": pick(rng, words.EVENTS)[0], "XX": century, "YY": start}
        places: dict[str, Place] = {"noun": ("noun", 0, 0), "XX": ("XX", 0, 0), "YY": ("YY", 0, 0)}
        return Draft(
            GREATER_THAN[where], slots, {**slots, "YY": other}, pick(rng, later)[0], pick(rng, earlier)[0], None, where,
            places, "", tuple(years[y] for y in later), tuple(years[y] for y in earlier),
        )  # fmt: skip

    return Drawer(draw, GREATER_THAN, noted(note))


def _decades(ids: dict[str, dict[str, int]], kind: str, frames: tuple[str, ...], glue: str, how: str) -> Drawer:
    """ids: century -> the digit of a decade -> the token that names it."""

    def draw(rng: np.random.Generator) -> Draft:
        century = pick(rng, tuple(ids))[0]
        start = f"{int(rng.integers(10, 90)):02d}"
        other = "01" if kind == "01" else pick(rng, _far(YEARS[10:90], start))[0]
        later, earlier = [d for d in DIGITS if d > start[0]], [d for d in DIGITS if d < start[0]]
        where = int(rng.integers(len(frames)))
        slots = {"noun": pick(rng, words.EVENTS)[0], "XX": century, "YY": start}
        places: dict[str, Place] = {"noun": ("noun", 0, 0), "Y": ("YY", 0, -1), "YY": ("YY", 0, 0)}
        named = [pick(rng, side)[0] for side in (later, earlier)]
        right, wrong = (f"{century}{d}0" if glue else d for d in named)
        token = ids[century]
        return Draft(
            frames[where], slots, {**slots, "YY": other}, right, wrong, None, where, places, glue,
            tuple(token[d] for d in later), tuple(token[d] for d in earlier), first=True,
        )  # fmt: skip

    return Drawer(draw, frames, (f"years are cut {how}: the answer is the token of the decade, and {OWN_DECADE}",))


def _three_digits(reader: Reader) -> dict[str, dict[str, int]] | None:
    """Century -> digit -> the token of that decade (174), where years are cut after their third digit."""
    found: dict[str, dict[str, int]] = {}
    for century in CENTURIES:
        tails = reader.continuations(["to the year"] * 10, [f" {century}{d}5" for d in DIGITS])
        for digit, tail in zip(DIGITS, tails):
            if tail is None:
                return None
            tail = reader.own(tail)
            if len(tail) != 2 or reader.strings(tail[:1])[0].strip(" ▁") != century + digit:
                return None
            found.setdefault(century, {})[digit] = tail[0]
    return found


def _far(years: list[str] | tuple[str, ...], start: str) -> list[str]:
    return [y for y in years if abs(int(y) - int(start)) >= 10]
