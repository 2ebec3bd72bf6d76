"""Facts (a frame, a subject, its answer) become pairs: each subject beside another of as many tokens in one frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from cutaway.core import InputError
from cutaway.tasks.assemble import assemble
from cutaway.tasks.builder import joins
from cutaway.tasks.items import Item, Pair
from cutaway.tasks.reading import Reader
from cutaway.tasks.task import Task

SUBJECT = "{}"


@dataclass(frozen=True)
class Fact:
    """`frame` holds "{}" where the subject stands and ends just before the answer. `kind` names the relation."""

    frame: str
    subject: str
    answer: str
    kind: str


def recall(
    facts: Sequence[Fact],
    reader: Reader,
    *,
    n: int | None,
    seed: int,
    name: str,
    first_token: bool,
    metric: str | Callable[..., Tensor] | None = None,
    **more: Any,
) -> Task:
    """A task of up to n of these facts, all where n is None. The counterfactual has another subject of as many tokens.

    Facts whose answer is not one token are left out (with `first_token` the first is taken), and so are those to which
    no other of the same frame and length has another answer; `task.notes` counts both.
    The position "subject" is the subject's last token. Raises InputError where none is left, or fewer than n.
    """
    texts = [f.frame.replace(SUBJECT, f.subject) for f in facts]
    answers = [f.answer if joins(t) else f" {f.answer}" for f, t in zip(facts, texts)]
    rows, tails = reader.rows(texts), reader.continuations(texts, answers)
    ends = [f.frame.index(SUBJECT) + len(f.subject) for f in facts]
    cuts = reader.rows([t[:end] for t, end in zip(texts, ends)])
    long: list[str] = []
    usable: dict[tuple[str, int], list[int]] = {}
    for i, (row, tail, cut) in enumerate(zip(rows, tails, cuts)):
        fits = bool(tail) and (len(tail or ()) == 1 or first_token)
        if not fits or row[: len(cut)] != cut or reader.unknown((*row, *(tail or ())[:1])):
            long.append(facts[i].answer)
            continue
        usable.setdefault((facts[i].frame, len(row)), []).append(i)
    frames = list(dict.fromkeys(f.frame for f in facts))
    rng = np.random.default_rng(np.random.SeedSequence([20271, seed]))
    first = {i: (tails[i] or (0,))[0] for group in usable.values() for i in group}
    pairs, alone = [], 0
    for group in usable.values():
        for i in group:
            pool = [j for j in group if first[j] != first[i] and rows[j] != rows[i]]
            if not pool:
                alone += 1
                continue
            j = pool[int(rng.integers(len(pool)))]
            item = Item(
                texts[i], texts[j], facts[i].answer, facts[j].answer, facts[j].answer, frames.index(facts[i].frame),
                {"subject": facts[i].subject, "relation": facts[i].kind},
            )  # fmt: skip
            pairs.append(Pair(rows[i], rows[j], first[i], item, first[j], first[j], {"subject": len(cuts[i]) - 1}))
    seen: set[tuple[int, ...]] = set()
    pairs = [p for p in pairs if not (p.clean in seen or seen.add(p.clean))]  # type: ignore[func-returns-value]
    notes = _notes(len(facts), long, alone, first_token)
    if not pairs or (n is not None and len(pairs) < n):
        raise InputError(
            f"{name}: {len(pairs)} of {len(facts)} facts can be paired for {reader.whose}"
            + ("" if n is None else f", and n={n} were asked for")
            + "".join(f"; {note}" for note in notes)
            + ("" if first_token else ". first_token=True takes the first token of longer answers.")
        )
    if n is not None:
        pairs = [pairs[int(i)] for i in sorted(rng.choice(len(pairs), n, replace=False))]
    return assemble(
        name, pairs, reader, metric=metric, templates=tuple(frames), counterfactual_kind="subject", seed=seed,
        notes=notes, **more,
    )  # fmt: skip


def _notes(total: int, long: Sequence[str], alone: int, first_token: bool) -> tuple[str, ...]:
    notes = []
    if long:
        some = ", ".join(list(dict.fromkeys(long))[:4])
        notes.append(f"{len(long)} of {total} facts left out: their answer is not one token ({some}, …)")
    if alone:
        notes.append(f"{alone} of {total} left out: no other subject of as many tokens has another answer")
    if first_token:
        notes.append("of answers of several tokens the first is taken")
    return tuple(notes)
