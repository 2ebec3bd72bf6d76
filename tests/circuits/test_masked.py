"""Laws of the masked forward."""

import pytest
import torch
from circuits.circuit_case import FAMILIES, model_of, task_of, values

import cutaway as cw
from cutaway.circuits import exact, measure, opened
from cutaway.circuits.senders import ablated, record
from cutaway.core import InputError, UnknownName


@pytest.mark.parametrize("family", FAMILIES)
def test_all_edges_in_is_the_model_and_all_out_the_counterfactuals_run(family):
    model, task = model_of(family), task_of(lengths=[6, 4, 5])
    wires = opened(model)
    graph = wires.graph()
    whole, empty = measure(wires, graph, task, torch.stack([graph.exists, graph.exists & False]), "resample")
    torch.testing.assert_close(whole, values(model, task, task.clean), rtol=0, atol=1e-5)
    torch.testing.assert_close(empty, values(model, task, task.counterfactual), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("family", "split"), [*((family, True) for family in FAMILIES), ("llama", False)])
def test_one_edge_out_is_that_edge_patched_by_itself(family, split):
    wires, task = opened(model_of(family)), task_of()
    graph = wires.graph(split)
    index = graph.exists.nonzero()[::61]
    without = graph.exists.repeat(len(index), 1, 1)
    without[torch.arange(len(index)), index[:, 0], index[:, 1]] = False
    whole = measure(wires, graph, task, graph.exists, "resample")
    masked = whole[None] - measure(wires, graph, task, without, "resample")
    chosen = torch.zeros_like(graph.exists)
    chosen[index[:, 0], index[:, 1]] = True
    by_itself = exact(wires, graph, task, edges=chosen)
    torch.testing.assert_close(masked, by_itself[:, index[:, 0], index[:, 1]].T, rtol=0, atol=1e-5)
    assert by_itself[:, ~chosen].isnan().all()


def test_an_edge_between_heads_is_path_patching_written_plainly():
    """From Hugging Face's own weights: the query of a1.h4 without what a0.h1 wrote, in a Llama with shared keys."""
    model, task = model_of("llama"), task_of()
    hf, h, d = model.hf.model, 1, model.facts.d_head
    clean, other = (model.run(x, read=["z.0", "resid_pre.1", "q.1", "k.1"]) for x in (task.clean, task.counterfactual))
    w_out = hf.layers[0].self_attn.o_proj.weight[:, h * d : (h + 1) * d]
    with torch.no_grad():
        stream = clean["resid_pre.1"] + (other["z.0"] - clean["z.0"])[:, :, h] @ w_out.T
        x = hf.layers[1].input_layernorm(stream)
        query, key = (
            f(x).unflatten(-1, (-1, d)) for f in (hf.layers[1].self_attn.q_proj, hf.layers[1].self_attn.k_proj)
        )
    wires = opened(model)
    graph = wires.graph()
    base = values(model, task, task.clean)
    for name, change in {
        "a1.h4<q>": cw.patch("q.1", query, head=4),
        "a1.kv2<k>": cw.patch("k.1", key, head=2),
    }.items():
        patched = task.metric(task.at_end(model.run(task.clean, interventions=[change]))).double()
        s, e = graph.edge("a0.h1", name)
        mask = graph.exists.clone()
        mask[s, e] = False
        torch.testing.assert_close(measure(wires, graph, task, mask, "resample"), patched, rtol=0, atol=1e-5)
        assert (base - patched).abs().max() > 1e-4


def test_all_edges_of_a_head_out_is_that_head_patched():
    model, task = model_of("gpt2"), task_of()
    wires = opened(model)
    graph = wires.graph()
    mask = graph.exists.clone()
    mask[graph.source("a1.h2")] = False
    z = model.run(task.counterfactual, read=["z.1"])["z.1"]
    run = model.run(task.clean, interventions=[cw.patch("z.1", z, head=2)])
    torch.testing.assert_close(
        measure(wires, graph, task, mask, "resample"), task.metric(task.at_end(run)).double(), rtol=0, atol=1e-9
    )


def test_many_masks_in_one_batch_are_the_same_as_each_alone_and_padding_changes_nothing():
    wires, task = opened(model_of("gpt_neox")), task_of(n=4, width=7, lengths=[7, 4, 5, 6])
    graph = wires.graph()
    masks = torch.rand(5, *graph.exists.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    together = measure(wires, graph, task, masks, "resample")
    alone = torch.stack([measure(wires, graph, task, mask, "resample", tokens=1) for mask in masks])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)


def test_a_mean_is_of_the_counterfactuals_of_one_template_at_each_position():
    model, task = model_of("gpt2"), task_of(n=4, templates=[0, 1, 0, 1])
    wires = opened(model)
    mean = ablated(wires, task, "mean")(torch.tensor([3, 0]))
    written = record(wires, task.counterfactual)
    torch.testing.assert_close(mean.mlp[1][0], written.mlp[1][[1, 3]].mean(0))
    torch.testing.assert_close(mean.u[2][1], written.u[2][[0, 2]].mean(0))


def test_zero_leaves_only_constants_so_every_prompt_is_alike():
    wires, task = opened(model_of("gpt2")), task_of()
    graph = wires.graph()
    empty = measure(wires, graph, task, graph.exists & False, "zero")
    torch.testing.assert_close(empty, empty[:1].expand_as(empty))


def test_what_cannot_be_done_is_said():
    model, task = model_of("gpt2"), task_of()
    with pytest.raises(UnknownName, match="resample"):
        ablated(opened(model), task, "resampel")
    with pytest.raises(InputError, match="no edge was asked for"):
        graph = opened(model).graph()
        exact(opened(model), graph, task, edges=~graph.exists)
    bare = cw.load(torch.nn.Sequential(torch.nn.Embedding(50, 8), torch.nn.Linear(8, 50)), tokenizer=None)
    with pytest.raises(InputError, match="no circuit's components"):
        opened(bare)
