"""Labels that a person gives: kept in the study, in the browser, or said not to be saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.viewer.conftest import Open, Running
from tests.viewer.driving import ready, select_strongest

pytestmark = pytest.mark.browser


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
