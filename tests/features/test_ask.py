"""An endpoint's labels are scored against shuffled ones; a local fake answers what a test wants."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cutaway.core import CutawayError, InputError
from cutaway.features.ask import Endpoint, ask_labels
from cutaway.features.describe import Described

WORDS = {0: "sea", 1: "farm", 2: "snow", 3: "night"}


def described():
    """Feature f fires on its own word, which stands among others."""
    examples = []
    for f, word in WORDS.items():
        for i in range(8):
            tokens = ["the", f"x{i}", word, "is", "old"]
            examples.append(
                {
                    "feature": f,
                    "band": "Top activations",
                    "tokens": tokens,
                    "activations": [0, 0, 2.0, 0, 0],
                    "place": 2,
                }
            )
    return Described({"feature": list(WORDS)}, examples, {})


def knows(prompt: str) -> str:
    """Reads the marked word for a label, and answers by it; the odd one out is the one with another marked word."""
    lines = re.findall(r"^(\d+)\. (.*)$", prompt, re.M)
    if "odd one" in prompt:
        marked = [re.findall("<<(.*?)>>", text)[0] for _, text in lines]
        return next(str(i) for i, word in enumerate(marked, 1) if marked.count(word) == 1)
    if "description" in prompt:
        label = re.findall("“(.*?)”", prompt)[0]
        mark = f"<<{label}>>" if "marked" in prompt else label
        return " ".join(number for number, text in lines if mark in text) or "none"
    return re.findall("<<(.*?)>>", lines[0][1])[0]


@pytest.fixture
def server():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions" or asked["model"] != "fake":
                self.send_error(404)
                return
            said = knows(asked["messages"][0]["content"])
            body = json.dumps({"choices": [{"message": {"role": "assistant", "content": said}}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    made = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}/v1"
    made.shutdown()
    thread.join()


def test_a_model_that_knows_scores_one_and_shuffled_labels_half(server):
    found = ask_labels(described(), Endpoint(server, "fake"), list(WORDS))
    assert found.labels == WORDS
    assert found.scores["detection"].effect.value == 1
    assert found.scores["fuzzing"].effect.value == 1
    assert found.scores["intruder"].effect.value == 1
    for name in ("detection", "fuzzing"):
        assert found.scores[name].nulls[0].estimate.value <= 0.6
        assert found.scores[name].verdict == "distinguishable from null"
    assert json.loads(json.dumps(found.to_json()))["labels"]["0"] == "sea"


def test_a_model_that_says_nothing_is_at_chance():
    found = ask_labels(described(), lambda prompt: "none", list(WORDS))
    assert found.scores["detection"].effect.value == 0.5
    assert found.scores["detection"].verdict == "not distinguishable from null"
    assert found.scores["intruder"].effect.value == 0


def test_an_endpoint_that_is_none_is_named(server):
    with pytest.raises(CutawayError, match="no chat completion"):
        Endpoint(server, "another")("hello")
    with pytest.raises(CutawayError, match="no chat completion"):
        Endpoint("http://127.0.0.1:9/v1", "fake", seconds=2)("hello")
    with pytest.raises(InputError, match="http"):
        Endpoint("ftp://x", "fake")("hello")
    with pytest.raises(InputError, match="features with examples"):
        ask_labels(described(), lambda prompt: "", [0])
