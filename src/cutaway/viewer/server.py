"""Serving the page on this machine alone, until interrupted. What is answered, and to whom: `application.py`."""

from __future__ import annotations

import socket
import sys
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cutaway.core import InputError
from cutaway.viewer.results import find

LOOPBACK = "127.0.0.1"


def serve(
    study: str | Path,
    port: int = 0,
    open_browser: bool = False,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve the page of a study on 127.0.0.1 until interrupted. Port 0 takes a free one.

    `announce` is told the address once the socket listens; without it the address is printed on stderr.
    Raises `InputError` where there is nothing to show or the port is taken.
    """
    import uvicorn

    from cutaway.viewer.application import application

    find(study)
    listener = _listen(port)
    bound = int(listener.getsockname()[1])
    url = f"http://{LOOPBACK}:{bound}/"
    (announce or _print)(url)
    if open_browser:
        webbrowser.open(url)
    config = uvicorn.Config(
        application(study, bound), log_level="warning", access_log=False, server_header=False, ws="none"
    )
    # uvicorn ends in order on Ctrl-C, then raises it again.
    with listener, suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(64)
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(f"Port {port} cannot be used ({error}). Give another, or 0 for a free one.") from None
    return listener


def _print(url: str) -> None:
    print(f"The viewer is at {url} (stop it with Ctrl-C)", file=sys.stderr)
