"""Tasks in files: a CSV of text, or JSON lines that keep the tokens too.

Columns of a CSV (a header is needed; order is free; cells parted by commas, or by tabs or semicolons):

| column | what | also called |
|---|---|---|
| clean | the prompt, ending just before the answer | prompt |
| counterfactual | a prompt of as many tokens (or give a corruption) | corrupted, corrupt |
| answer | the right word after the clean prompt | correct, label, target |
| wrong | the word to compare with (optional) | incorrect, distractor |
| counterfactual_answer | the right word after the counterfactual (optional) | |
| template | the number or name of the item's template (optional) | |
| position:NAME | a word of the prompt, or a number (optional, any) | |

JSON lines take the same names as keys, "positions" as an object. Two files of Hanna et al.'s (EAP-IG) are known by
their headers: greater-than (clean, corrupted, label: the start year) and ioi (correct_idx, incorrect_idx: ids of
another model's tokenizer, so the names are read from the text).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cutaway.core import InputError, write_text
from cutaway.tasks.assemble import assemble
from cutaway.tasks.builder import from_pairs, with_changed
from cutaway.tasks.checks import named, shorten
from cutaway.tasks.items import Item, Pair
from cutaway.tasks.reading import Reader, reader
from cutaway.tasks.task import Task

ALSO = {
    "clean": ("clean", "prompt"),
    "counterfactual": ("counterfactual", "corrupted", "corrupt"),
    "answer": ("answer", "correct", "label", "target"),
    "wrong": ("wrong", "incorrect", "distractor"),
    "counterfactual_answer": ("counterfactual_answer",),
    "template": ("template",),
}
SCHEMA = "cutaway.task-items/1"
_PEOPLE = re.compile(r"\b([A-Z]\w+) and ([A-Z]\w+)\b")


def from_csv(
    model: Any,
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    counterfactual: Any = None,
    n: int | None = None,
    **more: Any,
) -> Task:
    """A task from a CSV with the columns above.

    columns: our name -> the file's, where it has others ({"clean": "question"}). counterfactual: a corruption in place
    of a column, or the name of the column to use. n: the first n rows. More: as `from_pairs` takes (bad="drop", …).
    Lines without any text are passed over. Raises InputError: no such file, no header, columns missing, and whatever
    `from_pairs` does; a row is called by the line of the file at which it begins, the header being line 1.
    """
    place = _there(path)
    text = _text(place)
    (_, cells), *rows = _lines(place, text) or [(1, [])]
    header = [h for h in cells if h]
    if not rows:
        raise InputError(f"{place} has no rows below its header ({', '.join(header) or 'none'}).")
    if twice := sorted({h for h in header if header.count(h) > 1}):
        raise InputError(f"{place} has more than one column {', '.join(twice)}.")
    if ragged := [(line, f"{len(row)} cells") for line, row in rows if len(row) != len(cells)]:
        why = "A quotation mark is not closed, and takes what follows it into one cell." if text.count('"') % 2 else ""
        raise InputError(named(ragged, len(rows), f"have not the {len(cells)} cells of the header", why))
    rows = rows[:n] if n is not None else rows
    numbers = [line for line, _ in rows]
    table = [{h: x for h, x in zip(cells, row) if h} for _, row in rows]
    more.setdefault("name", place.stem)
    if columns is None and {"clean", "corrupted", "correct_idx", "incorrect_idx"} <= set(header):
        return _ioi(model, table, counterfactual or "corrupted", numbers, **more)
    if columns is None and {"clean", "corrupted", "label"} == set(header) and _years(table):
        return _greater_than(model, table, numbers, **more)
    return _own(model, place, table, header, dict(columns or {}), counterfactual, numbers, **more)


def from_jsonl(
    model: Any, path: str | Path, *, columns: Mapping[str, str] | None = None, counterfactual: Any = None,
    n: int | None = None, **more: Any,
) -> Task:  # fmt: skip
    """A task from JSON lines: one object an item, keys as the columns above, "positions" as an object.

    A file that `task.save` wrote keeps the tokens: read with the same tokenizer it gives the same task; with another,
    the task is made again from its text.
    """
    place = _there(path)
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(_text(place).splitlines(), 1):
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError as error:
                raise InputError(f"{place}, line {number}, is no JSON: {error}.") from None
            if not isinstance(value, dict):
                raise InputError(f"{place}, line {number}, holds {type(value).__name__}; each line is one object.")
            rows.append(value)
    if not rows:
        raise InputError(f"{place} holds no items.")
    head = rows.pop(0) if rows[0].get("schema") == SCHEMA else None
    rows = rows[:n] if n is not None else rows
    if not rows:
        raise InputError(f"{place} holds no items.")
    if head is not None:
        found = _for(model, head)
        if found is not None:
            return _saved(found, head, rows, **more)
    table = []
    for row in rows:
        flat = {k: v for k, v in row.items() if k not in ("positions", "values")}
        table.append({**flat, **{f"position:{k}": v for k, v in (row.get("positions") or {}).items()}})
    header = list(dict.fromkeys(k for row in table for k in row))
    more.setdefault("name", str((head or {}).get("name", place.stem)))
    return _own(model, place, table, header, dict(columns or {}), counterfactual, range(1, len(table) + 1), **more)


def save(task: Task, path: str | Path) -> None:
    """Write a task's pairs. `.jsonl` keeps everything; `.csv` keeps the text, positions and answers.

    Raises InputError for another ending, and for a CSV of a task without text or with many right answers an item.
    """
    place = Path(path)
    if place.suffix == ".jsonl":
        head = {
            **task.summary(),
            "schema": SCHEMA,
            "vocabulary": _vocabulary(task.tokenizer),
            "notes": list(task.notes),
        }
        lines = [json.dumps(head, ensure_ascii=False)]
        sign, listed = task.target.sign, task.target.candidates
        for i, row in enumerate(task.to_json()["items"]):
            if sign is not None and listed is not None:
                row = {**row, "valid": listed[sign[i] > 0].tolist(), "invalid": listed[sign[i] < 0].tolist()}
            told = None if task.counterfactual_answers is None else int(task.counterfactual_answers[i])
            lines.append(json.dumps({**row, "counterfactual_answer_id": told}, ensure_ascii=False))
        write_text(place, "\n".join(lines) + "\n")
        return
    if place.suffix != ".csv":
        raise InputError(f"a task is saved as .csv or .jsonl; given {place.name!r}.")
    if task.tokenizer is None or task.target.sign is not None:
        what = "has no text" if task.tokenizer is None else "has many right answers an item"
        raise InputError(f"{task.name} {what}, which a CSV cannot hold; save it as .jsonl.")
    last = bool((task.positions["end"] == task.lengths - 1).all())
    names = [n for n in task.positions if n != "end" or not last]
    fields = ["clean", "counterfactual", "answer"]
    fields += ["wrong"] if task.wrong is not None else []
    fields += ["counterfactual_answer"] if task.counterfactual_answers is not None else []
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*fields, "template", *(f"position:{n}" for n in names)])
    for i, item in enumerate(task.items):
        cells = item.to_json()
        writer.writerow([*(cells[f] for f in fields), item.template, *(int(task.positions[n][i]) for n in names)])
    write_text(place, out.getvalue())


# ----------------------------------------------------------------------------------------------------------- readers


def _own(
    model: Any,
    place: Path,
    table: Sequence[Mapping[str, Any]],
    header: Sequence[str],
    columns: dict[str, str],
    counterfactual: Any,
    numbers: Sequence[int],
    **more: Any,
) -> Task:
    if isinstance(counterfactual, str):
        columns["counterfactual"], counterfactual = counterfactual, None
    if unknown := set(columns) - set(ALSO):
        raise InputError(f"columns= maps {', '.join(ALSO)}; given {', '.join(sorted(unknown))}.")
    named_as = {}
    for ours, names in ALSO.items():
        wanted = (columns[ours],) if ours in columns else names
        found = next((h for h in header if h.strip().lower() in wanted or h in wanted), None)
        if found is None and ours in columns:
            raise InputError(f"{place} has no column {columns[ours]!r}; it has: {', '.join(header)}.")
        if found is not None:
            named_as[ours] = found
    needed = ["clean", "answer"] + ([] if counterfactual is not None else ["counterfactual"])
    if missing := [c for c in needed if c not in named_as]:
        raise InputError(
            f"{place} has no column for {' and '.join(missing)}; it has: {', '.join(header)}. Name them with columns="
            f"{{{missing[0]!r}: …}}"
            + (", or give counterfactual=shuffle() or another corruption." if "counterfactual" in missing else ".")
        )

    def column(ours: str) -> list[Any] | None:
        return None if ours not in named_as else [row.get(named_as[ours]) for row in table]

    positions = {h.split(":", 1)[1]: [_place(row.get(h)) for row in table] for h in header if h.startswith("position:")}
    template = column("template")
    other = counterfactual if counterfactual is not None else (column("counterfactual") or [])
    return from_pairs(
        model, column("clean") or [], other,
        column("answer") or [], column("wrong"), counterfactual_answers=column("counterfactual_answer"),
        positions=positions, numbers=list(numbers),
        template=None if template is None else _templates(template, numbers), **more,
    )  # fmt: skip


def _templates(given: Sequence[Any], numbers: Sequence[int]) -> list[int]:
    """Numbers as they are; other names of templates in the order in which they come."""
    if bad := [(n, repr(t)) for n, t in zip(numbers, given) if t is None or not str(t).strip()]:
        raise InputError(named(bad, len(given), "have no template, and others have"))
    names = [str(t).strip() for t in given]
    if all(re.fullmatch(r"\d+", name) for name in names):
        return [int(name) for name in names]
    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return [order[name] for name in names]


def _place(value: Any) -> Any:
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d+", value) else value


def _ioi(model: Any, table: Sequence[Mapping[str, str]], column: str, numbers: Sequence[int], **more: Any) -> Task:
    """`corrupted` has a third name in S2, `corrupted_hard` IO's. Answers are the names in the text: IO, not S."""
    if column not in table[0]:
        raise InputError(f"there is no column {column!r}; this file has corrupted and corrupted_hard.")
    right, wrong, bad = [], [], []
    for number, row in zip(numbers, table):
        people = _PEOPLE.search(row["clean"])
        repeated = [p for p in people.groups() if row["clean"].count(p) > 1] if people else []
        if people is None or len(repeated) != 1:
            bad.append((number, repr(shorten(row["clean"]))))
            continue
        subject = repeated[0]
        wrong.append(subject)
        right.append(people[1] if subject == people[2] else people[2])
    if bad:
        raise InputError(named(bad, len(table), "do not name two people of whom one returns"))
    told = wrong if column == "corrupted_hard" else None
    more.setdefault("counterfactual_kind", column)
    return from_pairs(
        model, [r["clean"] for r in table], [r[column] for r in table], right, wrong, counterfactual_answers=told,
        positions={"IO": right, "S2": wrong}, numbers=numbers, about="who receives", **more,
    )  # fmt: skip


