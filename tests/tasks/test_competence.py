"""A model's competence: counted as it is, beside its null, and said loudly where there is none."""

from __future__ import annotations

import json
import warnings

import pytest
import torch

import cutaway as cw
from cutaway.core import InputError
from cutaway.evidence import rerandomise, wilson
from cutaway.tasks import TaskWarning


def test_shares_are_counted_and_their_intervals_are_wilsons(almanac: cw.Model) -> None:
    task = cw.task("colours", almanac, n=50)
    found = task.check(almanac, batch=7)
    right = almanac.run(task.clean).at("logits").argmax(-1) == task.answers
    assert torch.equal(found.correct.bool(), right)
    effect = found.evidence[0].effect
    assert effect.value == pytest.approx(float(right.double().mean()))
    assert effect.interval == wilson(int(right.sum()), 50)
    assert [e.effect.n for e in found.evidence] == [50] * len(found.evidence)
    assert torch.allclose(found.clean, task.measure(almanac.run(task.clean)), atol=1e-4)
    assert torch.allclose(found.counterfactual, task.measure(almanac.run(task.counterfactual)), atol=1e-4)
    assert sum(n for _, n, _ in found.templates) == 50


def test_the_null_is_the_rerandomised_model(almanac: cw.Model) -> None:
    task = cw.task("ioi", almanac, n=20)
    found = task.check(almanac, seeds=(0, 1))
    for k, seed in enumerate((0, 1)):
        twin = rerandomise(almanac, seed=seed)
        share = float((twin.run(task.clean).at("logits").argmax(-1) == task.answers).double().mean())
        assert found.evidence[0].nulls[k].estimate.value == pytest.approx(share)
    assert all(len(e.nulls) == 2 for e in found.evidence)
    assert found.evidence[0].baselines[0].estimate.value == pytest.approx(
        max(task.answers.bincount().tolist()) / 20
    )  # fmt: skip


def test_a_model_that_learned_nothing_is_said_loudly_not_to_do_it(untrained: cw.Model, almanac: cw.Model) -> None:
    for model, name in ((untrained, "ioi"), (rerandomise(almanac), "ioi"), (untrained, "greater-than")):
        with pytest.warns(TaskWarning, match="DOES NOT DO"):
            found = cw.task(name, model, n=40).check(model)
        assert found.does == "no"
        assert "DOES NOT DO" in str(found)


def test_the_null_can_be_left_out_and_it_is_said(almanac: cw.Model) -> None:
    found = cw.task("ioi", almanac, n=10).check(almanac, null=False)
    assert found.does == "yes"
    assert all(not e.nulls and e.not_done for e in found.evidence)
    assert "not done: null: re-randomised model" in str(found)


def test_it_is_json_and_reads_back(almanac: cw.Model) -> None:
    found = cw.task("greater-than", almanac, n=30).check(almanac)
    body = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert body["schema"] == "cutaway.competence/1"
    assert cw.Evidence.from_json(body["evidence"][0]) == found.evidence[0]
    assert body["items"]["correct_counterfactual"] is None
    assert len(body["items"]["metric_clean"]) == 30


def test_a_constant_metric_is_an_error(almanac: cw.Model) -> None:
    task = cw.task("ioi", almanac, n=6).with_metric(lambda logits: torch.ones(len(logits)), name="one")
    with pytest.raises(InputError, match="the metric one is 1 on every item, clean and counterfactual"):
        task.check(almanac, null=False)


def test_a_metric_that_is_not_finite_names_its_items(almanac: cw.Model) -> None:
    def broken(logits: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(len(logits)) == 2, torch.nan, logits[:, 0])

    with pytest.raises(InputError, match=r"1 of 6 items have a broken that is not finite. row 2"):
        cw.task("ioi", almanac, n=6).with_metric(broken).check(almanac, null=False)


def test_items_that_the_metric_does_not_tell_apart_are_named(almanac: cw.Model) -> None:
    def flat(logits: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(len(logits)) == 1, 3.0, logits[:, 300])

    with pytest.warns(
        TaskWarning, match="1 of 6 items have the same flat on clean and counterfactual.*row 1: 3 on both"
    ):
        cw.task("ioi", almanac, n=6).with_metric(flat).check(almanac, null=False)


def test_a_task_made_for_another_model_is_refused(almanac: cw.Model, untrained: cw.Model) -> None:
    task = cw.Task.from_tokens(torch.tensor([[300, 301]]), torch.tensor([[300, 302]]), [1500])
    with pytest.raises(InputError, match=r"has answers up to id 1500, .* [0-9]+ logits"):
        task.check(untrained, null=False)


def test_a_sound_check_warns_of_nothing(almanac: cw.Model) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cw.task("ioi", almanac, n=10).check(almanac)


def test_the_commonest_answer_is_right_on_almost_every_item_of_greater_than(almanac: cw.Model) -> None:
    """So its accuracy says little, and the baseline beside it says so."""
    task = cw.task("greater-than", almanac, n=40)
    found = task.check(almanac)
    last = max(range(len(task.target.candidates)), key=lambda c: int((task.target.sign[:, c] > 0).sum()))
    assert found.evidence[0].baselines[0].estimate.value == float((task.target.sign[:, last] > 0).double().mean())
    assert found.evidence[0].baselines[0].estimate.value > 0.95


def test_always_saying_a_late_year_is_not_doing_greater_than(almanac: cw.Model) -> None:
    """Logits that do not know the start year are right each time, and the model does not do the task."""
    task = cw.task("greater-than", almanac, n=40)
    best = int(task.target.candidates[(task.target.sign > 0).sum(0).argmax()])

    class Always(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(1873, 4)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
            logits = torch.zeros(*input_ids.shape, 1873)
            logits[..., best] += (
                8.0 + self.embed(input_ids)[..., 0].abs()
            )  # the last token, the century, tells a little
            return logits

    found_on = cw.load(Always(), tokenizer=almanac.tokenizer)
    with (
        pytest.warns(TaskWarning, match="40 of 40 items have the same mass_difference"),
        pytest.warns(TaskWarning, match="right on 100 % of the clean prompts, but one token is right on 100 %"),
    ):
        found = task.check(found_on, null=False)
    assert found.accuracy == 1
    assert found.does == "no"


@pytest.mark.parametrize("metric", ["logit_difference", "accuracy", "kl"])
def test_the_metric_should_be_worse_on_the_counterfactual(metric: str, almanac: cw.Model) -> None:
    task = cw.task("ioi", almanac, n=20)
    task = task.with_metric(metric, reference=almanac.run(task.clean)) if metric == "kl" else task.with_metric(metric)
    records = {e.effect.name: e for e in task.check(almanac).evidence}
    assert len(records) == 6
    assert records["accuracy, clean"].better == records["accuracy, counterfactual"].better == "higher"
    name = "metric accuracy" if metric == "accuracy" else metric
    sides = [records[f"{name}, {side}"].better for side in ("clean", "counterfactual", "clean - counterfactual")]
    assert sides == (["lower", "higher", "lower"] if metric == "kl" else ["higher", "lower", "higher"])
    assert records[f"{name}, clean - counterfactual"].verdict == "distinguishable from null"


def test_without_a_wrong_answer_it_is_judged_by_accuracy(almanac: cw.Model) -> None:
    task = cw.task("colours", almanac, n=150)
    bare = cw.Task.from_tokens(
        task.clean.ids, task.counterfactual.ids, task.answers, mask=task.clean.mask, tokenizer=almanac.tokenizer
    )
    found = bare.check(almanac)
    assert found.does == "partly"
    assert "it is right more often than not" in found.verdict
    assert "right above wrong" not in str(found)
