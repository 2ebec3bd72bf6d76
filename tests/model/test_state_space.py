"""Models of state-space blocks, alone (Mamba) and between attention (Jamba): the stream is there, attention is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import JambaConfig, JambaForCausalLM, MambaConfig, MambaForCausalLM

import cutaway as cw
from cutaway.core import InputError
from cutaway.tasks import Task

WORDS, WIDTH = 61, 32


@pytest.fixture(scope="module", params=["mamba", "jamba"])
def model(request: Any) -> cw.Model:
    torch.manual_seed(0)
    if request.param == "mamba":
        return cw.load(MambaForCausalLM(MambaConfig(num_hidden_layers=2, hidden_size=WIDTH, vocab_size=WORDS)).eval())
    config = JambaConfig(
        num_hidden_layers=4, hidden_size=WIDTH, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
        num_experts=2, use_mamba_kernels=False, attn_layer_offset=1, attn_layer_period=2, vocab_size=WORDS,
        pad_token_id=0,
    )  # fmt: skip
    return cw.load(JambaForCausalLM(config).eval())


def _ids(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, WORDS, (rows, width), generator=torch.Generator().manual_seed(seed))


def test_what_leaves_a_block_enters_the_next(model: cw.Model) -> None:
    run = model.run(_ids(2, 7), read=["resid_pre.*", "resid_post.*"])
    for layer in range(1, model.facts.n_layers):
        assert torch.equal(run[f"resid_pre.{layer}"], run[f"resid_post.{layer - 1}"])


def test_attentions_points_are_refused_with_the_reason(model: cw.Model) -> None:
    with pytest.raises(InputError, match=r"state-space block|not softmax attention"):
        model.run(_ids(1, 4), read=["attn_probs.0"])
    with pytest.raises(InputError, match="state-space block"):
        model.run(_ids(1, 4), interventions=[cw.zero("z.0", head=1)])


def test_a_prompt_beside_a_longer_one_has_its_own_logits(model: cw.Model) -> None:
    long, short = _ids(1, 8), _ids(1, 4, seed=1)
    both = model.run([long[0].tolist(), short[0].tolist()]).at("logits")
    alone = torch.cat([model.run(long).at("logits"), model.run(short).at("logits")])
    assert torch.allclose(both, alone, atol=1e-5)


def test_a_sweep_is_one_at_a_time(model: cw.Model) -> None:
    clean = _ids(2, 6)
    other = clean.clone()
    other[:, 2] = (other[:, 2] + 1 - 3) % (WORDS - 3) + 3
    task = Task.from_tokens(clean, other, torch.tensor([5, 6]), torch.tensor([7, 8]))
    swept = torch.as_tensor(cw.sweep(model, task, at="resid_post.*", each=("position",)).values)
    run = model.run(task.clean, read=["resid_post.*"])
    for layer in range(model.facts.n_layers):
        for position in range(6):
            point = f"resid_post.{layer}"
            change = cw.patch(point, from_=run[point], positions=position)
            alone = model.run(task.counterfactual, interventions=[change]).logits[:, -1]
            assert torch.allclose(swept[layer, position].float(), task.metric(alone), atol=1e-5)


def test_text_is_generated_without_a_cache_as_hugging_face_does(model: cw.Model) -> None:
    ids = _ids(1, 6)
    made = model.generate(ids, 5, stop=())
    expected = model.hf.generate(ids, max_new_tokens=5, min_new_tokens=5, do_sample=False, pad_token_id=0)
    assert made.logits.argmax(-1)[0].tolist() == expected[0, 6:].tolist()


def test_a_row_that_is_changed_and_padded_generates_what_it_does_alone(model: cw.Model) -> None:
    prompts = [_ids(1, 7)[0].tolist(), _ids(1, 3, seed=2)[0].tolist()]
    change = cw.add("resid_post.0", torch.ones(WIDTH))
    both = model.generate(prompts, 4, interventions=[change], stop=())
    for row, prompt in enumerate(prompts):
        alone = model.generate([prompt], 4, interventions=[change], stop=())
        assert torch.allclose(both.logits[row], alone.logits[0], atol=1e-5)


def test_the_stream_is_read_through_the_unembedding(model: cw.Model) -> None:
    lens = cw.lens(model, _ids(1, 5))
    assert "resid_post.0" in str(lens)
