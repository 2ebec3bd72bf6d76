"""One item of a task: its two prompts as text and as tokens, its answers, where its named positions are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

USUAL = 64  # items, where no number is asked for


@dataclass(frozen=True)
class Item:
    """The text of one pair, for people. `values` holds what was drawn (names, numbers, …); `template` its number."""

    clean: str
    counterfactual: str
    answer: str
    wrong: str | None = None
    counterfactual_answer: str | None = None
    template: int = 0
    values: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        against = "" if self.wrong is None else f", not {self.wrong!r}"
        return f"{self.clean!r} -> {self.answer!r}{against} / {self.counterfactual!r}"

    def to_json(self) -> dict[str, Any]:
        return {
            "clean": self.clean,
            "counterfactual": self.counterfactual,
            "answer": self.answer,
            "wrong": self.wrong,
            "counterfactual_answer": self.counterfactual_answer,
            "template": self.template,
            "values": dict(self.values),
        }


@dataclass(frozen=True)
class Pair:
    """One item as tokens. Positions count the row's own tokens from 0; "end" is the last where it is not given.

    `valid` and `invalid`: where more than one token is right, all that are right and all that are wrong.
    """

    clean: tuple[int, ...]
    counterfactual: tuple[int, ...]
    answer: int
    item: Item
    wrong: int | None = None
    counterfactual_answer: int | None = None
    positions: Mapping[str, int] = field(default_factory=dict)
    valid: tuple[int, ...] = ()
    invalid: tuple[int, ...] = ()
