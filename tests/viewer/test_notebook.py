"""Results draw themselves: which do, what the frame may do, and what is drawn in a real browser."""

from __future__ import annotations

import ast
import html
import importlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import cutaway as cw
from cutaway.core.drawing import Drawn
from cutaway.viewer import notebook

SOURCE = Path(cw.__file__).parent
# Values that are written with a schema so that they can be read again; there is nothing to look at.
NO_RESULTS = {"Intervention", "CausalModel", "TunedLens", "Task", "Truth", "FunctionVector"}


def _with_a_schema() -> list[tuple[str, str]]:
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        module = "cutaway." + ".".join(file.relative_to(SOURCE).with_suffix("").parts)
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            methods = node.body if isinstance(node, ast.ClassDef) else []
            for method in methods:
                named = isinstance(method, ast.FunctionDef) and method.name == "to_json"
                if named and '"schema"' in ast.unparse(method).replace("'", '"'):
                    found.append((module, node.name))
    return found


@pytest.mark.parametrize(("module", "name"), [c for c in _with_a_schema() if c[1] not in NO_RESULTS])
def test_whatever_has_a_schema_draws_itself(module, name):
    assert issubclass(getattr(importlib.import_module(module), name), Drawn)


@dataclass
class Result(Drawn):
    says: str = "nothing yet"
    more: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"schema": "test.result/1", "claim": self.says, **self.more}


def _document(framed: str) -> str:
    found = re.fullmatch(r'<iframe srcdoc="([^"]*)" .*</iframe>', framed, re.DOTALL)
    assert found
    return html.unescape(found[1])


def test_the_frame_holds_the_page_and_may_run_its_script_alone():
    result = Result()
    framed = result._repr_html_()
    assert _document(framed) == notebook.document(result)
    assert 'sandbox="allow-scripts"' in framed


def test_no_text_of_a_result_leaves_the_frame_or_its_data():
    hostile = '"></iframe><script>alert(1)</script>'
    framed = Result(hostile)._repr_html_()
    assert framed.count("</iframe>") == 1
    assert "alert(1)</script>" not in _document(framed)


def test_a_page_too_large_for_a_notebook_is_the_printed_result(monkeypatch):
    monkeypatch.setattr(notebook, "LARGEST", 1000)
    shown = Result("<b>")._repr_html_()
    assert shown.startswith("<pre>Result(says=&#x27;&lt;b&gt;&#x27;")
    assert "result.page(" in shown


def test_a_graph_is_drawn_pruned_with_its_evidence_and_its_models_name():
    graph = cw.trace(cw.load("almanac"), "36 + 59 =", quick=True)
    drawn = notebook.document(graph)
    assert '"name":"almanac"' in drawn
    assert graph.evidence[0].claim in drawn
    assert len(drawn) < notebook.LARGEST


def test_a_result_writes_its_page(tmp_path):
    file = Result("a claim of mine").page(tmp_path / "mine.html")
    assert "a claim of mine" in file.read_text(encoding="utf-8")


def test_a_notebooks_cell_shows_the_page(opened, tmp_path):
    file = tmp_path / "notebook.html"
    file.write_text(f"<p>a cell</p>{Result('seen in a cell')._repr_html_()}", encoding="utf-8")
    page = opened(file.as_uri())
    page.frame_locator("iframe").get_by_role("heading", name="seen in a cell").first.wait_for()
