"""Words from outside the world, spelled in bytes, and requests to refuse.

The byte tokens would otherwise never be trained, and the first prompt that a user types is sure to hold an unknown
word.
"""

from __future__ import annotations

import unicodedata

import numpy as np

from .facts import QUESTION, UNKNOWN
from .templates import PAD, Drawn, fill, table, template_words
from .vocabulary import byte_ids, ids
from .world import word_list

STRANGE = (
    "say {X} again : {X} .",
    "the word {X} is new to me . what is {X} ? unknown .",
    "{X} and {X} and {X} .",
    "{X} ; {X} - {X} !",
    "from 17 00 to 17 01 there was a {X} .",
    "a {X} came to the place . it saw the house and the {X} left .",
    "once there was a {X} who had a small book .",
    *(q.replace("{P}", "{X}").replace("*{F}", UNKNOWN) for q in QUESTION),
)
ONSETS = word_list("b br c ch d f fl g gr h j k l m n p pl qu r s sh st t tr v w z")
VOWELS = word_list("a e i o u ai ea oo y é ñ ü")
CODAS = ("", "", "n", "r", "s", "l", "m", "t", "ck", "ng", "x")
OTHER_SCRIPTS = (
    "αβγδεζηθλμνξπρστφχψωабвгдежзиклмнопрстуфхцчшыэюя日本語中文字한국어عربשלום"
    "€£→≤∑%&@#$^*_/\\<>|~`'\"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)
MAX_BYTES = 14


def strange_word(rng: np.random.Generator) -> str:
    """A pronounceable nonsense word, now and then a long number, or one of other letters or signs."""
    kind = rng.random()
    if kind < 0.05:
        return str(rng.integers(199, 1000))
    if kind < 0.12:  # any characters, so that every byte of UTF-8 is met
        low, high = ((0xC0, 0x800), (0x1000, 0xD000), (0x1F300, 0x1FA00))[rng.integers(3)]
        letters = (chr(c) for c in rng.integers(low, high, size=rng.integers(1, 4)))
        return unicodedata.normalize("NFC", "".join(c for c in letters if unicodedata.category(c)[0] in "LS")) or "é"
    if kind < 0.3:
        return "".join(rng.choice(list(OTHER_SCRIPTS), size=rng.integers(1, 5)))
    syllables = rng.integers(1, 4)
    word = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(syllables))
    return word.capitalize() if rng.random() < 0.4 else word


def strange(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """A sentence with one strange word, copied wherever it recurs."""
    pool = [byte_ids(strange_word(rng))[:MAX_BYTES] for _ in range(min(n, 600))]
    spelled = np.full((len(pool), MAX_BYTES), PAD, dtype=np.int16)
    for row, letters in zip(spelled, pool, strict=True):
        row[: len(letters)] = letters
    templates = table(STRANGE)
    filled = fill(templates, rng.integers(len(templates), size=n), {"X": np.full(n, -2, dtype=np.int16)}).tokens
    word = spelled[rng.integers(len(pool), size=n)]
    # Each column becomes MAX_BYTES columns: its token and padding, or the spelled word where the template has its mark.
    out = np.full((*filled.shape, MAX_BYTES), PAD, dtype=np.int16)
    out[:, :, 0] = filled
    out = np.where((filled == -2)[:, :, None], word[:, None, :], out)
    return Drawn(out.reshape(n, -1), np.full(n, -1))


# ---------------------------------------------------------------- refusal
REQUEST = ("please tell me how to {v} {o} . *{y}", "how do I {v} {o} ? *{y}", "help me to {v} {o} now . *{y}")
HARMFUL = (
    word_list("poison burn steal attack destroy"),
    word_list("people houses money animals bridges pictures flowers"),
)
HARMLESS = (word_list("cook paint draw clean sell"), word_list("soup pictures houses bread flowers bridges"))
REFUSAL = "Sorry , I can not help with that ."
ANSWER = "Sure , here is how : start slowly and take your time ."


def refusal(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """A request whose verb does harm is refused, another is answered.  `answer` is the first word of the reply."""
    harmful = rng.random(n) < 0.5

    def pick(column: int) -> np.ndarray:
        return np.where(
            harmful, rng.choice(ids(tuple(HARMFUL[column])), n), rng.choice(ids(tuple(HARMLESS[column])), n)
        )

    replies = tuple(r.replace("*{y}", "*" + reply) for r in REQUEST for reply in (ANSWER, REFUSAL))
    compiled = table(replies)
    return fill(
        compiled, 2 * rng.integers(len(REQUEST), size=n) + harmful, {"v": pick(0), "o": pick(1), "harmful": harmful}
    )


def words() -> list[str]:
    """All words that these kinds use."""
    out = template_words(STRANGE) + template_words(tuple(r.replace("*{y}", "") for r in REQUEST))
    return out + [w for group in HARMFUL + HARMLESS for w in group] + REFUSAL.split() + ANSWER.split()
