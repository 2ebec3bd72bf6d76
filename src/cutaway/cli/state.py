"""`cutaway state`: does a model keep the state of a world that it only hears of, and does it use it?"""

from __future__ import annotations

from pathlib import Path

import typer

from cutaway.cli.findings import OUT, TRUST, claim, finish, load_model
from cutaway.cli.output import JSON, step

OTHELLO = "othello"


def state(
    data: str = typer.Argument(
        OTHELLO, help="othello, or a .npz file: tokens [n, T], state [n, T, S]; docs/readouts.md says what else."
    ),
    model: str | None = typer.Option(
        None, "--model", "-m", "--module", help="Any model of the data's tokens. Default for othello: othello."
    ),
    at: str = typer.Option("resid_post.*", help="Points to read, separated by commas."),
    side: str = typer.Option(
        "mover", help="othello: a disc is mine or theirs ('mover'), or black or white ('colour')."
    ),
    n: int = typer.Option(600, "--n", min=10, help="othello: how many games."),
    quick: bool = typer.Option(False, "--quick", help="Leave the re-randomised model out (and say so)."),
    out: Path | None = OUT,
    seed: int = typer.Option(0, min=0, help="Of games, split and nulls."),
    trust_remote_code: bool = TRUST,
    as_json: bool = JSON,
) -> None:
    """Read the state of a world (a board after each move) from every layer, then change it there: does what the model
    says next follow?

    Beside it: a re-randomised model, what the tokens alone say, random directions, and the simplest edit there is.

    Example:  cutaway state othello
    """
    from cutaway.core import InputError, UnknownName

    if side not in ("mover", "colour"):
        raise UnknownName("side", side, ("mover", "colour"))
    points = [part.strip() for part in at.split(",") if part.strip()]
    if not points:
        raise InputError("--at names no point.")
    if data != OTHELLO and not data.endswith(".npz"):
        raise UnknownName("world", data, (OTHELLO,), "A file of one's own ends in .npz.")
    if data != OTHELLO and model is None:
        raise InputError("--model is missing: which model reads these tokens?")
    claim(out, "state")
    from cutaway.organisms.othello import othello_states
    from cutaway.readouts.state_data import read_states
    from cutaway.readouts.state_study import fits, state_study

    found = (
        othello_states(n, seed + 1, "colour" if side == "colour" else "mover") if data == OTHELLO else read_states(data)
    )
    loaded = load_model(model or OTHELLO, trust_remote_code, text=False)
    fits(loaded, found, points)  # said before the work
    with step("Fitting probes at every point, then editing along them"):
        result = state_study(loaded, found, points, null=not quick, seed=seed)
    probe = result.probe
    best = probe.sweep[probe.best].point
    tensors = {"weight": probe.probes[best].weight, "bias": probe.probes[best].bias}
    finish(result, loaded, "state", out, as_json, settings={"at": points, "seed": seed}, tensors=tensors)
