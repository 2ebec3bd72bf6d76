"""The standard corruptions: how a counterfactual is made of a clean prompt where no second column of text is at hand.

Each is a value that `Task.from_pairs` takes in place of counterfactual texts. All but `swap_words` work on tokens, so
that the two prompts are aligned by construction. Special tokens at the beginning of a row stay.

Gaussian noise on the embeddings (Meng et al. 2022) is no other prompt but a change inside a run: `gaussian_noise` gives
the intervention.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from cutaway.core import InputError
from cutaway.tasks.checks import named, shorten
from cutaway.tasks.reading import Reader

if TYPE_CHECKING:
    from cutaway.model import Intervention, Model
    from cutaway.tasks.task import Task

Row = tuple[int, ...]


class Corruption(Protocol):
    """Clean rows and their texts -> counterfactual rows. `answers` [n] are the ids of the right tokens."""

    def rows(
        self, clean: Sequence[Row], texts: Sequence[str], answers: Sequence[int], reader: Reader, seed: int
    ) -> list[Row]: ...


@dataclass(frozen=True)
class swap_words:
    """Each word of a list becomes another of the list, the same one wherever it stands in a prompt.

    Words are exchanged for words of as many tokens. Raises InputError for prompts that hold none of them.
    """

    words: tuple[str, ...]

    def __init__(self, words: Sequence[str]) -> None:
        object.__setattr__(self, "words", tuple(dict.fromkeys(words)))
        if len(self.words) < 2:
            raise InputError(f"swap_words needs two words or more to exchange; given {list(self.words)}.")

    def rows(
        self, clean: Sequence[Row], texts: Sequence[str], answers: Sequence[int], reader: Reader, seed: int
    ) -> list[Row]:
        if reader.tokenizer is None:
            raise InputError("swap_words reads text, and there is no tokenizer; use shuffle, resample or random_token.")
        rng = np.random.default_rng(np.random.SeedSequence([20267, seed]))
        sizes = {word: len(ids or ()) for word, ids in zip(self.words, reader.pieces(self.words))}
        pattern = re.compile(
            r"\b(" + "|".join(re.escape(w) for w in sorted(self.words, key=len, reverse=True)) + r")\b"
        )
        lacking, out = [], []
        for row, text in enumerate(texts):
            there = list(dict.fromkeys(pattern.findall(text)))
            if not there:
                lacking.append((row, repr(shorten(text))))
                out.append(text)
                continue
            free = [w for w in self.words if w not in there]
            exchange: dict[str, str] = {}
            for word in there:
                pool = [w for w in free if sizes[w] == sizes[word]] or [
                    w for w in there if w != word and sizes[w] == sizes[word] and w not in exchange.values()
                ]
                if not pool:
                    raise InputError(
                        f"row {row}: no other word of the list has as many tokens as {word!r} ({sizes[word]}) in "
                        f"{shorten(text)!r}."
                    )
                exchange[word] = pool[int(rng.integers(len(pool)))]
                free = [w for w in free if w != exchange[word]]
            out.append(pattern.sub(lambda match, to=exchange: to[match[1]], text))  # type: ignore[misc]
        if lacking:
            raise InputError(named(lacking, len(texts), "hold none of the words to swap", "Leave them out."))
        return reader.rows(out)


@dataclass(frozen=True)
class shuffle:
    """The same tokens in another order; the last `keep_last` of each row stay."""

    keep_last: int = 1

    def rows(
        self, clean: Sequence[Row], texts: Sequence[str], answers: Sequence[int], reader: Reader, seed: int
    ) -> list[Row]:
        rng = np.random.default_rng(np.random.SeedSequence([20268, seed]))
        out = []
        for row in clean:
            start, end = _open(row, reader), max(len(row) - self.keep_last, 0)
            middle = list(row[start:end])
            for _ in range(20 if len(set(middle)) > 1 else 0):
                drawn = [middle[int(i)] for i in rng.permutation(len(middle))]
                if drawn != middle:
                    middle = drawn
                    break
            out.append((*row[:start], *middle, *row[end:]))
        return out


@dataclass(frozen=True)
class resample:
    """Another item's clean prompt: one of the same length, with another answer.

    Raises InputError for items to which no other is like that.
    """

    def rows(
        self, clean: Sequence[Row], texts: Sequence[str], answers: Sequence[int], reader: Reader, seed: int
    ) -> list[Row]:
        rng = np.random.default_rng(np.random.SeedSequence([20269, seed]))
        out, alone = [], []
        for i, row in enumerate(clean):
            pool = [r for r, a in zip(clean, answers) if len(r) == len(row) and a != answers[i] and r != row]
            if pool:
                out.append(pool[int(rng.integers(len(pool)))])
            else:
                alone.append((i, f"{len(row)} tokens, {shorten(texts[i])!r}"))
                out.append(row)
        if alone:
            raise InputError(
                named(alone, len(clean), "have no other item of their length with another answer to stand in for them")
            )
        return out


@dataclass(frozen=True)
class random_token:
    """Tokens at some positions become random ordinary ones. Positions count the row's own tokens; -1 is the last."""

    positions: tuple[int, ...]

    def __init__(self, positions: int | Sequence[int]) -> None:
        object.__setattr__(self, "positions", (positions,) if isinstance(positions, int) else tuple(positions))
        if not self.positions:
            raise InputError("random_token needs one position or more.")

    def rows(
        self, clean: Sequence[Row], texts: Sequence[str], answers: Sequence[int], reader: Reader, seed: int
    ) -> list[Row]:
        rng = np.random.default_rng(np.random.SeedSequence([20270, seed]))
        special = reader.special()
        size = reader.vocabulary or 1 + max(max(row) for row in clean)
        out = []
        for number, row in enumerate(clean):
            new = list(row)
            for position in self.positions:
                if not -len(row) <= position < len(row):
                    raise InputError(f"row {number} has {len(row)} tokens; there is no position {position} in it.")
                while True:
                    token = int(rng.integers(size))
                    if token != row[position] and token not in special:
                        break
                new[position] = token
            out.append(tuple(new))
        return out


def _open(row: Row, reader: Reader) -> int:
    """How many special tokens a row begins with."""
    special = reader.special()
    return next((i for i, token in enumerate(row) if token not in special), len(row))


def gaussian_noise(
    model: Model, task: Task, positions: str | Sequence[str], scale: float = 3.0, seed: int = 0
) -> Intervention:
    """Noise on the embeddings of a task's clean prompts at named positions, as an intervention for `model.run`.

    scale: in standard deviations of the entries of the token embeddings of these prompts; 3 is Meng et al.'s (2022).
    The same noise for the same seed, so that a sweep corrupts every run alike. Costs one forward up to the embeddings.
    """
    from cutaway.model import add

    names = [positions] if isinstance(positions, str) else list(positions)
    run: Any = model.run(task.clean, read=["embeddings"], logits=False)
    x = run["embeddings"]
    sigma = x[task.clean.mask.to(x.device)].float().std()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x) * (scale * sigma)
    mask = torch.zeros(task.clean.ids.shape, dtype=torch.bool)
    for name in names:
        mask[torch.arange(len(task)), task.columns(name)] = True
    return add("embeddings", noise, mask=mask)
