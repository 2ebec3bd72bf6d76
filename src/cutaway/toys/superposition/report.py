"""What an experiment gives: checks with truth beside measurement, evidence, and the panels of its figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cutaway.core import Estimate, Evidence, atomic_path, write_json
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns

Rule = Literal["equal", "at least", "at most"]


@dataclass(frozen=True)
class Check:
    """One number beside what theory says of it. "equal": within `tolerance` of the truth; "at least", "at most": on
    its right side by no less than -`tolerance`. A number that could not be formed fails."""

    name: str
    truth: float
    estimate: Estimate
    tolerance: float = 0.0
    rule: Rule = "equal"
    why: str = ""

    @property
    def passed(self) -> bool:
        apart = self.estimate.value - self.truth
        if not math.isfinite(apart):
            return False
        if self.rule == "equal":
            return abs(apart) <= self.tolerance
        return apart >= -self.tolerance if self.rule == "at least" else apart <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        interval = self.estimate.interval
        return {
            "name": self.name,
            "truth": self.truth,
            "rule": self.rule,
            "estimate": self.estimate.value if math.isfinite(self.estimate.value) else None,
            "interval": None if interval is None else [interval.low, interval.high],
            "n": self.estimate.n,
            "tolerance": self.tolerance,
            "passed": self.passed,
            "why": self.why,
        }


@dataclass(frozen=True, eq=False)
class Experiment(Drawn):
    """One experiment of the paper, made again. `data` holds what the figure draws, as plain lists and numbers.

    `evidence` compares with the null: the linear network, or features without the property asked about.
    """

    name: str
    claim: str
    setting: str
    checks: tuple[Check, ...]
    evidence: tuple[Evidence, ...]
    data: Mapping[str, Any]
    draw: Callable[[Any, Mapping[str, Any]], None] = field(repr=False)
    size: tuple[float, float] = (10.0, 3.6)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def __str__(self) -> str:
        rows = [["", "check", "theory", "measured", "n", "", "allowed"]]
        sign = {"equal": "=", "at least": ">=", "at most": "<="}
        for check in self.checks:
            interval = f" {check.estimate.interval}" if check.estimate.interval else ""
            rows.append(
                [
                    "pass" if check.passed else "FAIL",
                    check.name,
                    f"{sign[check.rule]} {check.truth:.4g}",
                    f"{check.estimate.value:.4g}{check.estimate.unit}{interval}",
                    str(check.estimate.n),
                    check.estimate.note,
                    f"±{check.tolerance:.2g}" if check.tolerance else "",
                ]
            )
        head = f"{self.name}: {self.claim}\n  {self.setting}; {self.seconds:.1f} s"
        return "\n".join([head, *columns(rows, right=(4,)), *(f"{one}" for one in self.evidence)])

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.superposition/1",
            "name": self.name,
            "claim": self.claim,
            "setting": self.setting,
            "passed": self.passed,
            "seconds": round(self.seconds, 2),
            "rows": [check.to_json() for check in self.checks],
            "evidence": [one.to_json() for one in self.evidence],
            "data": dict(self.data),
        }

    def figure(self) -> Any:
        """A matplotlib Figure, drawn without touching pyplot or any global setting."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=self.size, layout="constrained", dpi=130)
        self.draw(figure, self.data)
        verdict = "passes" if self.passed else "FAILS " + ", ".join(c.name for c in self.checks if not c.passed)
        figure.suptitle(f"{self.name}: {verdict}", fontsize=10)
        return figure

    def save(self, folder: Path) -> None:
        """Writes NAME.png and NAME.json into the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / f"{self.name}.png") as target:
            self.figure().savefig(target, format="png")
        write_json(folder / f"{self.name}.json", self.to_json())


@dataclass(frozen=True, eq=False)
class Experiments(Drawn):
    """Several experiments."""

    done: Sequence[Experiment]

    @property
    def passed(self) -> bool:
        return all(one.passed for one in self.done)

    def __str__(self) -> str:
        text = "\n\n".join(str(one) for one in self.done)
        if len(self.done) == 1:
            return text
        checks = [check for one in self.done for check in one.checks]
        total = sum(one.seconds for one in self.done)
        good = sum(check.passed for check in checks)
        return f"{text}\n\n{len(self.done)} experiments, {good} of {len(checks)} checks passed, {total:.0f} s"

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.superposition-several/1",
            "passed": self.passed,
            "experiments": [one.to_json() for one in self.done],
        }


def number(name: str, value: float, n: int, **more: Any) -> Estimate:
    """A number without an interval: one that a law gives, or the whole of what there is."""
    return Estimate(name=name, value=float(value), n=n, **more)
