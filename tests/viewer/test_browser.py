"""The page of a trace in a real Chromium: what a person sees and does, served and as one file, with no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.conftest import Open
from tests.viewer.driving import counts, ready, select_strongest, slide, until

pytestmark = pytest.mark.browser


def test_loads_and_shows_the_prompt_the_graph_and_the_verdict(opened: Open, place: tuple[str, str]) -> None:
    url, allowed = place
    page = ready(opened(url, allowed=allowed))
    assert page.locator(".prompt .token").count() == 15
    assert "Austin" in page.text_content(".answer.first")
    assert page.locator(".node.feature").count() > 10
    assert page.locator(".node.embedding").count() == 15
    assert page.locator(".node.logit").count() == 5
    assert "almanac" in page.text_content(".fact-line")
    assert "2 of 4 claims" in page.text_content(".header .verdict")
    drawn = (
        "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return d.some(v => v > 0) }"
    )
    assert page.locator("canvas.links").first.evaluate(drawn)


def test_a_click_on_a_node_shows_it(opened: Open, place: tuple[str, str]) -> None:
    url, allowed = place
    page = ready(opened(url, allowed=allowed))
    name = select_strongest(page)
    panel = page.locator("#panel-node")
    assert name in panel.locator(".where").first.text_content()
    assert "sums" in panel.locator(".sum").text_content()
    assert panel.locator(".inputs .connection").count() > 0
    assert panel.locator(".outputs .connection").count() > 0
    assert panel.locator(".examples mark.peak").count() > 3
    assert panel.locator(".bars i").count() == 30
    assert panel.locator(".vocabulary .up .vocab").count() > 3
    page.click("#panel-node .inputs .connection")
    until(page, "name => !location.hash.includes(`sel=${name}`)", arg=name)


def test_pins_groups_selection_and_sliders_survive_a_reload(opened: Open, place: tuple[str, str]) -> None:
    url, allowed = place
    page = ready(opened(url, allowed=allowed))
    page.click("text=Clear")
    page.wait_for_selector(".subgraph .empty p")
    names = page.eval_on_selector_all(
        ".ranking:not(.outputs) .connection", "all => all.slice(0, 3).map(b => b.dataset.id)"
    )
    for name in names:
        page.click(f'.node[data-id="{name}"] .hit', modifiers=["Shift"])
    page.keyboard.press("g")
    page.wait_for_selector("input.rename")
    page.keyboard.type("three & more ~ </b>")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    other = page.get_attribute(".node.logit.target", "data-id")
    page.click(f'.node[data-id="{other}"] .shape')
    page.keyboard.press("p")
    slide(page, "Nodes", 0.55)
    before = page.evaluate("location.hash")

    page.reload()
    ready(page)
    assert page.evaluate("location.hash") == before
    assert page.text_content(".unit.group .word") == "three & more ~ </b>"
    assert page.get_attribute(".unit.group", "data-ids") == ",".join(names)
    assert page.locator(".unit").count() == 2
    assert page.get_attribute(".node.selected", "data-id") == other
    assert page.locator("input[type=range]").first.input_value() == "0.55"
    edges = page.locator("path.edge title").all_text_contents()
    assert any("in sum over" in text for text in edges)

    page.click(".unit.group")
    page.keyboard.press("u")
    until(page, "() => document.querySelectorAll('.unit.group').length === 0")
    assert page.locator(".unit").count() == 4


def test_the_subgraph_is_exported_with_its_sums(opened: Open, single: str) -> None:
    page = ready(opened(single))
    with page.expect_download() as download:
        page.click("button:has-text('JSON')")
    exported = json.loads(Path(download.value.path()).read_text())
    assert exported["schema"] == "cutaway.subgraph/1"
    assert exported["model"] == "almanac"
    assert len(exported["units"]) == page.locator(".unit").count()
    assert len(exported["edges"]) == page.locator("path.edge").count()


def test_sliders_and_switches_change_what_is_shown(opened: Open, single: str) -> None:
    page = ready(opened(single + "#node=1&edge=1"))
    whole = counts(page)
    slide(page, "Nodes", 0.5)
    fewer = counts(page)
    assert fewer[0] < whole[0]
    slide(page, "Links", 0.4)
    assert counts(page)[1] < fewer[1]
    slide(page, "Nodes", 0.995)
    slide(page, "Links", 0.995)
    page.locator(".node.error").first.wait_for(state="attached")  # drawn on the next frame
    page.click("text=Errors")
    page.locator(".node.error").first.wait_for(state="detached")
    page.click("text=Biases")
    page.locator(".node.bias").first.wait_for(state="detached")


def test_search_finds_labels_tokens_and_ids(opened: Open, single: str) -> None:
    page = ready(opened(single))
    page.keyboard.press("/")
    page.keyboard.type("state, as territory")
    page.wait_for_selector(".found [role=option]")
    assert "state, as territory" in page.text_content(".found [aria-selected=true]")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#panel-node .label").input_value() == "state, as territory"
    name = page.get_attribute(".node.selected", "data-id")
    page.keyboard.press("Escape")
    page.fill("#search", name)
    assert page.locator(".found [role=option]").count() == 1
    page.fill("#search", "zzzz")
    assert "Nothing found" in page.text_content(".found")


def test_the_evidence_is_shown_with_its_verdicts(opened: Open, single: str) -> None:
    page = ready(opened(single))
    page.click(".header .verdict")
    panel = page.locator("#panel-evidence")
    assert panel.is_visible()
    verdicts = panel.locator(".claim .verdict").all_text_contents()
    assert verdicts[0] == "distinguishable from null"
    assert verdicts[2].startswith("not distinguishable from null")
    assert verdicts[3] == "undefined"
    first = panel.locator(".claim").first
    assert first.locator(".forest-row.null").count() == 3
    assert first.locator(".forest-row.baseline").count() == 1
    assert first.locator(".dot").count() == 7
    assert "n 24" in first.text_content()
    assert "0, 1, 2" in first.text_content()
    assert "Not done" in panel.locator(".claim").nth(1).text_content()
    first.locator("summary").click()
    first.locator(".tail button").first.click()
    page.wait_for_selector("#panel-node .node-head")
    page.keyboard.press("e")
    legends = panel.locator(".scatter-legend").all_text_contents()
    assert len(legends) == 2  # features in logits, links in pre-activations
    assert all("ρ" in text for text in legends)
    points = panel.locator(".scatter .point").count()
    panel.locator(".scatter-legend input").first.uncheck()
    assert panel.locator(".scatter .point").count() == points - 24


def test_effects_lie_where_their_axis_says(opened: Open, single: str) -> None:
    """The dot of an estimate stands at its value between the ticks beside it."""
    page = ready(opened(single + "#tab=evidence"))
    forest = page.locator(".claim").first.locator(".forest")
    ticks = forest.locator(".forest-axis .field span").evaluate_all(
        "all => all.map(s => [Number(s.textContent.replace('−', '-')), parseFloat(s.style.left)])"
    )
    (low, left), (high, right) = ticks[0], ticks[-1]
    dot = forest.locator(".effect .dot").evaluate("dot => parseFloat(dot.style.left)")
    assert dot == pytest.approx(left + (0.91 - low) / (high - low) * (right - left), abs=0.5)


def test_keys_walk_the_graph(opened: Open, single: str) -> None:
    page = ready(opened(single))

    def selected() -> str:
        return str(page.get_attribute(".node.selected", "data-id"))

    page.keyboard.press("ArrowDown")
    answer = selected()
    assert page.get_attribute(".node.logit.target", "data-id") == answer
    page.keyboard.press("ArrowDown")
    first = selected()
    page.keyboard.press("ArrowRight")
    second = selected()
    page.keyboard.press("ArrowLeft")
    assert selected() == first
    assert len({answer, first, second}) == 3
    page.keyboard.press("ArrowUp")
    assert selected() != first
    assert first_words(page) in page.text_content(".unseen")
    page.keyboard.press("Escape")
    page.wait_for_selector("#panel-node .ranking")
    page.focus(".node[tabindex='0']")
    page.keyboard.press("Enter")
    assert selected() == answer
    page.keyboard.press("?")
    assert page.locator("dialog.help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog.help").is_visible()


def first_words(page: Any) -> str:
    return str(page.get_attribute(".node.selected", "aria-label"))


def test_going_back_goes_back(opened: Open, single: str) -> None:
    page = ready(opened(single))
    first = select_strongest(page)
    page.click("#panel-node .inputs .connection")
    until(page, "name => !location.hash.includes(`sel=${name}`)", arg=first)
    page.go_back()
    page.wait_for_selector(f'.node.selected[data-id="{first}"]')
