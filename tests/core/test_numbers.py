"""Numbers that a caller gives are what they are said to be, or an error names them; so at every call that takes one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cutaway as cw
from cutaway import evidence, steering
from cutaway.core import InputError
from cutaway.core.numbers import finite, seeded, whole

PROMPT = "Mary went to the shop"


@given(st.integers())
def test_whole_numbers_are_taken_as_they_are(value: int) -> None:
    assert whole(value, "n") == value
    assert (0 <= value < 2**63) == _taken(lambda: seeded(value))


@given(st.floats())
def test_what_is_finite_is_taken_and_all_else_is_not(value: float) -> None:
    assert _taken(lambda: finite(value, "x")) == math.isfinite(value)
    assert _taken(lambda: finite(value, "x", 0.0, 1.0)) == (0.0 <= value <= 1.0)
    assert not _taken(lambda: whole(value, "n"))


@pytest.mark.parametrize("value", [np.int64(3), np.uint8(3), torch.tensor(3)])
def test_whole_numbers_of_other_libraries(value: Any) -> None:
    assert whole(value, "n", 3, 3) == 3


@pytest.mark.parametrize("value", [True, "3", None, [3], object()])
def test_what_is_no_number(value: Any) -> None:
    for check in (whole, finite):
        with pytest.raises(InputError, match="n is a"):
            check(value, "n")


def _taken(call: Callable[[], Any]) -> bool:
    try:
        call()
    except InputError:
        return False
    return True


NAN = float("nan")
CALLS: dict[str, Callable[[cw.Model], Any]] = {
    "task seed": lambda m: cw.task("ioi", m, n=4, seed=-1),
    "add": lambda m: cw.add("resid_post.1", NAN),
    "scale": lambda m: cw.scale("resid_post.1", NAN),
    "clamp": lambda m: cw.clamp_features("mlp_out.1", object(), {1: NAN}),
    "resample": lambda m: cw.resample("z.1", m.run([PROMPT], read=["z.1"]), seed=-1),
    "reduce": lambda m: cw.reduce(project=torch.full((m.facts.d_model,), NAN)),
    "temperature": lambda m: m.generate(PROMPT, 2, temperature=NAN, seed=0),
    "a drawing's seed": lambda m: m.generate(PROMPT, 2, temperature=1.0, seed=-1),
    "stop": lambda m: m.generate(PROMPT, 2, stop=[NAN]),  # type: ignore[list-item]
    "plan tokens": lambda m: cw.plan(m, PROMPT, [[cw.zero("z.1")]], lambda x: x[:, 0], tokens=0),
    "plan memory": lambda m: cw.plan(m, PROMPT, [[cw.zero("z.1")]], lambda x: x[:, 0], memory=NAN),  # type: ignore[arg-type]
    "plan at": lambda m: cw.plan(m, PROMPT, [[cw.zero("z.1")]], lambda x: x[:, 0], at=NAN),  # type: ignore[arg-type]
    "gradient": lambda m: m.run(PROMPT, grad=["resid_post.1"], of=lambda x: x.sum() * NAN),
    "baseline": lambda m: cw.integrated_gradients(m, PROMPT, NAN, "embeddings", lambda x: x[:, -1, 0]),
    "strength": lambda m: steering.direction("resid_post.1", torch.ones(m.facts.d_model)).interventions(NAN),
    "rerandomise": lambda m: evidence.rerandomise(m, seed=-1),
    "step0": lambda m: evidence.step0(m, seed=NAN),  # type: ignore[arg-type]
    "head scores": lambda m: cw.head_scores(m, sequences=NAN),  # type: ignore[arg-type]
    "lens": lambda m: cw.lens(m, PROMPT, top=NAN),  # type: ignore[arg-type]
    "read": lambda m: m.run(PROMPT, read=3),  # type: ignore[arg-type]
    "interventions": lambda m: m.run(PROMPT, interventions=None),  # type: ignore[arg-type]
    "look": cw.look,
    "visualise": lambda m: cw.visualise(m, 3),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_call_takes_a_number_that_is_none(call: Callable[[cw.Model], Any], almanac: cw.Model) -> None:
    with pytest.raises(InputError):
        call(almanac)


@pytest.fixture(scope="module")
def almanac() -> cw.Model:
    return cw.load("almanac")
