"""The exam's truths agree with one another, its rows with its truths; cases run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cutaway.core import InputError, UnknownName
from cutaway.exams import development as exam
from cutaway.exams.development_cases import run_case
from cutaway.exams.timeline_measures import MEASURES, Plan, wired
from cutaway.toys.deep_linear import aoyagi, deep_linear, jacobian_rank, zero_map_llc
from cutaway.toys.normal_crossing import NormalCrossing, crossing_llc
from cutaway.toys.polygons import Polygons, polygon_loss, regular_polygon

SMALL = exam.Size(16, 200, 8)


@pytest.mark.parametrize(
    ("dims", "rank", "generic", "balanced"),
    [((5, 3, 5), 1, 8.5, 8.0), ((8, 8, 8), 2, 32, 27.5), ((10, 10, 10), 5, 50, 47), ((6, 6, 6, 6), 2, 18, 15.5)],
)
def test_published_coefficients(dims, rank, generic, balanced):
    assert jacobian_rank(deep_linear(dims, rank)) / 2 == generic
    assert aoyagi(dims, rank)[0] == balanced


def test_aoyagi_of_two_layers_is_aoyagi_and_watanabes_reduced_rank():
    """The four cases of Aoyagi & Watanabe 2005, in the n_in, hidden, n_out that they name."""
    for m in range(1, 7):
        for h in range(1, 7):
            for n in range(1, 7):
                for r in range(min(m, h, n) + 1):
                    if m + r <= n + h and n + r <= m + h and h + r <= m + n:
                        odd = (m + h + n + r) % 2
                        want = (-((h + r) ** 2) - m**2 - n**2 + 2 * (h + r) * m + 2 * (h + r) * n + 2 * m * n + odd) / 8
                    elif n + h < m + r:
                        want = (h * n - h * r + m * r) / 2
                    elif m + h < n + r:
                        want = (h * m - h * r + n * r) / 2
                    else:
                        want = m * n / 2
                    assert aoyagi((m, h, n), r)[0] == pytest.approx(want), (m, h, n, r)


def test_quadrature_nears_the_coefficient_from_below():
    assert crossing_llc((1, 1), 1e6, 1.0) == pytest.approx(0.4375, abs=0.001)
    for k in ((2,), (1, 2)):
        values = [crossing_llc(k, t, 1.0) for t in (1e2, 1e4, 1e8)]
        truth = NormalCrossing(k).truth[0]
        assert values == sorted(values)
        assert truth - 0.005 < values[-1] < truth + 1e-6
    assert zero_map_llc(4, 2, 4, 1e10, 1.0) == pytest.approx(aoyagi((4, 2, 4), 0)[0], abs=1e-3)
    # The integral over one layer's entries, done by brute force.
    generator = torch.Generator().manual_seed(0)
    s2 = torch.randn(200_000, 3, generator=generator, dtype=torch.float64).square().sum(1)
    weight = (100 * s2 + 1) ** -1.5
    assert zero_map_llc(3, 1, 3, 100.0, 1.0) == pytest.approx(
        float((weight * 1.5 * 100 * s2 / (100 * s2 + 1)).sum() / weight.sum()), rel=0.01
    )


def test_points_are_of_the_kind_that_they_are_said_to_be():
    for point in ("balanced", "generic"):
        module = deep_linear((6, 4, 6), 2, point)
        assert int(torch.linalg.matrix_rank(module.product())) == 2
        x, y = module.data()
        assert torch.allclose(module(x), y)
    with pytest.raises(InputError, match="rank"):
        deep_linear((3, 2, 3), 3)


def test_rows_pass_and_would_fail():
    rows = exam.zero_rows(((3, 1, 3),), SMALL, 0)
    assert [r["passed"] for r in rows[:3]] == [True] * 3
    assert all(r["tolerance_relative"] == 0.05 or r["tolerance_why"] for r in rows)
    from cutaway.core import Estimate

    assert exam.row("x", 1.0, Estimate(name="x", value=-3.0, n=1), 0.0)["estimate"] == -3.0
    assert not exam.row("x", 1.0, Estimate(name="x", value=1.06, n=1), 0.0)["passed"]


def test_the_polygons_loss_is_the_integral():
    generator = torch.Generator().manual_seed(1)
    w, b = torch.randn(2, 5, generator=generator).double(), 0.3 * torch.randn(5, generator=generator).double()
    w[:, 4] = 0
    mu = (torch.arange(20_000).double() + 0.5) / 20_000
    total = 0.0
    for i in range(5):
        x = torch.zeros(len(mu), 5).double()
        x[:, i] = mu
        total += float((x - (x @ w.T @ w + b).relu()).square().sum(-1).mean())
    assert float(polygon_loss(w, b)) == pytest.approx(total / 5, rel=1e-6)
    module = Polygons(w, b)
    assert module(module.data()).item() == pytest.approx(total / 5, rel=1e-6)


def test_polygons_are_critical_points():
    for k in (4, 5):
        module = regular_polygon(k, 6).place(6)
        polygon_loss(module.W, module.b).backward()
        assert module.W.grad[:, :k].abs().max() < 1e-4
        assert module.b.grad.abs().max() < 1e-4
    with pytest.raises(InputError, match="corners"):
        regular_polygon(7, 6)


def test_grokking_from_training_to_timeline(tmp_path):
    found = run_case("grokking", tmp_path, quick=True, every=4, on=lambda message: None)
    assert {"restricted loss", "excluded loss", "test accuracy", "llc", "weight norm"} <= set(found.timeline.series)
    assert found.timeline.values("training loss")[-1] < found.timeline.values("training loss")[0]
    assert found.to_json()["schema"] == "cutaway.timeline/1"
    with pytest.raises(InputError, match="--out"):
        run_case("grokking", None, quick=True)
    with pytest.raises(UnknownName, match="grokking"):
        run_case("groking", None)


def test_measures_of_other_rooms_on_almanac():
    from cutaway.development import find_checkpoints

    found = find_checkpoints("almanac", every=11)
    model = found.open(found.items[-1])
    ids = torch.randint(100, 400, (8, 16), generator=torch.Generator().manual_seed(0))
    plan = Plan(rows=8, length=16, chains=2, draws=8, burn_in=2, batch=2, items=16, behaviours=("agreement",), eps=1e-6)
    names = ("heads", "behaviours", "circuit", "features")
    series = {}
    for measure in wired(names, found, ids, plan):
        series |= measure(model)
    # The last checkpoint beside itself: the same circuit, every feature born.
    assert series["circuit of ioi"] == 1.0
    assert series["features born"].value == 1.0
    assert series["agreement"].value > 0.8
    assert 0 < series["head: induction"].value <= 1
    with pytest.raises(UnknownName, match="heads"):
        wired(("head",), found, ids, plan)
    assert set(names) <= set(MEASURES)
    assert np.isfinite(series["features born"].interval.low)


@pytest.mark.parametrize("family", ["gpt2", "neox"])
def test_every_measure_by_name_on_a_training_of_ones_own(tmp_path, family):
    """Checkpoints as the Hugging Face Trainer lays them out, and as Pythia's revisions are named."""
    from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

    from cutaway.development import find_checkpoints, timeline

    torch.manual_seed(0)
    if family == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=40, n_positions=24))
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 16, "vocab_size": 40, "max_position_embeddings": 24}
        model = GPTNeoXForCausalLM(GPTNeoXConfig(num_hidden_layers=1, num_attention_heads=2, **sizes))
    for step in (1000, 100, 0):
        folder = tmp_path / f"{'checkpoint-' if family == 'gpt2' else 'step'}{step}"
        model.save_pretrained(folder)
        (folder / "optimizer.pt").write_bytes(b"theirs")
        model.get_output_embeddings().weight.data.mul_(1.1)
    found = find_checkpoints(tmp_path)
    assert [one.step for one in found.items] == [0, 100, 1000]
    ids = torch.randint(0, 40, (6, 12), generator=torch.Generator().manual_seed(0))
    names = ("loss", "llc", "rllc", "bif", "susceptibility", "norm", "trace", "essential")
    plan = Plan(chains=2, draws=10, burn_in=4, batch=4, n_beta=20.0)
    line = timeline(found, wired(names, found, ids, plan))
    want = {"loss", "llc", "rllc 0.0", "rllc 0.1", "bif", "chi attention 0", "weight norm", "hessian trace"}
    assert set(line.series) == want
    assert line.arrays["outputs"].shape[0] == 3
    for name in want:
        assert np.isfinite(line.values(name)).all(), name
    for name in ("behaviours", "features"):
        with pytest.raises(InputError, match="small world"):
            wired((name,), found, ids, plan)


