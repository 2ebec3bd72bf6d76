"""A sweep as text: what was done, a heatmap of numbers, the largest parts with intervals and null, the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from cutaway.model.sweeps.result import Sweep

WIDE, TALL, LARGEST = 26, 40, 8  # columns and rows of the map, cells in the list


def render(sweep: Sweep) -> str:
    return "\n".join([*_head(sweep), "", *_map(sweep), "", *_largest(sweep), "", *_believe(sweep)])


def _head(s: Sweep) -> list[str]:
    n = len(s.clean)
    what = " and ".join(s.axes.names)
    doing = {
        "denoise": "the counterfactual's run, one part at a time set to what it was in the clean run",
        "noise": "the clean run, one part at a time set to what it was in the counterfactual's run",
        "zero": "the clean run, one part at a time set to zero",
        "mean": "the clean run, one part at a time set to its mean (per position and template)",
        "resample": "the clean run, one part at a time taken from another item's counterfactual run",
    }[s.how]
    lines = [
        f"{s.at} by {what} in {s.model} on {s.task}: {s.how}",
        f"  {doing}",
        f"  {s.metric}, mean over {n} item{'s' if n > 1 else ''} [95 % interval]: clean {_range(s, s.clean)}"
        + ("" if s.counterfactual is None else f", counterfactual {_range(s, s.counterfactual)}"),
    ]
    return [*lines, f"  {s.note}"] if s.note else lines


def _range(s: Sweep, values: Tensor) -> str:
    estimate = s._mean("", values)
    span = f" {estimate.interval}" if estimate.interval else ""
    return f"{estimate.value:.3g}{span}{f' {s.unit}' if s.unit else ''}"


def _scale(s: Sweep) -> tuple[float, str]:
    """(what effects are multiplied by in the map, what its numbers are)."""
    if s.gap is not None:
        ends = "counterfactual (0) to clean (100)" if s.how == "denoise" else "clean (0) to counterfactual (100)"
        return 100.0, f"per cent of the way from {ends}"
    largest = float(s.effect.abs().nan_to_num(0).max())
    change = f"change of {s.metric}{f' in {s.unit}' if s.unit else ''}"
    if s.how in ("denoise", "noise"):
        change += " (clean and counterfactual do not surely differ, so no share of their gap can be formed)"
    if largest >= 10:
        return 1.0, change
    return 100.0, f"{change}, in hundredths"


def _map(s: Sweep) -> list[str]:
    factor, unit = _scale(s)
    rows, columns, table, corner, note = _table(s, s.effect * factor)
    shown = list(range(len(rows)))
    if len(rows) > TALL:
        sizes = table.abs().nan_to_num(0).amax(1)
        shown = sorted(sizes.argsort(descending=True)[:TALL].tolist())
        note += f"; the {TALL} of {len(rows)} rows with the largest entry"
    width = max(4, *(len(c) for c in columns)) + 1
    side = max(len(corner), *(len(rows[i]) for i in shown)) + 1
    lines = [
        f"  {unit}; · is nearer 0 than half a unit{note}",
        "  " + corner.ljust(side) + "".join(c.rjust(width) for c in columns),
    ]
    for i in shown:
        lines.append("  " + rows[i].ljust(side) + "".join(_cell(float(v)).rjust(width) for v in table[i]))
    if any(t.startswith("‹") for t in s.tokens):
        lines.append("  ‹ ›: the token differs between items; the first item's is shown")
    return lines


def _table(s: Sweep, effect: Tensor) -> tuple[list[str], list[str], Tensor, str, str]:
    """(row labels, column labels, [row, column], what they are, which were left out)."""
    names, labels = s.axes.names, s.labels
    if effect.ndim == 1:
        return [""], list(labels[0]), effect[None], "layer", ""
    if effect.ndim == 2 and names[1] == "position":
        return _positions(s), list(labels[0]), effect.T, "position \\ layer", ""
    if effect.ndim == 2:
        table, columns, note = _top_columns(effect, labels[1], names[1], WIDE)
        return list(labels[0]), columns, table, f"layer \\ {names[1]}", note
    flat = effect.movedim(names.index("position"), 0).flatten(1)  # [position, layer x part]
    part = next(name for name in names[1:] if name != "position")
    both = [f"{a}.{b}" for a in labels[0] for b in labels[names.index(part)]]
    table, columns, note = _top_columns(flat, both, f"layer.{part}", 14)
    return _positions(s), columns, table, f"position \\ layer.{part}", note


def _top_columns(table: Tensor, columns: Sequence[str], what: str, most: int) -> tuple[Tensor, list[str], str]:
    """The columns with the largest entries, in their own order."""
    if len(columns) <= most:
        return table, list(columns), ""
    sizes = table.abs().nan_to_num(0).amax(0)
    chosen = sorted(sizes.argsort(descending=True)[:most].tolist())
    note = f"; the {most} of {len(columns)} {what}s with the largest entry"
    return table[:, chosen], [columns[i] for i in chosen], note


def _cell(value: float) -> str:
    if value != value:
        return ""
    return "·" if abs(value) < 0.5 else f"{value:.0f}"


def _positions(s: Sweep) -> list[str]:
    places = s.labels[s.axes.names.index("position")]
    wide = max(len(p) for p in places)
    return [f"{place.rjust(wide)} {_word(token)}" for place, token in zip(places, s.tokens)]


def _word(token: str) -> str:
    text = token.replace("\n", "⏎").replace("\t", "⇥").strip() or "␣"
    return text if len(text) <= 14 else text[:13] + "…"


def _largest(s: Sweep) -> list[str]:
    order = s.order()[:LARGEST]
    low, high = (x.flatten() for x in s.interval)
    effect = s.effect.flatten()
    null = None if s.null_effect is None else s.null_effect.flatten()
    name = max(24, *(len(s.label(i)) for i in order))
    beside = "" if null is None else f" {'null':>8}"
    lines = [f"  {'largest parts':{name}} {'effect':>8} {'95 % interval':>18}{beside}"]
    for i in order:
        if not bool(effect[i].isfinite()):
            continue
        span = f"[{low[i]:.3g}, {high[i]:.3g}]" if bool((low[i] + high[i]).isfinite()) else "one item"
        beside = "" if null is None else f" {float(null[i]):8.3g}"
        lines.append(f"  {s.label(i):{name}} {float(effect[i]):8.3g} {span:>18}{beside}")
    lines.append(f"  effect: {s.effect_unit}" + ("" if null is None else f"; null: the same with {s.null_name}"))
    return lines


def _believe(s: Sweep) -> list[str]:
    lines = ["How far to believe it", *(f"  {line}" for line in str(s.evidence).splitlines())]
    return lines
