"""Drafts: a sentence with slots, filled twice. They become pairs where the tokenizer cuts them as they need it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cutaway.core import InputError
from cutaway.tasks.checks import misaligned, shorten, too_long
from cutaway.tasks.items import USUAL, Item, Pair
from cutaway.tasks.reading import Reader

Place = tuple[str, int, int]  # slot, which occurrence (0 first, -1 last), how many tokens after it
_SLOT = re.compile(r"\{(\w+)\}")
HELD_OUT = 30  # per cent of the items that the split "test" takes; "train" takes the others


@dataclass(frozen=True)
class Draft:
    """One item before it is tokenised. `glue` stands between prompt and answer: " ", or "" where they join.

    told: the right word after the counterfactual, where it determines one. valid, invalid: ids, where many are right.
    first: of an answer of several tokens the first is taken (sums for a tokenizer that has digits alone).
    """

    frame: str
    slots: Mapping[str, str]
    other: Mapping[str, str]
    answer: str
    wrong: str
    told: str | None
    template: int
    places: Mapping[str, Place] = field(default_factory=dict)
    glue: str = " "
    valid: tuple[int, ...] = ()
    invalid: tuple[int, ...] = ()
    first: bool = False


@dataclass(frozen=True)
class Drawer:
    """Makes drafts of one task for one tokenizer. `notes` say which words it had to leave out."""

    draw: Callable[[np.random.Generator], Draft]
    templates: tuple[str, ...]
    notes: tuple[str, ...] = ()
    special: bool = True  # False: the text holds its special tokens already (a chat template's)


def keep(
    reader: Reader, words: Sequence[str], what: str, least: int, glue: str = " "
) -> tuple[tuple[str, ...], str | None]:
    """The words that are one token in mid-sentence, and a note where some are not.

    Raises InputError where fewer than `least` are, naming some that are not and how they are cut.
    """
    words = tuple(dict.fromkeys(words))
    known = reader.one_token(words, glue)
    kept = tuple(w for w in words if w in known)
    dropped = [w for w in words if w not in known]
    if len(kept) < least:
        cut = [
            f"{word} ({reader.cut(ids)})" if ids else word
            for word, ids in zip(dropped[:6], reader.pieces(dropped[:6], glue))
        ]
        have = f" ({', '.join(kept[:6])})" if kept else ""
        raise InputError(
            f"{reader.whose} has {len(kept)} of our {len(words)} {what} as one token{have}, and the task "
            f"needs {least}. It cuts: {', '.join(cut)}, …. Make one with words that it has: Task.from_pairs(model, …)."
        )
    note = f"{what}: {len(kept)} of {len(words)} are one token; left out: {_some(dropped)}" if dropped else None
    return kept, note


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:8]) + (f", … ({len(words)} in all)" if len(words) > 8 else "")


def fill(frame: str, slots: Mapping[str, str]) -> tuple[str, dict[str, list[int]]]:
    """The text, and for each slot where each of its occurrences ends in it."""
    out, at = "", 0
    ends: dict[str, list[int]] = {}
    for match in _SLOT.finditer(frame):
        out += frame[at : match.start()] + slots[match[1]]
        ends.setdefault(match[1], []).append(len(out))
        at = match.end()
    return out + frame[at:], ends


def pairs(
    name: str, drawer: Drawer, reader: Reader, n: int | None, seed: int, split: str
) -> tuple[list[Pair], tuple[str, ...]]:
    """n pairs of distinct clean prompts of a split (None: 64, or all where there are fewer), and notes.

    The same seed gives the same pairs.

    Raises InputError where there are too few distinct items, or the tokenizer cuts most of them otherwise than needed.
    """
    rng = np.random.default_rng(np.random.SeedSequence([20265, seed, *name.encode()]))
    found: list[Pair] = []
    failed: list[str] = []
    seen: set[str] = set()
    idle = drawn = 0
    wanted = USUAL if n is None else n
    while len(found) < wanted and idle < 8:
        batch = []
        for _ in range(max(32, 2 * (wanted - len(found)))):
            draft = drawer.draw(rng)
            text = fill(draft.frame, draft.slots)[0]
            if text not in seen and in_split(text, split):
                seen.add(text)
                batch.append(draft)
        made = tokenised(batch, reader, drawer.special) if batch else []
        drawn += len(batch)
        failed += [m for m in made if isinstance(m, str)]
        fresh = [m for m in made if isinstance(m, Pair)]
        idle = idle + 1 if not fresh else 0
        found += fresh
        if len(failed) > 40 and len(failed) > drawn / 2:
            break
    if len(failed) > drawn / 2 and len(found) < wanted:
        raise InputError(
            f"{name} does not fit {reader.whose}: {len(failed)} of {drawn} items that were tried cannot be "
            f"used. {failed[0]}; {failed[-1]}. Make one with words that it has: Task.from_pairs(model, …)."
        )
    if len(found) < wanted and (n is not None or len(found) < 4):
        raise InputError(
            f"{name} has about {len(found)} distinct items in the split {split!r} for {reader.whose}; "
            f"n={wanted} were asked for."
        )
    notes = drawer.notes
    if failed:
        notes += (f"{len(failed)} of {drawn} items that were tried cannot be used and were left out, as: {failed[0]}",)
    return found[:wanted], notes


def in_split(text: str, split: str) -> bool:
    """Which split an item belongs to is settled by its clean text, whatever the seed."""
    held_out = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 100 < HELD_OUT
    return split == "any" or held_out == (split == "test")


def tokenised(drafts: Sequence[Draft], reader: Reader, special: bool = True) -> list[Pair | str]:
    """Each draft as a pair, or why the tokenizer does not allow it."""
    rows = reader.rows if special else reader.raw
    clean = [fill(d.frame, d.slots) for d in drafts]
    other = [fill(d.frame, d.other)[0] for d in drafts]
    texts = [text for text, _ in clean]
    clean_rows, other_rows = rows(texts), rows(other)
    words = [[w for w in (d.answer, d.wrong, d.told) if w is not None] for d in drafts]
    flat = rows([text + d.glue + w for text, d, ws in zip(texts, drafts, words) for w in ws])
    cuts = rows([text[: ends[s][o]] for (text, ends), d in zip(clean, drafts) for s, o, _ in d.places.values()])
    out: list[Pair | str] = []
    answers, prefixes = iter(flat), iter(cuts)
    for i, draft in enumerate(drafts):
        after = [next(answers) for _ in words[i]]
        before = {name: next(prefixes) for name in draft.places}
        out.append(_pair(draft, reader, texts[i], other[i], clean_rows[i], other_rows[i], after, before))
    return out


def _pair(
    draft: Draft,
    reader: Reader,
    text: str,
    other_text: str,
    clean: tuple[int, ...],
    other: tuple[int, ...],
    after: list[tuple[int, ...]],
    before: Mapping[str, tuple[int, ...]],
) -> Pair | str:
    tails = [row[len(clean) :] for row in after]
    if any(row[: len(clean)] != clean for row in after):
        return f"the text cannot be cut before the answer: {shorten(text + draft.glue + draft.answer)!r}"
    lead = tails[0][:1]
    if all(len(t) > 1 and t[:1] == lead for t in tails) and not reader.strings(lead)[0].strip(" ▁"):
        # The space before the answer is a token of its own: it belongs to both prompts.
        clean, other, tails = clean + lead, other + lead, [t[1:] for t in tails]
    word = draft.answer
    if any(len(t) != 1 for t in tails) and not (draft.first and all(tails)):
        bad = next(t for t in tails if len(t) != 1)
        return f"an answer is {len(bad)} tokens ({reader.cut(bad)}) after {shorten(text)!r}"
    ids = [t[0] for t in tails]
    if ids[0] in ids[1:]:
        return f"answers begin with the same token ({reader.strings(ids[:1])[0]!r}) after {shorten(text)!r}"
    positions = {}
    for name, (_, _, more) in draft.places.items():
        row = before[name]
        if clean[: len(row)] != row:
            return f"the text cannot be cut after {name}: {shorten(text)!r}"
        positions[name] = len(row) - 1 + more
    item = Item(text, other_text, word, draft.wrong, draft.told, draft.template, dict(draft.slots))
    told = ids[2] if draft.told is not None else None
    pair = Pair(clean, other, ids[0], item, ids[1], told, positions, draft.valid, draft.invalid)
    if (why := misaligned(pair, reader)) is not None:
        return why
    if (why := too_long(pair, reader)) is not None:
        return f"it is longer than the context: {why}, {shorten(text)!r}"
    if reader.unknown((*clean, *other, *ids)):
        return f"it has no token for a word of {shorten(text)!r}"
    return pair
