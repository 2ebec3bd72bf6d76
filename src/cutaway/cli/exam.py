"""`cutaway exam`: a room's methods against what is known exactly, truth beside estimate."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree
from typing import Any

import typer

from cutaway.cli.findings import claim, sealed
from cutaway.cli.output import JSON, print_json, say, step

SIDE = 7  # columns of a table side by side
PARTS = "parts"  # of the folder: what an exam that was ended goes on from


def exam(
    room: str = typer.Argument(
        ..., help="The room: abstraction, circuits, development, features, graphs, ioi, superposition, vision."
    ),
    quick: bool = typer.Option(False, "--quick", help="Fewer items."),
    seed: int = typer.Option(0, min=0, help="What is drawn at random: items, pairs, null directions."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the rows here: a folder, or a .json file."),
    as_json: bool = JSON,
) -> None:
    """Put a room's methods beside exact truth.

    A row passes by a law that must hold or a stated tolerance; approximations are reported, not passed. Exit status 1
    when a row fails.

    Example:  cutaway exam graphs --json
    """
    from cutaway.core import InputError, UnknownName, write_json
    from cutaway.core.files import refuse_unwritable
    from cutaway.exams import ROOMS, run_exam

    if room not in ROOMS:
        raise UnknownName("room with an exam", room, ROOMS)
    if out is not None and out.suffix == ".json":
        refuse_unwritable(out.parent)
        if out.is_dir():
            raise InputError(f"--out {out} is a folder; name a .json file, or a folder without that ending.")
    else:
        claim(out, "exam", PARTS)
    with step(f"Examining {room}"):
        keep = None if out is None or out.suffix == ".json" else out / PARTS
        result = run_exam(room, quick=quick, seed=seed, say=say, keep=keep)
    body = {"room": room, "quick": quick, "seed": seed, **result}
    if out is not None:
        alone = out.suffix == ".json"
        write_json(out if alone else out / "exam.json", {"schema": "cutaway.exam/1", **body})
        if not alone:
            rmtree(out / PARTS, ignore_errors=True)  # it is done: another run is a run of its own
            sealed(out, "exam", "", {"room": room, "quick": quick, "seed": seed})
    if as_json:
        print_json("cutaway.exam/1", body)
    else:
        for row in result["rows"]:
            if "table" not in row:
                print(_render(row))
        print(*_tables(result["rows"]), sep="\n\n")
    if any(row["passed"] is False for row in result["rows"]):
        raise typer.Exit(1)


def _render(row: dict[str, object]) -> str:
    mark = {True: "pass", False: "FAIL", None: "    "}[row["passed"]]  # type: ignore[index]
    interval = row.get("interval")
    span = f" [{interval[0]:.3g}, {interval[1]:.3g}]" if isinstance(interval, (list, tuple)) else ""
    truth = "" if row.get("truth") is None else f"   truth {row['truth']}"
    return f"{mark}  {row['name']}: {row['estimate']:.4g}{span}{truth}"


def _tables(rows: list[dict[str, Any]]) -> list[str]:
    """The rows that name a place in a table, [title, line, column], as tables: at most SIDE columns side by side."""
    from cutaway.core.table import columns

    found: dict[str, dict[tuple[str, str], str]] = {}
    for row in rows:
        if "table" in row:
            title, line, column = row["table"]
            interval = row.get("interval") if row.get("spread") else None
            span = "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"
            found.setdefault(title, {})[line, column] = f"{row['estimate']:.2f}{span}"
    shown = []
    for title, cells in found.items():
        lines, names = (list(dict.fromkeys(key[i] for key in cells)) for i in range(2))
        for start in range(0, len(names), SIDE):
            some = names[start : start + SIDE]
            table = [("", *some), *((line, *(cells.get((line, name), "") for name in some)) for line in lines)]
            shown.append("\n".join([title, *columns(table)]))
    return shown
