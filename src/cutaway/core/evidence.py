"""The record that every result carries: effect, interval, null, baseline, n, seeds, how it was made.

No finding is printed alone. Beside an effect stand the same procedure on something that learned nothing (the null), the
simplest method that could do the same (the baseline), and the interval. What was not done is said in `not_done`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)


class Interval(_Record):
    """An interval at `level` for an estimate; `method` says how ("bootstrap over features", "Wilson", …).

    One that could not be formed has NaN for both ends. In JSON an end that is not finite is null; it is read as NaN.
    """

    low: float
    high: float
    level: float = Field(default=0.95, gt=0, lt=1)
    method: str

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if self.low > self.high:
            raise ValueError(f"an interval's low end lies above its high end: [{self.low}, {self.high}]")
        return self

    @field_serializer("low", "high")
    def _finite(self, value: float) -> float | None:
        return value if math.isfinite(value) else None

    def __str__(self) -> str:
        defined = math.isfinite(self.low) and math.isfinite(self.high)
        return f"[{self.low:.3g}, {self.high:.3g}]" if defined else "[undefined]"


class Estimate(_Record):
    """One measured number. `n` counts the units that the interval is over. A value that could not be formed is NaN."""

    name: str
    value: float
    interval: Interval | None = None
    n: int = Field(ge=0)
    unit: str = ""
    note: str = ""

    @field_serializer("value")
    def _finite(self, value: float) -> float | None:
        return value if math.isfinite(value) else None

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return f"undefined (n={self.n})"
        span = f" {self.interval}" if self.interval else ""
        return f"{self.value:.3g}{self.unit}{span} (n={self.n})"


class Comparison(_Record):
    """A null or a baseline, and the interval of (effect - this) where the two were measured on the same units."""

    estimate: Estimate
    difference: Interval | None = None

    def __str__(self) -> str:
        apart = f", effect - this {self.difference}" if self.difference else ""
        return f"{self.estimate.name}: {self.estimate}{apart}"


class TailItem(_Record):
    """One item where the explanation fails, worst first: the sceptic's residual tail."""

    item: str
    predicted: float
    measured: float

    @field_serializer("predicted", "measured")
    def _finite(self, value: float) -> float | None:
        return value if math.isfinite(value) else None


class NotDone(_Record):
    """A control that was not run, and why."""

    what: str
    why: str


Verdict = Literal[
    "distinguishable from null",
    "not distinguishable from null",
    "worse than null",
    "beaten by a baseline",
    "no null was run",
    "undefined",
]


class Evidence(_Record):
    """How far to believe one claim. Every method's result carries one (or a tuple of them).

    `better` says which way the effect counts: an accuracy or a correlation is better "higher", an error "lower".
    `settings` holds JSON values: tuples become lists, numbers that are not finite become None.
    A null that was run but came out undefined (NaN) settles nothing: it is named in `verdict_text`.
    """

    claim: str
    effect: Estimate
    better: Literal["higher", "lower"] = "higher"
    nulls: tuple[Comparison, ...] = ()
    baselines: tuple[Comparison, ...] = ()
    seeds: tuple[int, ...] = ()
    how: str
    settings: dict[str, Any] = Field(default_factory=dict)
    second_data: Estimate | None = None
    paraphrase: Estimate | None = None
    residual_tail: tuple[TailItem, ...] = ()
    not_done: tuple[NotDone, ...] = ()

    @field_validator("settings", mode="before")
    @classmethod
    def _json_settings(cls, value: Any) -> Any:
        return _json_value(value)

    @property
    def verdict(self) -> Verdict:
        """In words. A difference counts when its interval excludes zero; without one, when the intervals are apart.

        "worse than null": something that should be without effect (or a rival) does surely better.
        """
        defined = [null for null in self.nulls if math.isfinite(null.estimate.value)]
        if not math.isfinite(self.effect.value) or (self.nulls and not defined):
            return "undefined"
        if not defined:
            return "no null was run"
        if any(self._beaten_by(null) for null in defined):
            return "worse than null"
        if not all(self._exceeds(null) for null in defined):
            return "not distinguishable from null"
        if any(self._beaten_by(baseline) for baseline in self.baselines):
            return "beaten by a baseline"
        return "distinguishable from null"

    @property
    def verdict_text(self) -> str:
        """The verdict with the names of the nulls matched, of those undefined, or of the baselines that win."""
        text: str = self.verdict
        if text == "beaten by a baseline":
            text = "beaten by " + ", ".join(b.estimate.name for b in self.baselines if self._beaten_by(b))
        elif text == "worse than null":
            better = ", ".join(n.estimate.name for n in self.nulls if self._beaten_by(n))
            text += f" ({better} surely does better)"
        elif text == "not distinguishable from null":
            defined = [null for null in self.nulls if math.isfinite(null.estimate.value)]
            text += f" ({', '.join(n.estimate.name for n in defined if not self._exceeds(n))})"
        undefined = [n.estimate.name for n in self.nulls if not math.isfinite(n.estimate.value)]
        return text + (f"; undefined null: {', '.join(undefined)}" if undefined else "")

    def _exceeds(self, other: Comparison) -> bool:
        """Whether the effect is better than the other by more than their uncertainty."""
        return _apart(self.effect, other.estimate, other.difference, 1 if self.better == "higher" else -1)

    def _beaten_by(self, other: Comparison) -> bool:
        """Whether the other is better than the effect by more than their uncertainty."""
        return _apart(self.effect, other.estimate, other.difference, -1 if self.better == "higher" else 1)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; the verdict is written out, since it is derived."""
        return {**self.model_dump(mode="json"), "verdict": self.verdict, "verdict_text": self.verdict_text}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Evidence:
        """Read what `to_json` wrote. Undefined numbers come back as NaN."""
        derived = ("verdict", "verdict_text", "settings")
        data = _none_to_nan({key: item for key, item in value.items() if key not in derived})
        return cls.model_validate({**data, "settings": value.get("settings", {})})

    def __str__(self) -> str:
        lines = [self.claim, f"  effect     {self.effect.name}: {self.effect}"]
        lines += [f"  null       {n}" for n in self.nulls]
        lines += [f"  baseline   {b}" for b in self.baselines]
        if self.second_data:
            lines.append(f"  2nd data   {self.second_data.name}: {self.second_data}")
        if self.paraphrase:
            lines.append(f"  paraphrase {self.paraphrase.name}: {self.paraphrase}")
        lines += [f"  not done   {item.what}: {item.why}" for item in self.not_done]
        lines.append(f"  verdict    {self.verdict_text}")
        return "\n".join(lines)


def _apart(effect: Estimate, other: Estimate, difference: Interval | None, sign: int) -> bool:
    """Whether sign * (effect - other) is surely above zero; an undefined number or interval is never sure."""
    if not (math.isfinite(effect.value) and math.isfinite(other.value)):
        return False
    if difference is not None:
        return difference.low > 0 if sign > 0 else difference.high < 0
    low, high = _ends(effect)
    other_low, other_high = _ends(other)
    return low > other_high if sign > 0 else high < other_low


def _ends(estimate: Estimate) -> tuple[float, float]:
    if estimate.interval is None:
        return estimate.value, estimate.value
    return estimate.interval.low, estimate.interval.high


_NUMBERS = ("value", "low", "high", "predicted", "measured")


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"settings hold JSON values; {type(value).__name__} is none")


def _none_to_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: (math.nan if item is None and key in _NUMBERS else _none_to_nan(item)) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_none_to_nan(item) for item in value]
    return value
