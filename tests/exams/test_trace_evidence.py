import pytest

from cutaway.core import Comparison, Estimate, Evidence, InputError, Interval
from cutaway.exams.trace_evidence import pooled, table


def _record(effect: float, null: float, low: float) -> Evidence:
    apart = Interval(low=low, high=low + 1, method="made up")
    return Evidence(
        claim="c",
        effect=Estimate(name="effect", value=effect, n=3),
        nulls=(Comparison(estimate=Estimate(name="twin", value=null, n=3), difference=apart),),
        how="made up",
    )


def test_means_are_over_prompts_and_what_is_exceeded_is_counted():
    rows = pooled([[_record(1.0, 0.5, 0.1)], [_record(3.0, 0.1, -0.2)], [_record(2.0, float("nan"), -0.2)]])
    effect, twin = rows
    assert effect.mean.value == pytest.approx(2.0)
    assert effect.mean.n == 3
    assert (twin.what, twin.mean.n, twin.exceeded) == ("twin", 2, 1)  # what is undefined on a prompt does not count
    assert twin.mean.value == pytest.approx(0.3)
    assert "1 of 2" in table(rows)


def test_traces_with_other_claims_are_refused():
    with pytest.raises(InputError, match="same claims"):
        pooled([[_record(1, 0, 0)], []])
