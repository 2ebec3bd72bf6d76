"""What is read after an intervention is what its equation says, and the rest of the model runs on that."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from model.families import close, ids
from model.five import FIVE, Sparse, five
from torch import Tensor

import cutaway.model as cw

D = Sparse()
V = torch.randn(48, generator=torch.Generator().manual_seed(1))
B = torch.linalg.qr(torch.randn(48, 3, generator=torch.Generator().manual_seed(2))).Q.T  # [3, 48], orthonormal
DRAWN = torch.randint(5, (3,), generator=torch.Generator().manual_seed(7))

Make = Callable[[str, cw.Run, cw.Run], cw.Intervention]
Law = Callable[[Tensor, Tensor, Tensor], Tensor]  # x, the other run's, the reference's -> what comes there

EQUATIONS: dict[str, tuple[Make, Law]] = {
    "zero": (lambda at, o, r: cw.zero(at), lambda x, o, r: torch.zeros_like(x)),
    "mean": (lambda at, o, r: cw.mean(at, over=r), lambda x, o, r: r.mean((0, 1)).expand_as(x)),
    "mean by position": (
        lambda at, o, r: cw.mean(at, over=r, per_position=True),
        lambda x, o, r: r.mean(0).expand_as(x),
    ),
    "resample": (lambda at, o, r: cw.resample(at, r, seed=7), lambda x, o, r: r[DRAWN]),
    "patch": (lambda at, o, r: cw.patch(at, o), lambda x, o, r: o),
    "add": (lambda at, o, r: cw.add(at, V), lambda x, o, r: x + V),
    "scale": (lambda at, o, r: cw.scale(at, -1.5), lambda x, o, r: -1.5 * x),
    "project_out": (lambda at, o, r: cw.project_out(at, B * 3), lambda x, o, r: x - x @ B.T @ B),
    "interchange": (lambda at, o, r: cw.interchange(at, B, o), lambda x, o, r: x + (o - x) @ B.T @ B),
    "splice": (lambda at, o, r: cw.splice(at, D, keep_error=False), lambda x, o, r: D.decode(D.encode(x))),
    "clamp_features": (
        lambda at, o, r: cw.clamp_features(at, D, {3: 2.0, 5: 0.5}),
        lambda x, o, r: x + (2.0 - D.encode(x)[..., 3:4]) * D.W_dec[3] + (0.5 - D.encode(x)[..., 5:6]) * D.W_dec[5],
    ),
    "ablate_features": (
        lambda at, o, r: cw.ablate_features(at, D, [3, 5]),
        lambda x, o, r: x - D.encode(x)[..., [3, 5]] @ D.W_dec[[3, 5]],
    ),
    "scale_features": (
        lambda at, o, r: cw.scale_features(at, D, 3, 4.0, keep_error=False),
        lambda x, o, r: D.decode(D.encode(x)) + 3 * D.encode(x)[..., 3:4] * D.W_dec[3],
    ),
}


@pytest.mark.parametrize("family", FIVE)
@pytest.mark.parametrize("name", EQUATIONS)
def test_the_equation(family: str, name: str) -> None:
    make, law = EQUATIONS[name]
    m, tokens = five(family), ids(3, 7)
    at = "mlp_out.1"
    clean, other = m.run(tokens, read=[at])[at], m.run(ids(3, 7, seed=5), read=[at])
    reference = m.run(ids(5, 7, seed=8), read=[at])
    change = make(at, other, reference)
    expected = law(clean, other[at], reference[at])
    run = m.run(tokens, read=[at], interventions=[change])
    assert close(run[at], expected, 1e-5)
    assert close(run.logits, m.run(tokens, interventions=[cw.patch(at, expected)]).logits, 1e-5)
    assert run.fired.rows[0].entries == clean.numel()
    assert run.fired.rows[0].rms == pytest.approx(float((expected - clean).pow(2).mean().sqrt()), rel=1e-4)

    some = make(at, other, reference)
    part = type(some)(**{**vars(some), "select": cw.zero(at, positions=[1, -2], rows=[0, 2]).select})
    where = torch.zeros(3, 7, 1, dtype=torch.bool)
    where[[0, 0, 2, 2], [1, 5, 1, 5]] = True
    selected = m.run(tokens, read=[at], interventions=[part])[at]
    assert close(selected, torch.where(where, expected, clean), 1e-5)


@pytest.mark.parametrize("family", FIVE)
def test_a_head_of_each_kind_and_a_neuron(family: str) -> None:
    m, tokens = five(family), ids(2, 7)
    points = [("z.1", {"head": 2}), ("q.1", {"head": 5}), ("value.1", {"kv_head": -1}), ("k.1", {"kv_head": 0})]
    if m.refuses("mlp_act.1") is None:
        points.append(("mlp_act.1", {"neuron": [0, -1]}))
    for at, where in points:
        clean = m.run(tokens, read=[at])[at]
        changed = m.run(tokens, read=[at], interventions=[cw.add(at, 1.0, **where)])[at]
        (chosen,) = where.values()
        expected = clean.clone()
        expected[:, :, chosen] += 1.0
        assert close(changed, expected), at


@pytest.mark.parametrize("family", FIVE)
def test_composition_is_in_the_order_of_the_list_at_a_point_and_of_the_forward_between_points(family: str) -> None:
    m, tokens = five(family), ids(2, 7)
    at = "resid_pre.1"
    x = m.run(tokens, read=[at])[at]
    steps = [cw.add(at, V), cw.project_out(at, B), cw.scale(at, 2.0), cw.clamp_features(at, D, {3: 2.0})]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        expected = x
        for number in order:
            alone = m.run(tokens, read=[at], interventions=[cw.patch(at, expected), steps[number]])
            expected = alone[at]
        assert close(m.run(tokens, read=[at], interventions=[steps[i] for i in order])[at], expected, 1e-5)
    later = cw.zero("mlp_out.1", positions=-1)
    one = m.run(tokens, interventions=[later, steps[0]])
    assert torch.equal(one.logits, m.run(tokens, interventions=[steps[0], later]).logits)
