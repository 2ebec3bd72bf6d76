"""What lies in a study: the results that verbs wrote, found by their manifests and schemas. Nothing is loaded here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cutaway.core import InputError

STUDY = "cutaway.study/1"
DEPTH = 3  # folders below the one that was named
MOST = 2000  # results
LARGEST = 256 * 1024 * 1024  # bytes of one file
# What verbs leave beside a result; never results of their own.
BESIDE = frozenset(
    {"manifest.json", "evidence.json", "labels.json", "features.json", "command.json", "plan.json", "settings.json"}
)


@dataclass(frozen=True)
class Item:
    """One result on disk. `name` is unique in its study: its path within it, without ".json".

    `problem`: why it cannot be opened, in place of a result that would be missed.
    """

    name: str
    kind: str  # "trace" or "result"
    path: Path  # a trace's folder, a result's JSON file
    manifest: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def contents(root: str | Path) -> tuple[Item, ...]:
    """The results of a study: a folder that a verb wrote, a folder of such, or a single JSON file; by name.

    Raises InputError where there is nothing to open, or the one thing named is damaged or newer than this version.
    """
    root = Path(root)
    if root.is_file():
        return (Item(root.stem, "result", root),)
    if not root.is_dir():
        raise InputError(f"{root} is neither a folder nor a JSON file: give what a verb with --out wrote.")
    if (root / "manifest.json").is_file():
        return tuple(_apart(list(_sealed(root, "", alone=True)), root))
    found = sorted(_below(root, root, DEPTH), key=lambda item: item.name)
    if not found:
        raise InputError(
            f"{root} holds nothing to show: no manifest.json and no JSON file with a schema, in it or in its folders. "
            f'Make one with: cutaway trace "PROMPT" --out {root}'
        )
    found = _apart(found, root)
    if len(found) > MOST:
        raise InputError(f"{root} holds more than {MOST} results; open one of its folders.")
    return tuple(found)


def _apart(items: list[Item], root: Path) -> list[Item]:
    """No two of one name: `card.json` and `card/card.json` keep their whole path."""
    taken: set[str] = set()
    found = []
    for item in items:
        name = item.name if item.name not in taken else item.path.relative_to(root).as_posix()
        taken.add(name)
        found.append(replace(item, name=name))
    return found


def _below(folder: Path, root: Path, depth: int) -> Iterator[Item]:
    """Those of a folder without a manifest, and of its folders. Links that lead out of the study are not followed."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.resolve().is_relative_to(root.resolve()):
            continue
        if path.is_dir():
            if (path / "manifest.json").is_file():
                yield from _sealed(path, path.relative_to(root).as_posix(), alone=False)
            elif depth > 0 and not _told_already(path):
                yield from _below(path, root, depth - 1)
        elif path.suffix == ".json" and path.name not in BESIDE and _has_schema(path):
            yield Item(_called(path, root), "result", path)


def _called(path: Path, root: Path) -> str:
    """A folder's one result that has its verb's own name is called by the folder."""
    name = path.relative_to(root).as_posix()
    if path.stem in ("result", "sweep", "report", "card", "case", "about") and path.parent != root:
        return path.parent.relative_to(root).as_posix()
    return name.removesuffix(".json")


def _sealed(folder: Path, name: str, alone: bool) -> Iterator[Item]:
    """The results of a folder with a manifest. A damaged manifest raises where it is all that was asked for."""
    try:
        manifest = read_object(folder / "manifest.json")
        if "schema" not in manifest:
            raise InputError(f"{folder / 'manifest.json'} is no study's manifest: it has no schema.")
        check_schema(manifest, STUDY, folder / "manifest.json")
    except InputError as error:
        if alone:
            raise
        yield Item(name, "result", folder / "manifest.json", problem=str(error))
        return
    if manifest.get("kind") == "trace":
        yield Item(name or "trace", "trace", folder, manifest)
        return
    files = [path for path in sorted(folder.glob("*.json")) if path.name not in BESIDE and _has_schema(path)]
    files = [folder / "result.json"] if folder / "result.json" in files else files
    if not files and alone:
        raise InputError(f"{folder} holds a study, but no trace and no result: no JSON file of it says a schema.")
    for path in files:
        one = name or str(manifest.get("kind") or path.stem)
        yield Item(one if len(files) == 1 else f"{name}/{path.stem}".strip("/"), "result", path, manifest)
    # What a verb wrote by the hundred (a card each) lies in folders of its own.
    for path in sorted(folder.iterdir()):
        inside = path.is_dir() and not path.name.startswith(".") and path.resolve().is_relative_to(folder.resolve())
        if inside and not _told_already(path):
            for item in _below(path, folder, DEPTH - 1):
                yield Item(f"{name}/{item.name}".strip("/"), item.kind, item.path, item.manifest, item.problem)


def _told_already(folder: Path) -> bool:
    """A case's alignment, whose tensors lie in a folder beside it, is in case.json whole."""
    return folder.name == "alignment" and (folder.parent / "case.json").is_file()


def _has_schema(path: Path) -> bool:
    """By the file's beginning, since some are large: our writers put the schema first. Damaged ones count as well."""
    with path.open("rb") as file:
        start = file.read(4096)
    return b'"schema"' in start or (b'"metadata"' in start and b'"nodes"' in start) or not start.strip()


def read_object(path: Path) -> dict[str, Any]:
    """Strict JSON with an object at the top: what a browser would refuse (NaN, half a file) is refused here.

    Raises InputError naming the file.
    """
    value = read_strict(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged: it should hold one JSON object.")
    return value


def read_strict(path: Path) -> Any:
    """Strict JSON. Raises InputError naming the file: absent, too large, no JSON, nested without end."""
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} has {path.stat().st_size:,} bytes; the viewer reads up to {LARGEST:,}.")
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: the study is incomplete. Run its command again.") from None
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged and cannot be read as JSON ({error}). Run its command again.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which is not JSON")


def check_schema(holder: Any, known: str, path: Path) -> None:
    """Foreign files say no schema; ours must be one that this version reads. Raises InputError."""
    given = holder.get("schema") if isinstance(holder, dict) else None
    if given is None or given == known:
        return
    kind, _, version = str(given).rpartition("/")
    ours, _, highest = known.rpartition("/")
    if kind == ours and version.isdigit() and int(version) > int(highest):
        raise InputError(f"{path} was written by a newer Cutaway ({given}; this one reads {known}). Upgrade cutaway.")
    raise InputError(f"{path} says schema {given!r}; the viewer reads {known!r}.")
