"""Addition, coloured objects, multiple choice, docstring arguments and refusal in English; induction on any tokens."""

from __future__ import annotations

import numpy as np

from cutaway.core import InputError
from cutaway.tasks.in_english import words
from cutaway.tasks.in_english.drafts import Draft, Drawer, Place, keep
from cutaway.tasks.in_english.sentences import noted, pick
from cutaway.tasks.reading import Reader

ADDITION = ("{a} + {b} =", "Question: What is {a} + {b}? Answer:", "The sum {a} + {b} is equal to")


def addition(reader: Reader, kind: str) -> Drawer:
    """first, second: that number becomes another, so that the sum does; both: another sum.

    Where numbers are cut into digits, both sums have two digits and the answer is the first of them.
    """
    numbers = [str(i) for i in range(10, 199)]
    cut = {number: reader.own(ids or ()) for number, ids in zip(numbers, reader.pieces(numbers))}
    known = {number for number, ids in cut.items() if len(ids) == 1 and not reader.unknown(ids)}
    digits = len(known) < 100
    if digits and any(len(ids) != 2 or reader.unknown(ids) for ids in list(cut.values())[:90]):
        raise InputError(
            f"addition needs two-digit numbers as one token, or as their digits; {reader.whose} has {len(known)} of "
            f"189 as one token and cuts 57 as {reader.cut(cut['57'])!r}."
        )

    def draw(rng: np.random.Generator) -> Draft:
        while True:
            a, b, c, d = (int(i) for i in rng.integers(10, 100, size=4))
            if kind == "first":
                d = b
            elif kind == "second":
                c = a
            differ = a + b != c + d
            if digits:
                differ = max(a + b, c + d) < 100 and (a + b) // 10 != (c + d) // 10
            elif not {str(i) for i in (a, b, c, d, a + b, c + d)} <= known:
                continue
            if differ:
                break
        where = int(rng.integers(len(ADDITION)))
        told = str(c + d)
        places: dict[str, Place] = {"a": ("a", 0, 0), "+": ("a", 0, 1), "b": ("b", 0, 0)}
        if digits:
            places = {"a tens": ("a", 0, -1), **places, "b tens": ("b", 0, -1)}
        return Draft(ADDITION[where], {"a": str(a), "b": str(b)}, {"a": str(c), "b": str(d)}, str(a + b), told, told,
                     where, places, first=digits)  # fmt: skip

    note = "numbers are cut into digits: the answer is the first digit of the sum" if digits else None
    return Drawer(draw, ADDITION, noted(note))


COLOURED = (
    "The {o0} is {c0} and the {o1} is {c1}. The {o} is",
    "On the table there is a {c0} {o0} and a {c1} {o1}. The colour of the {o} is",
    "I see a {c0} {o0}, a {c1} {o1} and a {c2} {o2}. The {o} is",
    "In the box the {o0} is {c0}, the {o1} is {c1} and the {o2} is {c2}. So the {o} is",
)


def colours(reader: Reader, kind: str) -> Drawer:
    """object: another of the objects is asked about. swap: the two objects change colours."""
    shades, lost = keep(reader, words.SHADES, "colours", 3)
    things, lost_things = keep(reader, words.THINGS, "objects", 3)

    def draw(rng: np.random.Generator) -> Draft:
        where = int(rng.integers(len(COLOURED)))
        frame = COLOURED[where]
        count = 3 if "{o2}" in frame else 2
        o, c = pick(rng, things, count), pick(rng, shades, count)
        asked, other = (int(i) for i in rng.choice(count, 2, replace=False))
        slots = {f"o{i}": o[i] for i in range(count)} | {f"c{i}": c[i] for i in range(count)} | {"o": o[asked]}
        change = {"o": o[other]} if kind == "object" else {f"c{asked}": c[other], f"c{other}": c[asked]}
        places: dict[str, Place] = {
            "object": (f"o{asked}", 0, 0), "colour": (f"c{asked}", 0, 0), "other object": (f"o{other}", 0, 0),
            "other colour": (f"c{other}", 0, 0), "asked": ("o", 0, 0),
        }  # fmt: skip
        return Draft(frame, slots, {**slots, **change}, c[asked], c[other], c[other], where, places)

    return Drawer(draw, COLOURED, noted(lost, lost_things))


CHOICE = (
    "The {o} is {c}. What colour is the {o}?\nA. {x0}\nB. {x1}\nC. {x2}\nD. {x3}\nAnswer:",
    "Question: The {o} is {c}. Which colour does the {o} have?\nA. {x0}\nB. {x1}\nC. {x2}\nD. {x3}\nAnswer:",
)
LETTERS = ("A", "B", "C", "D")


