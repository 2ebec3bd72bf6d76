"""The exam of indirect objects: the criteria on almanac and on three seeds of a model made for it, and across seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cutaway.exams.ioi.across import across
from cutaway.exams.ioi.result import IOICase
from cutaway.exams.ioi.whole import ioi_case

SEEDS = ("ioi-0", "ioi-1", "ioi-2")


def ioi_exam(*, quick: bool = False, seed: int = 0, say: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
    """Rows: each criterion of `ioi_case` for each model, passed or not; Jaccard within a model, agreement across
    seeds, the five tests and gaps in completeness, reported. A row passes by the tolerance that it states.

    Some five minutes of one core; `quick`: almanac and two seeds with fewer items, one or two.
    """
    import cutaway as cw
    from cutaway.core.registry import shipped_models

    tell = say or (lambda _: None)
    names = [name for name in ("almanac", *SEEDS) if name in shipped_models()]
    names = names[:3] if quick else names
    cases = []
    rows: list[dict[str, Any]] = []
    for name in names:
        tell(f"  indirect objects in {name}")
        case = ioi_case(cw.load(name), quick=quick, seed=seed, say=lambda what: tell(f"    {what}"))
        rows += _rows(case)
        cases += [case] if name in SEEDS else []
    if len(cases) > 1:
        for item in across(cases, seed=seed).evidence:
            rows.append(_row(f"across seeds: {item.effect.name}", item.nulls[0].estimate, item.effect))
    return rows


def _rows(case: IOICase) -> list[dict[str, Any]]:
    n = int(case.circuit.choices["judged_on"])
    rows = []
    for one in case.criteria:
        interval = None if one.estimate is None or one.estimate.interval is None else one.estimate.interval
        rows.append(
            {
                "name": f"{case.model}: {one.name}",
                "truth": f"asked: {one.asked}",
                "estimate": float(one.value),
                "interval": None if interval is None else [interval.low, interval.high],
                "tolerance": one.asked,
                "passed": one.met,
                "n": n,
            }
        )
    for item in case.evidence:
        name = item.effect.name
        if name.startswith(("Jaccard", "mean |gap|", "share of the circuit's heads")):
            rows.append(_row(f"{case.model}: {name}", item.nulls[0].estimate if item.nulls else None, item.effect))
    for test in case.circuit.parts["tests"].tests if "tests" in case.circuit.parts else ():
        row = _row(f"{case.model}: {test.name}, {test.outcome} (Holm p {test.p_holm:.2g}); {test.statistic.name}", None,
                   test.statistic)  # fmt: skip
        rows.append(row)
    return rows


def _row(name: str, null: Any, effect: Any) -> dict[str, Any]:
    return {
        "name": name if null is None else f"{name} (null {null.value:.3g})",
        "truth": None,
        "estimate": effect.value,
        "interval": None if effect.interval is None else [effect.interval.low, effect.interval.high],
        "tolerance": None,
        "passed": None,
        "n": effect.n,
    }
