"""Dictionaries spliced in, their features edited by number, and all of it written to JSON and read back."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model.families import close, ids
from model.five import FIVE, Sparse, five

import cutaway.features as features
import cutaway.model as cw
from cutaway.core import InputError
from cutaway.model.families import tiny

AT = "resid_post.1"
D = Sparse()


class _Basis:
    """Coordinates along orthonormal directions: what is written is what is read back."""

    n_features = 20
    directions = torch.linalg.qr(torch.randn(48, 20, generator=torch.Generator().manual_seed(4))).Q

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.directions

    def decode(self, a: torch.Tensor) -> torch.Tensor:
        return a @ self.directions.T


@pytest.mark.parametrize("family", FIVE)
def test_a_clamped_feature_has_its_value_where_it_was_clamped(family: str) -> None:
    m, tokens, d = five(family), ids(2, 7), _Basis()
    clean = d.encode(m.run(tokens, read=[AT])[AT])
    run = m.run(tokens, read=[AT], interventions=[cw.clamp_features(AT, d, {3: 7.0, 11: 0.25}, positions=[2, -1])])
    expected = clean.clone()
    expected[:, [2, -1], 3], expected[:, [2, -1], 11] = 7.0, 0.25
    assert close(d.encode(run[AT]), expected, 1e-4)
    scaled = m.run(tokens, read=[AT], interventions=[cw.scale_features(AT, d, [3, 11], -2.0)])
    assert close(d.encode(scaled[AT])[..., [3, 11]], -2.0 * clean[..., [3, 11]], 1e-4)
    ablated = m.run(tokens, read=[AT], interventions=[cw.ablate_features(AT, d, range(20))])
    assert d.encode(ablated[AT]).abs().max() < 1e-4


def _transcoders(m: cw.Model, kind: str = "plt") -> features.Transcoders:
    width, layers = m.facts.d_model, m.facts.n_layers
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    return features.Transcoders(
        kind=kind,  # type: ignore[arg-type]
        rule="relu",
        layers=tuple(
            features.Layer(
                W_enc=random(16, width), b_enc=random(16), b_dec=random(width),
                W_dec=random(16, layers - layer if kind == "clt" else 1, width), W_skip=random(width, width),
            )
            for layer in range(layers)
        ),
    )  # fmt: skip


@pytest.mark.parametrize("family", FIVE)
def test_a_transcoder_reads_the_mlps_input_and_writes_its_output(family: str) -> None:
    m, tokens = five(family), ids(2, 7)
    plt = _transcoders(m)
    clean = m.run(tokens, read=["mlp_in.1", "mlp_out.1"])
    x, held = clean["mlp_in.1"], plt.layers[1]
    a = (x @ held.W_enc.T + held.b_enc).relu()
    whole = a @ held.W_dec[:, 0] + held.b_dec + x @ held.W_skip.T
    dropped = m.run(tokens, read=["mlp_out.1"], interventions=[cw.splice("mlp_out.1", plt, keep_error=False)])
    assert close(dropped["mlp_out.1"], whole, 1e-4)
    change = cw.clamp_features("mlp_out.1", plt, 5, 2.0, positions=3)
    run = m.run(tokens, read=["mlp_out.1"], interventions=[change])
    expected = clean["mlp_out.1"].clone()
    expected[:, 3] += (2.0 - a[:, 3, 5, None]) * held.W_dec[5, 0]
    assert close(run["mlp_out.1"], expected, 1e-4)
    # Its input is what it is in that same forward, after interventions there.
    push = torch.randn(48, generator=torch.Generator().manual_seed(9))
    pushed = [cw.add("mlp_in.1", push), cw.splice("mlp_out.1", plt, keep_error=False)]
    moved = m.run(tokens, read=["mlp_in.1", "mlp_out.1"], interventions=pushed)
    y = moved["mlp_in.1"]
    expected = (y @ held.W_enc.T + held.b_enc).relu() @ held.W_dec[:, 0] + held.b_dec + y @ held.W_skip.T
    assert close(moved["mlp_out.1"], expected, 1e-4)


def test_a_dictionary_computes_in_its_own_precision() -> None:
    m = cw.load(tiny("llama").bfloat16())
    x = m.run(ids(2, 7), read=[AT])[AT]
    run = m.run(ids(2, 7), read=[AT], interventions=[cw.clamp_features(AT, D, 3, 2.0)])
    expected = x.float() + (2.0 - D.encode(x.float())[..., 3:4]) * D.W_dec[3]
    assert torch.equal(run[AT], expected.bfloat16())


def test_a_dictionary_of_another_width_is_refused() -> None:
    with pytest.raises(InputError, match=r"splice at resid_post\.1: the dictionary does not take .*\[2, 7, 48\]"):
        five("llama").run(ids(2, 7), interventions=[cw.splice(AT, Sparse(width=47), keep_error=False)])


def test_transcoders_where_they_do_not_belong() -> None:
    m = five("llama")
    with pytest.raises(InputError, match=r"mlp_out\.0"):
        cw.splice("resid_post.1", _transcoders(m))
    with pytest.raises(InputError, match=r"write to layers \(0, 1, 2\).*set_features"):
        cw.clamp_features("mlp_out.0", _transcoders(m, "clt"), 3, 1.0)


def test_features_that_do_not_exist() -> None:
    for make, match in [
        (lambda: cw.clamp_features(AT, D, 20, 1.0), "no feature 20: the dictionary has 20"),
        (lambda: cw.ablate_features(AT, D, -1), "no feature -1"),
        (lambda: cw.ablate_features(AT, D, []), "empty"),
        (lambda: cw.clamp_features(AT, D, 3), "value= is missing"),
        (lambda: cw.clamp_features(AT, D, {3: 1.0}, 2.0), "not both"),
        (lambda: cw.scale_features(AT, D, 3), "factor= is missing"),
        (lambda: cw.scale_features(AT, D, 3, 1.0, edit=lambda a: a), "not both"),
        (lambda: cw.splice(AT, "sae"), "needs a dictionary"),
        (lambda: cw.clamp_features(AT, D, 3, 1.0, position=1), "position"),
    ]:
        with pytest.raises(InputError, match=match):
            make()


# ---- JSON


def test_a_splice_is_written_by_name_and_fingerprint(tmp_path: Any) -> None:
    m = five("llama")
    plt = _transcoders(m)
    plt.save(tmp_path / "mine")
    loaded = features.load(tmp_path / "mine")
    change = cw.clamp_features("mlp_out.1", loaded, {5: 2.0}, positions=[1, -1])
    written = json.loads(json.dumps(change.to_json()))
    assert written["dictionary"]["dictionary"] == str(tmp_path / "mine")
    back = cw.Intervention.from_json(written, dictionaries=features.load)
    assert back == change
    assert hash(back) == hash(change)
    tokens = ids(2, 7)
    assert torch.equal(m.run(tokens, interventions=[back]).logits, m.run(tokens, interventions=[change]).logits)
    assert cw.Intervention.from_json(written, dictionaries={str(tmp_path / "mine"): loaded}) == change
    other = plt.with_(layers=tuple(layer.map(lambda t: t + 1e-3) for layer in plt.layers))
    with pytest.raises(InputError, match="not the one that was spliced"):
        cw.Intervention.from_json(written, dictionaries={str(tmp_path / "mine"): other})
    with pytest.raises(InputError, match="say where it is found"):
        cw.Intervention.from_json(written)
    with pytest.raises(InputError, match="dictionary"):
        cw.Intervention.from_json(written, dictionaries={"another": loaded})
    with pytest.raises(InputError, match="edit is a function"):
        cw.splice(AT, D, edit=lambda a: a, name="d").to_json()
    with pytest.raises(InputError, match="no name to be found by"):
        cw.splice(AT, D).to_json()


def test_splices_are_equal_by_what_their_dictionaries_hold() -> None:
    assert cw.splice(AT, Sparse()) == cw.splice(AT, Sparse())
    assert cw.splice(AT, Sparse()) != cw.splice(AT, Sparse(seed=3))
    assert cw.clamp_features(AT, D, 3, 1.0) != cw.clamp_features(AT, D, 3, 2.0)


def _random(*shape: int) -> st.SearchStrategy[torch.Tensor]:
    return st.integers(0, 2**31).map(lambda seed: torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


_NUMBERS = st.lists(st.integers(-5, 5), min_size=1, max_size=3, unique=True)
_POSITIONS = st.one_of(
    st.integers(-5, 5),
    _NUMBERS,
    st.builds(slice, st.none() | st.integers(-5, 5), st.none() | st.integers(-5, 5), st.none() | st.integers(1, 3)),
    st.lists(st.integers(-5, 5), min_size=1, max_size=4).map(torch.tensor),
    st.text(min_size=1, max_size=8),
)
_WHERE = st.fixed_dictionaries(
    {},
    optional={
        "positions": _POSITIONS,
        "keys": _POSITIONS,
        "rows": st.integers(0, 3),
        "head": _NUMBERS,
        "neuron": _NUMBERS,
        "mask": st.booleans().map(lambda b: torch.tensor([[b, True, False]])),
    },
)
_RUN = five("llama").run(ids(3, 5), read=["resid_post.*"])
_EDGE = st.fixed_dictionaries(
    {"query": _POSITIONS}, optional={"key": _POSITIONS, "head": _NUMBERS, "renormalise": st.booleans()}
)
_MAP = st.dictionaries(st.integers(-5, 5), st.integers(-5, 5), min_size=1, max_size=3)
_AT = st.sampled_from([AT, "z.*", "blocks.0.hook_mlp_out"])
_ANY = st.one_of(
    st.builds(lambda at, w: cw.zero(at, **w), _AT, _WHERE),
    st.builds(lambda at, v, w: cw.add(at, v, **w), _AT, _random(7), _WHERE),
    st.builds(lambda at, f, w: cw.scale(at, f, **w), _AT, st.floats(-10, 10), _WHERE),
    st.builds(lambda at, v, w: cw.mean(at, v, **w), _AT, _random(5, 4, 7), _WHERE),
    st.builds(lambda per, w: cw.mean(AT, _RUN, per_position=per, **w), st.booleans(), _WHERE),
    st.builds(lambda at, v, s, w: cw.resample(at, v, seed=s, **w), _AT, _random(5, 4, 7), st.integers(0, 99), _WHERE),
    st.builds(lambda p, w: cw.patch("resid_post.*", _RUN, **{**w, "positions": p}), _MAP, _WHERE),
    st.builds(lambda p, r: cw.interchange(AT, torch.eye(48)[:2], _RUN, positions=p, rows=r), _MAP, _MAP),
    st.builds(lambda at, v, w: cw.project_out(at, v, **w), _AT, _random(2, 7), _WHERE),
    st.builds(lambda e: cw.knock_out("attn_probs.*", **e), _EDGE),
    st.builds(
        lambda f, keep, w: cw.clamp_features(AT, D, f, keep_error=keep, name="d", **w),
        st.dictionaries(st.integers(0, 19), st.floats(-5, 5), min_size=1, max_size=3),
        st.booleans(),
        _WHERE,
    ),
    st.builds(lambda f, c: cw.scale_features(AT, D, f, c, name="d"), st.integers(0, 19), st.floats(-5, 5)),
)


@settings(max_examples=150, deadline=None)
@given(_ANY, _ANY)
def test_every_intervention_goes_to_json_and_back(one: cw.Intervention, other: cw.Intervention) -> None:
    written = json.loads(json.dumps(one.to_json()))
    back = cw.Intervention.from_json(written, dictionaries={"d": D})
    assert back == one
    assert hash(back) == hash(one)
    assert str(back) == str(one)
    assert (one == other) == (one.to_json() == other.to_json())


@settings(max_examples=60, deadline=None)
@given(_ANY, st.text(max_size=5), st.sampled_from(["schema", "kind", "at", "select", "extra"]))
def test_json_of_another_version_or_shape_is_refused(one: cw.Intervention, text: str, field: str) -> None:
    written = one.to_json()
    if field == "select":
        written["select"] = {text + "?": 1}
    elif field == "at":
        del written["at"]
    else:
        written[field] = text + "?"
    with pytest.raises(InputError):
        cw.Intervention.from_json(written, dictionaries={"d": D})
    for broken in ({**one.to_json(), "schema": "cutaway.intervention/2"}, [], None, "zero"):
        with pytest.raises(InputError, match=r"expected 'cutaway\.intervention/1'"):
            cw.Intervention.from_json(broken)
