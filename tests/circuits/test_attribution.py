"""Gradient scores beside the masked forward that they are gradients of."""

import pytest
import torch
from circuits.circuit_case import FAMILIES, model_of, task_of

from cutaway.circuits import measure, opened
from cutaway.circuits.attribution import eap, eap_ig, eap_ig_activations, mask_ig
from cutaway.circuits.masked import columns, masked_logits
from cutaway.circuits.nodes import attribution_patching
from cutaway.circuits.senders import Senders, ablated, record
from cutaway.core import InputError

ROWS = torch.arange(3)


def mask_gradient(wires, task, alpha, ablation="resample"):
    """d metric / d mask with every mask at alpha, by autograd through the masked forward: a stream for every port."""
    graph = wires.graph()
    mask = torch.full((3, *graph.exists.shape), alpha, dtype=torch.float64, requires_grad=True)
    other = ablated(wires, task, ablation)(ROWS)
    value = task.metric(masked_logits(wires, task.clean, other, mask, columns(task))).sum()
    return torch.autograd.grad(value, mask)[0] * graph.exists


@pytest.mark.parametrize("family", FAMILIES)
def test_eap_is_the_slope_of_the_masked_forward_by_finite_differences(family):
    wires, task = opened(model_of(family)), task_of(lengths=[6, 5, 4])
    graph = wires.graph()
    # Hugging Face's RMSNorms compute in float32, which a small step would drown in.
    h, atol = (1e-2, 5e-3) if family in ("llama", "gemma2", "olmo2") else (1e-4, 1e-6)
    index = graph.exists.nonzero()[::61]
    rows, (s, d) = torch.arange(len(index)), index.T
    masks = graph.exists.double().repeat(2, len(index), 1, 1)
    masks[0, rows, s, d] += h
    masks[1, rows, s, d] -= h
    above, below = measure(wires, graph, task, masks.flatten(0, 1), "resample").unflatten(0, (2, -1))
    torch.testing.assert_close(eap(wires, task)[:, s, d].T, (above - below) / (2 * h), rtol=1e-2, atol=atol)


@pytest.mark.parametrize(
    ("family", "ablation"), [*((family, "resample") for family in FAMILIES), ("gpt2", "mean"), ("gemma2", "zero")]
)
def test_lean_edges_are_autograd_through_a_stream_for_every_port(family, ablation):
    wires, task = opened(model_of(family)), task_of()
    tolerance = {"rtol": 1e-6, "atol": 1e-5}  # Hugging Face's RMSNorms compute in float32
    torch.testing.assert_close(eap(wires, task, ablation), mask_gradient(wires, task, 1.0, ablation), **tolerance)
    steps = 2
    along = sum(mask_gradient(wires, task, k / steps, ablation) for k in range(steps + 1)) / (steps + 1)
    torch.testing.assert_close(mask_ig(wires, task, ablation, steps=steps), along, **tolerance)


def test_mask_ig_adds_up_to_what_ablating_everything_costs():
    wires, task = opened(model_of("llama")), task_of()
    graph = wires.graph()
    whole, empty = measure(wires, graph, task, torch.stack([graph.exists, graph.exists & False]), "resample")
    total = mask_ig(wires, task, steps=16).sum((1, 2))
    torch.testing.assert_close(total, whole - empty, rtol=0, atol=0.1 * float((whole - empty).abs().max()))


def test_eap_ig_is_eap_of_the_runs_along_the_line_with_the_messages_of_its_ends():
    wires, task = opened(model_of("gpt2")), task_of()
    model, steps = wires.model, 3
    clean, other = record(wires, task.clean), record(wires, task.counterfactual)
    delta = clean - other
    expected = 0
    for k in range(1, steps + 1):
        start = other.start + k / steps * delta.start
        # A model whose tokens are these streams: the first block is entered by `start` itself.
        handle = model.hf.transformer.h[0].register_forward_pre_hook(lambda m, args, start=start: (start, *args[1:]))
        here = record(wires, task.clean)
        mask = torch.ones(3, len(wires.split.sources), len(wires.split.ports), dtype=torch.float64, requires_grad=True)
        # A mask's slope is (current - ablated) . gradient: ablated is set a clean-to-ablated step away from current.
        away = Senders(
            here.start - delta.start,
            tuple(a - b for a, b in zip(here.u, delta.u)),
            tuple(a - b for a, b in zip(here.mlp, delta.mlp)),
            here.neurons,
        )
        value = task.metric(masked_logits(wires, task.clean, away, mask, columns(task))).sum()
        handle.remove()
        expected = expected + torch.autograd.grad(value, mask)[0] * wires.split.exists / steps
    torch.testing.assert_close(eap_ig(wires, task, steps=steps), expected, rtol=0, atol=1e-9)


