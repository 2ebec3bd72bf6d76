"""A write is whole or absent, whatever interrupts it."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cutaway.core import InputError, atomic_folder, atomic_path, content_hash, write_json, write_text


class Interrupted(Exception):
    pass


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "first")
    with pytest.raises(Interrupted), atomic_path(tmp_path / "a") as path:
        path.write_text("half of the sec")
        raise Interrupted
    assert (tmp_path / "a").read_text() == "first"
    assert names(tmp_path) == {"a"}


def test_a_failed_folder_leaves_the_earlier_folder_and_nothing_else(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "study") as folder:
        (folder / "one").write_text("1")
    with pytest.raises(Interrupted), atomic_folder(tmp_path / "study") as folder:
        (folder / "two").write_text("2")
        raise Interrupted
    assert names(tmp_path) == {"study"}
    assert names(tmp_path / "study") == {"one"}


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with atomic_folder(tmp_path / "study") as folder:
            (folder / name).write_text(name)
    assert names(tmp_path / "study") == {"two"}
    assert names(tmp_path) == {"study"}


def test_numbers_no_reader_knows_are_refused_before_the_file_changes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert (tmp_path / "a.json").read_text() == '{"x":1}\n'


def test_a_killed_writer_leaves_the_earlier_file(tmp_path: Path) -> None:
    target = tmp_path / "a"
    write_text(target, "first")
    before = content_hash(target)
    code = f"""
        import time
        from cutaway.core import atomic_path
        with atomic_path({str(target)!r}) as path:
            path.write_text("half")
            print("writing", flush=True)
            time.sleep(60)
    """
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"writing\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    time.sleep(0.05)
    assert content_hash(target) == before


def test_files_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_a_folder_that_a_user_named_is_written_only_where_it_is_ours_and_keeps_what_lies_beside(tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    for text in ("first", "second"):
        with atomic_folder(ours, ("mark.json",), stale=("old.txt",)) as folder:
            (folder / "mark.json").write_text(text)
            if text == "first":
                (folder / "old.txt").write_text("x")
        (ours / "notes.txt").write_text("mine")
    assert {f.name: f.read_text() for f in ours.iterdir()} == {"mark.json": "second", "notes.txt": "mine"}
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("years of work")
    with (
        pytest.raises(InputError, match=r"holds other things \(config\.json\)"),
        atomic_folder(tmp_path / "model", ("mark.json",)) as folder,
    ):
        (folder / "config.json").write_text("x")
    assert (tmp_path / "model/config.json").read_text() == "years of work"
    assert {f.name for f in tmp_path.iterdir()} == {"ours", "model"}
