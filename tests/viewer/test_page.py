"""The self-contained file: whole, inert whatever the data says, and clear about what it cannot read."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutaway.core import InputError, write_json
from cutaway.viewer import page
from cutaway.viewer.page import inline_json
from tests.viewer.sample_study import write_sample

HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)> \u2028\u2029 &lt; ]]>"


class _Elements(HTMLParser):
    """Tags as a browser's tokenizer sees them; the text of script and style elements is not markup."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def _data(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="cutaway-data">(.*?)</script>', html, re.S)
    assert found
    return json.loads(found[1])


def test_holds_the_study_as_it_is(sample: Path) -> None:
    data = _data(page(sample))
    (trace,) = data["traces"]
    assert trace["graph"] == json.loads((sample / "graph.json").read_text())
    assert trace["features"] == json.loads((sample / "features.json").read_text())
    assert trace["evidence"]["evidence"] == json.loads((sample / "evidence.json").read_text())["evidence"]


def test_names_nothing_outside_itself(sample: Path) -> None:
    """No element loads anything, and the policy forbids the page to."""
    tags = _Elements(page(sample)).tags
    for tag, attributes in tags:
        assert "src" not in attributes, tag
        assert attributes.get("href") in (None, "data:,"), tag
    policy = next(a["content"] for t, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "connect-src" not in policy  # falls back to none


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    html = page(write_sample(tmp_path, hostile=HOSTILE))
    tags = [tag for tag, _ in _Elements(html).tags]
    assert tags.count("script") == 2  # the data and the bundle
    assert "img" not in tags
    assert "\u2028" not in html.split('id="cutaway-data"')[1].split("</script>")[0]
    (trace,) = _data(html)["traces"]
    assert trace["graph"]["metadata"]["prompt_tokens"][2] == HOSTILE


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.text() | st.integers() | st.booleans() | st.none(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_inlined_json_reads_back_and_cannot_close_its_element(value: Any) -> None:
    text = inline_json(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_half_a_surrogate_pair_is_written_as_it_came() -> None:
    value = json.loads('"\\ud800 and \\ude00"')
    assert json.loads(inline_json(value).encode().decode()) == value


def test_several_traces_are_listed(sample: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(sample, tmp_path / name)
    (tmp_path / "notes").mkdir()
    data = _data(page(tmp_path))
    assert [entry["name"] for entry in data["entries"]] == ["first", "second"]
    assert data["entries"][0]["model"] == "almanac"
    assert len(data["traces"]) == 2


def test_labels_of_the_study_are_in_it(study: Path) -> None:
    write_json(study / "labels.json", {"1_22": "a place in Texas"})
    assert _data(page(study))["traces"][0]["labels"] == {"1_22": "a place in Texas"}


def test_a_study_without_features_and_evidence_still_opens(study: Path) -> None:
    (study / "features.json").unlink()
    (study / "evidence.json").unlink()
    (trace,) = _data(page(study))["traces"]
    assert trace["features"] == {}
    assert trace["evidence"] == {"evidence": [], "measurements": []}


def _break(study: Path, name: str, text: str) -> None:
    (study / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", ["manifest.json", "graph.json", "features.json", "evidence.json", "labels.json"])
@pytest.mark.parametrize("text", ['{"half": ', "[1, 2]", '{"a": NaN}', "", "[" * 100_000])
def test_a_damaged_file_is_named(study: Path, name: str, text: str) -> None:
    _break(study, name, text)
    with pytest.raises(InputError, match=re.escape(name)):
        page(study)


def test_bytes_that_are_no_text_are_refused(study: Path) -> None:
    (study / "graph.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(InputError, match=r"graph\.json"):
        page(study)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("manifest.json", {"schema": "cutaway.study/2"}),
        ("evidence.json", {"schema": "cutaway.evidence/7"}),
        ("graph.json", {"metadata": {"prompt_tokens": [], "cutaway": {"schema": "cutaway.graph/2"}}}),
    ],
)
def test_a_newer_schema_says_so(study: Path, name: str, change: dict[str, Any]) -> None:
    write_json(study / name, {**json.loads((study / name).read_text()), **change})
    with pytest.raises(InputError, match="newer"):
        page(study)


def test_a_foreign_schema_is_named(study: Path) -> None:
    write_json(study / "manifest.json", {"schema": "somebody.else/1", "kind": "trace"})
    with pytest.raises(InputError, match="somebody"):
        page(study)


def test_a_graph_of_circuit_tracer_opens(study: Path) -> None:
    """Without our additions: the page shows what there is."""
    graph = json.loads((study / "graph.json").read_text())
    del graph["metadata"]["cutaway"]
    for node in graph["nodes"]:
        for key in ("kind", "pre_activation", "remainder", "effect", "influence_share"):
            node.pop(key, None)
    write_json(study / "graph.json", graph)
    assert _data(page(study))["traces"][0]["graph"] == graph


def test_a_folder_that_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds nothing to show"):
        page(tmp_path)
    with pytest.raises(InputError, match="neither a folder nor a JSON file"):
        page(tmp_path / "absent")
    (tmp_path / "manifest.json").write_text('{"schema": "cutaway.study/1", "kind": "dictionary"}')
    with pytest.raises(InputError, match="no trace"):
        page(tmp_path)
