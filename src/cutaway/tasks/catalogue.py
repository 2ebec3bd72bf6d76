"""The tasks by name, and `task`, which makes one for a model or a tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from cutaway.core import InputError, UnknownName
from cutaway.tasks.assemble import assemble
from cutaway.tasks.in_small_world import drawing
from cutaway.tasks.in_small_world import sentences as small_sentences
from cutaway.tasks.reading import reader as reader_of
from cutaway.tasks.small_world import sentences
from cutaway.tasks.task import Task


def task(
    name: str,
    model: Any,
    n: int = 64,
    seed: int = 0,
    counterfactual: str | None = None,
    split: str = "test",
    metric: str | Callable[..., Tensor] | None = None,
) -> Task:
    """A task of the literature for a model or tokenizer."""
    found = reader_of(model)
    if name != "ioi":
        raise UnknownName("task", name, ["ioi"])
    kind = counterfactual or "flip"
    pairs = drawing.pairs(small_sentences.indirect_objects, name, kind, found, n, seed, split)
    return assemble(
        name, pairs, found, metric=metric, templates=sentences.INDIRECT_OBJECT, counterfactual_kind=kind, split=split,
        seed=seed,
    )  # fmt: skip


_ = InputError
