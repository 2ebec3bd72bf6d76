"""`cutaway sweep`: which parts of a model carry a behaviour, by changing each of them by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cutaway.cli.findings import MODEL, TRUST, claim, load_model, make_task, reads_text, sealed, told_where
from cutaway.cli.output import JSON, print_result, say, step

if TYPE_CHECKING:
    from cutaway.model import Model


def sweep(
    task: str | None = typer.Argument(
        None, help="A task by name (cutaway tasks lists them), or a .csv or .jsonl file."
    ),
    model: str = MODEL,
    at: str = typer.Option("resid_pre.*", "--at", help="The point, `*` for every layer: resid_pre.*, z.*, mlp_out.*"),
    each: str = typer.Option(
        "position", "--each", help="Told apart in a layer: position, head, neuron, or two: head,position"
    ),
    how: str = typer.Option("denoise", "--how", help="denoise, noise, zero, mean or resample (see above)."),
    clean: list[str] = typer.Option([], "--clean", help="In place of a task: a prompt; repeatable."),
    counterfactual: list[str] = typer.Option([], "--counterfactual", help="Its counterfactual, of as many tokens."),
    answer: list[str] = typer.Option(
        [], "--answer", help="The right next token of each clean prompt (or one for all)."
    ),
    wrong: list[str] = typer.Option([], "--wrong", help="The token it is compared with."),
    metric: str | None = typer.Option(None, help="Of a task: logit_difference, probability, …"),
    positions: str | None = typer.Option(None, help="Only these, by name or number: S2,end or 0,5,-1"),
    n: int = typer.Option(32, "--n", min=1, help="Items of the task."),
    quick: bool = typer.Option(False, "--quick", help="Leave the null out (half the work), and say so."),
    memory: str | None = typer.Option(
        None, help="What one batch may take, as 2GB. Default: a quarter of what is free."
    ),
    seed: int = typer.Option(0, min=0, help="For the task's items, the null and the intervals."),
    out: Path | None = typer.Option(
        None, "--out", "-o", help="Write the sweep here; killed, the same command goes on."
    ),
    trust_remote_code: bool = TRUST,
    as_json: bool = JSON,
) -> None:
    """Change each part of a model by itself and measure what that does to a behaviour.

    denoise puts clean values into the counterfactual's run (which parts suffice), noise the other way round (which
    are needed); zero, mean and resample take a part out of the clean run. Every value is exact: that of a run with the
    one change. Beside it stands the null: the same with values from another prompt (denoise, noise), or the same on
    the model with its weights re-randomised.

    Example:  cutaway sweep ioi --at "z.*" --each head,position
    """
    from cutaway.core import InputError

    if (task is None) == (not clean):
        raise InputError("name a task, or give prompts with --clean, --counterfactual, --answer (and --wrong).")
    claim(out, "sweep", "batches", "null-batches", "sweep.json")
    loaded = load_model(model, trust_remote_code, text=reads_text(task))
    import cutaway as cw

    what = (
        _pairs(loaded, clean, counterfactual, answer, wrong)
        if task is None
        else make_task(task, loaded, n=n, seed=seed)
    )
    null: Any = None if quick else "auto"
    if not quick and how not in ("denoise", "noise"):
        from cutaway.evidence import rerandomise

        null = rerandomise(loaded, seed=seed)
    with step(f"Sweeping {at}"):
        found = cw.sweep(
            loaded,
            what,
            at=at,
            each=tuple(name for name in each.split(",") if name),
            how=how,
            metric=metric,
            positions=None if positions is None else [_position(p) for p in positions.split(",")],
            null=null,
            memory=memory,
            seed=seed,
            out=out,
        )
    print_result(found, out, as_json)
    if out is not None:
        sealed(out, "sweep", loaded.name, {"at": at, "each": each, "how": how, "seed": seed}, loaded.fingerprint)
        told_where(out, "sweep.json; sweep.safetensors has the metric of every item")
    elif not as_json:
        say("\n(--out DIR keeps the values of every item; --json prints all effects with their intervals)")


def _pairs(model: Model, clean: list[str], counterfactual: list[str], answer: list[str], wrong: list[str]) -> Any:
    import cutaway as cw
    from cutaway.core import InputError

    if not answer:
        raise InputError("--answer is needed: the right next token of each clean prompt, or one for all.")
    return cw.pairs(model, clean, counterfactual or None, answer, wrong or None)


def _position(text: str) -> str | int:
    text = text.strip()
    return int(text) if text.lstrip("-").isdigit() else text
