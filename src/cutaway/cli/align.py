"""`cutaway align`: does a network run this algorithm? Cases of the literature, or a file of one's own."""

from __future__ import annotations

from pathlib import Path

import typer

from cutaway.cli.findings import MODEL_HELP, claim, sealed, told_where
from cutaway.cli.output import JSON, print_result, say, step


def _cases(on: bool) -> None:
    if not on:
        return
    from cutaway.core.table import columns
    from cutaway.exams.abstraction_cases import CASES

    print("\n".join(columns([("case", "question"), *((name, one.about) for name, one in CASES.items())], indent="")))
    raise typer.Exit


def align(
    case: str = typer.Argument(..., help="A case (--cases lists them), or SPEC.py, which is run."),
    model: str | None = typer.Option(
        None, "--model", "-m", "--module", help=f"Another network than the case's. {MODEL_HELP}"
    ),
    quick: bool = typer.Option(False, "--quick", help="Fewer items and steps, one seed, no sweep, no trained nulls."),
    data: Path | None = typer.Option(None, "--data", help="Of the case ravel: RAVEL's data.tgz, or the folder in it."),
    entity: str = typer.Option("city", "--entity", help="Of ravel: city, verb, occupation, …"),
    attribute: list[str] = typer.Option(
        [], "--attribute", help="Of ravel, repeatable: Country, … By default those that the model knows best."
    ),
    capacity: bool = typer.Option(
        False, "--capacity", help="IIA against the map's capacity at every power of two, on three seeds."
    ),
    cases: bool = typer.Option(False, "--cases", is_eager=True, callback=_cases, help="List the cases."),
    seed: int = typer.Option(0, min=0, help="Of the items, random subspaces and, in equality, the network."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write case.json, the subspaces and the drawing here."),
    as_json: bool = JSON,
) -> None:
    """Look for the variables of a causal model in a network by interchange interventions.

    IIA is the share of held-out items where the network says what the causal model says after an exchange; half of the
    items change the answer, so a network left alone scores .5. Beside it stand random subspaces, shuffled labels, an
    untrained network, rival causal models, the whole vector exchanged, maps of other capacities (a nonlinear one last),
    and causal scrubbing.

    SPEC.py defines causal_model and places (and model, rivals, n, steps, sweep if wanted): docs/abstraction.md.

    Example:  cutaway align equality
    """
    del cases
    claim(out, "alignment", "case.json")
    from cutaway.core import InputError
    from cutaway.exams.abstraction_cases import case as find
    from cutaway.exams.abstraction_ravel import ravel_case
    from cutaway.exams.abstraction_run import run_case

    if case == "ravel":
        with step(f"Asking {model or 'almanac'} for RAVEL's facts"):
            found, model = ravel_case(model or "almanac", data, entity, attribute, seed=seed), None
    elif data is not None or attribute:
        raise InputError(f"--data and --attribute go with the case ravel; the case {case} has none.")
    else:
        with step(f"Opening {case}"):
            found = find(case, seed)
    try:
        result = run_case(found, model, quick=quick, seed=seed, capacity=capacity, say=lambda what: say(f"{what} …"))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        if model is None or isinstance(error, InputError):
            raise
        why = (str(error).splitlines() or [""])[0][:160]
        raise InputError(
            f"{model} cannot be run on the items of {case} ({type(error).__name__}: {why}). --model takes a network "
            "that reads and gives what the case's own does; for another write a SPEC.py (docs/abstraction.md)."
        ) from error
    if out is not None:
        result.save(out)
        sealed(out, "alignment", result.alignment.model, {"case": case, "seed": seed, "quick": quick})
    print_result(result, out, as_json)
    if out is not None:
        told_where(out, "case.json; alignment/ has subspaces, hits and causal-model.svg")
    elif not as_json:
        say("\n(--out DIR keeps the subspaces and every item; --json prints all of it)")
