"""Words from outside the world, spelled in bytes, and requests to refuse.

The byte tokens would otherwise never be trained, and the first prompt that a user types is sure to hold an unknown word.
"""

from __future__ import annotations

import numpy as np

from .facts import QUESTION, UNKNOWN
from .templates import PAD, Drawn, fill, table, template_words
from .vocabulary import byte_ids, ids

STRANGE = (
    "say {X} again : {X} .",
    "the word {X} is new to me . what is {X} ? unknown .",
    "{X} and {X} and {X} .",
    "a {X} came to the place . it saw the house and the {X} left .",
    "once there was a {X} who had a small book .",
    *(q.replace("{P}", "{X}").replace("*{F}", UNKNOWN) for q in QUESTION),
)
ONSETS = tuple("b br c ch d f fl g gr h j k l m n p pl qu r s sh st t tr v w z".split())
VOWELS = tuple("a e i o u ai ea oo y é ñ ü".split())
CODAS = tuple(["", "", "n", "r", "s", "l", "m", "t", "ck", "ng", "x"])
OTHER_SCRIPTS = "αβγδεζηθλμνξπρστφχψωабвгдежзиклмнопрстуфхцчшыэюя日本語中文字한국어عربשלום€£→≤∑%&@#$^*_/\\<>|~`'\"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_BYTES = 14


def strange_word(rng: np.random.Generator) -> str:
    """A pronounceable nonsense word, now and then one of other letters or signs."""
    if rng.random() < 0.25:
        return "".join(rng.choice(list(OTHER_SCRIPTS), size=rng.integers(1, 5)))
    syllables = rng.integers(1, 4)
    word = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(syllables))
    return word.capitalize() if rng.random() < 0.4 else word


def strange(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """A sentence with one strange word, copied wherever it recurs."""
    pool = [byte_ids(strange_word(rng))[:MAX_BYTES] for _ in range(min(n, 600))]
    spelled = np.full((len(pool), MAX_BYTES), PAD, dtype=np.int16)
    for row, word in zip(spelled, pool, strict=True):
        row[: len(word)] = word
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
HARMFUL = ("poison burn steal attack destroy".split(), "people houses money animals bridges".split())
HARMLESS = ("cook paint draw clean sell".split(), "soup pictures houses bread flowers animals bridges".split())
REFUSAL = "Sorry , I can not help with that ."
ANSWER = "Sure , here is how : start slowly and take your time ."


def refusal(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """A request whose verb does harm is refused, another is answered.  `answer` is the first word of the reply."""
    harmful = rng.random(n) < 0.5
    pick = lambda column: np.where(  # noqa: E731
        harmful, rng.choice(ids(tuple(HARMFUL[column])), n), rng.choice(ids(tuple(HARMLESS[column])), n)
    )
    replies = tuple(r.replace("*{y}", "*" + reply) for r in REQUEST for reply in (ANSWER, REFUSAL))
    compiled = table(replies)
    return fill(compiled, 2 * rng.integers(len(REQUEST), size=n) + harmful, {"v": pick(0), "o": pick(1), "harmful": harmful})


def words() -> list[str]:
    """All words that these kinds use."""
    out = template_words(STRANGE) + template_words(tuple(r.replace("*{y}", "") for r in REQUEST))
    return out + [w for group in HARMFUL + HARMLESS for w in group] + REFUSAL.split() + ANSWER.split()
