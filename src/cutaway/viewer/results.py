"""Reading what the page shows of any result: its JSON as it is, the manifest beside it, its pictures.

What the page makes of a result's fields is the page's business (`viewer/src/pages`, one file a schema); a schema that
it does not know is shown by its evidence, tables and figures.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from pathlib import Path
from typing import Any

from cutaway.core import InputError
from cutaway.study import Item, contents
from cutaway.study.contents import BESIDE, read_object
from cutaway.viewer import descriptions
from cutaway.viewer.traces import read_graph, read_trace

PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
MOST_PICTURES = 60
LARGEST_PICTURES = 24 * 1024 * 1024  # bytes, all of one result


def find(root: str | Path) -> tuple[Item, ...]:
    """The items of a study. One alone is read, so that what is wrong with it is said at once (`InputError`)."""
    items = contents(root)
    if len(items) == 1:
        read(items[0])
    return items


def read(item: Item) -> dict[str, Any]:
    """{"trace": …} or {"result": …}, as the page's own types have them. Raises InputError naming the file."""
    if item.problem:
        raise InputError(item.problem)
    if item.kind == "trace":
        return {"trace": read_trace(item)}
    body = read_object(item.path)
    if "schema" not in body and "metadata" in body and "nodes" in body:
        nothing = {"evidence": [], "measurements": []}
        graph = read_graph(item.path)
        return {
            "trace": {
                "name": item.name, "manifest": {}, "graph": graph, "features": {}, "evidence": nothing, "labels": {},
            }
        }  # fmt: skip
    if body.get("schema") == descriptions.SCHEMA:
        body = {**body, **descriptions.cards(item.path.parent, body)}
    return {
        "result": {
            "name": item.name,
            "schema": _schema(body),
            "file": item.path.name,
            "manifest": item.manifest or _command(item.path),
            "body": body,
            "pictures": pictures(item),
        }
    }


def entry(item: Item) -> dict[str, str]:
    """A line of the list that a folder of several results opens with. A damaged one says what is wrong with it."""
    try:
        stamp = item.path.stat().st_mtime_ns
    except OSError:
        stamp = 0
    said = _summary(item.path, stamp) if item.kind == "result" and not item.problem else {}
    model = item.manifest.get("model") or said.get("model")
    name = model.get("name") if isinstance(model, dict) else model
    return {
        "name": item.name,
        "kind": item.kind,
        "schema": said.get("schema", "cutaway.graph/1" if item.kind == "trace" else ""),
        "title": said.get("title", ""),
        "verdict": said.get("verdict", ""),
        "prompt": str(item.manifest.get("prompt") or ""),
        "model": str(name or ""),
        "created": str(item.manifest.get("created") or ""),
        "problem": item.problem or said.get("problem", ""),
    }


def pictures(item: Item) -> list[dict[str, str]]:
    """The pictures of a result, as data URIs: those that lie in a folder of its own (and in folders of it that hold no
    results), or, where several results share a folder, those called by its name."""
    folder, stem = item.path.parent, item.path.stem
    results = [path for path in folder.glob("*.json") if path.name not in BESIDE]
    alone = bool(item.manifest) and len(results) == 1
    if alone or (len(results) == 1 and folder != folder.parent and item.name != stem):
        below = [path for path in folder.iterdir() if path.is_dir() and not any(path.rglob("*.json"))]
        given = [path for place in (folder, *sorted(below)) for path in sorted(place.iterdir())]
    else:
        given = [path for path in sorted(folder.iterdir()) if path.stem == stem or path.stem.startswith(f"{stem}-")]
    found, left = [], LARGEST_PICTURES
    for path in given:
        kind = PICTURES.get(path.suffix.lower())
        if kind is None or not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            continue
        left -= path.stat().st_size
        if left < 0 or len(found) == MOST_PICTURES:
            break
        data = base64.b64encode(path.read_bytes()).decode()
        found.append({"name": path.relative_to(folder).as_posix(), "data": f"data:{kind};base64,{data}"})
    return found


def _schema(body: dict[str, Any]) -> str:
    schema = body.get("schema")
    return schema if isinstance(schema, str) else ""


@lru_cache(maxsize=1024)
def _summary(path: Path, stamp: int) -> dict[str, str]:
    """What the list says of a result; read again only when its file changed."""
    del stamp
    try:
        body = read_object(path)
    except InputError as error:
        return {"problem": str(error)}
    # A case that joins several results has the evidence in its parts.
    parts = [part["evidence"] for part in body.values() if isinstance(part, dict) and part.get("evidence")]
    evidence = body.get("evidence") or next(iter(parts), None)
    claims = [one for one in (evidence if isinstance(evidence, list) else [evidence]) if isinstance(one, dict)]
    first = claims[0] if claims else {}
    model = body.get("model") or next(
        (body[key].get("model") for key in ("choices", "about") if isinstance(body.get(key), dict)), ""
    )
    titles = (first.get("claim"), *(body.get(key) for key in ("title", "claim", "label", "dictionary", "room")))
    return {
        "schema": _schema(body),
        "title": next((said for said in titles if isinstance(said, str) and said), ""),
        "verdict": str(first.get("verdict") or ""),
        "model": model if isinstance(model, str) else "",
    }


def _command(path: Path) -> dict[str, Any]:
    """What made a result that has no manifest: a sweep's folder has its command beside it."""
    beside = path.parent / "command.json"
    if path.name != "sweep.json" or not beside.is_file():
        return {}
    try:
        said = read_object(beside)
    except InputError:
        return {}
    return {key: said[key] for key in ("command", "model") if isinstance(said.get(key), str)}
