"""The experiments of Toy Models of Superposition as items of the `cutaway toy` verb."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module

from cutaway.core import InputError, UnknownName
from cutaway.toys.registry import Asked
from cutaway.toys.superposition.report import Experiment, Experiments

# name -> (what it shows, module, function)
EXPERIMENTS: dict[str, tuple[str, str, str]] = {
    "pentagon": ("five features in two dimensions, 72 degrees apart", "packing", "pentagon"),
    "5-in-2": ("ReLU against linear, from dense to sparse", "packing", "five_in_two"),
    "20-in-5": ("the same, I = .7^i", "packing", "twenty_in_five"),
    "80-in-20": ("the same, I = .9^i", "packing", "eighty_in_twenty"),
    "phases-2-in-1": ("ignored, dedicated or antipodal: theory and training", "phases", "two_in_one"),
    "phases-3-in-2": ("the same with one more dimension", "phases", "three_in_two"),
    "plateaus": ("D* and D_i stick at simple fractions (400 in 30)", "plateaus", "plateaus"),
    "one-sparser": ("a pentagon breaks into two digons", "uneven", "one_sparser"),
    "correlated": ("features that come together, or exclude each other", "uneven", "correlated"),
    "jumps": ("energy levels during training", "dynamics", "jumps"),
    "adversarial": ("vulnerability follows features per dimension", "vulnerability", "adversarial"),
    "privileged": ("neurons from one feature to many", "computing", "privileged"),
    "absolute": ("computing |x| in superposition; asymmetry and inhibition", "computing", "absolute"),
}
_OPTIONS = {
    "seed": "of weights and draws (0)",
    "effort": "steps of training, as a multiple of the usual (1); checks may fail below 1",
}


def items() -> Mapping[str, str]:
    """Each experiment with what it shows; `all` is every one of them."""
    return {**{name: about for name, (about, _, _) in EXPERIMENTS.items()}, "all": "every experiment of superposition"}


def options() -> Mapping[str, str]:
    return _OPTIONS


def run(asked: Asked) -> Experiments:
    """Make the experiments named, every one where none is; with a folder, NAME.png and NAME.json of each.

    Raises InputError for options that are no numbers, UnknownName for other names.
    """
    if asked.given is not None:
        raise InputError("an experiment of superposition takes no input.")
    names = list(asked.items) or ["all"]
    for name in names:
        if name not in EXPERIMENTS and name != "all":
            raise UnknownName("experiment of superposition", name, [*EXPERIMENTS, "all"])
    if "all" in names:
        names = list(EXPERIMENTS)
    seed, effort = _settings(asked.options)
    done: list[Experiment] = []
    for name in dict.fromkeys(names):
        _, module, function = EXPERIMENTS[name]
        make = getattr(import_module(f"cutaway.toys.superposition.{module}"), function)
        began = time.perf_counter()
        made: Experiment = make(seed=seed, effort=effort, on=asked.on)
        done.append(replace(made, seconds=time.perf_counter() - began))
        if asked.out is not None:
            done[-1].save(asked.out)
    return Experiments(tuple(done))


def _settings(options: Mapping[str, str]) -> tuple[int, float]:
    for key in options:
        if key not in _OPTIONS:
            raise UnknownName("option of superposition", key, list(_OPTIONS))
    try:
        seed, effort = int(options.get("seed", "0")), float(options.get("effort", "1"))
    except ValueError:
        raise InputError("seed is a whole number and effort a number.") from None
    if seed < 0 or not 0 < effort <= 100:
        raise InputError(f"seed is at least 0 and effort in (0, 100]; {seed} and {effort:g} were given.")
    return seed, effort
