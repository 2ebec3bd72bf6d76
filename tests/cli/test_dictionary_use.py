"""The verbs that use dictionaries: paired prompts, layers and models, Neuronpedia's features, labels."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from cutaway.cli import run


def said(capsys, *arguments):
    status = run([str(a) for a in ("dictionary", *arguments)])
    found = capsys.readouterr()
    return status, found.out, found.err


def test_excursions_stand_beside_random_directions(capsys, small_sae):
    told = ("excursions", small_sae, "-m", "almanac", "--task", "ioi", "--n", 8)
    status, out, _ = said(capsys, *told, "--json")
    assert status == 0
    found = json.loads(out)
    assert found["differences"]["told"]["resid_post.1"].keys() == {"features", "random_directions"}
    fires = [row["feature"] for row in found["differences"]["rows"] if row["clean"] > 0]
    assert (found["controllability"] or {}).get("feature") == (fires[0] if fires else None)
    status, _, err = said(capsys, *told, "--feature", 48)
    assert (status, "there are 48" in err) == (2, True)


def test_attributions_stand_beside_taking_out(capsys, small_sae):
    told = ("attribute", small_sae, "-m", "almanac", "--task", "ioi", "--n", 8, "--top", 4)
    status, out, _ = said(capsys, *told)
    assert status == 0
    for word in ("attribution", "taken out", "random gradients", "by what they write"):
        assert word in out
    status, _, err = said(capsys, "attribute", small_sae, "-m", "almanac", "--task", "ioj")
    assert (status, "ioi" in err) == (2, True)


def test_a_crosscoder_of_layers_and_of_two_models(capsys, tmp_path):
    from cutaway.features import load
    from cutaway.features.crosscoder import Crosscoder

    common = ("crosscoder", "-m", "almanac", "--tokens", 2000, "--features", 32, "--l0", 4)
    status, out, _ = said(capsys, *common, "--at", "resid_post.0", "--at", "z.1", "--out", tmp_path / "c")
    assert status == 0
    assert "tokens do not go together" in out
    assert Crosscoder.of(load(tmp_path / "c")).names == ("resid_post.0", "z.1")
    status, out, _ = said(capsys, *common, "--at", "resid_post.0", "--with", "almanac", "--json")
    assert status == 0
    assert json.loads(out)["own"] == [0, 0]  # a model beside itself
    status, _, err = said(capsys, *common, "--at", "resid_post.0")
    assert (status, "two points" in err) == (2, True)


def test_descriptions_go_to_neuronpedia_and_a_feature_comes_back_as_its_card(capsys, described, tmp_path):
    status, out, _ = said(capsys, "neuronpedia", described, "--out", tmp_path / "np")
    assert (status, "48 features" in out) == (0, True)
    theirs = json.loads((tmp_path / "np" / "7.json").read_text())
    assert (theirs["modelId"], theirs["layer"], theirs["index"]) == ("almanac", "1-res-cutaway", "7")
    _, back, _ = said(capsys, "neuronpedia", tmp_path / "np" / "7.json", "--json")
    _, ours, _ = said(capsys, "search", described, "--card", 7, "--json")
    assert json.loads(back) == json.loads(ours)
    assert said(capsys, "neuronpedia", described)[0] == 2
    (tmp_path / "x.json").write_text("{}")
    status, _, err = said(capsys, "neuronpedia", tmp_path / "x.json")
    assert (status, "no feature of Neuronpedia" in err) == (2, True)


class Says(BaseHTTPRequestHandler):
    """Calls everything a wave, and always answers 1."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        text = "a wave" if "short phrase" in asked else "1"
        body = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_labels_of_an_endpoint_stand_beside_shuffled_ones(capsys, small_sae, tmp_path):
    server = HTTPServer(("127.0.0.1", 0), Says)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    status, out, err = said(
        capsys, "describe", small_sae, "-m", "almanac", "--out", tmp_path / "d", "--tokens", 1500, "--quick",
        "--labels", url, "--labels-for", 3,
    )  # fmt: skip
    server.shutdown()
    assert status == 0
    assert "48 features" in out
    assert "cutaway dictionary search" in err
    # One label for all says nothing, and is told so: the same as another feature's label.
    assert out.count("not distinguishable from null") >= 2
    kept = json.loads((tmp_path / "d" / "asked.json").read_text())
    assert set(kept["labels"].values()) == {"a wave"}
    feature = next(iter(kept["labels"]))
    assert kept["labels_by_rule"][feature] != "a wave"
    _, card, _ = said(capsys, "search", tmp_path / "d", "--card", feature)
    assert "a wave" in card
    status, _, err = said(
        capsys, "describe", small_sae, "-m", "almanac", "--out", tmp_path / "e", "--labels", "ftp://x"
    )
    assert (status, "http" in err) == (2, True)
