"""The options that several verbs of `cutaway dictionary` have, declared once."""

from __future__ import annotations

import typer

from cutaway.cli.findings import MODEL_HELP

MODEL = typer.Option(..., "--model", "-m", "--module", help=MODEL_HELP)
TEXT = typer.Option(
    None,
    "--text",
    "-t",
    metavar="FILE",
    help="Text to run the model on: .txt or .jsonl, repeatable. A shipped model knows its own.",
)
ARCHITECTURE = typer.Option("batchtopk", "--architecture", "-a", help="As in `dictionary train`.")
