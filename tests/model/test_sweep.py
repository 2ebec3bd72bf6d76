"""A sweep's values are those of single runs; its effects, intervals and null mean what they say."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from model.families import VOCABULARY, close, ids, model
from torch import Tensor

import cutaway as cw
from cutaway.core import InputError, UnknownName
from cutaway.model.sweeps.intervals import effects, intervals
from cutaway.model.tokens import Batch


@dataclass
class TaskLike:
    """The least that a task is, with prompts of several lengths and a position that moves."""

    clean: Batch
    counterfactual: Batch
    answers: Tensor
    wrong: Tensor
    positions: dict[str, Tensor]
    name: str = "made up"
    template: Tensor = field(default_factory=lambda: torch.zeros(0))

    def __post_init__(self) -> None:
        self.metric = cw.LogitDifference(self.answers, self.wrong)
        self.template = torch.zeros(len(self.answers), dtype=torch.long)

    def __len__(self) -> int:
        return len(self.answers)


def task(family: str = "llama", lengths: tuple[int, ...] = (9, 7, 9, 8, 7)) -> TaskLike:
    m = model(family)
    g = torch.Generator().manual_seed(4)

    def rows() -> list[list[int]]:
        return [torch.randint(3, VOCABULARY, (n,), generator=g).tolist() for n in lengths]

    n = len(lengths)
    answers, wrong = torch.randint(3, VOCABULARY, (2, n), generator=g)
    ends = torch.tensor(lengths) - 1
    return TaskLike(m.batch(rows()), m.batch(rows()), answers, wrong, {"subject": ends // 2, "end": ends})


def pairs(family: str = "gpt2", n: int = 6, length: int = 8) -> Any:
    """Answers are what the model says after each prompt, so that the metric tells the two apart."""
    m, a, b = model(family), ids(n, length, 11), ids(n, length, 12)
    says = [m.run(x).at("logits").argmax(-1) for x in (a, b)]
    return cw.pairs(m, a, b, *says)


@pytest.mark.parametrize(
    ("how", "base", "source"), [("denoise", "counterfactual", "clean"), ("noise", "clean", "counterfactual")]
)
def test_each_value_is_that_of_one_run(how: Any, base: str, source: str) -> None:
    m, t = model("gpt2"), pairs()
    swept = cw.sweep(m, t, at="z.*", each=("head", "position"), how=how, null=None)
    other = m.run(getattr(t, source), read=["z.*"])
    assert swept.values.shape == (3, 6, 8, 6)
    for layer, head, position in ((0, 0, 0), (1, 3, 5), (2, 5, 7)):
        run = m.run(getattr(t, base), interventions=[cw.patch(f"z.{layer}", other, head=head, positions=position)])
        assert close(swept.values[layer, head, position], t.metric(run.at("logits")))
    assert close(swept.base, t.metric(m.run(getattr(t, base)).at("logits")))


def test_zero_mean_and_resample_take_a_part_out_of_the_clean_run() -> None:
    m, t = model("gpt2"), pairs()
    other = m.run(t.counterfactual, read=["mlp_out.1"])
    zero, mean, resample = (
        cw.sweep(m, t, at="mlp_out.1", each="position", how=how, seed=3) for how in ("zero", "mean", "resample")
    )
    run = m.run(t.clean, interventions=[cw.zero("mlp_out.1", positions=4)])
    assert close(zero.values[0, 4], t.metric(run.at("logits")))
    run = m.run(t.clean, interventions=[cw.mean("mlp_out.1", other, per_position=True, positions=4)])
    assert close(mean.values[0, 4], t.metric(run.at("logits")))
    taken = []
    for row in range(6):
        patches = [cw.patch("mlp_out.1", other["mlp_out.1"][[o]], positions=4) for o in range(6)]
        values = [t.metric(m.run(t.clean, interventions=[patch]).at("logits"))[row] for patch in patches]
        near = [o for o, v in enumerate(values) if abs(float(v - resample.values[0, 4, row])) < 1e-4]
        assert len(near) == 1
        taken += near
    assert sorted(taken) == list(range(6))
    assert all(a != b for a, b in enumerate(taken)), "nobody's own"


def test_named_positions_are_each_items_own() -> None:
    m, t = model("llama"), task()
    swept = cw.sweep(m, t, at="resid_pre.*", each="position", null=None)
    assert swept.labels[1] == ("subject", "end")
    assert "names" in str(swept)
    other = m.run(t.clean, read=["resid_pre.*"])
    for item, position in enumerate(t.positions["subject"].tolist()):
        run = m.run(t.counterfactual, interventions=[cw.patch("resid_pre.1", other, positions=position, rows=item)])
        assert close(swept.values[1, 0, item], t.metric(run.at("logits"))[item])


def test_an_item_without_the_position_is_left_out() -> None:
    m, t = model("llama"), task()
    swept = cw.sweep(m, t, at="resid_pre.1", each="position", positions=[0, 7, 8], null=None)
    assert swept.values.isnan()[0].tolist() == [
        [False] * 5,
        [False, True, False, False, True],
        [False, True, False, True, True],
    ]
    assert bool(swept.effect.isfinite().all())


def test_groups_of_items_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    m, t = model("llama"), task()
    whole = cw.sweep(m, t, at="z.*", each="head", how="mean", null=None)
    monkeypatch.setattr(sys.modules["cutaway.model.sweeps.sweep"], "GROUP", 2)
    parts = cw.sweep(m, t, at="z.*", each="head", how="mean", null=None)
    assert close(parts.values, whole.values)
    assert close(parts.base, whole.base)


def test_the_whole_stream_at_the_end_carries_everything() -> None:
    swept = cw.sweep(model("gpt2"), pairs(), at="resid_post.2", each="position")
    assert close(swept.effect[0, -1], torch.tensor(1.0))
    assert close(swept.effect[0, :-1], torch.zeros(7))
    assert swept.null_effect is not None
    assert not close(swept.null_effect[0, -1], torch.tensor(1.0), 0.05)
    assert swept.evidence.nulls[0].estimate.n == 6


def test_the_null_takes_from_another_item_at_the_position_of_the_same_name() -> None:
    m, t = model("llama"), task()
    swept = cw.sweep(m, t, at="resid_pre.1", each="position", seed=1)
    assert swept.null is not None
    clean = m.run(t.clean, read=["resid_pre.1"])["resid_pre.1"]
    at = t.positions["subject"].tolist()
    for item in range(5):
        found = []
        for o in range(5):
            run = m.run(
                t.counterfactual,
                interventions=[cw.patch("resid_pre.1", clean[o, at[o]], positions=at[item], rows=item)],
            )
            if close(t.metric(run.at("logits"))[item], swept.null[0, 0, item]):
                found.append(o)
        assert len(found) == 1
        assert found != [item]


def test_one_item_has_no_null_and_says_so() -> None:
    t = cw.pairs(model("gpt2"), ids(1, 6, 1), ids(1, 6, 2), 5, 6)
    swept = cw.sweep(model("gpt2"), t, at="resid_pre.*", each="position")
    assert swept.null is None
    assert swept.evidence.verdict == "no null was run"
    assert "no item has another" in str(swept)
    assert "[" not in str(swept).split("largest parts")[1].split("effect:")[0]


def test_a_model_that_learned_nothing_as_null() -> None:
    m = model("gpt2")
    swept = cw.sweep(m, pairs(), at="z.*", each="head", how="zero", null=m)
    assert swept.null is not None
    assert close(swept.null, swept.values)
    assert swept.evidence.verdict == "not distinguishable from null"


def test_an_interval_covers_and_a_share_is_of_the_gap() -> None:
    g = torch.Generator().manual_seed(0)
    covered = 0
    for seed in range(100):
        gap = 4 + torch.randn(40, generator=g)
        change = 0.3 * gap + 0.5 * torch.randn(40, generator=g)
        low, high = intervals(change[None], gap, seed)
        covered += bool(low[0] <= 0.3 <= high[0])
    assert 86 <= covered <= 100
    change = torch.tensor([[1.0, float("nan"), 3.0]])
    assert close(effects(change, torch.tensor([2.0, 100.0, 2.0])), torch.tensor([1.0]))
    assert close(effects(change, None), torch.tensor([2.0]))


def test_no_share_where_the_prompts_do_not_differ() -> None:
    t = pairs()
    same = TaskLike(t.clean, t.clean, t.answers, t.wrong, {"end": torch.full((6,), 7)})
    swept = cw.sweep(model("gpt2"), same, at="resid_pre.*", each="position", null=None)
    assert swept.gap is None
    assert "do not surely differ" in str(swept)


def test_written_and_read_back(tmp_path: Path) -> None:
    swept = cw.sweep(model("llama"), task(), at="z.*", each=("head", "position"), out=tmp_path)
    again = cw.Sweep.load(tmp_path)
    assert str(again) == str(swept)
    assert again.to_json() == swept.to_json()
    assert torch.equal(again.values.nan_to_num(9e9), swept.values.nan_to_num(9e9))
    before = (tmp_path / "sweep.safetensors").read_bytes()
    cw.sweep(model("llama"), task(), at="z.*", each=("head", "position"), out=tmp_path)
    assert (tmp_path / "sweep.safetensors").read_bytes() == before


def test_it_prints_what_a_reader_needs() -> None:
    text = str(cw.sweep(model("gpt2"), pairs(), at="z.*", each="head"))
    for part in ("mean over 6 items", "per cent of the way", "layer \\ head", "95 % interval", "null", "verdict"):
        assert part in text
    assert max(map(len, text.splitlines())) < 170


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        ({"how": "denoize"}, UnknownName, "denoise"),
        ({"each": "heads"}, UnknownName, "head"),
        ({"at": "resid_pre.*", "each": "head"}, InputError, "no heads"),
        ({"at": "resid_pre.*", "each": ("neuron",)}, InputError, "no neurons"),
        ({"at": "resid_psot.*"}, InputError, "resid_post"),
        ({"positions": ["subjct"]}, UnknownName, "subject"),
        ({"positions": [40]}, InputError, "no prompt has a position 40"),
        ({"each": (), "positions": [1]}, InputError, "positions="),
        ({"metric": "accuracy"}, InputError, "function"),
        ({"how": "zero", "null": "other prompt"}, InputError, "model"),
        ({"null": "nothing"}, InputError, "null="),
    ],
)
def test_bad_input_is_refused(more: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        cw.sweep(model("llama"), task(), **{"at": "resid_pre.*", "each": "position", **more})


def test_pairs_must_align() -> None:
    m = model("gpt2")
    with pytest.raises(InputError, match="pair 1 does not align"):
        cw.pairs(m, [[5, 6], [5, 6, 7]], [[5, 6], [5, 6]], 5, 6)
    with pytest.raises(InputError, match="2 answers for 3 prompts"):
        cw.pairs(m, ids(3), ids(3), [1, 2])
    with pytest.raises(InputError, match="give answers="):
        cw.sweep(m, clean=ids(2), counterfactual=ids(2))
    with pytest.raises(InputError, match="counterfactual"):
        cw.sweep(m, clean=ids(2), answers=5, how="noise")


@pytest.mark.parametrize("family", ["t5", "t5_gated"])
def test_an_encoder_decoder_is_swept_with_what_its_encoder_reads(family: str) -> None:
    """Each cell is one run; the counterfactual lies in the source, and cross attention brings it."""
    m = model(family)
    g = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 101, (3, 5), generator=g)
    sources = torch.randint(3, 101, (2, 3, 7), generator=g)
    clean, other = (m.batch(tokens, source=source) for source in sources)
    answers, wrong, rows = torch.tensor([5, 6, 7]), torch.tensor([8, 9, 10]), torch.arange(3)
    given = cw.pairs(m, clean, other, answers, wrong)
    for at, each, where in (
        ("resid_post.*", ("position",), {"positions": 2}),
        ("cross_z.*", ("head", "position"), {"head": 4, "positions": 4}),
        ("cross_probs.*", ("head",), {"head": 4}),
        ("cross_value.*", (), {}),
    ):
        swept = cw.sweep(m, given, at=at, each=each, progress=False)
        address = at.replace("*", "1")
        source = m.run(clean, read=[address])
        logits = m.run(other, interventions=[cw.patch(address, source, **where)]).at("logits")
        index = (1, *(list(where.values())))
        expected = logits[rows, answers] - logits[rows, wrong]
        assert (swept.values[index] - expected).abs().max() < 1e-5 * logits.abs().max(), at
        assert (swept.values - swept.counterfactual).abs().max() > 1e-3, at
    with pytest.raises(InputError, match="does not align"):
        cw.pairs(m, clean, m.batch(tokens, source=sources[1][:, :6]), answers, wrong)
