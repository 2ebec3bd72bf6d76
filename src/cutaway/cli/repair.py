"""`cutaway repair`: what comes back of a head's effect on the answer when the head is taken away."""

from __future__ import annotations

from pathlib import Path

import typer

from cutaway.cli.findings import MODEL, OUT, TRUST, claim, finish, load_model, make_task, null_seeds, reads_text
from cutaway.cli.output import JSON, step


def repair(
    task: str = typer.Argument(..., help="A task (cutaway tasks lists them), or a .csv or .jsonl file of pairs."),
    model: str = MODEL,
    n: int = typer.Option(32, "--n", min=8, help="Items; heads are chosen on half of them."),
    heads: int = typer.Option(5, min=1, help="How many heads the evidence is about."),
    quick: bool = typer.Option(False, "--quick", help="Leave the null (re-randomised models) out, and say so."),
    out: Path | None = OUT,
    seed: int = typer.Option(0, min=0, help="Of the items, the intervals and the null."),
    trust_remote_code: bool = TRUST,
    as_json: bool = JSON,
) -> None:
    """Replace each head where the answer is said, and see how much of what it added later layers make up for.

    direct is what the head's change does by itself, total what it does with later parts free to react; the rest is
    repaired (or, below zero, added to). Beside it: what the final norm alone gives back, and re-randomised models.

    Example:  cutaway repair ioi --n 48
    """
    claim(out, "repair")
    loaded = load_model(model, trust_remote_code, text=reads_text(task))
    made = make_task(task, loaded, n=n, seed=seed)
    from cutaway.readouts import self_repair

    with step("Replacing heads"):
        result = self_repair(
            loaded, made, most=heads, null_seeds=() if quick else null_seeds(loaded, seed, 3), seed=seed
        )
    finish(result, loaded, "repair", out, as_json)
