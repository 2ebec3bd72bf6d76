"""Writes that are whole or absent: a temporary file beside the target, fsync, rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cutaway.core.errors import InputError


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path in `target`'s folder; on success it becomes `target`, on failure it is removed.

    Raises InputError where `target` is a folder, or its folder cannot be made or written.
    """
    target = Path(target)
    if target.is_dir():
        raise InputError(f"{target} is a folder; name a file.")
    refuse_unwritable(target.parent)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        # mkstemp makes files private; what a user asked to have written follows their umask.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, target)
        _sync(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(
    target: str | Path, marks: Collection[str] | None = None, stale: Collection[str] = ()
) -> Iterator[Path]:
    """Yield a temporary folder; on success it becomes `target`, on failure it is removed.

    marks: for a folder that a user named. One that holds things is written only where it has one of these files, by
    which earlier work of ours is known (else InputError); what lies in it beside what is written is kept, but for the
    names in `stale`. Without marks, a folder of our own making is replaced as a whole. Raises InputError where
    `target` is a file.
    """
    target = Path(target)
    refuse_unwritable(target)
    if marks is not None:
        refuse_foreign(target, *marks)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield temporary
        for path in temporary.rglob("*"):
            _sync(path)
        temporary.chmod(0o755)
        if target.exists():
            old = temporary.with_suffix(".old")
            os.replace(target, old)
            os.replace(temporary, target)
            if marks is not None:
                written = {path.name for path in target.iterdir()}
                for path in old.iterdir():
                    if path.name not in written and path.name not in stale:
                        os.replace(path, target / path.name)
            shutil.rmtree(old)
        else:
            os.replace(temporary, target)
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def refuse_unwritable(folder: str | Path) -> None:
    """Raise InputError where a folder cannot be made or written at `folder`: said before the work, not after it."""
    folder = Path(folder)
    if folder.is_file():
        raise InputError(f"{folder} is a file; name a folder.")
    above = next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path("/"))
    if not above.is_dir():
        raise InputError(f"{folder} cannot be made: {above} is a file.")
    if not os.access(above, os.W_OK):
        raise InputError(f"{folder} cannot be written: no permission in {above}.")


def refuse_foreign(folder: str | Path, *marks: str) -> None:
    """Raise InputError where `folder` is not empty and has none of the files or folders named `marks`, by which work
    of ours is known; or where it cannot be written."""
    folder = Path(folder)
    refuse_unwritable(folder)
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if there and there.isdisjoint(marks):
        raise InputError(f"{folder} holds other things ({_some(there)}); name a new folder.")


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (" …" if len(names) > 3 else "")


def write_text(target: str | Path, text: str) -> None:
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")


def write_json(target: str | Path, value: Any, *, indent: int | None = None) -> None:
    """Write JSON; NaN and infinity are refused, since no browser reads them."""
    separators = None if indent else (",", ":")
    text = json.dumps(value, indent=indent, separators=separators, allow_nan=False, ensure_ascii=False)
    write_text(target, text + "\n")


def read_json(path: str | Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def content_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
