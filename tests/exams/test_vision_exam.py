"""The laws of the exam of vision hold, whatever the seed."""

from __future__ import annotations

import pytest

from cutaway.exams.vision import laws


@pytest.mark.parametrize("seed", [0, 5])
def test_every_law_holds(seed: int) -> None:
    rows = laws(seed)
    assert len(rows) > 8
    assert [row["name"] for row in rows if row["passed"] is not True] == []
    for row in rows:
        if row["tolerance"] is not None and row["truth"] is not None:
            assert abs(row["estimate"] - row["truth"]) <= row["tolerance"]
