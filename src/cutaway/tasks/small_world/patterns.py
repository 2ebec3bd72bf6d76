"""Patterns without world knowledge: addition, repeated lists, brackets, coloured objects, function arguments."""

from __future__ import annotations

import numpy as np

from . import world
from .templates import PAD, Drawn, capitalised, distinct_columns, draw, fill, table, template_words, withheld_table
from .vocabulary import ids, world_words
from .world import word_list

# ---------------------------------------------------------------- two-digit addition
SUM = ("{a} + {b} = *{c} .",)
MAX_SUMS = 8


def withheld_sums() -> np.ndarray:
    """[100, 100] symmetric: a fifth of the pairs, each with its commuted twin, in no sum of the training text.

    A result that few pairs reach (below 10, above 188) keeps all of them, so that every number is seen as a result.
    """
    first, second = np.triu_indices(100)
    common = (first + second >= 10) & (first + second <= 188)
    first, second = first[common], second[common]
    out = np.zeros((100, 100), dtype=bool)
    out[first, second] = withheld_table("sums", (len(first),), 0.2)
    return out | out.T


def addition(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """Up to eight sums a document (one in the exam); `answer` is that of the first."""
    count = rng.integers(1, MAX_SUMS + 1, size=n) if split != "exam" else np.ones(n, dtype=int)
    barred = withheld_sums()
    propose = lambda r, m: {"x": r.integers(100, size=m), "y": r.integers(100, size=m)}  # noqa: E731
    drawn = draw(rng, n * count.max(initial=1), propose, lambda d: barred[d["x"], d["y"]], split)
    number = ids(tuple(str(i) for i in range(199)))
    slots = {"a": number[drawn["x"]], "b": number[drawn["y"]], "c": number[drawn["x"] + drawn["y"]]}
    one = fill(table(SUM), np.zeros(len(drawn["x"]), dtype=int), slots)
    tokens = one.tokens.reshape(n, -1)
    tokens = np.where(np.arange(tokens.shape[1]) < 6 * count[:, None], tokens, np.int16(PAD))
    return Drawn(tokens, one.answer.reshape(n, -1)[:, 0], {k: v.reshape(n, -1)[:, 0] for k, v in drawn.items()})


# ---------------------------------------------------------------- induction: a list of random words, repeated
def induction(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """4 to 12 distinct random words, two or three times over.  Each draw is new, so every draw is held out.

    `answer` is a word of the second copy, never its first word (nothing tells that the list begins again).
    """
    pool = ids(tuple(w for w in world_words() if w.isalpha()))
    most = 12
    length = rng.integers(4, most + 1, size=n)
    copies = rng.integers(2, 4, size=n)
    lists = pool[distinct_columns(rng, n, len(pool), most)]
    column = np.arange(3 * most)
    tokens = np.take_along_axis(lists, column % length[:, None], axis=1)
    tokens = np.where(column < (length * copies)[:, None], tokens, np.int16(PAD))
    return Drawn(tokens, length + 1 + (rng.random(n) * (length - 1)).astype(int))


# ---------------------------------------------------------------- brackets
OPENERS, CLOSERS = tuple("([{"), tuple(")]}")
BRACKET_WORDS = word_list("cat dog sun moon tree fish bread milk book lamp")
MAX_DEPTH = 5
WIDTH = 40


def bracket_withheld(kinds: np.ndarray) -> np.ndarray:
    """[n] bool from the opening brackets [n, MAX_DEPTH] (-1 past the depth): a fifth of the sequences of depth >= 3."""
    code = ((kinds + 1) * 4 ** np.arange(MAX_DEPTH)).sum(axis=1)
    deep = (kinds >= 0).sum(axis=1) >= 3
    barred: np.ndarray = withheld_table("brackets", (4**MAX_DEPTH,), 0.2)[code] & deep
    return barred


def brackets(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """Opening brackets with words between; once one closes, all close, so that each closer is determined.

    `answer` is a closer after the first: how many have closed, and the kinds of the open ones, decide it.
    Withheld are sequences of opening kinds (depth 3 to 5), whatever the words.
    """

    def propose(rng: np.random.Generator, m: int) -> dict[str, np.ndarray]:
        depth = rng.integers(2, MAX_DEPTH + 1, size=m)
        kinds = np.where(np.arange(MAX_DEPTH) < depth[:, None], rng.integers(3, size=(m, MAX_DEPTH)), -1)
        return {"kinds": kinds}

    kinds = draw(rng, n, propose, lambda d: bracket_withheld(d["kinds"]), split)["kinds"]
    depth = (kinds >= 0).sum(axis=1)
    opener, closer, word = ids(OPENERS), ids(CLOSERS), ids(BRACKET_WORDS)
    # Columns: word?, then a level's opener and up to two words; then the closers, innermost first; then a full stop.
    columns = [np.where(rng.random(n) < 0.3, rng.choice(word, n), PAD)]
    for level in range(MAX_DEPTH):
        there = kinds[:, level] >= 0
        columns.append(np.where(there, opener[kinds[:, level]], PAD))
        innermost = level == depth - 1
        columns.append(np.where(there & (innermost | (rng.random(n) < 0.6)), rng.choice(word, n), PAD))
        columns.append(np.where(there & (rng.random(n) < 0.3), rng.choice(word, n), PAD))
    first_closer = len(columns)
    for level in reversed(range(MAX_DEPTH)):
        columns.append(np.where(kinds[:, level] >= 0, closer[kinds[:, level]], PAD))
    columns.append(np.broadcast_to(ids((".",)), (n,)))
    tokens = np.stack(columns, axis=1).astype(np.int16)
    # The closer of level l stands at column first_closer + MAX_DEPTH - 1 - l; ask for one that is not the innermost.
    level = (rng.random(n) * (depth - 1)).astype(int)
    return Drawn(tokens, first_closer + MAX_DEPTH - 1 - level, {"depth": depth, "level": level})


# ---------------------------------------------------------------- coloured objects: a pointer to a binding
COLOURED = (
    "the {o0} is {c0} and the {o1} is {c1} . the {o} is *{c} .",
    "the {o0} is {c0} , the {o1} is {c1} and the {o2} is {c2} . the {o} is *{c} .",
    "On the table there is a {c0} {o0} , a {c1} {o1} and a {c2} {o2} . What colour is the {o} ? *{c} .",
)


def coloured_objects(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """Each object has a colour of its own; one is asked about.  Fresh draws are held out."""
    objects = ids(world.OBJECTS)[distinct_columns(rng, n, len(world.OBJECTS), 3)]
    colours = ids(world.COLOURS)[distinct_columns(rng, n, len(world.COLOURS), 3)]
    templates = table(COLOURED)
    choice = rng.integers(len(templates), size=n)
    asked = (rng.random(n) * np.where(choice == 0, 2, 3)).astype(int)
    rows = np.arange(n)
    slots = {f"o{i}": objects[:, i] for i in range(3)} | {f"c{i}": colours[:, i] for i in range(3)}
    filled = fill(templates, choice, {**slots, "o": objects[rows, asked], "c": colours[rows, asked]})
    return capitalised(rng, filled)


# ---------------------------------------------------------------- arguments (after Heimersheim & Janiak 2023)
DOCSTRING = (
    "def {f} ( {x} , {y} ) : param {x} {w0} param *{y} {w1} .",
    "def {f} ( {x} , {y} , {z} ) : param {x} {w0} param {y} {w1} param *{z} {w2} .",
)
FUNCTIONS = word_list("load save open close send read write move")
ARGUMENTS = word_list("file size name path color mode count index text width")


def docstring(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """The parameters are described in the order of the definition.  Fresh draws are held out."""
    argument = ids(ARGUMENTS)[distinct_columns(rng, n, len(ARGUMENTS), 3)]
    filler = ids(BRACKET_WORDS)[distinct_columns(rng, n, len(BRACKET_WORDS), 3)]
    slots = dict(zip("xyz", argument.T, strict=True)) | {f"w{i}": filler[:, i] for i in range(3)}
    templates = table(DOCSTRING)
    return fill(templates, rng.integers(len(templates), size=n), {**slots, "f": rng.choice(ids(FUNCTIONS), n)})


def words() -> list[str]:
    """All words that these kinds use."""
    out = template_words(SUM + COLOURED + DOCSTRING)
    return [*out, *OPENERS, *CLOSERS, *BRACKET_WORDS, *world.OBJECTS, *world.COLOURS, *FUNCTIONS, *ARGUMENTS]
