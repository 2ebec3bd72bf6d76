"""Causal models: what they compute, what they refuse; counterfactual items."""

from __future__ import annotations

import pytest
from abstraction.conftest import addition
from hypothesis import given
from hypothesis import strategies as st

from cutaway.abstraction import CausalModel, NoMeaning, counterfactuals
from cutaway.core import InputError, UnknownName


@given(st.integers(0, 99), st.integers(0, 99))
def test_a_model_computes_what_its_mechanisms_say(a: int, b: int) -> None:
    assert addition().run({"a": a, "b": b})["sum"] == a + b


@given(st.integers(0, 99), st.integers(0, 99))
def test_an_interchange_from_the_base_itself_changes_nothing(a: int, b: int) -> None:
    model, base = addition(), {"a": a, "b": b}
    assert model.interchange(base, dict.fromkeys(("carry", "units", "tens"), base)) == model.run(base)


def test_interchanging_every_input_is_the_source() -> None:
    model, base, source = addition(), {"a": 17, "b": 25}, {"a": 60, "b": 4}
    assert model.interchange(base, {"a": source, "b": source}) == model.run(source)


def test_an_exchanged_carry_moves_the_sum_by_ten() -> None:
    found = addition().interchange({"a": 17, "b": 21}, {"carry": {"a": 8, "b": 8}})
    assert found["sum"] == 48


def test_mechanisms_may_name_parents_outright() -> None:
    model = CausalModel({"is (": (0, 1)}, {"out": (("is (",), lambda x: 1 - x)})
    assert model.run({"is (": 1})["out"] == 0


@pytest.mark.parametrize(
    ("mechanisms", "said"),
    [
        ({"p": lambda q: q, "q": lambda p: p}, "cycle: p -> q -> p"),
        ({"p": lambda wo: wo}, "no variable of causal model, a parent of p, 'wo'"),
        ({"x": lambda x: x}, "both an input and a mechanism"),
        ({"p": lambda *x: x}, r"takes \*x"),
        ({"p": 3}, "is a function of its parents"),
        ({}, "no mechanism"),
    ],
)
def test_a_model_that_cannot_be_run_is_refused_when_it_is_made(mechanisms: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CausalModel({"x": (0, 1), "w": (0, 1)}, mechanisms)


def test_bad_values_are_errors_that_name_them() -> None:
    model = addition()
    with pytest.raises(InputError, match="needs a value for its input b"):
        model.run({"a": 1})
    with pytest.raises(InputError, match="a = 100 is not in its domain"):
        model.run({"a": 100, "b": 1})
    with pytest.raises(UnknownName, match="cary"):
        model.run({"a": 1, "b": 1}, {"cary": True})
    with pytest.raises(NoMeaning, match="sum = 199"):
        model.interchange({"a": 99, "b": 90}, {"carry": {"a": 9, "b": 9}})
    with pytest.raises(InputError, match="mechanism of p fails on x=0: ZeroDivisionError"):
        CausalModel({"x": (0, 1)}, {"p": lambda x: 1 / x}).run({"x": 0})


def test_half_of_the_items_change_the_answer() -> None:
    model = addition()
    for variable in ("carry", "units", "a"):
        found = counterfactuals(model, variable, 100)
        assert len(found) == 100
        assert int(found.changes(model, [variable]).sum()) == 50


def test_training_and_test_share_no_input() -> None:
    model = addition()
    parts = [counterfactuals(model, "carry", 200, part=part) for part in ("train", "test")]
    seen = [{tuple(v.values()) for v in (*p.base, *p.sources[0])} for p in parts]
    assert not seen[0] & seen[1]


def test_the_seed_decides_the_items() -> None:
    model = addition()
    assert counterfactuals(model, "carry", 20, seed=3).base == counterfactuals(model, "carry", 20, seed=3).base
    assert counterfactuals(model, "carry", 20, seed=3).base != counterfactuals(model, "carry", 20, seed=4).base


def test_rivals_disagree_as_often_as_they_can() -> None:
    model = addition()
    found = counterfactuals(model, "carry", 100, rivals=[(model, ("units",))])
    carry, units = found.changes(model, ["carry"]), found.changes(model, ["units"])
    assert int((carry & ~units).sum()) >= 20
    assert int((~carry & units).sum()) >= 20


def test_several_variables_have_sources_of_their_own() -> None:
    found = counterfactuals(addition(), ("carry", "units"), 60)
    assert found.which.any(1).all()
    assert not found.which.all(0).any()
    assert found.sources[0] != found.sources[1]


def test_items_whose_answer_never_changes_are_refused() -> None:
    model = CausalModel({"x": range(100)}, {"idle": lambda x: x, "out": lambda x: x % 2})
    with pytest.raises(InputError, match="never changed out"):
        counterfactuals(model, "idle", 20)
    with pytest.raises(UnknownName, match="nearest: idle"):
        counterfactuals(model, "idel", 20)


def test_drawings_name_every_variable() -> None:
    model = addition()
    for name in model.variables:
        assert name in str(model)
        assert f">{name}<" in model.to_svg({"carry": "resid_post.1"})
    assert "resid_post.1" in model.to_svg({"carry": "resid_post.1"})
