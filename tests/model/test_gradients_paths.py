"""Products with Jacobians, integrated gradients, gradients through splices and frozen parts: against differences, one
another, and the frozen linear path as graphs read it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model.families import close, ids
from model.five import FIVE, Sparse, double, five

import cutaway.model as cw
from cutaway.core import InputError
from cutaway.model.families import tiny
from cutaway.model.frozen import frozen_path
from cutaway.model.linear_path import apply_norm

LINEAR = ("pattern", "norm", "mlp")


def _each(logits: torch.Tensor) -> torch.Tensor:
    """One number a row, with curvature."""
    return logits[:, -1, 7] - logits[:, -1, 11] + 0.1 * logits[:, 3, 5] ** 2


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("family", FIVE)
def test_gradients_at_every_kind_of_point_are_finite_differences(family: str) -> None:
    """Several points in one backward, in an order that is not the forward's."""
    m, tokens = double(family), ids(2, 6)
    names = [p for p in m.points() if m.site(p).writable and m.site(p).layer == 1 and not p.startswith("expert")][::-1]
    run = m.run(tokens, read=names, grad=names, of=lambda logits: _each(logits).sum())
    for name in names:
        x = run[name]
        direction = _normal(*x.shape)
        direction = direction.tril() if name.startswith("attn_scores") else direction
        step = 1e-3 * float(x[x.abs() < 1e30].abs().mean())  # the families' own norms work in float32
        ends = [
            _each(m.run(tokens, interventions=[cw.patch(name, x + s * step * direction)]).logits).sum() for s in (1, -1)
        ]
        numeric = float(ends[0] - ends[1]) / (2 * step)
        assert float((run.grad[name] * direction).sum()) == pytest.approx(numeric, rel=3e-3, abs=1e-3), name
        # Downstream of another point's leaf, or not: the same gradient.
        alone = m.run(tokens, grad=[name], of=lambda logits: _each(logits).sum())
        assert close(alone.grad[name], run.grad[name], 1e-6), name


@pytest.mark.parametrize("family", FIVE)
def test_a_metric_for_each_row_gives_each_row_its_own_gradient(family: str) -> None:
    m, tokens = double(family), ids(3, 6)
    points = ["resid_pre.1", "attn_probs.1", "mlp_out.0"]
    rows = m.run(tokens, grad=points, of=_each)
    for row in range(3):
        alone = m.run(tokens[row], grad=points, of=lambda logits: _each(logits)[0])
        for point in points:
            assert close(rows.grad[point][row], alone.grad[point][0], 1e-6)


@pytest.mark.parametrize("family", FIVE)
@pytest.mark.parametrize("keep_error", [True, False])
def test_gradients_pass_through_a_splice(family: str, keep_error: bool) -> None:
    m, tokens = double(family), ids(2, 6)
    d = Sparse(dtype=torch.float64)
    at, before = "resid_post.1", "resid_pre.1"
    changes = [
        cw.splice(at, d, keep_error=keep_error, edit=lambda a: a * 1.5),
        cw.clamp_features("mlp_out.1", d, {2: 3.0}, positions=[1, 4]),
        cw.knock_out("attn_probs.2", head=1, query=slice(2, None), key=1),
    ]
    run = m.run(tokens, read=[before], interventions=changes, grad=[before], of=_each)
    direction = _normal(*run[before].shape)
    step = 1e-4
    ends = [
        _each(m.run(tokens, interventions=[cw.add(before, s * step * direction), *changes]).logits) for s in (1, -1)
    ]
    numeric = (ends[0] - ends[1]) / (2 * step)
    assert close((run.grad[before] * direction).sum((1, 2)), numeric, 1e-2)


@pytest.mark.parametrize("family", FIVE)
@pytest.mark.parametrize("freeze", [None, ("pattern",), ("norm",), ("mlp",), ("pattern", "norm"), LINEAR])
def test_products_forward_and_backward_agree_and_are_differences(family: str, freeze: Any) -> None:
    m, tokens = double(family), ids(2, 6)
    at, to = "resid_pre.1", "resid_post.2"
    v, w = _normal(2, 6, 48), _normal(2, 6, 48, seed=1)
    forward = cw.jvp(m, tokens, at, to, v, freeze=freeze)
    backward = cw.vjp(m, tokens, at, to, w, freeze=freeze)
    assert float((forward * w).sum()) == pytest.approx(float((backward * v).sum()), rel=1e-5)  # <w, J v> = <w J, v>
    held = None if freeze is None else cw.freeze(m.run(tokens), *freeze)
    step = 1e-3
    ends = [m.run(tokens, [to], [cw.add(at, s * step * v)], freeze=held)[to] for s in (1, -1)]
    assert close(forward, (ends[0] - ends[1]) / (2 * step), 5e-3)


