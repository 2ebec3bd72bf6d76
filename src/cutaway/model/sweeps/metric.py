"""What a sweep measures: a number a row from the logits [row, vocab] at the column where the answer is read."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError


@dataclass(frozen=True, eq=False)
class LogitDifference:
    """logit(answer) - logit(wrong) (Wang et al. 2022); without `wrong`, logit(answer). Both [row] token ids.

    Needs only these tokens' logits, which a plan then unembeds alone.
    """

    answers: Tensor
    wrong: Tensor | None = None

    @property
    def name(self) -> str:
        return "logit_difference" if self.wrong is not None else "logit"

    @property
    def tokens(self) -> Tensor:
        """[row, k] the tokens whose logits are needed."""
        pair = (self.answers,) if self.wrong is None else (self.answers, self.wrong)
        return torch.stack(pair, 1)

    def of(self, few: Tensor) -> Tensor:
        """[lane, k] logits of `tokens` -> [lane]."""
        return few[:, 0] if self.wrong is None else few[:, 0] - few[:, 1]

    def __call__(self, logits: Tensor, rows: Tensor | None = None) -> Tensor:
        tokens = (self.tokens if rows is None else self.tokens[rows.cpu()]).to(logits.device)
        if not 0 <= int(tokens.min()) <= int(tokens.max()) < logits.shape[1]:
            raise InputError(
                f"the answers are tokens {int(tokens.min())} … {int(tokens.max())}; the model gives {logits.shape[1]} "
                f"logits (0 … {logits.shape[1] - 1})."
            )
        return self.of(logits.gather(1, tokens))


class Measure:
    """A metric asked for some rows: given the logits of all rows, or as `metric(logits, rows)` where it takes them."""

    def __init__(self, metric: Callable[..., Tensor], n: int, base: Tensor) -> None:
        if not callable(metric):
            raise InputError(
                f"metric= is a function of logits [row, vocab] that gives one number a row; given {metric!r}."
            )
        self.metric, self.n, self._base = metric, n, base
        self.by_rows = _takes_rows(metric)
        target = getattr(metric, "target", None)
        difference: Any = metric
        if getattr(metric, "name", "") == "logit_difference" and getattr(target, "wrong", None) is not None:
            difference = LogitDifference(target.answers, target.wrong)  # type: ignore[union-attr]
        self.few = difference if isinstance(difference, LogitDifference) else None
        self.base = self._checked(metric(base), n)
        if self.few is not None and len(self.few.answers) != n:
            raise InputError(f"the metric has answers for {len(self.few.answers)} rows; the batch has {n}.")

    @property
    def name(self) -> str:
        named = getattr(self.metric, "name", None) or getattr(self.metric, "__name__", type(self.metric).__name__)
        return str(named)

    def __call__(self, logits: Tensor, rows: Tensor) -> Tensor:
        """logits [lane, vocab], rows [lane] of one cell, none twice -> [lane]."""
        if self.by_rows:
            return self._checked(self.metric(logits, rows), len(rows))
        whole = self._base.clone()
        whole[rows] = logits.to(whole)
        return self._checked(self.metric(whole), self.n)[rows]

    @staticmethod
    def _checked(value: Any, n: int) -> Tensor:
        if not isinstance(value, Tensor) or value.shape != (n,):
            shown = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"metric= must give one number a row, [{n}]; it gave {shown}.")
        return value.detach().float().cpu() if value.dtype != torch.float64 else value.detach().cpu()


def _takes_rows(metric: Callable[..., Tensor]) -> bool:
    try:
        return "rows" in inspect.signature(metric).parameters
    except (TypeError, ValueError):
        return False
