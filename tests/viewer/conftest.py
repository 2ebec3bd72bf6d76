"""Sample studies, a running server, and Chromium, shared by the viewer's tests."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
