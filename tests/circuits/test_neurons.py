"""Neurons as nodes."""

import pytest
import torch
from circuits.circuit_case import Wide, model_of, task_of

from cutaway.circuits import opened
from cutaway.circuits.neurons import score_neurons
from cutaway.core import InputError, UnknownName


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2"])
def test_scores_are_the_slope_of_ablating_a_neuron_by_a_little(family):
    import cutaway as cw

    wires, task = opened(model_of(family)), task_of()
    model = wires.model
    found = score_neurons(wires, task, check=4)
    assert found.scores.shape == (model.facts.n_layers, model.facts.d_mlp)
    name, score = found.top(1)[0]
    layer, neuron = (int(part) for part in name[1:].split(".n"))
    clean, other = (
        model.run(x, read=[f"mlp_act.{layer}"])[f"mlp_act.{layer}"] for x in (task.clean, task.counterfactual)
    )
    h = 1e-3
    values = []
    for step in (h, -h):
        moved = (clean + step * (other - clean))[..., neuron]
        run = model.run(task.clean, interventions=[cw.patch(f"mlp_act.{layer}", moved[..., None], neuron=neuron)])
        values.append(task.metric(task.at_end(run)).double().mean())
    assert float((values[1] - values[0]) / (2 * h)) == pytest.approx(score, rel=0.05, abs=1e-4)


def test_neurons_of_the_last_mlp_are_exact_up_to_the_last_norm_and_text_says_both():
    wires, task = opened(model_of("gpt2")), task_of()
    found = score_neurons(wires, task, layers=[2], check=8, ablation="zero")
    estimated = {(2, i): float(x) for i, x in enumerate(found.scores[0])}
    for key, loss in found.measured.items():
        assert loss == pytest.approx(estimated[key], rel=0.5, abs=0.02)
    assert "m2.n" in str(found)
    assert found.to_json()["schema"] == "cutaway.neuron-scores/1"
    assert len(found.evidence) == 2


def test_bad_input_is_said():
    from dataclasses import replace

    wires, task = opened(model_of("gpt2")), task_of()
    with pytest.raises(UnknownName, match="resample"):
        score_neurons(wires, task, ablation="resampel")
    constant = Wide("constant", lambda logits, _: logits[:, 0] * 0, task.metric.target)
    with pytest.raises(InputError, match="every neuron scores zero"):
        score_neurons(wires, replace(task, metric=constant))
    assert torch.is_grad_enabled()
