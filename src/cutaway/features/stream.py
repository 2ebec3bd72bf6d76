"""The stream of activations: one pass of the model feeds every dictionary, for all layers.

Rows of token ids are drawn in a new random order each epoch. A block of rows is harvested at once, its tokens are
shuffled together and handed out in batches; then it is dropped. Each block follows from (seed, its number) alone, so a
resumed run harvests the block it was in again and goes on inside it: no buffer needs saving, and nothing drifts.
Cost a token: one forward of the model without its output matrix; memory: block x layers x (d_in + d_out) x 4 bytes.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cutaway.core import InputError
from cutaway.features import processes
from cutaway.features.places import Places
from cutaway.features.sites import Sites

PADDING = -1
_PASS_TOKENS = 4096  # tokens a forward pass


@dataclass(frozen=True)
class Batch:
    """Of n tokens: x [layers, n, d_in] and y [layers, n, d_out] of the MLPs (of no layers, where they are not read),
    and other points by address, [n, d]."""

    x: Tensor
    y: Tensor
    at: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return next(iter(self.at.values())).shape[0] if self.at else self.x.shape[1]

    def take(self, which: Any) -> Batch:
        """Some of the tokens, by slice or index."""
        return Batch(self.x[:, which], self.y[:, which], {name: value[which] for name, value in self.at.items()})


class Stream(ABC):
    """Batches without end. Position `cursor` = (block, batch within it) is all the state there is.

    batch: tokens handed out at once; tokens_an_epoch: in all that there is.
    """

    def __init__(self, batch: int, seed: int, tokens_an_epoch: int) -> None:
        self.batch, self.seed, self.tokens_an_epoch = batch, seed, tokens_an_epoch
        self.cursor = (0, 0)
        self._held: tuple[int, Batch] | None = None

    @abstractmethod
    def harvest(self, number: int) -> Batch:
        """Block `number`, its tokens in any order that is always the same."""

    @abstractmethod
    def sample(self, tokens: int) -> Batch:
        """About so many tokens of the whole, without position 0 where that is known."""

    @property
    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What it is of, for the record of a run."""

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        while True:
            block, index = self.cursor
            held = self.block(block)
            start = index * self.batch
            # The rest of a block that does not fill a batch is left out, unless the whole block is less than one.
            if start + self.batch <= held.n or (start == 0 and held.n > 0):
                self.cursor = (block, index + 1)
                return held.take(slice(start, min(start + self.batch, held.n)))
            self.cursor = (block + 1, 0)

    def block(self, number: int) -> Batch:
        """A block with its tokens shuffled. The last one is kept."""
        if self._held is not None and self._held[0] == number:
            return self._held[1]
        self._held = None
        held = self.harvest(number)
        self._held = (number, held.take(torch.randperm(held.n, generator=_generator(self.seed, 1, number))))
        return self._held[1]

    def numbers(self, start: int, count: int, n: int, order: int = 0) -> Tensor:
        """Which of n things come at places `start` … of an endless order: epochs follow one another, each in an order
        of its own (`order` names another set of orders)."""
        place = torch.arange(start, start + count)
        out = torch.empty_like(place)
        for epoch in torch.unique(place // n).tolist():
            inside = place // n == epoch
            shuffled = torch.randperm(n, generator=_generator(self.seed, order, epoch))
            out[inside] = shuffled[place[inside] - epoch * n]
        return out


class RowStream(Stream):
    """Of rows of token ids [rows, position] through a model. Several processes each run it on a part of a block."""

    def __init__(
        self, sites: Sites | Places, rows: Tensor, *,
        batch: int, block: int, seed: int, first_position: bool = True,
    ) -> None:  # fmt: skip
        kept = kept_positions(rows, first_position)
        super().__init__(batch, seed, int(kept.sum()))
        self.sites, self.rows, self.first_position = sites, rows, first_position
        if self.tokens_an_epoch == 0:
            raise InputError("the text holds no token to train on once the first position of each row is dropped.")
        mean_length = max(1.0, self.tokens_an_epoch / rows.shape[0])
        self.rows_a_block = max(1, min(round(block / mean_length), rows.shape[0]))

    def harvest(self, number: int) -> Batch:
        return _together(self.sites, self.rows[self.row_numbers(number)], self.first_position)

    def sample(self, tokens: int) -> Batch:
        count = max(1, round(tokens * self.rows.shape[0] / self.tokens_an_epoch))
        numbers = self.row_numbers(0, rows=min(count, self.rows.shape[0]), order=3)
        return _together(self.sites, self.rows[numbers], self.rows.shape[1] == 1)

    @property
    def about(self) -> dict[str, Any]:
        return {"n": self.rows.shape[0], "tokens": self.tokens_an_epoch}

    def row_numbers(self, block: int, rows: int | None = None, order: int = 0) -> Tensor:
        """Which rows a block holds."""
        size = rows or self.rows_a_block
        return self.numbers(block * size, size, self.rows.shape[0], order)


def _together(sites: Sites | Places, rows: Tensor, first_position: bool) -> Batch:
    """`harvest_all`, a part of the rows in each process, told to all."""
    if not processes.active() or len(rows) < processes.world():
        return harvest_all(sites, rows, first_position)
    own = harvest_all(sites, torch.tensor_split(rows, processes.world())[processes.rank()], first_position)
    at = {name: processes.gathered(value) for name, value in own.at.items()}
    return Batch(processes.gathered(own.x, 1), processes.gathered(own.y, 1), at)


def harvest_all(sites: Sites | Places, rows: Tensor, first_position: bool) -> Batch:
    """What `sites` reads at the kept positions of rows [rows, position]."""
    places = sites if isinstance(sites, Places) else Places(sites.model, sites, ())
    xs: list[Tensor] = []
    ys: list[Tensor] = []
    others: list[dict[str, Tensor]] = []
    step = max(1, _PASS_TOKENS // rows.shape[1])
    for start in range(0, rows.shape[0], step):
        part = rows[start : start + step].long()
        x, y, at = places.harvest(part.clamp_min(0))
        kept = kept_positions(part, first_position).to(places.device)
        n = int(kept.sum())
        for read, found in ((x, xs), (y, ys)):
            found.append(torch.zeros(0, n, 0, device=kept.device) if read is None else read[:, kept].float())
        others.append({name: value[kept].float() for name, value in at.items()})
    points = {name: torch.cat([part[name] for part in others]) for name in others[0]}
    return Batch(torch.cat(xs, 1), torch.cat(ys, 1), points)


def kept_positions(rows: Tensor, first_position: bool) -> Tensor:
    """[rows, position] -> bool: no padding, and the first position only where it is asked for."""
    kept = rows >= 0
    if not first_position:
        kept[:, 0] = False
    return kept


def as_rows(rows: ArrayLike | Tensor, vocab_size: int) -> Tensor:
    """Token ids [rows, position], -1 for padding on the right; int32. Raises `InputError` for anything else."""
    found = torch.as_tensor(np.asarray(rows)) if not isinstance(rows, Tensor) else rows
    if found.ndim != 2 or found.numel() == 0 or found.dtype.is_floating_point:
        raise InputError(f"rows are token ids [rows, position]; {list(found.shape)} of {found.dtype} were given.")
    low, high = int(found.min()), int(found.max())
    if low < PADDING or high >= vocab_size:
        raise InputError(f"token ids lie in 0 … {vocab_size - 1} (-1 pads); ids from {low} to {high} were given.")
    if bool(((found[:, 1:] >= 0) & (found[:, :-1] < 0)).any()):
        raise InputError("padding (-1) stands on the right of a row only: a causal model then never reads it.")
    return found.to(torch.int32).cpu()


def rows_from_text(tokenizer: Any, paths: Sequence[str | Path] | str | Path, context: int = 128) -> Tensor:
    """Text files as rows of token ids [rows, context], int32, -1 for padding on the right.

    .txt is one document, .jsonl one a line (its "text" field). Each document begins as the tokenizer begins a text
    (usually with <bos>) and is cut into rows of `context`, each with that beginning; a short last row is padded.
    Raises `InputError` for files that are missing, empty, of another kind or hold no text.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if context < 2:
        raise InputError(f"a row needs at least two tokens; context {context} was given.")
    beginning = _beginning(tokenizer)
    room = context - len(beginning)
    rows: list[list[int]] = []
    for path in map(Path, paths):
        for text in _documents(path):
            ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
            rows += [beginning + ids[start : start + room] for start in range(0, len(ids), room)]
    rows = [row for row in rows if len(row) > len(beginning)]
    if not rows:
        raise InputError(f"no text was found in {', '.join(map(str, paths)) or 'no file'}.")
    out = torch.full((len(rows), context), PADDING, dtype=torch.int32)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.int32)
    return out


def _beginning(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before a text."""
    with_, without = (tokenizer("a", add_special_tokens=add)["input_ids"] for add in (True, False))
    for start in range(len(with_) - len(without) + 1):
        if list(with_[start : start + len(without)]) == list(without):
            return list(with_[:start])
    return []


def _documents(path: Path) -> Iterator[str]:
    if not path.is_file():
        raise InputError(f"there is no text file {path}.")
    if path.suffix not in (".txt", ".jsonl"):
        raise InputError(f"text is read from .txt and .jsonl files; {path} is neither.")
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}.") from error
    if path.suffix == ".txt":
        yield content
        return
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f'{path}, line {number}: not a JSON object with a "text" field.') from error
        if not isinstance(text, str):
            raise InputError(f'{path}, line {number}: its "text" is no string.')
        yield text


def _generator(*parts: int) -> torch.Generator:
    """A generator that depends on all of the numbers."""
    seed = int(np.random.SeedSequence(list(parts)).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(seed)
