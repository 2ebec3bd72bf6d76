"""The record that every result carries: effect, interval, null, baseline, n, seeds, how it was made.

No finding is printed alone. Beside an effect stand the same procedure on something that learned nothing (the null), the
simplest method that could do the same (the baseline), and the interval. What was not done is said in `not_done`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)


class Interval(_Record):
    """An interval at `level` for an estimate; `method` says how ("bootstrap over features", "Wilson", …)."""

    low: float
    high: float
    level: float = 0.95
    method: str

    @field_serializer("low", "high")
    def _finite(self, value: float) -> float | None:
        return value if math.isfinite(value) else None


class Estimate(_Record):
    """One measured number. `n` counts the units that the interval is over. A value that could not be formed is NaN."""

    name: str
    value: float
    interval: Interval | None = None
    n: int
    unit: str = ""
    note: str = ""

    @field_serializer("value")
    def _finite(self, value: float) -> float | None:
        return value if math.isfinite(value) else None

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return f"undefined (n={self.n})"
        span = f" [{self.interval.low:.3g}, {self.interval.high:.3g}]" if self.interval else ""
        return f"{self.value:.3g}{self.unit}{span} (n={self.n})"


class Comparison(_Record):
    """A null or a baseline, and the interval of (effect - this) where the two were measured on the same units."""

    estimate: Estimate
    difference: Interval | None = None


class TailItem(_Record):
    """One item where the explanation fails, worst first: the sceptic's residual tail."""

    item: str
    predicted: float
    measured: float


class NotDone(_Record):
    """A control that was not run, and why."""

    what: str
    why: str


Verdict = Literal[
    "distinguishable from null",
    "not distinguishable from null",
    "beaten by a baseline",
    "no null was run",
    "undefined",
]


class Evidence(_Record):
    """How far to believe one claim. Every method's result carries one (or a tuple of them)."""

    claim: str
    effect: Estimate
    nulls: tuple[Comparison, ...] = ()
    baselines: tuple[Comparison, ...] = ()
    seeds: tuple[int, ...] = ()
    how: str
    settings: dict[str, Any] = Field(default_factory=dict)
    second_data: Estimate | None = None
    paraphrase: Estimate | None = None
    residual_tail: tuple[TailItem, ...] = ()
    not_done: tuple[NotDone, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """In words. A difference counts when its interval excludes zero; unpaired, when the intervals are apart."""
        if not math.isfinite(self.effect.value):
            return "undefined"
        if not any(math.isfinite(null.estimate.value) for null in self.nulls):
            return "no null was run"
        if not all(_exceeds(self.effect, null) for null in self.nulls if math.isfinite(null.estimate.value)):
            return "not distinguishable from null"
        if any(_beaten(self.effect, baseline) for baseline in self.baselines):
            return "beaten by a baseline"
        return "distinguishable from null"

    @property
    def verdict_text(self) -> str:
        """The verdict with the names of the nulls matched or of the baselines that win."""
        if self.verdict == "beaten by a baseline":
            return "beaten by " + ", ".join(b.estimate.name for b in self.baselines if _beaten(self.effect, b))
        if self.verdict == "not distinguishable from null":
            matched = [n.estimate.name for n in self.nulls if not _exceeds(self.effect, n)]
            return f"not distinguishable from null ({', '.join(matched)})"
        return self.verdict

    def to_json(self) -> dict[str, Any]:
        """A JSON object; the verdict is written out, since it is derived."""
        return {**self.model_dump(mode="json"), "verdict": self.verdict, "verdict_text": self.verdict_text}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Evidence:
        """Read what `to_json` wrote. Undefined numbers come back as NaN."""
        data = {key: item for key, item in value.items() if key not in ("verdict", "verdict_text")}
        return cls.model_validate(_none_to_nan(data))

    def __str__(self) -> str:
        lines = [self.claim, f"  effect     {self.effect.name}: {self.effect}"]
        lines += [f"  null       {n.estimate.name}: {n.estimate}" for n in self.nulls]
        lines += [f"  baseline   {b.estimate.name}: {b.estimate}" for b in self.baselines]
        if self.second_data:
            lines.append(f"  2nd data   {self.second_data.name}: {self.second_data}")
        if self.paraphrase:
            lines.append(f"  paraphrase {self.paraphrase.name}: {self.paraphrase}")
        lines += [f"  not done   {item.what}: {item.why}" for item in self.not_done]
        lines.append(f"  verdict    {self.verdict_text}")
        return "\n".join(lines)


def _exceeds(effect: Estimate, other: Comparison) -> bool:
    """Whether the effect lies above the other by more than their uncertainty."""
    if other.difference is not None:
        return other.difference.low > 0
    low = effect.interval.low if effect.interval else effect.value
    high = other.estimate.interval.high if other.estimate.interval else other.estimate.value
    return low > high


def _beaten(effect: Estimate, other: Comparison) -> bool:
    if not math.isfinite(other.estimate.value):
        return False
    if other.difference is not None:
        return other.difference.high < 0
    high = effect.interval.high if effect.interval else effect.value
    low = other.estimate.interval.low if other.estimate.interval else other.estimate.value
    return high < low


_NUMBERS = ("value", "low", "high")


def _none_to_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: (math.nan if item is None and key in _NUMBERS else _none_to_nan(item)) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_none_to_nan(item) for item in value]
    return value
