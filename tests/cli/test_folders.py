"""--out: a folder of somebody else's is refused before any work is done, and nothing in it is touched."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from cutaway.cli import run

PROMPT = "'the capital of the state containing Dallas is'"
# Verb -> the command, but for where it writes.
WRITE = {
    "trace": f"trace {PROMPT} --quick",
    "lens": f"lens {PROMPT} --quick",
    "tuned lens": "lens --train-tuned own",
    "heads": "heads --quick",
    "sweep": "sweep ioi --n 4",
    "circuit": "circuit ioi --n 4 --quick",
    "repair": "repair ioi --n 8 --quick",
    "patchscope": f"patchscope {PROMPT}",
    "probe": "probe texts.csv",
    "state": "state othello --n 12 --quick",
    "steer": "steer --from texts.csv --to texts.csv",
    "function-vector": "function-vector pairs.csv",
    "align": "align equality --quick",
    "develop": "develop almanac --quick",
    "develop a folder": "develop steps --measure norm",
    "classify": "classify topics",
    "dictionary train": "dictionary train -m almanac",
    "dictionary arms": "dictionary arms -m almanac",
    "dictionary describe": "dictionary describe ./none -m almanac",
    "dictionary convert": "dictionary convert ./none --to saelens",
    "crosscoder": "dictionary crosscoder -m almanac --at resid_post.0 --at resid_post.1",
    "neurons": "neurons primer --n 8 --quick",
    "visualise": "visualise primer --unit 3 --steps 1 --quick",
    "attack": "attack primer --n 8",
    "exam": "exam graphs --quick",
    "compiled toy": "toy rasp reverse",
    "trained toy": "toy siit reverse",
    "superposition": "toy pentagon",
    "organism train": "organism train almanac --steps 1",
    "organism train primer": "organism train primer --steps 1",
    "organism train othello": "organism train othello --steps 1",
    "organism ship": "organism ship run",
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # What looks most like ours: a model somebody trained.
    (tmp_path / "checkpoint").mkdir()
    for name in ("config.json", "model.safetensors", "README.md"):
        (tmp_path / "checkpoint" / name).write_text("years of work")
    (tmp_path / "file").write_text("years of work")
    (tmp_path / "texts.csv").write_text("text,label\nhello,1\nbye,2\n")
    (tmp_path / "pairs.csv").write_text("x,y\nbig,small\n")
    (tmp_path / "run").mkdir()
    for name in ("config.json", "log.jsonl"):
        (tmp_path / "run" / name).write_text("{}")


def _state(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("verb", WRITE)
@pytest.mark.parametrize("out", ["checkpoint", "file", "file/below"])
def test_what_is_somebody_elses_is_refused_and_left_alone(
    verb: str, out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _state(tmp_path)
    status = run([*shlex.split(WRITE[verb]), "--out", out])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cutaway: ")]
    assert status == 2, said
    assert len(said) == 1
    assert out.split("/")[0] in said[0]
    assert "folder" in said[0] or "is a file" in said[0]
    assert _state(tmp_path) == before


def test_an_exam_is_written_to_a_folder_or_a_json_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cutaway import exams
    from cutaway.study import read_manifest

    row = {"name": "law", "truth": 1, "estimate": 1.0, "interval": None, "tolerance": 0, "passed": True}
    monkeypatch.setattr(exams, "run_exam", lambda *args, **kwargs: {"rows": [row]})
    assert run(["exam", "graphs", "--out", "made"]) == 0
    assert read_manifest(tmp_path / "made").files.keys() == {"exam.json"}
    assert run(["exam", "graphs", "--out", "made"]) == 0  # its own folder
    assert run(["exam", "graphs", "--out", "rows.json"]) == 0
    assert (tmp_path / "rows.json").read_text() == (tmp_path / "made/exam.json").read_text()
