"""Arms, judging, describing, shards: the same on GPT-2, a Llama with grouped queries and NeoX's parallel blocks."""

from __future__ import annotations

import math

import pytest
import torch
import transformers as hf
from features.tiny import tiny_gpt2

import cutaway as cw
from cutaway.features import DictionarySettings, TrainSettings, arm_study, describe, evaluate_sae, train
from cutaway.features.shards import write_shards


def grouped():
    torch.manual_seed(2)
    config = hf.LlamaConfig(
        vocab_size=37, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=True,
    )  # fmt: skip
    return stirred(hf.LlamaForCausalLM(config))


def neox():
    torch.manual_seed(3)
    config = hf.GPTNeoXConfig(
        vocab_size=37, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, use_parallel_residual=True,
    )  # fmt: skip
    return stirred(hf.GPTNeoXForCausalLM(config))


def stirred(module):
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim == 2:
                p.mul_(8)
    return cw.load(module)


@pytest.mark.parametrize("make", [tiny_gpt2, grouped, neox])
@pytest.mark.parametrize("point", ["resid_post.1", "z.0", "mlp_act.1"])
def test_every_family_is_judged_described_and_kept(make, point, rows, tmp_path):
    model = make()
    one = DictionarySettings(name="x", kind="sae", at=point, features=32, l0=4, dead_after=500)
    run = TrainSettings(dictionaries=(one,), tokens=64 * 30, batch=64, block=600)
    sae = train(model, rows, run, quiet=True)["x"]
    report = evaluate_sae(model, sae, rows[:20], fit_rows=rows[20:], control_tokens=300, control_seeds=(0,))
    assert math.isfinite(report.rows[0].explained_variance.value)
    assert report.rows[0].kl is not None
    assert report.rows[0].kl.value >= 0
    found = describe(model, sae, rows[:20])
    assert len(found) == 32
    alive = [f for f in range(32) if found.features["fired"][f]]
    assert all(found.features["effect"][f] is not None for f in alive)
    # Only what is written to the residual stream has a direct effect on the logits.
    assert (found.features["top_logits"][0] != []) == (point == "resid_post.1")
    kept = write_shards(model, rows, [point], tmp_path, dtype="float32")
    assert kept.n == rows.numel()


@pytest.mark.parametrize("make", [tiny_gpt2, grouped, neox])
def test_every_family_has_its_arms(make, rows):
    one = DictionarySettings(name="x", kind="sae", at="resid_post.0", features=24, l0=3, dead_after=500)
    study = arm_study(
        make(), rows[:40], rows[40:], TrainSettings(dictionaries=(one,), tokens=640, batch=64), seeds=(0,)
    )
    assert len(study.rows) == 5
    assert all(math.isfinite(row.excess.value) for row in study.rows)
