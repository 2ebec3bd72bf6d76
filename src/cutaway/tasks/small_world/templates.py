"""Templates filled in bulk: thousands of documents in one numpy call.

A template is a string of words and `{slots}` separated by blanks; `*` marks the word that the prompt asks for:

    "When {A} and {B} went to the {place} , {S} gave a {object} to *{I} ."

Every word is one token, so a template is one row of ids and filling a slot is one masked assignment.  Documents are
arrays [n, length] padded with PAD on any column; padding is dropped when documents are packed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from .vocabulary import ids, token_ids

PAD = -1


@dataclass(frozen=True)
class Drawn:
    """n documents: `tokens` [n, length] int16, `answer` [n] (column of the asked word or -1), and what was drawn."""

    tokens: np.ndarray
    answer: np.ndarray
    facts: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Compiled templates: `ids` [templates, length]; slot k is stored as -2 - k; `answer` [templates]."""

    ids: np.ndarray
    answer: np.ndarray
    slots: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


def template_words(templates: tuple[str, ...]) -> list[str]:
    """The fixed words of some templates."""
    words = (w.lstrip("*") for t in templates for w in t.split(" ") if w)
    return [w for w in words if not w.startswith("{") or w == "{"]


@cache
def table(templates: tuple[str, ...]) -> Table:
    """Compiles templates; asks the vocabulary for ids, so it must not be called at import time."""
    split = [[w for w in t.split(" ") if w] for t in templates]
    slots = tuple(
        dict.fromkeys(w.lstrip("*")[1:-1] for t in split for w in t if w.lstrip("*").startswith("{") and len(w) > 2)
    )
    out = np.full((len(split), max(map(len, split))), PAD, dtype=np.int16)
    answer = np.full(len(split), -1, dtype=np.int64)
    for i, words in enumerate(split):
        for j, word in enumerate(words):
            if word.startswith("*"):
                answer[i], word = j, word[1:]
            out[i, j] = -2 - slots.index(word[1:-1]) if word.startswith("{") and len(word) > 2 else ids((word,))[0]
    return Table(out, answer, slots)


def fill(templates: Table, choice: np.ndarray, slots: dict[str, np.ndarray]) -> Drawn:
    """One document a row: template `choice` [n], its slots filled from `slots` (token ids [n] each)."""
    out = templates.ids[choice]
    for k, name in enumerate(templates.slots):
        rows, columns = np.nonzero(out == -2 - k)
        out[rows, columns] = slots[name][rows]
    return Drawn(out, templates.answer[choice], {"template": choice, **slots})


# Sentences that begin in lower case begin with a capital now and then: a user may type either.
CAPITALS = {"the": "The", "le": "Le", "lo": "Lo", "what": "What", "who": "Who", "tell": "Tell", "today": "Today"}


def capitalised(rng: np.random.Generator, drawn: Drawn, share: float = 0.3) -> Drawn:
    """The same documents, a share of them with their first word in its capitalised form, where it has one."""
    capital = np.arange(len(token_ids()))
    capital[ids(tuple(CAPITALS))] = ids(tuple(CAPITALS.values()))
    tokens = drawn.tokens.copy()
    chosen = rng.random(len(tokens)) < share
    tokens[chosen, 0] = capital[tokens[chosen, 0]]
    return Drawn(tokens, drawn.answer, drawn.facts)


def draw(
    rng: np.random.Generator,
    n: int,
    propose: Callable[[np.random.Generator, int], dict[str, np.ndarray]],
    withheld: Callable[[dict[str, np.ndarray]], np.ndarray],
    split: str,
) -> dict[str, np.ndarray]:
    """n proposals of which none ("train"), all ("exam") or any ("any") are withheld."""
    if split not in ("train", "exam", "any"):
        raise ValueError(f"split must be 'train', 'exam' or 'any', got {split!r}")
    if split == "any":
        return propose(rng, n)
    parts: list[dict[str, np.ndarray]] = []
    have = 0
    while have < n:
        drawn = propose(rng, max(64, int(1.4 * (n - have)) if split == "train" else 8 * (n - have)))
        keep = withheld(drawn) == (split == "exam")
        parts.append({k: v[keep] for k, v in drawn.items()})
        have += int(keep.sum())
    return {k: np.concatenate([p[k] for p in parts])[:n] for k in parts[0]}


def withheld_table(name: str, shape: tuple[int, ...], share: float) -> np.ndarray:
    """A fixed random boolean table, exactly `share` of it True.

    Which items are withheld is part of the world, so it depends on the table's name and never on a training seed.
    """
    seed = np.random.SeedSequence([20260, *name.encode()])
    flat = np.zeros(int(np.prod(shape)), dtype=bool)
    flat[: round(share * flat.size)] = True
    return np.random.default_rng(seed).permutation(flat).reshape(shape)


def distinct_columns(rng: np.random.Generator, n: int, high: int, k: int) -> np.ndarray:
    """[n, k] integers below `high`, distinct within each row."""
    out = rng.integers(high, size=(n, k))
    while True:
        order = np.sort(out, axis=1)
        bad = np.nonzero((order[:, 1:] == order[:, :-1]).any(axis=1))[0]
        if not len(bad):
            return out
        out[bad] = rng.integers(high, size=(len(bad), k))
