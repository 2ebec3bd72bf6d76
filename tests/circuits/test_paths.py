"""Path patching beside the masked forward and beside whole-node patching."""

import pytest
import torch
from circuits.circuit_case import model_of, task_of

import cutaway as cw
from cutaway.circuits import measure, opened, path_patching
from cutaway.core import InputError, UnknownName


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_through_the_residual_alone_it_is_those_edges_out(family):
    wires, task = opened(model_of(family)), task_of()
    graph = wires.graph()
    senders = ["input", "a0.h1", "m0"]
    receivers = ["a2.h2<q>", "a2.h4<q>"]
    mask = graph.exists.clone()
    for s in senders:
        for r in receivers:
            mask[graph.edge(s, r)] = False
    lost = measure(wires, graph, task, graph.exists, "resample") - measure(wires, graph, task, mask, "resample")
    found = path_patching(wires, task, senders, receivers, through="residual", null=0)
    torch.testing.assert_close(found.effect, lost, rtol=0, atol=1e-5)


def test_through_mlps_to_the_logits_a_last_head_is_that_head_patched():
    model, task = model_of("gpt2"), task_of()
    z = model.run(task.counterfactual, read=["z.2"])["z.2"]
    run = model.run(task.clean, interventions=[cw.patch("z.2", z, head=5)])
    lost = task.metric(task.at_end(model.run(task.clean))) - task.metric(task.at_end(run))
    found = path_patching(model, task, ["a2.h5"], ["logits"], null=3)
    torch.testing.assert_close(found.effect, lost.double(), rtol=0, atol=1e-9)
    assert found.effect.abs().max() > 1e-3
    assert found.evidence[0].nulls


def test_positions_of_the_senders_add_nothing_where_they_are_not():
    wires, task = opened(model_of("llama")), task_of()
    everywhere = path_patching(wires, task, ["m0"], ["logits"], through="residual", null=0)
    end = path_patching(wires, task, ["m0"], ["logits"], through="residual", positions=["end"], null=0)
    torch.testing.assert_close(everywhere.effect, end.effect)  # the logits read the end alone
    with pytest.raises(UnknownName, match="end"):
        path_patching(wires, task, ["m0"], ["logits"], positions=["S2"])


def test_what_cannot_reach_is_refused():
    model, task = model_of("gpt2"), task_of()
    with pytest.raises(InputError, match="writes before"):
        path_patching(model, task, ["m2"], ["a0.h0<q>"])
    with pytest.raises(UnknownName, match=r"a0\.h0"):
        path_patching(model, task, ["a0.h00"], ["logits"])
    with pytest.raises(InputError, match="at least one"):
        path_patching(model, task, [], ["logits"])
