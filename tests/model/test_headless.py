"""Bodies without an unembedding, and causal models under another head: the points of the family, the head refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from model.families import close, ids

import cutaway.model as cw
from cutaway.core import InputError
from cutaway.model.families import CAUSAL

BODIES = {
    "gpt2": "GPT2Model",
    "llama": "LlamaModel",
    "gpt_neox": "GPTNeoXModel",
    "opt": "OPTModel",
    "bloom": "BloomModel",
}
JUDGES = {
    "llama": "LlamaForSequenceClassification",
    "gpt2": "GPT2ForSequenceClassification",
    "mixtral": "MixtralForSequenceClassification",
    "qwen3": "Qwen3ForTokenClassification",
}


def made(family: str, name: str) -> Any:
    torch.manual_seed(0)
    row = CAUSAL[family]
    config = getattr(transformers, row.config)(**row.settings, num_labels=2)
    config.pad_token_id = 0
    return getattr(transformers, name)(config).eval()


@pytest.mark.parametrize(("family", "name"), [*BODIES.items(), *JUDGES.items()])
def test_its_points_are_the_familys_and_its_output_its_own(family: str, name: str) -> None:
    hf, tokens = made(family, name), ids(2, 7)
    m = cw.load(hf)
    assert not hasattr(hf, "lm_head")
    whole = cw.load(transformers.AutoModelForCausalLM.from_config(hf.config).eval())
    assert set(m.points()) == set(whole.points()) - {"lm_head"}
    with torch.no_grad():
        output = hf(tokens)
    run = m.run(tokens, read=m.points())
    assert close(run.logits, output.logits if "logits" in output else output[0])
    last = f"resid_post.{m.facts.n_layers - 1}"
    other = m.run(ids(2, 7, seed=3), read=[last])
    patched = m.run(tokens, interventions=[cw.patch(last, other)])
    assert close(patched.logits, other.logits)
    with pytest.raises(InputError, match="generates no text"):
        m.generate(tokens, 2)
    assert "no head" in str(m.refuses("lm_head"))


@pytest.mark.parametrize(("family", "name"), JUDGES.items())
def test_a_text_in_a_padded_batch_is_judged_as_it_is_alone(family: str, name: str) -> None:
    m = cw.load(made(family, name))
    rows = [ids(1, 8)[0].tolist(), ids(1, 5, seed=1)[0].tolist()]
    together = m.run(rows).logits
    for number, row in enumerate(rows):
        alone = m.run(row).logits[0]
        assert close(together[number][: len(row)] if together.ndim == 3 else together[number], alone)


def test_a_sweep_takes_a_judges_own_logits() -> None:
    m, tokens = cw.load(made("llama", JUDGES["llama"])), ids(2, 6)
    cells = [[cw.zero("mlp_out.1", positions=position)] for position in range(6)]
    values = cw.plan(m, tokens, cells, lambda logits: logits[:, 1]).run()
    for cell, value in zip(cells, values):
        assert close(value, m.run(tokens, interventions=cell).logits[:, 1])


@pytest.mark.parametrize(("family", "name"), [("llama", BODIES["llama"]), ("gpt2", JUDGES["gpt2"])])
def test_a_checkpoint_is_loaded_as_the_class_it_names(family: str, name: str, tmp_path: Path) -> None:
    hf = made(family, name)
    hf.save_pretrained(tmp_path)
    m = cw.load(tmp_path)
    assert type(m.hf).__name__ == name
    assert torch.equal(m.run(ids(2, 7)).logits, cw.load(hf).run(ids(2, 7)).logits)


def test_a_body_that_looks_ahead_is_not_taken_for_a_causal_one() -> None:
    hf = made("llama", "LlamaModel")
    hf.config.is_causal = False
    for block in hf.layers:
        block.self_attn.is_causal = False
    m = cw.load(hf)
    assert m.points() == ()
    assert "later tokens" in m.contract.why
