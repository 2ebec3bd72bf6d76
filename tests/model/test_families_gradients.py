"""Every family: gradients at its points are finite differences, and frozen parts pass none."""

from __future__ import annotations

import pytest
import torch
from model.families import EVERY, OWN_ATTENTION, PIXELS, READING_SOURCE, close, ids, images, module
from torch import Tensor

import cutaway as cw


def _double(family: str) -> tuple[cw.Model, cw.Run | object]:
    m = cw.load(module(family), dtype="float64")
    if family in PIXELS:
        return m, m.batch(images().double())
    return m, m.batch(ids(), source=ids(2, 7, 100) if family in READING_SOURCE else None)


@pytest.mark.parametrize("family", EVERY)
def test_gradients_are_finite_differences(family: str) -> None:
    m, batch = _double(family)
    points = ["embeddings", "resid_pre.1", "q_rot.1", "attn_probs.1", "value.0", "z.1", "mlp_in.2", "resid_post.1"]
    if family in READING_SOURCE:
        points += ["cross_probs.1", "cross_value.1"]
    clean = m.run(batch, read=points)
    weight = torch.randn(clean.logits.shape, generator=torch.Generator().manual_seed(0)).double()

    def of(logits: Tensor) -> Tensor:
        return (logits.double() * weight).sum()

    grad = m.run(batch, grad=points, of=of).grad
    for address in points:
        x, gradient = clean[address], grad[address].double()
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
        # Along the gradient, where the change stands out of float32 (some norms and routers compute in it), and off it.
        direction = gradient / gradient.norm() + noise / noise.norm()
        expected = float((gradient * direction).sum())
        apart = []
        for size in (1e-3, 1e-2, 1e-4):  # a step may cross a ReLU's kink, or change an expert: not all three do
            ends = [m.run(batch, interventions=[cw.patch(address, x + s * size * direction)]) for s in (1, -1)]
            apart.append(abs(float(of(ends[0].logits) - of(ends[1].logits)) / (2 * size) / expected - 1))
            if apart[-1] < 5e-3:
                break
        assert min(apart) < 5e-3, (address, apart)


@pytest.mark.parametrize("family", [*OWN_ATTENTION, "t5_encoder", "clip_text", "dinov2"])
def test_a_detached_pattern_passes_the_gradient_of_a_stored_one(family: str) -> None:
    m, batch = _double(family)
    stored = cw.freeze(m.run(batch), "pattern")
    detached, held = (
        m.run(batch, grad=["resid_pre.1"], of=lambda logits: logits[0, -1].sum(), freeze=freeze).grad["resid_pre.1"]
        for freeze in ("pattern", stored)
    )
    free = m.run(batch, grad=["resid_pre.1"], of=lambda logits: logits[0, -1].sum()).grad["resid_pre.1"]
    assert close(detached, held, 1e-6)
    assert not close(detached, free, 1e-4)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_with_patterns_norms_and_mlps_held_a_post_norm_stack_is_affine(family: str) -> None:
    m, batch = _double(family)
    clean = m.run(batch, read=["mlp_out.*"])
    frozen, held = cw.freeze(clean, "pattern", "norm"), [cw.patch("mlp_out.*", clean)]

    def output(vector: Tensor) -> Tensor:
        added = cw.add("resid_pre.1", vector, positions=3)
        return m.run(batch, ["resid_post.2"], [added, *held], freeze=frozen)["resid_post.2"]

    a, b = (torch.randn(48, generator=torch.Generator().manual_seed(s)).double() for s in (1, 2))
    base = output(torch.zeros(48).double())
    assert (output(a) - base).abs().max() > 1e-3
    assert close(output(2 * a - 3 * b) - base, 2 * (output(a) - base) - 3 * (output(b) - base), 1e-6)
