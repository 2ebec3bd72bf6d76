"""A task's clean prompts as readouts take them: each up to the position where its answer is said."""

from __future__ import annotations

from typing import Any

import torch

from cutaway.core import InputError
from cutaway.model import Model
from cutaway.model.tokens import Batch


def is_task(given: Any) -> bool:
    return hasattr(given, "clean") and hasattr(given, "answers")


def up_to_the_end(model: Model, task: Any) -> Batch:
    """`task.clean` cut after `task.columns("end")`, where what follows a prompt is not to be read.

    In a causal model the positions kept have the values that they have in the whole prompt; others are refused
    (InputError) where something would be cut off.
    """
    batch: Batch = task.clean
    if not hasattr(task, "columns"):
        return batch
    ends = task.columns("end")
    layout = batch.layout
    after = torch.tensor([start + length - 1 for start, length in zip(layout.starts, layout.lengths)])
    if bool((ends == after).all()):
        return batch
    if not model.facts.causal:
        raise InputError(f"{model.name} reads what follows a prompt's end too: the task's prompts cannot be cut there.")
    rows = zip(batch.ids.cpu(), layout.starts, ends.tolist())
    return model.batch([ids[start : end + 1].tolist() for ids, start, end in rows])
