"""AtP*'s corrections and relevance propagation, beside exact patching and beside backward passes written plainly."""

from dataclasses import replace

import pytest
import torch
from circuits.circuit_case import FAMILIES, Wide, model_of, task_of

import cutaway as cw
from cutaway.circuits import exact, opened
from cutaway.circuits.attribution import eap, eap_ig, eap_ig_activations
from cutaway.circuits.recomputed import atp_star, eap_qk
from cutaway.circuits.relevance import relp, rules
from cutaway.model.taps import tapped
from cutaway.toys.rasp.transformer import RaspConfig, RaspForCausalLM


def sharpened(family, factor):
    """A model whose queries are scaled: attention is flat for a small factor, saturated for a large one."""
    model = model_of(family)
    wires = opened(model)
    with torch.no_grad():
        for layer in wires.layers:
            projection = layer.projections["q"]
            raw = projection.site.module.weight
            columns = projection.site.columns
            transposed = raw.shape[0] == wires.d_model and raw.shape[1] != wires.d_model  # GPT-2 keeps W^T
            if columns is None:
                raw.mul_(factor)
            elif transposed:
                raw[:, columns] *= factor
            else:
                raw[columns] *= factor
            if projection.site.module.bias is not None:
                projection.site.module.bias[slice(None) if columns is None else columns] *= factor
    return opened(model)


def of_patterns(graph):
    return graph.exists & torch.tensor([name.endswith(("<q>", "<k>")) for name in graph.destinations])


def without_norms(*, queries, mlps):
    """A random model of the class of compiled programs: its norms are the identity. `queries`, `mlps`: scales."""
    config = RaspConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, head_dim=8, intermediate_size=24,
        max_position_embeddings=6,
    )  # fmt: skip
    torch.manual_seed(0)
    net = RaspForCausalLM(config).double()
    with torch.no_grad():
        for layer in net.model.layers:
            layer.self_attn.q_proj.weight *= queries
            layer.mlp.down_proj.weight *= mlps
    return opened(cw.load(net, tokenizer=None))


def linear(task):
    """The metric as one logit, which is linear."""
    return replace(task, metric=Wide("logit", lambda logits, _: logits[:, 7], task.metric.target))


def test_where_attention_is_nearly_flat_recomputing_it_is_the_gradient():
    wires, task = without_norms(queries=1e-4, mlps=1.0), task_of()
    plain, corrected = eap(wires, task), eap_qk(wires, task)
    index = of_patterns(wires.graph())
    assert plain[:, index].abs().max() > 0
    torch.testing.assert_close(corrected, plain, rtol=0, atol=1e-3 * float(plain[:, index].abs().max()))


def test_in_a_linear_model_eap_is_exact_and_so_are_its_kin():
    wires, task = without_norms(queries=0.0, mlps=0.0), linear(task_of())
    graph = wires.graph()
    truth = exact(wires, graph, task).nan_to_num(0)
    assert truth.abs().max() > 1e-2
    for scores in (eap(wires, task), eap_ig(wires, task), eap_ig_activations(wires, task),
                   eap_qk(wires, task), relp(wires, task)):  # fmt: skip
        torch.testing.assert_close(scores.double(), truth, rtol=0, atol=1e-9)
    # What goes straight into the logits passes no layer that could be dropped.
    torch.testing.assert_close(atp_star(wires, task)[:, :, -1].double(), truth[:, :, -1].abs(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_where_attention_is_saturated_recomputing_it_is_nearer_to_the_truth(family):
    wires, task = sharpened(family, 20.0), task_of()
    graph = wires.graph()
    index = of_patterns(graph)
    truth = exact(wires, graph, task, edges=index)[:, index]
    plain, corrected = (one(wires, task)[:, index].double() for one in (eap, eap_qk))
    assert (corrected - truth).norm() < 0.8 * (plain - truth).norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_recomputed_patterns_of_the_last_layer_are_nearly_exact(family):
    """Of the last layer's queries the effect goes through values and W_O, which are linear; only the norms and the MLP
    after them are not."""
    wires, task = opened(model_of(family)), task_of()
    graph = wires.graph()
    last = len(wires.layers) - 1
    index = graph.exists & torch.tensor(
        [name.startswith(f"a{last}.") and name.endswith("<q>") for name in graph.destinations]
    )
    truth = exact(wires, graph, task, edges=index)[:, index]
    scores = eap_qk(wires, task)[:, index].double()
    assert torch.corrcoef(torch.stack([truth.flatten(), scores.flatten()]))[0, 1] > 0.85


def test_gradients_dropped_layer_by_layer_are_those_of_models_with_that_layer_constant():
    wires, task = opened(model_of("gpt2")), task_of()
    graph = wires.graph()
    scores = atp_star(wires, task)
    assert (scores >= 0).all()
    # Edges from the input to the first MLP: of three gradients one drops its own layer.
    s, p = graph.edge("input", "m0")
    total = 0.0
    for dropped in (1, 2):
        layer = wires.layers[dropped]
        taps = [
            lambda m=m: m.register_forward_hook(lambda _, __, y: y[0].detach() if isinstance(y, tuple) else y.detach())
            for m in (layer.mlp_out.module,)
        ]
        taps.append(lambda m=layer.attn_out.module: m.register_forward_hook(
            lambda _, __, y: (y[0].detach(), *y[1:]) if isinstance(y, tuple) else y.detach()))  # fmt: skip
        with tapped(taps):
            total = total + eap(wires, task)[:, s, p].abs()
    torch.testing.assert_close(scores[:, s, p], total / 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rules_leave_the_forward_as_it_is(family):
    model, task = model_of(family), task_of()
    wires = opened(model)
    before = model.run(task.clean).logits
    with tapped(rules(wires, len(task))):
        after = model.run(task.clean).logits
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_relevance_of_an_mlp_and_its_norms_is_conserved(family):
    """What an MLP's input is worth is what its output is worth, biases aside: x [f(x) / x] and norms with a constant
    denominator are linear, and a gate's two factors share one product."""
    wires = opened(model_of(family))
    layer, model = wires.layers[1], wires.model
    x = torch.randn(2, 3, model.facts.d_model, dtype=torch.float64, requires_grad=True)
    for name, parameter in model.hf.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    block = model.architecture.block(1)
    mlp, norm = block.mlp, layer.mlp_norm.module
    with tapped(rules(wires, 2)):
        y = mlp(norm(x))
    y = y[0] if isinstance(y, tuple) else y
    weight = torch.randn_like(y)
    (gradient,) = torch.autograd.grad((y * weight).sum(), x)
    inner = (gradient * x).sum(-1)
    torch.testing.assert_close(inner, (y * weight).sum(-1).detach(), rtol=1e-4, atol=1e-5)


def test_relevance_is_nearer_to_exact_patching_than_the_gradient_over_families():
    found = {relp: [], eap: []}
    for family in FAMILIES:
        wires, task = opened(model_of(family)), task_of(n=2, width=4)
        graph = wires.graph()
        truth = exact(wires, graph, task).nan_to_num(0)[:, graph.exists].flatten()
        for method, values in found.items():
            scores = method(wires, task)[:, graph.exists].flatten().double()
            values.append(float(torch.corrcoef(torch.stack([scores, truth]))[0, 1]))
    assert sum(found[relp]) > sum(found[eap])
