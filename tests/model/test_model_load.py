"""Loading: what can be loaded is Hugging Face's model, and what cannot says what is missing."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from model.families import close, ids, model, module, shared_data
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

import cutaway.model as cw
from cutaway.core import InputError
from cutaway.core.registry import shipped_models


def tokenizer(words: int = 50) -> PreTrainedTokenizerFast:
    vocabulary = {"<unk>": 0, "<s>": 1} | {f"w{i}": i + 2 for i in range(words)}
    words_only = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words_only.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words_only, unk_token="<unk>", bos_token="<s>")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    module("llama").save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_loads_as_hugging_faces_own_model(folder: Path) -> None:
    m = cw.load(folder)
    assert close(m.run(ids()).logits, model("llama").run(ids()).logits, 1e-7)
    assert m.facts.dtype == "float32"
    assert not m.hf.training
    assert not any(p.requires_grad for p in m.hf.parameters())
    assert m.tokens("w0 w3").tolist() == [[2, 5]]
    assert m.tokens(["w0 w3", "w1"]).shape == (2, 2)
    assert m.token_strings([2, 5]) == [" w0", " w3"]
    assert "w3" in str(m.run("w0 w3"))
    assert cw.load(str(folder), dtype="bfloat16").facts.dtype == "bfloat16"
    assert m.fingerprint == model("llama").fingerprint != model("qwen3").fingerprint


def test_the_third_party_story_model_writes_its_published_text() -> None:
    place = shared_data() / "stories260k"
    m = cw.load(place)
    expected = (place / "expected_greedy.txt").read_text()
    tokens = m.hf.generate(torch.tensor([[1]]), max_new_tokens=200, do_sample=False)
    assert m.tokenizer.decode(tokens[0], skip_special_tokens=True) == expected
    assert m.run(tokens[:, :-1]).logits.argmax(-1).tolist() == tokens[:, 1:].tolist()
    assert all(not check.failed for check in m.contract.checks)
    prompt = "Once upon a time, Lily's cat (the red one) slept.\nThe end"
    assert "".join(m.token_strings(m.tokens(prompt))) == f"<s> {prompt}"
    assert m.token_strings(m.tokens("中"))[2:] == ["<0xE4>", "<0xB8>", "<0xAD>"]
    every = m.token_strings(range(m.facts.vocab_size))
    assert not [text for text in every if any(c < " " and c not in "\t\n\r" for c in text)]


def test_half_precision_keeps_its_points() -> None:
    m = cw.load(module("gemma2"), dtype="bfloat16")
    run = m.run(ids(), read=m.points())
    assert run["resid_post.1"].dtype == torch.bfloat16
    assert len(m.points()) == len(model("gemma2").points())


def test_a_bare_module_runs_on_token_ids_and_is_read_by_module_path() -> None:
    net = torch.nn.Sequential(torch.nn.Embedding(10, 4), torch.nn.Linear(4, 10))
    m = cw.load(net)
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    run = m.run(tokens, read=["path.0"], interventions=[cw.zero("path.0", positions=1)])
    assert run.logits.shape == (2, 3, 10)
    assert torch.equal(run.logits[:, 1], net[1].bias.expand(2, -1))
    for ask in (
        lambda: m.run("text"),
        lambda: m.run(tokens, read=["resid_post.0"]),
        lambda: m.run(tokens, read=["path.7"]),
    ):
        with pytest.raises(InputError):
            ask()
    assert "no contract" in str(m.contract)


# ---- what cannot be loaded


def _cannot(source: object, *parts: str, **more: object) -> None:
    with pytest.raises(InputError) as caught:
        cw.load(source, **more)  # type: ignore[arg-type]
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def test_a_folder_that_is_no_model_says_which_files_it_lacks(tmp_path: Path) -> None:
    _cannot(tmp_path, "is no model", "config.json", "model.safetensors", "nothing")
    (tmp_path / "notes.txt").write_text("")
    _cannot(tmp_path, "notes.txt")
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").write_bytes(b"")
    _cannot(tmp_path, "JSON")
    (tmp_path / "config.json").write_text("{}")
    _cannot(tmp_path, "model_type")
    _cannot(tmp_path / "config.json", "is a file", "folder")
    _cannot(tmp_path.parent / (tmp_path.name + "x"), "no folder", tmp_path.name)


def test_damaged_weights_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    _cannot(folder, str(folder))
    weights.write_bytes(data)
    hf = module("llama")
    with torch.no_grad():
        hf.model.layers[1].mlp.up_proj.weight[3, 3] = float("nan")
    _cannot(hf, "NaN", "layers.1.mlp.up_proj.weight")
    hf.save_pretrained(folder)
    _cannot(folder, "NaN", "layers.1.mlp.up_proj.weight")


def test_weights_that_are_absent_are_not_made_up(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    _cannot(folder, "lacks weights", "layers.3")
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 50}))
    _cannot(folder, str(folder))


def test_missing_shards_are_named(folder: Path) -> None:
    module("llama").save_pretrained(folder, max_shard_size="100KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    cw.load(folder)
    shards[1].unlink()
    _cannot(folder, shards[1].name)


def test_pickles_are_read_only_when_told(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(module("llama").state_dict(), folder / "pytorch_model.bin")
    _cannot(folder, "pickle=True")
    assert close(cw.load(folder, pickle=True).run(ids()).logits, model("llama").run(ids()).logits, 1e-7)


def test_tokenizers_that_do_not_fit(folder: Path) -> None:
    _cannot(folder, "152", "101", "another model's", tokenizer=tokenizer(150))
    _cannot(folder, "no tokenizer", tokenizer=str(folder.parent))
    m = cw.load(folder)
    for prompt in ("w1 nonsense", ["w1", "w1 nonsense"]):
        with pytest.raises(InputError, match="does not know 'nonsense'"):
            m.run(prompt)
    assert m.batch("w1 nonsense", allow_unknown=True).ids.tolist() == [[3, 0]]
    with pytest.raises(InputError, match="empty"):
        m.run("")
    with pytest.raises(InputError, match="takes at most 64"):
        m.run("w1 " * 70)
    for file in folder.glob("token*"):
        file.unlink()
    with pytest.raises(InputError, match="no tokenizer"):
        cw.load(folder).run("w1")


def test_a_hub_id_that_cannot_be_had_is_one_clear_message_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutaway.model.hub._reachable", lambda endpoint: False)
    started = time.monotonic()
    _cannot("nobody/no-such-model", "nobody/no-such-model", "can't be reached", "local Hugging Face folder")
    _cannot("gpt17", "gpt17", "can't be reached")
    assert time.monotonic() - started < 5
    _cannot("what is this", "no shipped name")
    _cannot(7, "given int")
    _cannot(module("llama"), "no dtype", dtype="float31")


def test_shipped_models_are_found_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTAWAY_MODELS", str(folder.parent))
    assert shipped_models()[folder.name] == folder
    assert cw.load(folder.name).name == folder.name
    monkeypatch.setattr("cutaway.model.hub._reachable", lambda endpoint: False)
    _cannot(folder.name[:-1], "did you mean", folder.name)
