"""The checks that every task passes before anyone runs it. Each message names the items: the first few, how many."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from cutaway.core import InputError
from cutaway.tasks.items import Pair
from cutaway.tasks.reading import Reader

SHOWN = 4


class TaskWarning(UserWarning):
    """Something about a task that its user should know, and that does not make it useless."""


def warn(message: str) -> None:
    warnings.warn(message, TaskWarning, stacklevel=4)


def named(bad: Sequence[tuple[int, str]], total: int, what: str, how: str = "") -> str:
    """`3 of 20 items are misaligned: row 4 (…); row 7 (…); …` with what to do."""
    shown = "; ".join(f"row {row}: {why}" for row, why in bad[:SHOWN])
    more = "" if len(bad) <= SHOWN else f"; … and rows {', '.join(str(r) for r, _ in bad[SHOWN : SHOWN + 20])}"
    more += ", …" if len(bad) > SHOWN + 20 else ""
    return f"{len(bad)} of {total} items {what}. {shown}{more}." + (f" {how}" if how else "")


def misaligned(pair: Pair, reader: Reader) -> str | None:
    if len(pair.clean) == len(pair.counterfactual):
        return None
    first = next(
        (i for i, (a, b) in enumerate(zip(pair.clean, pair.counterfactual)) if a != b),
        min(len(pair.clean), len(pair.counterfactual)),
    )
    here = [reader.cut(row[first : first + 4]) for row in (pair.clean, pair.counterfactual)]
    return (
        f"{len(pair.clean)} tokens against {len(pair.counterfactual)}, first apart at token {first}: "
        f"{here[0]} against {here[1]} in {shorten(pair.item.clean)!r}"
    )


def identical(pair: Pair, reader: Reader) -> str | None:
    return f"{shorten(pair.item.clean)!r}" if pair.clean == pair.counterfactual else None


def same_answers(pair: Pair, reader: Reader) -> str | None:
    if pair.wrong is not None and pair.wrong == pair.answer:
        return f"{reader.strings([pair.answer])[0]!r} is both right and wrong after {shorten(pair.item.clean)!r}"
    if pair.wrong is not None and pair.wrong in pair.valid:
        text = reader.strings([pair.wrong])[0]
        return f"the wrong answer {text!r} is among the right ones after {shorten(pair.item.clean)!r}"
    return None


def same_counterfactual_answer(pair: Pair, reader: Reader) -> str | None:
    if pair.counterfactual_answer is not None and pair.counterfactual_answer == pair.answer:
        return f"both are answered by {reader.strings([pair.answer])[0]!r}: {shorten(pair.item.clean)!r}"
    return None


def outside(pair: Pair, reader: Reader) -> str | None:
    ids = (*pair.clean, *pair.counterfactual, pair.answer, *(i for i in (pair.wrong,) if i is not None))
    bad = [i for i in ids if i < 0 or (reader.vocabulary and i >= reader.vocabulary)]
    return f"token id {bad[0]} is not in the vocabulary (0 … {reader.vocabulary - 1})" if bad else None


def unknown(pair: Pair, reader: Reader) -> str | None:
    ids = (*pair.clean, *pair.counterfactual, pair.answer, *(i for i in (pair.wrong,) if i is not None))
    return f"{shorten(pair.item.clean)!r}" if reader.unknown(ids) else None


def too_long(pair: Pair, reader: Reader) -> str | None:
    limit = reader.context
    return f"{len(pair.clean)} tokens" if limit is not None and len(pair.clean) > limit else None


Check = Callable[[Pair, Reader], "str | None"]
CHECKS: tuple[tuple[Check, str, str], ...] = (
    (
        misaligned,
        "are misaligned: clean and counterfactual have different numbers of tokens",
        "Use words of as many tokens in both, or bad='drop' to leave these items out.",
    ),
    (
        identical,
        "have a counterfactual identical to the clean prompt, so nothing would change",
        "Change something, or bad='drop'.",
    ),
    (same_answers, "have the same token as answer and as wrong answer", "Give another wrong answer, or bad='drop'."),
    (
        same_counterfactual_answer,
        "have the same answer on clean and counterfactual, so no metric of the answer can tell them apart",
        "Change what determines the answer, or bad='drop'.",
    ),
    (outside, "hold ids outside the vocabulary", "Is it another model's tokenizer?"),
    (unknown, "hold words that the tokenizer does not know (its unknown token)", "Use other words, or bad='drop'."),
    (too_long, "are longer than the model's context", "Use shorter prompts, or bad='drop'."),
)


def sound(
    pairs: Sequence[Pair], reader: Reader, *, drop: bool | None = None, numbers: Sequence[int] = ()
) -> list[Pair]:
    """The pairs that pass every check. With `drop`, the others are left out with a warning; else they are an error.
    None: the user did not write the items, so the error does not tell them to mend any.

    numbers: what to call the rows in messages (the rows of a file); 0, 1, … by default.
    Raises InputError for pairs that fail, and where none is left. Repeated pairs are a warning.
    """
    rows = list(zip(numbers or range(len(pairs)), pairs))
    if not rows:
        raise InputError("a task needs at least one item; none was given.")
    for check, what, how in CHECKS:
        found = [(number, why) for number, pair in rows if (why := check(pair, reader)) is not None]
        if not found:
            continue
        message = named(found, len(rows), what, how if drop is False else "")
        if not drop:
            raise InputError(message)
        if len(found) == len(rows):
            raise InputError(message + " None is left.")
        warn(message + " They are left out.")
        bad = {number for number, _ in found}
        rows = [(number, pair) for number, pair in rows if number not in bad]
    _repeated(rows)
    return [pair for _, pair in rows]


def _repeated(rows: Sequence[tuple[int, Pair]]) -> None:
    first: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    again = []
    for number, pair in rows:
        key = (pair.clean, pair.counterfactual)
        if key in first:
            again.append((number, f"as row {first[key]}, {shorten(pair.item.clean)!r}"))
        else:
            first[key] = number
    if again:
        warn(named(again, len(rows), "repeat an earlier one, and count twice in every mean and interval"))


def shorten(text: str, most: int = 70) -> str:
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-most // 2 :]}"
