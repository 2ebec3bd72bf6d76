"""Prompts as token ids: tokenised, padded, checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal
from unicodedata import category

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model.facts import Facts
from cutaway.model.selection import Layout

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
Side = Literal["right", "left"]
Prompt = str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]] | Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Token ids [batch, position], and the mask [batch, position] of those that are not padding.

    A vision tower's `ids` are pixels [batch, channel, height, width]. `source` is what the encoder of an
    encoder-decoder reads, row by row.
    """

    ids: Tensor
    mask: Tensor
    source: Batch | None = None

    @property
    def pixels(self) -> bool:
        return self.ids.is_floating_point()

    @cached_property
    def layout(self) -> Layout:
        """Where each row's tokens lie. Raises InputError where a mask has holes or an empty row: positions would not
        be what they say."""
        mask = self.mask.cpu().bool()
        if mask.ndim != 2 or (not self.pixels and mask.shape != self.ids.shape):
            raise InputError(
                f"a mask is [batch, position], as the ids {list(self.ids.shape)}; given {list(mask.shape)}."
            )
        rows, width = mask.shape
        if width and bool(mask.all()):  # no padding: nothing to look for
            return _unpadded(rows, width)
        counts = mask.sum(-1)
        starts = mask.int().argmax(-1)
        whole = torch.arange(width)[None] - starts[:, None]
        for row in ((whole >= 0) & (whole < counts[:, None]) != mask).any(-1).logical_or(counts == 0).nonzero():
            shown = "".join(str(int(i)) for i in mask[int(row)][:40])
            raise InputError(f"row {int(row)} of the mask is {shown}: a row's tokens stand side by side, at least one.")
        return Layout(tuple(starts.tolist()), tuple(counts.tolist()), width)


@lru_cache(maxsize=256)
def _unpadded(rows: int, width: int) -> Layout:
    return Layout((0,) * rows, (width,) * rows, width)


def encode(
    prompt: Prompt | Batch, tokenizer: Any, facts: Facts, *, side: Side = "right", allow_unknown: bool = False
) -> Batch:
    """Text (with the tokenizer's own special tokens), ids, or several of either, as a checked batch.

    Prompts of different lengths are padded on `side`. Raises InputError: empty, too long, ids outside the vocabulary,
    pieces that the tokenizer does not know (unless `allow_unknown`), text without a tokenizer.
    """
    if isinstance(prompt, Batch):
        return prompt
    if side not in ("right", "left"):
        raise InputError(f"padding is 'right' or 'left'; given {side!r}.")
    if isinstance(prompt, Tensor):
        ids = prompt[None] if prompt.ndim == 1 else prompt
        if ids.ndim != 2 or ids.is_floating_point() or ids.dtype == torch.bool:
            raise InputError(
                f"token ids are whole numbers [batch, position]; given {prompt.dtype} {list(prompt.shape)}."
            )
        rows = ids.tolist() if 0 in ids.shape else None
        if rows is None:
            _check_ids(ids, facts)
            batch = Batch(ids.long(), torch.ones_like(ids, dtype=torch.bool))
            vars(batch)["layout"] = _unpadded(*ids.shape)  # known: it need not be looked for in the mask
            return batch
        raise InputError(f"the prompt is empty (ids of shape {list(prompt.shape)}).")
    rows = _rows(prompt, tokenizer, allow_unknown)
    width = max(len(row) for row in rows)
    # Padding is never attended to and never read; any id of the vocabulary serves.
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for r, row in enumerate(rows):
        where = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[r, where] = torch.tensor(row)
        mask[r, where] = True
    _check_ids(ids, facts)
    return Batch(ids, mask)


