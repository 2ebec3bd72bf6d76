"""What verbs keep beside a result is no result of its own."""

from __future__ import annotations

import pytest

from cutaway.core import write_json
from cutaway.study import contents, seal


def test_a_timelines_folder_holds_one_result(tmp_path):
    write_json(tmp_path / "timeline.json", {"schema": "cutaway.timeline/1"})
    write_json(tmp_path / "settings.json", {"schema": "cutaway.timeline/1.settings"})
    seal(tmp_path, kind="timeline", command="", model={"name": "m"})
    assert [item.path.name for item in contents(tmp_path)] == ["timeline.json"]
    (tmp_path / "manifest.json").unlink()
    assert [item.path.name for item in contents(tmp_path)] == ["timeline.json"]


@pytest.mark.parametrize("sealed", [True, False])
def test_a_case_and_its_alignment_are_one_result(tmp_path, sealed):
    folder = tmp_path / "equality"
    write_json(folder / "case.json", {"schema": "cutaway.abstraction-case/1"})
    write_json(folder / "alignment" / "alignment.json", {"schema": "cutaway.alignment/1"})
    if sealed:
        seal(folder, kind="alignment", command="", model={"name": "m"})
        assert [item.path.name for item in contents(folder)] == ["case.json"]
    assert [(item.name, item.path.name) for item in contents(tmp_path)] == [("equality", "case.json")]
    assert [item.path.name for item in contents(folder / "alignment")] == ["alignment.json"]  # asked for by itself
    (folder / "case.json").unlink()
    assert [item.path.name for item in contents(tmp_path)] == ["alignment.json"]
