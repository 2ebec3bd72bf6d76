"""Measures over the checkpoints of a training run: a row a checkpoint, written as it comes, resumed after a stop."""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutaway.core import Estimate, Evidence, InputError, atomic_path, read_json, write_json
from cutaway.core.drawing import Drawn
from cutaway.core.protocols import Measure
from cutaway.development.changepoints import Changepoints, Kind, changepoints
from cutaway.development.checkpoints import Checkpoints, shapes

Floats = NDArray[np.float64]
SCHEMA = "cutaway.timeline/1"


@dataclass(frozen=True)
class Point:
    """One number at one checkpoint, with its interval where it has one."""

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    unit: str = ""
    note: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Timeline(Drawn):
    """series: name -> a Point a checkpoint. arrays: name -> [T, …]. found: changepoints of series."""

    name: str
    steps: tuple[int, ...]
    labels: tuple[str, ...]
    sources: tuple[str, ...]
    series: dict[str, tuple[Point, ...]]
    arrays: dict[str, Floats] = field(default_factory=dict)
    found: dict[str, Changepoints] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    notes: tuple[str, ...] = ()

    def values(self, series: str) -> Floats:
        """[T]. Raises InputError for an unknown series."""
        if series not in self.series:
            raise InputError(f"no series {series!r}; there are: {', '.join(self.series)}.")
        return np.array([point.value for point in self.series[series]])

    def with_changepoints(
        self, names: Sequence[str] | None = None, kind: Kind = "slope", most: int = 4, seed: int = 0
    ) -> Timeline:
        """The same with changepoints of the named series (all if None); series too short or constant are left out."""
        from dataclasses import replace

        found = dict(self.found)
        without: dict[str, list[str]] = {}
        for name in names or self.series:
            try:
                found[name] = changepoints(self.steps, self.values(name), kind, most=most, seed=seed)
            except InputError as error:
                if names is not None and name not in self.series:
                    raise
                without.setdefault(str(error), []).append(name)
        notes = [f"no changepoints of {', '.join(those)}: {why}" for why, those in without.items()]
        return replace(self, found=found, notes=tuple(dict.fromkeys([*self.notes, *notes])))

    def since(self, step: int) -> Timeline:
        """The checkpoints from a step on, without changepoints: the first steps change some series so much that what
        comes later is within the residuals of any fit to the whole."""
        from dataclasses import replace

        start = int(np.searchsorted(self.steps, step))
        return replace(
            self,
            steps=self.steps[start:],
            labels=self.labels[start:],
            sources=self.sources[start:],
            series={name: points[start:] for name, points in self.series.items()},
            arrays={name: values[start:] for name, values in self.arrays.items()},
            found={},
            evidence=(),
        )

    def stages(self, by: str) -> list[dict[str, Any]]:
        """Between the changepoints of one series: first and last step, and by how much every series changed."""
        if by not in self.found:
            return []
        cuts = [int(np.searchsorted(self.steps, step)) for step in self.found[by].steps]
        ends = [0, *cuts, len(self.steps) - 1]
        out = []
        for i, (a, b) in enumerate(itertools.pairwise(ends)):
            changes = {}
            for name in self.series:
                change = float(self.values(name)[b] - self.values(name)[a])
                changes[name] = change if math.isfinite(change) else None
            out.append({"name": f"{i + 1}", "from": self.steps[a], "to": self.steps[b], "changes": changes})
        return out

    def to_json(self, by: str | None = None) -> dict[str, Any]:
        """Panels to stack over one axis of steps; stages by the changepoints of one series (the first with some)."""
        by = by or next((name for name, one in self.found.items() if one.points), None)
        return {
            "schema": SCHEMA,
            "model": self.name,
            "x": {"label": "step", "scale": "log(step + 1)"},
            "steps": list(self.steps),
            "labels": list(self.labels),
            "sources": list(self.sources),
            "panels": [self._panel(name) for name in self.series],
            "stages": {"by": by, "items": self.stages(by) if by else []},
            "evidence": [item.to_json() for item in self.evidence],
            "notes": list(self.notes),
        }

    def _panel(self, name: str) -> dict[str, Any]:
        points = self.series[name]
        found = self.found.get(name)

        def numbers(which: str) -> list[float | None]:
            return [v if math.isfinite(v := float(getattr(p, which))) else None for p in points]

        return {
            "title": name,
            "unit": next((p.unit.strip() for p in points if p.unit), ""),
            "values": numbers("value"),
            "low": numbers("low"),
            "high": numbers("high"),
            "n": [p.n for p in points],
            "notes": [p.note for p in points],
            "changepoints": None if found is None else found.to_json(),
            "null": None
            if found is None
            else {"name": "checkpoints shuffled", "p of the next changepoint": found.next_p, "level": 0.02},
        }

    def __str__(self) -> str:
        from cutaway.core.table import columns

        names = list(self.series)
        shown = names if len(names) <= 10 else names[:10]
        rows = [("step", *shown)]
        keep = np.unique(np.linspace(0, len(self.steps) - 1, 24).astype(int)).tolist()
        for i in keep:
            rows.append((f"{self.steps[i]:,}", *(_cell(self.series[name][i]) for name in shown)))
        lines = [f"{self.name}: {len(self.steps)} checkpoints", *columns(rows, right=range(len(rows[0])))]
        if len(keep) < len(self.steps):
            lines.append(f"  ({len(keep)} of {len(self.steps)} checkpoints shown)")
        if len(shown) < len(names):
            lines.append(f"  (also measured: {', '.join(names[len(shown) :])})")
        doubted = sum(bool(p.note) for points in self.series.values() for p in points)
        if doubted:
            example = next(p.note for points in self.series.values() for p in points if p.note)
            lines.append(f"  ! marks {doubted} numbers with a caveat, as: {example}")
        if self.found:
            lines.append("changepoints (against the checkpoints shuffled):")
            lines += [f"  {name}: {one}" for name, one in self.found.items()]
        lines += [str(item) for item in self.evidence]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    __repr__ = __str__


