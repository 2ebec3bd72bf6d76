"""Pictures with what they show: read from a folder or a strip, drawn as words, cut and joined into sheets."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core import InputError
from cutaway.vision.lettering import Label, fitting_size, put, word_mask

_ENDS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
WORD = "word"  # the facet of rendered words


@dataclass(frozen=True, eq=False)
class Pictures:
    """n pictures [n, 3, height, width] in 0 … 1, the concepts that each shows, and what kind of picture it is.

    Raises InputError for another shape or dtype, values that are not finite or lie outside 0 … 1 by more than 1e-3, or
    a number of labels that is not n.
    """

    images: Tensor
    labels: tuple[tuple[str, ...], ...]
    facets: tuple[str, ...] = ()
    name: str = "pictures"

    def __post_init__(self) -> None:
        check(self.images)
        if len(self.labels) != len(self.images):
            raise InputError(f"{len(self.images)} pictures came with {len(self.labels)} labels.")
        if not self.facets:
            object.__setattr__(self, "facets", ("picture",) * len(self.images))
        if len(self.facets) != len(self.images):
            raise InputError(f"{len(self.images)} pictures came with {len(self.facets)} facets.")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def concepts(self) -> tuple[str, ...]:
        """In order of first appearance."""
        return tuple(dict.fromkeys(name for names in self.labels for name in names))

    def shows(self, concepts: Sequence[str]) -> NDArray[np.bool_]:
        """Which picture shows which concept, [n, concept]."""
        return np.array([[name in names for name in concepts] for names in self.labels], dtype=bool)

    def take(self, rows: Sequence[int] | NDArray[Any]) -> Pictures:
        rows = [int(row) for row in rows]
        return replace(
            self,
            images=self.images[rows],
            labels=tuple(self.labels[r] for r in rows),
            facets=tuple(self.facets[r] for r in rows),
        )

    def halves(self, seed: int) -> tuple[Pictures, Pictures]:
        """Two random halves."""
        order = np.random.default_rng(seed).permutation(len(self))
        return self.take(order[::2]), self.take(order[1::2])


def check(images: Any) -> None:
    """Raise InputError for what is no stack of pictures [n, 3, height, width] in 0 … 1."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        given = f"{images.dtype} {list(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"pictures are a tensor of floats [n, 3, height, width] in 0 … 1; given {given}.")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise InputError(f"pictures are [n, 3, height, width], at least one; given {list(images.shape)}.")
    if not torch.isfinite(images).all():
        raise InputError("the pictures hold NaN or infinity.")
    if images.min() < -1e-3 or images.max() > 1 + 1e-3:
        raise InputError(
            f"pictures lie in 0 … 1; given {float(images.min()):.3g} … {float(images.max()):.3g}. "
            "Divide bytes by 255; the tower does the normalising."
        )


# ---- from files


def read_pictures(source: str | Path, side: int) -> Pictures:
    """Pictures of a folder with a subfolder a class (or a labels.csv of `file,label`; several labels with ";"), or of
    one PNG that is a strip of square pictures with NAME-labels.csv beside it; scaled and cut to [side, side].

    Raises InputError: no such path, no picture in it, a file that is none, a picture without a label.
    """
    path = Path(source)
    if path.is_file():
        return _strip(path, side)
    if not path.is_dir():
        raise InputError(f"no folder of pictures {source}.")
    table = path / "labels.csv"
    if table.is_file():
        rows = [(_inside(path, row[0], table), row[1]) for row in _rows(table, 2)]
    else:
        rows = [(f, f.parent.name) for f in sorted(path.glob("*/*")) if f.suffix.lower() in _ENDS]
        if not rows and any(f.suffix.lower() in _ENDS for f in path.iterdir()):
            raise InputError(f"{path} holds pictures without labels: make a folder a class, or a labels.csv.")
    if not rows:
        raise InputError(f"{path} holds no pictures ({', '.join(_ENDS)} in a folder a class, or a labels.csv).")
    images = torch.stack([read_picture(file, side) for file, _ in rows])
    return Pictures(images, tuple(_names(label) for _, label in rows), name=path.name)


def _inside(folder: Path, name: str, table: Path) -> Path:
    """A file that a table names, which is one of its own folder. Raises InputError."""
    if os.path.isabs(name) or os.path.normpath(name).split(os.sep)[0] == os.pardir:
        raise InputError(
            f"{table} names {name!r}, outside its own folder; a table lists what lies beside and below it."
        )
    return folder / name


def read_picture(file: str | Path, side: int) -> Tensor:
    """One file as [3, side, side]: scaled to cover the square, the middle cut out. Raises InputError."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except FileNotFoundError:
        raise InputError(f"no file {file}.") from None
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{file} is no picture that can be read: {error}") from None
    return _fitted(image, side)


def _fitted(image: Any, side: int) -> Tensor:
    from PIL import Image

    if image.size != (side, side):
        scale = side / min(image.size)
        wide, high = (max(side, round(length * scale)) for length in image.size)
        image = image.resize((wide, high), Image.Resampling.BICUBIC)
        left, top = (wide - side) // 2, (high - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return torch.from_numpy(np.asarray(image, dtype=np.float32).copy() / 255).permute(2, 0, 1)


def _strip(path: Path, side: int) -> Pictures:
    from PIL import Image

    table = path.with_name(f"{path.stem}-labels.csv")
    if not table.is_file():
        raise InputError(f"{path} is a file; a strip of pictures needs {table.name} beside it, else give a folder.")
    try:
        with Image.open(path) as opened:
            whole = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is no picture that can be read: {error}") from None
    labels = [row[-1] for row in _rows(table)]
    height = whole.size[1]
    count = whole.size[0] // height
    if whole.size[0] != height * count or count > len(labels):
        raise InputError(f"{path} is {whole.size[0]} x {height}: no strip of {len(labels)} squares ({table.name}).")
    if count < len(labels):
        warnings.warn(
            f"{path} has {count} pictures, {table.name} {len(labels)} rows: the first are taken.", stacklevel=3
        )
        labels = labels[:count]
    cut = [whole.crop((i * height, 0, (i + 1) * height, height)) for i in range(len(labels))]
    return Pictures(torch.stack([_fitted(c, side) for c in cut]), tuple(map(_names, labels)), name=path.stem)


def _rows(table: Path, columns: int = 1) -> list[list[str]]:
    """The rows below the head, at least `columns` wide. Raises InputError for what is no such table, with its line."""
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            rows = [(i, row) for i, row in enumerate(csv.reader(file), 1) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table} is no table of labels that can be read: {error}") from None
    if rows and rows[0][1][-1].strip().lower() in ("label", "labels", "class"):
        rows = rows[1:]
    if not rows:
        raise InputError(f"{table} holds no rows of labels.")
    for line, row in rows:
        if len(row) < columns or not row[-1].strip():
            wanted = "file,label" if columns > 1 else "a label"
            raise InputError(f"{table}, line {line}: {wanted} expected; given {','.join(row)!r}.")
    return [row for _, row in rows]


def _names(label: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in label.split(";") if part.strip())


# ---- rendered words


def word_pictures(concepts: Sequence[str], each: int, side: int, seed: int = 0) -> Pictures:
    """Every concept's name as a picture, `each` times: size, place, ink and ground drawn from the seed. A name is
    written at 60 to 100 % of the largest size that fits (at most a third of the side). Raises InputError."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for name in concepts:
        largest = fitting_size(name, side - 2, side - 2, max(6, side // 3))
        for _ in range(each):
            size = int(rng.integers(max(6, round(0.6 * largest)), largest + 1)) if largest > 6 else largest
            ground = rng.uniform(0.55, 1.0) if rng.random() < 0.7 else rng.uniform(0.0, 0.4)
            ink = rng.uniform(0, 0.2, 3) if ground > 0.5 else rng.uniform(0.8, 1.0, 3)
            if rng.random() < 0.4:
                ink = np.roll([0.85, 0.15, 0.2], int(rng.integers(3))) if ground > 0.5 else ink
            blank = torch.full((3, side, side), float(ground))
            mask = word_mask(name, size)
            top = int(rng.integers(1, side - mask.shape[0]))
            left = int(rng.integers(1, side - mask.shape[1])) if mask.shape[1] < side - 1 else 0
            images.append(put(blank, Label(name, size, top, left, (float(ink[0]), float(ink[1]), float(ink[2])), None)))
            labels.append((name,))
    return Pictures(torch.stack(images), tuple(labels), (WORD,) * len(images), "rendered words")


# ---- to files


def to_png(image: Tensor, file: str | Path, enlarge: int = 1) -> None:
    """[3, height, width] (or [4, …] with alpha) in 0 … 1 to a PNG, a pixel `enlarge` pixels wide; whole or absent."""
    from PIL import Image

    from cutaway.core import atomic_path

    data = (image.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    made = Image.fromarray(np.ascontiguousarray(data))
    if enlarge > 1:
        made = made.resize((made.width * enlarge, made.height * enlarge), Image.Resampling.NEAREST)
    with atomic_path(file) as path:
        made.save(path, format="PNG", optimize=True)


def sheet(rows: Sequence[Sequence[Tensor]], gap: int = 2, ground: float = 1.0) -> Tensor:
    """Rows of pictures [3, height, width] of one size as one picture, `gap` pixels apart; short rows end in ground."""
    height, width = rows[0][0].shape[-2:]
    columns = max(map(len, rows))
    whole = torch.full((3, len(rows) * (height + gap) - gap, columns * (width + gap) - gap), ground)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            y, x = i * (height + gap), j * (width + gap)
            whole[:, y : y + height, x : x + width] = image.detach().clamp(0, 1)
    return whole
