"""Induction on random tokens of any vocabulary, with or without a tokenizer."""

from __future__ import annotations

import numpy as np

from cutaway.core import InputError
from cutaway.tasks.items import Item, Pair
from cutaway.tasks.reading import Reader

LIST, ASKED = 12, 8  # the list's length; how many of its tokens the second copy shows before the question
CANDIDATES = 4000


def induction(reader: Reader, kind: str, n: int, seed: int, split: str) -> tuple[list[Pair], tuple[str, ...]]:
    """n lists of 12 different random tokens, then the first 8 again: the ninth comes next.

    flip: the answer's first occurrence becomes another token, which then is right. shuffle: the whole first copy is of
    other tokens, so that nothing repeats. Every list is a fresh draw; the splits differ in their seed.
    """
    rng = np.random.default_rng(np.random.SeedSequence([20266, seed, *f"induction {split}".encode()]))
    pool, start, note = _pool(reader, rng)
    pairs = []
    for _ in range(n):
        drawn = [int(i) for i in rng.choice(pool, 2 * LIST, replace=False)]
        words, fresh = drawn[:LIST], drawn[LIST:]
        answer, new = words[ASKED], fresh[0]
        first = [new if i == ASKED else w for i, w in enumerate(words)] if kind == "flip" else fresh
        clean = (*start, *words, *words[:ASKED])
        other = (*start, *first, *words[:ASKED])
        wrong = new if kind == "flip" else words[ASKED + 1]
        told = new if kind == "flip" else None
        positions = {"previous": len(start) + ASKED - 1, "source": len(start) + ASKED}
        text = reader.strings([answer, wrong])
        item = Item(reader.text(clean), reader.text(other), text[0].strip(" "), text[1].strip(" "),
                    None if told is None else text[1].strip(" "))  # fmt: skip
        pairs.append(Pair(clean, other, answer, item, wrong, told, positions))
    return pairs, note


def _pool(reader: Reader, rng: np.random.Generator) -> tuple[list[int], tuple[int, ...], tuple[str, ...]]:
    """The tokens to draw from, those that begin a row, and what to say of the choice.

    Whole words where there are enough; else any token that is not special. Without a tokenizer any id.
    """
    if reader.vocabulary < 2 * LIST:
        raise InputError(f"induction needs a vocabulary of at least {2 * LIST}; {reader.name} has {reader.vocabulary}.")
    if reader.tokenizer is None:
        return list(range(reader.vocabulary)), (), ("there is no tokenizer: any id may occur",)
    start = reader.rows(["the"])[0]
    start = start[: len(start) - len(reader.raw(["the"])[0])]
    special = reader.special()
    known = len(reader.tokenizer) if hasattr(reader.tokenizer, "__len__") else reader.vocabulary
    ordinary = np.array([i for i in range(min(known, reader.vocabulary)) if i not in special])
    some = [
        int(i) for i in (rng.choice(ordinary, CANDIDATES, replace=False) if len(ordinary) > CANDIDATES else ordinary)
    ]
    texts = reader.strings(some)
    words = [
        i for i, text in zip(some, texts) if text != text.strip(" ") and len(text) > 3 and text.strip(" ").isalpha()
    ]
    if len(words) >= 10 * LIST:
        return words, start, ()
    if len(some) < 2 * LIST:
        raise InputError(f"induction needs {2 * LIST} ordinary tokens; {reader.name} has {len(some)}.")
    return some, start, (f"fewer than {10 * LIST} of its tokens are whole words: any ordinary token may occur",)
