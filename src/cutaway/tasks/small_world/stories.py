"""Plain stories of 4 to 8 sentences: a topic throughout, an event that goes well or badly, and an ending that fits it.

Made for dictionary studies: topic words are plain, and occur in the sentences of their topic.
"""

from __future__ import annotations

import numpy as np

from . import world
from .templates import PAD, Drawn, fill, table, template_words
from .vocabulary import ids
from .world import word_list

# topic: (place, nouns, verbs in the past, adjectives)
TOPICS = {
    "sea": ("beach", "wave boat sailor shell whale sand", "sailed swam rowed", "salty deep"),
    "kitchen": ("kitchen", "soup bread oven spoon pan cake", "cooked baked tasted", "warm sweet"),
    "music": ("concert", "song drum melody choir guitar dance", "sang played listened", "loud gentle"),
    "garden": ("garden", "flower seed bee tree leaf soil", "planted watered dug", "green fresh"),
    "school": ("school", "lesson teacher book pencil class page", "studied learned counted", "clever patient"),
    "snow": ("mountain", "snow ice sled storm coat frost", "skied slid shivered", "cold white"),
    "farm": ("farm", "cow barn horse wheat tractor hen", "plowed milked gathered", "muddy busy"),
    "night": ("forest", "moon star owl shadow lantern fire", "slept dreamed whispered", "dark quiet"),
}
OPENING = (
    "{Title} {P} went to the {place} .",
    "One {time} {Title} {P} was at the {place} .",
    "{N} and {Title} {P} met at the {place} .",
    "It was {time} and {Title} {P} walked to the {place} .",
    "{Title} {P} came to the {place} with {N} .",
)
MIDDLE = (
    "The {n0} was {adj} and the {n1} was near .",
    "{He} {verb} with the {n0} .",
    "There was a {n0} by the {n1} .",
    "{He} saw a {adj} {n0} and {verb} for an hour .",
    "A {n0} and a {n1} were in the {place} .",
    "{He} {verb} , and then {he} looked at the {n0} .",
    "The {n0} made {him} think of the {n1} .",
)
# Event and ending for each sentiment.
EVENT = {
    "good": (
        "Then {he} found a lost {object} .",
        "Then a friend brought a gift .",
        "Soon {he} won a prize .",
        "Then good news came for {him} .",
        "At last the hard work was done well .",
    ),
    "bad": (
        "Then {he} broke the {object} .",
        "Then a thief stole the {object} .",
        "Soon {he} fell and hurt a leg .",
        "Then bad news came for {him} .",
        "At last the hard work was lost .",
    ),
}
ENDING = (
    "{He} felt *{feeling} .",
    "{He} went home {feeling} and the day was *{day} .",
    "In the end {Title} {P} was *{feeling} .",
    "{He} {face} because the day was *{day} .",
)
FEELING = {"good": word_list("happy proud glad cheerful"), "bad": word_list("sad upset gloomy miserable")}
DAY = {"good": word_list("wonderful lovely great"), "bad": word_list("terrible awful horrible")}
FACE = {"good": word_list("smiled laughed"), "bad": word_list("cried wept")}
TIMES = word_list("morning evening afternoon winter summer")
MAX_MIDDLE = 5


def story(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """Opening, one to five sentences on the topic, event, ending.  `answer` is the last feeling or the last day."""
    topic, bad, female = rng.integers(len(TOPICS), size=n), rng.integers(2, size=n), rng.integers(2, size=n)
    specs = list(TOPICS.values())

    def of_topic(column: int) -> np.ndarray:
        """[n] a random word of each document's topic."""
        words = np.stack([ids(tuple(s[column].split())) for s in specs])
        return words[topic, rng.integers(words.shape[1], size=n)]

    def of_mood(lists: dict[str, tuple[str, ...]]) -> np.ndarray:
        words = np.stack([ids(tuple(lists[mood])) for mood in ("good", "bad")])
        return words[bad, rng.integers(words.shape[1], size=n)]

    def gendered(him: str, her: str) -> np.ndarray:
        return ids((him, her))[female]

    fixed = {
        "Title": gendered("Mr", "Miss"),
        "P": rng.choice(ids(world.UNDESCRIBED_PEOPLE), n),
        "N": rng.choice(ids(world.FIRST_NAMES), n),
        "He": gendered("He", "She"),
        "he": gendered("he", "she"),
        "him": gendered("him", "her"),
        "place": of_topic(0),
        "time": rng.choice(ids(TIMES), n),
        "object": rng.choice(ids(world.OBJECTS), n),
        "feeling": of_mood(FEELING),
        "day": of_mood(DAY),
        "face": of_mood(FACE),
    }

    def sentence(templates: tuple[str, ...], choice: np.ndarray | None = None) -> Drawn:
        compiled = table(templates)
        choice = rng.integers(len(compiled), size=n) if choice is None else choice
        nouns = of_topic(1), of_topic(1)
        return fill(
            compiled, choice, {**fixed, "n0": nouns[0], "n1": nouns[1], "verb": of_topic(2), "adj": of_topic(3)}
        )

    parts = [sentence(OPENING).tokens]
    count = rng.integers(1, MAX_MIDDLE + 1, size=n)
    for i in range(MAX_MIDDLE):
        parts.append(np.where((i < count)[:, None], sentence(MIDDLE).tokens, np.int16(PAD)))
    per_mood = len(EVENT["good"])
    parts.append(sentence(EVENT["good"] + EVENT["bad"], bad * per_mood + rng.integers(per_mood, size=n)).tokens)
    before = sum(p.shape[1] for p in parts)
    last = sentence(ENDING)
    return Drawn(
        np.concatenate([*parts, last.tokens], axis=1),
        before + last.answer,
        {"topic": topic, "bad": bad, "female": female},
    )


def words() -> list[str]:
    """All words of the stories."""
    out = template_words(OPENING + MIDDLE + EVENT["good"] + EVENT["bad"] + ENDING)
    out += [w for spec in TOPICS.values() for part in spec for w in part.split()]
    out += [w for lists in (FEELING, DAY, FACE) for group in lists.values() for w in group]
    return [*out, *TIMES, *world.UNDESCRIBED_PEOPLE, "Mr", "Miss", "He", "She", "he", "she", "him", "her"]
