"""The exam of dictionaries: what it keeps it goes on from, and every law holds at a size of seconds."""

from __future__ import annotations

import pytest

from cutaway.exams import features as exam
from cutaway.exams import run_exam


@pytest.fixture
def small(monkeypatch):
    for name in ("QUICK_SAMPLES", "QUICK_EASY"):
        monkeypatch.setattr(exam, name, 16_384)
    monkeypatch.setattr(exam, "SCORED", 4096)


def test_an_exam_that_was_ended_goes_on_and_gives_the_same_rows(small, tmp_path, monkeypatch):
    once = run_exam("features", quick=True, keep=tmp_path)["rows"]
    made = sorted(path.name for path in tmp_path.iterdir())
    assert len(made) == 10  # two easy ones and eight on the hard features
    (tmp_path / made[0]).unlink()
    told = []
    trained = exam._trained
    monkeypatch.setattr(exam, "_trained", lambda *given: told.append(given[1]) or trained(*given))
    assert run_exam("features", quick=True, keep=tmp_path)["rows"] == once
    assert len(told) == 1  # what was kept is not trained again
    exact = [row for row in once if row["name"].startswith(("synthetic features", "the true dictionary"))]
    assert len(exact) == 6
    assert all(row["passed"] for row in exact)
    above = [row for row in once if "above random directions" in row["name"]]
    assert len(above) == 8
    assert all(row["estimate"] > row["null"] for row in above)


@pytest.mark.parametrize("name", ["relu", "gated", "p_anneal"])
def test_a_penalised_dictionary_finds_features_that_are_as_easy_as_can_be(name):
    """Its features start near silence; those that fall silent must be able to come back."""
    easy = exam._subject(hard=False, n=98_304, seed=0)
    found = exam._trained(easy, name, 0)
    assert found["dead"] < 0.1
    assert found["mcc"] > 0.85
    assert 0.95 <= found["l0"] / easy.l0 <= 1.05
