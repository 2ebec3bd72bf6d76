"""`cutaway organism`: make the shipped models again, and measure what they do."""

from __future__ import annotations

from pathlib import Path

import typer

from cutaway.cli.output import JSON, print_json, say, step

app = typer.Typer(help="Make the shipped models again from a seed, and measure them.", no_args_is_help=True)


@app.command("train", short_help="Train a shipped model from nothing.")
def train(
    name: str = typer.Argument(
        ...,
        help="almanac, almanac-1l (one layer), ioi (for circuits over seeds), primer (a small CLIP), primer-textless, "
        "othello (moves of a game).",
    ),
    out: Path = typer.Option(..., "--out", "-o", help="The model's folder; a killed run goes on from there."),
    seed: int = typer.Option(0, min=0, help="Seed of the text, the weights and the order."),
    threads: int = typer.Option(0, min=0, help="CPU threads; 0 takes all. A resumed run must keep the number."),
    steps: int | None = typer.Option(None, min=1, help="Fewer steps than the recipe's, to try it out."),
    as_json: bool = JSON,
) -> None:
    """Train a shipped model from nothing: text, tokenizer, weights, checkpoints, model card.

    Run the same command again after an interruption: it goes on where it was and ends bit-equal.

    Example:  cutaway organism train almanac --out out/almanac
    """
    from cutaway.organisms import train_organism

    report = train_organism(name, out, seed=seed, threads=threads, steps=steps)
    if as_json:
        print_json("cutaway.organism/1", report)
    else:
        say(f"wrote {out}")


@app.command("ship", short_help="Of a finished run make the folder that ships.")
def ship(
    run: Path = typer.Argument(..., help="The folder of a finished run."),
    out: Path = typer.Option(..., "--out", "-o", help="The folder to make; its name is the model's."),
    checkpoints: int = typer.Option(0, min=0, help="Checkpoints to keep, evenly spaced in the logarithm of the step."),
) -> None:
    """Half-precision weights, tokenizer and a card with held-out accuracies, of a finished run of almanac's kind.

    Example:  cutaway organism ship out/ioi-0 --out models/ioi-0
    """
    from cutaway.organisms import ship_organism

    with step(f"Measuring {run}"):
        below = ship_organism(run, out, checkpoints=checkpoints)
    say(f"wrote {out}" + (f"; below their target: {', '.join(below)}" if below else ""))


@app.command("measure", short_help="Accuracy on held-out items of every behaviour.")
def measure(
    model: str = typer.Argument("almanac", help="A shipped model, or a folder that `organism train` wrote."),
    seed: int = typer.Option(1, min=0, help="Seed of the held-out items."),
    n: int = typer.Option(500, min=1, help="Items per behaviour."),
    as_json: bool = JSON,
) -> None:
    """Accuracy on held-out items of every behaviour, each with n and its Wilson interval.

    Example:  cutaway organism measure almanac
    """
    import cutaway as cw
    from cutaway.organisms import measure_organism
    from cutaway.vision import look, sees

    with step(f"Measuring {model}"):
        rows = measure_organism(look(model) if sees(model) else cw.load(model), seed=seed, n=n)
    if as_json:
        print_json("cutaway.behaviours/1", {"model": model, "seed": seed, "rows": rows})
        return
    width = max(len(row["behaviour"]) for row in rows)
    for row in rows:
        low, high = row["interval"]
        print(f"{row['behaviour']:<{width}}  {row['accuracy']:.3f} [{low:.3f}, {high:.3f}]  n={row['n']}")
