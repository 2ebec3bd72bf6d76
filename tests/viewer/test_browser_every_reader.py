"""The page of a trace for every reader and every file: roles, themes, contrast, sizes, hostile and damaged studies."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from cutaway.core import write_text
from cutaway.viewer import page as page_of
from tests.viewer.conftest import Open, Running
from tests.viewer.driving import LONGEST_STEP, counts, ready, select_strongest, slide
from tests.viewer.sample_study import write_sample

pytestmark = pytest.mark.browser


def test_what_can_be_used_has_a_name_and_a_role(opened: Open, single: str) -> None:
    page = ready(opened(single))
    select_strongest(page)
    for role in ("button", "slider", "checkbox", "tab", "combobox", "textbox", "separator"):
        elements = page.get_by_role(role)
        assert elements.count() > 0, role
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button, [role=button], input')]
             .filter((e) => !(e.getAttribute('aria-label') || e.title || (e.closest('label') ?? e).textContent.trim()))
             .map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert unnamed == []
    assert page.get_by_role("button", name=re.compile("^feature ")).count() > 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_follows_the_system_and_keeps_what_is_chosen(opened: Open, single: str, scheme: Any) -> None:
    page = ready(opened(single, color_scheme=scheme))
    other = "dark" if scheme == "light" else "light"
    theme = "document.documentElement.dataset.theme"
    luminance = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b)"
    assert page.evaluate(theme) == scheme
    before = page.evaluate(luminance)
    page.keyboard.press("t")
    assert page.evaluate(theme) == other
    assert (page.evaluate(luminance) > before) == (other == "light")
    page.reload()
    ready(page)
    assert page.evaluate(theme) == other


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_its_ground(opened: Open, single: str, scheme: Any) -> None:
    """Contrast of the text colours on the grounds that they stand on: WCAG AA, 4.5 to 1."""
    page = ready(opened(single, color_scheme=scheme))
    ratio = """([text, ground]) => {
      const probe = document.createElement('i');
      document.body.append(probe);
      const light = (name) => {
        probe.style.color = `var(--${name})`;
        const [r, g, b] = getComputedStyle(probe).color.match(/[\\d.]+/g).map((v) => v / 255)
          .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const [a, b] = [light(text), light(ground)].sort((x, y) => y - x);
      probe.remove();
      return (a + 0.05) / (b + 0.05);
    }"""
    pairs = [(text, ground) for text in ("ink", "ink-2", "ink-3") for ground in ("panel", "bg", "sunk")]
    pairs += [("pos", "panel"), ("neg", "panel"), ("good", "good-soft"), ("bad", "bad-soft"), ("open", "open-soft")]
    low = [(pair, found) for pair in pairs if (found := page.evaluate(ratio, list(pair))) < 4.5]
    assert low == []


def test_hostile_text_is_shown_and_does_nothing(opened: Open, tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028"
    write_text(tmp_path / "hostile.html", page_of(write_sample(tmp_path / "study", hostile=hostile)))
    page = ready(opened((tmp_path / "hostile.html").as_uri()))
    assert "<script>alert(1)</script>" in page.text_content(".prompt")
    page.keyboard.press("e")
    assert "onerror=alert(2)" in page.text_content(".claim h3")
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2


def test_a_hostile_address_does_nothing(opened: Open, single: str) -> None:
    page = ready(
        opened(single + "#sel=%3Cimg%20src=x%20onerror=alert(1)%3E&pin=a,b&g=%3Cb%3E~nowhere&node=NaN&xy=a~b~c&theme=x")
    )
    assert page.locator("img").count() == 0
    assert counts(page)[0] > 10


def test_a_folder_of_traces_opens_with_a_list(opened: Open, sample: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(sample, tmp_path / name)
    running = Running(tmp_path)
    try:
        page = opened(running.url, allowed=running.url)
        page.wait_for_selector(".trace-list a")
        assert page.locator(".trace-list a").count() == 2
        page.click(".trace-list li:nth-child(2) a")
        ready(page)
        select_strongest(page)
        assert "trace=second" in page.evaluate("location.hash")
        page.reload()
        ready(page)
        page.click("button[aria-label='All results']")
        page.wait_for_selector(".trace-list")
    finally:
        running.stop()


def test_a_damaged_study_says_so_on_the_page(opened: Open, served: Running, study: Path) -> None:
    (study / "graph.json").write_text("{")
    page = opened(served.url, allowed=served.url, expect_errors=True)
    page.wait_for_selector(".failure")
    assert "graph.json" in page.text_content(".failure")


def test_panes_can_be_resized_with_mouse_and_keys(opened: Open, single: str) -> None:
    page = ready(opened(single))
    side = page.locator(".side")
    before = side.bounding_box()["width"]
    bar = page.locator(".splitter.x").bounding_box()
    page.mouse.move(bar["x"] + 4, bar["y"] + 200)
    page.mouse.down()
    page.mouse.move(bar["x"] - 96, bar["y"] + 200)
    page.mouse.up()
    wider = side.bounding_box()["width"]
    assert wider == pytest.approx(before + 100, abs=2)
    page.focus(".splitter.x")
    page.keyboard.press("ArrowRight")
    assert side.bounding_box()["width"] < wider
    page.reload()
    ready(page)
    assert side.bounding_box()["width"] == pytest.approx(wider - 24, abs=2)


def test_nothing_is_cut_off_or_overlaps_at_the_usual_sizes(opened: Open, single: str) -> None:
    """The page never scrolls as a whole; no two names in the graph, no two boxes of the subgraph meet."""
    page = ready(opened(single))
    overlaps = """(selector) => {
      const boxes = [...document.querySelectorAll(selector)].map((e) => e.getBoundingClientRect());
      const meet = (a, b) =>
        a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2;
      return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => meet(a, b))).length;
    }"""
    for width, height in ((1280, 800), (1600, 1000), (1024, 700)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.documentElement.scrollHeight") <= height
        assert page.locator(".labels text").count() > 3
        assert page.evaluate(overlaps, ".labels text") == 0
        assert page.evaluate(overlaps, ".unit .card") == 0
        assert page.evaluate(overlaps, ".node.logit .shape") == 0


def test_a_large_graph_answers_quickly(opened: Open, crowded: Path) -> None:
    """1,500 nodes and 30,000 links, all shown: no step of the page's own work blocks it for long."""
    graph = json.loads((crowded / "graph.json").read_text())
    assert len(graph["nodes"]) > 1450
    assert len(graph["links"]) > 28_000
    write_text(crowded.parent / "crowded.html", page_of(crowded))
    page = ready(opened((crowded.parent / "crowded.html").as_uri() + "#node=1&edge=1"))
    # The longest that any one step of panning and zooming holds the page; the bound is for a busy machine.
    assert page.evaluate(LONGEST_STEP) < 1000
    page.click(".ranking:not(.outputs) .connection")
    page.wait_for_selector(".node.selected")
    slide(page, "Nodes", 0.5)
    assert counts(page)[0] < len(graph["nodes"])
