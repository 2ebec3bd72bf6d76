"""The Evidence record: every verdict is reachable, undefined numbers settle nothing, JSON loses nothing."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from cutaway.core import Comparison, Estimate, Evidence, Interval, NotDone, TailItem, write_json


def est(value, low=None, high=None, name="x"):
    interval = None if low is None else Interval(low=low, high=high, method="bootstrap")
    return Estimate(name=name, value=value, interval=interval, n=30)


def ev(effect, nulls=(), baselines=(), **more):
    return Evidence(claim="c", how="h", effect=effect, nulls=tuple(nulls), baselines=tuple(baselines), **more)


def against(value, low=None, high=None, name="other", difference=None):
    d = None if difference is None else Interval(low=difference[0], high=difference[1], method="paired bootstrap")
    return Comparison(estimate=est(value, low, high, name), difference=d)


EFFECT = est(0.8, 0.7, 0.9)
NULL = against(0.1, 0.0, 0.2, "random directions")


@pytest.mark.parametrize(
    ("evidence", "verdict", "text"),
    [
        (ev(EFFECT), "no null was run", "no null was run"),
        (ev(EFFECT, [NULL]), "distinguishable from null", "distinguishable from null"),
        (ev(EFFECT, [NULL, against(0.65, 0.5, 0.75, "twin")]), "not distinguishable from null", "(twin)"),
        (
            ev(EFFECT, [NULL, against(0.95, 0.92, 0.97, "twin")]),
            "worse than null",
            "(twin surely does better)",
        ),
        (ev(EFFECT, [NULL], [against(0.95, 0.92, 0.97, "neurons")]), "beaten by a baseline", "beaten by neurons"),
        (ev(EFFECT, [NULL], [against(0.85, 0.8, 0.9)]), "distinguishable from null", "distinguishable from null"),
        (ev(est(math.nan), [NULL]), "undefined", "undefined"),
        (ev(EFFECT, [against(math.nan, name="twin")]), "undefined", "undefined null: twin"),
        (ev(EFFECT, [NULL, against(math.nan, name="twin")]), "distinguishable from null", "undefined null: twin"),
    ],
)
def test_verdicts(evidence, verdict, text):
    assert evidence.verdict == verdict
    assert text in evidence.verdict_text
    assert evidence.to_json()["verdict"] == verdict


def test_a_paired_difference_decides_over_the_intervals():
    overlapping = against(0.75, 0.65, 0.85, difference=(0.01, 0.09))
    assert ev(EFFECT, [overlapping]).verdict == "distinguishable from null"
    assert ev(EFFECT, [against(0.1, 0, 0.2, difference=(-0.1, 1.5))]).verdict == "not distinguishable from null"
    assert ev(EFFECT, [NULL], [against(0.82, 0.7, 0.9, difference=(-0.03, -0.01))]).verdict == "beaten by a baseline"


def test_lower_can_be_better():
    small, large = est(0.1, 0.05, 0.15), against(0.8, 0.7, 0.9)
    assert ev(small, [large], better="lower").verdict == "distinguishable from null"
    assert ev(small, [large]).verdict == "worse than null"
    assert ev(large.estimate, [against(0.1, 0.05, 0.15)], better="lower").verdict == "worse than null"
    assert ev(small, [large], [against(0.01, 0, 0.02)], better="lower").verdict == "beaten by a baseline"


def test_an_undefined_interval_is_never_sure():
    unsure = est(0.8, math.nan, math.nan)
    assert ev(unsure, [NULL]).verdict == "not distinguishable from null"
    assert ev(EFFECT, [NULL], [against(0.99, math.nan, math.nan)]).verdict == "distinguishable from null"


def test_json_round_trip(tmp_path):
    whole = ev(
        EFFECT,
        [NULL, against(0.2, difference=(0.4, 0.7))],
        [against(0.5, 0.4, 0.6)],
        seeds=(0, 1),
        settings={"features": 40, "points": ["a", "b"], "cut": None, "nested": {"x": 0.5}},
        second_data=est(0.7),
        paraphrase=est(0.6, 0.5, 0.7),
        residual_tail=(TailItem(item="2_41_7", predicted=0.5, measured=-0.1),),
        not_done=(NotDone(what="twin", why="none ships with this model"),),
    )
    write_json(tmp_path / "e.json", whole.to_json())
    assert Evidence.from_json(json.loads((tmp_path / "e.json").read_text())) == whole


def test_undefined_numbers_survive_json(tmp_path):
    undefined = ev(
        est(math.nan, math.nan, math.nan),
        [against(math.nan)],
        residual_tail=(TailItem(item="i", predicted=math.nan, measured=math.inf),),
        settings={"ratio": math.nan, "shape": (2, 3)},
    )
    write_json(tmp_path / "e.json", undefined.to_json())  # NaN would be refused
    back = Evidence.from_json(json.loads((tmp_path / "e.json").read_text()))
    assert math.isnan(back.effect.value)
    assert math.isnan(back.effect.interval.low)
    assert math.isnan(back.nulls[0].estimate.value)
    assert math.isnan(back.residual_tail[0].predicted)
    assert back.settings == {"ratio": None, "shape": [2, 3]}
    assert back.to_json() == undefined.to_json()


def test_nonsense_is_refused():
    with pytest.raises(ValidationError, match="low end lies above"):
        Interval(low=1.0, high=0.0, method="m")
    with pytest.raises(ValidationError):
        Interval(low=0.0, high=1.0, level=95, method="m")
    with pytest.raises(ValidationError):
        Estimate(name="x", value=1.0, n=-1)
    with pytest.raises(ValidationError, match="JSON values"):
        ev(EFFECT, settings={"model": object()})
    with pytest.raises(ValidationError):
        ev(EFFECT).claim = "another"


def test_it_prints_each_part():
    text = str(ev(EFFECT, [NULL], [against(0.5, name="neurons")], not_done=(NotDone(what="twin", why="absent"),)))
    for part in ("0.8 [0.7, 0.9] (n=30)", "random directions", "neurons", "twin: absent", "verdict"):
        assert part in text
    assert "undefined (n=30)" in str(est(math.nan))
