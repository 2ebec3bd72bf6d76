"""What verbs keep beside a result is no result of its own."""

from __future__ import annotations

from cutaway.core import write_json
from cutaway.study import contents, seal


def test_a_timelines_folder_holds_one_result(tmp_path):
    write_json(tmp_path / "timeline.json", {"schema": "cutaway.timeline/1"})
    write_json(tmp_path / "settings.json", {"schema": "cutaway.timeline/1.settings"})
    seal(tmp_path, kind="timeline", command="", model={"name": "m"})
    assert [item.path.name for item in contents(tmp_path)] == ["timeline.json"]
    (tmp_path / "manifest.json").unlink()
    assert [item.path.name for item in contents(tmp_path)] == ["timeline.json"]
