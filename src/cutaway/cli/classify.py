"""`cutaway classify`: texts classified from features, beside all that could do the same."""

from __future__ import annotations

from pathlib import Path

import typer

from cutaway.cli.findings import MODEL, claim, sealed, told_where
from cutaway.cli.output import JSON, print_json, say


def classify(
    data: str = typer.Argument(
        ..., help="Labelled texts: a .csv or .jsonl file (columns text, label), or of the small world: topics, moods."
    ),
    model: str = MODEL,
    dictionary: str | None = typer.Option(
        None, "--dictionary", "-d", metavar="DIR", help="A dictionary of one point. Default: one trained on the texts."
    ),
    at: str | None = typer.Option(None, "--at", metavar="POINT", help="Where it is trained, where none is given."),
    shifted: Path | None = typer.Option(
        None, metavar="FILE", help="Texts of another source with the same labels. Default: short texts against long."
    ),
    few: int = typer.Option(10, min=2, help="Texts a class in the scarce column."),
    most: int = typer.Option(2000, min=50, help="At most so many texts, drawn at random."),
    text_column: str = typer.Option("text", help="The column of the text."),
    label_column: str = typer.Option("label", help="The column of the label."),
    out: Path | None = typer.Option(None, "--out", "-o", metavar="DIR", help="Also write classify.json there."),
    seed: int = typer.Option(0, min=0, help="Of splits, draws, noise, the dictionary trained here and the controls."),
    as_json: bool = JSON,
) -> None:
    """Classify texts from a dictionary's features, the hidden state, words, PCA, a dense autoencoder, random directions
    and an untrained model, by logistic regression (features and hidden state by boosted trees, too): on plentiful,
    scarce, noisy and shifted data, the rows where simpler things win included.

    Example:  cutaway classify topics --few 3
    """
    from cutaway.core import write_json

    claim(out, "classify")
    from cutaway.organisms.classifying import classify as run

    result = run(
        model, data, dictionary=dictionary, at=at, shifted=shifted, few=few, most=most, seed=seed,
        text_column=text_column, label_column=label_column, on=lambda message: say(f"{message} …"),
    )  # fmt: skip
    if out is not None:
        write_json(out / "classify.json", result.to_json())
        sealed(out, "classify", model, {"data": data, "few": few, "most": most, "seed": seed})
    if as_json:
        print_json("cutaway.classify/1", {k: v for k, v in result.to_json().items() if k != "schema"})
    else:
        print(result)
    if out is not None:
        told_where(out, "classify.json")
