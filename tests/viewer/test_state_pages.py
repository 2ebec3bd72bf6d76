"""Pages of the state of a world: the board that is, the board that is read, what an edit did, in a real Chromium."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from cutaway.core import write_json
from cutaway.viewer import page as page_of
from tests.viewer.conftest import Open, Running
from tests.viewer.driving import HOSTILE, said, until, visit
from tests.viewer.hand_made_state import STATE

pytestmark = pytest.mark.browser


def told(page: Any) -> str:
    return said(page, ".board-pair + .disc-legend + .cell-detail")


def test_the_board_that_is_stands_beside_the_board_that_is_read(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=state&at=2")
    true, read = (page.locator(".board-pair svg").nth(i) for i in range(2))
    assert [board.locator(".d0").count() for board in (true, read)] == [2, 2]
    assert [board.locator(".d1").count() for board in (true, read)] == [2, 3]
    assert [board.locator(".wrong").count() for board in (true, read)] == [0, 2]  # the one not asked for is not wrong
    assert [board.locator("rect.last").count() for board in (true, read)] == [1, 1]
    assert true.locator(".edge-name").all_text_contents() == ["a", "b", "c", "1", "2"]
    assert "3 of 4 that are not empty read rightly; 3 of all 5" in told(page)
    assert "b1 is mine, read as theirs; a2 is empty, read as mine" in told(page)


def test_a_slider_and_the_tokens_walk_along_the_sequence(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=state&at=2")
    page.focus("input[aria-label='After token']")
    page.keyboard.press("Home")
    until(page, "() => document.querySelector('.token-strip [aria-pressed=true]').textContent === 'start'")
    assert "2 of 2 that are not empty" in told(page)
    assert page.locator("rect.last").count() == 0
    page.click(".token-strip button:has-text('b2')")
    assert "at=1" in page.evaluate("location.hash")
    assert page.get_attribute("input[aria-label='After token']", "aria-valuetext") == "after b2, 2 of 3"
    page.click("button:has-text('resid_post.0')")
    assert "0 of 3 that are not empty" in told(page)
    page.click("[aria-label='Sequence'] button:has-text('2')")  # shorter, and read from one point alone
    assert "‘start’, 1 of 1" in told(page)


def test_each_square_of_each_layer_has_its_nulls_beside(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=state")
    block = page.locator("section[aria-label='Square by square']")
    assert block.locator("h3").all_text_contents() == [
        "The model", "Null: the model re-randomised", "Baselines: without the model",
    ]  # fmt: skip
    boards = block.locator("svg.shares")
    assert boards.count() == 5
    squares = boards.nth(1).locator(".square text").all_text_contents()
    assert squares == [".60", ".70", ".80", ".90", "1", "–"]
    page.click("button:has-text('one map')")
    until(page, "() => document.querySelectorAll('svg.shares').length === 0")
    page.focus("[aria-label='Square by square'] .heatmap")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert "b1 read from re-randomised resid_post.0, rightly 0.310, n = 9" in said(
        page, "[aria-label='Square by square']"
    )


def test_an_edit_is_shown_among_its_rivals_and_the_choice_is_marked(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=state")
    block = "section[aria-label='Is it used?']"
    for words in (
        "errors after an edit",
        "the model’s own errors",
        "0.25",
        "5 chosen by, 7 reported on",
        "fewer is better",
    ):
        assert words in said(page, block)
    page.focus(f"{block} .heatmap")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert "from resid_post.0 on, strength 0.5, mean errors 0.500, chosen" in said(page, block)


def test_a_world_without_a_board_is_a_row(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=state-row&at=2")
    page.set_viewport_size({"width": 420, "height": 800})
    assert page.locator(".board-rows svg").count() == 2
    assert page.locator("section[aria-label='Variable by variable'] .heatmap").count() == 1
    assert page.locator(".choose:has-text('Shown as')").count() == 0
    assert page.evaluate("document.querySelector('main').scrollWidth - document.querySelector('main').clientWidth") <= 1


def test_an_older_result_is_shown_as_far_as_it_goes(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=state-older")
    assert page.locator(".trouble").count() == 0
    assert page.locator(".board-pair, .board-rows").count() == 0
    assert "describes no edits" in said(page, "main")
    assert page.locator("section[aria-label='Variable by variable'] .heatmap").count() == 1


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (("examples", 0, "state", 1), [1, 2], "examples[0] (state)[1] should have 6 values"),
        (("examples", 0, "read", "resid_post.0"), [[0] * 6], "a state after each of its 3 tokens"),
        (("sweep", 1, "by_variable"), [0.5], "sweep[1].by_variable should have 6 values"),
        (("variables",), [], "variables should hold at least one"),
        (("values", 1), HOSTILE, ""),
    ],
)
def test_lists_that_do_not_fit_are_named(opened: Open, tmp_path: Path, where: Any, value: Any, words: str) -> None:
    body = deepcopy(STATE)
    place: Any = body["probe"]
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    write_json(tmp_path / "one.json", body)
    (tmp_path / "one.html").write_text(page_of(tmp_path / "one.json"))
    page = opened((tmp_path / "one.html").as_uri())
    page.wait_for_selector(".block")
    assert page.locator("img").count() == 0
    if words:
        assert words in said(page, ".trouble")
    else:
        assert page.locator(".trouble").count() == 0
