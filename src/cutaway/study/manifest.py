"""A study's manifest: what the folder holds, from which model and command, with a hash of every file."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cutaway import __version__
from cutaway.core import InputError, atomic_folder, content_hash, write_json
from cutaway.core.files import refuse_unwritable

SCHEMA = "cutaway.study/1"
# The user's own files in a study: never hashed, and kept when the study is written again.
OWN_FILES = ("labels.json",)


class Manifest(BaseModel):
    """`manifest.json`. `files` maps names to SHA-256."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_: str = Field(SCHEMA, alias="schema")
    kind: str
    created: str
    cutaway: str = __version__
    command: str
    model: dict[str, Any]
    prompt: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of a study. Raises InputError where there is none, it is damaged, or its schema is newer."""
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise InputError(f"{folder} is no study: it has no manifest.json (a verb with --out writes one).")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path} is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if manifest.schema_ != SCHEMA:
        raise InputError(f"{path} has schema {manifest.schema_!r}; this version of Cutaway reads {SCHEMA!r}.")
    return manifest


def claim_folder(folder: str | Path, kind: str, *unfinished: str) -> Path:
    """Whether a study of `kind` may be written to `folder`: a new or empty folder, or an earlier study of that kind.

    unfinished: files that a killed run of this kind leaves, by which it is known before it has a manifest. Anything
    else is somebody's and is refused (InputError).
    """
    folder = Path(folder)
    refuse_unwritable(folder)
    if not (folder / "manifest.json").is_file() and any((folder / name).exists() for name in unfinished):
        return folder
    if folder.is_dir() and any(folder.iterdir()):
        try:
            found = read_manifest(folder).kind
        except InputError:
            some = ", ".join(sorted(path.name for path in folder.iterdir())[:3])
            raise InputError(f"--out {folder} is not empty and is no study ({some}); name a new folder.") from None
        if found != kind:
            raise InputError(
                f"--out {folder} holds another kind of study ({found}); name another folder for this {kind}."
            )
    return folder


@contextmanager
def rewriting(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes the study `folder`. Of an earlier study, the files that its manifest lists
    go; what the user put beside them stays."""
    earlier = read_manifest(folder).files if (folder / "manifest.json").is_file() else {}
    with atomic_folder(folder, ("manifest.json",), stale=[Path(name).parts[0] for name in earlier]) as temporary:
        yield temporary


def seal(
    folder: Path,
    *,
    kind: str,
    command: str,
    model: dict[str, Any],
    prompt: str | None = None,
    settings: dict[str, Any] | None = None,
) -> Manifest:
    """Write `manifest.json` over all that `folder` holds."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    manifest = Manifest(
        kind=kind,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command,
        model=model,
        prompt=prompt,
        settings=settings or {},
        files={n: content_hash(folder / n) for n in names if n not in ("manifest.json", *OWN_FILES)},
    )
    write_json(folder / "manifest.json", json.loads(manifest.model_dump_json(by_alias=True)), indent=1)
    return manifest
