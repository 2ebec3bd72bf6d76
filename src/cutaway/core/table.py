"""Columns of text, as results print them."""

from __future__ import annotations

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = (), indent: str = "  ") -> list[str]:
    """Lines with each column as wide as its widest cell; columns in `right` are flush right. [] for no rows."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        (
            indent
            + "  ".join(cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        ).rstrip()
        for row in rows
    ]


def shown(token: str) -> str:
    """A token as a table shows it: white space made visible."""
    text = token.replace("\n", "⏎").replace("\t", "⇥")
    return text.strip() or "␣" * max(1, len(text))
