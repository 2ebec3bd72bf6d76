"""A Python file of the user's own: what it makes, and how each way of failing is said."""

from __future__ import annotations

import pytest

from cutaway.core import InputError
from cutaway.core.own_file import run_own


def test_a_file_is_run_beside_its_own_folder(tmp_path):
    (tmp_path / "beside.py").write_text("value = 3\n")
    (tmp_path / "mine.py").write_text("from beside import value\ndouble = 2 * value\n")
    assert run_own(tmp_path / "mine.py").double == 6


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\ny = x / 0\n", r"ZeroDivisionError.*\(line 2 of mine.py\)"),
        ("import sys\nsys.exit(3)\n", r"SystemExit: 3 \(line 2 of mine.py\)"),
        ("def f(:\n", "SyntaxError"),
        ("from cutaway.core import InputError\nraise InputError('no such layer')\n", "^no such layer$"),
    ],
)
def test_a_file_that_fails_says_where(tmp_path, text, says):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InputError, match=says):
        run_own(tmp_path / "mine.py")


def test_what_is_no_python_file_is_refused(tmp_path):
    (tmp_path / "near.py").write_text("")
    with pytest.raises(InputError, match=r"In its folder: near\.py"):
        run_own(tmp_path / "absent.py")
    with pytest.raises(InputError, match="no Python file"):
        run_own(tmp_path)
