"""A study's folder: who may write it, and what its manifest says."""

from pathlib import Path

import pytest

from cutaway.core import InputError, atomic_folder, content_hash, write_json
from cutaway.study import claim_folder, read_manifest, seal
from cutaway.study.manifest import rewriting


def make(folder: Path, kind: str = "trace") -> Path:
    with atomic_folder(folder) as temporary:
        (temporary / "graph.json").write_text("{}")
        (temporary / "labels.json").write_text("{}")
        seal(temporary, kind=kind, command="cutaway trace x", model={"name": "m"}, prompt="x")
    return folder


def test_the_manifest_hashes_every_file_but_the_users_own(tmp_path: Path) -> None:
    folder = make(tmp_path / "s")
    manifest = read_manifest(folder)
    assert manifest.files == {"graph.json": content_hash(folder / "graph.json")}
    assert (manifest.kind, manifest.prompt, manifest.model) == ("trace", "x", {"name": "m"})


def test_a_new_folder_an_empty_one_and_an_earlier_study_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "new", tmp_path / "empty", make(tmp_path / "s")):
        assert claim_folder(folder, "trace") == folder


def test_what_is_somebody_elses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_text("x")
    with pytest.raises(InputError, match="is not empty and is no study"):
        claim_folder(tmp_path / "photos", "trace")
    with pytest.raises(InputError, match="is a file"):
        claim_folder(tmp_path / "photos" / "1.jpg", "trace")
    with pytest.raises(InputError, match="another kind of study"):
        claim_folder(make(tmp_path / "s", "alignment"), "trace")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "cutaway.study/1"}', '{"schema": 3}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    folder = make(tmp_path / "s")
    (folder / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        read_manifest(folder)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "s")
    value = {**read_manifest(folder).model_dump(by_alias=True), "schema": "cutaway.study/9"}
    write_json(folder / "manifest.json", value)
    with pytest.raises(InputError, match=r"cutaway\.study/9"):
        read_manifest(folder)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no study"):
        read_manifest(tmp_path)


def test_what_a_user_puts_into_a_study_survives_its_rewriting(tmp_path: Path) -> None:
    folder = make(tmp_path / "s")
    (folder / "notes.md").write_text("mine")
    with rewriting(folder) as temporary:
        (temporary / "other.json").write_text("{}")
        seal(temporary, kind="trace", command="cutaway trace y", model={"name": "m"})
    assert {f.name for f in folder.iterdir()} == {"other.json", "manifest.json", "labels.json", "notes.md"}


def test_a_killed_run_is_known_by_what_it_leaves(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    assert claim_folder(tmp_path, "timeline", "rows.jsonl") == tmp_path
    with pytest.raises(InputError, match="is not empty"):
        claim_folder(tmp_path, "timeline", "settings.json")
