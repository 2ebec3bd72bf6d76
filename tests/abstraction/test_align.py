"""Laws of interchange on networks: a swap at the input is the counterfactual's run; every way of running agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from abstraction.conftest import FAMILIES, SHORT, addition, copying, family
from torch import nn

import cutaway as cw
from cutaway.abstraction import (
    Alignment,
    CausalModel,
    align,
    align_sweep,
    counterfactuals,
    dictionary_features,
    neurons,
    scrub,
    subspace,
    whole,
)
from cutaway.abstraction.continuation import Edit
from cutaway.abstraction.data import Data
from cutaway.abstraction.featurizers import Coordinates, Subspace, Whole, random_subspace
from cutaway.abstraction.measure import Cell, measure
from cutaway.abstraction.train import train
from cutaway.core import CutawayError, InputError

POINTS = ("resid_pre.0", "resid_post.0", "resid_mid.1", "mlp_act.0", "z.1", "mlp_out.1", "resid_post.1")


def data(kind: str, points: tuple[str, ...] = POINTS) -> Data:
    model, causal = family(kind), copying(24)
    return Data(model, causal, ("kept",), counterfactuals(causal, "kept", 12), points)


@pytest.mark.parametrize("kind", FAMILIES)
def test_going_on_from_a_place_is_a_run_with_an_interchange(kind: str) -> None:
    points = tuple(p for p in POINTS if family(kind).refuses(p) is None)
    d = data(kind, points)
    assert d.continuation.reason == ""
    rows = torch.arange(len(d))
    sources = d.model.run(d.source_rows[0].batch, read=list(points))
    for point in points:
        spot = d.spot(whole(point, "first"), 0)
        basis = random_subspace(spot.width, 3, torch.Generator().manual_seed(0))
        edit = Edit(point, spot.columns, lambda x, s=spot, b=basis: Subspace(b).swap(x, s.source))
        if d.continuation.read[point].ndim == 3:
            plain = d.model.run(d.rows.batch, interventions=[cw.interchange(point, basis, sources, positions=1)])
            expected = plain.logits[:, -1]
        else:  # of heads: the whole
            edit = Edit(point, spot.columns, lambda x, s=spot: s.source)
            expected = d.model.run(d.rows.batch, interventions=[cw.patch(point, sources, positions=1)]).logits[:, -1]
        torch.testing.assert_close(d.continuation.run(rows, [edit]), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_whole_swap_at_every_position_of_the_input_is_the_sources_run(kind: str) -> None:
    d = data(kind, ("resid_pre.0",))
    spot = d.spot(whole("resid_pre.0", None), 0)
    edit = Edit("resid_pre.0", spot.columns, lambda x: spot.source)
    expected = d.model.run(d.source_rows[0].batch).logits[:, -1]
    torch.testing.assert_close(d.continuation.run(torch.arange(len(d)), [edit]), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_gradients_through_a_restart_are_those_through_the_whole_forward(kind: str) -> None:
    points = ("resid_post.0", "mlp_out.1" if kind == "mixtral" else "mlp_act.1")  # experts have no single mlp_act
    d = data(kind, points)
    rows = torch.arange(6)
    for point in points:
        spot = d.spot(whole(point, ["first", "answer"]), 0)
        found = []
        for replay in (d.continuation.replay, None):
            leaf = spot.source[rows].clone().requires_grad_()
            before, d.continuation.replay = d.continuation.replay, replay
            logits = d.continuation.run(rows, [Edit(point, spot.columns[rows], lambda x, leaf=leaf: leaf)])
            d.continuation.replay = before
            found.append(torch.autograd.grad(logits.pow(2).sum(), leaf)[0])
        torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-3)


def test_das_of_every_dimension_is_the_full_swap() -> None:
    d = data("llama", ("resid_post.0",))
    place = subspace("resid_post.0", "first", dims=16)
    spot = d.spot(place, 0)
    cell = Cell((spot,), d.wanted)
    rows = torch.arange(len(d))
    learned = train(d, [place], [cell], rows, SHORT)
    mine, full = (measure(d, [cell], f, rows) for f in (learned, [[Whole(16)]]))
    torch.testing.assert_close(mine.loss, full.loss, atol=1e-4, rtol=1e-3)


def test_cells_trained_together_end_as_cells_trained_alone() -> None:
    d = data("gpt2", ("resid_post.0",))
    places = [subspace("resid_post.0", p, dims=2) for p in ("first", "answer")]
    cells = [Cell((d.spot(place, 0),), d.wanted, seed=3) for place in places]
    rows = torch.arange(len(d))
    together = train(d, places[:1], cells, rows, SHORT)
    for cell, place, mine in zip(cells, places, together):
        alone = train(d, [place], [cell], rows, SHORT)
        torch.testing.assert_close(mine[0].rows(16), alone[0][0].rows(16), atol=1e-3, rtol=1e-3)


def test_addition_in_almanac_moves_with_its_operand(almanac: Any) -> None:
    """At its own token the vector that enters the network is the number: exchanging it is exchanging the number."""
    found = align(almanac, addition(), {"a": whole("resid_pre.0", "a")}, n=32, n_test=64)
    assert found.iia.value == 1.0
    assert found.cause.n == found.isolate.n == 32
    idle = align(almanac, addition(), {"a": whole("resid_post.3", "a")}, n=32, n_test=64)
    assert (idle.cause.value, idle.isolate.value) == (0.0, 1.0)
    assert idle.evidence[0].verdict != "distinguishable from null"


def test_the_same_place_in_a_sweep_gives_the_same_iia(almanac: Any) -> None:
    one = align(almanac, addition(), {"a": whole("resid_post.1", "answer")}, n=32, n_test=32)
    swept = align_sweep(almanac, addition(), "a", ["resid_pre.0", "resid_post.1"], n=32, n_test=32)
    at = swept.addresses.index("resid_post.1"), swept.positions.index("answer")
    assert float(swept.iia[at]) == one.iia.value
    assert swept.best == (0, 0)
    told = swept.to_json()
    assert len(told["iia"]) == 2
    assert told["low"][0][0] <= told["iia"][0][0] <= told["high"][0][0]
    assert swept.evidence.verdict == "distinguishable from null"


def test_doing_nothing_scores_a_half_and_is_no_success(almanac: Any) -> None:
    """No identity swap counts as success: not a mask that chooses nothing, nor an answer with many right values."""
    from cutaway.exams.abstraction_cases import case

    empty = Data(almanac, addition(), ("units",), counterfactuals(addition(), "units", 64), ["mlp_act.2"])
    cell = Cell((empty.spot(neurons("mlp_act.2"), 0),), empty.wanted)
    hits = measure(empty, [cell], [[Coordinates((), 512)]], torch.arange(64)).hits
    assert torch.equal(hits[0], ~empty.changes)
    years = case("greater-than").causal
    idle = align(almanac, years, {"threshold": whole("resid_post.3", "year")}, n=32, n_test=64, only_right=True)
    assert idle.iia.value == 0.5
    assert (idle.cause.value, idle.isolate.value) == (0.0, 1.0)
    assert idle.evidence[0].verdict != "distinguishable from null"


def test_attributes_are_measured_one_at_a_time(almanac: Any) -> None:
    """Two places, each an operand's own token: each attribute's exchange changes it, and there is no third to keep."""
    places = {"a": whole("resid_pre.0", "a"), "b": whole("resid_post.3", "b")}
    found = align(almanac, addition(), places, n=32, n_test=128)
    right, idle = found.attributes
    assert (right.name, right.cause.value, idle.cause.value) == ("a", 1.0, 0.0)
    alone = (found.score.hits.shape[1] - right.cause.n - idle.cause.n) > 0
    assert alone  # items that exchange both are in neither
    assert found.to_json()["attributes"][0]["cause"]["value"] == 1.0
    assert "a alone: cause" in str(found)


def test_an_alignment_read_back_measures_the_same(almanac: Any, tmp_path: Path) -> None:
    places = {"units": subspace("resid_post.2", dims=3), "carry": subspace("resid_post.2", dims=2)}
    found = align(almanac, addition(), places, n=48, n_test=32, training=SHORT, quick=True)
    for row in found.featurizers:
        both = torch.cat([f.rows(0) for f in row])
        torch.testing.assert_close(both @ both.T, torch.eye(5), atol=1e-5, rtol=0)
    found.save(tmp_path / "a")
    back = Alignment.load(tmp_path / "a")
    assert torch.equal(back.check(almanac, addition()).hits, found.score.hits)
    assert back.iia == found.iia
    assert back.to_json() == found.to_json()
    assert str(back).splitlines()[:6] == str(found).splitlines()[:6]
    with pytest.raises(InputError, match="holds no alignment"):
        Alignment.load(tmp_path)


@pytest.mark.parametrize("how", ["neurons", "chosen", "boundless", "nonlinear", "pca", "dictionary", "head", "given"])
def test_every_kind_of_place_can_be_aligned(almanac: Any, how: str) -> None:
    class Split:
        def encode(self, x: Any) -> Any:
            return torch.cat([x.relu(), (-x).relu()], -1)

        def decode(self, a: Any) -> Any:
            return a[..., : a.shape[-1] // 2] - a[..., a.shape[-1] // 2 :]

    place = {
        "neurons": neurons("mlp_act.2"),
        "chosen": neurons("mlp_act.2", which=range(9)),
        "boundless": subspace("resid_post.1", how="boundless", dims=16),
        "nonlinear": subspace("resid_post.1", how="nonlinear", dims=4),
        "pca": subspace("resid_post.1", how="pca", dims=4),
        "dictionary": dictionary_features("resid_post.1", Split()),
        "head": subspace("z.2", dims=2, head=[1, 3]),
        "given": subspace("resid_post.1", basis=torch.eye(128)[:3] + 0.1),
    }[how]
    found = align(almanac, addition(), {"units": place}, n=32, n_test=32, training=SHORT, seeds=(0,))
    assert 0 <= found.iia.value <= 1
    assert any("random features" in c.estimate.name for c in found.evidence[0].nulls)
    assert ("untrained" in str(found.evidence[0].nulls)) == place.learned


def test_a_network_that_has_seen_nothing_has_no_items(almanac: Any) -> None:
    from cutaway.evidence import rerandomise

    with pytest.raises(CutawayError, match="is right on base and sources of 0%"):
        align(rerandomise(almanac), addition(), {"carry": whole("resid_post.1")}, n=32, n_test=32)


def test_scrubbing_an_idle_hypothesis_recovers_nothing_it_did_not_keep(almanac: Any) -> None:
    """The number at its own token, before the network: within its class everything is kept, at random nothing."""
    found = align(almanac, addition(), {"a": whole("resid_pre.0", "a")}, n=32, n_test=64)
    rows = {name: recovered for name, _, recovered, _ in scrub(almanac, addition(), found).rows}
    assert rows["nothing (the network)"].value == pytest.approx(1)
    assert rows["the whole places, at random"].value == pytest.approx(0)
    assert rows["both"].value == pytest.approx(1, abs=1e-6)


# ---- other networks


def swaps_are_the_sources_runs(model: Any, ids: range) -> None:
    """Exchanging the vector that enters at a token is exchanging the token: the network says what it says of that."""
    rows = torch.tensor([[1, first, other, 2, 3] for first in ids for other in ids])
    said = model.run(rows).logits[:, -1].argmax(-1).reshape(len(ids), len(ids)).tolist()
    causal = CausalModel(
        {"first": ids, "other": ids},
        {"held": lambda first: first, "says": lambda held, other: said[ids.index(held)][ids.index(other)]},
        prompt=lambda v: torch.tensor([1, v["first"], v["other"], 2, 3]),
        answer=int,
        positions={"first": 1, "other": 2},
    )
    found = align(model, causal, {"held": whole("resid_pre.0", "first")}, n=32, n_test=64)
    assert found.iia.value == 1.0
    swept = align_sweep(model, causal, "held", ["resid_pre.0", "resid_post.*"], n=32, n_test=32)
    assert swept.addresses[swept.best[0]] == "resid_pre.0"
    assert swept.iia[0, 0] == 1.0
    assert swept.iia[0, 2] == 0.5  # the last token is the same in both: nothing is exchanged
    learned = align(model, causal, {"held": subspace("resid_post.0", "first", dims=2)}, n=64, n_test=32, training=SHORT)
    assert any("untrained" in c.estimate.name for c in learned.evidence[0].nulls)


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_is_aligned_and_swept(kind: str) -> None:
    swaps_are_the_sources_runs(family(kind), range(4, 24))


def test_a_module_of_ones_own_is_aligned() -> None:
    """Neither a language model nor an nn.Sequential: run whole, by module path."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2)
            self.out = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(torch.relu(self.inner(x)))

    net = Two()
    with torch.no_grad():
        for layer in (net.inner, net.out):
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
    causal = CausalModel(
        {"bit": (0, 1), "size": range(1, 60)},
        {"held": lambda bit: bit, "out": lambda held: held},
        prompt=lambda v: torch.tensor([1.0 - v["bit"], float(v["bit"])]) * v["size"],
        answer=int,
    )
    found = align(cw.load(net), causal, {"held": whole("path.inner")}, n=32, n_test=32)
    assert found.iia.value == 1.0
    learned = align(cw.load(net), causal, {"held": subspace("path.inner", dims=1)}, n=64, n_test=64)
    assert learned.iia.value > 0.9  # the difference of the two units


