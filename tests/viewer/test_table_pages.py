"""Pages of exams, toys, classification, arms, learning coefficients and visualisations, in a real Chromium."""

from __future__ import annotations

from typing import Any

import pytest

from tests.viewer.conftest import Open, Running
from tests.viewer.driving import said, until, visit

pytestmark = pytest.mark.browser


def cells(page: Any, row: int, table: int = 0) -> list[str]:
    found = page.locator("table.data").nth(table).locator("tbody tr").nth(row).locator("th, td").all_text_contents()
    return [text.strip() for text in found]


def test_an_exam_says_truth_beside_estimate_and_what_failed_first(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=exam")
    assert "3 of 6 checks passed, 1 reported, not judged" in said(page, ".finding h1")
    assert cells(page, 0) == ["failed", "share", "≥ 0.5000", "0.3100", "", "16", "± 0"]
    assert cells(page, 1) == ["passed", "angle", "= 72.00", "71.90", "[71.5, 72.3]", "16", "± 1.0"]
    assert cells(page, 2)[:3] == ["reported", "an approximation", "–"]
    assert cells(page, 1, table=1) == ["y", "0.250", "0.250"]
    assert page.locator(".bad-number").count() == 2  # the rows that failed inside the table


def test_a_toy_has_its_figure_and_its_checks(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=toy")
    assert "1 of 2 checks passed" in said(page, ".finding")
    until(page, "() => [...document.images].length === 1 && document.images[0].naturalWidth > 0")
    several = visit(opened, made, "open=toys")
    assert several.locator("table.data").count() == 2
    assert "2 experiments: 2 of 4 checks passed" in said(several, ".finding h1")


def test_a_visualisation_has_the_null_row_beside(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=seen/visualisation")
    rows = page.locator(".made-row")
    assert [rows.nth(i).locator("img").count() for i in range(2)] == [2, 2]
    assert "m re-randomised" in rows.nth(1).text_content()
    assert rows.nth(1).locator("figcaption").all_text_contents() == ["reaches 2.00", "reaches 2.50"]
    page.focus("svg.chart")
    page.keyboard.press("End")
    assert "10.0" in said(page, ".readout")


def test_a_visualisation_shows_what_it_began_from_and_what_stayed_silent(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=woken/visualisation")
    rows = page.locator(".made-row")
    assert [rows.nth(i).locator("img").count() for i in range(3)] == [1, 2, 2]
    assert rows.nth(0).locator("figcaption").all_text_contents() == ["red sun 1.50"]
    assert "On 2 of 8 steps a picture left it silent" in said(page, "main")
    assert "Of the null’s, 1 of 2 stayed silent" in said(page, "main")


def test_classification_is_shown_regime_by_regime(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=classify")
    assert "better than all else in 1 of 2 regimes" in said(page, ".finding h1")
    assert page.locator("table.data b").all_text_contents() == ["0.900", "0.700"]
    page.click("button:has-text('scarce') >> nth=-1")
    until(page, "() => location.hash.includes('regime=scarce')")
    assert "TF-IDF" in page.locator("section[aria-label='One regime'] .forest-row .name").first.text_content()
    assert "3 texts a class" in said(page, "section[aria-label='One regime']")


def test_five_arms_stand_beside_each_other_at_each_point(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=arms&point=resid_post.2")
    names = page.locator(".arms .forest-row .name").all_text_contents()
    assert names == ["effecttrained", "nullre-randomised, embeddings kept", "nullcontrol: fresh noise for every token"]
    assert "from the token alone" in said(page, ".arms")


def test_a_coefficient_that_is_refused_says_so(opened: Open, made: Running) -> None:
    page = visit(opened, made, "open=llc")
    assert "Not to be believed: chains disagree" in said(page, "p[role=alert]")
    assert cells(page, 0) == ["failed", "R-hat of the loss", "1.30", "<= 1.1"]
