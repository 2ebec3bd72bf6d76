"""Pages of alignments, timelines, features, neurons, attacks and circuits judged whole, in a real Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutaway.core import InputError, write_json
from cutaway.viewer import page as page_of
from tests.viewer.conftest import Open, Running
from tests.viewer.driving import HOSTILE, READY, said, until, visit
from tests.viewer.hand_made import HAND_MADE

pytestmark = pytest.mark.browser
NAMELESS = """() => [...document.querySelectorAll('a, button, input, select')].filter(one => !(
  one.getAttribute('aria-label') || one.textContent || one.title || one.labels?.[0]?.textContent || '').trim()
).map(one => one.outerHTML)"""


@pytest.mark.parametrize("name", HAND_MADE)
def test_every_kind_is_drawn(opened: Open, made: Running, name: str) -> None:
    page = visit(opened, made, f"open={name}&theme=dark")
    assert page.locator(".trouble").count() == 0
    assert page.locator(".block").count() >= 3
    assert "null" in said(page, ".finding")
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate("document.querySelector('main').scrollWidth - document.querySelector('main').clientWidth") <= 1


@pytest.mark.parametrize("name", HAND_MADE)
def test_a_damaged_field_is_named(opened: Open, tmp_path: Path, name: str) -> None:
    body, field = HAND_MADE[name]
    write_json(tmp_path / "one.json", {**body, field: [HOSTILE, {"0": HOSTILE}]})
    (tmp_path / "one.html").write_text(page_of(tmp_path / "one.json"))
    page = opened((tmp_path / "one.html").as_uri())
    page.wait_for_selector(".trouble")
    assert field in said(page, ".trouble")
    assert page.locator("img").count() == 0


def test_a_timeline_is_scrubbed_in_all_panels_and_names_the_checkpoint(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=timeline")
    page.focus("svg.chart >> nth=0")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "step-10 " in said(page, ".moment") or "step-10" in said(page, ".moment code")
    assert all("step 10" in text for text in page.locator(".readout").all_text_contents())
    assert "at=2" in page.evaluate("location.hash")
    page.focus("input[type=range]")
    page.keyboard.press("End")
    until(page, "() => document.querySelector('.moment h3').textContent.includes('100')")
    assert "changes course at step 10" in said(page, ".finding h1")


def test_a_path_is_walked_with_its_circles_in_all_planes(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=essential")
    assert page.locator("svg.plane").count() == 3
    assert page.locator("svg.plane >> nth=0").locator(".form, .form-circle").count() == 2
    page.focus("svg.plane >> nth=0")
    page.keyboard.press("Home")
    assert "straight" in said(page, ".planes .readout")
    assert page.locator(".now-circle").count() == 0
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    # From (1, 3) to its centre at (0.5, 1.5).
    assert "radius 1.58" in said(page, ".planes .readout")
    assert all("step 10" in text for text in page.locator(".planes .readout").all_text_contents())
    shape = page.evaluate(
        """['.now', '.now-circle'].map(name => document.querySelector(name))
             .map(circle => ['cx', 'cy', 'r'].map(key => Number(circle.getAttribute(key))))"""
    )
    (x, y, _), (cx, cy, r) = shape
    assert ((x - cx) ** 2 + (y - cy) ** 2) ** 0.5 == pytest.approx(r, abs=0.2)  # it goes through the point


def test_capacity_has_linear_and_nonlinear_maps_and_nothing_exchanged(opened: Open, made: Running) -> None:
    for state in ("open=capacity", "open=case"):
        page = visit(opened, made, state)
        block = "section[aria-label='IIA against capacity']"
        for words in ("nonlinear map, untrained network", "nothing exchanged", "9,000", "0.970"):
            assert words in said(page, block)
    assert "isolate of same" in said(page, "section[aria-label='Each variable by itself']")


def test_an_alignment_sweep_says_null_and_chance_in_each_cell(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=align-sweep")
    assert "resid_post.1, b" in said(page, ".cell-detail")
    page.focus(".heatmap")
    page.keyboard.press("ArrowDown")
    for words in ("resid_post.0", "null (random) 0.500", "nothing exchanged"):
        assert words in said(page, ".cell-detail")
    assert "maybe" in said(page, "main")  # what the network said in the pair that fails


def test_a_strangers_drawing_is_not_put_in_the_page(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=align")
    assert page.locator("[onload]").count() == 0
    assert page.locator(".node-box.marked").count() == 1


def test_a_neuron_leads_to_its_card_with_its_pictures(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=neurons")
    page.click("table.data a:has-text('50')")
    page.wait_for_selector(".quantiles img")
    assert page.locator("img").count() == 2
    assert "red sun" in page.get_attribute(".quantiles img", "alt")
    until(page, "() => [...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_a_feature_card_is_in_plain_words(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=feature")
    for words in ("fires on", "Less likely without it", "a random direction of the same length", "0.5 is guessing"):
        assert words in said(page, "main")
    assert page.locator("mark.peak").text_content() == "coat"


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """Three features as `cutaway dictionary describe` leaves them, in Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    body = {key: value for key, value in HAND_MADE["feature"][0].items() if key not in ("schema", "about", "examples")}
    rows = [
        {**body, "feature": i, "label": f"on {word}", "effect": i / 9, "nearest": [0], "token_auroc": float("nan")}
        for i, word in enumerate(("coats", "hats", HOSTILE))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "features.parquet")
    example = {"feature": 1, "band": "Top", "tokens": ["a", "hat"], "activations": [0.0, 5.0], "place": 1}
    pq.write_table(pa.Table.from_pylist([example]), tmp_path / "examples.parquet")
    write_json(tmp_path / "about.json", {"schema": "cutaway.descriptions/1", "model": "m", "dictionary": "an SAE"})
    return tmp_path


def test_features_are_searched_and_one_leads_to_another(opened: Open, described: Path) -> None:
    (described / "page.html").write_text(page_of(described))
    page = opened((described / "page.html").as_uri())
    page.wait_for_selector(READY)
    assert "3 features" in said(page, ".finding h1")
    page.fill("input[type=search]", "hats")
    assert page.locator("table.data tbody tr").count() == 1
    page.click("table.data button:has-text('1')")
    assert "Feature 1 fires on hats" in said(page, ".card-title")
    assert page.locator("mark.peak").text_content() == "hat"
    page.click(".stack-blocks table.data td button:has-text('0')")
    assert "Feature 0" in said(page, ".card-title")
    page.go_back()
    until(page, "() => document.querySelector('.card-title').textContent.includes('Feature 1')")
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("name", ["features.parquet", "examples.parquet"])
def test_damaged_descriptions_are_refused_by_name(described: Path, name: str) -> None:
    (described / name).write_bytes(b"no parquet")
    with pytest.raises(InputError, match="Describe the dictionary again"):
        page_of(described)
    (described / name).unlink()
    with pytest.raises(InputError, match="Describe the dictionary again"):
        page_of(described)