def _cell(point: Point) -> str:
    mark = "!" if point.note else ""
    if not math.isfinite(point.value):
        return f"-{mark}"
    half = (point.high - point.low) / 2
    return f"{point.value:.4g}" + (f" ±{half:.2g}" if math.isfinite(half) else "") + mark


def timeline(
    checkpoints: Checkpoints,
    measures: Sequence[Measure],
    out: str | Path | None = None,
    on: Callable[[str], None] = lambda message: None,
) -> Timeline:
    """Every measure at every checkpoint.

    out: a folder to which each checkpoint's row is appended as it comes (`rows.jsonl`; arrays beside it). The same call
    on the same folder goes on where it stopped, and ends the same as one that was never stopped; with more checkpoints
    (a training that went on) it measures those that are new.
    A measure that is NaN at a checkpoint is kept as such, with its note. Costs what the measures cost, a checkpoint.
    Raises InputError: no measures, two of one name, a folder of other measures or of another training, a checkpoint of
    another architecture or one that cannot be read.
    """
    names = [measure.name for measure in measures]
    if not names or len(set(names)) < len(names):
        raise InputError(f"a timeline has measures of different names; given: {', '.join(names) or 'none'}.")
    folder = None if out is None else Path(out)
    rows: dict[int, dict[str, Any]] = {} if folder is None else _resumed(folder, measures)
    first: dict[str, tuple[int, ...]] | None = None
    for i, checkpoint in enumerate(checkpoints.items):
        if (known := rows.get(checkpoint.step)) is not None:
            if known["source"] != checkpoint.source:
                raise InputError(
                    f"{folder} has step {checkpoint.step} of {known['source']}, not of {checkpoint.source}: a timeline "
                    "is of one training; name another --out folder."
                )
            continue
        begun = time.perf_counter()
        if first is None and i > 0:
            first = shapes(checkpoints.open(checkpoints.items[0]))
        subject = checkpoints.open(checkpoint, first)
        first = shapes(subject) if first is None else first
        values: dict[str, Any] = {}
        arrays: dict[str, Floats] = {}
        for measure in measures:
            for name, value in measure(subject).items():
                if isinstance(value, (np.ndarray,)) or hasattr(value, "detach"):
                    arrays[name] = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
                else:
                    values[name] = _point(value)
        row = {
            "step": checkpoint.step,
            "label": checkpoint.label,
            "source": checkpoint.source,
            "values": values,
            "arrays": {name: value.tolist() for name, value in arrays.items()} if folder is None else sorted(arrays),
            "seconds": round(time.perf_counter() - begun, 2),
        }
        if folder is not None:
            _write(folder, row, arrays)
        rows[checkpoint.step] = row
        shown = ", ".join(f"{name} {_short(v['value'])}" for name, v in list(values.items())[:4])
        on(f"{i + 1}/{len(checkpoints)} {checkpoint.label}: {shown} ({row['seconds']:.1f} s)")
    return _assembled(checkpoints, [rows[c.step] for c in checkpoints.items], folder)


def _assembled(checkpoints: Checkpoints, rows: Sequence[Mapping[str, Any]], folder: Path | None) -> Timeline:
    names = list(dict.fromkeys(name for row in rows for name in row["values"]))
    missing: dict[str, Any] = {"value": None}
    series = {name: tuple(_read_point(row["values"].get(name, missing)) for row in rows) for name in names}
    arrays = {}
    for name in rows[0]["arrays"]:
        parts = [
            np.asarray(row["arrays"][name]) if folder is None else _read_array(folder, row["step"], name)
            for row in rows
        ]
        arrays[name] = np.stack(parts)
    return Timeline(
        name=checkpoints.name,
        steps=tuple(row["step"] for row in rows),
        labels=tuple(row["label"] for row in rows),
        sources=tuple(row["source"] for row in rows),
        series=series,
        arrays=arrays,
    )


