"""Cards: what they count, and that taking a unit out is `cw.zero`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from vision.vision_case import COLOURS, SIDE, coloured, small_clip

import cutaway as cw
from cutaway.core import Evidence, InputError
from cutaway.vision import Survey, card, rerandomised, survey, word_pictures
from cutaway.vision.card import conditional
from cutaway.vision.probes import sparse_probe


@pytest.fixture(scope="module")
def looked() -> Survey:
    tower = small_clip()
    seen = coloured(16)
    others = [rerandomised(tower, 0, seen.images)]
    return survey(tower, seen, word_pictures(list(COLOURS), 8, SIDE), others=others, permutations=5)


def _live(found: Survey) -> int:
    return found.sample[0]


def test_ablating_a_unit_is_a_run_with_zero(looked: Survey) -> None:
    unit = _live(looked)
    made = card(looked, unit)
    evidence = made.evidence[1]
    names = list(looked.found.concepts)
    index = names.index(made.concept)
    rows = np.flatnonzero(looked.shows(made.concept))
    images = torch.cat([looked.pictures.images, looked.words.images])[torch.from_numpy(rows)]
    tower = looked.tower

    def margin(changes: list[cw.Intervention]) -> float:
        run = tower.model.run(tower.pixels(images), interventions=changes)
        assert tower.embed is not None
        scores = tower.judge(tower.embed(run), names)
        others = (scores.sum(1) - scores[:, index]) / (len(names) - 1)
        return float((scores[:, index] - others).mean())

    fall = margin([]) - margin([cw.zero(looked.point, neuron=unit)])
    assert evidence.effect.value == pytest.approx(fall, abs=1e-4)
    assert evidence.nulls[0].estimate.n == min(20, len(np.flatnonzero(np.ptp(looked.values, axis=0) > 1e-9)) - 1)


def test_the_curve_is_the_share_of_each_bucket() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=4000)
    shows = rng.random(4000) < 1 / (1 + np.exp(-3 * values))
    z = (values - values.mean()) / values.std()
    for bucket in conditional(values, shows):
        inside = (z >= bucket.low) & (z < bucket.high)
        assert bucket.p.n == min(60, inside.sum())
        if bucket.p.n == 60:
            assert bucket.p.interval is not None
            assert bucket.p.interval.low - 0.1 < shows[inside].mean() < bucket.p.interval.high + 0.1


def test_a_card_is_written_whole_and_reads_back(looked: Survey, tmp_path: Path) -> None:
    made = card(looked, _live(looked), captions=["a red"])
    folder = made.write(tmp_path / "card")
    body = json.loads((folder / "card.json").read_text())
    assert body["schema"] == "cutaway.neuron-card/1"
    assert [q["quantile"] for q in body["quantiles"]] == ["strongest", "95 %", "80 %", "50 %"]
    strongest = [item["activation"] for item in body["quantiles"][0]["items"]]
    assert strongest == sorted(strongest, reverse=True)
    assert strongest[0] == pytest.approx(float(looked.values[: len(looked.pictures), made.unit].max()), abs=1e-4)
    assert {f["facet"] for f in body["facets"]} == {"picture", "word"}
    assert all(Evidence.from_json(e).verdict for e in body["evidence"])
    from PIL import Image

    with Image.open(folder / "top.png") as image:
        assert image.size == (2 * (8 * (SIDE + 2) - 2), 2 * (4 * (SIDE + 2) - 2))
    assert str(made)


def test_the_survey_has_its_nulls(looked: Survey) -> None:
    assert len(looked.evidence) == 2
    assert all(e.nulls for e in looked.evidence)
    assert "re-randomised" in str(looked)
    assert json.dumps(looked.to_json(), allow_nan=False)


def test_a_unit_that_is_not_there(looked: Survey) -> None:
    with pytest.raises(InputError, match=r"no unit 16; .* has 16 \(0 … 15\)"):
        card(looked, 16)


def test_a_sparse_probe_finds_the_planted_units() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 240)
    values = rng.normal(size=(240, 30))
    for c, unit in enumerate((4, 11, 23)):
        values[:, unit] += 4 * (labels == c)
    found = sparse_probe(values, labels, ("a", "b", "c"), k=1)
    assert found.units == ((4,), (11,), (23,))
    assert found.accuracy.value > 0.9 > found.random.value
    assert found.serves(11)[0][0] == "b"
    with pytest.raises(InputError, match="six pictures a class; c has 0"):
        sparse_probe(values[labels < 2], labels[labels < 2], ("a", "b", "c"))
