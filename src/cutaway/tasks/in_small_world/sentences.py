"""Indirect objects, greater-than, pronouns and agreement in the small world."""

from __future__ import annotations

import numpy as np

from cutaway.tasks.in_small_world.drawing import (
    Ints,
    Made,
    answer_slot,
    asked,
    column,
    different,
    refilled,
)
from cutaway.tasks.small_world import sentences, world
from cutaway.tasks.small_world.vocabulary import ids


def indirect_objects(rng: np.random.Generator, n: int, split: str, kind: str) -> Made:
    """flip: S2 becomes IO (the answer becomes S). abc: three new names. names: IO and S become two other people."""
    templates = sentences.INDIRECT_OBJECT
    drawn = sentences.indirect_object(rng, n, split)
    subject, indirect = drawn.facts["S"], drawn.facts["I"]
    first = subject == drawn.facts["A"]  # BABA or ABBA
    names = ids(world.FIRST_NAMES)
    a = different(rng, names, subject, indirect)
    b = different(rng, names, subject, indirect, a)
    c = different(rng, names, subject, indirect, a, b)
    slots = {
        "flip": {"S": indirect},
        "abc": {"A": a, "B": b, "S": c},
        "names": {"A": a, "B": b, "S": np.where(first, a, b)},
    }[kind]
    told = {"flip": subject, "abc": None, "names": np.where(first, b, a)}[kind]
    at = {slot: column(drawn, templates, slot) for slot in "ABS"}
    s1 = np.where(first, at["A"], at["B"])
    positions = {"IO": np.where(first, at["B"], at["A"]), "S1": s1, "S1+1": s1 + 1, "S2": at["S"]}
    return Made(
        drawn, refilled(drawn, templates, slots), indirect, subject, told, positions,
        {"IO": indirect, "S": subject, "place": drawn.facts["place"], "object": drawn.facts["object"]},
    )  # fmt: skip


def greater_than(rng: np.random.Generator, n: int, split: str, kind: str) -> Made:
    """01: the start year becomes 01, as Hanna et al. do. year: it becomes another year, at least ten away."""
    templates = sentences.GREATER_THAN
    drawn = sentences.greater_than(rng, n, split)
    years, start = ids(sentences.YEARS), drawn.facts["start"]
    low, high = sentences.FIRST_YEAR, sentences.LAST_YEAR
    other = rng.integers(low, high + 1, size=n)
    while len(bad := np.nonzero(np.abs(other - start) < 10)[0]):
        other[bad] = rng.integers(low, high + 1, size=len(bad))
    chosen = {"01": np.ones(n, dtype=int), "year": other}[kind]
    wrong = years[(rng.random(n) * (start + 1)).astype(int)]  # any year up to the start
    listed = tuple(int(i) for i in years)
    return Made(
        drawn, refilled(drawn, templates, {"yy": years[chosen]}), asked(drawn), wrong, None,
        {"noun": column(drawn, templates, "noun"), "XX": column(drawn, templates, "cc"),
         "YY": column(drawn, templates, "yy")},
        {"start": years[start], "century": drawn.facts["cc"], "noun": drawn.facts["noun"]},
        valid=lambda row: (listed[int(start[row]) + 1 :], listed[: int(start[row]) + 1]),
    )  # fmt: skip


def pronouns(rng: np.random.Generator, n: int, split: str, kind: str) -> Made:
    """flip: a name of the other gender."""
    templates = sentences.PRONOUN
    drawn = sentences.pronoun(rng, n, split)
    men, women = ids(world.MALE_NAMES), ids(world.FEMALE_NAMES)
    female = np.isin(drawn.facts["N"], women)
    other = np.where(female, rng.choice(men, n), rng.choice(women, n))
    told = _forms(sentences.PRONOUN_FORMS, templates, drawn.facts["template"], ~female)
    return Made(
        drawn, refilled(drawn, templates, {"N": other}), asked(drawn), told, told,
        {"name": column(drawn, templates, "N")}, {"name": drawn.facts["N"]},
    )  # fmt: skip


def agreement(rng: np.random.Generator, n: int, split: str, kind: str) -> Made:
    """flip: the subject in the other number; the attractor stays."""
    templates = sentences.AGREEMENT
    drawn = sentences.agreement(rng, n, split)
    forms = np.stack([ids(sentences.NOUNS), ids(sentences.PLURALS)])  # [number, noun]
    plural = drawn.facts["plural"].astype(bool)
    noun = np.array([int(np.nonzero((forms == i).any(axis=0))[0][0]) for i in drawn.facts["n"]])
    told = _forms(sentences.VERBS, templates, drawn.facts["template"], ~plural)
    return Made(
        drawn, refilled(drawn, templates, {"n": forms[(~plural).astype(int), noun]}), asked(drawn), told, told,
        {"subject": column(drawn, templates, "n"), "attractor": column(drawn, templates, "m")},
        {"subject": drawn.facts["n"], "attractor": drawn.facts["m"]},
    )  # fmt: skip


def _forms(forms: dict[str, tuple[str, str]], templates: tuple[str, ...], choice: Ints, second: Ints) -> Ints:
    """[n] the form (first or second of its pair) that each row's template asks for."""
    listed: Ints = np.stack([ids(forms[slot]) for slot in answer_slot(templates)])  # [template, 2]
    chosen: Ints = listed[choice, second.astype(int)]
    return chosen