def test_a_trained_model_of_others_is_aligned() -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / "stories260k"
    if not folder.is_dir():
        pytest.skip("the third-party model stories260k is not here")
    swaps_are_the_sources_runs(cw.load(str(folder)), range(260, 280))


def test_a_dormant_pathway_is_told_from_a_unit_that_is_read_in_a_sum() -> None:
    """Units: the bit, a copy that nothing reads, one that is always zero and is read. Exchanging along copy + zero unit
    carries the bit where nothing reads it and acts by the zero unit (Makelov et al. 2023): the part that is read alone
    does nothing. Exchanging the bit's own unit does all by itself."""
    net = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 3))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0], [1, 0], [0, 0]]))
        net[1].weight.copy_(torch.tensor([[-1.0, 0, -3], [1, 0, 3], [0, 0, 1]]))
        net[1].bias.copy_(torch.tensor([0.0, 0, -20]))
    causal = CausalModel(
        {"bit": (0, 1), "noise": range(100)},
        {"held": lambda bit: bit, "out": lambda held: held},
        prompt=lambda v: torch.tensor([2.0 * v["bit"] - 1, v["noise"] / 100]),
        answer=int,
    )
    model = cw.load(net)
    used, dormant = (
        align(model, causal, {"held": subspace("path.0", basis=torch.tensor([d]))}, n=64, n_test=64)
        for d in ([1.0, 0, 0], [0, 1.0, 1.0])
    )
    assert used.iia.value == dormant.iia.value == 1.0
    (read,) = [e for e in dormant.evidence[1:] if "read" in e.settings["part"]]
    assert read.effect.value == 0.5
    assert read.settings["activity"] == [0.0]
    assert "dormant pathway" in str(dormant)
    assert "dormant pathway" not in str(used)


