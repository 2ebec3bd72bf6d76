"""What is known of each token, as labels: letters, digits and punctuation of any text, labels of documents, or what a
generator planted. What follows from them (detectors.py, probing.py, absorption.py) needs no other truth.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.features.stream import PADDING, kept_positions

LEAST = 30  # positions that a concept must hold at, and must not
LETTER = "begins with "


@dataclass(frozen=True, eq=False)
class Concepts:
    """rows [R, position] of ids (-1 pads), labels [R, position, C] bool, names (C)."""

    names: tuple[str, ...]
    rows: Tensor
    labels: Tensor
    source: str

    def __post_init__(self) -> None:
        if self.labels.shape != (*self.rows.shape, len(self.names)):
            raise InputError(
                f"labels are [rows, position, concepts]: {[*self.rows.shape, len(self.names)]} was expected and "
                f"{list(self.labels.shape)} given."
            )

    @property
    def kept(self) -> Tensor:
        return kept_positions(self.rows, first_position=False)

    def enough(self) -> Concepts:
        """Without concepts that hold, or fail to, at fewer than LEAST positions of either half of the rows.

        Raises `InputError` where none is left.
        """
        kept, half = self.kept, torch.arange(self.rows.shape[0]) % 2 == 0
        good = torch.ones(len(self.names), dtype=torch.bool)
        for side in (half, ~half):
            found = self.labels[side][kept[side]]
            good &= (found.sum(0) >= LEAST) & ((~found).sum(0) >= LEAST)
        if not bool(good.any()):
            raise InputError(
                f"no concept of {self.source} holds, and fails to, at {LEAST} tokens of either half of the text; "
                "give more text."
            )
        names = tuple(name for name, keep in zip(self.names, good.tolist()) if keep)
        return Concepts(names, self.rows, self.labels[..., good], self.source)

    def joined(self, other: Concepts) -> Concepts:
        """The concepts of both, on the same rows."""
        if not torch.equal(self.rows, other.rows):
            raise InputError("concepts are joined on the same rows of text.")
        labels = torch.cat([self.labels, other.labels], -1)
        return Concepts((*self.names, *other.names), self.rows, labels, f"{self.source}, {other.source}")


def spelled_concepts(rows: Tensor, spell: Callable[[int], str]) -> Concepts:
    """What a token's spelling says: its first letter, capitals, digits, punctuation. `spell` gives an id's text."""
    ids = torch.unique(rows[rows >= 0])
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    names = (*(LETTER + letter for letter in letters), "capitalised", "digit", "punctuation")
    table = torch.zeros(int(ids.max()) + 1, len(names), dtype=torch.bool)
    for token in ids.tolist():
        text = spell(token).strip().lstrip("▁Ġ")
        if not text or (text.startswith("<") and text.endswith(">")):
            continue
        first = text[0]
        flags = [first.lower() == letter for letter in letters]
        marks = all(not c.isalnum() and not c.isspace() for c in text)
        table[token] = torch.tensor([*flags, first.isupper(), text.isdigit(), marks])
    labels = table[rows.long().clamp_min(0)] & (rows >= 0)[..., None]
    return Concepts(names, rows, labels, "spelling")


def document_concepts(rows: Tensor, labels: Sequence[Mapping[str, bool]], source: str) -> Concepts:
    """One row a document; what is true of it is true of each of its tokens."""
    if len(labels) != rows.shape[0]:
        raise InputError(f"one set of labels a row: {rows.shape[0]} rows and {len(labels)} were given.")
    names = tuple(dict.fromkeys(name for one in labels for name in one))
    table = torch.tensor([[bool(one.get(name)) for name in names] for one in labels])
    return Concepts(names, rows, (table[:, None, :] & (rows >= 0)[..., None]), source)


def labelled_texts(path: str | Path) -> tuple[list[str], list[str]]:
    """Texts and labels of a .jsonl file: {"text": …, "label": …} a line. Raises `InputError` that names the line."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}.")
    texts, labels = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            held: Any = json.loads(line)
            texts.append(str(held["text"]))
            labels.append(str(held["label"]))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f'{path}, line {number}: not a JSON object with "text" and "label".') from error
    if len(set(labels)) < 2:
        raise InputError(f"{path} has fewer than two labels; a concept must hold of some texts and not of others.")
    return texts, labels


def padded_rows(ids: Sequence[Sequence[int]], width: int) -> Tensor:
    """[rows, width] int32 of lists of ids, cut at `width`, -1 behind."""
    out = torch.full((len(ids), width), PADDING, dtype=torch.int32)
    for i, one in enumerate(ids):
        out[i, : min(len(one), width)] = torch.tensor(list(one)[:width], dtype=torch.int32)
    return out
