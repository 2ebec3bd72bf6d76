"""Each kind of result in a real Chromium: drawn, walked by keyboard, kept in the address, honest when broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cutaway.core import write_json
from cutaway.viewer import page as page_of
from tests.viewer.conftest import Open, Running, as_file, both_ways
from tests.viewer.driving import HOSTILE, READY, said, until, visit

pytestmark = pytest.mark.browser

KINDS = ("sweep", "circuit", "circuit-small", "circuit-nodes", "heads", "lens", "direct", "probe", "steering")


@pytest.fixture(scope="session")
def shown(results: Path) -> Iterator[Running]:
    running = Running(results)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def bundled(results: Path) -> str:
    """All of the study as one file."""
    return as_file(results)


place = both_ways("shown", "bundled")


def body_of(results: Path, name: str) -> dict[str, Any]:
    file = results / name / ("sweep.json" if name == "sweep" else "result.json")
    value: dict[str, Any] = json.loads(file.read_text())
    return value


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn(opened: Open, place: tuple[str, str], results: Path, kind: str) -> None:
    theme = "dark" if place[1] else "light"
    page = visit(opened, place, f"open={kind}&theme={theme}")
    assert page.locator(".trouble").count() == 0
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    assert page.locator(".block").count() >= 3
    evidence = body_of(results, kind)["evidence"]
    claims = evidence if isinstance(evidence, list) else [evidence]
    if claims:
        assert claims[0]["claim"] == said(page, ".finding h1")
        assert claims[0]["verdict_text"] in said(page, ".finding .verdict")
        assert page.locator("#evidence .claim").count() == len(claims)
        for null in claims[0]["nulls"]:
            assert null["estimate"]["name"] in said(page, ".measured-as")
    assert page.locator("canvas, svg.chart, svg.layered").count() >= 1
    # Nothing is wider than the window: no page scrolls sideways.
    assert page.evaluate("document.querySelector('main').scrollWidth - document.querySelector('main').clientWidth") <= 1


def test_the_list_names_every_result_and_leads_there_and_back(opened: Open, place: tuple[str, str]) -> None:
    page = visit(opened, place, "")
    assert page.locator(".trace-list a").count() == len(KINDS)
    page.click(".trace-list a:has-text('sweep')")
    page.wait_for_selector(".finding")
    page.click("a[aria-label='All results']")
    page.wait_for_selector(".trace-list")


def test_a_heatmap_is_walked_by_arrows_and_the_address_keeps_the_cell(opened: Open, place: tuple[str, str]) -> None:
    page = visit(opened, place, "open=sweep&view=all")
    page.focus(".heatmap")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Home")
    first = said(page, ".heat .unseen")
    for key in ("ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert said(page, ".heat .unseen") != first
    assert "layer 0, head 1, position" in said(page, ".cell-detail")
    assert "null" in said(page, ".cell-detail")
    assert "cell=0.1.1" in page.evaluate("location.hash")
    kept = said(page, ".cell-detail")
    page.reload()
    page.wait_for_selector(READY)
    assert said(page, ".cell-detail") == kept


def test_the_sweeps_table_has_the_files_numbers(opened: Open, place: tuple[str, str], results: Path) -> None:
    body = body_of(results, "sweep")
    cells = sorted((x for layer in body["effect"] for head in layer for x in head), key=abs)
    page = visit(opened, place, "open=sweep&view=table")
    assert page.locator("table.data tbody tr").count() == min(100, len(cells))
    shown = said(page, ".table-scroll tbody tr:first-child td.number")
    assert float(shown.replace("−", "-")) == pytest.approx(cells[-1], rel=0.01)
    page.click("thead button:has-text('|effect|')")
    page.click("thead button:has-text('|effect|')")
    assert page.get_attribute("thead th:has-text('|effect|')", "aria-sort") == "ascending"


def test_a_cell_of_a_head_opens_its_card(opened: Open, place: tuple[str, str]) -> None:
    page = visit(opened, place, "open=sweep")
    page.focus(".heatmap")
    page.keyboard.press("ArrowDown")
    wanted = page.evaluate("new URLSearchParams(location.hash.slice(1)).get('cell')").split(".")[:2]
    page.keyboard.press("Enter")
    page.wait_for_selector(".head-card h3")
    assert f"Head {'.'.join(wanted)}" in said(page, ".head-card h3")


def test_the_circuits_size_follows_the_slider(opened: Open, place: tuple[str, str], results: Path) -> None:
    body = body_of(results, "circuit")
    page = visit(opened, place, "open=circuit")
    assert "30 of" in said(page, ".size-says")
    value = body["faithfulness"][0]["faithfulness"]["value"]
    shown = page.locator(".size-says span b").first.text_content()
    assert float(shown.replace("−", "-")) == pytest.approx(value, abs=0.01)
    drawn = "[...document.querySelectorAll('.layered .edge')].filter(e => e.style.display !== 'none').length"
    assert page.evaluate(drawn) == 30
    page.fill("input.size", "12")
    page.keyboard.press("Enter")
    until(page, f"() => {drawn} === 12")
    assert "size=12" in page.evaluate("location.hash")
    assert "between those measured" in said(page, ".size-says")
    page.focus("input[type=range]")
    page.keyboard.press("End")
    until(page, "n => document.querySelector('input.size').value === n", arg=str(len(all_edges(body))))
    assert float(page.locator(".size-says span b").first.text_content()) == pytest.approx(1, abs=0.02)


def all_edges(body: dict[str, Any]) -> list[float]:
    return [score for row in body["scores"] for score in row if score is not None]


def test_an_edge_shows_both_effects_and_its_heads_pattern(opened: Open, place: tuple[str, str], results: Path) -> None:
    page = visit(opened, place, "open=circuit")
    page.focus("svg.layered")
    page.keyboard.press("ArrowDown")
    first = body_of(results, "circuit")["edges"][0]
    assert first["destination"].split("<")[0] in said(page, ".edge-detail h3")
    assert "not measured" not in said(page, ".edge-detail")  # the strongest were ablated for real
    head = next(
        e for e in body_of(results, "circuit")["edges"] if e["destination"].startswith("a") and "<" in e["destination"]
    )
    page.click(f"table.data button:has-text('{head['source']}→{head['destination']}')")
    page.wait_for_selector(".edge-detail canvas")
    words = {"q": "queries", "k": "keys", "v": "values"}
    assert words[head["destination"][-2]] in said(page, ".edge-detail h3")
    assert "edge=" in page.evaluate("location.hash")


def test_a_circuit_of_nodes_says_nodes(opened: Open, place: tuple[str, str], results: Path) -> None:
    body = body_of(results, "circuit-nodes")
    assert body["count"] == 5
    page = visit(opened, place, "open=circuit-nodes")
    assert page.locator("input[type=range]").count() == 0
    assert f"A circuit of nodes: 5 of {body['whole']} " in said(page, "section[aria-label='The circuit']")
    curve = page.locator("svg.chart").first
    assert curve.locator(".axis").first.text_content() == "nodes"
    page.focus("svg.chart")
    page.keyboard.press("End")
    assert f"nodes {body['whole']}" in said(page, ".readout")
    rows = page.locator("section[aria-label='Nodes'] tbody tr")
    assert rows.count() == body["whole"]
    assert page.locator("section[aria-label='Nodes'] td:text-is('yes')").count() == 5
    page.focus("svg.layered")
    page.keyboard.press("ArrowDown")
    assert "approximate effect of " in said(page, ".edge-detail")


def test_two_circuits_are_compared(opened: Open, place: tuple[str, str], results: Path) -> None:
    a, b = (
        {(e["source"], e["destination"]) for e in body_of(results, n)["edges"]} for n in ("circuit", "circuit-small")
    )
    page = visit(opened, place, "open=circuit")
    page.select_option("select[aria-label^='Compare']", "circuit-small")
    page.wait_for_selector(".compared .edge-key")
    counts = [int(x) for x in page.locator(".compared .edge-key b").all_text_contents()]
    assert counts == [len(a & b), len(a - b), len(b - a)]
    assert page.locator(".layered .edge.a").count() == len(a - b)


def test_a_head_card_shows_all_of_it(opened: Open, place: tuple[str, str], results: Path) -> None:
    cards = body_of(results, "heads")["cards"]
    page = visit(opened, place, "open=heads&head=2.1")
    card = said(page, ".head-card")
    assert "Head 2.1" in card
    assert "re-randomised model" in card
    assert cards["circuits"]["2.1"]["OV"][1]["raises"][0][0].strip() in card
    assert page.locator(".head-card canvas").count() == 1
    page.click("button:has-text('taken out')")
    assert "score=ablation" in page.evaluate("location.hash")


def test_the_lens_says_what_the_file_says(opened: Open, place: tuple[str, str], results: Path) -> None:
    prompt = body_of(results, "lens")["prompts"][0]
    page = visit(opened, place, "open=lens")
    assert prompt["points"][-1]["top"][-1][0][0].strip() in said(page, ".cell-detail")
    page.focus(".heatmap")
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    assert prompt["points"][-3]["point"] in said(page, ".cell-detail")


def test_a_chart_is_walked_by_arrows(opened: Open, place: tuple[str, str]) -> None:
    page = visit(opened, place, "open=steering")
    page.focus("svg.chart >> nth=0")
    page.keyboard.press("Home")
    start = said(page, ".readout")
    page.keyboard.press("ArrowRight")
    assert "steered" in start
    assert said(page, ".readout") != start


def test_the_theme_is_switched_by_a_key_and_kept(opened: Open, place: tuple[str, str]) -> None:
    page = visit(opened, place, "open=lens&theme=light")
    page.keyboard.press("t")
    until(page, "() => document.documentElement.dataset.theme === 'dark'")
    assert "theme=dark" in page.evaluate("location.hash")


def test_it_prints_in_light_colours_whole(opened: Open, place: tuple[str, str]) -> None:
    page = visit(opened, place, "open=heads&theme=dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('main.page')).overflowY") == "visible"
    assert (
        page.evaluate("window.dispatchEvent(new Event('beforeprint')), document.documentElement.dataset.theme")
        == "light"
    )
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_its_schema_says_which_field(opened: Open, results: Path, tmp_path: Path, kind: str) -> None:
    fields = {
        "sweep": "axes", "circuit": "sources", "circuit-small": "edges", "circuit-nodes": "scores",
        "heads": "heads", "lens": "prompts", "direct": "components", "probe": "sweep", "steering": "doses",
    }  # fmt: skip
    body = {**body_of(results, kind), fields[kind]: {"0": HOSTILE}}
    write_json(tmp_path / "one.json", body)
    (tmp_path / "one.html").write_text(page_of(tmp_path / "one.json"))
    page = opened((tmp_path / "one.html").as_uri())
    page.wait_for_selector(".trouble")
    assert fields[kind] in said(page, ".trouble")
    assert page.locator("img").count() == 0
    assert HOSTILE in said(page, "main")


def test_a_schema_without_a_page_is_shown_by_its_form(opened: Open, tmp_path: Path) -> None:
    body = {
        "schema": "cutaway.something-new/3", "model": "m", "curve": [i / 7 for i in range(40)],
        "rows": [{"name": HOSTILE, "truth": 1.0, "interval": [0.5, 1.5], "passed": i % 2 == 0} for i in range(250)],
        "matrix": [[0.5, -1.0], [0.0, None]], "deep": {"a": {"b": {"c": {"d": {"e": 1}}}}}, "__proto__": {"x": 1},
        "estimate": {"name": "e", "value": 0.5, "interval": {"low": 0.25, "high": 0.75}, "n": 12},
        "points": ["resid_post.0", "resid_post.1"], "share": [0.25, 0.75], "null": [0.125, 0.0625],
        "vector": {"dtype": "float32", "shape": [3], "base64": "AAAAAAAAAAAAAAAA"},
    }  # fmt: skip
    write_json(tmp_path / "new.json", body)
    (tmp_path / "new.html").write_text(page_of(tmp_path / "new.json"))
    page = opened((tmp_path / "new.html").as_uri())
    page.wait_for_selector(READY)
    assert page.locator("section[aria-label='By point'] tbody tr").all_text_contents() == [
        "resid_post.00.2500.125", "resid_post.10.7500.0625"
    ]  # fmt: skip
    assert "a tensor [3] of float32" in said(page, "main")
    assert "AAAA" not in said(page, "main")
    assert page.locator("section[aria-label='Rows'] tbody tr").count() == 100
    assert "0.500 [0.250, 0.750] (n = 12)" in said(page, "main")
    assert page.locator("svg.chart").count() == 1
    assert page.locator("canvas").count() == 1
    assert "no evidence" in said(page, ".finding")
    assert page.locator("img").count() == 0
    page.click("section[aria-label='Rows'] button:has-text('Show more')")
    assert page.locator("section[aria-label='Rows'] tbody tr").count() == 250


def test_one_damaged_file_does_not_hide_the_others(opened: Open, results: Path, tmp_path: Path) -> None:
    shutil.copytree(results / "lens", tmp_path / "lens")
    shutil.copytree(results / "probe", tmp_path / "probe")
    (tmp_path / "probe" / "result.json").write_text('{"schema": "cutaway.probe/1", "half')
    running = Running(tmp_path)
    try:
        page = opened(running.url, allowed=running.url)
        page.wait_for_selector(".trace-list a")
        assert page.locator(".trace-list a").count() == 1
        assert "result.json is damaged" in said(page, ".trace-list .broken")
        page.click(".trace-list a")
        page.wait_for_selector(".finding")
    finally:
        running.stop()


def large_sweep() -> dict[str, Any]:
    names = {"layer": 12, "head": 12, "position": 64}
    cells = range(12 * 12 * 64)
    values = [
        [[(7 * cell % 41) / 41 - 0.5 for cell in cells[i + j : i + j + 64]] for j in range(12)] for i in range(12)
    ]
    axes = [{"name": name, "labels": [str(i) for i in range(n)]} for name, n in names.items()]
    return {"schema": "cutaway.sweep/1", "axes": axes, "effect": values, "low": values, "high": values, "null": None}


def test_a_large_sweep_is_walked(opened: Open, tmp_path: Path) -> None:
    write_json(tmp_path / "sweep.json", large_sweep())
    (tmp_path / "sweep.html").write_text(page_of(tmp_path / "sweep.json"))
    page = opened((tmp_path / "sweep.html").as_uri() + "#view=all")
    page.wait_for_selector(READY)
    page.focus(".heatmap")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    until(page, "() => location.hash.includes('cell=0.0.5')")
