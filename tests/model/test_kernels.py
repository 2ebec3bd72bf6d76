"""Faster kernels: the same numbers and gradients to rounding, and only while a forward lasts."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

import cutaway as cw
from cutaway.core.onednn import available
from cutaway.model.kernels import WORTH, Kernels

TOKENS = 64
pytestmark = pytest.mark.skipif(not available(), reason="this processor has no faster kernel")


def families():
    common = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0}
    sizes = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    return {
        "gpt2": GPT2LMHeadModel(GPT2Config(n_embd=192, n_layer=2, n_head=4, **common)),
        "llama": LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **sizes, **common)),
        "neox": GPTNeoXForCausalLM(GPTNeoXConfig(hidden_act="gelu_new", **sizes, **common)),
    }


@pytest.fixture(scope="module", params=["gpt2", "llama", "neox"])
def hf(request):
    return families()[request.param].eval()


@pytest.fixture
def ids():
    return torch.randint(0, 300, (2, TOKENS // 2), generator=torch.Generator().manual_seed(1))


def swapped(hf):
    return [module for module in hf.modules() if "forward" in vars(module)]


def test_same_numbers_to_rounding(hf, ids):
    kernels = Kernels(hf)
    with torch.no_grad():
        plain = hf(ids).logits
        with kernels.during(TOKENS):
            assert len(swapped(hf)) == len(kernels.chosen(TOKENS)) >= 8
            faster = hf(ids).logits
    assert not torch.equal(faster, plain)  # another order of summation: or nothing was tested
    assert (faster - plain).abs().max() <= 1e-5 * plain.abs().max()


def test_a_run_equals_hugging_face_and_leaves_nothing_behind(hf, ids):
    model = cw.load(hf, tokenizer=None)
    with torch.no_grad():
        plain = hf(ids).logits
    run = model.run(ids, read=["z.*", "mlp_act.1"])
    assert (run.logits - plain).abs().max() <= 1e-5 * plain.abs().max()
    assert swapped(hf) == []
    model.kernels.on = False
    assert torch.equal(model.run(ids).logits, plain)


def test_gone_after_an_error(hf):
    def fail():
        with torch.no_grad(), Kernels(hf).during(TOKENS):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert swapped(hf) == []


def test_nested_runs_keep_them_until_the_outer_ends(hf):
    kernels = Kernels(hf)
    with torch.no_grad(), kernels.during(TOKENS):
        with kernels.during(TOKENS):
            pass
        assert len(swapped(hf)) == len(kernels.chosen(TOKENS))
    assert swapped(hf) == []


def test_not_for_little_work_nor_for_weights_that_learn_nor_forward_derivatives(hf, ids):
    kernels = Kernels(hf)
    with kernels.during(WORTH // max(size for size, _ in kernels.products) - 1):
        assert swapped(hf) == []
    with torch.autograd.forward_ad.dual_level(), kernels.during(TOKENS):
        assert swapped(hf) == []
    learning = families()["gpt2"].eval()
    learning.transformer.h[0].mlp.c_fc.weight.requires_grad_(True)
    learning.transformer.h[0].mlp.c_fc.bias.requires_grad_(True)
    with Kernels(learning).during(TOKENS):
        learning(ids[:, :8]).logits.sum().backward()
    assert all(p.grad is not None for p in learning.transformer.h[0].mlp.c_fc.parameters())


@pytest.mark.parametrize("freeze", [None, ("pattern", "norm")])
def test_gradients_are_those_of_the_plain_model_to_rounding(hf, ids, freeze):
    model = cw.load(hf, tokenizer=None)
    runs = []
    for model.kernels.on in (True, False):
        wanted = ["resid_pre.0", "z.1", "mlp_act.0"]
        runs.append(model.run(ids, grad=wanted, of=lambda logits: logits[:, -1, 5], freeze=freeze))
    if freeze is None:
        assert torch.equal(runs[1].logits, hf(ids).logits.detach())
    assert not torch.equal(runs[0].grad["resid_pre.0"], runs[1].grad["resid_pre.0"])  # or nothing was tested
    for address, plain in runs[1].grad.items():
        assert plain.abs().max() > 0
        assert (runs[0].grad[address] - plain).abs().max() <= 1e-5 * plain.abs().max(), address
    assert swapped(hf) == []


def test_derivatives_of_the_second_order_and_products_with_the_jacobian(hf, ids):
    model = cw.load(hf, tokenizer=None)
    found = []
    v = torch.randn(2, TOKENS // 2, 192, generator=torch.Generator().manual_seed(2))
    for model.kernels.on in (True, False):
        with sdpa_kernel(SDPBackend.MATH):  # the fused one has no second derivative
            run = model.run(ids, grad=["resid_pre.0"], keep_graph=True)
        (first,) = torch.autograd.grad(run.logits[:, -1, 5].sum(), run.leaves["resid_pre.0"], create_graph=True)
        (second,) = torch.autograd.grad((first * v).sum(), run.leaves["resid_pre.0"])
        w = torch.randn(run.logits.shape, generator=torch.Generator().manual_seed(3))
        found.append(
            (second, cw.jvp(model, ids, "resid_pre.0", "logits", v), cw.vjp(model, ids, "resid_pre.0", "logits", w))
        )
    for ours, plain in zip(*found):
        assert (ours - plain).abs().max() <= 2e-5 * plain.abs().max()


def test_half_precision_is_left_to_torch(ids):
    hf = families()["llama"].eval().to(torch.bfloat16)
    model = cw.load(hf, tokenizer=None, dtype=torch.bfloat16)
    with torch.no_grad():
        plain = hf(ids).logits
    assert torch.equal(model.run(ids).logits, plain)


def test_what_has_a_forward_of_its_own_is_left_alone(ids):
    hf = families()["gpt2"].eval()
    module = hf.transformer.h[0].mlp.c_fc
    calls = []
    own = type(module).forward
    module.forward = lambda x: calls.append(1) or own(module, x)
    model = cw.load(hf, tokenizer=None)
    calls.clear()
    model.run(ids)
    assert calls == [1]
    assert swapped(hf) == [module]


def test_runs_of_several_threads_leave_the_module_as_it_was(hf, ids):
    model = cw.load(hf, tokenizer=None)
    expected = model.run(ids).logits
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: model.run(ids).logits, range(12)))
    assert all((x - expected).abs().max() <= 1e-5 * expected.abs().max() for x in found)
    assert swapped(hf) == []
