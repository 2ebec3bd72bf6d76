"""Organisms: the recipes of the models that ship, with their data and training.

`train_organism` makes a shipped model again from a seed; `measure_organism` scores its behaviours on held-out items.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from cutaway.core import InputError, UnknownName
from cutaway.core.files import refuse_foreign

ORGANISMS = ("almanac", "almanac-1l", "ioi", "primer", "primer-textless", "othello")


def train_organism(
    name: str, out: str | Path, *, seed: int = 0, threads: int = 0, steps: int | None = None
) -> dict[str, Any]:
    """Trains a shipped model from nothing, or goes on with a killed run, into `out`; returns what it measured.

    almanac takes about 40 minutes on two quiet cores, almanac-1l 10; ioi about 4 on one (its seeds 0, 1 and 2 ship as
    ioi-0 …), primer and its twin about 8 each, othello about 30.  UnknownName for a name without a recipe.
    """
    if name not in ORGANISMS:
        raise UnknownName("recipe", name, ORGANISMS)
    if steps is not None and steps < 1:
        raise InputError(f"at least one step is needed; {steps} were asked for.")
    import torch

    if name == "othello":
        return _train_othello(Path(out), seed, threads, steps)
    if name.startswith("primer"):
        return _train_primer(name, Path(out), seed, threads, steps)
    from .almanac.behaviours import behaviours_in
    from .almanac.card import load_half
    from .almanac.recipe import RECIPES
    from .almanac.train import train_almanac

    if threads:
        torch.set_num_threads(threads)
    changes = {} if steps is None else {"steps": steps}
    folder = train_almanac(out, seed=seed, recipe=RECIPES[name], **changes)
    rows = measure_organism(load_half(folder), names=behaviours_in(RECIPES[name].text))
    return {"name": name, "folder": str(folder), "seed": seed, "behaviours": rows}


def ship_organism(run: str | Path, folder: str | Path, *, checkpoints: int = 0) -> list[str]:
    """Makes of a finished run of almanac's kind the folder that ships: float16 weights, tokenizer, card with held-out
    accuracies, `checkpoints` of its checkpoints. Returns the behaviours below their target.

    InputError where `run` holds no finished run.
    """
    from .almanac.card import ship

    run, folder = Path(run), Path(folder)
    refuse_foreign(folder, "behaviours.json")
    if not (run / "config.json").is_file() or not (run / "log.jsonl").is_file():
        raise InputError(f"{run} holds no finished run; cutaway organism train makes one.")
    return [s.behaviour for s in ship(run, folder, checkpoints=checkpoints) if s.target and s.accuracy < s.target]


def _train_primer(name: str, out: Path, seed: int, threads: int, steps: int | None) -> dict[str, Any]:
    import torch

    from cutaway.vision import look

    from .primer.measure import measure_primer
    from .primer.ship import save_half
    from .primer.train import Recipe, train

    refuse_foreign(out, "run", "model")
    torch.set_num_threads(threads or 1)
    changes = {} if steps is None else {"steps": steps}
    model = train(Recipe(seed=seed, textless=name != "primer", **changes), out / "run")
    save_half(model, out / "model")
    return {"name": name, "folder": str(out / "model"), "seed": seed, "behaviours": measure_primer(look(model))}


def _train_othello(out: Path, seed: int, threads: int, steps: int | None) -> dict[str, Any]:
    import torch

    from .othello.ship import ship
    from .othello.train import Recipe, measure_othello, train

    refuse_foreign(out, "run", "model")
    torch.set_num_threads(threads or 1)
    changes = {} if steps is None else {"steps": steps}
    recipe = Recipe(seed=seed, **changes)
    model = train(recipe, out / "run")
    rows = measure_othello(model)
    ship(model, recipe, rows, out / "model")
    return {"name": "othello", "folder": str(out / "model"), "seed": seed, "behaviours": rows}


def measure_organism(model: Any, *, seed: int = 1, n: int = 500, names: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Accuracy on held-out items of every behaviour (or of `names`), each row with `behaviour`, `accuracy`, `interval`
    and `n`.

    `model` is a Hugging Face module, a cutaway model that holds one with almanac's tokenizer, or a vision tower (then
    of the primer's world).
    InputError where its tokenizer is another one.
    """
    from .almanac.behaviours import measure_behaviours

    if hasattr(model, "embedding"):  # a vision tower
        from .primer.measure import measure_primer

        return measure_primer(model, seed=seed, n=n)
    module, tokenizer = getattr(model, "hf", model), getattr(model, "tokenizer", None)
    if tokenizer is not None and tokenizer.bos_token == "start":  # knows moves and no words
        from .othello.train import measure_othello

        return measure_othello(module, seed=seed, n=n)
    try:
        scores = measure_behaviours(module, tokenizer, seed=seed, n=n, names=names)
    except ValueError as error:
        raise InputError(str(error)) from error
    rows = []
    for score in scores:
        row = asdict(score)
        row["interval"] = [row.pop("low"), row.pop("high")]
        rows.append(row)
    return rows
