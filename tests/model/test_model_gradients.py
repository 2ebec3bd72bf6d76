"""Gradients are those of finite differences; what is frozen is frozen, and the rest is then linear."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from model.families import OPEN, REQUIRED, close, ids, model, module

import cutaway.model as cw
from cutaway.core import InputError

LINEAR = (*OPEN, "gemma3", "granite", "olmo2", "phi3")


def _target(logits: torch.Tensor) -> torch.Tensor:
    """Depends on every row, with curvature."""
    return (logits[:, -1, 7] - logits[:, -1, 11] + 0.1 * logits[:, 3, 5] ** 2).sum()


@pytest.mark.parametrize("family", REQUIRED)
def test_gradients_are_finite_differences(family: str) -> None:
    m = cw.load(module(family).double())
    tokens = ids(2, 6)
    names = [p for p in m.points() if m.site(p).writable and m.site(p).layer in (None, 1)]
    run = m.run(tokens, read=names, grad=names, of=_target)
    assert close(run.logits, m.run(tokens).logits, 1e-5)
    for name in names:
        x, gradient = run[name], run.grad[name]
        direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
        if name.startswith("attn_scores"):
            direction = direction.tril()
        step = 1e-3 * float(x[x.abs() < 1e30].abs().mean())  # the families' own norms work in float32
        up, down = (
            _target(m.run(tokens, interventions=[cw.patch(name, x + sign * step * direction)]).logits)
            for sign in (1, -1)
        )
        numeric = float(up - down) / (2 * step)
        analytic = float((gradient * direction).sum())
        assert analytic == pytest.approx(numeric, rel=2e-3, abs=1e-4), name


def test_gradients_pass_through_interventions() -> None:
    m, tokens = cw.load(module("llama").double()), ids(1, 6)
    vector = torch.randn(48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def at(steer: float) -> cw.Run:
        changes = [
            cw.add("resid_post.0", steer * vector, positions=2),
            cw.zero("z.1", head=3),
            cw.scale("mlp_out.1", 0.5),
        ]
        return m.run(tokens, interventions=changes, grad=["resid_post.0"], of=_target)

    slope = float(_target(at(1e-2).logits) - _target(at(-1e-2).logits)) / 2e-2  # norms are float32
    assert float(at(0).grad["resid_post.0"][0, 2] @ vector) == pytest.approx(slope, rel=1e-3)


def test_gradients_answer_to_the_same_names_and_only_to_those_asked_for() -> None:
    run = model("gpt2").run(ids(), grad=["resid_post.*"], of=_target)
    assert torch.equal(run.grad["blocks.1.hook_resid_post"], run.grad["resid_post.1"])
    with pytest.raises(InputError, match="no gradient was asked for"):
        run.grad["z.1"]
    with pytest.raises(InputError, match="of="):
        model("gpt2").run(ids(), grad=["resid_post.1"])
    with pytest.raises(InputError, match="one number"):
        model("gpt2").run(ids(), grad=["resid_post.1"], of=lambda logits: logits)
    with pytest.raises(InputError, match="does not depend"):
        model("gpt2").run(ids(), grad=["resid_post.1"], of=lambda logits: torch.zeros(()))
    assert run.logits.requires_grad is False


def test_derivatives_of_ones_own_through_a_kept_graph() -> None:
    m, tokens = model("llama"), ids(1)
    run = m.run(tokens, read=["resid_pre.1", "mlp_pre.2"], grad=["resid_pre.1"], keep_graph=True)
    (mine,) = torch.autograd.grad(run["mlp_pre.2"][0, 5, 9], run.leaves["resid_pre.1"])
    shifted = [
        m.run(tokens, ["mlp_pre.2"], [cw.add("resid_pre.1", sign * 1e-2 * mine / mine.norm())])["mlp_pre.2"][0, 5, 9]
        for sign in (1, -1)
    ]
    assert float(shifted[0] - shifted[1]) / 2e-2 == pytest.approx(float(mine.norm()), rel=1e-2)


@pytest.mark.parametrize("family", LINEAR)
@pytest.mark.parametrize("parts", [("pattern",), ("norm",), ("pattern", "norm")])
def test_freezing_at_a_runs_own_values_changes_nothing(family: str, parts: tuple[str, ...]) -> None:
    m, tokens = model(family), ids(2, 10)
    clean = m.run(tokens)
    assert close(m.run(tokens, freeze=cw.freeze(clean, *parts)).logits, clean.logits)
    assert close(m.run(tokens, freeze=parts).logits, clean.logits)


def _linear_part(m: cw.Model, tokens: torch.Tensor) -> Callable[[torch.Tensor | None], torch.Tensor]:
    """lm_head's output as a function of a vector added to the stream, with patterns, norm scales and MLPs held."""
    clean = m.run(tokens, read=["mlp_out_post.*"])
    frozen = cw.freeze(clean)
    held = [cw.patch("mlp_out_post.*", clean)]

    def output(vector: torch.Tensor | None) -> torch.Tensor:
        added = [] if vector is None else [cw.add("resid_pre.1", vector, positions=3)]
        return m.run(tokens, read=["lm_head"], interventions=[*added, *held], freeze=frozen)["lm_head"]

    return output


