"""Exit status, messages and the speed-relevant rule of the command line: nothing heavy before a verb runs."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from cutaway import cli
from cutaway.cli.app import VERBS
from cutaway.core import CutawayError, InputError


def cutaway(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cutaway", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom cutaway.cli import run\nassert run(['--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pydantic', 'fastapi', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def _every_verb() -> list[list[str]]:
    found = []
    for verbs in VERBS.values():
        for name, (run, _) in verbs.items():
            below = [one.name for one in run.registered_commands] if isinstance(run, typer.Typer) else []
            found += [[name, str(one)] for one in below] or [[name]]
    return found


@pytest.mark.parametrize("verb", _every_verb(), ids=" ".join)
def test_every_verb_has_help_with_an_example(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*verb, "--help"]) == 0
    assert f"Example:  cutaway {' '.join(verb)}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trce"], "Did you mean 'trace'?"),
        (["trace"], "Missing argument 'prompt'"),
        (["trace", "x", "--sed", "3"], "--seed"),
        (["trace", "x", "--seed", "three"], "--seed"),
        (["trace", "x", "--target", "a", "--contrast", "a", "b"], "exclude each other"),
        (["dictionary"], "name a verb"),
    ],
)
def test_wrong_use_is_status_2_and_one_clear_message(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (InputError("no such head"), 2, "cutaway: no such head\n"),
        (CutawayError("sums do not hold"), 1, "cutaway: sums do not hold\n"),
        (OSError(28, "No space left on device", "/x"), 1, "the disk is full (/x)"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_failures_have_their_status(
    error: BaseException,
    status: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_dispatch", fail)
    assert cli.run([]) == status
    quiet = capsys.readouterr().err
    assert says in quiet
    assert "Traceback" not in quiet
    assert cli.run(["--debug"]) == status
    assert "Traceback" in capsys.readouterr().err


def test_out_must_be_free_before_the_work_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photo.jpg").write_text("x")
    assert cli.run(["trace", "x", "--out", str(tmp_path)]) == 2
    assert "is not empty and is no study" in capsys.readouterr().err


def test_the_version_is_printed() -> None:
    done = cutaway("--version")
    assert (done.returncode, done.stdout.strip()) == (0, "0.1.0")
