"""What users of other tools complain of, a test a row: nothing misses in silence, nothing is another tensor."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from model.families import close, ids, images, model, module
from torch import nn

import cutaway.model as cw
from cutaway.core import InputError, UnknownName

# ---- 1. interventions that silently do nothing


@pytest.mark.parametrize(
    ("written", "nearest"),
    [
        ("resid_psot.1", "resid_post.1"),
        ("mlp.hook_post.1", "mlp_out_post.1"),
        ("z1", "z.1"),
        ("atn_probs.*", "attn_probs.0"),
        ("blocks.1.hook_resid_pots", "blocks.1.hook_resid_post"),
        ("blocks.1.attn.hook_zz", "blocks.1.attn.hook_z"),
        ("mlps_outputs[1]", "mlps_output[1]"),
        ("path.model.layers.1.mpl", "path.model.layers.1.mlp"),
    ],
)
def test_a_misspelt_point_is_an_error_with_the_nearest_names(written: str, nearest: str) -> None:
    m = model("llama")
    for ask in (
        lambda: m.run(ids(), read=[written]),
        lambda: m.run(ids(), interventions=[cw.zero(written)]),
        lambda: m.run(ids(), grad=[written], of=lambda logits: logits.sum()),
    ):
        with pytest.raises(UnknownName) as caught:
            ask()
        assert nearest in str(caught.value)


def test_a_point_that_is_never_reached_is_an_error() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x) if x.shape[0] < 9 else self.unused(x)

    m, x = cw.load(Branching()), torch.randn(2, 3)
    with pytest.raises(InputError, match=r"never reached in this forward: path\.unused"):
        m.run(x, read=["path.unused"])
    with pytest.raises(InputError, match=r"did not fire: zero at path\.unused; the forward never came there"):
        m.run(x, interventions=[cw.zero("path.unused")])


def test_a_layer_that_the_forward_stops_before_is_an_error() -> None:
    with pytest.raises(InputError, match="stopped the forward before it"):
        model("llama").run(ids(), read=["resid_post.0"], interventions=[cw.zero("z.2")], logits=False)


@pytest.mark.parametrize(
    ("selection", "why"),
    [
        ({"positions": 12}, "no position 12 in row 0, which has 9 tokens"),
        ({"positions": -10}, "no position -10"),
        ({"positions": []}, "touch nothing"),
        ({"rows": 2}, "no batch 2|no row 2"),
        ({"mask": torch.zeros(2, 9, dtype=torch.bool)}, "selects no entry"),
        ({"positions": "Mary"}, "no tokenizer|no token"),
    ],
)
def test_an_intervention_that_fires_on_no_position_is_an_error(selection: dict[str, object], why: str) -> None:
    with pytest.raises(InputError, match=why):
        model("llama").run(ids(), interventions=[cw.zero("resid_post.1", **selection)])


def test_a_run_says_how_often_and_how_far_each_intervention_went() -> None:
    m = model("llama")
    run = m.run(ids(), interventions=[cw.zero("z.*", head=0), cw.scale("resid_post.0", 1.0)])
    assert [row.times for row in run.fired.rows] == [1, 1, 1, 1]
    assert run.fired.rows[0].rms > 0
    assert run.fired.rows[-1].rms == 0  # it fired, and changed nothing; the table shows it


# ---- 2. the same name, another tensor


def test_raw_outputs_and_contributions_are_told_apart() -> None:
    m = model("gemma2")
    run = m.run(ids(), read=["mlp_out.1", "mlp_out_post.1", "blocks.1.mlp.hook_out", "blocks.1.hook_mlp_out"])
    assert torch.equal(run["blocks.1.mlp.hook_out"], run["mlp_out.1"])
    assert torch.equal(run["blocks.1.hook_mlp_out"], run["mlp_out_post.1"])
    assert not close(run["mlp_out.1"], run["mlp_out_post.1"], 0.1)
    with pytest.raises(InputError, match=r"mlp_out\.1 is before, mlp_out_post\.1 after"):
        model("granite").run(ids(), read=["blocks.1.hook_mlp_out"])


# ---- 3. numbers that differ from Hugging Face's


@pytest.mark.parametrize("family", ["gemma2", "bloom", "falcon", "granite"])
def test_the_module_itself_is_run_and_left_as_it_was(family: str) -> None:
    hf = module(family)
    before = copy.deepcopy(hf.state_dict())
    m = cw.load(hf)
    m.run(ids(), read=m.points(), interventions=[cw.zero("z.1")], grad=["resid_post.0"], of=lambda x: x.sum())
    assert m.hf is hf
    assert all(torch.equal(value, before[name]) for name, value in hf.state_dict().items())
    with torch.no_grad():
        assert torch.equal(m.run(ids()).logits, hf(ids(), use_cache=False).logits)
    assert not [n for n, part in hf.named_modules() if part._forward_hooks or part._forward_pre_hooks]


# ---- 4. padding


@pytest.mark.parametrize("padding", ["left", "right"])
def test_one_token_of_padding_moves_no_probability(padding: str) -> None:
    m, row = model("gpt2"), ids(1)[0].tolist()
    together = m.run([row, [*row, 7]], padding=padding)
    alone = m.run(row)
    moved = (together.at("logits")[0].softmax(-1) - alone.at("logits")[0].softmax(-1)).abs().sum() / 2
    assert float(moved) < 1e-6  # total variation


# ---- 5. memory


def test_what_was_not_asked_for_is_not_kept() -> None:
    m = cw.load(module("llama"))
    held: list[weakref.ref[torch.Tensor]] = []
    handle = m.architecture.block(1).register_forward_hook(  # type: ignore[union-attr]
        lambda _, __, out: held.append(weakref.ref(out[0] if isinstance(out, tuple) else out))
    )
    run = m.run(ids(), read=["resid_post.0"])
    handle.remove()
    gc.collect()
    assert held[0]() is None
    assert not run["resid_post.0"].requires_grad
    assert run.logits.grad_fn is None


# ---- 6. where and what is run: tests/model/test_families_placing.py


# ---- wrong rank, wrong device, wrong model


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda: cw.add("resid_post.1", torch.ones(5)), r"shape \[5\].*48"),
        (lambda: cw.patch("resid_post.1", torch.ones(2, 9, 47)), r"\[2, 9, 47\]"),
        (lambda: cw.patch("z.1", torch.ones(2, 9, 48)), r"\[2, 9, 48\].*head 6"),
        (lambda: cw.patch("resid_post.1", torch.ones(3, 2, 9, 48)), r"\[3, 2, 9, 48\]"),
        (lambda: cw.project_out("z.1", torch.ones(48)), "48 wide"),
        (lambda: cw.zero("attn_probs.1", neuron=3), "no neuron axis"),
        (lambda: cw.zero("resid_post.1", head=3), "no head axis"),
    ],
)
def test_a_wrong_rank_or_shape_names_both(change: object, why: str) -> None:
    with pytest.raises(InputError, match="(?s)" + why):
        model("llama").run(ids(), interventions=[change()])  # type: ignore[operator]


def test_a_device_that_is_not_here_is_an_error_with_those_that_are() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(InputError, match=r"no device cuda:3 here.*there are: cpu"):
        cw.load(module("llama"), device="cuda:3")
    with pytest.raises(InputError, match="no device 'cpuu'; the nearest: cpu"):
        cw.load(module("llama"), device="cpuu")


def test_values_from_another_device_are_brought_and_values_from_none_refused() -> None:
    m, vector = model("llama"), torch.ones(48, dtype=torch.float64)
    assert m.run(ids(), interventions=[cw.add("resid_post.1", vector)]).logits.dtype == torch.float32
    with pytest.raises(InputError, match="meta"):
        cw.add("resid_post.1", torch.ones(48, device="meta"))
    with pytest.raises(InputError, match="not in memory"):
        with torch.device("meta"):
            empty = type(module("llama"))(module("llama").config)
        cw.load(empty)


def test_values_of_another_model_that_do_not_fit_name_it() -> None:
    small = cw.load(module("llama", hidden_size=24, num_attention_heads=6, num_key_value_heads=3))
    run = small.run(ids(), read=["resid_post.1", "z.1"])
    for address in ("resid_post.1", "z.1"):
        with pytest.raises(InputError, match=r"from LlamaForCausalLM, does not fit.*another model or point"):
            model("llama").run(ids(), interventions=[cw.patch(address, run)])
    with pytest.raises(InputError, match=r"does not exist here.*parallel"):
        model("gpt_neox").run(ids(), interventions=[cw.zero("resid_mid.1")])
    with pytest.raises(InputError, match="of another model"):
        model("gpt_neox").run(ids(), freeze=cw.freeze(model("gpt2").run(ids()), "pattern"))
    again = cw.load(module("gpt2"))  # the same weights, loaded again
    assert close(again.run(ids(), freeze=cw.freeze(model("gpt2").run(ids()))).logits, again.run(ids()).logits)


def test_prompts_of_another_kind_are_refused() -> None:
    with pytest.raises(InputError, match="whole numbers"):
        model("llama").run(images())
    with pytest.raises(InputError, match="reads pixels"):
        model("vit").run(ids())
