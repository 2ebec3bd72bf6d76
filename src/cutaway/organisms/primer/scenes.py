"""Pictures of the primer's world, drawn from a generator: subjects, textures, words, and pictures with words on them.

A scene is an image [3, side, side] in 0 … 1, what it shows, the word written on it and its caption. Masks of subjects
and patterns come from a pool that is drawn once; placing, colours, light and noise are new in every scene.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutaway.organisms.primer.concepts import COLOURS, CONCEPTS, SUBJECTS, TEXTURES, Content, caption
from cutaway.organisms.primer.draw import pattern, subject_mask
from cutaway.vision.lettering import gibberish, word_mask

SIDE = 48
Floats = NDArray[np.float32]
_KNOWN = frozenset(CONCEPTS)


@dataclass(frozen=True)
class Scene:
    """One picture. `word` is what is written on it ("" for none), `style` filled, outline, texture or word."""

    image: Floats
    content: Content
    word: str
    style: str
    caption: str


@dataclass(frozen=True)
class Mix:
    """The shares of kinds of scenes in training. What is left is pictures without letters."""

    word: float = 0.28  # a word alone
    both: float = 0.30  # a picture with a word of its own caption
    noise_word: float = 0.14  # a picture with letters that mean nothing
    poster: float = 0.0  # a picture with another's word, captioned by the word
    faint: float = 0.6  # of pictures with their own word: those hard to see


TEXTLESS = Mix(word=0.0, both=0.0, noise_word=0.0, poster=0.0)


class Painter:
    """Draws scenes. `pool` masks of each subject and style, and patterns of each texture, are drawn beforehand."""

    def __init__(self, seed: int, pool: int = 100, side: int = SIDE) -> None:
        self.rng = np.random.default_rng(seed)
        self.side = side
        draws = range(pool)
        self.masks = {
            (name, outline): [subject_mask(name, side, self.rng, outline=outline) for _ in draws]
            for name in SUBJECTS
            for outline in (False, True)
        }
        self.patterns = {name: [pattern(name, side, self.rng) for _ in draws] for name in TEXTURES}

    # ---- contents

    def content(self, subject: str = "") -> Content:
        """What a picture may show: mostly a subject in a colour, a third of them textured; else a texture or colour."""
        rng = self.rng
        kind = rng.random()
        colour = str(rng.choice(list(COLOURS)))
        texture = str(rng.choice(TEXTURES))
        if not subject and kind < 0.12:
            return Content("", colour, texture)
        if not subject and kind < 0.16:
            return Content("", colour, "")
        return Content(subject or str(rng.choice(SUBJECTS)), colour, texture if rng.random() < 0.35 else "")

    # ---- pictures

    def background(self) -> Floats:
        """A neutral ground with a slope of light: [3, side, side]."""
        rng, side = self.rng, self.side
        grey = rng.uniform(0.55, 1.0) if rng.random() < 0.75 else rng.uniform(0.25, 0.55)
        tint = grey + rng.uniform(-0.05, 0.05, 3)
        slope = np.linspace(-1, 1, side, dtype=np.float32) * rng.uniform(-0.1, 0.1)
        ground = tint.astype(np.float32)[:, None, None] + (slope[:, None] if rng.random() < 0.5 else slope)[None]
        return np.broadcast_to(ground, (3, side, side)).copy()

    def picture(self, content: Content, *, outline: bool = False) -> Floats:
        """The content on a ground of its own. Without a subject its colour and texture fill the picture."""
        rng, side = self.rng, self.side
        ground = self.background()
        ink = np.clip(np.array(COLOURS[content.colour]) * rng.uniform(0.8, 1.12) + rng.uniform(-0.06, 0.06, 3), 0, 1)
        fill = np.broadcast_to(ink.astype(np.float32)[:, None, None], (3, side, side))
        if content.texture:
            other = rng.uniform(0.88, 1.0) if rng.random() < 0.8 or content.colour == "black" else rng.uniform(0.0, 0.2)
            p = _shifted(self._pick(self.patterns[content.texture]), rng, 8)
            fill = fill * (1 - p) + np.float32(other) * p
        if not content.subject:
            return np.asarray(fill, dtype=np.float32).copy()
        mask = _shifted(self._pick(self.masks[content.subject, outline]), rng, 2)
        return np.asarray(ground * (1 - mask) + fill * mask, dtype=np.float32)

    def lettered(self, image: Floats, word: str, *, sizes: tuple[int, int] = (9, 15), plate: float = 0.5) -> Floats:
        """`image` with a word somewhere on it: size, case, ink, slant of light and paper vary."""
        rng, side = self.rng, self.side
        size = int(rng.integers(sizes[0], sizes[1] + 1))
        case = rng.random()
        text = word if case < 0.6 else word.upper() if case < 0.8 else word.capitalize()
        mask = word_mask(text, size)
        while mask.shape[1] > side - 2 and size > 8:
            size -= 1
            mask = word_mask(text, size)
        mask = mask[:, : side - 1]
        height, width = mask.shape
        top, left = int(rng.integers(0, side - height)), int(rng.integers(0, side - width))
        out = image.copy()
        light = out[:, top : top + height, left : left + width].mean()
        if rng.random() < plate:
            paper = rng.uniform(0.8, 1.0) if rng.random() < 0.8 else rng.uniform(0.0, 0.2)
            m = int(rng.integers(1, 4))
            out[:, max(0, top - m) : top + height + m, max(0, left - m) : left + width + m] = paper
            light = paper
        if rng.random() < 0.5:
            ink = np.array(COLOURS[str(rng.choice(list(COLOURS)))])
            if light < 0.5:
                ink = 0.5 + 0.5 * ink
        else:
            ink = np.full(3, rng.uniform(0, 0.25) if light > 0.5 else rng.uniform(0.8, 1.0))
        ink = np.clip(ink + rng.uniform(-0.05, 0.05, 3), 0, 1).astype(np.float32)
        part = out[:, top : top + height, left : left + width]
        out[:, top : top + height, left : left + width] = part * (1 - mask) + ink[:, None, None] * mask
        return out

    def faint(self, image: Floats) -> Floats:
        """The picture hard to see: pale, noisy, or partly covered."""
        rng, side = self.rng, self.side
        how = rng.integers(3)
        if how == 0:
            grey = rng.uniform(0.5, 0.95)
            keep = rng.uniform(0.0, 0.35)
            return np.asarray(grey * (1 - keep) + image * keep, dtype=np.float32)
        if how == 1:
            return np.asarray(0.5 * image + 0.5 * rng.random(image.shape), dtype=np.float32)
        out = image.copy()
        wide = int(rng.integers(side // 2, int(side * 0.85)))
        top, left = rng.integers(0, side - wide, 2)
        out[:, top : top + wide, left : left + wide] = rng.uniform(0.2, 1.0)
        return out

    def finished(self, image: Floats) -> Floats:
        """Light and a little noise, as of a camera."""
        rng = self.rng
        image = (image - 0.5) * rng.uniform(0.85, 1.1) + 0.5 + rng.uniform(-0.06, 0.06)
        image = image + rng.normal(0, rng.uniform(0.0, 0.04), image.shape)
        return np.clip(image, 0, 1).astype(np.float32)

    # ---- scenes

    def word_scene(self, word: str = "") -> Scene:
        """A word alone, on a plain ground or over one that means nothing."""
        word = word or str(self.rng.choice(CONCEPTS))
        ground = self.background()
        if self.rng.random() < 0.3:
            ground = self.faint(self.picture(self.content()))
        content = Content(subject=word)
        image = self.finished(self.lettered(ground, word, plate=0.25))
        return Scene(image, content, word, "word", caption(content, self.rng))

    def picture_scene(self, content: Content | None = None, *, outline: bool | None = None) -> Scene:
        """A picture without letters."""
        content = content or self.content()
        outline = bool(self.rng.random() < 0.4) if outline is None else outline
        image = self.finished(self.picture(content, outline=outline))
        style = "texture" if not content.subject else "outline" if outline else "filled"
        return Scene(image, content, "", style, caption(content, self.rng))

    def training_scene(self, mix: Mix) -> Scene:
        """One scene of the training mix."""
        rng = self.rng
        kind = rng.random()
        if (kind := kind - mix.word) < 0:
            return self.word_scene()
        if (kind := kind - mix.both) < 0:
            scene = self.picture_scene()
            word = str(rng.choice(scene.content.names))
            image = self.faint(scene.image) if rng.random() < mix.faint else scene.image
            said = caption(scene.content, rng)
            if word not in said.split():
                said = caption(Content(subject=word), rng)
            return replace(scene, image=self.lettered(image, word), word=word, caption=said)
        if (kind := kind - mix.noise_word) < 0:
            scene = self.picture_scene()
            letters = gibberish("x" * int(rng.integers(3, 7)), rng, _KNOWN)
            return replace(scene, image=self.lettered(scene.image, letters), word=letters)
        if kind - mix.poster < 0:
            scene = self.picture_scene()
            word = str(rng.choice(CONCEPTS))
            content = Content(subject=word)
            image = self.lettered(scene.image, word)
            return replace(scene, image=image, word=word, caption=caption(content, rng))
        return self.picture_scene()

    def _pick(self, pool: list[Floats]) -> Floats:
        return pool[int(self.rng.integers(len(pool)))]


def _shifted(mask: Floats, rng: Any, most: int) -> Floats:
    """Mirrored or not, and moved by up to `most` pixels; what leaves at one edge comes in at the other."""
    dy, dx = (int(d) for d in rng.integers(-most, most + 1, 2))
    flipped = mask[:, ::-1] if rng.random() < 0.5 else mask
    return np.roll(flipped, (dy, dx), (0, 1))
