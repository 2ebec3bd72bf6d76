"""The server: on loopback, to its own page alone, a fixed list of files, labels checked and written whole."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from cutaway.core import InputError
from cutaway.viewer import serve
from cutaway.viewer.application import LARGEST_BODY
from tests.viewer.conftest import Running


def ask(
    served: Running, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """A request with exactly these headers; underscores stand for hyphens."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    given = {"host": f"127.0.0.1:{served.port}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body is not None:
        given.setdefault("content-length", str(len(body)))
    for name, value in given.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    result = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return result


def label(served: Running, change: Any, **headers: str) -> tuple[int, Any]:
    body = change if isinstance(change, bytes) else json.dumps(change).encode()
    given = {"origin": served.url.rstrip("/"), "content_type": "application/json", **headers}
    status, _, answer = ask(served, "POST", "/api/labels", body, **given)
    return status, json.loads(answer)


def change(text: str = "a name", key: str = "1_22", trace: str = "trace") -> dict[str, str]:
    return {"trace": trace, "key": key, "label": text}


def test_serves_the_page_and_the_study(served: Running, study: Path) -> None:
    for path, kind in (("/", "text/html"), ("/viewer.js", "text/javascript"), ("/viewer.css", "text/css")):
        status, headers, body = ask(served, "GET", path)
        assert status == 200
        assert headers["content-type"].startswith(kind)
        assert len(body) > 100
    status, _, body = ask(served, "GET", "/api/item?name=trace")
    assert status == 200
    assert json.loads(body)["trace"]["graph"] == json.loads((study / "graph.json").read_text())
    (entry,) = json.loads(ask(served, "GET", "/api/entries")[2])
    assert entry["name"] == "trace"
    assert entry["prompt"]


def test_every_answer_carries_a_policy_that_forbids_other_sources(served: Running) -> None:
    for path in ("/", "/viewer.js", "/api/entries", "/nowhere"):
        _, headers, _ = ask(served, "GET", path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""]
)
def test_a_foreign_host_is_refused(served: Running, host: str) -> None:
    """A name of somebody else's that resolves to 127.0.0.1 (DNS rebinding)."""
    for method, path in (("GET", "/"), ("GET", "/api/item?name=trace"), ("POST", "/api/labels")):
        status, _, body = ask(
            served, method, path, b"{}" if method == "POST" else None, host=host.format(port=served.port)
        )
        assert status == 403 or (host == "" and status == 400)
        assert b"graph" not in body


def test_localhost_is_this_server_too(served: Running) -> None:
    assert ask(served, "GET", "/", host=f"localhost:{served.port}")[0] == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1", "https://127.0.0.1:{port}"]
)
def test_a_foreign_origin_is_refused(served: Running, study: Path, origin: str) -> None:
    origin = origin.format(port=served.port)
    assert ask(served, "GET", "/api/item?name=trace", origin=origin)[0] == 403
    assert label(served, change(), origin=origin)[0] == 403
    assert not (study / "labels.json").exists()


def test_writing_needs_an_origin(served: Running, study: Path) -> None:
    status, _, _ = ask(served, "POST", "/api/labels", json.dumps(change()).encode(), content_type="application/json")
    assert status == 403
    assert not (study / "labels.json").exists()


@pytest.mark.parametrize(
    "path",
    [
        "/manifest.json", "/graph.safetensors", "/../pyproject.toml", "/..%2f..%2fetc%2fpasswd", "/static/viewer.js",
        "/viewer.js/..", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/source.sha256", "/docs", "/openapi.json",
        "/redoc", "/api/item", "/api/item?name=", "/api/item?name=../study", "/api/item?name=%2Fetc",
    ],
)  # fmt: skip
def test_nothing_but_the_list_is_served(served: Running, path: str) -> None:
    assert ask(served, "GET", path)[0] == 404


def test_other_methods_are_refused(served: Running) -> None:
    origin = served.url.rstrip("/")
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "POST"):
        assert ask(served, method, "/", b"", origin=origin)[0] in (404, 405)


