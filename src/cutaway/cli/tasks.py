"""`cutaway tasks`: the tasks of the literature; one of them for a model, with its items and how well the model does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cutaway.cli.findings import MODEL_HELP, TASK_FILES, load_model, make_task, reads_text
from cutaway.cli.output import JSON, print_json, say, step, warn

if TYPE_CHECKING:
    from cutaway.tasks import Task


def tasks(
    name: str | None = typer.Argument(None, help="A task, or a .csv or .jsonl file of one's own. Without: list them."),
    model: str | None = typer.Option(None, "--model", "-m", "--module", help=MODEL_HELP),
    n: int = typer.Option(5, "--n", min=0, help="Items to show."),
    on: int | None = typer.Option(None, "--on", min=1, help="Items to measure on. Default: 64, or all of a file."),
    counterfactual: str | None = typer.Option(
        None,
        "--counterfactual",
        "-c",
        help="Its kind, as the list names them; for a file shuffle, resample or a column.",
    ),
    split: str = typer.Option("test", help="test (withheld items, where there are such), train or any."),
    metric: str | None = typer.Option(None, help="logit_difference, probability, accuracy, ….  Default: the task's."),
    seed: int = typer.Option(0, min=0, help="Seed of the items, and of the re-randomised model."),
    check: bool = typer.Option(True, "--check/--no-check", help="Measure how well the model does the task."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the items: a .jsonl or .csv file."),
    as_json: bool = JSON,
) -> None:
    """List the tasks; or make one for a model, show its items token by token, and say how well the model does it.

    Under each clean prompt stand the tokens that its counterfactual changes; above it, the names of positions.

    Example:  cutaway tasks ioi --model almanac --n 2
    """
    if name is None or (model is None and Path(name).suffix.lower() not in TASK_FILES):
        _list(model, as_json, name)
        return
    task, loaded = _make(name, model, on, counterfactual, split, metric, seed)
    found = None
    if check:
        import warnings

        from cutaway.tasks import TaskWarning

        with step(f"Measuring {loaded.name} on {len(task)} items"), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", TaskWarning)
            found = task.check(loaded, seeds=(seed,))
        for one in caught:
            if str(one.message) != found.verdict:  # which is printed with the table
                warn(str(one.message))
    if out is not None:
        task.save(out)
        say(f"wrote {out}")
    if as_json:
        body = task.to_json()
        body["items"] = body["items"][: max(n, 0)]
        body.pop("schema")
        print_json("cutaway.task/1", {**body, "competence": None if found is None else found.to_json()})
        return
    print(_shown(task, n, found))


def _shown(task: Task, n: int, found: Any) -> str:
    from cutaway.tasks.show import render

    text = render(task, rows=n)
    if found is not None:
        return f"{text}\n\n{found}"
    return text + "\n\nHow well the model does it was not measured (--no-check)."


def _make(
    name: str, model: str | None, on: int | None, counterfactual: str | None, split: str, metric: str | None, seed: int
) -> tuple[Task, Any]:  # fmt: skip
    from cutaway.core import InputError
    from cutaway.tasks.catalogue import entry

    if Path(name).suffix.lower() not in TASK_FILES:
        entry(name)  # an unknown name is said before a model is loaded
    if model is None:
        raise InputError(
            f"a file is read for a model: cutaway tasks {name} --model almanac (or a folder, or a hub id)."
        )
    loaded = load_model(model, text=reads_text(name))
    return make_task(name, loaded, n=on, seed=seed, counterfactual=counterfactual, metric=metric, split=split), loaded


def _list(model: str | None, as_json: bool, name: str | None) -> None:
    from cutaway.tasks.catalogue import ENTRIES, entry

    entries = ENTRIES if name is None else (entry(name),)
    rows = [one.to_json() for one in entries]
    if model is not None:
        from cutaway.tasks.make import fits

        loaded = load_model(model, text=False)
        for row, one in zip(rows, entries):
            why = fits(one, loaded)
            row["fits"], row["why_not"] = why is None, why
    if as_json:
        print_json("cutaway.tasks/1", {"model": model, "tasks": rows})
        return
    for row in rows:
        print("\n".join(_lines(row, model, full=name is not None)))
    if name is not None:
        print(f"\nShow its items, and how well a model does it:  cutaway tasks {entries[0].name} --model almanac")
    elif model is None:
        print("\nIn the small world: for almanac and models with its tokenizer. In English: for any other tokenizer.")
        print("cutaway tasks NAME --model M shows one; cutaway tasks --model M says which of them fit a model.")


def _lines(row: dict[str, Any], model: str | None, full: bool) -> list[str]:
    lines = [f"{row['name']:17} {row['about']}"]
    indent = " " * 18
    if full:
        lines = [f"{row['name']}: {row['about']}"]
        indent = "  "
    lines.append(f"{indent}{row['source']}")
    if full:
        lines += [f"{indent}counterfactual {kind}: {what}" for kind, what in row["counterfactuals"].items()]
        if row["withheld"]:
            lines.append(f"{indent}withheld from the small world's text: {row['withheld']}")
    else:
        lines.append(f"{indent}counterfactual: {', '.join(row['counterfactuals'])}")
    if model is None:
        where = [w for w, there in (("the small world", row["small_world"]), ("English", row["english"])) if there]
        lines.append(f"{indent}in {' and in '.join(where)}" + (f" only: {row['why_not']}" if row["why_not"] else ""))
    else:
        lines.append(f"{indent}fits" if row["fits"] else f"{indent}does not fit: {row['why_not']}")
    return lines
