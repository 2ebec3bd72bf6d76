"""Random tiny models and a task of random tokens for them."""

from __future__ import annotations

from dataclasses import replace

import torch

import cutaway as cw
from cutaway.model.families import tiny
from cutaway.tasks import Task
from cutaway.tasks.metrics import Metric, bind

FAMILIES = ("gpt2", "llama", "gpt_neox", "gemma2", "falcon", "olmo2")


def difference(logits, target):
    """A metric that has no answer to learn: two fixed logits, one squared so that gradients change along a line."""
    return logits[:, 7] - 0.3 * logits[:, 11].pow(2)


def model_of(family, double=True):
    hf = tiny(family)
    return cw.load(hf.double() if double else hf)


def task_of(n=3, width=6, seed=0, lengths=None, templates=None):
    generator = torch.Generator().manual_seed(seed)
    clean, other = (torch.randint(3, 40, (n, width), generator=generator) for _ in range(2))
    mask = torch.ones(n, width, dtype=torch.bool)
    for row, length in enumerate(lengths or []):
        mask[row, length:] = False
    task = Task.from_tokens(clean, other, [1] * n, [2] * n, mask=mask, template=templates)
    metric = bind(difference, task.metric.target, "difference")
    return replace(task, metric=Wide(metric.name, metric.function, metric.target))


class Wide(Metric):
    """The metric in the logits' own precision: laws are held to 1e-9."""

    def __call__(self, logits, rows=None):
        return self.function(logits, self.target)


def values(model, task, batch):
    """The metric of each row of a plain run."""
    return task.metric(task.at_end(model.run(batch))).double()