def _years(table: Sequence[Mapping[str, str]]) -> bool:
    return all(re.fullmatch(r"\d{1,2}", row["label"]) and re.search(r"\d\d$", row["clean"]) for row in table)


def _greater_than(model: Any, table: Sequence[Mapping[str, str]], numbers: Sequence[int], **more: Any) -> Task:
    """Right are all two-digit years after the label, wrong those up to it."""
    found = reader(model)
    texts, others = [r["clean"] for r in table], [r["corrupted"] for r in table]
    rows, other_rows = found.rows(texts), found.rows(others)
    endings: dict[str, dict[str, int]] = {}
    pairs, bad, kept = [], [], []
    for number, row, ids, other in zip(numbers, table, rows, other_rows):
        century = row["clean"][-2:]
        if century not in endings:
            years = [f"{y:02d}" for y in range(100)]
            tails = found.continuations([row["clean"]] * 100, years)
            endings[century] = {y: t[0] for y, t in zip(years, tails) if t is not None and len(t) == 1}
        known = endings[century]
        start = row["label"].zfill(2)
        later = [y for y in known if y > start]
        earlier = [y for y in known if y <= start]
        if not later or not earlier or len(known) < 50:
            bad.append((number, f"after {century} {len(known)} of 100 years are one token: {shorten(row['clean'])!r}"))
            continue
        item = Item(row["clean"], row["corrupted"], later[0], earlier[-1], values={"start": start})
        pairs.append(
            Pair(ids, other, known[later[0]], item, known[earlier[-1]],
                 valid=tuple(known[y] for y in later), invalid=tuple(known[y] for y in earlier))
        )  # fmt: skip
        kept.append(number)
    drop = more.pop("bad", "error") == "drop"
    if bad and (not drop or not pairs):
        raise InputError(named(bad, len(table), "have no years of two digits as one token to answer with"))
    more.setdefault("counterfactual_kind", "01")
    return assemble(more.pop("name"), with_changed(pairs), found, drop=drop, numbers=kept, **more)


