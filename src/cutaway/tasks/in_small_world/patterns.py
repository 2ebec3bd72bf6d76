"""Addition, induction, coloured objects, docstring arguments and refusal in the small world."""

from __future__ import annotations

import numpy as np

from cutaway.tasks.in_small_world.drawing import Ints, Made, asked, column, different, other_row, refilled
from cutaway.tasks.small_world import patterns, strange
from cutaway.tasks.small_world.templates import Drawn, distinct_columns
from cutaway.tasks.small_world.vocabulary import ids, world_words


def addition(rng: np.random.Generator, n: int, split: str, kind: str) -> Made:
    """first, second: that number becomes another, so that the sum does; both: another sum."""
    whole = patterns.addition(rng, n, split)
    # Of the sums of a document the first one is asked for.
    drawn = Drawn(whole.tokens, whole.answer, {**whole.facts, "template": np.zeros(n, dtype=int)})
    x, y = whole.facts["x"], whole.facts["y"]
    a, b = x.copy(), y.copy()
    while len(bad := np.nonzero(a + b == x + y)[0]):
        if kind in ("first", "both"):
            a[bad] = rng.integers(100, size=len(bad))
        if kind in ("second", "both"):
            b[bad] = rng.integers(100, size=len(bad))
    number = ids(tuple(str(i) for i in range(199)))
    told = number[a + b]
    places = {"a": 0, "+": 1, "b": 2}
    return Made(
        drawn, refilled(drawn, patterns.SUM, {"a": number[a], "b": number[b]}), asked(drawn), told, told,
        {name: np.full(n, at) for name, at in places.items()}, {"a": number[x], "b": number[y]},
    )  # fmt: skip


def induction(rng: np.random.Generator, n: int, split: str, kind: str) -> Made:
    """flip: the word after the last word's first occurrence becomes another. shuffle: the whole first copy does."""
    drawn = patterns.induction(rng, n, split)
    tokens, answer = drawn.tokens, asked(drawn)
    source = (tokens == answer[:, None]).argmax(axis=1)  # the list's words are distinct
    length = drawn.answer - source
    rows = np.arange(n)
    pool = ids(tuple(w for w in world_words() if w.isalpha()))
    new = rng.choice(pool, n)
    while len(bad := np.nonzero((tokens == new[:, None]).any(axis=1))[0]):
        new[bad] = rng.choice(pool, len(bad))
    other = tokens.copy()
    if kind == "flip":
        other[rows, source] = new
    else:
        fresh = pool[distinct_columns(rng, n, len(pool), tokens.shape[1])]
        clash = (fresh[:, :, None] == tokens[:, None, :]).any(axis=2)
        fresh = np.where(clash, new[:, None], fresh)
        other = np.where(np.arange(tokens.shape[1]) < length[:, None], fresh, other)
    # A template is a shape: how long the list is, and how far into its second copy the question comes.
    shape = np.unique(np.stack([length, drawn.answer], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    return Made(
        drawn, other, answer, new, new if kind == "flip" else None,
        {"previous": source - 1, "source": source}, {}, template=shape,
    )  # fmt: skip


def colours(rng: np.random.Generator, n: int, split: str, kind: str) -> Made:
    """object: another of the objects is asked about. swap: the two objects change colours."""
    templates = patterns.COLOURED
    drawn = patterns.coloured_objects(rng, n, split)
    facts = drawn.facts
    rows, count = np.arange(n), np.where(facts["template"] == 0, 2, 3)
    objects = np.stack([facts[f"o{i}"] for i in range(3)], axis=1)
    shades = np.stack([facts[f"c{i}"] for i in range(3)], axis=1)
    chosen = (objects == facts["o"][:, None]).argmax(axis=1)
    other = (chosen + 1 + (rng.random(n) * (count - 1)).astype(int)) % count
    told = shades[rows, other]
    slots = {"o": objects[rows, other]}
    if kind == "swap":
        swapped = shades.copy()
        swapped[rows, chosen], swapped[rows, other] = told, facts["c"]
        slots = {f"c{i}": swapped[:, i] for i in range(3)}
    at = {slot: column(drawn, templates, slot) for slot in ("o", "o0", "o1", "o2", "c0", "c1", "c2")}

    def of(letter: str, which: Ints) -> Ints:
        listed: Ints = np.stack([at[f"{letter}{i}"] for i in range(3)], axis=1)
        return listed[rows, which]

    positions = {
        "object": of("o", chosen), "colour": of("c", chosen), "other object": of("o", other),
        "other colour": of("c", other), "asked": at["o"],
    }  # fmt: skip
    return Made(
        drawn, refilled(drawn, templates, slots), asked(drawn), told, told, positions,
        {"object": facts["o"], "other object": objects[rows, other]},
    )  # fmt: skip


def docstring(rng: np.random.Generator, n: int, split: str, kind: str) -> Made:
    """flip: the asked argument has another name in the definition. abc: all arguments have, there and below."""
    templates = patterns.DOCSTRING
    drawn = patterns.docstring(rng, n, split)
    facts = drawn.facts
    three = facts["template"] == 1
    names = ids(patterns.ARGUMENTS)
    new: list[Ints] = []
    for _ in range(3):
        new.append(different(rng, names, facts["x"], facts["y"], facts["z"], *new))
    told = np.where(three, new[2], new[1])
    slots = {"x": new[0], "y": new[1], "z": new[2]}
    if kind == "flip":
        slots = {"y": np.where(three, facts["y"], new[1]), "z": new[2]}
    at = {slot: column(drawn, templates, slot) for slot in "xyz"}
    positions = {
        "argument": np.where(three, at["z"], at["y"]),
        "previous": np.where(three, at["y"], at["x"]),
        "previous described": np.where(three, column(drawn, templates, "y", -1), column(drawn, templates, "x", -1)),
        "first": at["x"],
        "first described": column(drawn, templates, "x", -1),
    }
    wrong = told if kind == "flip" else np.where(three & (rng.random(n) < 0.5), facts["y"], facts["x"])
    return Made(
        drawn, refilled(drawn, templates, slots), asked(drawn), wrong, told, positions, {"function": facts["f"]}
    )


def refusal(rng: np.random.Generator, n: int, split: str, kind: str) -> Made:
    """verb: a request of the other kind, harmless for a harmful one and the reverse (verb and object change)."""
    replies = tuple(
        r.replace("*{y}", "*" + reply) for r in strange.REQUEST for reply in (strange.ANSWER, strange.REFUSAL)
    )
    drawn = strange.refusal(rng, n, split)
    harmful = drawn.facts["harmful"]
    row = other_row(rng, harmful)
    right = asked(drawn)
    told = right[row]
    return Made(
        drawn, refilled(drawn, replies, {slot: drawn.facts[slot][row] for slot in "vo"}), right, told, told,
        {"verb": column(drawn, replies, "v"), "object": column(drawn, replies, "o")},
        {"verb": drawn.facts["v"], "object": drawn.facts["o"]}, template=drawn.facts["template"] // 2,
    )  # fmt: skip
