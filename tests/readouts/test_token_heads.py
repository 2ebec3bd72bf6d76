"""Copy suppression, copying and succession of heads, on weights whose answer is known."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

import cutaway as cw
from cutaway.core import InputError
from cutaway.readouts import token_heads
from cutaway.readouts.low_rank import head_circuit
from cutaway.readouts.token_heads import _measure

V, D, H = 60, 32, 2


def _llama(kv=1):
    config = LlamaConfig(vocab_size=V, hidden_size=D, num_hidden_layers=2, num_attention_heads=H,
                         num_key_value_heads=kv, intermediate_size=40, bos_token_id=1, eos_token_id=2)  # fmt: skip
    return LlamaForCausalLM(config)


def _made(family):
    torch.manual_seed(0)
    if family == "llama":
        return _llama()
    if family == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=D, n_head=H, vocab_size=V, n_positions=16))
    config = GPTNeoXConfig(
        num_hidden_layers=2, hidden_size=D, num_attention_heads=H, intermediate_size=40, vocab_size=V
    )
    return GPTNeoXForCausalLM(config)


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_the_first_block_reads_the_embedding(family):
    """There the ranks are those of the head's OV circuit over the vocabulary."""
    model = cw.load(_made(family))
    drawn = torch.arange(V)
    hits, _, chance, places = _measure(model, drawn, [])
    assert places[:H] == ((0, 0), (0, 1))
    for head in range(H):
        circuit = head_circuit(model, "OV", 0, head)
        out = (circuit.left @ circuit.right.T).T  # [attended to, logit]
        own = out.diagonal()[:, None]
        np.testing.assert_array_equal(hits["copying"][head], ((out >= own).sum(1) == 1).numpy())
        np.testing.assert_array_equal(hits["copy suppression"][head], ((out <= own).sum(1) == 1).numpy())
    assert chance["copying"] == 1 / V


def test_a_head_made_to_suppress_or_to_copy_is_found():
    hf = _llama(kv=2)
    with torch.no_grad():
        directions = torch.nn.functional.normalize(torch.randn(V, D // H, generator=torch.Generator().manual_seed(1)))
        for table in (hf.model.embed_tokens.weight, hf.lm_head.weight):
            table.zero_()
            table[:, : D // H] = directions
        for layer, sign in ((0, -1.0), (1, 1.0)):
            attention = hf.model.layers[layer].self_attn
            attention.v_proj.weight.zero_()
            attention.o_proj.weight.zero_()
            hf.model.layers[layer].mlp.down_proj.weight.zero_()
            attention.v_proj.weight[: D // H, : D // H] = torch.eye(D // H)
            attention.o_proj.weight[: D // H, : D // H] = sign * torch.eye(D // H) * 0.1
    result = token_heads(cw.load(hf), tokens=V, null_seeds=(0, 1))
    share = {kind: dict(zip(result.places, result.share(kind))) for kind in result.hits}
    assert share["copy suppression"][0, 0] == 1
    assert share["copying"][1, 0] == 1
    assert share["copying"][0, 0] == 0
    assert result.found("copy suppression")[0] == (0, 0)
    assert result.found("copying")[0] == (1, 0)
    assert "above every head" in str(result)
    assert [item.what for item in result.not_done] == ["succession"]  # no tokenizer, no words


def test_succession_is_that_of_the_lists_given(almanac):
    result = token_heads(almanac, tokens=60, null_seeds=(0,))
    assert ("1", "2") in {(a.strip(), b.strip()) for a, b in result.ordinals}
    body = result.to_json()
    assert body["schema"] == "cutaway.token_heads/1"
    assert set(body["n"]) == {"copy suppression", "copying", "succession"}
    few = token_heads(almanac, tokens=60, null_seeds=(), successions=[["Monday", "Tuesday"]])
    assert "succession" not in few.hits
    with pytest.raises(InputError, match="no score"):
        few.share("succession")
    with pytest.raises(InputError, match="at least 40"):
        token_heads(almanac, tokens=3)
