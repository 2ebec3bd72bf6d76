"""Rhyming couplets: the last word of the first line determines the last word of the second.

Rhymes come in pairs, so a first rhyme has one answer.  Each rhyme word has a category, and the middle of the second
line is written for the category of the word that will end it: the model gains by settling the rhyme before it writes
the line.
"""

from __future__ import annotations

import numpy as np

from .templates import Drawn, draw, fill, table, template_words, withheld_table
from .vocabulary import ids

# Each line: word category word category.
RHYMES = tuple(
    tuple(line.split())
    for line in """
cat animal hat wear
dog animal log nature
fox animal box thing
bear animal pear food
mouse animal house place
goat animal boat vehicle
snake animal lake nature
bee animal tree nature
fish animal dish thing
hen animal pen thing
whale animal tail body
duck animal truck vehicle
bat animal mat thing
sheep animal jeep vehicle
ant animal plant nature
crow animal snow nature
deer animal beer food
moose animal juice food
toad animal road place
snail animal mail thing
lamb animal jam food
seal animal meal food
dove animal glove wear
bread food bed thing
rice food ice nature
corn food horn thing
pie food sky nature
meat food seat thing
nut food hut place
bean food queen person
egg food leg body
wheat food street place
peach food beach place
plum food drum thing
toast food coast place
fruit food boot wear
plate thing gate place
spoon thing moon nature
jar thing star nature
car vehicle bar place
train vehicle rain nature
plane vehicle crane animal
king person ring wear
clock thing sock wear
book thing hook thing
bell thing shell nature
ball thing wall place
door thing floor place
hill nature mill place
cave place wave nature
park place shark animal
town place crown wear
farm place arm body
school place pool place
mop thing shop place
kite thing light nature
flower nature tower place
nest nature chest body
map thing cap wear
nose body rose nature
bride person slide place
sand nature hand body
""".strip().splitlines()
)
WORDS = tuple(w for a, _, b, _ in RHYMES for w in (a, b))
CATEGORIES = tuple(dict.fromkeys(c for _, a, _, b in RHYMES for c in (a, b)))
CATEGORY = tuple(
    CATEGORIES.index(c) for _, a, _, b in RHYMES for c in (a, b)
)  # of WORDS; the rhyme of word i is word i ^ 1

# Per category, how a first line and a second line may lead to such a word.
FIRST = {
    "animal": ("one day I met a hungry {v}", "beyond the hill there lived a {v}", "I gave some water to a {v}"),
    "food": ("this morning I was served some {v}", "the table held a bit of {v}", "I tasted salt upon the {v}"),
    "wear": ("my sister wore a pretty {v}", "the tailor made a finer {v}", "he paid too much to wear a {v}"),
    "thing": ("my uncle bought a broken {v}", "I used my hands to mend a {v}", "she kept an old and dusty {v}"),
    "nature": (
        "we stood and looked upon the {v}",
        "the wind was soft above the {v}",
        "we sang all night about the {v}",
    ),
    "place": ("we took a walk around the {v}", "the children played behind the {v}", "my father painted all the {v}"),
    "vehicle": ("he traveled all day in a {v}", "the engine failed inside the {v}", "we rode to town upon a {v}"),
    "body": ("the doctor looked upon my {v}", "I felt a pain inside my {v}", "she hurt and had to rest her {v}"),
    "person": (
        "we bowed and smiled before the {v}",
        "a song was written for the {v}",
        "they cheered and waited for the {v}",
    ),
}
SECOND = {
    "animal": (
        "and then it fed and petted the *{w} .",
        "and heard the growl of a sleepy *{w} .",
        "and saw the fur and paws of a *{w} .",
    ),
    "food": (
        "and ate with a fork and knife the *{w} .",
        "and cooked and sliced a plate of *{w} .",
        "and felt so full from eating *{w} .",
    ),
    "wear": (
        "and dressed in silk and wore a *{w} .",
        "and put on gold and a velvet *{w} .",
        "and sewed a button on the *{w} .",
    ),
    "thing": (
        "and fixed with nails and glue the *{w} .",
        "and carried home a useful *{w} .",
        "and sold for a coin the little *{w} .",
    ),
    "nature": (
        "and far outdoors we watched the *{w} .",
        "and under clouds admired the *{w} .",
        "and breathed the air beside the *{w} .",
    ),
    "place": (
        "and stayed and rested at the *{w} .",
        "and found the way to reach the *{w} .",
        "and built with bricks another *{w} .",
    ),
    "vehicle": (
        "and drove away so fast in the *{w} .",
        "and paid the driver of the *{w} .",
        "and filled with fuel the empty *{w} .",
    ),
    "body": (
        "and washed with soap my dirty *{w} .",
        "and wrapped a bandage on the *{w} .",
        "and stretched and scratched the itchy *{w} .",
    ),
    "person": (
        "and shook the hand and hailed the *{w} .",
        "and wrote a polite note to the *{w} .",
        "and asked for help and thanked the *{w} .",
    ),
}
PER_CATEGORY = 3
COUPLETS = tuple(f"{a} , \n {b}" for i in CATEGORIES for j in CATEGORIES for a in FIRST[i] for b in SECOND[j])


def couplet(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """Two lines; a fifth of (first-line template, rhyme word, second-line template) withheld."""
    category = np.array(CATEGORY)
    barred = withheld_table("couplets", (PER_CATEGORY, len(WORDS), PER_CATEGORY), 0.2)

    def propose(rng: np.random.Generator, m: int) -> dict[str, np.ndarray]:
        return {
            "first": rng.integers(PER_CATEGORY, size=m),
            "word": rng.integers(len(WORDS), size=m),
            "second": rng.integers(PER_CATEGORY, size=m),
        }

    drawn = draw(rng, n, propose, lambda d: barred[d["first"], d["word"], d["second"]], split)
    rhyme = drawn["word"] ^ 1
    c, r = len(CATEGORIES), PER_CATEGORY
    # COUPLETS is laid out as [category of v, category of w, first, second].
    block = category[drawn["word"]] * c + category[rhyme]
    choice = (block * r + drawn["first"]) * r + drawn["second"]
    word = ids(WORDS)
    out = fill(table(COUPLETS), choice, {"v": word[drawn["word"]], "w": word[rhyme]})
    return Drawn(out.tokens, out.answer, {**out.facts, **drawn, "category": category[rhyme]})


def words() -> list[str]:
    """All words of the verse."""
    lines = [line for group in (*FIRST.values(), *SECOND.values()) for line in group]
    return template_words(tuple(lines)) + list(WORDS)
