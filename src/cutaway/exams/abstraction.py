"""The exam of `abstraction/`: every compiled program, whose variables' subspaces are known exactly.

Exchanging a variable's subspace must do what exchanging the variable does in the program, wherever the compiler says
that the subspace is whole (all that read it read it later): IIA 1. Where it is absent or spent, and in the directions
that no variable uses, exchanging must change nothing: IIA is then exactly the rate at which base and counterfactual
outputs agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

QUICK = ("length", "hist", "double_hist", "frac_prevs", "sort_unique", "shift", "add_carry", "equal_pairs")
PAIRS, QUICK_PAIRS = 128, 48


def abstraction_exam(*, quick: bool = False, seed: int = 0) -> list[dict[str, Any]]:
    """Laws of interchange on compiled programs, which pass or fail. Items: an input, a source of the same length (the
    longest) and a position whose output is read, drawn by the seed. Three minutes on one core; `quick`: 8 programs.
    """
    from cutaway.model.progress import Progress
    from cutaway.toys.rasp import compile_program, program, program_names

    rows: list[dict[str, Any]] = []
    names = QUICK if quick else program_names()
    with Progress(len(names), "compiled programs", "programs") as shown:
        for name in names:
            rows += _examined(compile_program(program(name)), QUICK_PAIRS if quick else PAIRS, seed)
            shown.step(1)
    live = [row for row in rows if row["truth"] == 1.0]
    still = [row for row in rows if row["truth"] == 0.0]
    agree = sum(row["agreement"] * row["n"] for row in live) / max(1, sum(row["n"] for row in live))
    total = [
        _row(
            f"all programs: IIA where the variable's subspace is whole ({sum(r['places'] for r in live)} places; "
            f"nothing exchanged: {agree:.3f})",
            1.0, _mean(live), sum(row["n"] for row in live), sum(r["places"] for r in live), agree,
        ),
        _row(
            f"all programs: largest |IIA - agreement| where it is void ({sum(r['places'] for r in still)} places)",
            0.0, max((row["estimate"] for row in still), default=0.0), sum(r["n"] for r in still),
            sum(r["places"] for r in still), None,
        ),
    ]  # fmt: skip
    return total + rows


def _mean(rows: Sequence[dict[str, Any]]) -> float:
    n = sum(row["n"] for row in rows)
    return sum(row["estimate"] * row["n"] for row in rows) / n if n else float("nan")


def _row(name: str, truth: float, estimate: float, n: int, places: int, agreement: float | None) -> dict[str, Any]:
    from cutaway.evidence import wilson

    span = wilson(round(estimate * n), n) if truth == 1.0 else None
    return {
        "name": name,
        "truth": truth,
        "estimate": estimate,
        "interval": None if span is None else [span.low, span.high],
        "n": n,
        "places": places,
        "agreement": agreement,  # base and counterfactual outputs: what an exchange without effect scores
        "tolerance": 0,
        "passed": estimate == truth,
    }


def rasp_causal_model(compiled: Any, length: int) -> Any:
    """A compiled program as a causal model: each variable's values at all positions, and the output at the position
    `asked`. Interchanges after which the program has no meaning are left out."""
    from cutaway.abstraction import CausalModel, NoMeaning
    from cutaway.toys.rasp.interpreter import Ambiguous, interpret

    variables = compiled.variables
    names = {sop: name for name, sop in variables.items()}
    causal = compiled.program.causal
    rows = [given for given in compiled.program.inputs(length) if len(given) == length]

    def mechanism(sop: Any) -> Any:
        parents = tuple(dict.fromkeys(names[parent] for parent in sop.parents))

        def of(given: Any, *values: Any) -> tuple[Any, ...]:
            set_to = {variables[parent]: list(value) for parent, value in zip(parents, values)}
            try:
                return tuple(interpret(sop, given, causal=causal, set_to=set_to)[sop])
            except Ambiguous as error:
                raise NoMeaning(str(error)) from error

        return ("given", *parents), of

    def draw(rng: np.random.Generator) -> dict[str, Any]:
        return {"given": rows[int(rng.integers(len(rows)))], "asked": int(rng.integers(length))}

    output = list(variables)[-1]
    mechanisms: dict[str, Any] = {name: mechanism(sop) for name, sop in variables.items()}
    mechanisms["said"] = ((output, "asked"), lambda values, asked: values[asked])
    return CausalModel(
        {"given": None, "asked": None},
        mechanisms,
        name=compiled.name,
        prompt=lambda v: compiled.ids([v["given"]])[0],
        answer=compiled.vocabulary.id,
        positions={"answer": lambda v: 1 + v["asked"]},
        draw=draw,
    )


def _examined(compiled: Any, pairs: int, seed: int) -> list[dict[str, Any]]:
    """A program's two rows: where subspaces are whole, and where exchanging is to change nothing."""
    from cutaway.abstraction import counterfactuals, whole
    from cutaway.abstraction.data import Data
    from cutaway.abstraction.featurizers import Subspace
    from cutaway.abstraction.measure import Cell, measure

    model, truth = compiled.load(), compiled.truth
    causal = rasp_causal_model(compiled, compiled.program.longest)
    hits = {True: 0, False: 0}
    counts = {True: 0, False: 0}
    places = {True: 0, False: 0}
    apart, agreed = 0.0, 0.0
    unused = _unused(truth)
    for name, variable in truth.variables.items():
        items = counterfactuals(causal, name, pairs, seed=seed, balance=False)
        points = [point for point, state in variable.live.items() if state != "part"]
        data = Data(model, causal, (name,), items, points)
        every = torch.arange(len(items))
        agree = float((~data.changes).double().mean())
        own = Subspace.spanning(variable.basis)
        cells, featurizers, judged = [], [], []
        for point in points:
            spot = data.spot(whole(point, None), 0)
            for featurizer, live in [(own, variable.live[point] == "whole"), *([(unused, False)] if unused else [])]:
                cells.append(Cell((spot,), data.wanted))
                featurizers.append([featurizer])
                judged.append(live)
        found = measure(data, cells, featurizers, every).hits.double().mean(1).tolist()
        for live, iia in zip(judged, found):
            places[live] += 1
            counts[live] += len(items)
            hits[live] += round(iia * len(items))
            agreed += agree * len(items) if live else 0.0
            if not live:
                apart = max(apart, abs(iia - agree))
    rows = []
    if counts[True]:
        share = hits[True] / counts[True]
        alone = agreed / counts[True]
        label = (
            f"{compiled.name}: IIA where the subspace is whole ({places[True]} places; nothing exchanged: {alone:.3f})"
        )
        rows.append(_row(label, 1.0, share, counts[True], places[True], alone))
    if counts[False]:
        label = f"{compiled.name}: largest |IIA - agreement| in irrelevant subspaces ({places[False]} places)"
        rows.append(_row(label, 0.0, apart, counts[False], places[False], None))
    return rows


def _unused(truth: Any) -> Any:
    """One direction of the residual stream that no variable uses; None where all are used."""
    from cutaway.abstraction.featurizers import Subspace

    used = torch.cat([variable.basis.double() for variable in truth.variables.values()])
    width = used.shape[1]
    outside = torch.eye(width, dtype=torch.float64) - torch.linalg.pinv(used) @ used
    _, s, v = torch.linalg.svd(outside)
    return Subspace(v[:1].float()) if float(s[0]) > 0.5 else None
