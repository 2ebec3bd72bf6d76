"""`task`: one of the catalogue's tasks, made for a model or a tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from cutaway.core import InputError, UnknownName
from cutaway.core.numbers import seeded
from cutaway.tasks import induction
from cutaway.tasks.assemble import assemble
from cutaway.tasks.catalogue import Entry, entry
from cutaway.tasks.in_english import drafts
from cutaway.tasks.in_small_world import drawing
from cutaway.tasks.items import USUAL, Pair
from cutaway.tasks.reading import Reader, reader
from cutaway.tasks.task import Task

SPLITS = ("test", "train", "any")


def task(
    name: str,
    model: Any,
    n: int | None = None,
    seed: int = 0,
    counterfactual: str | None = None,
    split: str = "test",
    metric: str | Callable[..., Tensor] | None = None,
) -> Task:
    """A task of the literature for a model, a Hugging Face tokenizer, or a name or folder that `cw.load` takes.

    name: as `cutaway tasks` lists them. A model of the small world (it is known by its vocabulary) gets the world's
    sentences; any other tokenizer plain English, from which words that it does not have as one token are left out
    (`task.notes` says which).
    n: items, all of distinct clean prompts; by default 64, or all where there are fewer.
    counterfactual: its kind; the task's first by default.
    split: in the small world "test" holds only items that its training text withholds (where the task has such),
    "train" only others. In English the two are disjoint sets of items. "any" takes both.
    metric: a name (`cutaway.tasks.METRICS`) or a function of the logits at the end [n, vocab].

    The same arguments give the same items. Costs no forward.
    Raises UnknownName for a task, kind or split; InputError where this tokenizer cannot ask it, or has too few items.
    """
    asked = entry(name)
    kind = counterfactual if counterfactual is not None else next(iter(asked.counterfactuals))
    if kind not in asked.counterfactuals:
        raise UnknownName(f"counterfactual of {asked.name}", str(kind), asked.counterfactuals)
    if split not in SPLITS:
        raise UnknownName("split", str(split), SPLITS)
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
        raise InputError(f"n counts items; it is at least 1, given {n!r}.")
    seed = seeded(seed)
    found = _reader(asked, model)
    small = in_small_world(found)
    templates: tuple[str, ...]
    if small and asked.small is not None:
        pairs = drawing.pairs(asked.small.make, asked.name, kind, found, n, seed, split)
        templates = asked.small.templates
        notes: tuple[str, ...] = (f"withheld from the training text: {asked.small.withheld}",)
    elif not small and asked.any_tokens:
        pairs, notes = induction.induction(found, kind, n or USUAL, seed, split)
        templates = ()
    elif not small and asked.english is not None:
        drawer = asked.english(found, kind)
        pairs, notes = drafts.pairs(asked.name, drawer, found, n, seed, split)
        templates = drawer.templates
    else:
        raise InputError(f"{asked.name} cannot be asked of {found.name}: {asked.why}.")
    return assemble(
        asked.name, pairs, found, metric=metric, about=asked.about, templates=templates, counterfactual_kind=kind,
        split=split, seed=seed, notes=notes + _fewer(pairs, n, split) + _lengths(pairs),
    )  # fmt: skip


def in_small_world(found: Reader) -> bool:
    """Whether a tokenizer is the small world's, by its vocabulary."""
    from cutaway.tasks.small_world.vocabulary import BOS, token_ids

    tokenizer = found.tokenizer
    if tokenizer is None or getattr(tokenizer, "bos_token", None) != BOS or not hasattr(tokenizer, "get_vocab"):
        return False
    return bool(tokenizer.get_vocab() == token_ids())


def fits(asked: Entry, model: Any) -> str | None:
    """Why a task cannot be made for a model or tokenizer, or None where it can. Makes a few items to find out."""
    try:
        task(asked.name, model, n=4, split="any")
    except InputError as error:
        return str(error)
    return None


def _reader(asked: Entry, model: Any) -> Reader:
    """Random tokens need no text, so a model without a tokenizer will do for them."""
    if isinstance(model, (str, Path)):
        from cutaway.model import load

        model = load(model)
    bare = hasattr(model, "facts") and getattr(model, "tokenizer", None) is None
    if asked.any_tokens and bare:
        return Reader(None, model.name, _vocabulary(model), model.facts.max_positions)
    return reader(model)


def _vocabulary(model: Any) -> int:
    if model.facts.vocab_size:
        return int(model.facts.vocab_size)
    from torch import nn

    size = next((m.num_embeddings for m in model.hf.modules() if isinstance(m, nn.Embedding)), 0)
    if not size:
        raise InputError(f"{model.name} says of no vocabulary how large it is; make the task with Task.from_tokens.")
    return int(size)


def _fewer(pairs: list[Pair], n: int | None, split: str) -> tuple[str, ...]:
    if n is not None or len(pairs) >= USUAL:
        return ()
    return (f"the split {split!r} has {len(pairs)} distinct items",)


def _lengths(pairs: list[Pair]) -> tuple[str, ...]:
    lengths = {len(p.clean) for p in pairs}
    if len(lengths) == 1:
        return ()
    return (f"rows have {min(lengths)} to {max(lengths)} tokens: shorter ones are padded on the right",)
