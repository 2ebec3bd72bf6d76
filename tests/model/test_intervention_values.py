"""Interventions as values, and those that must be refused."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model.families import FAMILIES, ids, model

import cutaway.model as cw
from cutaway.core import InputError

EVERYWHERE = tuple(FAMILIES)


class _Dictionary:
    """ReLU features with their own biases: reconstructs badly, as a fresh dictionary does."""

    n_features = 20

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(2)
        self.encoder = torch.randn(48, 20, generator=generator) * 0.2
        self.decoder = torch.randn(20, 48, generator=generator) * 0.2
        self.bias = torch.randn(48, generator=generator)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.encoder).relu()

    def decode(self, a: torch.Tensor) -> torch.Tensor:
        return a @ self.decoder + self.bias


def _arrays(shape: tuple[int, ...]) -> st.SearchStrategy[torch.Tensor]:
    return st.integers(0, 2**31).map(lambda seed: torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


_WHERE = st.fixed_dictionaries(
    {},
    optional={
        "positions": st.one_of(st.integers(-5, 5), st.lists(st.integers(-5, 5), min_size=1, max_size=3, unique=True)),
        "rows": st.integers(0, 3),
        "head": st.integers(0, 5),
        "mask": st.booleans().map(lambda b: torch.tensor([[b, True, False]])),
    },
)
_AT = st.sampled_from(["resid_post.1", "z.*", "blocks.0.hook_mlp_out"])
_ANY = st.one_of(
    st.builds(lambda at, w: cw.zero(at, **w), _AT, _WHERE),
    st.builds(lambda at, v, w: cw.add(at, v, **w), _AT, _arrays((7,)), _WHERE),
    st.builds(lambda at, f, w: cw.scale(at, f, **w), _AT, st.floats(-10, 10), _WHERE),
    st.builds(lambda at, v, w: cw.patch(at, v, **w), _AT, _arrays((1, 4, 7)), _WHERE),
    st.builds(lambda at, v, w: cw.mean(at, v, **w), _AT, _arrays((5, 4, 7)), _WHERE),
    st.builds(lambda at, v, s, w: cw.resample(at, v, seed=s, **w), _AT, _arrays((5, 4, 7)), st.integers(0, 99), _WHERE),
    st.builds(lambda at, v, w: cw.project_out(at, v, **w), _AT, _arrays((2, 7)), _WHERE),
    st.builds(lambda at, v, s, w: cw.interchange(at, v, s, **w), _AT, _arrays((2, 7)), _arrays((1, 4, 7)), _WHERE),
)


@settings(max_examples=60, deadline=None)
@given(_ANY, _ANY)
def test_json_there_and_back_and_equality_by_content(one: cw.Intervention, other: cw.Intervention) -> None:
    back = cw.Intervention.from_json(one.to_json())
    assert back == one
    assert hash(back) == hash(one)
    assert (one == other) == (one.to_json() == other.to_json())


def test_json_of_a_patch_from_a_run() -> None:
    run = model("llama").run(ids(), read=["resid_post.*"])
    patch = cw.patch("resid_post.*", run)
    assert cw.Intervention.from_json(patch.to_json()) == patch
    with pytest.raises(InputError, match="dictionary"):
        cw.splice("resid_post.1", _Dictionary()).to_json()
    with pytest.raises(InputError, match="schema"):
        cw.Intervention.from_json({"kind": "zero", "at": "resid_post.1"})
    with pytest.raises(InputError, match="project_out"):
        cw.Intervention.from_json({**patch.to_json(), "kind": "projectout"})
    with pytest.raises(InputError, match="needs at"):
        cw.Intervention.from_json({"schema": "cutaway.intervention/1", "kind": "zero"})
    with pytest.raises(InputError, match="has no factor; it has: at, select"):
        cw.Intervention.from_json({**cw.scale("z.0", 1.0).to_json(), "kind": "zero"})


def test_interventions_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        cw.zero("z.1").at = "z.2"  # type: ignore[misc]


# ---- what must be refused


def _refused(match: str, *interventions: cw.Intervention, **more: Any) -> None:
    with pytest.raises(InputError, match=match):
        model("llama").run(ids(), interventions=list(interventions), **more)


def test_a_misspelt_point_names_the_nearest() -> None:
    _refused("resid_post", cw.zero("resid_psot.1"))
    _refused("resid_post", cw.zero("resid_psot.*"))
    with pytest.raises(InputError, match=r"no layer 7.*has 3"):
        model("llama").run(ids(), read=["resid_post.7"])
    with pytest.raises(InputError, match="needs a layer"):
        model("llama").run(ids(), read=["resid_post"])


def test_wrong_shapes_name_both_shapes() -> None:
    _refused(r"\[47\].*d_model 48", cw.add("resid_post.1", torch.ones(47)))
    _refused(r"\[47\].*48", *[cw.add("resid_post.1", torch.ones(47), rows=0, positions=i) for i in range(3)])
    _refused(r"\[2, 5, 48\]", cw.patch("resid_post.1", torch.ones(2, 5, 48)))
    _refused("47 wide", cw.project_out("resid_post.1", torch.ones(47)))


def test_selections_that_do_not_exist() -> None:
    _refused("no head 6.*there are 6", cw.zero("z.1", head=6))
    _refused("no kv_head 3.*there are 3", cw.zero("value.1", head=3))
    _refused("no head axis.*batch, position, d_model", cw.zero("resid_post.1", head=0))
    _refused("no neuron axis", cw.zero("resid_post.1", neuron=0))
    _refused("no position 9.*9 tokens", cw.zero("resid_post.1", positions=9))
    _refused("no row 2", cw.zero("resid_post.1", rows=2))
    with pytest.raises(InputError, match="empty"):
        cw.zero("z.1", positions=[])
    with pytest.raises(InputError, match="twice"):
        cw.zero("z.1", positions=[1, 1])
    with pytest.raises(InputError, match="positions"):
        cw.zero("z.1", position=1)


def test_an_intervention_that_fires_nowhere_is_an_error() -> None:
    _refused("mask selects no entry", cw.zero("resid_post.1", mask=torch.zeros(2, 9)))
    _refused("did not fire: zero at resid_post.2", cw.zero("resid_post.2"), read=["resid_post.0"], logits=False)
    m = model("llama")
    frozen = cw.freeze(m.run(ids()), "pattern")
    _refused("would change nothing", cw.zero("q.1"), freeze=frozen)
    _refused("would change nothing", cw.zero("attn_scores.1"), freeze=frozen)


def test_what_is_not_a_value_is_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        cw.add("resid_post.1", torch.tensor([float("nan")]))
    with pytest.raises(InputError, match="finite"):
        cw.scale("resid_post.1", float("inf"))
    with pytest.raises(InputError, match=r"model\.run"):
        cw.mean("z.1", over=["a prompt"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="linearly independent"):
        cw.project_out("resid_post.1", torch.ones(2, 48))
    with pytest.raises(InputError, match="was not read"):
        cw.patch("resid_post.1", model("llama").run(ids()))
    with pytest.raises(InputError, match=r"cw\.zero"):
        model("llama").run(ids(), interventions=["zero"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="only reports"):
        model("qwen3_moe").run(ids(), interventions=[cw.zero("router_logits.0")])
