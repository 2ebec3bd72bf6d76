"""Training out of shards: the model is not run, a killed run ends with the same bytes, what does not fit is named."""

from __future__ import annotations

import pytest
import torch
from features.tiny import tiny_llama

from cutaway.core import InputError
from cutaway.features import DictionarySettings, TrainSettings, train
from cutaway.features.learner import Learner
from cutaway.features.shards import open_shards, write_shards
from cutaway.model import Model

ONE = DictionarySettings(name="one", kind="sae", at="resid_post.1", features=24, l0=3, dead_after=60)
SETTINGS = TrainSettings(dictionaries=(ONE,), tokens=640, batch=32, block=150, bf16=False)


@pytest.fixture
def kept(model, rows, tmp_path):
    return write_shards(
        model, rows, ["resid_post.0", "resid_post.1"], tmp_path / "kept", dtype="float32", rows_a_shard=9
    )


def test_the_model_is_not_run_and_reconstruction_is_learned(model, kept, monkeypatch):
    monkeypatch.setattr(Model, "run", lambda *_, **__: pytest.fail("the model was run"))
    made = train(model, kept, SETTINGS, quiet=True)["one"]
    x = kept.rows("resid_post.1")
    y, _ = made.reconstruct(x)
    assert (x - y).square().sum() < 0.6 * (x - x.mean(0)).square().sum()
    assert made.training["rows"]["shards"] == len(kept)


def test_every_activation_is_handed_out_once_an_epoch(model, kept, monkeypatch):
    seen = []
    monkeypatch.setattr(Learner, "step", lambda self, x, y, lr: seen.append(x[0].clone()))
    monkeypatch.setattr(Learner, "calibrate", lambda self, x: None)
    n = kept.n
    train(model, kept, SETTINGS.model_copy(update={"tokens": n, "batch": 1, "block": n}), quiet=True)
    given, held = torch.cat(seen), kept.rows("resid_post.1")
    assert sorted(map(tuple, given.tolist())) == sorted(map(tuple, held.tolist()))
    assert not torch.equal(given, held)


def test_an_interrupted_run_ends_with_the_same_bytes(model, kept, tmp_path, monkeypatch):
    train(model, kept, SETTINGS, tmp_path / "straight", quiet=True)
    update, calls = Learner.update, []

    def interrupted(self, *arguments):
        calls.append(None)
        if len(calls) > 9:
            raise KeyboardInterrupt
        update(self, *arguments)

    monkeypatch.setattr(Learner, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(model, kept, SETTINGS, tmp_path / "broken", quiet=True, checkpoint_steps=4)
    monkeypatch.undo()
    train(model, kept, SETTINGS, tmp_path / "broken", quiet=True)
    held = [(tmp_path / name / "sae.safetensors").read_bytes() for name in ("straight", "broken")]
    assert held[0] == held[1]


def test_what_does_not_fit_is_refused(model, kept):
    def changed(**more):
        return SETTINGS.model_copy(update={"dictionaries": (ONE.model_copy(update=more),)})

    with pytest.raises(InputError, match=r"holds resid_post\.0, resid_post\.1, not mlp_out\.0"):
        train(model, kept, changed(at="mlp_out.0"), quiet=True)
    with pytest.raises(InputError, match="kind sae"):
        train(model, kept, changed(kind="plt", at=None), quiet=True)
    with pytest.raises(InputError, match="not of this"):
        train(tiny_llama(seed=9), kept, SETTINGS, quiet=True)
    with pytest.raises(InputError, match="first_position"):
        train(model, kept, SETTINGS.model_copy(update={"first_position": False}), quiet=True)
    path = kept.folder / "shard_00000.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"shard_00000\.safetensors is altered or cut short"):
        train(model, open_shards(kept.folder), SETTINGS.model_copy(update={"block": 10**6}), quiet=True)
