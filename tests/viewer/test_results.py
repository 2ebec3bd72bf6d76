"""What is found in a study, and how files that strangers wrote are read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cutaway.core import InputError, write_json
from cutaway.study import contents
from cutaway.viewer import page
from cutaway.viewer.results import entry, read
from tests.viewer.conftest import Running
from tests.viewer.test_server import ask

PIXEL = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000049454e44ae426082")


def test_results_are_named_by_their_place(results: Path) -> None:
    items = contents(results)
    assert [item.name for item in items] == sorted(path.name for path in results.iterdir() if path.is_dir())
    assert {item.kind for item in items} == {"result"}
    for item in items:
        found = read(item)["result"]
        assert found["schema"].startswith("cutaway.")
        assert found["body"]["schema"] == found["schema"]
        said = entry(item)
        assert said["model"] == "almanac"
        assert said["problem"] == ""


def test_a_single_file_and_a_single_folder_open(results: Path) -> None:
    (by_file,) = contents(results / "lens" / "result.json")
    (by_folder,) = contents(results / "lens")
    assert read(by_file)["result"]["body"] == read(by_folder)["result"]["body"]
    assert read(by_folder)["result"]["manifest"]["kind"] == "lens"
    assert "cutaway.lens/1" in page(results / "lens" / "result.json")


def test_files_that_lie_beside_a_result_are_none(tmp_path: Path) -> None:
    write_json(tmp_path / "one" / "mine.json", {"schema": "cutaway.mine/1"})
    for name in ("command", "labels", "evidence", "features", "plan"):
        write_json(tmp_path / "one" / f"{name}.json", {"schema": "cutaway.x/1"})
    write_json(tmp_path / "one" / "settings.json", {"no": 1})
    assert [item.name for item in contents(tmp_path)] == ["one/mine"]


def test_no_two_results_have_one_name(tmp_path: Path) -> None:
    write_json(tmp_path / "unit.json", {"schema": "cutaway.a/1"})
    write_json(tmp_path / "unit" / "card.json", {"schema": "cutaway.b/1"})
    items = contents(tmp_path)
    assert len({item.name for item in items}) == 2
    assert {read(item)["result"]["schema"] for item in items} == {"cutaway.a/1", "cutaway.b/1"}


def test_a_picture_goes_to_the_result_it_is_called_by(tmp_path: Path) -> None:
    for name in ("a", "ab"):
        write_json(tmp_path / f"{name}.json", {"schema": "cutaway.toy/1"})
    for name in ("a.png", "a-later.png", "ab.png"):
        (tmp_path / name).write_bytes(PIXEL)
    shown = {item.name: [one["name"] for one in read(item)["result"]["pictures"]] for item in contents(tmp_path)}
    assert shown == {"a": ["a-later.png", "a.png"], "ab": ["ab.png"]}


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    write_json(tmp_path / "secret" / "key.json", {"schema": "cutaway.key/1"})
    write_json(tmp_path / "study" / "a.json", {"schema": "cutaway.a/1"})
    (tmp_path / "study" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "study" / "key.json").symlink_to(tmp_path / "secret" / "key.json")
    assert [item.name for item in contents(tmp_path / "study")] == ["a"]


@pytest.mark.parametrize(
    "text", ['{"schema": "cutaway.x/1", ', "[1, 2]", '{"schema": NaN}', '{"schema": ' + "[" * 99_999]
)
def test_a_damaged_file_alone_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=re.escape("x.json")):
        page(tmp_path / "x.json")


def test_a_damaged_one_among_several_is_listed_with_its_trouble(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"schema": "cutaway.a/1"})
    (tmp_path / "b.json").write_text('{"schema": "cutaway.b/1", half')
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "manifest.json").write_text("{}")
    said = {one["name"]: one["problem"] for one in map(entry, contents(tmp_path))}
    assert said["a"] == ""
    assert "b.json is damaged" in said["b"]
    assert "manifest.json" in said["c"]
    html = page(tmp_path)
    assert "b.json is damaged" in html


def test_nothing_to_show_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to show"):
        contents(tmp_path)
    with pytest.raises(InputError, match="neither a folder nor"):
        contents(tmp_path / "absent")


def test_pictures_of_a_result_are_in_its_page_and_none_from_elsewhere(results: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(results / "lens", tmp_path / "lens"))
    (folder / "figures").mkdir()
    (folder / "figures" / "curve.png").write_bytes(PIXEL)
    (tmp_path / "other.png").write_bytes(PIXEL)
    (folder / "away.png").symlink_to(tmp_path / "other.png")
    (item,) = contents(folder)
    assert [one["name"] for one in read(item)["result"]["pictures"]] == ["figures/curve.png"]


def test_what_a_command_adds_is_there_on_the_next_load(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"schema": "cutaway.a/1"})
    running = Running(tmp_path)
    try:
        names = lambda: [one["name"] for one in json.loads(ask(running, "GET", "/api/entries")[2])]  # noqa: E731
        assert names() == ["a"]
        write_json(tmp_path / "b.json", {"schema": "cutaway.b/1", "model": "m"})
        assert names() == ["a", "b"]
        assert json.loads(ask(running, "GET", "/api/item?name=b")[2])["result"]["body"]["model"] == "m"
        for name in ("../a", "a.json", "/etc/passwd", ""):
            assert ask(running, "GET", f"/api/item?name={name}")[0] == 404
    finally:
        running.stop()
