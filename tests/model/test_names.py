"""Other frameworks' names: each means the tensor that its framework defines, or is refused with a reason."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interp_engine.address import Address
from interp_engine.mappers import UnmappedHook, nnsight_accessor_to_point, tlens_hook_to_point
from model.families import EVERY, FAMILIES, POST_NORM, close, ids, model, prompt
from torch import Tensor

import cutaway.model as cw
from cutaway.core import InputError, UnknownName
from cutaway.model.names import NAMES, REFUSED, forms

LAYER = 1
Definition = Callable[["Raw"], Tensor]


class Raw:
    """One forward watched with hooks of this test's own, and what follows from it."""

    def __init__(self, family: str) -> None:
        self.family, self.m = family, model(family)
        self.inputs: dict[torch.nn.Module, Tensor] = {}
        self.outputs: dict[torch.nn.Module, Tensor] = {}
        handles = [part.register_forward_hook(self._note, with_kwargs=True) for part in self.m.hf.modules()]
        try:
            with torch.no_grad():
                self.m.hf(ids(), use_cache=False) if family in FAMILIES else self.m.hf(ids())
        finally:
            for handle in handles:
                handle.remove()
        assert self.m.architecture is not None
        self.block = self.m.architecture.block(LAYER)
        self.run = self.m.run(ids(), read=self.m.points())
        self.without_mlp = self.m.run(ids(), read=[f"resid_post.{LAYER}"], interventions=[cw.zero(self._mlp())])

    def _mlp(self) -> str:
        return f"mlp_out.{LAYER}" if self.family in POST_NORM else f"mlp_out_post.{LAYER}"

    def _note(self, module: torch.nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        floats = [x for x in (kwargs.get("hidden_states"), *args) if isinstance(x, Tensor) and x.is_floating_point()]
        out = output[0] if isinstance(output, tuple) else output
        if floats:
            self.inputs[module] = floats[0].clone()
        if isinstance(out, Tensor):
            self.outputs[module] = out.clone()

    # what a block's stream is, by the definition of a residual block

    def resid_pre(self) -> Tensor:
        return self.inputs[self.block]

    def resid_post(self) -> Tensor:
        return self.outputs[self.block]

    def resid_mid(self) -> Tensor:
        """The block's output when its MLP writes nothing."""
        return self.without_mlp[f"resid_post.{LAYER}"]

    def attn_added(self) -> Tensor:
        return self.resid_mid() - self.resid_pre()

    def mlp_added(self) -> Tensor:
        return self.resid_post() - self.resid_mid()

    def mlp_reads(self) -> Tensor:
        return self.resid_pre() if self.m.facts.parallel else self.resid_mid()

    # the same for parts that are modules

    def module(self, point: str) -> torch.nn.Module:
        return self.m.site(f"{point}.{LAYER}").module

    def scale(self, stream: Tensor) -> Tensor:
        parts = self.m.norms[f"attn_norm_scale.{LAYER}"]
        if parts.centred:
            stream = stream - stream.mean(-1, keepdim=True)
        return (stream.pow(2).mean(-1, keepdim=True) + parts.eps).sqrt()

    def mixed(self) -> Tensor:
        value = self.run[f"value.{LAYER}"].repeat_interleave(self.m.facts.n_heads // self.m.facts.n_kv_heads, dim=2)
        return torch.einsum("bhqk,bkhd->bqhd", self.run[f"attn_probs.{LAYER}"], value)


@functools.cache
def raw(family: str) -> Raw:
    return Raw(family)


def _shaped(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor.reshape(like.shape)


DEFINED: dict[str, Definition] = {
    "blocks.{}.hook_resid_pre": Raw.resid_pre,
    "blocks.{}.hook_in": Raw.resid_pre,
    "layers_input[{}]": Raw.resid_pre,
    "blocks.{}.hook_resid_post": Raw.resid_post,
    "blocks.{}.hook_out": Raw.resid_post,
    "layers_output[{}]": Raw.resid_post,
    "blocks.{}.hook_normalized_resid_post": Raw.resid_post,
    "blocks.{}.hook_resid_mid": Raw.resid_mid,
    "blocks.{}.ln2.hook_in": Raw.resid_mid,
    "blocks.{}.hook_attn_out": lambda r: r.run[f"attn_out.{LAYER}"] if r.family in POST_NORM else r.attn_added(),
    "blocks.{}.ln1_post.hook_out": Raw.attn_added,
    "blocks.{}.hook_mlp_out": lambda r: r.run[f"mlp_out.{LAYER}"] if r.family in POST_NORM else r.mlp_added(),
    "blocks.{}.ln2_post.hook_out": Raw.mlp_added,
    "blocks.{}.attn.hook_out": lambda r: r.outputs[r.module("z")],
    "attentions_output[{}]": lambda r: r.outputs[r.module("z")],
    "blocks.{}.ln1.hook_scale": lambda r: r.scale(r.resid_pre()),
    "blocks.{}.ln1.hook_normalized": lambda r: r.resid_pre() / r.scale(r.resid_pre()),
    "blocks.{}.ln2.hook_scale": lambda r: r.scale(r.resid_pre() if r.m.facts.parallel else r.resid_mid()),
    "blocks.{}.ln2.hook_normalized": lambda r: (
        (x := r.resid_pre() if r.m.facts.parallel else r.resid_mid()) / r.scale(x)
    ),
    "blocks.{}.attn.hook_z": Raw.mixed,
    "blocks.{}.attn.o.hook_in": lambda r: r.inputs[r.module("z")],
    "blocks.{}.attn.hook_pattern": lambda r: r.run[f"attn_scores.{LAYER}"].softmax(-1),
    "attention_probabilities[{}]": lambda r: r.run[f"attn_scores.{LAYER}"].softmax(-1),
    "blocks.{}.mlp.hook_post": lambda r: r.inputs[r.module("mlp_act")],
    "blocks.{}.mlp.out.hook_in": lambda r: r.inputs[r.module("mlp_act")],
    "embed.hook_out": lambda r: r.outputs[r.m.site("embeddings").module],
    "hook_embed": lambda r: r.outputs[r.m.site("embeddings").module],
    "token_embeddings": lambda r: r.outputs[r.m.site("embeddings").module],
    "ln_final.hook_out": lambda r: r.outputs[r.m.site("final_norm").module],
    "unembed.hook_in": lambda r: r.outputs[r.m.site("final_norm").module],
}
READING_TOKENS = tuple(f for f in EVERY if model(f).facts.reads == "tokens")


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(forms())), st.sampled_from(EVERY))
def test_no_name_silently_means_another_tensor(form: str, family: str) -> None:
    m = model(family)
    name = form.replace("{}", str(LAYER))
    try:
        (address,) = m.addresses(name)
    except InputError:
        return
    assert m.facts.reads == "tokens"
    assert form.removeprefix("blocks.{}.") not in REFUSED
    if form in DEFINED:
        wanted = DEFINED[form](raw(family))
        got = raw(family).run[address]
        assert close(_shaped(wanted, got), got, 1e-4), (family, name, address)


@pytest.mark.parametrize("form", [name.form for name in NAMES])
def test_every_name_is_accepted_somewhere_and_means_one_point(form: str) -> None:
    found = set()
    for family in READING_TOKENS:
        with contextlib.suppress(InputError):
            found |= {a.split(".")[0].removesuffix("_post") for a in model(family).addresses(form.replace("{}", "1"))}
    assert len(found) == 1


@pytest.mark.parametrize("form", sorted(DEFINED))
def test_every_definition_is_met_by_a_family_that_has_the_point(form: str) -> None:
    met = 0
    for family in READING_TOKENS:
        with contextlib.suppress(InputError):
            (address,) = model(family).addresses(form.replace("{}", str(LAYER)))
            got = raw(family).run[address]
            assert close(_shaped(DEFINED[form](raw(family)), got), got, 1e-4), (family, form, address)
            met += 1
    assert met >= (3 if "_post.hook" in form or "normalized_resid" in form else 8)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_translated_otherwise_than_interp_engine_translates_it(family: str) -> None:
    """Where both accept a name. (Where a family norms nothing, a contribution and a raw output are one tensor.)"""
    m = model(family)
    assert m.architecture is not None
    for form in forms():
        name = form.replace("{}", "1")
        with contextlib.suppress(InputError, UnmappedHook):
            (ours,) = m.addresses(name)
            nnterp = name.endswith("]")
            theirs = str(nnsight_accessor_to_point(name) if nnterp else tlens_hook_to_point(name, m.architecture.arch))
            theirs = {"q_norm_in.1": "q.1", "k_norm_in.1": "k.1"}.get(theirs, theirs)
            assert ours == theirs, name


@pytest.mark.parametrize(
    ("family", "name", "why"),
    [
        ("gpt2", "blocks.1.ln2.hook_normalized", "before them once TransformerLens has folded"),
        ("gpt2", "ln_final.hook_normalized", "final_normalized is before, final_norm after"),
        ("granite", "blocks.1.hook_mlp_out", "multiplies what a sublayer writes by 0.3"),
        ("bloom", "blocks.1.attn.hook_out", "add the residual stream themselves"),
        ("bloom", "mlps_output[1]", "add the residual stream themselves"),
        ("bloom", "blocks.1.attn.hook_attn_scores", "ALiBi"),
        ("bloom", "hook_embed", "normed before the first block"),
        ("bert", "blocks.1.hook_resid_post", "hook_normalized_resid_post"),
        ("llama", "blocks.1.hook_normalized_resid_post", "only post-norm blocks"),
        ("olmo2", "blocks.1.ln1.hook_normalized", "no norm of the block"),
        ("olmo2", "blocks.1.ln2.hook_in", "no norm here feeds the mlp"),
        ("llama", "blocks.1.ln1_post.hook_out", "norms no sublayer's output"),
        ("llama", "q_norm_in.1", "does not normalize"),
        ("gpt_neox", "blocks.1.hook_resid_mid", "parallel"),
        ("gpt2", "blocks.1.attn.hook_rot_q", "rotates nothing"),
        ("mixtral", "blocks.1.mlp.hook_pre", "MoE"),
        ("llama", "blocks.1.hook_mlp_in", "BEFORE the block norm"),
        ("llama", "blocks.1.attn.hook_result", "slice of W_O"),
        ("opt", "mlps_input[1]", "no MLP module"),
        ("vit", "blocks.1.hook_resid_post", "say resid_post.1"),
        ("llama", "blocks.7.hook_resid_post", "has 3"),
        ("llama", "hook_resid_post", "needs a layer: blocks.0.hook_resid_post"),
        ("llama", "layers_output", r"needs a layer: layers_output\[0\]"),
    ],
)
def test_refusals_say_what_to_ask_for(family: str, name: str, why: str) -> None:
    with pytest.raises(InputError, match="(?s)" + why.replace("(", r"\(")):
        model(family).addresses(name)


def test_a_misspelt_hook_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"blocks\.1\.hook_resid_post"):
        model("llama").addresses("blocks.1.hook_resid_psot")
    with pytest.raises(UnknownName, match=r"layers_output\[1\]"):
        model("llama").addresses("layer_outputs[1]")


def test_addresses_of_interp_engine_are_names() -> None:
    m = model("qwen3")
    assert m.addresses(Address("resid_post", 1)) == ("resid_post.1",)
    assert m.addresses(Address("q_norm_in", 2)) == ("q.2",)
    assert m.addresses(Address("final_norm")) == ("final_norm",)


def test_names_for_all_layers() -> None:
    m = model("gemma2")
    assert m.addresses("blocks.*.hook_mlp_out") == tuple(f"mlp_out_post.{i}" for i in range(4))
    assert m.run(prompt("gemma2"), read=["blocks.*.ln1.hook_scale"]).reads == m.addresses("attn_norm_scale.*")


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(("llama", "gpt2", "bert", "bloom", "vit")),
    st.one_of(st.text(max_size=25), st.sampled_from(sorted(forms())).flatmap(lambda f: st.permutations(list(f)))),
)
def test_no_text_is_silently_taken_for_a_point(family: str, text: Any) -> None:
    m = model(family)
    with contextlib.suppress(InputError):
        assert set(m.addresses("".join(text))) <= set(m.points())
