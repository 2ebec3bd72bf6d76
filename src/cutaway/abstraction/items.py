"""The items of one job: what was asked for, the counterfactuals drawn for it, and which of them are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cutaway.abstraction.causal_model import CausalModel
from cutaway.abstraction.counterfactuals import Counterfactuals, Hypothesis, counterfactuals
from cutaway.abstraction.data import Data
from cutaway.abstraction.score import balanced
from cutaway.abstraction.train import Training
from cutaway.core import CutawayError

LEAST = 16  # held-out items below which nothing is said


@dataclass(frozen=True, eq=False)
class Settings:
    """What was asked for; with the causal model and the places, all that a result depends on."""

    n: int
    n_test: int
    seeds: tuple[int, ...]
    seed: int
    only_right: bool
    training: Training = field(default_factory=Training)


def drawn(
    causal: CausalModel, variables: tuple[str, ...], settings: Settings, rivals: Sequence[Hypothesis]
) -> tuple[Counterfactuals, int]:
    """Training items and then held-out ones, and the number of the first of these."""
    more: Any = {"seed": settings.seed, "rivals": rivals}
    for_training = counterfactuals(causal, variables, settings.n, part="train", **more)
    for_test = counterfactuals(causal, variables, settings.n_test, part="test", **more)
    return for_training.plus(for_test), len(for_training)


def split(data: Data, first_test: int, only_right: bool) -> tuple[Tensor, Tensor]:
    """(items to train on, items to measure on), each with as many that change the answer as that do not."""
    every = torch.arange(len(data))
    kept = data.competent if only_right else torch.ones_like(data.competent)
    train_rows = balanced(every[:first_test][kept[:first_test]], data.changes)
    test_rows = balanced(every[first_test:][kept[first_test:]], data.changes)
    if len(test_rows) < LEAST or len(train_rows) < LEAST:
        share_right = float(data.competent.float().mean())
        raise CutawayError(
            f"{len(train_rows)} items to train on and {len(test_rows)} held out are left, fewer than {LEAST}: "
            f"{data.model.name} is right on base and sources of {share_right:.0%} of {len(data)} items. "
            "Ask for more with n= and n_test=, write the prompts as the network knows them, or pass only_right=False."
        )
    return train_rows, test_rows
