"""Where models run and in what numbers: half precision, 8 bits, several devices, compiled, few threads."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import pytest
import torch
from model.families import EVERY, close, ids, model, module, prompt

import cutaway.model as cw
from cutaway.core import InputError
from cutaway.model import threads
from cutaway.model.placing import quantised


@pytest.mark.parametrize("family", EVERY)
def test_half_precision_keeps_its_points_and_outputs(family: str) -> None:
    m, batch = cw.load(module(family), dtype="bfloat16"), prompt(family)
    everything = m.run(batch, read=m.points())
    assert m.facts.dtype == "bfloat16"
    assert everything["resid_post.1"].dtype == torch.bfloat16
    assert set(m.points()) == set(model(family).points()), str(m.contract)
    assert torch.equal(m.run(batch).logits, m.run(batch, read=["resid_post.*"]).logits)
    if not m.facts.experts:  # a near tie between experts may fall the other way
        assert close(everything.logits.float(), model(family).run(batch).logits, 0.1)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "bloom", "gemma3"])
def test_double_precision_is_that_of_the_model_too(family: str) -> None:
    m = cw.load(module(family), dtype="float64")
    assert m.run(ids()).logits.dtype == torch.float64
    assert close(m.run(ids(), read=m.points()).logits, model(family).run(ids()).logits.double())


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2", "gptj", "bert"])
def test_layers_in_eight_bits_are_read_as_they_run(family: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hf = torch.ao.quantization.quantize_dynamic(module(family), {torch.nn.Linear}, dtype=torch.qint8)
    with torch.no_grad():
        expected = hf(ids(), **({} if family == "bert" else {"use_cache": False})).logits
    m = cw.load(hf)
    assert quantised(hf) is not None
    assert quantised(module(family)) is None
    assert torch.equal(m.run(ids()).logits, expected)
    assert set(m.points()) == set(model(family).points()), str(m.contract)
    run = m.run(ids(), read=["attn_probs.1", "value.1", "z.1"])
    value = run["value.1"].repeat_interleave(m.facts.n_heads // m.facts.n_kv_heads, dim=2)
    assert close(torch.einsum("bhqk,bkhd->bqhd", run["attn_probs.1"], value), run["z.1"])
    zeroed = m.run(ids(), interventions=[cw.zero("mlp_out.2")])
    assert not close(zeroed.logits, expected, 1e-3)
    with pytest.raises(InputError, match="dtype cannot be changed"):
        cw.load(hf, dtype="bfloat16")


def test_what_transformers_needs_to_quantise_is_named_where_it_is_lacking(tmp_path: Path) -> None:
    module("llama").save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"no quantisation '5bit'; .*4bit"):
        cw.load(tmp_path, quantise="5bit")
    with pytest.raises(InputError, match="for checkpoints"):
        cw.load(module("llama"), quantise="8bit")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match="needs bitsandbytes"):
            cw.load(tmp_path, quantise="8bit")


def test_a_checkpoint_placed_by_a_device_map_is_the_same_model(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    module("llama").save_pretrained(tmp_path)
    m = cw.load(tmp_path, device_map={"": "cpu"})
    run = m.run(ids(), read=m.points(), interventions=[cw.zero("z.1", head=2)])
    assert close(run.logits, model("llama").run(ids(), interventions=[cw.zero("z.1", head=2)]).logits)
    with pytest.raises(InputError, match="not in memory"):
        layers = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
        layers |= {f"model.layers.{i}": "disk" if i == 1 else "cpu" for i in range(3)}
        (tmp_path / "offloaded").mkdir()
        from transformers import AutoModelForCausalLM

        hf = AutoModelForCausalLM.from_pretrained(
            tmp_path, device_map=layers, offload_folder=tmp_path / "offloaded", dtype=torch.float32
        )
        cw.load(hf)


def test_a_compiled_module_is_run_uncompiled_or_refused() -> None:
    hf = module("llama")
    with pytest.warns(UserWarning, match="LlamaForCausalLM is compiled; hooks do not reach inside"):
        m = cw.load(torch.compile(hf))
    assert m.hf is hf
    assert close(m.run(ids(), read=["z.1"])["z.1"], model("llama").run(ids(), read=["z.1"])["z.1"])
    for part, name in ((hf.model.layers[1], "model.layers.1"), (hf, "the module")):
        part.compile()
        with pytest.raises(InputError, match=f"{name} is compiled in place"):
            cw.load(hf)
        part._compiled_call_impl = None


# ---- threads


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    monkeypatch.setattr(threads, "_DEFAULT", 4)
    yield
    torch.set_num_threads(before)


def _threads_inside(m: cw.Model, tokens: torch.Tensor) -> int:
    seen: list[int] = []
    handle = m.hf.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    try:
        m.run(tokens)
    finally:
        handle.remove()
    return seen[0]


def test_small_forwards_take_one_thread_and_give_the_others_back(four_threads: object) -> None:
    m = model("llama")
    assert _threads_inside(m, ids()) == 1
    assert torch.get_num_threads() == 4
    with pytest.raises(InputError):
        m.run(ids(), interventions=[cw.add("resid_post.1", torch.ones(5))])
    assert torch.get_num_threads() == 4
    assert _threads_inside(m, ids(64, 60)) == 4  # 3,840 tokens: worth sharing


def test_a_number_of_threads_that_somebody_chose_is_kept(four_threads: object) -> None:
    torch.set_num_threads(3)
    assert _threads_inside(model("llama"), ids()) == 3
    assert torch.get_num_threads() == 3


def test_runs_side_by_side_leave_the_threads_as_they_were(four_threads: object) -> None:
    m = cw.load(module("llama"))
    runs = [threading.Thread(target=lambda: [m.run(ids()) for _ in range(5)]) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert torch.get_num_threads() == 4