def test_a_label_is_kept_changed_and_taken_away(served: Running, study: Path) -> None:
    def kept() -> Any:
        return json.loads((study / "labels.json").read_text())

    assert label(served, change("Texas ✦ </script>")) == (200, {"labels": {"1_22": "Texas ✦ </script>"}})
    assert label(served, change("an error", key="0_-1_4"))[0] == 200
    assert label(served, change("a bias", key="B_1_mlp_*"))[0] == 200
    assert kept() == {"1_22": "Texas ✦ </script>", "0_-1_4": "an error", "B_1_mlp_*": "a bias"}
    assert label(served, change("  "))[0] == 200
    assert "1_22" not in kept()
    shown = json.loads(ask(served, "GET", "/api/item?name=trace")[2])
    assert shown["trace"]["labels"] == kept()
    assert sorted(path.name for path in study.iterdir()) == [
        "evidence.json", "features.json", "graph.json", "labels.json", "manifest.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "bad",
    [
        {}, [], "text", 7, None, change(key="../../x"), change(key=""), change(key="a" * 121), change("x" * 201),
        change("two\nlines"), change("nul\x00"), change("line\u2028separator"), {**change(), "more": 1},
        {**change(), "label": 5}, {"trace": "trace", "key": "1_22"}, b"{half", b"\xff\xfe", b"[" * 10_000,
    ],
)  # fmt: skip
def test_what_is_no_label_is_refused(served: Running, study: Path, bad: Any) -> None:
    status, answer = label(served, bad)
    assert status == 422
    assert "label" in answer["detail"]
    assert not (study / "labels.json").exists()


def test_a_label_for_another_trace_is_refused(served: Running) -> None:
    assert label(served, change(trace="../study"))[0] == 404


def test_only_json_is_read(served: Running) -> None:
    """What a form on another site can send without asking first."""
    assert label(served, change(), content_type="text/plain")[0] == 415


def test_a_large_body_is_refused_unread(served: Running, study: Path) -> None:
    assert label(served, b" " * (LARGEST_BODY + 1))[0] == 413
    assert label(served, b'{"trace": "' + b"a" * 5_000_000)[0] == 413
    assert not (study / "labels.json").exists()


def test_labels_written_at_once_are_all_kept(served: Running, study: Path) -> None:
    threads = [threading.Thread(target=label, args=(served, change(f"name {i}", key=f"1_{i}"))) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads((study / "labels.json").read_text())) == 12


def test_a_label_that_cannot_be_saved_says_so_and_loses_none(served: Running, study: Path) -> None:
    assert label(served, change())[0] == 200
    (study / "labels.json").write_text("{half")
    status, answer = label(served, change("other"))
    assert status == 500
    assert "labels.json" in answer["detail"]
    assert (study / "labels.json").read_text() == "{half"


def test_a_file_damaged_while_served_is_named(served: Running, study: Path) -> None:
    (study / "graph.json").write_text("{")
    status, _, body = ask(served, "GET", "/api/item?name=trace")
    assert status == 422
    assert b"graph.json" in body


def test_traces_of_a_folder_are_told_apart(sample: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(sample, tmp_path / name)
    running = Running(tmp_path)
    try:
        assert [one["name"] for one in json.loads(ask(running, "GET", "/api/entries")[2])] == ["first", "second"]
        assert label(running, change(trace="second"))[0] == 200
        assert (tmp_path / "second" / "labels.json").exists()
        assert not (tmp_path / "first" / "labels.json").exists()
    finally:
        running.stop()


def test_serve_announces_its_address_answers_and_stops(study: Path) -> None:
    code = "import sys; from cutaway.viewer import serve; serve(sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", code, str(study)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", said)
        assert found, said
        # Nothing is asked of a proxy: the address is this machine's.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(found[0], timeout=20) as answer:
            assert b"viewer.js" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""


def test_serve_refuses_before_it_listens(tmp_path: Path, sample: Path) -> None:
    with pytest.raises(InputError, match="holds nothing to show"):
        serve(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="Port"):
            serve(sample, port=taken.getsockname()[1])
    with pytest.raises(InputError, match="Port"):
        serve(sample, port=99_999)


def test_importing_the_viewer_does_not_import_the_server() -> None:
    code = "import sys, cutaway.viewer; print([m for m in ('fastapi', 'uvicorn', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
