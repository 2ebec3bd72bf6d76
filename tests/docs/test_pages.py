"""The examples of the docs run as they stand.

A Python block whose fence follows the line `<!-- runnable -->` is run; the runnable blocks of a page are one program,
in the page's order, run in an empty folder. A block `text` that follows at once after `<!-- prints -->` is what it
prints.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs").glob("**/*.md"))
_BLOCK = re.compile(
    r"^<!-- runnable -->\n```python\n(?P<code>.*?)^```\n(?:\n*<!-- prints -->\n```text\n(?P<prints>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    code: str
    line: int  # of its first line in the page
    prints: str | None


def blocks(page: str) -> Iterator[Block]:
    for match in _BLOCK.finditer(page):
        yield Block(match["code"], page[: match.start("code")].count("\n") + 1, match["prints"])


def run(page: Path) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page.read_text(encoding="utf-8")):
        # Blank lines before, so that an error names the page's own line.
        code = compile("\n" * (block.line - 1) + block.code, str(page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        if block.prints is not None:
            assert printed.getvalue().rstrip() == block.prints.rstrip(), f"{page.name}, block at line {block.line}"


RUNNABLE = [page for page in PAGES if list(blocks(page.read_text(encoding="utf-8")))]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.stem)
def test_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(page)


def test_a_marker_marks_a_block() -> None:
    """A marker with anything between it and its block would silently run nothing."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("<!-- runnable -->") == len(list(blocks(text))), page.name


def test_a_page_that_is_wrong_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    good = "# A\n\n<!-- runnable -->\n```python\nx = 2\n```\n\n```python\nnot run\n```\n"
    page.write_text(good + "<!-- runnable -->\n```python\nprint(x)\n```\n\n<!-- prints -->\n```text\n2\n```\n")
    run(page)
    page.write_text(page.read_text().replace("x = 2", "x = 3"))
    with pytest.raises(AssertionError, match="block at line 13"):
        run(page)
    page.write_text(good.replace("x = 2", "assert False"))
    with pytest.raises(AssertionError):
        run(page)
