"""`cutaway circuit`: the heads, MLPs and edges that carry a task, and how far to believe it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from cutaway.cli.findings import MODEL_HELP, OUT, TASK_FILES, TRUST, claim, finish, load_model, make_task, reads_text
from cutaway.cli.output import JSON, say, step, warn


def _methods(on: bool) -> None:
    if not on:
        return
    from cutaway.circuits import METHODS
    from cutaway.core.table import columns

    rows = [("method", "cost", "what it does")]
    rows += [(name, one.cost, one.about) for name, one in METHODS.items()]
    print("\n".join(columns(rows, indent="")))
    print("\nF, B: forwards, backwards of the whole task; m: --steps; L: layers; S: sources; E: edges.")
    print("cutaway exam circuits compares them.")
    raise typer.Exit


def circuit(
    task: str = typer.Argument(
        ..., help="A task (cutaway tasks lists them), a .csv or .jsonl file of pairs, or a circuit's .json."
    ),
    model: str | None = typer.Option(None, "--model", "-m", "--module", help=f"{MODEL_HELP} Default: almanac."),
    method: str = typer.Option("eap-ig", help="How edges are scored; --methods lists them with their costs."),
    size: int | None = typer.Option(None, min=1, help="Edges (for node methods: nodes). Default: faithful at 0.85."),
    ablation: str = typer.Option("resample", help="What edges left out carry: resample, mean, zero or optimal."),
    steps: int = typer.Option(5, min=1, help="Steps of integrated gradients."),
    points: str = typer.Option("right", help="Of eap-ig's line: right, left (its authors' code) or midpoint."),
    whole_heads: bool = typer.Option(False, "--whole-heads", help="A head is one destination, not q, k and v apart."),
    signed: bool = typer.Option(False, "--signed", help="Take edges by score, not by its absolute value."),
    positions: str | None = typer.Option(
        None, help="Edges apart by position: names of the task's (S2,end), named for all, each for every column."
    ),
    neurons: str | None = typer.Option(
        None, help="Neurons as sources of their own: names (m2.n17,m3.n90), or how many of those that score highest."
    ),
    n: int | None = typer.Option(None, "--n", min=2, help="Items, half to find on. Default: 64, or all of a file."),
    counterfactual: str | None = typer.Option(None, "--counterfactual", "-c", help="Its kind (cutaway tasks NAME)."),
    metric: str | None = typer.Option(None, help="logit_difference, probability, ….  Default: the task's."),
    quick: bool = typer.Option(False, "--quick", help="20 random circuits in place of 100, a smaller audit."),
    methods: bool = typer.Option(False, "--methods", is_eager=True, callback=_methods, help="List them."),
    whole: bool = typer.Option(False, "--whole", help="ioi alone: heads, named by what they do (Wang et al. 2022)."),
    scored: bool = typer.Option(False, "--score", help="Also minimality, completeness and the five tests."),
    pairs: Path | None = typer.Option(None, "--pairs", help="To score a circuit's .json again: its file of pairs."),
    force: bool = typer.Option(False, "--force", help="Also where the model does not do the task."),
    out: Path | None = OUT,
    seed: int = typer.Option(0, min=0, help="Of the items, the halves, random circuits and the null."),
    trust_remote_code: bool = TRUST,
    as_json: bool = JSON,
) -> None:
    """Find the edges between heads and MLPs that carry a task, and test them on items held out.

    Beside the circuit's faithfulness stand random circuits of its size, the simplest ranking, and the same method on
    the re-randomised model; a sample of edges is ablated for real. A circuit's own file (circuit.json, or the folder
    that --out wrote) is scored again: the items are made anew and their hash is checked.

    Example:  cutaway circuit ioi --model almanac --method eap-ig
    """
    del methods
    claim(out, "ioi" if whole else "circuit")
    from cutaway.circuits import ABLATIONS, METHODS
    from cutaway.cli import circuit_scoring as scoring
    from cutaway.core import InputError, UnknownName

    if method not in METHODS:
        raise UnknownName("circuit method", method, METHODS)
    if ablation not in ABLATIONS:
        raise UnknownName("ablation", ablation, ABLATIONS)
    if whole:
        if task != "ioi":
            raise InputError(f"--whole is of the task ioi, whose heads have names; {task!r} was given.")
        return scoring.whole(model or "almanac", n, quick, force, out, seed, trust_remote_code, as_json)
    if Path(task).suffix.lower() == ".json" or Path(task).is_dir():
        return scoring.rescore(Path(task), model, pairs, quick, out, seed, trust_remote_code, as_json)
    loaded, made = _task(task, model or "almanac", n, counterfactual, metric, seed, trust_remote_code)
    from cutaway.circuits import discover

    scoring.competent(loaded, made, force)

    with step(f"Finding the circuit of {made.name} in {loaded.name}"):
        found = discover(
            loaded,
            made,
            method,
            size=size,
            ablation=ablation,
            split=not whole_heads,
            steps=steps,
            points=points,
            positions=_spans(positions),
            neurons=_neurons(neurons),
            by="signed" if signed else "absolute",
            check="quick" if quick else "full",
            seed=seed,
            say=say,
        )
    if scored:
        found = _scored(found, loaded, made, quick, seed)
    if out is not None and found.level == "edge":
        found = _shown(found, loaded, made, quick, seed)
    tensors = {"scores": found.scores, "members": found.members}
    finish(found, loaded, "circuit", out, as_json, settings=dict(found.choices), tensors=tensors)


def _spans(positions: str | None) -> tuple[str, ...] | str | None:
    """S2,end -> (S2, end); named, each and nothing as they are."""
    return positions if positions in (None, "named", "each") else tuple(positions.split(","))


def _neurons(given: str | None) -> tuple[str, ...] | int:
    """m2.n17,m3.n90 -> (m2.n17, m3.n90); a number as it is."""
    return () if given is None else int(given) if given.isdecimal() else tuple(given.split(","))


def _scored(found: Any, model: Any, task: Any, quick: bool, seed: int) -> Any:
    """With what `score` adds to what `discover` has measured."""
    from dataclasses import replace

    from cutaway.circuits.score import remade, score

    found_on, judged_on = remade(model, found, task)
    with step("Scoring it"):
        more = score(model, found, judged_on, found_on=found_on, quick=quick, seed=seed, say=say)
    known = {item.claim for item in more.evidence}
    kept = tuple(item for item in found.evidence if item.claim not in known)
    return replace(more, parts={**found.parts, **more.parts}, evidence=(*kept, *more.evidence))


def _shown(found: Any, model: Any, task: Any, quick: bool, seed: int) -> Any:
    """With what the viewer shows of an edge: its exact effect, and its head's pattern on the task's first item."""
    from dataclasses import replace

    from cutaway.circuits.masked import opened
    from cutaway.circuits.measured import measured_edges
    from cutaway.core import InputError
    from cutaway.readouts import patterns

    with step("Ablating the strongest edges for real"):
        items = task.take(range(min(len(task), 8)))
        measured = measured_edges(opened(model, found.graph.neurons), found, items, most=12 if quick else 24, seed=seed)
    parts = {**found.parts, "measured": measured}
    places = {re.match(r"a(\d+)\.h(\d+)", name) for name in found.heads}
    heads = sorted((int(place[1]), int(place[2])) for place in places if place)
    try:
        parts["example"] = _Example(patterns(model, task.take(range(1)).clean, heads))
    except InputError as error:
        warn(f"no attention patterns: {error}")
    return replace(found, parts=parts)


@dataclass(frozen=True)
class _Example:
    """Attention patterns of the circuit's heads on one item; for the viewer, said in a line."""

    found: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return self.found

    def __str__(self) -> str:
        return f"(The patterns of {len(self.found['patterns'])} heads on the first item are in the study: cutaway view)"


def _task(
    name: str, model: str, n: int | None, counterfactual: str | None, metric: str | None, seed: int, trust: bool
) -> tuple[Any, Any]:
    from cutaway.tasks.catalogue import entry

    if Path(name).suffix.lower() not in TASK_FILES:
        entry(name)  # an unknown name is said before a model is loaded
    loaded = load_model(model, trust, text=reads_text(name))
    return loaded, make_task(name, loaded, n=n, seed=seed, counterfactual=counterfactual, metric=metric)
