"""Reading what the page shows from a study's folder. A folder is one trace, or holds several."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutaway.core import InputError
from cutaway.viewer.labels import read_labels

STUDY = "cutaway.study/1"
GRAPH = "cutaway.graph/1"
EVIDENCE = "cutaway.evidence/1"


@dataclass(frozen=True)
class TraceFolder:
    """One trace on disk. `name` is what the page calls it: "trace" alone, the folder's name among several."""

    name: str
    path: Path
    manifest: dict[str, Any]


def find_traces(folder: str | Path) -> tuple[TraceFolder, ...]:
    """The traces of a study: the folder itself, or those directly below it, by name.

    Raises `InputError` where there is none, or where a manifest is damaged or newer than this version reads.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give the folder that `cutaway trace --out` wrote.")
    if (folder / "manifest.json").is_file():
        trace = _trace(folder, "trace")
        if trace is None:
            raise InputError(f"{folder} holds a study, but no trace: its manifest does not say kind 'trace'.")
        return (trace,)
    below = sorted(path for path in folder.iterdir() if path.is_dir() and (path / "manifest.json").is_file())
    traces = tuple(trace for trace in (_trace(path, path.name) for path in below) if trace is not None)
    if not traces:
        raise InputError(
            f"{folder} holds no trace: neither it nor a folder in it has a manifest.json. "
            f'Make one with: cutaway trace "PROMPT" --out {folder}'
        )
    return traces


def read_trace(trace: TraceFolder) -> dict[str, Any]:
    """Everything the page shows of a trace, as the page's own `Trace` type has it.

    Raises `InputError` naming the file where one is absent, damaged or newer than this version reads.
    """
    graph = _json(trace.path / "graph.json")
    metadata = graph.get("metadata") if isinstance(graph, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(graph.get(key), list) for key in ("nodes", "links")):
        raise InputError(f"{trace.path / 'graph.json'} is no attribution graph: it lacks metadata, nodes or links.")
    if not isinstance(metadata.get("prompt_tokens"), list):
        raise InputError(f"{trace.path / 'graph.json'} is no attribution graph: its metadata has no prompt_tokens.")
    _check_schema(metadata.get("cutaway"), GRAPH, trace.path / "graph.json")
    return {
        "name": trace.name,
        "manifest": trace.manifest,
        "graph": graph,
        "features": _features(trace.path / "features.json"),
        "evidence": _evidence(trace.path / "evidence.json"),
        "labels": read_labels(trace.path),
    }


def entry(trace: TraceFolder) -> dict[str, str]:
    """A line of the list that a folder of several traces opens with."""
    model = trace.manifest.get("model")
    name = model.get("name") if isinstance(model, dict) else model
    text = {key: str(trace.manifest.get(key) or "") for key in ("prompt", "created")}
    return {"name": trace.name, "model": str(name or ""), **text}


def _trace(path: Path, name: str) -> TraceFolder | None:
    manifest = _json(path / "manifest.json")
    if not isinstance(manifest, dict):
        raise InputError(f"{path / 'manifest.json'} is no manifest: it holds no JSON object.")
    if "schema" not in manifest:
        raise InputError(f"{path / 'manifest.json'} is no study's manifest: it has no schema.")
    _check_schema(manifest, STUDY, path / "manifest.json")
    return TraceFolder(name, path, manifest) if manifest.get("kind") == "trace" else None


def _features(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    features = _json(path)
    if not isinstance(features, dict):
        raise InputError(f"{path} is damaged: it should hold one JSON object, feature by feature.")
    return {key: value for key, value in features.items() if isinstance(value, dict)}


def _evidence(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {"evidence": [], "measurements": []}
    evidence = _json(path)
    if not isinstance(evidence, dict) or not isinstance(evidence.get("evidence"), list):
        raise InputError(f"{path} is damaged: it should hold an object with a list 'evidence'.")
    _check_schema(evidence, EVIDENCE, path)
    return {"evidence": evidence["evidence"], "measurements": evidence.get("measurements") or []}


def _json(path: Path) -> Any:
    """Strict JSON: what a browser would refuse (NaN, half a file) is refused here, with the file's name."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: the study is incomplete. Run the trace again.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged and cannot be read as JSON ({error}). Run the trace again.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which is not JSON")


def _check_schema(holder: Any, known: str, path: Path) -> None:
    """Foreign files say no schema; ours must be one that this version reads."""
    given = holder.get("schema") if isinstance(holder, dict) else None
    if given is None or given == known:
        return
    kind, _, version = str(given).rpartition("/")
    ours, _, highest = known.rpartition("/")
    if kind == ours and version.isdigit() and int(version) > int(highest):
        raise InputError(f"{path} was written by a newer Cutaway ({given}; this one reads {known}). Upgrade cutaway.")
    raise InputError(f"{path} says schema {given!r}; the viewer reads {known!r}.")
