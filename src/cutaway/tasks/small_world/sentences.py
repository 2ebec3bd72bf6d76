"""Single sentences: indirect objects, gendered pronouns, agreement, greater-than."""

from __future__ import annotations

import numpy as np

from . import world
from .templates import Drawn, capitalised, draw, fill, table, template_words, withheld_table
from .vocabulary import ids
from .world import word_list

# ---------------------------------------------------------------- indirect objects (after Wang et al. 2022)
INDIRECT_OBJECT = (
    "When {A} and {B} went to the {place} , {S} gave a {object} to *{I} .",
    "When {A} and {B} went to the {place} , {S} gave the {object} to *{I} .",
    "Then {A} and {B} met at the {place} and {S} handed a {object} to *{I} .",
    "After {A} and {B} came home from the {place} , {S} showed a {object} to *{I} .",
    "{A} and {B} were at the {place} when {S} sold a {object} to *{I} .",
    "While {A} and {B} waited near the {place} , {S} threw a {object} to *{I} .",
    "{A} and {B} had a long day at the {place} . In the evening {S} brought a {object} to *{I} .",
    "The {place} was quiet . {A} sat with {B} and {S} passed a {object} to *{I} .",
    "At the {place} {A} and {B} talked for an hour , then {S} sent a {object} to *{I} .",
    "Friends {A} and {B} walked to the {place} and there {S} lent a {object} to *{I} .",
    "One morning {A} saw {B} at the {place} , and {S} gave the {object} back to *{I} .",
    "Today {A} and {B} left the {place} early because {S} wanted to give a {object} to *{I} .",
    "{A} was with {B} in the {place} . There {S} offered a {object} to *{I} .",
    "In the {place} {A} found a {object} with {B} , and {S} gave the {object} to *{I} .",
)


def withheld_name_pairs() -> np.ndarray:
    """[names, names] symmetric: pairs that no indirect-object sentence of the training text holds."""
    n = len(world.FIRST_NAMES)
    first, second = np.triu_indices(n, 1)
    out = np.zeros((n, n), dtype=bool)
    out[first, second] = withheld_table("name pairs", (len(first),), 0.15)
    return out | out.T


