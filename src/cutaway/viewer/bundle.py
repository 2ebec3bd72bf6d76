"""The built page that ships in the package (source: viewer/, built by `npm run build` there)."""

from __future__ import annotations

import hashlib
from importlib.resources import files

# The only files that the server hands out, with their types. Nothing that a request says is joined to a path.
FILES = {
    "index.html": "text/html; charset=utf-8",
    "viewer.js": "text/javascript; charset=utf-8",
    "viewer.css": "text/css; charset=utf-8",
}


def read(name: str) -> str:
    """The text of one built file; `name` is one of `FILES`."""
    if name not in FILES:
        raise KeyError(name)
    return files("cutaway.viewer").joinpath("static").joinpath(name).read_text(encoding="utf-8")


def source_hash(paths: dict[str, bytes]) -> str:
    """SHA-256 over the source files, by path: what `viewer/scripts/sources.mjs` computes when it builds."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path}\0{len(paths[path])}\0".encode())
        digest.update(paths[path])
    return digest.hexdigest()
