"""An unknown name is answered with the nearest valid ones."""

from hypothesis import given
from hypothesis import strategies as st

from cutaway.core import InputError, UnknownName, unknown

POINTS = ["resid_pre.3", "resid_post.3", "mlp_out.3", "attn_probs.3"]


def test_the_nearest_names_come_first() -> None:
    error = UnknownName("point", "resid_psot.3", POINTS)
    assert isinstance(error, InputError)
    assert str(error).startswith("no point 'resid_psot.3'; the nearest: resid_post.3")


def test_without_a_near_one_all_are_listed() -> None:
    assert unknown("point", "zzz", POINTS) == f"no point 'zzz'; there are: {', '.join(POINTS)}."
    assert unknown("model", "x", []) == "no model 'x'; there are: none."


@given(st.text(), st.lists(st.text(), max_size=30))
def test_any_name_can_be_unknown(name: str, valid: list[str]) -> None:
    assert repr(name) in unknown("thing", name, valid)
