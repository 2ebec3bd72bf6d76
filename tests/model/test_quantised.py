"""Weights in 8 and 4 bits by bitsandbytes, which runs on the CPU too: points of the model as it runs, and the laws."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import cutaway as cw
from cutaway.core import InputError

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
COMMON = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0}
SIZES = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **SIZES, **COMMON)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=128, n_layer=2, n_head=4, **COMMON)),
}
IDS = torch.randint(1, 300, (2, 16), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=[(f, k) for f in MODELS for k in ("8bit", "4bit")], ids="-".join)
def pair(request, tmp_path_factory):
    family, kind = request.param
    folder = tmp_path_factory.mktemp(f"{family}{kind}")
    torch.manual_seed(0)
    MODELS[family]().save_pretrained(folder)
    return cw.load(folder), cw.load(folder, quantise=kind), kind


def test_points_are_those_of_the_quantised_model(pair):
    whole, model, _ = pair
    assert model.points() == whole.points()
    run = model.run(IDS, read=model.points())
    with torch.no_grad():
        plain = model.hf(IDS, use_cache=False).logits
    assert torch.equal(model.run(IDS).logits, plain)
    assert (whole.run(IDS).logits - plain).abs().max() > 1e-3 * plain.abs().max()  # it is quantised
    total = run["resid_pre.1"] + run["attn_out.1"] + run["mlp_out.1"]
    torch.testing.assert_close(total, run["resid_post.1"])


def test_a_sweep_equals_one_run_a_cell(pair):
    _, model, _ = pair
    cells = [[cw.zero(f"z.{layer}", head=head)] for layer in range(2) for head in range(4)]
    values = cw.plan(model, IDS, cells, lambda logits: logits[:, 5]).run()
    for cell, found in zip(cells, values):
        expected = model.run(IDS, interventions=cell).at("logits")[:, 5]
        torch.testing.assert_close(found, expected, rtol=0, atol=3e-2 * float(expected.abs().max()))


def test_gradients_through_8_bits_and_none_through_4(pair):
    whole, model, kind = pair

    def gradient(m):
        return m.run(IDS, grad=["resid_pre.0"], of=lambda logits: logits[:, -1, 5]).grad["resid_pre.0"]

    if kind == "4bit":
        with pytest.raises(InputError, match="autograd does not"):
            gradient(model)
        return
    ours, theirs = gradient(model).flatten(), gradient(whole).flatten()
    assert torch.corrcoef(torch.stack([ours, theirs]))[0, 1] > 0.95
