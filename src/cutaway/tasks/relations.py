"""Relations as LRE keeps them (Hernandez et al. 2023, Linearity of relation decoding): one JSON file a relation.

{"name": "country capital city", "prompt_templates": ["The capital of {} is"], "prompt_templates_zs": [...],
 "properties": {...}, "samples": [{"subject": "Canada", "object": "Ottawa"}, ...]}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from cutaway.core import InputError, UnknownName, read_json
from cutaway.tasks.reading import reader
from cutaway.tasks.recall import SUBJECT, Fact, recall
from cutaway.tasks.task import Task


def from_relations(
    model: Any,
    path: str | Path,
    relations: Sequence[str] | None = None,
    *,
    n: int | None = None,
    seed: int = 0,
    zero_shot: bool = False,
    first_token: bool = False,
    metric: str | Callable[..., Tensor] | None = None,
) -> Task:
    """A task from a relation's file, or from several in a folder (searched below it).

    relations: names of files without .json; all by default. zero_shot: `prompt_templates_zs` instead of
    `prompt_templates`. first_token: takes the first token of longer objects, as LRE does; else their facts are left
    out. n: items, all that can be paired by default.
    Each item's counterfactual asks the same of another subject of as many tokens. `items[i].values` has its relation.
    Raises InputError: no such file, not of this format, a name that is not there, too few facts.
    """
    files = _files(Path(path))
    if relations is not None:
        wanted = [relations] if isinstance(relations, str) else list(relations)
        for name in wanted:
            if name not in files:
                raise UnknownName("relation", name, files)
        files = {name: files[name] for name in wanted}
    facts = [fact for name, file in files.items() for fact in _facts(name, file, zero_shot)]
    label = next(iter(files)) if len(files) == 1 else f"relations ({len(files)})"
    return recall(
        facts, reader(model), n=n, seed=seed, name=label, first_token=first_token, metric=metric,
        about="recall of one fact about the subject",
    )  # fmt: skip


def _files(path: Path) -> dict[str, Path]:
    if path.is_dir():
        files = {file.stem: file for file in sorted(path.rglob("*.json"))}
        if not files:
            raise InputError(f"{path} holds no .json file, so no relation.")
        return files
    if not path.is_file():
        raise InputError(f"no file or folder {path}.")
    return {path.stem: path}


def _unescaped(text: Any) -> str:
    """LRE's files escape some letters twice: Bras\\u00edlia."""
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), str(text))


def _facts(name: str, file: Path, zero_shot: bool) -> list[Fact]:
    try:
        data = read_json(file)
        frames = data["prompt_templates_zs" if zero_shot else "prompt_templates"]
        samples = [(_unescaped(s["subject"]), _unescaped(s["object"])) for s in data["samples"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} is no relation: it needs prompt_templates (each with {SUBJECT}) and samples (subject, object); "
            f"{type(error).__name__}: {error}."
        ) from None
    if bad := [f for f in frames if f.count(SUBJECT) != 1]:
        raise InputError(f"{file}: each template has one {SUBJECT} for the subject; {bad[0]!r} has not.")
    return [Fact(frame, subject, answer, name) for frame in frames for subject, answer in samples]