def _rows(prompt: Any, tokenizer: Any, allow_unknown: bool) -> list[list[int]]:
    if isinstance(prompt, str):
        return [_text(prompt, tokenizer, allow_unknown)]
    if not isinstance(prompt, Sequence):
        raise InputError(f"a prompt is text, token ids, or several of either; given {type(prompt).__name__}.")
    items = list(prompt)
    if not items:
        raise InputError("the prompt is empty.")
    if all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        return [items]
    rows = []
    for number, item in enumerate(items):
        if isinstance(item, str):
            rows.append(_text(item, tokenizer, allow_unknown))
        elif isinstance(item, (Sequence, Tensor)):
            row = item.tolist() if isinstance(item, Tensor) else list(item)
            if not all(isinstance(i, int) and not isinstance(i, bool) for i in row):
                raise InputError(f"row {number} holds something that is no token id: {row[:5]!r}.")
            rows.append(row)
        else:
            raise InputError(f"row {number} is {type(item).__name__}; give text or token ids.")
        if not rows[-1]:
            raise InputError(f"row {number} is empty.")
    return rows


def _text(text: str, tokenizer: Any, allow_unknown: bool) -> list[int]:
    if tokenizer is None:
        raise InputError(
            "the model has no tokenizer, so text cannot be read: give token ids, or load(..., tokenizer=…); a "
            "factory (file.py:factory) may give (module, tokenizer)."
        )
    if not text:
        raise InputError("the prompt is empty.")
    ids = [int(i) for i in tokenizer(text)["input_ids"]]
    if not ids:
        raise InputError(f"the tokenizer makes no token of {text!r}.")
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is not None and unknown in ids and not allow_unknown and str(tokenizer.unk_token) not in text:
        pieces = _unknown_pieces(text, ids, unknown, tokenizer)
        raise InputError(
            f"the tokenizer does not know {', '.join(map(repr, pieces))} in {text!r}; use other words "
            "(or allow_unknown=True to run with the unknown token in their place)."
        )
    return ids


def _unknown_pieces(text: str, ids: list[int], unknown: int, tokenizer: Any) -> list[str]:
    try:
        spans = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        found = [text[a:b] for i, (a, b) in zip(ids, spans) if i == unknown]
    except (NotImplementedError, ValueError, KeyError):
        found = []
    return list(dict.fromkeys(found))[:5] or [str(tokenizer.unk_token)]


def spelled(token: int, tokenizer: Any) -> str:
    """The text that a token adds to what stands before it. Decoded alone it may lose its space, so it is decoded twice
    over and the first taken off. A byte that is no visible character keeps its name in the vocabulary, as <0xE4>."""
    once = str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
    twice = str(tokenizer.decode([token, token], clean_up_tokenization_spaces=False))
    text = twice[len(once) :] if twice.startswith(once) else once
    if "\ufffd" in text or any(category(c) == "Cc" and c not in "\t\n\r" for c in text):
        name = tokenizer.convert_ids_to_tokens(token)
        return name if isinstance(name, str) and name.startswith("<0x") else text
    return text


def spelled_out(tokenizer: Any, text: str) -> list[str]:
    """The words of `text` that `tokenizer` has no token for: spelled in byte tokens (`<0xE2>`), or unknown to it.

    Byte-level vocabularies (GPT-2's) have a token for everything, so nothing of theirs is named; nor is white space.
    """
    if tokenizer is None or not getattr(tokenizer, "is_fast", False):
        return []
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    tokens = tokenizer.convert_ids_to_tokens(found["input_ids"])
    unknown = getattr(tokenizer, "unk_token", None)
    words: dict[tuple[int, int], str] = {}
    for token, (start, end) in zip(tokens, found["offset_mapping"]):
        if (_BYTE.fullmatch(token) or token == unknown) and text[start:end].strip():
            while start > 0 and not text[start - 1].isspace():
                start -= 1
            while end < len(text) and not text[end].isspace():
                end += 1
            words[start, end] = text[start:end].strip()
    return list(dict.fromkeys(words.values()))


def _check_ids(ids: Tensor, facts: Facts) -> None:
    least, most = ids.aminmax() if facts.vocab_size else (0, 0)
    if least < 0 or most >= facts.vocab_size > 0:
        bad = ids[(ids < 0) | (ids >= facts.vocab_size)][0].item()
        raise InputError(f"token id {bad} is not in the vocabulary (0 … {facts.vocab_size - 1}).")
    if facts.max_positions is not None and ids.shape[1] > facts.max_positions:
        raise InputError(f"the prompt is {ids.shape[1]} tokens long; the model takes at most {facts.max_positions}.")