def indirect_object(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """Both orders: the subject repeats the first name or the second (ABBA, BABA)."""
    names = len(world.FIRST_NAMES)

    def propose(rng: np.random.Generator, m: int) -> dict[str, np.ndarray]:
        a = rng.integers(names, size=m)
        return {"a": a, "b": (a + rng.integers(1, names, size=m)) % names}

    barred = withheld_name_pairs()
    pair = draw(rng, n, propose, lambda d: barred[d["a"], d["b"]], split)
    name = ids(world.FIRST_NAMES)
    a, b = name[pair["a"]], name[pair["b"]]
    repeat_first = rng.random(n) < 0.5
    slots = {
        "A": a,
        "B": b,
        "S": np.where(repeat_first, a, b),
        "I": np.where(repeat_first, b, a),
        "place": rng.choice(ids(world.PLACES), n),
        "object": rng.choice(ids(world.OBJECTS), n),
    }
    templates = table(INDIRECT_OBJECT)
    return fill(templates, rng.integers(len(templates), size=n), slots)


# ---------------------------------------------------------------- gendered pronouns
PRONOUN = (
    "{N} went home because *{he} was tired .",
    "{N} ran to the {place} because *{he} was late .",
    "The day was long and {N} said that *{he} was hungry .",
    "{N} looked in the mirror and saw *{himself} there .",
    "{N} fell near the {place} and hurt *{himself} badly .",
    "{N} bought a {object} for *{himself} .",
    "{N} lost *{his} {object} at the {place} .",
    "Everyone knows that {N} loves *{his} {object} .",
    "{N} opened the {object} that *{he} found at the {place} .",
    "The king met {N} at the {place} and thanked *{him} .",
    "{N} left the {place} when *{he} heard the news .",
    "{N} was alone , so *{he} walked to the {place} .",
)
PRONOUN_FORMS = {"he": ("he", "she"), "himself": ("himself", "herself"), "his": ("his", "her"), "him": ("him", "her")}


def pronoun(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """The pronoun has the gender of the name; a fifth of (name, template) withheld."""
    templates = table(PRONOUN)
    names = len(world.FIRST_NAMES)
    barred = withheld_table("pronouns", (names, len(templates)), 0.2)

    def propose(rng: np.random.Generator, m: int) -> dict[str, np.ndarray]:
        return {"name": rng.integers(names, size=m), "template": rng.integers(len(templates), size=m)}

    drawn = draw(rng, n, propose, lambda d: barred[d["name"], d["template"]], split)
    female = (drawn["name"] >= len(world.MALE_NAMES)).astype(int)
    slots = {form: ids(pair)[female] for form, pair in PRONOUN_FORMS.items()}
    slots |= {
        "N": ids(world.FIRST_NAMES)[drawn["name"]],
        "place": rng.choice(ids(world.PLACES), n),
        "object": rng.choice(ids(world.OBJECTS), n),
    }
    return fill(templates, drawn["template"], slots)


# ---------------------------------------------------------------- agreement across an attractor
NOUNS = word_list(
    "key cabinet book box cat dog bird tree car door house boat ship table chair lamp cup plate window picture letter "
    "flower horse cow hat shoe bag ball bell clock bed boy girl teacher doctor farmer singer driver king queen"
)
PLURALS = tuple(w + ("es" if w.endswith("x") else "s") for w in NOUNS)
# The opening fixes the verb, so that exactly one word is right: is/are, was/were, has/have, looks/look.
AGREEMENT = (
    "the {n} {near} the {m} *{is} {state} .",
    "today the {n} {near} the {m} *{is} {state} .",
    "yesterday the {n} {near} the {m} *{was} {state} .",
    "for years the {n} {near} the {m} *{has} been {state} .",
    "from here the {n} {near} the {m} *{looks} {state} .",
    "I know that the {n} {near} the {m} *{is} {state} .",
)
NEAR = word_list("near beside behind under by to with before")
NOUN_STATES = word_list("old new small big clean dirty here there famous ready")
VERBS = {"is": ("is", "are"), "was": ("was", "were"), "has": ("has", "have"), "looks": ("looks", "look")}


def agreement(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """The verb agrees with the first noun; a fifth of ordered noun pairs withheld, in every number."""
    count = len(NOUNS)
    barred = withheld_table("noun pairs", (count, count), 0.2)

    def propose(rng: np.random.Generator, m: int) -> dict[str, np.ndarray]:
        a = rng.integers(count, size=m)
        return {"n": a, "m": (a + rng.integers(1, count, size=m)) % count}

    drawn = draw(rng, n, propose, lambda d: barred[d["n"], d["m"]], split)
    forms = np.stack([ids(NOUNS), ids(PLURALS)])  # [number, noun]
    plural, attractor = rng.integers(2, size=n), rng.integers(2, size=n)
    slots = {verb: ids(pair)[plural] for verb, pair in VERBS.items()}
    slots |= {
        "n": forms[plural, drawn["n"]],
        "m": forms[attractor, drawn["m"]],
        "near": rng.choice(ids(NEAR), n),
        "state": rng.choice(ids(NOUN_STATES), n),
    }
    templates = table(AGREEMENT)
    out = capitalised(rng, fill(templates, rng.integers(len(templates), size=n), slots))
    return Drawn(out.tokens, out.answer, {**out.facts, "plural": plural, "attractor": attractor})


# ---------------------------------------------------------------- greater-than (Hanna et al. 2023)
GREATER_THAN = (
    "The {noun} lasted from the year {cc} {yy} to the year {cc} *{zz} .",
    "The {noun} began in {cc} {yy} and ended in {cc} *{zz} .",
    "The {noun} went on from {cc} {yy} until {cc} *{zz} .",
)
EVENTS = word_list("war siege voyage trial festival project reign drought famine treaty feud plague strike journey")
CENTURIES = tuple(str(c) for c in range(11, 19))
YEARS = tuple(f"{y:02d}" for y in range(100))
FIRST_YEAR, LAST_YEAR = 2, 97


def greater_than(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """The end year is uniform over the later years of the century; a fifth of (noun, century, year) withheld."""
    barred = withheld_table("years", (len(EVENTS), len(CENTURIES), 100), 0.2)

    def propose(rng: np.random.Generator, m: int) -> dict[str, np.ndarray]:
        return {
            "noun": rng.integers(len(EVENTS), size=m),
            "century": rng.integers(len(CENTURIES), size=m),
            "start": rng.integers(FIRST_YEAR, LAST_YEAR + 1, size=m),
        }

    drawn = draw(rng, n, propose, lambda d: barred[d["noun"], d["century"], d["start"]], split)
    year = ids(YEARS)
    end = drawn["start"] + 1 + (rng.random(n) * (99 - drawn["start"])).astype(int)
    slots = {
        "noun": ids(EVENTS)[drawn["noun"]],
        "cc": ids(CENTURIES)[drawn["century"]],
        "yy": year[drawn["start"]],
        "zz": year[end],
    }
    templates = table(GREATER_THAN)
    out = fill(templates, rng.integers(len(templates), size=n), slots)
    return Drawn(out.tokens, out.answer, {**out.facts, "start": drawn["start"]})


def words() -> list[str]:
    """All words that these kinds use."""
    out = template_words(INDIRECT_OBJECT + PRONOUN + AGREEMENT + GREATER_THAN)
    out += [*world.FIRST_NAMES, *world.PLACES, *world.OBJECTS, *NOUNS, *PLURALS, *NEAR, *NOUN_STATES, *EVENTS]
    out += [w for pair in (*PRONOUN_FORMS.values(), *VERBS.values()) for w in pair]
    return out
