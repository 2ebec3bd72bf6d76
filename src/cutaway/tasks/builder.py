"""A task of one's own, from columns of text or from token ids. Everything is checked; messages name the items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model.tokens import spelled_out
from cutaway.tasks.assemble import assemble
from cutaway.tasks.checks import named, shorten, warn
from cutaway.tasks.corruptions import Corruption, resample
from cutaway.tasks.items import Item, Pair
from cutaway.tasks.reading import Reader, reader
from cutaway.tasks.task import Task

Metric = str | Callable[..., Tensor] | None
Where = Mapping[str, Sequence[int] | Sequence[str] | int | str]


def from_pairs(
    model: Any,
    clean: Iterable[str],
    counterfactual: Iterable[str] | Corruption,
    answers: Iterable[str | int],
    wrong: Iterable[str | int] | None = None,
    *,
    counterfactual_answers: Iterable[str | int] | None = None,
    positions: Where | None = None,
    template: Sequence[int] | None = None,
    name: str = "own",
    about: str = "",
    metric: Metric = None,
    first_token: bool = False,
    bad: str = "error",
    seed: int = 0,
    numbers: Sequence[int] = (),
    **more: Any,
) -> Task:
    """A task from columns of text.

    model: a cutaway model, a tokenizer, or a name that `cw.load` takes.
    clean: prompts that end just before the answer, without a space at the end.
    counterfactual: prompts of as many tokens each; or a corruption (`cutaway.tasks.corruptions`: swap_words, shuffle,
    resample, random_token) that makes them of the clean ones with `seed`; resample also gives the other item's answer.
    answers, wrong, counterfactual_answers: words of one token each, with or without their leading space (it is found
    out), or token ids. `first_token` takes the first token of longer ones.
    positions: name -> a word in each prompt (its last token, where it stands last), or a position that counts the
    row's own tokens; a list of n, or one for all. "end" is there by itself, and "changed" where one token differs.
    template: the number of each item's template; by default items of one length share one.
    bad: "error", or "drop" to leave items out that fail a check, with a warning that names them.

    Raises InputError: columns of different length, misaligned pairs, answers of several tokens, identical prompts,
    answers that do not differ, words unknown to the tokenizer.
    """
    found = reader(model)
    texts = _column(clean, "clean", numbers=numbers)
    drop = _drops(bad)
    rows = found.rows(texts)
    _spaces(texts, rows, numbers)
    keep, right = _ids(
        found, texts, rows, _column(answers, "answers", len(texts)), "answer", first_token, drop, numbers
    )
    others: dict[str, list[int]] = {}
    for label, column in (("wrong", wrong), ("counterfactual_answers", counterfactual_answers)):
        if column is not None:
            more_keep, others[label] = _ids(
                found, texts, rows, _column(column, label, len(texts)), label, first_token, drop, numbers
            )
            keep &= more_keep
    if hasattr(counterfactual, "rows"):
        other_rows = counterfactual.rows(rows, texts, right, found, seed)
        other_texts = [found.text(row) for row in other_rows]
        if isinstance(counterfactual, resample) and "counterfactual_answers" not in others:
            # The other item's answer is known, and is the natural one to compare with.
            known = dict(zip(rows, right))
            others["counterfactual_answers"] = [known[row] for row in other_rows]
            others.setdefault("wrong", others["counterfactual_answers"])
        more.setdefault("counterfactual_kind", type(counterfactual).__name__)
        more.setdefault("seed", seed)
    else:
        other_texts = _column(counterfactual, "counterfactual", len(texts), numbers)
        other_rows = found.rows(other_texts)
    where = _positions(found, texts, rows, positions or {}, keep)
    shape = {length: i for i, length in enumerate(sorted({len(r) for r in rows}))}
    strings = dict(zip(ids := [*right, *(i for c in others.values() for i in c)], found.strings(ids)))
    pairs = []
    chosen = sorted(keep)
    for i in chosen:
        wrong_id = others["wrong"][i] if "wrong" in others else None
        told = others["counterfactual_answers"][i] if "counterfactual_answers" in others else None
        item = Item(
            texts[i],
            other_texts[i],
            strings[right[i]].strip(" "),
            None if wrong_id is None else strings[wrong_id].strip(" "),
            None if told is None else strings[told].strip(" "),
            int(template[i]) if template is not None else shape[len(rows[i])],
        )
        pairs.append(Pair(rows[i], other_rows[i], right[i], item, wrong_id, told, where[i]))
    pairs = with_changed(pairs)
    called = [numbers[i] if numbers else i for i in chosen]
    more["notes"] = (*more.get("notes", ()), *_in_bytes(found, [texts[i] for i in chosen]))
    return assemble(name, pairs, found, metric=metric, drop=drop, numbers=called, about=about, **more)


def from_tokens(
    clean: Tensor,
    counterfactual: Tensor,
    answers: Tensor | Sequence[int],
    wrong: Tensor | Sequence[int] | None = None,
    *,
    counterfactual_answers: Tensor | Sequence[int] | None = None,
    mask: Tensor | None = None,
    positions: Mapping[str, Sequence[int] | Tensor | int] | None = None,
    template: Sequence[int] | Tensor | None = None,
    name: str = "own",
    metric: Metric = None,
    vocabulary: int = 0,
    tokenizer: Any = None,
    bad: str = "error",
    **more: Any,
) -> Task:
    """A task from token ids: clean and counterfactual [n, position], answers and wrong [n].

    mask [n, position]: False on padding, which is on the right; by default there is none. vocabulary: its size, to
    check the ids by. positions: name -> [n] counted in a row's own tokens, or one number for all.
    Raises InputError as `from_pairs` does.
    """
    for label, ids in (("clean", clean), ("counterfactual", counterfactual)):
        if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.is_floating_point() or not ids.numel():
            shown = f"{ids.dtype} {list(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
            raise InputError(f"{label} holds token ids [n, position], whole numbers; given {shown}.")
    if clean.shape != counterfactual.shape:
        raise InputError(
            f"clean and counterfactual have one shape; given {list(clean.shape)} and {list(counterfactual.shape)}."
        )
    n = len(clean)
    kept = torch.ones_like(clean, dtype=torch.bool) if mask is None else mask.bool()
    if kept.shape != clean.shape or bool((kept[:, 1:] & ~kept[:, :-1]).any()) or not bool(kept[:, 0].all()):
        raise InputError(f"mask is [{n}, {clean.shape[1]}], True on each row's tokens from its first, then False.")
    found = Reader(tokenizer, name, vocabulary)
    columns = {
        label: _numbers(ids, label, n)
        for label, ids in (("answers", answers), ("wrong", wrong), ("counterfactual_answers", counterfactual_answers),
                           ("template", template))
    }  # fmt: skip
    lengths = kept.sum(-1).tolist()
    shape = {length: i for i, length in enumerate(sorted(set(lengths)))}
    named_at = {key: _numbers(value, key, n) or [] for key, value in (positions or {}).items()}
    pairs = []
    for i in range(n):
        row, other = clean[i][kept[i]].tolist(), counterfactual[i][kept[i]].tolist()
        answer = (columns["answers"] or [])[i]
        wrong_id = None if columns["wrong"] is None else columns["wrong"][i]
        told = None if columns["counterfactual_answers"] is None else columns["counterfactual_answers"][i]
        texts = found.strings([x for x in (answer, wrong_id, told) if x is not None])
        labels = iter(texts)
        item = Item(
            found.text(row),
            found.text(other),
            next(labels),
            None if wrong_id is None else next(labels),
            None if told is None else next(labels),
            shape[len(row)] if columns["template"] is None else columns["template"][i],
        )
        at = {key: value[i] % len(row) if -len(row) <= value[i] < 0 else value[i] for key, value in named_at.items()}
        pairs.append(Pair(tuple(row), tuple(other), answer, item, wrong_id, told, at))
    return assemble(name, with_changed(pairs), found, metric=metric, drop=_drops(bad), **more)


# ------------------------------------------------------------------------------------------------------------ parts


def _drops(bad: str) -> bool:
    if bad not in ("error", "drop"):
        raise InputError(f"bad= is 'error' or 'drop'; given {bad!r}.")
    return bad == "drop"


def _column(values: Any, label: str, n: int | None = None, numbers: Sequence[int] = ()) -> list[Any]:
    if isinstance(values, str):
        raise InputError(f"{label} is a column, one entry an item; given one text {shorten(values)!r}.")
    listed = values.tolist() if isinstance(values, Tensor) else list(values)
    if n is not None and len(listed) != n:
        raise InputError(f"{label} has {len(listed)} entries and clean {n}; they must be as many.")
    if not listed:
        raise InputError(f"{label} is empty.")
    if label in ("clean", "counterfactual"):
        called = numbers or range(len(listed))
        bad = [(i, repr(v)) for i, v in zip(called, listed) if not isinstance(v, str) or not v.strip()]
        if bad:
            raise InputError(named(bad, len(listed), f"of {label} are no text"))
    return listed


def _numbers(values: Any, label: str, n: int) -> list[int] | None:
    if values is None:
        return None
    if isinstance(values, int):
        return [values] * n
    listed = values.tolist() if isinstance(values, Tensor) else list(values)
    if len(listed) != n or not all(isinstance(v, int) and not isinstance(v, bool) for v in listed):
        raise InputError(f"{label} holds {n} whole numbers, one an item; given {len(listed)}: {listed[:4]}.")
    return listed


def _spaces(texts: Sequence[str], rows: Sequence[tuple[int, ...]], numbers: Sequence[int]) -> None:
    bad = [(numbers[i] if numbers else i, repr(shorten(t))) for i, t in enumerate(texts) if t != t.rstrip(" ")]
    if bad:
        warn(
            named(bad, len(texts), "end with a space, which most tokenizers put at the beginning of the next token",
                  "Models rarely predict well after it; leave it off.")
        )  # fmt: skip
    if empty := [(numbers[i] if numbers else i, repr(t)) for i, t in enumerate(texts) if not rows[i]]:
        raise InputError(named(empty, len(texts), "give no token"))


def _ids(
    found: Reader,
    texts: Sequence[str],
    rows: Sequence[tuple[int, ...]],
    words: Sequence[Any],
    label: str,
    first: bool,
    drop: bool,
    numbers: Sequence[int],
) -> tuple[set[int], list[int]]:
    """Which items are good, and the id of each one's word after its prompt: with a space before it, or as it stands."""
    if all(isinstance(w, int) and not isinstance(w, bool) for w in words):
        return set(range(len(words))), [int(w) for w in words]
    strings = [str(w) for w in words]
    spaced = [w if w[:1].isspace() or joins(t) else " " + w for w, t in zip(strings, texts)]
    both = list(zip(found.continuations(texts, spaced), found.continuations(texts, strings)))
    ids, bad = [], []
    for i, options in enumerate(both):
        one: tuple[int, ...] | None = next((o for o in options if o is not None and len(o) == 1), None)
        if one is None and first:
            one = next((o for o in options if o), None)
        if one is not None:
            ids.append(one[0])
            continue
        ids.append(0)
        cut = options[0] or options[1]
        why = f"{strings[i]!r} joins the last token of the prompt"
        why += " (the prompt ends with a space)" if texts[i].endswith(" ") else ""
        if cut:
            why = f"{strings[i]!r} is {len(cut)} tokens ({found.cut(cut)})"
        bad.append((numbers[i] if numbers else i, f"{why} after {shorten(texts[i])!r}"))
    good = {i for i, o in enumerate(ids)}
    if bad:
        called = {"answer": "an answer", "wrong": "a wrong answer"}.get(label, "an answer to the counterfactual")
        what = f"have {called} that is not one token"
        if not drop:
            raise InputError(
                named(
                    bad, len(texts), what, "Use other words, first_token=True (the first token of each), or bad='drop'."
                )
            )
        if len(bad) == len(texts):
            raise InputError(named(bad, len(texts), what) + " None is left.")
        warn(named(bad, len(texts), what) + " They are left out.")
        rows_bad = {row for row, _ in bad}
        good = {i for i in good if (numbers[i] if numbers else i) not in rows_bad}
    return good, ids


