"""What the server answers, and to whom: the page, the results' data, and the saving of labels.

What keeps other sites out: the socket listens on the loopback address; a request whose Host is not this server's is
refused (a foreign name that resolves to 127.0.0.1); so is one with a foreign Origin; writing needs this server's own
Origin and a JSON body. What a request names is looked up among fixed names and the results that lie in the study; it
never becomes a path.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError

from cutaway.core import CutawayError, InputError
from cutaway.study import Item, contents
from cutaway.viewer import bundle
from cutaway.viewer.labels import LabelChange, write_label
from cutaway.viewer.page import inline_json
from cutaway.viewer.results import entry, read

LARGEST_BODY = 16 * 1024
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def application(study: str | Path, port: int) -> FastAPI:
    """The application for a study, answering only to requests for 127.0.0.1 or localhost at `port`.

    The study is looked through at every request, so that what a command adds is there when the page is loaded again.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    _guard(app, port)

    for path, name in (("/", "index.html"), ("/viewer.js", "viewer.js"), ("/viewer.css", "viewer.css")):
        app.add_api_route(path, _file(name), methods=["GET"])

    def named(name: str) -> Item | None:
        return next((item for item in contents(study) if item.name == name), None)

    @app.get("/api/entries")
    def entries() -> Response:
        try:
            return _json([entry(item) for item in contents(study)])
        except InputError as error:
            return _problem(422, str(error))

    @app.get("/api/item")
    def one(name: str = "") -> Response:
        try:
            item = named(name)
            return _problem(404, "There is no such result here.") if item is None else _json(read(item))
        except InputError as error:
            return _problem(422, str(error))

    @app.post("/api/labels")
    async def set_label(request: Request) -> Response:
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            return _problem(415, "A label is sent as application/json.")
        body = await _body(request)
        if body is None:
            return _problem(413, f"A label's request may have {LARGEST_BODY} bytes.")
        try:
            change = LabelChange.model_validate_json(body)
        except ValidationError:
            return _problem(422, "A label is one line of at most 200 characters for a node of this graph.")
        try:
            trace = named(change.trace)
            if trace is None or trace.kind != "trace":
                return _problem(404, "There is no such trace here.")
            return _json({"labels": write_label(trace.path, change)})
        except (CutawayError, OSError) as error:
            return _problem(500, f"The label was not saved: {error}")

    return app


def _guard(app: FastAPI, port: int) -> None:
    """Refuse what does not come from this server's own page, and give every answer its headers."""
    names = ("127.0.0.1", "localhost")
    hosts = {f"{name}:{port}" for name in names} | (set(names) if port == 80 else set())
    origins = {f"http://{host}" for host in hosts}

    @app.middleware("http")
    async def guard(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        origin = request.headers.get("origin")
        if request.headers.get("host", "").lower() not in hosts:
            answer = _problem(403, "This server answers only to its own address.")
        elif origin is not None and origin.lower() not in origins:
            answer = _problem(403, "Requests from other sites are refused.")
        elif request.method not in ("GET", "HEAD") and origin is None:
            answer = _problem(403, "Changes are accepted only from this server's own page.")
        else:
            answer = await proceed(request)
        answer.headers.update(HEADERS)
        return answer


def _file(name: str) -> Callable[[], Response]:
    def built() -> Response:
        return Response(bundle.read(name), media_type=bundle.FILES[name])

    return built


async def _body(request: Request) -> bytes | None:
    """The body, or None once it is past the limit: no more of it is read."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            return None
    return body


def _json(value: object, status: int = 200) -> Response:
    return Response(inline_json(value), status, media_type="application/json")


def _problem(status: int, detail: str) -> Response:
    return Response(json.dumps({"detail": detail}), status, media_type="application/json")