def _saved(found: Reader, head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], **more: Any) -> Task:
    pairs = []
    for row in rows:
        item = Item(
            row["clean"], row["counterfactual"], row["answer"], row["wrong"], row["counterfactual_answer"],
            row["template"], row.get("values", {}),
        )  # fmt: skip
        places = dict(row["positions"])
        pairs.append(
            Pair(
                tuple(row["clean_ids"]), tuple(row["counterfactual_ids"]), row["answer_id"], item, row["wrong_id"],
                row["counterfactual_answer_id"], places, tuple(row.get("valid", ())), tuple(row.get("invalid", ())),
            )
        )  # fmt: skip
    kept = {"metric": head["metric"], "about": head["about"], "split": head["split"], "seed": head["seed"],
            "counterfactual_kind": head["counterfactual"], "templates": tuple(head["templates"]),
            "notes": tuple(head["notes"])}  # fmt: skip
    from cutaway.tasks.metrics import METRICS

    if kept["metric"] not in METRICS or kept["metric"] == "kl":
        kept["metric"] = None  # one of one's own, or one that needs a run, is not in the file
    return assemble(head["name"], pairs, found, **{**kept, **more})


def _for(model: Any, head: Mapping[str, Any]) -> Reader | None:
    """The reader, if the file was made with its tokenizer (or with none, for ids alone)."""
    bare = hasattr(model, "facts") and getattr(model, "tokenizer", None) is None
    if head.get("vocabulary") is None:
        size = int(model.facts.vocab_size) if hasattr(model, "facts") else 0
        return Reader(None, str(getattr(model, "name", "ids")), size)
    if bare:
        return None
    found = reader(model)
    return found if _vocabulary(found.tokenizer) == head["vocabulary"] else None


