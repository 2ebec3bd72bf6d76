"""`cutaway develop`: a model's training as a timeline, its stages and its learning coefficient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from cutaway.cli.findings import claim, sealed, told_where
from cutaway.cli.output import JSON, print_json, print_result, say, step


def develop(
    context: typer.Context,
    what: str | None = typer.Argument(
        None, metavar="CASE | CHECKPOINTS", help="A case, a folder of step-… folders, or repo@revision,revision."
    ),
    measure: list[str] = typer.Option([], "--measure", "-m", help="Repeatable; --list has them. Default: six of them."),
    checkpoints: Path | None = typer.Option(None, "--checkpoints", help="Of a case: these, in place of its own."),
    text: str | None = typer.Option(None, "--text", help="Held-out text (.txt, .jsonl); almanac's needs none."),
    task: str = typer.Option("ioi", "--task", help="Of the measures task and circuit: a name from `cutaway tasks`."),
    every: int = typer.Option(1, min=1, help="Only each so-many-th checkpoint (the last always)."),
    rows: int = typer.Option(256, min=4, help="Rows of text, at most."),
    length: int = typer.Option(48, min=4, help="Tokens a row."),
    chains: int = typer.Option(4, min=2, help="Of the LLC."),
    draws: int = typer.Option(40, min=10, help="Of a chain, after half as many to burn in."),
    n_beta: float = typer.Option(300.0, help="Inverse temperature times items."),
    localisation: float = typer.Option(1e4, help="gamma, the pull back: a weight moves by about gamma^-1/2."),
    changes: str = typer.Option("slope", help="What a changepoint changes: slope or mean."),
    quick: bool = typer.Option(False, "--quick", help="A case with shorter chains (and shorter training)."),
    listed: bool = typer.Option(False, "--list", help="List cases and measures, and what each measure costs."),
    out: Path | None = typer.Option(None, "--out", "-o", help="A row a checkpoint as it comes; killed, it goes on."),
    seed: int = typer.Option(0, min=0, help="Of data, chains, shuffles."),
    as_json: bool = JSON,
) -> None:
    """Follow any metric over a model's training: loss, learning coefficient, heads, circuits, features, behaviours.

    Each series gets its changepoints with intervals, accepted only beyond the checkpoints shuffled. The LLC is measured
    at one setting for all checkpoints, so that they compare; `!` marks numbers whose chains say they are not to be
    taken as absolute. Cases: almanac, attention-only, grokking, polygons.

    Example:  cutaway develop almanac --out out/almanac-training
    """
    from cutaway.core import InputError, UnknownName, write_json
    from cutaway.exams.development_cases import CASES, run_case
    from cutaway.exams.timeline_measures import DEFAULT, MEASURES

    if listed or what is None:
        _list(CASES, MEASURES, as_json)
        return
    for name in measure:
        if name not in MEASURES:
            raise UnknownName("measure", name, MEASURES)
    if changes not in ("slope", "mean"):
        raise InputError(f"--changes takes slope or mean; {changes!r} was given.")
    claim(out, "timeline", "settings.json", "rows.jsonl", "timeline.json", "training", "timeline")
    result: Any
    if what in CASES:
        _refuse_beside_a_case(context, what)
        more: dict[str, Any] = {"quick": quick, "seed": seed, "every": every, "on": say}
        if checkpoints is not None:
            if what == "polygons":
                raise InputError("polygons are trained within seconds; there are no checkpoints to give.")
            more["checkpoints"] = checkpoints
        if measure:
            if what not in ("almanac", "attention-only"):
                raise InputError(f"{what} has measures of its own; --measure goes with checkpoints of language models.")
            more["names"] = measure
        result = run_case(what, out, **more)
    else:
        from cutaway.exams.timeline_measures import Plan

        plan = Plan(
            rows=rows, length=length, chains=chains, draws=draws, burn_in=draws // 2, n_beta=n_beta,
            localisation=localisation, seed=seed, task=task,
        )  # fmt: skip
        result = _of_checkpoints(what, measure or list(DEFAULT), plan, text, every, changes, out)
    if out is not None:
        write_json(out / "timeline.json", result.to_json())
        sealed(out, "timeline", what, {"measures": measure, "seed": seed, "quick": quick})
    print_result(result, out, as_json)
    if out is not None:
        told_where(out, "timeline.json")


def _refuse_beside_a_case(context: typer.Context, case: str) -> None:
    """A case has chains and text of its own: what is asked of them would be passed over in silence."""
    from cutaway.core import InputError

    own = ("text", "task", "rows", "length", "chains", "draws", "n_beta", "localisation", "changes")
    given = [name for name in own if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"]
    if given:
        raise InputError(
            f"--{given[0].replace('_', '-')} goes with a folder of checkpoints; the case {case} has its own (give its "
            "checkpoints' folder in place of the case's name to choose them)."
        )


def _of_checkpoints(
    what: str, names: list[str], plan: Any, text: str | None, every: int, changes: str, out: Path | None
) -> Any:
    import torch

    from cutaway.cli.findings import text_rows
    from cutaway.core import InputError
    from cutaway.development import find_checkpoints, timeline
    from cutaway.exams.development_cases import finished, small_world_rows
    from cutaway.exams.timeline_measures import reads_small_world, wired

    found = find_checkpoints(what, every=every)
    with step(f"Opening the last of {len(found)} checkpoints"):
        last = found.open(found.items[-1])
    ids: Any
    if text is None and reads_small_world(last):
        ids = small_world_rows(plan.rows, plan.length)
    elif text is None and set(names) - {"norm", "heads", "task", "circuit"}:
        raise InputError(
            "these measures need text: give --text FILE (.txt or .jsonl) that the model was not trained on."
        )
    elif text is None:
        ids = torch.zeros(1, 1, dtype=torch.long)
    else:
        kept = [row for row in text_rows(last, text, plan.rows * plan.length * 4) if len(row) >= plan.length]
        if len(kept) < 4:
            raise InputError(f"{text} gives {len(kept)} rows of {plan.length} tokens; at least 4 are needed.")
        ids = torch.tensor([row[: plan.length] for row in kept[: plan.rows]])
    line = timeline(found, wired(names, found, ids, plan, say, out), out, on=say)
    event = "head: prefix matching" if "heads" in names else None
    return finished(line, kind=changes, event=event, seed=plan.seed)


def _list(cases: dict[str, str], measures: dict[str, str], as_json: bool) -> None:
    if as_json:
        print_json("cutaway.develop-list/1", {"cases": cases, "measures": measures})
        return
    print("cases (cutaway develop NAME):")
    for name, says in cases.items():
        print(f"  {name:<16}{says}")
    print("measures (cutaway develop CHECKPOINTS --measure NAME …), and what each costs a checkpoint:")
    for name, says in measures.items():
        print(f"  {name:<16}{says}")
