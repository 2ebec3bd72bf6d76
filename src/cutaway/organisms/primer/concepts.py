"""What the primer knows: 24 concepts of four kinds, each with one short name, and the captions that say them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cutaway.vision.stroop import INKS

COLOURS = {name: INKS[name] for name in ("red", "yellow", "green", "blue", "purple", "black")}
SHAPES = ("circle", "square", "star", "heart", "cross", "ring")
TEXTURES = ("lines", "dots", "check", "waves")
THINGS = ("house", "tree", "fish", "face", "cup", "key", "boat", "sun")

KINDS: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "texture": TEXTURES,
    "thing": THINGS,
}
CONCEPTS = tuple(name for names in KINDS.values() for name in names)
SUBJECTS = SHAPES + THINGS

_CARRIERS = ("{}", "a {}", "picture of {}", "a picture of a {}", "this is a {}", "look , a {}")
WORDS = ("<pad>", "<unk>", *CONCEPTS, "a", "picture", "of", "this", "is", "look", ",", "with", "and", "the", "word",
         "drawing", "something", "an", "in", "on")  # fmt: skip


@dataclass(frozen=True)
class Content:
    """What a picture shows: any of a subject, a colour, a texture. "" where there is none."""

    subject: str = ""
    colour: str = ""
    texture: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in (self.colour, self.subject, self.texture) if name)


def caption(content: Content, generator: np.random.Generator, most: int = 3) -> str:
    """A caption that says some of what is there: "a red fish with dots", "picture of lines"."""
    said = [name for name in content.names if generator.random() < 0.7] or [str(generator.choice(content.names))]
    said = said[:most]
    texture = content.texture if content.texture in said else ""
    head = " ".join(name for name in (content.colour, content.subject) if name in said)
    phrase = f"{head} with {texture}" if head and texture else head or texture
    return str(generator.choice(_CARRIERS)).format(phrase)
