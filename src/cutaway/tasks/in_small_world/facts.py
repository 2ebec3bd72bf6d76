"""One hop, two hops, known people and antonyms in the small world."""

from __future__ import annotations

import numpy as np

from cutaway.tasks.in_small_world.drawing import (
    Ints,
    Made,
    Maker,
    answer_slot,
    asked,
    column,
    other_row,
    refilled,
)
from cutaway.tasks.small_world import facts, languages, world
from cutaway.tasks.small_world.templates import Drawn, table, withheld_table
from cutaway.tasks.small_world.vocabulary import ids


def one_hop(rng: np.random.Generator, n: int, split: str, kind: str) -> Made:
    """subject: another place, of another state."""
    drawn = facts.one_hop(rng, n, split)
    return _places(rng, drawn, facts.ONE_HOP, {"subject": _asked_from(drawn, facts.ONE_HOP)})


def two_hop(rng: np.random.Generator, n: int, split: str, kind: str) -> Made:
    """subject: another city, of another state; both are withheld in the split "test"."""
    drawn = facts.two_hop(rng, n, split)
    return _places(rng, drawn, facts.TWO_HOP, {"city": column(drawn, facts.TWO_HOP, "C")})


def _places(rng: np.random.Generator, drawn: Drawn, templates: tuple[str, ...], positions: dict[str, Ints]) -> Made:
    row = other_row(rng, drawn.facts["state"])
    other = {slot: drawn.facts[slot][row] for slot in ("C", "S", "K")}
    slot = np.array(answer_slot(templates))[drawn.facts["template"]]
    told = np.select([slot == name for name in other], list(other.values()))
    values = {"city": drawn.facts["C"], "state": drawn.facts["S"], "capital": drawn.facts["K"]}
    return Made(drawn, refilled(drawn, templates, other), asked(drawn), told, told, positions, values)


def _asked_from(drawn: Drawn, templates: tuple[str, ...]) -> Ints:
    """[n] the column of the one slot before the answer."""
    found: Ints = np.max([column(drawn, templates, slot) for slot in ("C", "S", "K")], axis=0)
    return found


def known_people(rng: np.random.Generator, n: int, split: str, kind: str) -> Made:
    """unknown: a name of which nothing is stated (the answer becomes "unknown"). person: one of another field."""
    templates = facts.QUESTION
    drawn = facts.known_person(rng, n, split)
    if kind == "unknown":
        never = facts.never_asked()
        pool = {"train": ~never, "exam": never, "any": np.ones_like(never)}[split]
        person = rng.choice(ids(world.UNDESCRIBED_PEOPLE)[pool], n)
        told = np.broadcast_to(ids((facts.UNKNOWN,)), (n,))
    else:
        person, told = _of_another_field(rng, drawn, split)
    return Made(
        drawn, refilled(drawn, templates, {"P": person}), asked(drawn), told, told,
        {"person": column(drawn, templates, "P")}, {"person": drawn.facts["P"], "field": drawn.facts["F"]},
    )  # fmt: skip


def _of_another_field(rng: np.random.Generator, drawn: Drawn, split: str) -> tuple[Ints, Ints]:
    """[n], [n]: people of other fields, whose question in the same form is of the same split, and their fields."""
    barred = withheld_table("people", (len(world.KNOWN_PEOPLE), len(facts.QUESTION)), 0.2)
    form, field = drawn.facts["template"], np.array(world.FIELD_OF_PERSON)
    person = rng.integers(len(field), size=len(form))
    while True:
        wrong = field[person] == drawn.facts["field"]
        if split != "any":
            wrong |= barred[person, form] != (split == "exam")
        if not len(bad := np.nonzero(wrong)[0]):
            return ids(world.KNOWN_PEOPLE)[person], ids(world.FIELDS)[field[person]]
        person[bad] = rng.integers(len(field), size=len(bad))


def antonyms(language: str) -> Maker:
    """word: the question about another word of the language."""

    def make(rng: np.random.Generator, n: int, split: str, kind: str) -> Made:
        templates = languages.QUESTION[language] + languages.OTHER[language]
        drawn = languages.antonym(rng, n, split, language)
        concept = drawn.facts["concept"]
        row = other_row(rng, concept)
        other = {slot: drawn.facts[slot][row] for slot in "ab"}
        # `{a} and {b} are opposites` asks for nothing.
        asks = table(templates).answer[drawn.facts["template"]] >= 0
        return Made(
            drawn, refilled(drawn, templates, other), asked(drawn), other["b"], other["b"],
            {"word": column(drawn, templates, "a")}, {"word": drawn.facts["a"]}, usable=asks,
        )  # fmt: skip

    return make
