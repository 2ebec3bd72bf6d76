"""`cutaway view`: the viewer, served on this machine's loopback or written as one file."""

from __future__ import annotations

from pathlib import Path

import typer

from cutaway.cli.output import say


def view(
    study: Path = typer.Argument(
        ..., help="A folder that a verb with --out wrote, a folder of such, or one JSON file of a result."
    ),
    port: int = typer.Option(0, help="Port on 127.0.0.1; 0 takes a free one."),
    no_open: bool = typer.Option(False, "--no-open", help="Do not open the browser."),
    html: Path | None = typer.Option(None, help="Write one self-contained HTML file to send to somebody, and stop."),
) -> None:
    """Open results in the browser: traces, sweeps, circuits, heads, lenses, probes, steering and all others.

    Each is drawn by its schema, its evidence beside it; of several, the page opens with a list. Served on 127.0.0.1
    only; edited labels are kept in the study. Ctrl-C stops it.

    Example:  cutaway view out/first-trace
    """
    from cutaway import viewer
    from cutaway.core import write_text

    if html is not None:
        write_text(html, viewer.page(study))
        say(f"wrote {html}")
        return
    viewer.serve(study, port=port, open_browser=not no_open)