def test_capacity_ends_at_what_a_whole_swap_does(almanac: Any) -> None:
    from cutaway.abstraction import capacity_curve

    place = {"units": subspace("resid_post.2")}
    curve = capacity_curve(almanac, addition(), place, dims=[1, 128], n=32, n_test=32, seeds=(0,), training=SHORT)
    full = align(almanac, addition(), {"units": whole("resid_post.2")}, n=32, n_test=32)
    assert [(point.dims, point.parameters) for point in curve.rows] == [(1, 128), (128, 128 * 128)]
    assert curve.rows[-1].iia.value == full.iia.value
    assert [point.dims for point in curve.nonlinear] == [128]
    assert curve.nonlinear[0].iia.value == full.iia.value  # all features of any invertible map are the whole vector
    assert curve.nonlinear[0].parameters > curve.rows[-1].parameters
    assert curve.idle.value == 0.5
    told = curve.to_json()
    assert told["rows"][0]["untrained"]["value"] == curve.rows[0].untrained.estimate.value
    assert told["evidence"]["verdict"] == curve.evidence.verdict
    assert "nonlinear" in str(curve)
    with pytest.raises(InputError, match="129 dimensions"):
        capacity_curve(almanac, addition(), place, dims=[129], n=32, n_test=32)


def test_cells_that_take_turns_end_as_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little memory there is: the sweep over layers and positions gives the same."""
    from cutaway.abstraction import measure as measuring
    from cutaway.abstraction import train as training

    model, causal = family("llama"), copying(24)
    ask: dict[str, Any] = {"dims": 2, "n": 24, "n_test": 24, "seeds": (0, 1), "training": SHORT, "only_right": False}
    together = align_sweep(model, causal, "kept", **ask)
    monkeypatch.setattr(training, "KEPT", 1)
    monkeypatch.setattr(measuring, "NUMBERS", 2000)
    apart = align_sweep(model, causal, "kept", **ask)
    torch.testing.assert_close(together.hits, apart.hits)
    torch.testing.assert_close(together.null, apart.null)


def test_every_row_is_trained_on_once_an_epoch_beside_rows_of_its_length() -> None:
    from cutaway.abstraction.train import batches

    rows, ends = torch.arange(100, 160), torch.tensor([3] * 20 + [5] * 36 + [9] * 4)
    drawn = batches(rows, ends, 8, seed=0)
    seen = torch.cat([next(drawn) for _ in range(75)])  # 600 = 10 epochs
    counts = torch.bincount(seen - 100, minlength=60)
    assert counts.min() >= 9
    assert counts.max() <= 11
    for _ in range(20):
        mine = ends[next(drawn) - 100].unique().tolist()
        assert mine in ([3], [5], [9], [5, 9])  # too few end at 9 for a batch of their own
