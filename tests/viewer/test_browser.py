"""The page in a real Chromium: what a person sees and does, served and as one file, with no network."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from cutaway.core import write_text
from cutaway.viewer import page as page_of
from tests.viewer.conftest import Open, Running, until
from tests.viewer.sample_study import write_sample

pytestmark = pytest.mark.browser

READY = "html[data-ready]"


@pytest.fixture(scope="session")
def single(sample: Path) -> str:
    """The address of the sample as one file."""
    write_text(sample.parent / "single.html", page_of(sample))
    return (sample.parent / "single.html").as_uri()


@pytest.fixture(params=["served", "file"])
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    """(address, what it may ask for): the same page, both ways."""
    if request.param == "file":
        return request.getfixturevalue("single"), ""
    running = request.getfixturevalue("served")
    return running.url, running.url


LONGEST_STEP = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  const plot = document.querySelector('.plot');
  const box = plot.getBoundingClientRect();
  const at = (x, y) => ({ clientX: box.left + x, clientY: box.top + y, button: 0, buttons: 1, bubbles: true });
  const point = (target, name, x) => () => target.dispatchEvent(new PointerEvent(name, at(x, 100)));
  const turn = () => plot.dispatchEvent(new WheelEvent('wheel', { ...at(400, 150), deltaY: -80, cancelable: true }));
  const moves = Array.from({ length: 12 }, (_, i) => point(window, 'pointermove', 300 + 12 * i));
  const steps = [point(plot, 'pointerdown', 300), ...moves, point(window, 'pointerup', 432), turn, turn, turn, turn];
  let longest = 0;
  for (const step of steps) {
    const start = performance.now();
    step();
    longest = Math.max(longest, performance.now() - start);
    await frame();
  }
  return longest;
}"""


def ready(page: Any) -> Any:
    page.wait_for_selector(READY)
    page.wait_for_selector(".node.feature")
    return page


def counts(page: Any) -> tuple[int, int]:
    return tuple(
        int(page.text_content(f"[data-count={k}]").split(" of ")[0].replace(",", "")) for k in ("node", "edge")
    )


def select_strongest(page: Any) -> str:
    """Click the most influential feature in the graph itself; returns its id."""
    name = page.get_attribute(".ranking:not(.outputs) .connection", "data-id")
    page.click(f'.node[data-id="{name}"] .hit')
    page.wait_for_selector(f'.node.selected[data-id="{name}"]')
    return str(name)


def slide(page: Any, which: str, value: float) -> None:
    page.locator(f"input[type=range][aria-label^='{which}']").evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', { bubbles: true })) }", value
    )
    until(page, "v => location.hash.includes(v)", arg=f"{'node' if which == 'Nodes' else 'edge'}={value}")


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


def test_a_label_given_to_a_served_page_is_in_the_study(opened: Open, served: Running, study: Path) -> None:
    page = ready(opened(served.url, allowed=served.url))
    name = select_strongest(page)
    with page.expect_response("**/api/labels") as answer:
        page.fill("#panel-node .label", "mine: <b>Texas</b>")
        page.keyboard.press("Enter")
    assert answer.value.status == 200
    key = "_".join(name.split("_")[:2])
    assert json.loads((study / "labels.json").read_text()) == {key: "mine: <b>Texas</b>"}
    page.reload()
    ready(page)
    assert page.locator("#panel-node .label").input_value() == "mine: <b>Texas</b>"
    assert "mine: <b>Texas</b>" in page.text_content(f'.unit[data-ids="{name}"]')


def test_a_label_that_is_not_saved_is_said_and_not_shown(opened: Open, served: Running) -> None:
    page = ready(opened(served.url, allowed=served.url, expect_errors=True))
    select_strongest(page)
    before = page.locator("#panel-node .label").input_value()
    served.stop()
    page.fill("#panel-node .label", "lost")
    page.keyboard.press("Enter")
    page.wait_for_selector(".notice.on")
    assert "not saved" in page.text_content(".notice")
    assert page.locator("#panel-node .label").input_value() == before


def test_a_label_given_to_the_file_stays_in_the_browser_and_can_be_downloaded(opened: Open, single: str) -> None:
    page = ready(opened(single))
    name = select_strongest(page)
    page.fill("#panel-node .label", "kept here")
    page.keyboard.press("Enter")
    page.reload()
    ready(page)
    assert page.locator("#panel-node .label").input_value() == "kept here"
    with page.expect_download() as download:
        page.click("header button:has-text('Labels')")
    assert json.loads(Path(download.value.path()).read_text()) == {"_".join(name.split("_")[:2]): "kept here"}


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
