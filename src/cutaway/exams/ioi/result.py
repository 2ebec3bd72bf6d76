"""What `ioi_case` gives: the circuit in heads, its classes, and the criteria it is held to, as text and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cutaway.circuits import Circuit, Faithfulness
from cutaway.core import Estimate
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import bootstrap
from cutaway.exams.ioi.behaviours import Behaviours
from cutaway.exams.ioi.classes import CLASSES, Named

SCHEMA = "cutaway.ioi/1"


@dataclass(frozen=True)
class Criterion:
    """A figure and what it is asked to be."""

    name: str
    value: float
    asked: str
    met: bool
    estimate: Estimate | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": self.value,
            "asked": self.asked,
            "met": self.met,
            "interval": None
            if self.estimate is None or self.estimate.interval is None
            else [self.estimate.interval.low, self.estimate.interval.high],
        }


@dataclass(frozen=True, eq=False, repr=False)
class IOICase(Drawn):
    """`circuit` holds the scores' parts and evidence; `heads` are in it; `named` has the classes; `behaviours` what
    every head of the model was measured to do. `flipped`: faithfulness where S2 becomes IO, not searched under."""

    model: str
    competence: Any
    circuit: Circuit
    heads: tuple[str, ...]
    named: Named
    behaviours: Behaviours
    criteria: tuple[Criterion, ...]
    flipped: Faithfulness

    @property
    def passed(self) -> bool:
        return all(one.met for one in self.criteria)

    @property
    def evidence(self) -> Any:
        return self.circuit.evidence

    def to_json(self) -> dict[str, Any]:
        b = self.behaviours
        return {
            "schema": SCHEMA,
            "model": self.model,
            "competence": self.competence.to_json(),
            "heads": list(self.heads),
            "of": len(b.heads),
            "criteria": [one.to_json() for one in self.criteria],
            "passed": self.passed,
            "classes": {
                c: {"circuit": list(self.named.inside[c]), "others": list(self.named.outside[c])} for c in CLASSES
            },
            "absent": list(self.named.absent),
            "measured": [
                {
                    "head": head,
                    "in_circuit": head in self.heads,
                    "classes": list(self.named.of(head)),
                    "values": {name: round(value, 5) for name, value in b.row(head).items()},
                }
                for head in b.heads
            ],
            "null": b.null,
            "metric": b.whole,
            "flipped": self.flipped.to_json(),
            "circuit": self.circuit.to_json(),
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        blocks = [self._title(), self._criteria(), self._heads(), self._classes()]
        blocks += [str(part) for part in self.circuit.parts.values()]
        blocks.append(f"Where S2 becomes IO (not searched under)\n  {self.flipped}")
        blocks += [str(item) for item in self.evidence]
        return "\n\n".join(blocks)

    __repr__ = __str__

    def _title(self) -> str:
        n = self.circuit.choices
        return (
            f"Indirect objects in {self.model}: {len(self.heads)} of {len(self.behaviours.heads)} heads, found on "
            f"{n['n']} items, judged on {n['judged_on']} others; mean logit difference {self.behaviours.whole:.3g}\n"
            f"{self.competence.verdict}"
        )

    def _criteria(self) -> str:
        rows = [("", "measured", "asked", "")]
        for one in self.criteria:
            measured = f"{one.value:.3g}" if one.estimate is None else str(one.estimate)
            rows.append((one.name, measured, one.asked, "met" if one.met else "MISSED"))
        return "\n".join(["What it is held to", *columns(rows)])

    def _heads(self) -> str:
        """The circuit's heads, and others that have a class."""
        b = self.behaviours
        shown = [*self.heads, *(h for h in b.heads if h not in self.heads and self.named.of(h))]
        head = (
            "head", "direct effect", "lowers S", "via queries", "alone", "joint", "END-IO", "END-S1", "END-S2", "S2-S1",
            "S2-S1+1", "S1+1-S1", "copies", "prev", "dup", "ind", "class",
        )  # fmt: skip
        rows: list[tuple[str, ...]] = [head]
        more = ("lowers S", "through queries of name movers", "alone", "joint")
        for name in shown:
            v, i = b.row(name), b.heads.index(name)
            effect = bootstrap(b.effects["direct effect"][i].tolist(), over="items")
            rows.append(
                (
                    name if name in self.heads else f"({name})",
                    f"{v['direct effect']:+.2f} {effect.interval}",
                    *(f"{v.get(k, np.nan):+.2f}" for k in more),
                    *(f"{v[k]:.2f}" for k in b.attention),
                    f"{v['copying']:.2f}" if "copying" in v else "-",
                    *(f"{v[k]:.2f}" for k in ("previous token", "duplicate token", "prefix matching")),
                    ", ".join(self.named.of(name)) or "none",
                )
            )
        n = len(next(iter(b.effects.values()))[0])
        note = (
            f"Heads, n={n} items (in brackets: not in the circuit). Effects in logits lost: direct; of it, by\n"
            "holding S down; through the queries of the name movers; ablated alone; ablated when the name movers are. "
            "Mean\nattention from-to. "
            "copies: share of names copied. prev, dup, ind: previous token, duplicate token, prefix matching on random "
            "tokens"
        )
        return "\n".join([note, *columns(rows, right=range(2, 16))])

    def _classes(self) -> str:
        rows = [("class", "in the circuit", "other heads")]
        for c in CLASSES:
            inside, outside = ", ".join(self.named.inside[c]), ", ".join(self.named.outside[c])
            rows.append((c, inside or ("absent" if c in self.named.absent else "-"), outside or "-"))
        return "\n".join(["Classes, by measured behaviour", *columns(rows)])
