"""A task as a person reads it: how it was made, and items as rows of tokens, aligned, with positions named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.model.tokens import spelled

if TYPE_CHECKING:
    from cutaway.tasks.task import Task

WIDTH = 112


def render(task: Task, rows: int = 3) -> str:
    """The task's heading and its first items. Under a token of the clean prompt stands the counterfactual's where it
    differs (· where it is the same), above it the names of the positions there."""
    lines = [heading(task)]
    for row in range(min(rows, len(task))):
        lines += ["", *item_lines(task, row)]
    if len(task) > rows:
        lines += ["", f"… and {len(task) - rows} more items"]
    return "\n".join(lines)


def heading(task: Task) -> str:
    how = [f"{len(task)} items"]
    if task.templates:
        used = len(set(task.template.tolist()))
        how.append(f"{used} template{'s' if used > 1 else ''}")
    if task.counterfactual_kind:
        how.append(f"counterfactual {task.counterfactual_kind}")
    if task.split:
        how.append(f"split {task.split}")
    if task.seed is not None:
        how.append(f"seed {task.seed}")
    how.append(f"metric {task.metric.name}" + (f" ({task.metric.unit})" if task.metric.unit else ""))
    lines = [f"task {task.name}" + (f": {task.about}" if task.about else ""), "  " + ", ".join(how)]
    lines.append("  positions: " + ", ".join(task.positions))
    lines += [f"  note: {note}" for note in task.notes]
    return "\n".join(lines)


def item_lines(task: Task, row: int) -> list[str]:
    """One item: names of positions, clean tokens, what the counterfactual changes, and the answers."""
    mask = task.clean.mask[row]
    clean, other = task.clean.ids[row][mask].tolist(), task.counterfactual.ids[row][mask].tolist()
    names: dict[int, list[str]] = {}
    for name, where in task.positions.items():
        names.setdefault(int(where[row]), []).append(name)
    cells = []
    for column, (a, b) in enumerate(zip(clean, other)):
        top = "/".join(names.get(column, ()))
        cells.append((top, _shown(task, a), _shown(task, b) if a != b else "·"))
    lines = []
    for part in _wrapped(cells):
        widths = [max(map(len, cell)) for cell in part]
        for label, k in (("", 0), ("clean", 1), ("counterfactual", 2)):
            text = " ".join(cell[k].ljust(w) for cell, w in zip(part, widths)).rstrip()
            lines.append(f"  {label:15}{text}".rstrip())
    template = f"template {int(task.template[row])}, " if task.templates else ""
    return [f"item {row} ({template}{len(clean)} tokens)", *lines, f"  {'answer':15}{_answer(task, row)}"]


def _answer(task: Task, row: int) -> str:
    text = repr(_shown(task, int(task.answers[row])))
    if task.wrong is not None:
        text += f", compared with {_shown(task, int(task.wrong[row]))!r}"
    if task.metric.target.sign is not None:
        sign = task.metric.target.sign[row]
        text += f" ({int((sign > 0).sum())} tokens are right, {int((sign < 0).sum())} wrong)"
    if task.counterfactual_answers is not None:
        text += f"; after the counterfactual {_shown(task, int(task.counterfactual_answers[row]))!r}"
    return text


def _shown(task: Task, token: int) -> str:
    text = str(token) if task.tokenizer is None else spelled(token, task.tokenizer)
    return text.strip(" ").replace("\n", "⏎").replace("\t", "⇥") or "␣"


def _wrapped(cells: list[tuple[str, str, str]]) -> list[list[tuple[str, str, str]]]:
    """Cut into parts that fit a terminal's line."""
    parts: list[list[tuple[str, str, str]]] = [[]]
    used = 0
    for cell in cells:
        width = max(map(len, cell)) + 1
        if used + width > WIDTH - 17 and parts[-1]:
            parts.append([])
            used = 0
        parts[-1].append(cell)
        used += width
    return parts
