"""`cutaway view`: the viewer, served on this machine's loopback or written as one file."""

from __future__ import annotations

from pathlib import Path

import typer

from cutaway.cli.output import say


def view(
    folder: Path = typer.Argument(..., help="A study: a folder that a verb with --out wrote, or a folder of such."),
    port: int = typer.Option(0, help="Port on 127.0.0.1; 0 takes a free one."),
    no_open: bool = typer.Option(False, "--no-open", help="Do not open the browser."),
    html: Path | None = typer.Option(None, help="Write one self-contained HTML file to send to somebody, and stop."),
) -> None:
    """Open a study in the browser.

    Served on 127.0.0.1 only; edited labels are kept in the study. Ctrl-C stops it.

    Example:  cutaway view out/first-trace
    """
    from cutaway import viewer
    from cutaway.core import write_text

    if html is not None:
        write_text(html, viewer.page(folder))
        say(f"wrote {html}")
        return
    viewer.serve(folder, port=port, open_browser=not no_open)
