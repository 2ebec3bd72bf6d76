"""What the terminal does: Ctrl-C in the middle, a locale without our letters, a reader that leaves, a narrow window."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

from cutaway.cli import output, run
from cutaway.cli.app import VERBS


def _ascii() -> tuple[io.BytesIO, io.TextIOWrapper]:
    raw = io.BytesIO()
    return raw, io.TextIOWrapper(raw, encoding="ascii", write_through=True)


def test_ctrl_c_within_a_verb_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import cutaway as cw

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cw, "load", interrupted, raising=False)
    assert run(["lens", "hello"]) == 130
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("cutaway: interrupted")
    assert not any("Traceback" in line for line in said)


def test_letters_that_a_terminal_lacks_are_spelled_not_fatal() -> None:
    raw, stream = _ascii()
    output.spell_for_terminal(stream)
    print("a → b … 3 × 2, café 😀", file=stream)
    assert raw.getvalue().decode("ascii") == "a -> b ... 3 x 2, caf\\xe9 \\U0001f600\n"


def test_json_says_the_same_in_every_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"prompt": "→ café 😀 שלום", "n": 1}
    read = []
    for encoding in ("ascii", "latin-1", "utf-8"):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
        with monkeypatch.context() as here:
            here.setattr(sys, "stdout", stream)
            output.print_json("x/1", body)
        read.append(json.loads(raw.getvalue().decode(encoding)))
    assert read == [{"schema": "x/1", **body}] * 3


def test_numbers_that_are_no_json_are_never_printed() -> None:
    with pytest.raises(ValueError, match="JSON"):
        output.print_json("x/1", {"value": float("nan")})


def test_an_argument_in_another_encoding_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lens", os.fsdecode(b"h\xe9llo")]) == 2
    assert "UTF-8" in capsys.readouterr().err


def test_a_reader_that_leaves_gets_no_traceback() -> None:
    command = f"{sys.executable} -m cutaway models | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "almanac\n"
    assert done.stderr == ""


def test_help_fits_a_narrow_window_and_shows_every_verb(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert run(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 80
    for verbs in VERBS.values():
        for name in verbs:
            assert any(line.split()[:1] == [name] for line in lines)
