"""What does not fit is said by name: places, causal models, answers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from abstraction.conftest import SHORT, addition
from torch import nn

import cutaway as cw
from cutaway.abstraction import CausalModel, align, neurons, subspace, whole
from cutaway.core import InputError, UnknownName


@pytest.mark.parametrize(
    ("place", "error", "said"),
    [
        (whole("resid_psot.1"), UnknownName, "resid_post.1"),
        (whole("resid_post.9"), InputError, "no layer 9"),
        (whole("resid_post.*"), InputError, "4 points"),
        (whole("attn_probs.1"), InputError, "a vector for each"),
        (whole("resid_post.1", "c"), UnknownName, "'c'"),
        (whole("resid_post.1", 5), InputError, "no position 5 in row 0, which has 5 tokens"),
        (whole("resid_post.1", ["a", 1]), InputError, "named twice"),
        (whole("resid_post.1", head=1), InputError, "no heads"),
        (whole("z.1", head=7), InputError, "no head 7"),
        (subspace("resid_post.1", dims=129), InputError, "128 wide, and 129"),
        (subspace("resid_post.1", basis=torch.eye(4)), InputError, "the basis given 4"),
        (neurons("resid_post.1", which=[128]), InputError, "no coordinate 128"),
        ("resid_post.1", InputError, "cw.subspace"),
    ],
)
def test_places_that_do_not_exist_are_named(almanac: Any, place: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        align(almanac, addition(), {"carry": place}, n=20, n_test=20, training=SHORT)


def test_causal_models_that_do_not_fit_the_network_are_refused(almanac: Any) -> None:
    def refused(said: str, causal: CausalModel, variable: str = "v", **more: Any) -> None:
        with pytest.raises(InputError, match=said):
            align(almanac, causal, {variable: whole("resid_post.1")}, n=20, n_test=20, **more)

    inputs, how = {"x": range(100)}, {"v": lambda x: x}
    refused("does not say how its inputs are put", CausalModel(inputs, how))
    refused("prompt= fails", CausalModel(inputs, how, prompt=lambda v: v["y"]))
    refused("not one token", CausalModel(inputs, how, prompt=lambda v: f"{v['x']} +", answer=lambda x: "no such"))
    refused("names no token", CausalModel(inputs, how, prompt=lambda v: f"{v['x']} +", answer=lambda x: []))
    refused("nearest: carry", addition(), "cary")
    refused("compared on the same inputs", addition(), "carry", rivals={"other": (CausalModel(inputs, how), "v")})
    with pytest.raises(InputError, match="at least 16"):
        align(almanac, addition(), {"carry": whole("resid_post.1")}, n=4, n_test=20)
    with pytest.raises(InputError, match="different numbers"):
        align(almanac, addition(), {"carry": whole("resid_post.1")}, n=20, n_test=20, seeds=(0, 0))


def test_an_answer_beyond_a_bare_networks_outputs_is_refused() -> None:
    causal = CausalModel(
        {"x": range(200)}, {"v": lambda x: x % 3}, prompt=lambda v: torch.full((4,), float(v["x"])), answer=int
    )
    with pytest.raises(InputError, match="names output 2, and Sequential has 2"):
        align(cw.load(nn.Sequential(nn.Linear(4, 2))), causal, {"v": whole("path.0")}, n=20, n_test=20)
