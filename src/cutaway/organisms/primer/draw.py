"""Drawing the primer's subjects: shapes and things as masks, filled or in outline, and textures as patterns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Part = tuple[str, Any]  # ("poly" | "oval" | "line" | "hole poly" | "hole oval", points in -1 … 1, y downwards)

_OVERSAMPLING = 3


def _regular(points: int, outer: float = 1.0, inner: float | None = None, turn: float = -math.pi / 2) -> list[Any]:
    count = points if inner is None else 2 * points
    radii = [outer if inner is None or i % 2 == 0 else inner for i in range(count)]
    return [
        (r * math.cos(turn + 2 * math.pi * i / count), r * math.sin(turn + 2 * math.pi * i / count))
        for i, r in enumerate(radii)
    ]


def _oval(x: float, y: float, rx: float, ry: float) -> list[Any]:
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 28, endpoint=False)]


_HEART = [
    (0.95 * 16 * math.sin(t) ** 3 / 17,
     -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 15 - 0.1)
    for t in np.linspace(0, 2 * math.pi, 40, endpoint=False)
]  # fmt: skip
_W = 0.32
_CROSS = [(-_W, -1), (_W, -1), (_W, -_W), (1, -_W), (1, _W), (_W, _W),
          (_W, 1), (-_W, 1), (-_W, _W), (-1, _W), (-1, -_W), (-_W, -_W)]  # fmt: skip

PARTS: dict[str, list[Part]] = {
    "circle": [("poly", _oval(0, 0, 0.95, 0.95))],
    "square": [("poly", [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)])],
    "star": [("poly", _regular(5, 1.05, 0.45))],
    "heart": [("poly", _HEART)],
    "cross": [("poly", _CROSS)],
    "ring": [("poly", _oval(0, 0, 1, 1)), ("hole", _oval(0, 0, 0.55, 0.55))],
    "house": [
        ("poly", [(-0.7, -0.1), (0.7, -0.1), (0.7, 0.95), (-0.7, 0.95)]),
        ("poly", [(-1.0, -0.1), (0, -1.0), (1.0, -0.1)]),
        ("hole", [(-0.2, 0.35), (0.2, 0.35), (0.2, 0.95), (-0.2, 0.95)]),
    ],
    "tree": [
        ("poly", [(-0.16, 0.3), (0.16, 0.3), (0.16, 1.0), (-0.16, 1.0)]),
        ("poly", _oval(-0.38, 0.0, 0.48, 0.42)),
        ("poly", _oval(0.38, 0.0, 0.48, 0.42)),
        ("poly", _oval(0, -0.5, 0.55, 0.5)),
    ],
    "fish": [
        ("poly", _oval(-0.2, 0, 0.8, 0.5)),
        ("poly", [(0.4, 0), (1.0, -0.5), (1.0, 0.5)]),
        ("hole", _oval(-0.6, -0.1, 0.12, 0.12)),
    ],
    "face": [
        ("poly", _oval(0, 0, 0.95, 0.95)),
        ("hole", _oval(-0.35, -0.28, 0.17, 0.19)),
        ("hole", _oval(0.35, -0.28, 0.17, 0.19)),
        ("hole", [(-0.55, 0.25), (0.55, 0.25), (0.3, 0.6), (-0.3, 0.6)]),
    ],
    "cup": [
        ("poly", [(-0.8, -0.7), (0.45, -0.7), (0.3, 0.8), (-0.65, 0.8)]),
        ("poly", _oval(0.55, -0.1, 0.42, 0.45)),
        ("hole", _oval(0.6, -0.1, 0.22, 0.25)),
    ],
    "key": [
        ("poly", _oval(-0.55, 0, 0.45, 0.45)),
        ("hole", _oval(-0.6, 0, 0.2, 0.2)),
        ("poly", [(-0.15, -0.12), (1.0, -0.12), (1.0, 0.5), (0.78, 0.5), (0.78, 0.14), (0.55, 0.14), (0.55, 0.42),
                  (0.35, 0.42), (0.35, 0.12), (-0.15, 0.12)]),
    ],
    "boat": [
        ("poly", [(-1.0, 0.4), (1.0, 0.4), (0.6, 0.9), (-0.6, 0.9)]),
        ("poly", [(-0.05, -1.0), (-0.05, 0.25), (-0.8, 0.25)]),
        ("poly", [(0.1, -0.7), (0.1, 0.25), (0.7, 0.25)]),
    ],
    "sun": [
        ("poly", _oval(0, 0, 0.5, 0.5)),
        *[("poly", [(0.62 * math.cos(a - 0.16), 0.62 * math.sin(a - 0.16)),
                    (1.05 * math.cos(a), 1.05 * math.sin(a)),
                    (0.62 * math.cos(a + 0.16), 0.62 * math.sin(a + 0.16))])
          for a in np.linspace(0, 2 * math.pi, 8, endpoint=False)],
    ],
}  # fmt: skip


def subject_mask(name: str, side: int, generator: np.random.Generator, *, outline: bool) -> Floats:
    """A subject at a random size, place and tilt: [side, side] in 0 … 1."""
    from PIL import Image, ImageDraw

    wide = side * _OVERSAMPLING
    scale = wide * generator.uniform(0.24, 0.44)
    turn = generator.uniform(-0.35, 0.35)
    room = max(0.0, wide / 2 - scale)
    x0, y0 = wide / 2 + generator.uniform(-room, room), wide / 2 + generator.uniform(-room, room)
    squeeze = generator.uniform(0.85, 1.15)
    mirror = generator.choice((-1.0, 1.0))
    c, s = math.cos(turn), math.sin(turn)
    image = Image.new("L", (wide, wide))
    draw = ImageDraw.Draw(image)
    stroke = max(2, round(_OVERSAMPLING * side * generator.uniform(0.028, 0.05)))
    for kind, points in PARTS[name]:
        placed = [
            (x0 + scale * (c * mirror * x * squeeze - s * y), y0 + scale * (s * mirror * x * squeeze + c * y))
            for x, y in points
        ]
        if outline:
            draw.line([*placed, placed[0], placed[1]], fill=255, width=stroke, joint="curve")
        else:
            draw.polygon(placed, fill=0 if kind == "hole" else 255)
    image = image.reduce(_OVERSAMPLING)
    return np.asarray(image, dtype=np.float32) / 255


def pattern(name: str, side: int, generator: np.random.Generator) -> Floats:
    """A texture as the share of its second colour: [side, side] in 0 … 1."""
    period = generator.uniform(5.0, 8.0) * side / 48
    turn = generator.uniform(0, math.pi)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    u = (x * math.cos(turn) + y * math.sin(turn)) / period + generator.random()
    v = (-x * math.sin(turn) + y * math.cos(turn)) / period + generator.random()
    if name == "lines":
        wave = np.sin(2 * np.pi * u)
    elif name == "waves":
        wave = np.sin(2 * np.pi * (u + 0.32 * np.sin(2 * np.pi * v * 0.7)))
    elif name == "check":
        wave = np.sin(np.pi * u) * np.sin(np.pi * v) * 4
    else:
        wave = (0.30 - np.hypot(u % 1 - 0.5, v % 1 - 0.5)) * 8
    return np.clip(0.5 + 1.2 * wave, 0, 1).astype(np.float32)