def joins(prompt: str) -> bool:
    """Whether the next word follows without a space: after white space, an opening bracket or an opening quote."""
    last = prompt[-1:]
    return last.isspace() or last in "([{/“‘«$#" or (last == '"' and prompt.count('"') % 2 == 1)


def _positions(
    found: Reader, texts: Sequence[str], rows: Sequence[tuple[int, ...]], wanted: Where, keep: set[int]
) -> list[dict[str, int]]:
    """[n] name -> position, from words or numbers."""
    out: list[dict[str, int]] = [{} for _ in texts]
    for name, given in wanted.items():
        if isinstance(given, (str, int)):
            values: list[Any] = [given] * len(texts)
        else:
            values = list(given)
        if len(values) != len(texts):
            raise InputError(f"position {name!r} has {len(values)} entries and there are {len(texts)} items.")
        absent = []
        cuts = found.rows([_upto(t, v) if isinstance(v, str) else t for t, v in zip(texts, values)])
        for i, value in enumerate(values):
            if isinstance(value, str):
                if value not in texts[i] or rows[i][: len(cuts[i])] != cuts[i] or not cuts[i]:
                    absent.append((i, f"{value!r} in {shorten(texts[i])!r}"))
                    continue
                out[i][name] = len(cuts[i]) - 1
            else:
                length = len(rows[i])
                out[i][name] = int(value) % length if -length <= int(value) < 0 else int(value)
        if absent and any(i in keep for i, _ in absent):
            raise InputError(
                named(absent, len(texts), f"have no word for the position {name!r} that ends with a token")
            )
    return out


def _upto(text: str, word: str) -> str:
    at = text.rfind(word)
    return text if at < 0 else text[: at + len(word)]


def _in_bytes(found: Reader, texts: Sequence[str]) -> tuple[str, ...]:
    """A note where words are spelled in byte tokens: a model of a small vocabulary may never have met them."""
    words = [spelled_out(found.tokenizer, text) for text in texts]
    several = sum(map(bool, words))
    some = ", ".join(list(dict.fromkeys(w for each in words for w in each))[:5])
    return (f"{several} of {len(texts)} items hold words that are spelled in bytes: {some}",) if several else ()


def with_changed(pairs: list[Pair]) -> list[Pair]:
    """The pairs with the position "changed" where exactly one token differs in every item, and the name is free."""
    apart = [[i for i, (a, b) in enumerate(zip(p.clean, p.counterfactual)) if a != b] for p in pairs]
    if any(len(a) != 1 for a in apart) or any("changed" in p.positions for p in pairs):
        return pairs
    return [replace(p, positions={**p.positions, "changed": a[0]}) for p, a in zip(pairs, apart)]
