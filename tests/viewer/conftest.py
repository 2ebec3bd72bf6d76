"""Sample studies, a running server, and Chromium, shared by the viewer's tests."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cutaway.core import write_text
from cutaway.viewer import page as page_of
from tests.viewer.hand_made import write_hand_made
from tests.viewer.real_study import write_study
from tests.viewer.sample_study import Sizes, write_sample

CHROMIUM = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that no test writes to."""
    return write_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture
def study(sample: Path, tmp_path: Path) -> Path:
    """A study of the test's own."""
    return Path(shutil.copytree(sample, tmp_path / "study"))


@pytest.fixture(scope="session")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As large as a trace is written: about 1,500 nodes and 30,000 links."""
    sizes = Sizes(tokens=48, layers=12, features=1000, links=32_000)
    return write_sample(tmp_path_factory.mktemp("crowded"), sizes)


PATIENCE = 30_000  # milliseconds; the machine may be busy
Open = Callable[..., Any]


class Running:
    """The viewer's application on a port of this machine, in a thread."""

    def __init__(self, folder: Path) -> None:
        import uvicorn

        from cutaway.viewer.application import application

        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/"
        config = uvicorn.Config(application(folder, self.port), log_level="error", access_log=False)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True)
        self.thread.start()
        deadline = time.monotonic() + 20
        while not self.server.started and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=10)
        self.listener.close()


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small result of each room that has a page, of the shipped model; no test writes to it."""
    return write_study(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The results made by hand, served."""
    running = Running(write_hand_made(tmp_path_factory.mktemp("made")))
    yield running
    running.stop()


@pytest.fixture
def served(study: Path) -> Iterator[Running]:
    running = Running(study)
    yield running
    running.stop()


def absent(reason: str) -> None:
    """Skip with a reason; under CI nothing of the viewer is skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI skips no viewer test")
    pytest.skip(reason)


def chromium() -> str | None:
    places = [os.environ.get("CHROMIUM", ""), *(shutil.which(n) or "" for n in ("chromium", "chromium-browser"))]
    places += [shutil.which("google-chrome") or "", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"]
    return next((place for place in places if place and Path(place).exists()), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("playwright is not installed (pip install '.[test]')")
    path = chromium()
    if path is None:
        absent("no Chromium found (apt-get install chromium, or set CHROMIUM to its path)")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM))
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Open an address in a context of its own; the test fails on any console error or any request that leaves."""
    contexts: list[Any] = []
    troubles: list[str] = []

    def open_page(url: str, *, allowed: str = "", expect_errors: bool = False, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)

        def route(request: Any) -> None:
            address = request.request.url
            if address.startswith(("file:", "blob:", "data:")) or (allowed and address.startswith(allowed)):
                request.continue_()
            else:
                troubles.append(f"asked for {address}")
                request.abort()

        context.route("**/*", route)
        if not expect_errors:
            page.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def as_file(study: Path) -> str:
    """The address of a study as one file, written beside it."""
    write_text(study.parent / f"{study.name}.html", page_of(study))
    return (study.parent / f"{study.name}.html").as_uri()


@pytest.fixture(scope="session")
def single(sample: Path) -> str:
    return as_file(sample)


def both_ways(served: str, single: str) -> Any:
    """A fixture of these two: (address, what it may ask for) of the same page, from the server and as a file."""

    @pytest.fixture(params=["served", "file"])
    def place(request: pytest.FixtureRequest) -> tuple[str, str]:
        if request.param == "file":
            return request.getfixturevalue(single), ""
        running = request.getfixturevalue(served)
        return running.url, running.url

    return place


place = both_ways("served", "single")
