"""`cutaway dictionary arms`: the same dictionary trained on the model and on four networks that learned nothing."""

from __future__ import annotations

from pathlib import Path

import typer

from cutaway.cli.dictionary_options import ARCHITECTURE, MODEL, TEXT
from cutaway.cli.findings import claim, sealed, told_where
from cutaway.cli.output import JSON, print_json, say


def arms(
    model: str = MODEL,
    at: list[str] = typer.Option(
        None, "--at", metavar="POINT", help="Points; repeatable. Default: the first layer's and the last but one's."
    ),
    text: list[Path] = TEXT,
    architecture: str = ARCHITECTURE,
    features: int | None = typer.Option(None, min=1, help="Default: 2 a dimension, at least 256."),
    l0: int = typer.Option(8, min=1, help="Active features a token."),
    tokens: int = typer.Option(100_000, min=1000, help="Tokens each dictionary is trained on."),
    seeds: int = typer.Option(3, min=1, help="Seeds: of the arm, the dictionary and the order of its rows."),
    out: Path | None = typer.Option(None, "--out", "-o", metavar="DIR", help="Also write arms.json there."),
    seed: int = typer.Option(0, min=0, help="The first of the seeds."),
    as_json: bool = JSON,
) -> None:
    """Train the same dictionary on a model and on four networks that learned nothing, and score them alike.

    The five arms of Heap et al. (2025), with the Gaussian floor and both excess statistics. What the random arms score
    as well as the trained one says nothing about what the model learned. About three minutes on one quiet core.

    Example:  cutaway dictionary arms --model almanac --at resid_post.2 --tokens 60000
    """
    from cutaway.core import write_json

    claim(out, "arms")
    from cutaway.organisms.dictionary_studies import studied, study_arms

    result = study_arms(
        model, at=at or (), text=text or (), architecture=architecture, features=features, l0=l0, tokens=tokens,
        seeds=seeds, seed=seed, on=lambda message: say(f"training on {message} …"),
    )  # fmt: skip
    if out is not None:
        write_json(out / "arms.json", result.to_json())
        sealed(out, "arms", model, {"at": at or [], "architecture": architecture, "tokens": tokens, "seed": seed})
    if as_json:
        print_json("cutaway.arm_study/1", studied(result))
    else:
        print(result)
    if out is not None:
        told_where(out, "arms.json")
