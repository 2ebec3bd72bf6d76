"""A trace as a study: graph, features, evidence and the page, written whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cutaway.core import write_json, write_text
from cutaway.study.manifest import OWN_FILES, claim_folder, rewriting, seal

if TYPE_CHECKING:
    from cutaway.graphs import AttributionGraph
    from cutaway.model import Model


def write_trace(
    folder: str | Path,
    model: Model,
    graph: AttributionGraph,
    *,
    command: str = "",
    page: Callable[[Path], str] | None = None,
    pt: bool = False,
) -> Path:
    """Write `graph` and all that belongs to it to `folder`; returns it.

    page: study folder -> the self-contained HTML (the viewer's, passed in since the viewer lies above this room).
    Raises InputError where `folder` holds something else. A full disk or a kill leaves the earlier state.
    """
    folder = claim_folder(folder, "trace")
    with rewriting(folder) as temporary:
        graph.save(temporary, pt=pt)
        write_json(temporary / "features.json", graph.feature_cards(model))
        for name in OWN_FILES:
            if (folder / name).is_file():
                shutil.copy2(folder / name, temporary / name)
        if page is not None:
            # The page reads the manifest, and the manifest hashes the page: sealed before and after.
            _seal(temporary, model, graph, command)
            write_text(temporary / "index.html", page(temporary))
        _seal(temporary, model, graph, command)
    return folder


def _seal(folder: Path, model: Model, graph: AttributionGraph, command: str) -> None:
    seal(
        folder,
        kind="trace",
        command=command,
        model={"name": model.name, "fingerprint": model.fingerprint},
        prompt=graph.prompt,
        settings=graph.settings_json(),
    )