def test_left_and_right_points_differ_by_the_ends_of_the_line_and_the_midpoint_lies_between():
    """Sums over k: m left + gradient at the clean end = m right + gradient at the ablated end; points of 2 m parts are
    those of m parts and their midpoints."""
    wires, task = opened(model_of("gpt2")), task_of()
    m = 3
    clean_end, ablated_end = eap_ig(wires, task, steps=1), eap_ig(wires, task, steps=1, points="left")
    left, right = eap_ig(wires, task, steps=m, points="left"), eap_ig(wires, task, steps=m)
    torch.testing.assert_close(m * left + clean_end, m * right + ablated_end, rtol=0, atol=1e-9)
    middle = eap_ig(wires, task, steps=m, points="midpoint")
    torch.testing.assert_close(middle + right, 2 * eap_ig(wires, task, steps=2 * m), rtol=0, atol=1e-9)
    with pytest.raises(InputError, match="points"):
        eap_ig(wires, task, points="centre")


@pytest.mark.parametrize("family", ["gpt2", "falcon", "gemma2"])
def test_eap_ig_activations_adds_up_to_what_patching_a_layers_output_costs(family):
    """Each source's line of integration starts at its layer's own ablation: the scores of the last MLP, whose one edge
    leads to the logits, tend to what ablating it costs."""
    wires, task = opened(model_of(family)), task_of()
    graph = wires.graph()
    s, d = graph.edge("m2", "logits")
    mask = graph.exists.clone()
    mask[s, d] = False
    lost = measure(wires, graph, task, graph.exists, "resample") - measure(wires, graph, task, mask, "resample")
    found = eap_ig_activations(wires, task, steps=8)[:, s, d] if family == "gpt2" else None
    if found is not None:
        torch.testing.assert_close(found, lost, rtol=0.1, atol=0.1)
    few = eap_ig_activations(wires, task, steps=1)
    torch.testing.assert_close(few, eap(wires, task), rtol=0, atol=1e-5)  # one step is the clean run itself
    torch.testing.assert_close(eap_ig(wires, task, steps=1), eap(wires, task), rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_a_nodes_edges_add_up_to_attribution_patching_of_the_node(family):
    wires, task = opened(model_of(family)), task_of()
    model, graph = wires.model, wires.graph()
    run = model.run(
        task.clean, grad=["z.*", "mlp_out_post.*"], of=lambda logits: task.metric(task.at_end(logits)).sum(),
        read=["z.*", "mlp_out_post.*"],
    )  # fmt: skip
    other = model.run(task.counterfactual, read=["z.*", "mlp_out_post.*"])
    found = attribution_patching(wires, graph, task)[:, :, -1]
    for point in run.grad:
        layer = point.split(".")[1]
        product = (run[point] - other[point]) * run.grad[point]
        if point.startswith("z"):
            first = graph.source(f"a{layer}.h0")
            per_head = product.sum((1, 3))
            torch.testing.assert_close(found[:, first : first + per_head.shape[1]], per_head, rtol=0, atol=1e-5)
        else:
            torch.testing.assert_close(found[:, graph.source(f"m{layer}")], product.sum((1, 2)), rtol=0, atol=1e-5)


def test_weights_are_left_as_they_were_and_so_is_the_model():
    wires, task = opened(model_of("gpt2")), task_of()
    wires.model.hf.requires_grad_(True)
    before = wires.model.run(task.clean).logits.detach()
    eap(wires, task)
    assert all(p.requires_grad and p.grad is None for p in wires.model.hf.parameters())
    assert torch.equal(wires.model.run(task.clean).logits, before)
    with pytest.raises(InputError, match="at least one step"):
        eap_ig(wires, task, steps=0)
    with pytest.raises(InputError, match="no gradient"):
        eap(wires, task.with_metric("accuracy"))
    assert torch.equal(wires.model.run(task.clean).logits, before)  # nothing is left behind by a failure
