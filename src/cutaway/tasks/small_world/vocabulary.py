"""The word list: every word of the world, in a fixed order, with its token id."""

from __future__ import annotations

from functools import cache

import numpy as np

BOS, PAD_TOKEN, BLANK, NEWLINE = "<bos>", "<pad>", "▁", "\n"
SPECIALS = (BOS, PAD_TOKEN)
NUMBERS = tuple(str(i) for i in range(199)) + tuple(f"0{i}" for i in range(10))
PUNCTUATION = (*".,?!:;()[]{}=+-", NEWLINE)


@cache
def world_words() -> tuple[str, ...]:
    """Every word, first come first numbered: punctuation, numbers, then the words of each kind of text."""
    from . import facts, languages, patterns, sentences, stories, strange, templates, verse

    words: dict[str, None] = dict.fromkeys(PUNCTUATION + NUMBERS)
    for kind in (sentences, patterns, languages, facts, verse, stories, strange):
        words.update(dict.fromkeys(kind.words()))
    words.update(dict.fromkeys(templates.CAPITALS.values()))
    return tuple(words)


@cache
def token_ids() -> dict[str, int]:
    """Token string -> id.  World words carry the "▁" prefix, so that none is taken for a character or a byte."""
    tokens = [*SPECIALS, *(f"<0x{b:02X}>" for b in range(256)), BLANK, *(BLANK + w for w in world_words())]
    return {token: i for i, token in enumerate(tokens)}


@cache
def ids(words: tuple[str, ...]) -> np.ndarray:
    """Ids of world words, int16 [words]; an unknown word is an error, since text kinds only use the world's."""
    known = token_ids()
    missing = [w for w in words if BLANK + w not in known]
    if missing:
        raise KeyError(
            f"not in the world's vocabulary: {missing[:5]}; add them to words() of the text kind that uses them"
        )
    return np.array([known[BLANK + w] for w in words], dtype=np.int16)


def byte_ids(word: str) -> list[int]:
    """An unknown word as the tokenizer spells it: a blank, then its UTF-8 bytes."""
    known = token_ids()
    return [known[BLANK], *(known[f"<0x{b:02X}>"] for b in word.encode())]
