"""The names that a user gave to nodes: `labels.json` beside the trace, {feature key or node id: label}."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from cutaway.core import InputError, write_json

MOST = 20_000

Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.*:-]{1,120}$")]
# One line of text: no control characters, no line separators.
Label = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=200, pattern=r"^[^\x00-\x1f\x7f\x{2028}\x{2029}]*$")
]


class LabelChange(BaseModel):
    """What the page sends. An empty label takes the node's name away."""

    model_config = ConfigDict(extra="forbid", strict=True)

    trace: str
    key: Key
    label: Label


_LABELS: TypeAdapter[dict[str, str]] = TypeAdapter(dict[Key, Label])
_writing = threading.Lock()


def read_labels(folder: Path) -> dict[str, str]:
    """The labels of a trace, none where there is no file. Raises `InputError` where the file is not ours."""
    path = folder / "labels.json"
    if not path.is_file():
        return {}
    try:
        return _LABELS.validate_python(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise InputError(f"{path} is damaged ({reason}). Mend or remove it.") from None


def write_label(folder: Path, change: LabelChange) -> dict[str, str]:
    """Set or take away one label; the file is replaced as a whole, so a reader never sees half of it."""
    with _writing:
        labels = read_labels(folder)
        if change.label:
            labels[change.key] = change.label
        else:
            labels.pop(change.key, None)
        if len(labels) > MOST:
            raise InputError(f"This trace already has {MOST} labels.")
        write_json(folder / "labels.json", labels, indent=1)
        return labels