@pytest.mark.parametrize(
    ("family", "freeze"),
    [("llama", ("gate",)), ("gemma2", ("gate", "norm")), ("mixtral", ("router",)), ("mixtral", ("router", "pattern"))],
)
def test_gradients_with_gates_and_routers_held(family: str, freeze: tuple[str, ...]) -> None:
    m, tokens, at = double(family), ids(2, 6), "resid_pre.1"
    held = cw.freeze(m.run(tokens), *freeze)
    detached = m.run(tokens, grad=[at], of=_each, freeze=freeze).grad[at]
    free = m.run(tokens, grad=[at], of=_each).grad[at]
    assert not close(detached, free, 1e-2)  # something passed through what is held now
    assert close(m.run(tokens, grad=[at], of=_each, freeze=held).grad[at], detached, 1e-6)
    v, step = _normal(2, 6, 48), 1e-3
    ends = [_each(m.run(tokens, interventions=[cw.add(at, s * step * v)], freeze=held).logits) for s in (1, -1)]
    assert close((detached * v).sum((1, 2)), (ends[0] - ends[1]) / (2 * step), 5e-3)


def test_products_between_points_of_every_kind() -> None:
    m, tokens = double("gemma2"), ids(2, 6)
    for at, to in [("z.0", "mlp_pre.2"), ("embeddings", "logits"), ("q.1", "attn_out.1"), ("mlp_act.1", "final_norm")]:
        run = m.run(tokens, read=[at, *([] if to == "logits" else [to])])
        x, y = run[at], run.logits if to == "logits" else run[to]
        v, w = _normal(*x.shape), _normal(*y.shape, seed=1)
        forward, backward = cw.jvp(m, tokens, at, to, v), cw.vjp(m, tokens, at, to, w)
        assert forward.shape == y.shape
        assert backward.shape == x.shape
        assert float((forward * w).sum()) == pytest.approx(float((backward * v).sum()), rel=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2"])
def test_the_frozen_path_is_the_one_that_graphs_read(family: str) -> None:
    m = double(family)
    tokens = ids(1, 7)
    path = frozen_path(m, tokens)
    v = _normal(7, 48)
    start = 1

    def through(vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The stream from layer `start` on with MLPs held: (mlp_in of the last layer, its end, logits)."""
        stream = path.layers[start].resid_pre + vector
        for index in range(start, path.n_layers):
            layer = path.layers[index]
            middle = stream + layer.attend(stream)
            norm = path.reading_norm(index)
            x = apply_norm(norm, stream if layer.parallel else middle) if norm is not None else middle
            stream = middle + layer.mlp_out_post
        logits = apply_norm(path.final_norm, stream) @ path.w_unembed.T
        return x, stream, logits

    last = m.facts.n_layers - 1
    expected = [a - b for a, b in zip(through(v), through(torch.zeros_like(v)))]
    at = f"resid_pre.{start}"
    for to, want in zip((f"mlp_in.{last}", f"resid_post.{last}"), expected):
        assert close(cw.jvp(m, tokens, at, to, v, path="frozen")[0], want, 1e-5), to
    if m.facts.logit_softcap is None:
        assert close(cw.jvp(m, tokens, at, "logits", v, path="frozen")[0], expected[2], 1e-5)
    w = _normal(1, 7, 48, seed=3)
    back = cw.vjp(m, tokens, at, f"resid_post.{last}", w, path="frozen")[0]
    assert float((back * v).sum()) == pytest.approx(float((w[0] * expected[1]).sum()), rel=1e-5)


def test_interventions_are_part_of_what_is_differentiated() -> None:
    m, tokens = double("gpt2"), ids(1, 6)
    changes = [cw.scale("resid_post.1", -2.0, positions=3)]
    v = _normal(1, 6, 48)
    product = cw.jvp(m, tokens, "resid_pre.1", "resid_post.1", v, interventions=changes)
    plain = cw.jvp(m, tokens, "resid_pre.1", "resid_post.1", v)
    plain[:, 3] *= -2.0
    assert close(product, plain, 1e-9)


def test_products_that_cannot_be() -> None:
    m, tokens = five("llama"), ids(1, 6)
    v = torch.ones(1, 6, 48)
    for make in (cw.jvp, cw.vjp):
        for args, how, match in [
            (("resid_post.2", "resid_pre.1", v), {}, "must come later"),
            (("mlp_in.1", "resid_post.2", v), {"path": "frozen"}, "pattern, norm, mlp held"),
            (("resid_pre.1", "resid_post.2", torch.ones(5)), {}, r"shape \[5\]"),
            (("resid_pre.1", "resid_post.2", v), {"path": "linear"}, "path"),
            (("resid_pre.1", "resid_post.2", v), {"path": "frozen", "freeze": ("norm",)}, "not both"),
            (("resid_pre.1", "resid_psot.2", v), {}, "resid_post"),
        ]:
            with pytest.raises(InputError, match=match):
                make(m, tokens, *args, **how)


def test_a_family_without_forward_derivatives_says_so() -> None:
    m = cw.load(tiny("bloom"))  # its GELU is written as a function with a backward alone
    with pytest.raises(InputError, match=r"no forward derivative.*vjp needs none"):
        cw.jvp(m, ids(1, 6), "resid_pre.1", "resid_post.2", torch.ones(48))
    assert cw.vjp(m, ids(1, 6), "resid_pre.1", "resid_post.2", torch.ones(48)).shape == (1, 6, 48)


# ---- integrated gradients


@pytest.mark.parametrize("family", FIVE)
@pytest.mark.parametrize("at", ["resid_pre.1", "z.2", "mlp_out.1"])
def test_integrated_gradients_add_up_to_the_change(family: str, at: str) -> None:
    m = double(family)
    clean, baseline = ids(2, 6), ids(2, 6, seed=3)
    # A router switches experts at a step, and what jumps no quadrature follows.
    held = cw.freeze(m.run(clean), "router") if family == "mixtral" else None
    found = cw.integrated_gradients(m, clean, baseline, at, _each, steps=24, freeze=held)
    source = cw.patch(at, m.run(baseline, read=[at]))
    change = _each(m.run(clean).logits) - _each(m.run(clean, interventions=[source], freeze=held).logits)
    assert close(found.change, change, 1e-9)
    assert float(found.error.abs().max()) < 5e-3 * max(1.0, float(change.abs().max()))
    assert close(found.attributions.flatten(1).sum(1) - found.error, change, 1e-9)


def test_where_the_metric_is_linear_one_step_is_exact_and_the_rest_is_its_gradient() -> None:
    m, tokens = double("gpt2"), ids(2, 6)
    x = m.run(tokens, read=["final_norm"])["final_norm"]
    found = cw.integrated_gradients(m, tokens, 0.0, "final_norm", lambda logits: logits[:, -1, 7], steps=1)
    assert float(found.error.abs().max()) < 1e-6
    gradient = m.run(tokens, grad=["final_norm"], of=lambda logits: logits[:, -1, 7]).grad["final_norm"]
    assert close(found.attributions, x * gradient, 1e-9)
    assert not found.by_position[:, :-1].any()


def test_more_steps_come_nearer_and_baselines_may_be_given_in_every_form() -> None:
    m, tokens = double("gemma2"), ids(2, 6)
    at = "resid_pre.2"
    errors = [float(cw.integrated_gradients(m, tokens, 0.0, at, _each, steps=n).error.abs().max()) for n in (1, 4, 32)]
    assert errors[2] < errors[1] < errors[0]
    run = m.run(ids(2, 6, seed=3), read=[at])
    forms = [ids(2, 6, seed=3), run, m.run(ids(2, 6, seed=3)), run[at]]
    found = [cw.integrated_gradients(m, tokens, form, at, _each, steps=2).attributions for form in forms]
    assert all(torch.equal(found[0], other) for other in found[1:])
    zeros = [
        cw.integrated_gradients(m, form, base, at, _each, steps=2).attributions
        for form, base in [(tokens, 0.0), (m.run(tokens), torch.zeros(48))]
    ]
    assert torch.equal(*zeros)
    total = cw.integrated_gradients(m, tokens, 0.0, at, lambda logits: _each(logits).sum(), steps=4)
    assert total.change.shape == total.error.shape == (1,)
    text = str(total)
    for part in ("integrated gradients at resid_pre.2, 4 steps", "row 1", "change of the metric"):
        assert part in text
    assert total.to_json()["schema"] == "cutaway.integrated_gradients/1"


def test_integrated_gradients_pass_through_interventions() -> None:
    m, tokens = double("llama"), ids(2, 6)
    changes = [cw.scale("mlp_out.1", 0.5), cw.splice("resid_post.1", Sparse(dtype=torch.float64), keep_error=False)]
    baseline = m.run(ids(2, 6, seed=3), read=["resid_pre.1"])
    found = cw.integrated_gradients(m, tokens, baseline, "resid_pre.1", _each, steps=100, interventions=changes)
    ends = [m.run(tokens, interventions=[*changes, *at]) for at in ([], [cw.patch("resid_pre.1", baseline)])]
    change = _each(ends[0].logits) - _each(ends[1].logits)
    assert close(found.change, change, 1e-9)
    assert float(found.error.abs().max()) < 0.01 * max(1.0, float(change.abs().max()))  # ReLU has corners


def test_integrated_gradients_that_cannot_be() -> None:
    m, tokens = five("llama"), ids(2, 6)
    for baseline, how, match in [
        (ids(2, 5), {}, "have .5, 5. tokens, the clean ones .6, 6."),
        (torch.zeros(7), {}, r"baseline has shape \[7\]"),
        (0.0, {"steps": 0}, "at least 1"),
        (0.0, {"freeze": ("pattern",)}, "at a run's values"),
    ]:
        with pytest.raises(InputError, match=match):
            cw.integrated_gradients(m, tokens, baseline, "resid_pre.1", _each, **how)