def _vocabulary(tokenizer: Any) -> str | None:
    if tokenizer is None or not hasattr(tokenizer, "get_vocab"):
        return None
    listed = sorted(tokenizer.get_vocab().items(), key=lambda pair: (pair[1], pair[0]))
    return hashlib.sha256(repr(listed).encode()).hexdigest()[:16]


def _lines(place: Path, text: str) -> list[tuple[int, list[str]]]:
    """(line at which it begins, cells) of each row that has any text."""
    read = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text))
    found, line = [], 1
    try:
        for cells in read:
            if any(cell.strip() for cell in cells):
                found.append((line, cells))
            line = read.line_num + 1
    except csv.Error as error:
        raise InputError(f"{place} is no table, from line {line} on: {error}.") from None
    return found


def _separator(text: str) -> str:
    """What parts the cells: a tab or a semicolon where the header has such and no comma, else a comma."""
    header = text.lstrip().partition("\n")[0]
    return next((mark for mark in "\t;" if mark in header and "," not in header), ",")


def _text(place: Path) -> str:
    try:
        return place.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{place} is no text in UTF-8 (save it so): {error}.") from None


def _there(path: str | Path) -> Path:
    place = Path(path).expanduser()
    if not place.is_file():
        raise InputError(f"no file {place}.")
    return place
