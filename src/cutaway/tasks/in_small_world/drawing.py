"""Drawn documents of the small world become pairs: slots filled with other words, columns named, PAD taken out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cutaway.core import InputError
from cutaway.tasks.items import USUAL, Item, Pair
from cutaway.tasks.reading import Reader
from cutaway.tasks.small_world.templates import PAD, Drawn, table
from cutaway.tasks.small_world.vocabulary import BLANK, BOS, token_ids

Ints = npt.NDArray[Any]
SPLITS = {"train": "train", "test": "exam", "any": "any"}


@dataclass(frozen=True, eq=False)
class Made:
    """n documents and their counterfactuals, [n, width] ids with PAD anywhere; a prompt ends before its answer.

    `right`, `wrong`, `counterfactual_right`: ids [n]. `positions`: name -> columns [n]. `valid` and `invalid`: for each
    row the ids of all right and all wrong answers, where there are several.
    """

    drawn: Drawn
    counterfactual: Ints
    right: Ints
    wrong: Ints
    counterfactual_right: Ints | None
    positions: dict[str, Ints]
    values: dict[str, Ints] = field(default_factory=dict)  # name -> ids, for the items' texts
    template: Ints | None = None
    valid: Callable[[int], tuple[tuple[int, ...], tuple[int, ...]]] | None = None
    usable: npt.NDArray[np.bool_] | None = None  # [n], False for documents that ask for nothing


Maker = Callable[[np.random.Generator, int, str, str], Made]


def shift(drawn: Drawn, templates: tuple[str, ...]) -> Ints:
    """[n] how many columns stand before the template in each document (a sentence before, as antonyms have)."""
    before: Ints = drawn.answer - table(templates).answer[drawn.facts["template"]]
    return before


def column(drawn: Drawn, templates: tuple[str, ...], slot: str, which: int = 0) -> Ints:
    """[n] the column of a slot's first (0) or last (-1) occurrence before the answer in each document's template.

    A template without the slot gives -1.
    """
    compiled = table(templates)
    code = -2 - compiled.slots.index(slot)
    where = np.full(len(compiled), -1)
    for t in range(len(compiled)):
        found = np.nonzero(compiled.ids[t, : compiled.answer[t]] == code)[0]
        if len(found):
            where[t] = found[which]
    here = where[drawn.facts["template"]]
    return np.where(here < 0, -1, here + shift(drawn, templates))


def refilled(drawn: Drawn, templates: tuple[str, ...], slots: dict[str, Ints]) -> Ints:
    """The same documents with some slots filled with other words; every other token stays, capitals included."""
    compiled = table(templates)
    out = drawn.tokens.copy()
    before = shift(drawn, templates)
    chosen = compiled.ids[drawn.facts["template"]]
    for name, values in slots.items():
        if name in compiled.slots:
            rows, columns = np.nonzero(chosen == -2 - compiled.slots.index(name))
            out[rows, columns + before[rows]] = values[rows]
    return out


def answer_slot(templates: tuple[str, ...]) -> list[str]:
    """The slot that each template asks for: `*{he}` -> "he"."""
    return [t.split("*{")[1].split("}")[0] for t in templates]


def asked(drawn: Drawn) -> Ints:
    """[n] the ids that the documents hold at the answer."""
    held: Ints = drawn.tokens[np.arange(len(drawn.tokens)), drawn.answer]
    return held


def other_row(rng: np.random.Generator, key: Ints) -> Ints:
    """[n] for each row another row of a different key."""
    n = len(key)
    if len(np.unique(key)) < 2:
        raise InputError("every item that was drawn has the same value, so none can serve another as counterfactual.")
    out = rng.integers(n, size=n)
    while len(bad := np.nonzero(key[out] == key)[0]):
        out[bad] = rng.integers(n, size=len(bad))
    return out


def different(rng: np.random.Generator, pool: Ints, *taken: Ints) -> Ints:
    """[n] a word of the pool that is none of those taken in its row."""
    n = len(taken[0])
    out = rng.choice(pool, n)
    while len(bad := np.nonzero(np.any([out == t for t in taken], axis=0))[0]):
        out[bad] = rng.choice(pool, len(bad))
    return out


def pairs(make: Maker, name: str, kind: str, reader: Reader, n: int | None, seed: int, split: str) -> list[Pair]:
    """n pairs of distinct clean prompts (None: 64, or all where there are fewer). A seed gives the same pairs again.

    Raises InputError where the world has fewer distinct items in that split.
    """
    rng = np.random.default_rng(np.random.SeedSequence([20264, seed, *f"{name} {split}".encode()]))
    made = make(rng, 8 * (n or USUAL) + 500, SPLITS[split], kind)
    tokens = made.drawn.tokens
    before = np.arange(tokens.shape[1]) < made.drawn.answer[:, None]
    prompts = np.where(before, tokens, np.int16(PAD))
    _, first = np.unique(np.take_along_axis(prompts, np.argsort(prompts == PAD, axis=1, kind="stable"), axis=1),
                         axis=0, return_index=True)  # fmt: skip
    rows = np.sort(first)
    if made.usable is not None:
        rows = rows[made.usable[rows]]
    if n is None:
        n = min(USUAL, len(rows))
    if len(rows) < n:
        raise InputError(
            f"{name} has about {len(rows)} distinct items in the split {split!r} of this world; n={n} were asked for."
        )
    rows = rows[:n]
    word = {i: t.removeprefix(BLANK) for t, i in token_ids().items()}
    return [_pair(made, int(row), before[row] & (tokens[row] != PAD), reader, word) for row in rows]


def _pair(made: Made, row: int, keep: npt.NDArray[np.bool_], reader: Reader, word: dict[int, str]) -> Pair:
    bos = token_ids()[BOS]
    clean = (bos, *map(int, made.drawn.tokens[row][keep]))
    other = (bos, *map(int, made.counterfactual[row][keep]))
    place = np.cumsum(keep)  # column -> the position after <bos> and the tokens before it
    positions = {name: int(place[columns[row]]) for name, columns in made.positions.items() if columns[row] >= 0}
    right, wrong = int(made.right[row]), int(made.wrong[row])
    told = None if made.counterfactual_right is None else int(made.counterfactual_right[row])
    valid, invalid = made.valid(row) if made.valid else ((), ())
    template = made.template if made.template is not None else made.drawn.facts.get("template")
    item = Item(
        clean=reader.text(clean),
        counterfactual=reader.text(other),
        answer=word[right],
        wrong=word[wrong],
        counterfactual_answer=None if told is None else word[told],
        template=0 if template is None else int(template[row]),
        values={name: word[int(ids[row])] for name, ids in made.values.items()},
    )
    return Pair(clean, other, right, item, wrong, told, positions, valid, invalid)
