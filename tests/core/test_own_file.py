"""A Python file of the user's own: what it makes, and how each way of failing is said."""

from __future__ import annotations

import pytest

from cutaway.core import InputError
from cutaway.core.own_file import run_own


def test_a_file_is_run_beside_its_own_folder(tmp_path):
    (tmp_path / "beside.py").write_text("value = 3\n")
    (tmp_path / "mine.py").write_text("from beside import value\ndouble = 2 * value\n")
    assert run_own(tmp_path / "mine.py").double == 6


def test_two_folders_each_have_their_own_module_of_one_name(tmp_path):
    for folder, value in ("one", 3), ("two", 5):
        package = tmp_path / folder / "parts"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "piece.py").write_text(f"add = {value}\n")
        (tmp_path / folder / "beside.py").write_text(f"value = {value}\n")
        (tmp_path / folder / "mine.py").write_text(
            "from beside import value\nfrom parts.piece import add\nsum = value + add\n"
        )
    one, two = (run_own(tmp_path / folder / "mine.py").sum for folder in ("one", "two"))
    assert (one, two) == (6, 10)
    (tmp_path / "two" / "beside.py").write_text("value = 70\n")  # changed since: read again, as in a new process
    assert run_own(tmp_path / "two" / "mine.py").sum == 75


def test_what_was_imported_before_stays(tmp_path):
    import json

    (tmp_path / "json.py").write_text("loads = None\n")
    (tmp_path / "mine.py").write_text("import json\nsame = json\n")
    assert run_own(tmp_path / "mine.py").same is json


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