@pytest.mark.parametrize("family", LINEAR)
def test_with_patterns_norms_and_mlps_held_the_model_is_affine_in_its_stream(family: str) -> None:
    m = cw.load(module(family).double())
    output = _linear_part(m, ids(1, 8))
    a, b = (3 * torch.randn(m.facts.d_model, generator=torch.Generator().manual_seed(s)).double() for s in (1, 2))
    base = output(None)
    change = output(a) - base
    assert change.abs().max() > 1e-3
    assert close(output(2 * a - 3 * b) - base, 2 * change - 3 * (output(b) - base), 1e-6)


@pytest.mark.parametrize("family", LINEAR)
def test_detaching_gives_the_gradient_of_the_linear_part(family: str) -> None:
    m, tokens = cw.load(module(family).double()), ids(1, 8)
    vector = torch.randn(m.facts.d_model, generator=torch.Generator().manual_seed(1)).double()
    output = _linear_part(m, tokens)
    expected = (output(vector) - output(None))[0, -1, 7]
    clean = m.run(tokens, read=["mlp_out_post.*"])
    # With the MLPs held by patches, detached patterns and scales leave the same linear map to differentiate.
    run = m.run(
        tokens,
        read=["lm_head"],
        interventions=[cw.patch("mlp_out_post.*", clean)],
        grad=["resid_pre.1"],
        freeze=("pattern", "norm"),
        keep_graph=True,
    )
    (gradient,) = torch.autograd.grad(run["lm_head"][0, -1, 7], run.leaves["resid_pre.1"])
    assert float(gradient[0, 3] @ vector) == pytest.approx(float(expected), rel=1e-6)


def test_frozen_values_of_one_row_serve_many_rows() -> None:
    m = model("gemma2")
    tokens = ids(1, 7)
    frozen = cw.freeze(m.run(tokens))
    many = m.run(tokens.expand(5, -1), freeze=frozen)
    assert close(many.logits, m.run(tokens).logits.expand(5, -1, -1))
    with pytest.raises(InputError, match="1 rows of 7 tokens"):
        m.run(ids(1, 8), freeze=frozen)
    with pytest.raises(InputError, match="3 rows"):
        m.run(tokens.expand(2, -1), freeze=cw.freeze(m.run(ids(3, 7))))


def test_freezing_holds_a_run_that_was_intervened_on() -> None:
    m, tokens = model("llama"), ids()
    changed = m.run(tokens, read=["attn_probs.2"], interventions=[cw.zero("resid_post.0", positions=2)])
    run = m.run(tokens, read=["attn_probs.2"], freeze=cw.freeze(changed, "pattern"))
    assert close(run["attn_probs.2"], changed["attn_probs.2"])


def test_what_cannot_be_frozen_says_why() -> None:
    with pytest.raises(InputError, match="no gates"):
        model("gpt2").run(ids(), freeze=("gate",))
    with pytest.raises(InputError, match="no routers"):
        model("llama").run(ids(), freeze=("router",))
    with pytest.raises(InputError, match="nearest: pattern"):
        model("llama").run(ids(), freeze=("patern",))