@pytest.mark.filterwarnings("ignore:.*DOES NOT DO")
def test_a_task_is_measured_as_its_own_check_measures_it():
    from cutaway import tasks
    from cutaway.development import find_checkpoints

    found = find_checkpoints("almanac", every=11)
    (measure,) = wired(("task",), found, torch.zeros(1, 1, dtype=torch.long), Plan(task="ioi", items=24))
    for one in (found.items[0], found.items[-1]):
        model = found.open(one)
        mine = measure(model)
        check = tasks.task("ioi", model, n=24, seed=0).check(model, null=False)
        assert mine["ioi: accuracy"].value == pytest.approx(check.accuracy)
    assert mine["ioi: right above wrong"].value > 0.9
    with pytest.raises(UnknownName, match="ioi"):
        wired(("task",), found, torch.zeros(1, 1, dtype=torch.long), Plan(task="ioo"))


def test_a_timeline_with_chains_grows_with_its_training(tmp_path):
    """New checkpoints are steeper, or others are looked at for the step: the chains' step stays that of the rows that
    are there. What is compared with the last checkpoint can't go on, and says so."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from cutaway.development import find_checkpoints, settings_in, timeline

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=40, n_positions=24))
    ids = torch.randint(0, 40, (6, 12), generator=torch.Generator().manual_seed(0))
    embeddings = model.get_output_embeddings().weight.data.mul_(81)
    plan, out, said = Plan(chains=2, draws=10, burn_in=4, batch=4, n_beta=20.0), tmp_path / "out", []

    def trained(*steps):
        for step in steps:
            model.save_pretrained(tmp_path / "run" / f"step-{step}")
            embeddings.div_(3)  # steeper: where a model is sure of all that it says it is flat
        return find_checkpoints(tmp_path / "run")

    found = trained(0, 1, 2)
    first = timeline(found, wired(("llc", "norm"), found, ids, plan, said.append, out), out)
    eps = settings_in(out)["llc"]["eps"]
    found = trained(3, 4)
    more = timeline(found, wired(("llc", "norm"), found, ids, plan, said.append, out), out)
    assert more.series["llc"][:3] == first.series["llc"]
    assert len(more.steps) == 5
    assert settings_in(out)["llc"]["eps"] == eps
    assert "as in the rows that are there" in said[-1]
    assert wired(("llc",), found, ids, plan)[0].settings["eps"] < eps, "alone they would have had another"
    with pytest.raises(InputError, match=r"llc, n_beta: 20.0 there, 30.0 here"):
        timeline(found, wired(("llc", "norm"), found, ids, Plan(**{**vars(plan), "n_beta": 30.0}), out=out), out)


def test_the_exam_says_each_row_as_it_comes(monkeypatch):
    made = {"name": "x", "truth": 1.0, "estimate": 1.0, "passed": True}
    for part in ("regular_rows", "crossing_rows", "zero_rows", "generic_rows", "balanced_rows"):
        monkeypatch.setattr(exam, part, lambda *given: [made])
    lines: list[str] = []
    rows = exam.development_exam(quick=True, say=lines.append)
    assert len(rows) == len(lines) == 6
    assert lines[0].startswith("1/6 pass x")


def test_the_singular_toys_hold_and_refuse():
    from cutaway.toys import Asked, find

    toy, item = find("deep-linear")
    assert item == "deep-linear"
    module = toy.open()
    found = module.run(Asked())
    assert found.passed
    values = {f"{row.toy}: {row.what}": row.value for row in found.rows}
    assert values["deep linear 5-3-5 rank 1: lambda at a generic point"] == 8.5
    assert values["deep linear 5-3-5 rank 1: lambda at the balanced point, multiplicity 1"] == 8.0
    assert values["normal crossing w1^2 w2^2: lambda, multiplicity 2"] == 0.5
    other = module.run(Asked(("normal-crossing",), options={"k": "1-2"}))
    assert [row.value for row in other.rows] == [0.25]
    with pytest.raises(InputError, match="whole numbers"):
        module.run(Asked(options={"dims": "5x3"}))
    with pytest.raises(UnknownName, match="dims"):
        module.run(Asked(options={"dim": "5"}))
    with pytest.raises(UnknownName, match="polygons"):
        module.run(Asked(("polygon",)))
    with pytest.raises(InputError, match="--input"):
        module.run(Asked(given="a"))
