"""Results that draw themselves: in a notebook, and as one HTML file.

The page is the viewer's, a room that stands above all that make results; it is found by name when it is first needed.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from cutaway.core.files import write_text

_DRAWER = "cutaway.viewer.notebook"  # document(result) -> str and framed(result) -> str


class Drawn:
    """Gives a result that has `to_json()` with a schema a page: the one that `cutaway view` shows of its file."""

    __slots__ = ()

    def page(self, path: str | Path) -> Path:
        """Write the result as one HTML file that works offline and can be sent to somebody. Raises OSError."""
        write_text(path, importlib.import_module(_DRAWER).document(self))
        return Path(path)

    def _repr_html_(self) -> str:
        """What a notebook shows: the page in a frame, or the printed table where the page would be too large."""
        framed: str = importlib.import_module(_DRAWER).framed(self)
        return framed
