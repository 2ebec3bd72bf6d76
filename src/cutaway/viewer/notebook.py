"""A result as a page by itself, and in a frame for a notebook. See `cutaway.core.drawing`."""

from __future__ import annotations

import html
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cutaway.core import write_json
from cutaway.graphs import AttributionGraph
from cutaway.study import seal
from cutaway.viewer.page import page

HEIGHT = 640  # pixels
LARGEST = 8 * 1024 * 1024  # bytes of a page that a notebook is given to keep


def document(result: Any) -> str:
    """The viewer's page of a result (a value with `to_json()`, or an attribution graph) as one HTML document."""
    with TemporaryDirectory() as folder:
        place = Path(folder) / _name(result)
        if isinstance(result, AttributionGraph):
            _save_graph(result, place)
        else:
            place = place.with_suffix(".json")
            write_json(place, result.to_json())
        return page(place)


def _save_graph(graph: AttributionGraph, place: Path) -> None:
    """A trace's folder, pruned: a whole graph may have millions of edges. What was measured on the whole stays."""
    pruned = graph if graph.pruning else graph.pruned().with_evidence(graph.evidence, graph.measurements)
    pruned.save(place)
    seal(
        place,
        kind="trace",
        command="",
        model={"name": graph.model},
        prompt=graph.prompt,
        settings=graph.settings_json(),
    )


def framed(result: Any) -> str:
    """The page in a frame that may run its own script and nothing else; the printed table where
    a notebook would have to keep too much."""
    drawn = document(result)
    if len(drawn) > LARGEST:
        size = f"{len(drawn) / 1e6:.0f} MB"
        said = f"(its page takes {size}, too much for a notebook: result.page('result.html') writes it)"
        return f"<pre>{html.escape(str(result))}\n{said}</pre>"
    return (
        f'<iframe srcdoc="{html.escape(drawn)}" sandbox="allow-scripts" title="{html.escape(_name(result))}" '
        f'style="width:100%;height:{HEIGHT}px;border:1px solid #8884;border-radius:6px"></iframe>'
    )


def _name(result: Any) -> str:
    return type(result).__name__.lower()
