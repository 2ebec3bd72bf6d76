"""`cutaway trace`: what a model did to produce its output, tested."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cutaway.cli.findings import MODEL, TRUST, claim, load_model, warn_outside_vocabulary
from cutaway.cli.output import JSON, print_json, say, step
from cutaway.cli.render import render_trace

if TYPE_CHECKING:
    from cutaway.graphs import AttributionGraph
    from cutaway.model import Model


def trace(
    prompt: str = typer.Argument(..., help="The text whose continuation is explained."),
    model: str = MODEL,
    dictionary: str | None = typer.Option(
        None,
        "--dictionary",
        "-d",
        help="A shipped name (clt, plt), a folder of ours or in circuit-tracer's format, or 'neurons' for the "
        "model's own. Default: the one that ships with the model or that you trained for it.",
    ),
    target: str | None = typer.Option(None, help="Explain this next token, in place of the most probable ones."),
    contrast: tuple[str, str] | None = typer.Option(
        None, metavar="A B", help="Explain why the model prefers next token A to B."
    ),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the study here: graph, evidence and page."),
    open_page: bool = typer.Option(False, "--open", help="Open the page in the browser when done."),
    quick: bool = typer.Option(False, "--quick", help="Leave the costly controls out (and say so)."),
    pt: bool = typer.Option(False, "--pt", help="Also write graph.pt, as circuit-tracer does (needs --out)."),
    paraphrase: list[str] = typer.Option(
        [], "--paraphrase", help="The same question in other words, to repeat the test on; repeatable."
    ),
    seed: int = typer.Option(0, min=0, help="For the random samples and controls."),
    trust_remote_code: bool = TRUST,
    as_json: bool = JSON,
) -> None:
    """Show what a model did to produce its output, and test what is shown.

    Builds the attribution graph of the prompt: exact direct effects between tokens, features, biases, errors and
    logits. Then intervenes on what the graph claims in the real model, beside nulls and a baseline.

    Example:  cutaway trace "the capital of the state containing Dallas is" --out out/dallas --open
    """
    if target is not None and contrast is not None:
        from cutaway.core import InputError

        raise InputError("--target and --contrast exclude each other: a contrast names both tokens.")
    if out is None and open_page:
        out = Path("out") / _slug(prompt)
    claim(out, "trace")

    loaded = load_model(model, trust_remote_code)
    import cutaway as cw

    warn_outside_vocabulary(loaded, [prompt])
    with step("Tracing and testing" if not quick else "Tracing"):
        graph = cw.trace(
            loaded,
            prompt,
            dictionary=dictionary,
            target=target,
            contrast=contrast,
            quick=quick,
            seed=seed,
            paraphrases=paraphrase,
        )

    written = None
    if out is not None:
        written = _write(out, loaded, graph, pt=pt)
    if as_json:
        print_json(
            "cutaway.trace/1",
            {**graph.to_json(), "out": str(out) if out else None, "page": str(written) if written else None},
        )
    else:
        print(render_trace(graph, graph.feature_cards(loaded)))
    if written:
        say(f"\nWrote {out}/   the page: {written}")
        say(f"Open it in a browser, or: cutaway view {shlex.quote(str(out))}")
        if open_page:
            import webbrowser

            webbrowser.open(written.resolve().as_uri())
    elif not as_json:
        say("\n(--out DIR writes the graph, the evidence and a page for the browser)")


def _write(out: Path, model: Model, graph: AttributionGraph, *, pt: bool) -> Path:
    from cutaway import viewer
    from cutaway.study import write_trace

    with step("Writing the study"):
        write_trace(out, model, graph, command=shlex.join(["cutaway", *sys.argv[1:]]), page=viewer.page, pt=pt)
    return out / "index.html"


def _slug(prompt: str) -> str:
    words = "".join(c if c.isalnum() else " " for c in prompt.lower()).split()
    return "-".join(words[:8]) or "trace"
