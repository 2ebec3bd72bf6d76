"""What the verbs of readouts and steering share: options, prompts from files, a model's own text, printing, writing."""

from __future__ import annotations

import csv
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cutaway.cli.output import print_result, say, step, warn

if TYPE_CHECKING:
    from cutaway.model import Model

MODEL_HELP = (
    "A shipped name, a Hugging Face folder, a hub id, or a module of one's own as FILE.PY:FACTORY (the file is run)."
)
MODEL = typer.Option("almanac", "--model", "-m", "--module", help=MODEL_HELP)
OUT = typer.Option(None, "--out", "-o", help="Write the study here: result, table, tensors, manifest.")
TRUST = typer.Option(False, "--trust-remote-code", help="Run code that a hub model brings.")
OWN = "own"
TASK_FILES = (".csv", ".jsonl")


def load_model(name: str, trust_remote_code: bool = False, *, text: bool = True) -> Model:
    """text: whether the verb reads text, and refuses a model that cannot before anything else is done."""
    with step(f"Loading {name}"):
        import cutaway as cw

        model = cw.load(name, trust_remote_code=trust_remote_code)
    if text and model.tokenizer is None:
        from cutaway.core import InputError

        raise InputError(_without_text(model))
    return model


def _without_text(model: Model) -> str:
    """What somebody can do whose model has no tokenizer."""
    own = "let the factory give (module, tokenizer)"
    if model.architecture is not None:
        remedy = own if model.folder is None else f"put its tokenizer.json into {model.folder}"
        return f"{model.name} has no tokenizer, and this verb reads text: {remedy}."
    return (
        f"{model.name} is a {model.facts.architecture} without a tokenizer, and this verb reads text. A language model "
        f"of one's own: {own}. Any other network: `cutaway models {shlex.quote(model.name)}` lists what can be read in "
        "it, `cutaway align SPEC.py` looks for an algorithm in it, and cw.load(…).run(x) reads and changes it in "
        "Python (docs/own-model.md)."
    )


def reads_text(task: str | None) -> bool:
    """Whether a task's items are text: all but one's are."""
    return task != "induction"


def warn_outside_vocabulary(model: Model, prompts: list[str]) -> None:
    """Where a prompt leaves the small world of a shipped model, say so and offer prompts that work. (Words unknown to
    another model's tokenizer are an error of their own.)"""
    from cutaway.core.registry import model_examples

    examples = model_examples(model.folder) if model.folder else []
    spelled = list(dict.fromkeys(word for prompt in prompts for word in model.spelled_out(prompt))) if examples else []
    if not spelled:
        return
    shown = ", ".join(repr(word) for word in spelled[:5]) + (" …" if len(spelled) > 5 else "")
    warn(f"{model.name} has no token for {shown}: spelled in bytes, which it has hardly seen.")
    for example in examples[:4]:
        say(f'  a prompt of its world: "{example["prompt"]}"   ({example["behaviour"]})')


def make_task(
    name: str,
    model: Model,
    *,
    n: int | None,
    seed: int = 0,
    counterfactual: str | None = None,
    metric: str | None = None,
    **more: Any,
) -> Any:
    """A task by name (`more`: of its own making, as its split), or of a .csv or .jsonl file of pairs, whose
    counterfactual is a column, shuffle or resample; what had to be left out of it is said as warnings."""
    import warnings

    from cutaway.tasks import Task, TaskWarning, task
    from cutaway.tasks.corruptions import resample, shuffle

    file = Path(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TaskWarning)
        if file.suffix.lower() in TASK_FILES:
            read = Task.from_csv if file.suffix.lower() == ".csv" else Task.from_jsonl
            made_so = {"shuffle": shuffle(), "resample": resample()}.get(counterfactual or "", counterfactual)
            given = {"counterfactual": made_so, "metric": metric}
            made = read(model, file, n=n, **{key: value for key, value in given.items() if value is not None})
        else:
            made = task(name, model, n=n, seed=seed, counterfactual=counterfactual, metric=metric, **more)
    for one in caught:
        warn(str(one.message))
    return made


def claim(out: Path | None, kind: str, *unfinished: str) -> None:
    """Refuse a folder that is somebody else's before the work, not after it. `unfinished`: what a killed run leaves."""
    if out is not None:
        from cutaway.study import claim_folder

        claim_folder(out, kind, *unfinished)


