"""The trained programs that ship: eleven networks in half precision, with what they scored after rounding.

    shipped/NAME.safetensors     float16 weights, without the norms (which are the identity)
    shipped/networks.json        schema cutaway.siit-shipped/1: settings, steps and scores of each

Made by

    cutaway toy siit mod_sum shift hist … --set steps=2500 --set baseline=0 --out ./trained
    python -m cutaway.toys.siit.shipped ./trained
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from cutaway.core import InputError, UnknownName, atomic_path, read_json, write_json
from cutaway.toys.rasp import CompiledProgram, compile_program, program
from cutaway.toys.siit.lessons import lessons
from cutaway.toys.siit.network import Network, fresh
from cutaway.toys.siit.score import score

FOLDER = Path(__file__).parent / "shipped"
SCHEMA = "cutaway.siit-shipped/1"
PAIRS = 300  # a node, for the scores after rounding


@cache
def records() -> Mapping[str, Any]:
    """name -> {steps, settings, score} of each network, in the order of their names."""
    found: Mapping[str, Any] = read_json(FOLDER / "networks.json")["networks"]
    return found


def names() -> tuple[str, ...]:
    """The programs of which a trained network ships."""
    return tuple(records())


def shipped(name: str) -> tuple[CompiledProgram, Network]:
    """A program, compiled, and the network trained to be it, in float32. Raises UnknownName."""
    if name not in records():
        raise UnknownName("trained program that ships", name, names())
    compiled, settings = compile_program(program(name)), records()[name]["settings"]
    network = fresh(compiled, d_model=settings["d_model"], heads=settings["heads"], seed=settings["seed"])
    _put(network, load_file(FOLDER / f"{name}.safetensors"))
    return compiled, network


def _put(network: Network, half: Mapping[str, torch.Tensor]) -> None:
    state = network.model.state_dict()
    if missing := [key for key in state if "norm" not in key and key not in half]:
        raise InputError(f"the file lacks {', '.join(missing[:3])}.")
    network.model.load_state_dict({key: half[key].to(x) if key in half else x for key, x in state.items()})
    network.model.eval().requires_grad_(False)


def pack(trained: Path, into: Path = FOLDER) -> dict[str, Any]:
    """Round the networks of a folder (as `cutaway toy siit … --out` writes it) to half precision, score them again and
    write them. Raises InputError for one that no longer is its program."""
    found: dict[str, Any] = {}
    for report in sorted(trained.glob("**/siit.json")):
        made = read_json(report)
        name, settings = made["program"], made["settings"]
        weights = load_file(report.parent / "model.safetensors")
        half = {key: x.half().contiguous() for key, x in weights.items() if "norm" not in key}
        compiled = compile_program(program(name))
        network = fresh(compiled, d_model=settings["d_model"], heads=settings["heads"], seed=settings["seed"])
        _put(network, half)
        scored = score(network, lessons(compiled), n=PAIRS, seed=20_000)
        values = {which: scored.pooled(which) for which in ("iia", "changed", "strict")}
        low = [v.value for v in (scored.behaviour, *values.values()) if v.n and v.value < 0.99]
        if low:
            raise InputError(f"{name}: in half precision a score falls to {min(low):.3f}; train it for longer.")
        into.mkdir(parents=True, exist_ok=True)
        with atomic_path(into / f"{name}.safetensors") as place:
            save_file(half, place)
        figures = {which: [v.value, v.n] for which, v in {"behaviour": scored.behaviour, **values}.items()}
        found[name] = {"steps": made["steps"], "settings": settings, "circuit": made["circuit"], "score": figures}
        print(f"{name}: {scored.line()}", file=sys.stderr)
    if not found:
        raise InputError(f"{trained} holds no network that `cutaway toy siit … --out` wrote.")
    record = {"schema": SCHEMA, "pairs": PAIRS, "networks": {name: found[name] for name in sorted(found)}}
    write_json(into / "networks.json", record, indent=1)
    return record


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
