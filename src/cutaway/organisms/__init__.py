"""Organisms: the recipes of the models that ship, with their data and training.

`train_organism` makes a shipped model again from a seed; `measure_organism` scores its behaviours on held-out items.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from cutaway.core import InputError, UnknownName

ORGANISMS = ("almanac", "almanac-1l")


def train_organism(
    name: str, out: str | Path, *, seed: int = 0, threads: int = 0, steps: int | None = None
) -> dict[str, Any]:
    """Trains a shipped model from nothing, or goes on with a killed run, into `out`; returns what it measured.

    almanac takes about 40 minutes on two quiet cores, almanac-1l 10.  UnknownName for a name without a recipe.
    """
    if name not in ORGANISMS:
        raise UnknownName("recipe", name, ORGANISMS)
    if steps is not None and steps < 1:
        raise InputError(f"at least one step is needed; {steps} were asked for.")
    import torch

    from .almanac.card import load_half
    from .almanac.train import train_almanac

    if threads:
        torch.set_num_threads(threads)
    changes = {} if steps is None else {"steps": steps}
    folder = train_almanac(out, seed=seed, one_layer=name == "almanac-1l", **changes)
    return {"name": name, "folder": str(folder), "seed": seed, "behaviours": measure_organism(load_half(folder))}


def measure_organism(model: Any, *, seed: int = 1, n: int = 500) -> list[dict[str, Any]]:
    """Accuracy on held-out items of every behaviour, each row with `behaviour`, `accuracy`, `interval` and `n`.

    `model` is a Hugging Face module, or a cutaway model that holds one with almanac's tokenizer.
    InputError where its tokenizer is another one.
    """
    from .almanac.behaviours import measure_behaviours

    module, tokenizer = getattr(model, "hf", model), getattr(model, "tokenizer", None)
    try:
        scores = measure_behaviours(module, tokenizer, seed=seed, n=n)
    except ValueError as error:
        raise InputError(str(error)) from error
    rows = []
    for score in scores:
        row = asdict(score)
        row["interval"] = [row.pop("low"), row.pop("high")]
        rows.append(row)
    return rows
