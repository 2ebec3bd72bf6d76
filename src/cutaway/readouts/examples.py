"""Labelled texts as examples for a probe: where each is read, its label, its group, and the activations there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model import Model
from cutaway.readouts.labelled import Labelled

Encode = Callable[[Tensor], Tensor]
Where = Literal["last", "mean"]
Ints = npt.NDArray[np.int64]
RARE = 20
_TOKENS = 4096  # a forward


@dataclass(frozen=True, eq=False)
class Examples:
    """n examples over the rows of token ids. `position` [n]: the row's own token that is read (-1: mean over the row).

    `kind` [n]: the word type of a word, or the number of the text; control labels go by it. `group` [n]. `classes`
    name `label` [n]. `cut` texts were longer than the context and lost their end; `lost` words with it.
    """

    rows: tuple[tuple[int, ...], ...]
    row: Ints
    position: Ints
    label: Ints
    group: Ints
    kind: Ints
    classes: tuple[str, ...]
    word_level: bool
    bags: tuple[tuple[str, ...], ...]  # [n]: the tokens that the bag-of-tokens baseline sees
    cut: int
    lost: int
    left_out: tuple[str, ...] = ()  # classes of words too rare in the sample to split

    def __len__(self) -> int:
        return len(self.label)

    def subset(self, keep: Ints) -> Examples:
        """These examples, with the rows that they use."""
        rows, row = np.unique(self.row[keep], return_inverse=True)
        return Examples(
            tuple(self.rows[i] for i in rows),
            row,
            self.position[keep],
            self.label[keep],
            self.group[keep],
            self.kind[keep],
            self.classes,
            self.word_level,
            tuple(self.bags[i] for i in keep),
            self.cut,
            self.lost,
            self.left_out,
        )


def examples(model: Model, data: Labelled, where: Where = "last", most: int = 6000, seed: int = 0) -> Examples:
    """Tokenised, with at most `most` examples drawn at random where there are more (whole groups at a time).

    A word is read at its last token; a text at its last token, or as the mean over its tokens. Raises InputError
    without a tokenizer that gives offsets (for words), and where a class is lost to the context's end.
    """
    if model.tokenizer is None:
        raise InputError(f"{model.name} has no tokenizer, so labelled text cannot be read for it.")
    if where not in ("last", "mean"):
        raise InputError(f"a text is read at its 'last' token or as the 'mean' over its tokens; {where!r} was given.")
    longest = model.facts.max_positions
    rows: list[tuple[int, ...]] = []
    found: list[tuple[int, int, str, str, str, tuple[str, ...]]] = []
    cut = lost = 0
    for i, text in enumerate(data.texts):
        group = data.groups[i] if data.groups is not None else str(i)
        if data.words is None:
            ids = [int(t) for t in model.tokenizer(text)["input_ids"]]
            spans = None
        else:
            if not getattr(model.tokenizer, "is_fast", False):
                raise InputError(f"{model.name}'s tokenizer gives no offsets, so words cannot be found in its tokens.")
            coded = model.tokenizer(text, return_offsets_mapping=True)
            ids, spans = [int(t) for t in coded["input_ids"]], coded["offset_mapping"]
        if not ids:
            raise InputError(f"{data.name}: the tokenizer makes no token of text {i + 1} ({text[:40]!r}).")
        if longest is not None and len(ids) > longest:
            ids, cut = ids[:longest], cut + 1
        rows.append(tuple(ids))
        if data.words is None or spans is None:
            bag = tuple(str(t) for t in ids)
            found.append((i, len(ids) - 1 if where == "last" else -1, str(data.labels[i]), group, str(i), bag))
            continue
        ends = _ends(data.words[i], spans[: len(ids)])
        for w, (word, label) in enumerate(zip(data.words[i], data.labels[i])):
            if label is None:
                continue
            if ends[w] is None:
                lost += 1
                continue
            before = data.words[i][w - 1] if w else "<start>"
            found.append((i, int(ends[w] or 0), label, group, word, (f"word={word}", f"before={before}")))
    made = _examples(rows, found, data.words is not None, cut, lost)
    made = _limited(made, most, seed)
    if made.word_level:
        made = _without_rare(made)
    counts = np.bincount(made.label, minlength=len(made.classes))
    if (counts < 3).any():
        few = [made.classes[i] for i in np.flatnonzero(counts < 3)]
        raise InputError(f"{data.name}: too few examples are left of {', '.join(few)}; give more, or leave it out.")
    return made


def _ends(words: Sequence[str], spans: Sequence[tuple[int, int]]) -> list[int | None]:
    """The last token that overlaps each word of the words joined by blanks; None past the context's end."""
    out: list[int | None] = []
    start, token = 0, 0
    for word in words:
        end = start + len(word)
        last = None
        while token < len(spans) and spans[token][0] < end:
            if spans[token][1] > start:
                last = token
            token += 1
        out.append(last)
        token = max(0, token - 1)  # a token may hold the end of one word and the start of the next
        start = end + 1
    if len(spans) and spans[-1][1] < start - 1:
        # The text was cut: the last word found may be a part of one.
        known = [i for i, end in enumerate(out) if end is not None]
        if known:
            out[known[-1]] = None
    return out


