"""Held-out pictures and words of the primer's world, as the vision room takes them."""

from __future__ import annotations

import numpy as np
import torch

from cutaway.organisms.primer.concepts import CONCEPTS, SUBJECTS
from cutaway.organisms.primer.scenes import Painter, Scene
from cutaway.vision.pictures import WORD, Pictures

HELD_OUT = 10_000  # added to a seed, so that no picture is one of training's


def world_pictures(n: int, seed: int = 0, *, subjects: bool = False) -> Pictures:
    """n pictures without letters, labelled by all that they show; facets filled, outline and texture. `subjects`: each
    shows a shape or thing, equally often."""
    painter = Painter(seed + HELD_OUT, pool=40)
    if subjects:
        scenes = [painter.picture_scene(painter.content(SUBJECTS[i % len(SUBJECTS)])) for i in range(n)]
    else:
        scenes = [painter.picture_scene() for _ in range(n)]
    return _pictures(scenes, "pictures of the primer's world")


def world_words(each: int, seed: int = 0) -> Pictures:
    """Every concept's name written `each` times, on grounds as in training."""
    painter = Painter(seed + HELD_OUT + 1, pool=8)
    scenes = [painter.word_scene(word) for word in CONCEPTS for _ in range(each)]
    found = _pictures(scenes, "rendered words")
    return Pictures(found.images, tuple((s.word,) for s in scenes), (WORD,) * len(scenes), found.name)


def _pictures(scenes: list[Scene], name: str) -> Pictures:
    images = torch.from_numpy(np.stack([s.image for s in scenes]))
    return Pictures(images, tuple(s.content.names for s in scenes), tuple(s.style for s in scenes), name)