def sealed(folder: Path, kind: str, model: str, settings: dict[str, Any], fingerprint: str | None = None) -> None:
    """Make a study of a folder: a manifest with the command and a hash of every file."""
    from cutaway.study import seal

    seal(
        folder,
        kind=kind,
        command=shlex.join(["cutaway", *sys.argv[1:]]),
        model={"name": model} | ({} if fingerprint is None else {"fingerprint": fingerprint}),
        settings=settings,
    )


def write_result(folder: Path, file: str, body: dict[str, Any], table: str) -> None:
    """A result whose verb writes more beside it: its JSON under a name of its own, its evidence, the printed table."""
    from cutaway.core import write_json, write_text

    write_json(folder / file, body)
    write_json(folder / "evidence.json", {"schema": "cutaway.evidence/1", "evidence": body["evidence"]})
    write_text(folder / "result.txt", f"{table}\n")


def told_where(out: Path, files: str = "") -> None:
    """The last line of a verb that wrote: where, and how to look at it."""
    say(f"\nWrote {out}/ {f'({files}) ' if files else ''}  (to look at it: cutaway view {shlex.quote(str(out))})")


def finish(
    result: Any, model: Model, kind: str, out: Path | None, as_json: bool, *, prompt: str | None = None, **more: Any
) -> None:
    """Write the study where one was asked for, and print the result."""
    if out is not None:
        from cutaway.study.finding import write_finding

        command = shlex.join(["cutaway", *sys.argv[1:]])
        write_finding(out, kind, model, result, command=command, prompt=prompt, **more)
    print_result(result, out, as_json)
    if out is not None:
        told_where(out)


def null_seeds(model: Model, seed: int, most: int = 5) -> tuple[int, ...]:
    """Seeds of the re-randomised models: five, or three where drawing one takes seconds."""
    return tuple(range(seed, seed + (most if model.facts.n_parameters < 20_000_000 else min(most, 3))))


def read_prompts(path: Path) -> list[str]:
    """One prompt a line of a .txt file, or the `prompt` (or `text`) of each row of a .jsonl or .csv file.

    In a .txt file \\n stands for a line's end within a prompt. Raises InputError.
    """
    from cutaway.core import InputError

    if not path.is_file():
        raise InputError(f"no file {path}.")
    try:
        body = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no UTF-8 text: {error}.") from None
    if path.suffix in (".jsonl", ".csv"):
        rows: list[Any] = []
        if path.suffix == ".csv":
            rows = list(csv.DictReader(body.splitlines(keepends=True)))
        else:
            for number, line in enumerate(body.splitlines(), 1):
                try:
                    rows += [json.loads(line)] if line.strip() else []
                except ValueError as error:
                    raise InputError(f"{path}, line {number} is no JSON: {error}.") from None
        found = [row.get("prompt") or row.get("text") if isinstance(row, dict) else None for row in rows]
        if rows and any(not isinstance(text, str) for text in found):
            raise InputError(f"{path}: every row needs a `prompt` (or `text`).")
    else:
        found = [line.rstrip("\r").replace("\\n", "\n") for line in body.split("\n")]
    prompts = [text for text in found if isinstance(text, str) and text.strip()]
    if not prompts:
        raise InputError(f"{path} holds no prompt.")
    return prompts


def text_rows(model: Model, text: str | None, tokens: int, seed: int = 0) -> list[list[int]]:
    """Rows of token ids of about `tokens` tokens: of a file, or ("own", or None) the text that a shipped model was
    trained on; [] where None was given and the model has none."""
    from cutaway.organisms.dictionaries import OWN_TEXT, file_rows
    from cutaway.organisms.dictionaries import text_rows as rows_of

    if text is None and model.name not in OWN_TEXT:
        return []
    if text is None or text == OWN:
        found = rows_of(model, [], rows=0, seed=seed, held_out_tokens=tokens)[1]
    else:
        found = file_rows(model, [text])
    rows = [row[row >= 0].tolist() for row in found]
    kept, count = [], 0
    for row in rows:
        if count >= tokens:
            break
        kept.append(row)
        count += len(row)
    return [row for row in kept if len(row) > 1]