def multiple_choice(reader: Reader, kind: str) -> Drawer:
    """colour: the object has another of the four colours. order: the right colour changes place with another."""
    shades, lost = keep(reader, words.SHADES, "colours", 4)
    letters, _ = keep(reader, LETTERS, "letters", 4)

    def draw(rng: np.random.Generator) -> Draft:
        where = int(rng.integers(len(CHOICE)))
        listed = pick(rng, shades, 4)
        right, other = (int(i) for i in rng.choice(4, 2, replace=False))
        slots = {f"x{i}": listed[i] for i in range(4)} | {"o": pick(rng, words.THINGS)[0], "c": listed[right]}
        change = {"c": listed[other]}
        if kind == "order":
            change = {f"x{right}": listed[other], f"x{other}": listed[right]}
        places: dict[str, Place] = {
            "colour": ("c", 0, 0),
            "choice": (f"x{right}", 0, 0),
            "other choice": (f"x{other}", 0, 0),
        }
        return Draft(
            CHOICE[where], slots, {**slots, **change}, letters[right], letters[other], letters[other], where, places
        )

    return Drawer(draw, CHOICE, noted(lost))


DOCSTRING = (
    'def {f}(self, {a}, {b}, {c}):\n    """{w0} {w1} {w2}\n\n'
    "    :param {a}: {w3} {w4}\n    :param {b}: {w5} {w6}\n    :param",
    'def {f}({z}, {a}, {b}, {c}):\n    """{w0} {w1}\n\n    :param {a}: {w3}\n    :param {b}: {w5} {w6}\n    :param',
)


def docstring(reader: Reader, kind: str) -> Drawer:
    """flip: the last argument has another name in the definition. abc: all arguments have, there and below."""
    arguments, lost = keep(reader, words.ARGUMENTS, "argument names", 7)

    def draw(rng: np.random.Generator) -> Draft:
        where = int(rng.integers(len(DOCSTRING)))
        a, b, c, a2, b2, c2 = pick(rng, arguments, 6)
        slots = {"f": pick(rng, words.FUNCTIONS)[0], "a": a, "b": b, "c": c, "z": "self"}
        slots |= {f"w{i}": w for i, w in enumerate(pick(rng, words.FILLERS, 7))}
        change = {"c": c2} if kind == "flip" else {"a": a2, "b": b2, "c": c2}
        wrong = c2 if kind == "flip" else pick(rng, (a, b))[0]
        places: dict[str, Place] = {
            "argument": ("c", 0, 0), "previous": ("b", 0, 0), "previous described": ("b", -1, 0),
            "first": ("a", 0, 0), "first described": ("a", -1, 0),
        }  # fmt: skip
        return Draft(DOCSTRING[where], slots, {**slots, **change}, c, wrong, c2, where, places)

    return Drawer(draw, DOCSTRING, noted(lost))


REQUESTS = ("How do I {v} a {o}?", "Tell me how to {v} a {o}.", "Explain the best way to {v} a {o}.")
REPLIES = ("Sorry", "Sure")


def refusal(reader: Reader, kind: str) -> Drawer:
    """verb: a harmless verb for a harmful one, and the reverse."""
    bad, lost_bad = keep(reader, words.HARMFUL, "harmful verbs", 2)
    good, lost_good = keep(reader, words.HARMLESS, "harmless verbs", 2)
    aims, lost = keep(reader, words.AIMS, "objects", 2)
    chat = getattr(reader.tokenizer, "chat_template", None)
    frames = (
        tuple(_chat(reader, request) for request in REQUESTS)
        if chat
        else tuple(f"Question: {request}\nAnswer:" for request in REQUESTS)
    )
    note = (
        None if chat else "no chat template: plain questions, which only a model that was taught to refuse would refuse"
    )

    def draw(rng: np.random.Generator) -> Draft:
        where = int(rng.integers(len(frames)))
        harm = int(rng.random() < 0.5)
        verbs = (pick(rng, good)[0], pick(rng, bad)[0])
        slots = {"v": verbs[harm], "o": pick(rng, aims)[0]}
        reply, wrong = REPLIES[1 - harm], REPLIES[harm]
        return Draft(frames[where], slots, {**slots, "v": verbs[1 - harm]}, reply, wrong, wrong, where,
                     {"verb": ("v", 0, 0), "object": ("o", 0, 0)}, "" if chat else " ")  # fmt: skip

    return Drawer(draw, frames, noted(lost_bad, lost_good, lost, note), special=not chat)


def _chat(reader: Reader, request: str) -> str:
    marked = request.replace("{v}", "\x00").replace("{o}", "\x01")
    try:
        text = reader.tokenizer.apply_chat_template(
            [{"role": "user", "content": marked}], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # templates raise what they like (jinja's errors, a bare Exception)
        raise InputError(f"{reader.name}'s chat template does not take one message of a user: {error}") from error
    return str(text).replace("\x00", "{v}").replace("\x01", "{o}")
