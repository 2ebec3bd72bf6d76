"""Whatever is wrong with a dictionary's folder, reading it ends in one message that names the folder."""

from __future__ import annotations

import json
import pickle

import pytest
import torch

from cutaway.core import InputError
from cutaway.features import SAE, DictionarySettings, TrainSettings, convert, fit_rows, load

FORMS = ("ours", "saelens", "llamascopium", "dictionary_learning", "gemma_scope", "gemma_scope_2", "sparsify")


def written(folder, form):
    W = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    rule = {"rule": "topk", "k": 3} if form == "sparsify" else {"rule": "jumprelu", "threshold": torch.ones(12)}
    # A tied encoder: one tensor under two names.
    sae = SAE(W_enc=W, b_enc=torch.zeros(12), W_dec=W, b_dec=torch.zeros(8), point="resid_post.0", **rule)
    sae.save(folder) if form == "ours" else convert(sae, form, folder)
    weights = next(p for p in folder.iterdir() if p.suffix in (".safetensors", ".pt", ".npz"))
    return weights, next((p for p in folder.iterdir() if p.suffix == ".json"), None)


def fails_or_reads(folder):
    """True where it was read; else the message names something in the folder."""
    try:
        load(folder)
    except InputError as error:
        said = str(error)
    else:
        return True
    assert str(folder) in said
    return False


@pytest.mark.parametrize("form", FORMS)
def test_weights_that_are_none_are_named(tmp_path, form):
    weights, _ = written(tmp_path, form)
    assert fails_or_reads(tmp_path)
    for content in (b"", b"\x00" * 64, pickle.dumps({"W_enc": [1.0]}), weights.read_bytes()[:-20]):
        weights.write_bytes(content)
        assert not fails_or_reads(tmp_path)


@pytest.mark.parametrize("form", [f for f in FORMS if f != "gemma_scope"])
def test_no_field_of_a_config_can_break_reading(tmp_path, form):
    _, config = written(tmp_path, form)
    good = json.loads(config.read_text())
    for name in good:
        config.write_text(json.dumps({k: v for k, v in good.items() if k != name}))
        fails_or_reads(tmp_path)
        for wrong in (None, "x", -1, [], {}, [3], 10**12):
            config.write_text(json.dumps({**good, name: wrong}))
            fails_or_reads(tmp_path)
    for text in ("", "[1, 2]", "{", '{"a": 1}', '{"d_in": NaN}', json.dumps(good)[:-1] + ', "x": 1, "x": 2}'):
        config.write_text(text)
        if form != "gemma_scope_2" or "a" not in text:  # whose config is optional
            assert not fails_or_reads(tmp_path), text
    config.write_bytes(b"\xff\xfe")
    assert not fails_or_reads(tmp_path)


def test_activations_that_teach_nothing_are_refused():
    one = DictionarySettings(name="x", kind="sae", at="resid_post.0", features=40, l0=4)
    run = TrainSettings(dictionaries=(one,), tokens=512, batch=64)
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    broken = x.clone()
    broken[7, 3] = float("nan")
    for rows, told in [
        (broken, "NaN or infinite"), (torch.full((300, 8), 3.0), "same for every token"),
        (x[:39], "39 different tokens are fewer than the 40 features"), (x[:0], "at least two"), (x[0], "rows"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=told):
            fit_rows(rows, run)
