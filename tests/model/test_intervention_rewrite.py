"""cw.rewrite: a point computed by a function."""

import pytest
import torch
from model.families import model

import cutaway as cw
from cutaway.core import InputError

IDS = torch.tensor([[1, 5, 9, 12, 3, 7], [4, 4, 8, 2, 11, 6]])


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
def test_a_rewrite_by_the_identity_changes_nothing_and_by_zero_is_zero(name):
    m = model(name)
    plain = m.run(IDS).logits
    same = m.run(IDS, interventions=[cw.rewrite("mlp_out.*", lambda y: y)])
    torch.testing.assert_close(same.logits, plain)
    zeroed = m.run(IDS, interventions=[cw.rewrite("attn_out.1", torch.zeros_like)]).logits
    torch.testing.assert_close(zeroed, m.run(IDS, interventions=[cw.zero("attn_out.1")]).logits)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
def test_an_mlp_computed_again_from_its_input_is_itself(name):
    m = model(name)
    run = m.run(IDS, read=["mlp_in.1", "mlp_out.1"])
    seen = []

    def function(y, x):
        seen.append((y, x))
        return 2 * y + x.mean(-1, keepdim=True)

    changed = m.run(IDS, read=["mlp_out.1"], interventions=[cw.rewrite("mlp_out.1", function, given="mlp_in.*")])
    torch.testing.assert_close(seen[0][0], run["mlp_out.1"])
    torch.testing.assert_close(seen[0][1], run["mlp_in.1"])
    torch.testing.assert_close(changed["mlp_out.1"], 2 * run["mlp_out.1"] + run["mlp_in.1"].mean(-1, keepdim=True))


def test_it_is_given_what_is_selected_alone():
    m = model("gpt2")
    shapes = []
    changes = [
        cw.rewrite(
            "mlp_out.0", lambda y, x: shapes.append((y.shape, x.shape)) or y + x, given="mlp_in.0", positions=[1, 3]
        )
    ]
    run = m.run(IDS, read=["mlp_out.0"], interventions=changes)
    plain = m.run(IDS, read=["mlp_out.0", "mlp_in.0"])
    assert shapes == [((2, 2, 48), (2, 2, 48))]
    torch.testing.assert_close(run["mlp_out.0"][:, 1], plain["mlp_out.0"][:, 1] + plain["mlp_in.0"][:, 1])
    torch.testing.assert_close(run["mlp_out.0"][:, 2], plain["mlp_out.0"][:, 2])


def test_gradients_flow_into_what_the_function_holds():
    m = model("llama")
    size = torch.ones((), requires_grad=True)

    def loss(factor):
        run = m.run(IDS, interventions=[cw.rewrite("mlp_out.1", lambda y: y * factor)], keep_graph=True)
        return run.logits.double().log_softmax(-1)[..., 3].mean()

    (gradient,) = torch.autograd.grad(loss(size), size)
    step = 1e-2
    difference = (loss(1 + step) - loss(1 - step)) / (2 * step)
    torch.testing.assert_close(gradient.double(), difference.detach(), rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: cw.rewrite("mlp_out.0", lambda y: y[:, :1]), "turned"),
        (lambda: cw.rewrite("mlp_out.0", lambda y: None), "not a tensor"),
        (lambda: cw.rewrite("mlp_in.0", lambda x, y: y, given="mlp_out.0"), "not reached"),
        (lambda: cw.rewrite("mlp_out.0", 3), "takes a function"),
        (lambda: cw.rewrite("mlp_out.0", lambda y, x: y, given="mlp_inn.0"), "mlp_in"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(InputError, match=message):
        model("gpt2").run(IDS, interventions=[change()])


def test_it_is_no_json():
    with pytest.raises(InputError, match="cannot be written as JSON"):
        cw.rewrite("mlp_out.0", torch.zeros_like).to_json()
