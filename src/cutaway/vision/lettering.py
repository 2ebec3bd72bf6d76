"""Words as pictures: rendered letters as masks, and put on pictures.

The letters are those of the font that ships in Pillow (Aileron, a sans serif), at any size, so nothing depends on the
fonts of a machine. A mask [height, width] holds how much of each pixel the ink covers, 0 to 1.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core import InputError

Floats = NDArray[np.float32]


@lru_cache(maxsize=64)
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


def word_mask(text: str, size: int) -> Floats:
    """The ink of `text` at a font size in pixels, cut to its letters: [height, width] in 0 … 1.

    Raises InputError: a size below 5, a text without ink or with a character that is no printable ASCII.
    """
    from PIL import Image, ImageDraw

    if size < 5:
        raise InputError(f"letters need a font size of 5 pixels or more; given {size}.")
    if not text.isascii() or not text.isprintable():
        raise InputError(f"the bundled font writes printable ASCII; given {text!r}.")
    left, top, right, bottom = _font(size).getbbox(text)
    if not text.strip() or right <= left or bottom <= top:
        raise InputError(f"there is no ink in {text!r}.")
    image = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(image).text((1 - left, 1 - top), text, font=_font(size), fill=255)
    mask: Floats = np.asarray(image, dtype=np.float32) / np.float32(255)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def fitting_size(text: str, width: int, height: int, largest: int) -> int:
    """The largest font size up to `largest` at which `text` fits into [height, width] pixels.

    Raises InputError where none of 5 pixels or more does.
    """
    for size in range(largest, 4, -1):
        mask = word_mask(text, size)
        if mask.shape[0] <= height and mask.shape[1] <= width:
            return size
    raise InputError(f"{text!r} does not fit into {width} x {height} pixels at any size that can be read.")


@dataclass(frozen=True)
class Label:
    """A text laid on a picture: `ink` and `plate` (the paper under it, None for none) are colours in 0 … 1.

    `top`, `left`: of its letters, in pixels. `margin`: of the plate around them.
    """

    text: str
    size: int
    top: int
    left: int
    ink: tuple[float, float, float] = (0.0, 0.0, 0.0)
    plate: tuple[float, float, float] | None = (1.0, 1.0, 1.0)
    margin: int = 1


def put(picture: Tensor, label: Label) -> Tensor:
    """`picture` [3, height, width] in 0 … 1 with the label on it; letters beyond its edge are cut. An empty text
    changes nothing. The picture given is left as it is."""
    if not label.text:
        return picture.clone()
    ink, plate = cover(label, picture.shape[-2], picture.shape[-1])
    out = picture.clone()
    if label.plate is not None:
        out = torch.where(plate, torch.tensor(label.plate, dtype=out.dtype)[:, None, None], out)
    colour = torch.tensor(label.ink, dtype=out.dtype)[:, None, None]
    return out * (1 - ink) + colour * ink


def cover(label: Label, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(how much ink lies on each pixel, whether the plate does), both [height, width]."""
    mask = word_mask(label.text, label.size)
    ink = torch.zeros(height, width)
    plate = torch.zeros(height, width, dtype=torch.bool)
    top, left = label.top, label.left
    down, right = top + mask.shape[0], left + mask.shape[1]
    seen = torch.from_numpy(mask[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)].copy())
    if seen.numel():
        ink[max(0, top) : max(0, top) + seen.shape[0], max(0, left) : max(0, left) + seen.shape[1]] = seen
    m = label.margin
    plate[max(0, top - m) : max(0, down + m), max(0, left - m) : max(0, right + m)] = True
    return ink, plate


def gibberish(like: str, generator: np.random.Generator, known: frozenset[str] = frozenset()) -> str:
    """As many random lower-case letters as `like` has characters, none of the `known` words."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    while True:
        text = "".join(generator.choice(list(letters), size=len(like)))
        if text not in known and text != like:
            return text


_TRIES, _KEPT = 96, 8  # strings drawn for a word and size, and those with the nearest ink that are kept


def alike(word: str, size: int, rng: np.random.Generator, known: frozenset[str]) -> str:
    """Gibberish of as many letters, whose ink at this size is near to the word's in area and width: one of the eight
    nearest of 96 strings, drawn by `rng`."""
    return str(rng.choice(_controls(word, size, known)))


@lru_cache(maxsize=512)
def _controls(word: str, size: int, known: frozenset[str]) -> tuple[str, ...]:
    rng = np.random.default_rng(zlib.crc32(f"{word} {size}".encode()))
    want = word_mask(word, size)

    def apart(text: str) -> float:
        mask = word_mask(text, size)
        area, width = float(want.sum()), want.shape[1]
        return float(abs(float(mask.sum()) - area) / area + abs(mask.shape[1] - width) / width)

    drawn = [gibberish(word, rng, known) for _ in range(_TRIES)]
    return tuple(sorted(drawn, key=apart)[:_KEPT])
