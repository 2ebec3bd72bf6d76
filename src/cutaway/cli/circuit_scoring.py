"""`cutaway circuit` where there is more to do than to find: score a circuit's file again, indirect objects whole."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from cutaway.cli.findings import finish, load_model, make_task
from cutaway.cli.output import say, step, warn


def competent(model: Any, task: Any, force: bool) -> None:
    """Refuse, with the figures, a model that does not do the task: a circuit of it would be of nothing."""
    from cutaway.core import InputError
    from cutaway.tasks import TaskWarning

    with step(f"Whether {model.name} does {task.name}"), warnings.catch_warnings():
        warnings.simplefilter("ignore", TaskWarning)  # said below, once
        found = task.check(model)
    if found.does == "no" and not force:
        raise InputError(f"{found.verdict} No circuit is named (--force names one all the same).")
    if found.does != "yes":
        warn(found.verdict)


def read_circuit(path: Path) -> Any:
    """A circuit from its file, or from the result.json of a study."""
    from cutaway.circuits import Circuit
    from cutaway.core import InputError, read_json

    path = path / "result.json" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"no file {path}.")
    try:
        body = read_json(path)
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}.") from None
    if isinstance(body, dict) and body.get("schema") == "cutaway.ioi/1":
        body = body.get("circuit")
    if not isinstance(body, dict):
        raise InputError(f"{path} holds no circuit.")
    try:
        return Circuit.from_json(body)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else (str(error).splitlines() or [""])[0]
        raise InputError(
            f"{path} is damaged: {what}. Find the circuit again: cutaway circuit TASK --out DIR."
        ) from None


def rescore(
    path: Path,
    model: str | None,
    pairs: Path | None,
    quick: bool,
    out: Path | None,
    seed: int,
    trust: bool,
    as_json: bool,
) -> None:
    """Score a circuit from its file: the task is made again from what the file says, and its hash is checked."""
    from cutaway.circuits.score import remade, score

    circuit = read_circuit(path)
    loaded = load_model(model or str(circuit.choices.get("model")), trust, text=False)
    task = None if pairs is None else make_task(str(pairs), loaded, n=None, seed=seed)
    found_on, judged_on = remade(loaded, circuit, task)
    with step(f"Scoring {path}: {circuit.size:,} edges on {len(judged_on)} items"):
        found = score(loaded, circuit, judged_on, found_on=found_on, quick=quick, seed=seed, say=say)
    finish(found, loaded, "circuit", out, as_json, settings=dict(found.choices))


def whole(
    model: str, n: int | None, quick: bool, force: bool, out: Path | None, seed: int, trust: bool, as_json: bool
) -> None:
    """Indirect objects, whole: find the heads, name their classes, hold them to the criteria."""
    from cutaway.exams.ioi import ioi_case

    loaded = load_model(model, trust)
    with step(f"Indirect objects in {loaded.name}"):
        found = ioi_case(loaded, n=n or 128, quick=quick, force=force, seed=seed, say=say)
    finish(found, loaded, "ioi", out, as_json, settings=dict(found.circuit.choices))