def _point(value: Any) -> dict[str, Any]:
    if not isinstance(value, Estimate):
        number = float(value)
        return {"value": number if math.isfinite(number) else None}
    span = value.interval
    ends = (math.nan, math.nan) if span is None else (span.low, span.high)
    point: dict[str, Any] = {"value": value.value, "low": ends[0], "high": ends[1]}
    point = {k: v if math.isfinite(v) else None for k, v in point.items()}
    return {**point, "n": value.n, "unit": value.unit.strip(), "note": value.note}


def _read_point(row: Mapping[str, Any]) -> Point:
    values: dict[str, Any] = {key: math.nan if value is None else value for key, value in row.items()}
    return Point(**values)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _said(measures: Sequence[Measure]) -> dict[str, Any]:
    """name -> settings, as JSON gives them back."""
    said: dict[str, Any] = json.loads(json.dumps({m.name: dict(m.settings) for m in measures}, default=str))
    return said


def settings_in(out: str | Path | None) -> dict[str, dict[str, Any]]:
    """name -> settings of the measures of the timeline in a folder; empty where none is there. What a run chose by
    itself (the step of its chains) is looked up here when it goes on."""
    path = None if out is None else Path(out) / "settings.json"
    if path is None or not path.is_file():
        return {}
    body = read_json(path)
    found = body.get("measures") if isinstance(body, dict) else None
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise InputError(f"{path} holds no settings of a timeline; name another --out folder.")
    return found


def _resumed(folder: Path, measures: Sequence[Measure]) -> dict[int, dict[str, Any]]:
    """Rows that are whole; a last line cut short by a kill is dropped."""
    folder.mkdir(parents=True, exist_ok=True)
    settings, path = folder / "settings.json", folder / "rows.jsonl"
    asked = _said(measures)
    if settings.exists():
        if (differ := _differ(settings_in(folder), asked)) is not None:
            raise InputError(
                f"{folder} holds a timeline of other measures or settings ({differ}); name another --out folder, or "
                "ask for the same."
            )
    elif any(folder.iterdir()):
        raise InputError(f"{folder} holds other files; name an empty folder for a timeline.")
    else:
        write_json(settings, {"schema": f"{SCHEMA}.settings", "measures": asked})
    rows: dict[int, dict[str, Any]] = {}
    if path.exists():
        text = path.read_text(encoding="utf-8")
        whole = [line for line in text.split("\n")[:-1] if line]
        for i, line in enumerate(whole):
            row = _row(line, f"{path}, line {i + 1}")
            rows[row["step"]] = row
        if not text.endswith("\n"):
            with atomic_path(path) as temporary:
                temporary.write_text("".join(line + "\n" for line in whole), encoding="utf-8")
    return rows


def _row(line: str, where: str) -> dict[str, Any]:
    """A line of rows.jsonl. Raises InputError where it is none."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        row = None
    kinds = {"step": int, "label": str, "source": str, "values": dict, "arrays": list}
    if not isinstance(row, dict) or any(not isinstance(row.get(key), kind) for key, kind in kinds.items()):
        raise InputError(f"{where}: no row of a timeline; without the line, its checkpoint is measured again.")
    fields = Point.__dataclass_fields__
    for name, point in row["values"].items():
        known = isinstance(point, dict) and "value" in point and point.keys() <= fields.keys()
        if not known or not isinstance(point["value"], (int, float, type(None))):
            raise InputError(f"{where}: {name!r} is no point of a series; without the line, it is measured again.")
    return row


def _differ(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """In words, the first thing in which the measures of a folder are not those asked for; None where they are."""
    if set(there) != set(here):
        return f"{', '.join(there) or 'none'} there, {', '.join(here)} here"
    for name, settings in here.items():
        for key in sorted({*settings, *there[name]}):
            if settings.get(key) != there[name].get(key):
                return f"{name}, {key}: {there[name].get(key)} there, {settings.get(key)} here"
    return None


def _write(folder: Path, row: Mapping[str, Any], arrays: Mapping[str, Floats]) -> None:
    from safetensors.numpy import save_file

    if arrays:
        with atomic_path(folder / "arrays" / f"{row['step']}.safetensors") as temporary:
            save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, temporary)
    with open(folder / "rows.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _read_array(folder: Path, step: int, name: str) -> Floats:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / "arrays" / f"{step}.safetensors"
    try:
        found: Floats = load_file(path)[name]
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(
            f"{path} is missing or damaged: without the line of step {step} in rows.jsonl, it is measured again."
        ) from error
    return found
