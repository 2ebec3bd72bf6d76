"""`cutaway function-vector`: what heads write after examples of a task, added where there are no examples."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import typer

from cutaway.cli.findings import MODEL, OUT, TRUST, claim, finish, load_model
from cutaway.cli.output import JSON, step


def function_vector(
    pairs: Path = typer.Argument(
        ..., help="Pairs: .csv or .jsonl with columns x and y, or a .json of relations (LRE)."
    ),
    model: str = MODEL,
    shots: int = typer.Option(5, min=1, help="Examples in a prompt."),
    heads: int = typer.Option(10, min=1, help="How many heads are summed."),
    prompts: int = typer.Option(32, min=4, help="Prompts that means and effects are taken over."),
    template: str = typer.Option("Q: {x}\\nA:", help="The query, {x} for its input; \\n is a line's end."),
    separator: str = typer.Option("\\n\\n", help="Between examples."),
    strength: float = typer.Option(1.0, help="The vector is added so many times."),
    out: Path | None = OUT,
    seed: int = typer.Option(0, min=0, help="Of the split, the examples and the random direction."),
    trust_remote_code: bool = TRUST,
    as_json: bool = JSON,
) -> None:
    """Sum what a few heads write after examples of a task, and add it to a query that has none.

    Heads, block and accuracy are each of their own third of the pairs. Beside it: the same from shuffled examples, a
    random direction of equal norm, the query alone, and the examples themselves.

    Example:  cutaway function-vector antonyms.csv --model ./checkpoint --shots 8
    """
    claim(out, "function vector")
    given = read_pairs(pairs)
    loaded = load_model(model, trust_remote_code)
    from cutaway.steering import function_vector as make

    with step("Finding heads, adding what they write"):
        result = make(
            loaded, given, shots=shots, heads=heads, prompts=prompts, template=template.replace("\\n", "\n"),
            separator=separator.replace("\\n", "\n"), strength=strength, seed=seed,
        )  # fmt: skip
    finish(result, loaded, "function vector", out, as_json, tensors={"vector": result.vector.vector.tensor})


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """(x, y) of a file. Raises InputError: no file, no UTF-8, no JSON, other columns."""
    from cutaway.core import InputError

    if not path.is_file():
        raise InputError(f"no file {path}.")
    try:
        text = path.read_text("utf-8-sig")
        rows: Any
        if path.suffix == ".csv":
            rows = list(csv.DictReader(text.splitlines()))
        elif path.suffix == ".jsonl":
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            rows = json.loads(text)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8: {error}.") from None
    except ValueError as error:
        raise InputError(f"{path} cannot be read as JSON: {error}.") from None
    rows = rows.get("samples") if isinstance(rows, dict) else rows
    for x, y in (("x", "y"), ("input", "output"), ("subject", "object")):
        if isinstance(rows, list) and rows and all(isinstance(row, dict) and row.get(x) and row.get(y) for row in rows):
            return [(str(row[x]), str(row[y])) for row in rows]
    raise InputError(f"{path} holds no pairs: every row needs x and y (or input and output, subject and object).")
