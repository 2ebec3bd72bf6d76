"""Factual recall, two hops and antonyms in English."""

from __future__ import annotations

import numpy as np

from cutaway.core import InputError
from cutaway.tasks.in_english import words
from cutaway.tasks.in_english.drafts import Draft, Drawer
from cutaway.tasks.in_english.sentences import noted
from cutaway.tasks.reading import Reader

# frame, what it asks from, what it asks for: columns of the table of countries
ONE_HOP = (
    ("The capital of {x} is", 0, 1),
    ("The capital city of {x} is", 0, 1),
    ("People who live in {x} mostly speak", 0, 2),
    ("The official language of {x} is", 0, 2),
    ("On a map of {x} the capital is marked as", 0, 1),
    ("A person who grew up in {x} speaks", 0, 2),
    ("The government of {x} sits in its capital,", 0, 1),
    ("The city of {x} is the capital of", 1, 0),
)
TWO_HOP = (
    ("The language spoken in the country whose capital is {x} is", 1, 2),
    ("In the country that has {x} as its capital, people speak", 1, 2),
    ("The official language of the country whose capital is {x} is", 1, 2),
    ("The government sits in {x}, so the people of that country speak", 1, 2),
    ("Think of the country that is governed from {x}. Its language is", 1, 2),
)


def one_hop(reader: Reader, kind: str) -> Drawer:
    """subject: another country (or capital), with another answer."""
    return _recall(reader, ONE_HOP, "subject", "country, capital and language")


def two_hop(reader: Reader, kind: str) -> Drawer:
    """subject: another capital, of a country with another language."""
    return _recall(reader, TWO_HOP, "city", "capital and language")


def _recall(reader: Reader, frames: tuple[tuple[str, int, int], ...], name: str, what: str) -> Drawer:
    every = [word for row in words.COUNTRIES for word in row]
    known = set(reader.one_token(every))
    usable = {}
    for i, (_, source, target) in enumerate(frames):
        rows = [r for r in words.COUNTRIES if r[source] in known and r[target] in known]
        if len({r[target] for r in rows}) >= 2 and len(rows) >= 4:
            usable[i] = rows
    if not usable:
        have = [w for w in dict.fromkeys(every) if w in known]
        raise InputError(
            f"{reader.whose} has {len(have)} of our {len(set(every))} countries, capitals and languages as "
            f"one token ({', '.join(have[:6]) or 'none'}), and no question has the four pairs of {what} that it needs. "
            "Make one with words that it has: Task.from_pairs(model, …)."
        )
    lost = len(words.COUNTRIES) - max(map(len, usable.values()))
    note = f"countries: {len(words.COUNTRIES) - lost} of {len(words.COUNTRIES)} have one-token names" if lost else None

    def draw(rng: np.random.Generator) -> Draft:
        where = pick_int(rng, tuple(usable))
        frame, source, target = frames[where]
        rows = usable[where]
        row = rows[int(rng.integers(len(rows)))]
        others = [r for r in rows if r[target] != row[target] and r[source] != row[source]]
        other = others[int(rng.integers(len(others)))]
        return Draft(frame, {"x": row[source]}, {"x": other[source]}, row[target], other[target], other[target], where,
                     {name: ("x", 0, 0)})  # fmt: skip

    return Drawer(draw, tuple(f for f, _, _ in frames), noted(note))


ANTONYMS = (
    "The opposite of {a} is",
    "The opposite of the word {a} is the word",
    "In English the word {a} is the contrary of the word",
)


def antonyms(reader: Reader, kind: str) -> Drawer:
    """word: the question about another word."""
    known = set(reader.one_token([w for pair in words.OPPOSITES for w in pair]))
    kept = [tuple(pair) for pair in words.OPPOSITES if set(pair) <= known]
    if len(kept) < 4:
        cut = [w for pair in words.OPPOSITES for w in pair if w not in known]
        raise InputError(
            f"{reader.whose} has {len(kept)} of our {len(words.OPPOSITES)} pairs of opposites as one token "
            f"each, and the task needs 4. It has not: {', '.join(cut[:8])}, …. Make one with words that it has: "
            "Task.from_pairs(model, …)."
        )
    lost = len(words.OPPOSITES) - len(kept)
    note = f"opposites: {len(kept)} of {len(words.OPPOSITES)} pairs are one token each" if lost else None

    def draw(rng: np.random.Generator) -> Draft:
        where = int(rng.integers(len(ANTONYMS)))
        first, second = (kept[int(i)] for i in rng.choice(len(kept), 2, replace=False))
        side, other = rng.integers(2, size=2)
        word, told = second[other], second[1 - other]
        if first[1 - side] in second or word in first:  # white is the opposite of black, whichever pair it stands in
            return draw(rng)
        return Draft(ANTONYMS[where], {"a": first[side]}, {"a": word}, first[1 - side], told, told, where,
                     {"word": ("a", 0, 0)})  # fmt: skip

    return Drawer(draw, ANTONYMS, noted(note))


def pick_int(rng: np.random.Generator, pool: tuple[int, ...]) -> int:
    return pool[int(rng.integers(len(pool)))]
