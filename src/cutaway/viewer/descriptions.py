"""Reading a folder of feature descriptions for the page: the cards of its features, from Parquet, without torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from cutaway.core import InputError

SCHEMA = "cutaway.descriptions/1"
MOST = 1500  # cards in one page, about 4 KB each
LONG = ("decoder",)  # columns that no card shows


def cards(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """{"of": how many features there are, "cards": those of the largest effect, as `cutaway.feature_card/1`}.

    Raises InputError where the Parquet files are missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(folder / "features.parquet")
        names = [name for name in table.schema_arrow.names if name not in LONG]
        rows = table.read(columns=names).to_pylist()
        by = "effect" if any(row.get("effect") is not None for row in rows) else "frequency"
        rows.sort(key=lambda row: -(row.get(by) or 0.0))
        shown = rows[:MOST]
        wanted = {row["feature"] for row in shown}
        examples: dict[int, list[dict[str, Any]]] = {}
        for one in pq.read_table(folder / "examples.parquet").to_pylist():
            if one["feature"] in wanted:
                examples.setdefault(one.pop("feature"), []).append(one)
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise InputError(
            f"the descriptions in {folder} cannot be read: {error}. Describe the dictionary again."
        ) from None
    said = {key: value for key, value in about.items() if key not in ("schema", "files")}
    made = [{"about": said, **row, "examples": examples.get(row["feature"], [])} for row in shown]
    return {"of": len(rows), "cards": _finite(made)}


def _finite(value: Any) -> Any:
    """Numbers that JSON has no word for become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
