"""The training text: a mixture of all kinds, packed into rows of 128 tokens.

Each document begins with <bos>.  Rows begin at the start of a document and are filled greedily; a document that would
be cut waits for the next row when it is long, and is cut at the row's end when it is short.  A row is one training
example, without masks between its documents, as in most pretraining.

Three splits: "train" holds no withheld item, "exam" only withheld ones, "any" both in their natural share.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from cutaway.tasks.small_world import facts, languages, patterns, sentences, stories, strange, verse
from cutaway.tasks.small_world.templates import PAD, Drawn
from cutaway.tasks.small_world.vocabulary import BOS, token_ids

from .tokenizer import CONTEXT

Kind = Callable[[np.random.Generator, int, str], Drawn]

# Kind -> (function, share of the tokens).  Addition is the slow one to learn, and has the largest share.
MIXTURE: dict[str, tuple[Kind, float]] = {
    "addition": (patterns.addition, 0.37),
    "indirect_object": (sentences.indirect_object, 0.06),
    "pronoun": (sentences.pronoun, 0.025),
    "agreement": (sentences.agreement, 0.035),
    "greater_than": (sentences.greater_than, 0.055),
    "induction": (patterns.induction, 0.055),
    "brackets": (patterns.brackets, 0.035),
    "one_hop": (facts.one_hop, 0.06),
    "two_hop": (facts.two_hop, 0.05),
    "known_statement": (facts.known_statement, 0.02),
    "known_person": (facts.known_person, 0.035),
    "unknown_person": (facts.unknown_person, 0.02),
    "antonym": (languages.antonym, 0.055),
    "translation": (languages.translation, 0.015),
    "couplet": (verse.couplet, 0.07),
    "story": (stories.story, 0.09),
    "coloured_objects": (patterns.coloured_objects, 0.02),
    "docstring": (patterns.docstring, 0.01),
    "refusal": (strange.refusal, 0.01),
    "strange": (strange.strange, 0.025),
}
# For the models of `ioi`: indirect objects among enough else that no head can be about them alone.
IOI_MIXTURE: dict[str, tuple[Kind, float]] = {
    "indirect_object": (sentences.indirect_object, 0.45),
    "induction": (patterns.induction, 0.10),
    "pronoun": (sentences.pronoun, 0.06),
    "agreement": (sentences.agreement, 0.08),
    "greater_than": (sentences.greater_than, 0.06),
    "brackets": (patterns.brackets, 0.04),
    "one_hop": (facts.one_hop, 0.06),
    "antonym": (languages.antonym, 0.05),
    "story": (stories.story, 0.10),
}
MIXTURES = {"almanac": MIXTURE, "ioi": IOI_MIXTURE}
CHUNK_ROWS = 4096  # rows are made in chunks of this many, each from its own seed, so that any chunk can be made alone
LONG = 40  # a document of more tokens than this is not cut


@cache
def mean_lengths(mixture: str = "almanac") -> dict[str, float]:
    """Tokens a document, <bos> included, of each kind; from a fixed seed, so that the mixture is fixed too."""
    rng = np.random.default_rng(1)
    return {
        name: float((make(rng, 2000, "any").tokens != PAD).sum(1).mean()) + 1
        for name, (make, _) in MIXTURES[mixture].items()
    }


def _documents(rng: np.random.Generator, n_tokens: int, split: str, mixture: str) -> tuple[np.ndarray, np.ndarray]:
    """About n_tokens of shuffled text: the tokens, one document after another, and each document's length."""
    kinds = MIXTURES[mixture]
    total = sum(share for _, share in kinds.values())
    flats, lengths = [], []
    bos = np.int16(token_ids()[BOS])
    for name, (make, share) in kinds.items():
        n = max(1, round(n_tokens * share / total / mean_lengths(mixture)[name]))
        tokens = make(rng, n, split).tokens
        tokens = np.concatenate([np.full((n, 1), bos), tokens], axis=1)
        keep = tokens != PAD
        flats.append(tokens[keep])
        lengths.append(keep.sum(axis=1))
    flat, length = np.concatenate(flats), np.concatenate(lengths)
    start = np.cumsum(length) - length
    order = rng.permutation(len(length))
    length = length[order]
    return flat[_spans(start[order], length)], length


def _spans(start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The indices start[i] .. start[i] + length[i] - 1, one span after another."""
    offset = np.cumsum(length) - length
    return np.repeat(start - offset, length) + np.arange(length.sum())


def _pack(flat: np.ndarray, length: np.ndarray, n_rows: int) -> np.ndarray | None:
    """[n_rows, CONTEXT] greedily packed, or None where the documents do not suffice."""
    start = np.cumsum(length) - length
    starts, takes = [], []
    waiting: list[int] = []
    row, used = 0, 0
    documents = iter(range(len(length)))
    sizes = length.tolist()
    while row < n_rows:
        document = waiting.pop() if used == 0 and waiting else next(documents, None)
        if document is None:
            return None
        size, room = sizes[document], CONTEXT - used
        if size > room and size > LONG and used:
            waiting.append(document)
            continue
        take = min(size, room)
        starts.append(start[document])
        takes.append(take)
        used += take
        if used == CONTEXT:
            row, used = row + 1, 0
    return flat[_spans(np.array(starts), np.array(takes))].reshape(n_rows, CONTEXT)


def chunk(index: int, seed: int, split: str = "train", stream: int = 0, mixture: str = "almanac") -> np.ndarray:
    """Chunk `index` of a stream of a mixture (see MIXTURES): int16 [CHUNK_ROWS, 128]."""
    rng = np.random.default_rng(np.random.SeedSequence([20261, seed, stream, index]))
    for spare in (1.03, 1.2, 2.0):
        rows = _pack(*_documents(rng, int(CHUNK_ROWS * CONTEXT * spare), split, mixture), CHUNK_ROWS)
        if rows is not None:
            return rows
    raise RuntimeError("the mixture made too little text for a chunk of rows")


def token_rows(n_rows: int, seed: int = 0) -> np.ndarray:
    """Training text: int16 [n_rows, 128].  Row i is the same in every call with one seed.  0.5 s a million tokens."""
    return _rows(n_rows, seed, "train", stream=0)


def held_out_rows(n_rows: int, seed: int = 0, split: str = "train") -> np.ndarray:
    """The same mixture from another stream of random numbers: int16 [n_rows, 128].

    split "train": fresh draws without withheld items (the training distribution); "any": with withheld items in
    their natural share; "exam": withheld items alone, for the kinds that have any.
    """
    return _rows(n_rows, seed, split, stream=1)


def _rows(n_rows: int, seed: int, split: str, stream: int) -> np.ndarray:
    parts = [chunk(i, seed, split, stream) for i in range(-(-n_rows // CHUNK_ROWS))]
    return np.concatenate(parts)[:n_rows] if parts else np.empty((0, CONTEXT), dtype=np.int16)
