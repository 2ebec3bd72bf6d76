"""Reading what the page shows of a trace's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cutaway.core import InputError
from cutaway.study import Item
from cutaway.study.contents import check_schema, read_strict
from cutaway.viewer.labels import read_labels

GRAPH = "cutaway.graph/1"
EVIDENCE = "cutaway.evidence/1"


def read_trace(trace: Item) -> dict[str, Any]:
    """Everything the page shows of a trace, as the page's own `Trace` type has it.

    Raises `InputError` naming the file where one is absent, damaged or newer than this version reads.
    """
    return {
        "name": trace.name,
        "manifest": trace.manifest,
        "graph": read_graph(trace.path / "graph.json"),
        "features": _features(trace.path / "features.json"),
        "evidence": _evidence(trace.path / "evidence.json"),
        "labels": read_labels(trace.path),
    }


def read_graph(path: Path) -> dict[str, Any]:
    """An attribution graph, ours or circuit-tracer's. Raises InputError where it is none."""
    graph = read_strict(path)
    metadata = graph.get("metadata") if isinstance(graph, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(graph.get(key), list) for key in ("nodes", "links")):
        raise InputError(f"{path} is no attribution graph: it lacks metadata, nodes or links.")
    if not isinstance(metadata.get("prompt_tokens"), list):
        raise InputError(f"{path} is no attribution graph: its metadata has no prompt_tokens.")
    check_schema(metadata.get("cutaway"), GRAPH, path)
    checked: dict[str, Any] = graph
    return checked


def _features(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    features = read_strict(path)
    if not isinstance(features, dict):
        raise InputError(f"{path} is damaged: it should hold one JSON object, feature by feature.")
    return {key: value for key, value in features.items() if isinstance(value, dict)}


def _evidence(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {"evidence": [], "measurements": []}
    evidence = read_strict(path)
    if not isinstance(evidence, dict) or not isinstance(evidence.get("evidence"), list):
        raise InputError(f"{path} is damaged: it should hold an object with a list 'evidence'.")
    check_schema(evidence, EVIDENCE, path)
    return {"evidence": evidence["evidence"], "measurements": evidence.get("measurements") or []}
