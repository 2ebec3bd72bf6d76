"""Ctrl-C ends the command line with 130 and no traceback, from the moment that it runs."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import cutaway.cli


@pytest.mark.parametrize("where", ["run", "_dispatch"])
def test_interrupted_anywhere_it_exits_with_130(where: str, monkeypatch: Any, capsys: Any) -> None:
    def pressed(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cutaway.cli, where, pressed)
    with pytest.raises(SystemExit) as stopped:
        cutaway.cli.main(["tasks"])
    assert stopped.value.code == 130
    assert "Traceback" not in capsys.readouterr().err


def test_nothing_that_takes_time_is_imported_before_it_can_be_interrupted() -> None:
    code = "import sys; before = set(sys.modules); import cutaway.cli; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"typing", "traceback", "typer", "json", "inspect", "torch"} & set(loaded)