def _examples(rows: Any, found: list[Any], word_level: bool, cut: int, lost: int) -> Examples:
    row, position, labels, groups, kinds, bags = zip(*found)
    classes, label = np.unique(labels, return_inverse=True)
    return Examples(
        tuple(rows),
        np.array(row),
        np.array(position),
        label,
        np.unique(groups, return_inverse=True)[1],
        np.unique(kinds, return_inverse=True)[1],
        tuple(map(str, classes)),
        word_level,
        bags,
        cut,
        lost,
    )


def _without_rare(made: Examples) -> Examples:
    """Without the classes of words that have fewer than `RARE` examples: a split by sentence would lose them."""
    counts = np.bincount(made.label, minlength=len(made.classes))
    rare = counts < RARE
    if not rare.any():
        return made
    if int((~rare).sum()) < 2:
        raise InputError(f"fewer than two classes have {RARE} words each in the sample of {len(made)}; give more text.")
    kept = made.subset(np.flatnonzero(~rare[made.label]))
    number = np.cumsum(~rare) - 1
    names = tuple(name for name, out in zip(made.classes, rare) if not out)
    gone = tuple(name for name, out, n in zip(made.classes, rare, counts) if out and n)
    return replace(kept, label=number[kept.label], classes=names, left_out=gone)


def _limited(made: Examples, most: int, seed: int) -> Examples:
    if len(made) <= most:
        return made
    order = np.random.default_rng(seed).permutation(int(made.group.max()) + 1)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    by_group = np.argsort(rank[made.group], kind="stable")
    return made.subset(np.sort(by_group[:most]))


def activations(
    model: Model, made: Examples, points: Sequence[str], encode: Mapping[str, Encode] | None = None
) -> dict[str, npt.NDArray[np.float32]]:
    """Address -> [n, width] at each example's position (or mean). One forward a batch for all points.

    encode: by address, a dictionary's encoder that the activations go through. Heads and other axes are flattened.
    Cost: every row once, up to the last layer read; memory: n x the points' widths x 4 bytes.
    """
    lengths = np.array([len(row) for row in made.rows])
    order = np.argsort(lengths, kind="stable")  # rows of like length together: little padding
    out: dict[str, npt.NDArray[np.float32]] = {}
    by_row: list[list[int]] = [[] for _ in made.rows]
    for i, r in enumerate(made.row.tolist()):
        by_row[r].append(i)
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and lengths[order[end]] * (end + 1 - start) <= _TOKENS:
            end += 1
        part = order[start:end].tolist()
        run = model.run([list(made.rows[r]) for r in part], read=points, logits=False)
        which = [(b, i) for b, r in enumerate(part) for i in by_row[r]]
        rows = torch.tensor([b for b, _ in which])
        here = np.array([i for _, i in which])
        at = torch.from_numpy(made.position[here])
        mean = bool((at < 0).any())
        for point in points:
            x = run[point].flatten(2) if run[point].ndim > 3 else run[point]
            if mean:
                keep = run.mask.to(x.device)[..., None]
                x = (x.float() * keep).sum(1) / keep.sum(1)
                x = x[rows.to(x.device)]
            else:
                x = x[rows.to(x.device), at.to(x.device)].float()
            if encode is not None and point in encode:
                with torch.no_grad():
                    x = encode[point](x).float()
            if point not in out:
                out[point] = np.zeros((len(made), x.shape[-1]), dtype=np.float32)
            out[point][here] = x.cpu().numpy()
        start = end
    for point, values in out.items():
        if not np.isfinite(values).all():
            raise InputError(f"{model.name} gives values at {point} that are not finite.")
    return out
