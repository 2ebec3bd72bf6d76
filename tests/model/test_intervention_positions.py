"""Positions by number, slice, row, name and text; maps between runs; padding never moves a position."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model.families import close, ids
from model.five import FIVE, five

import cutaway as whole
import cutaway.model as cw
from cutaway.core import InputError
from cutaway.model.positions import Layout

ROWS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14, 15]]
AT = "resid_post.1"


def _touched(m: cw.Model, prompt: object, padding: str = "right", **where: object) -> list[list[int]]:
    """Own positions of each row at which adding 1 changed what is there."""
    clean = m.run(prompt, read=[AT], padding=padding)
    run = m.run(prompt, read=[AT], padding=padding, interventions=[cw.add(AT, torch.ones(48), **where)])
    changed = (run[AT] - clean[AT]).abs().sum(-1) > 1
    layout = run.layout
    return [
        changed[r, s : s + n].nonzero()[:, 0].tolist() for r, (s, n) in enumerate(zip(layout.starts, layout.lengths))
    ]


@pytest.mark.parametrize("padding", ["right", "left"])
def test_every_way_to_say_a_position_means_the_rows_own_tokens(padding: str) -> None:
    m = five("llama")
    names = {"subject": torch.tensor([3, 0, 2]), "end": torch.tensor([4, 1, 3]), "first": 0}
    cases = [
        ({"positions": -1}, [[4], [1], [3]]),
        ({"positions": [0, -1]}, [[0, 4], [0, 1], [0, 3]]),
        ({"positions": slice(1, None)}, [[1, 2, 3, 4], [1], [1, 2, 3]]),
        ({"positions": slice(-3, -1)}, [[2, 3], [0], [1, 2]]),
        ({"positions": slice(None, None, 2)}, [[0, 2, 4], [0], [0, 2]]),
        ({"positions": range(2)}, [[0, 1], [0, 1], [0, 1]]),
        ({"positions": names["subject"]}, [[3], [0], [2]]),
        ({"positions": "subject", "names": names}, [[3], [0], [2]]),
        ({"positions": ["first", "end"], "names": names}, [[0, 4], [0, 1], [0, 3]]),
        ({"positions": torch.tensor([[0, -1], [1, -1], [2, 3]])}, [[0, 4], [1], [2, 3]]),
        ({"positions": slice(2, None), "rows": [0, 2]}, [[2, 3, 4], [], [2, 3]]),
        ({"positions": "13"}, None),
    ]
    for where, expected in cases:
        if expected is None:
            with pytest.raises(InputError, match="row 0 has no token '13'"):
                _touched(m, ROWS, padding, **where)
        else:
            assert _touched(m, ROWS, padding, **where) == expected, where


@st.composite
def _batches(draw: st.DrawFn) -> tuple[list[int], str, slice | int | list[int]]:
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    end = st.none() | st.integers(-7, 7)
    short = min(lengths)
    number = st.integers(-short, short - 1)
    positions = draw(
        st.builds(slice, end, end, st.none() | st.integers(1, 3))
        | number
        | st.lists(number, min_size=1, max_size=3, unique=True)
    )
    return lengths, draw(st.sampled_from(["left", "right"])), positions


@settings(max_examples=300, deadline=None)
@given(_batches())
def test_positions_are_those_of_a_list_of_the_rows_own_tokens(case: tuple[list[int], str, Any]) -> None:
    """Against Python's own indexing, on columns that hold the numbers of the tokens."""
    lengths, side, positions = case
    width = max(lengths)
    starts = tuple(width - n if side == "left" else 0 for n in lengths)
    layout = Layout(starts, tuple(lengths), width)
    x = torch.full((len(lengths), width, 2), -1)
    for row, (start, length) in enumerate(zip(starts, lengths)):
        x[row, start : start + length] = torch.arange(length)[:, None]

    def own(length: int) -> set[int]:
        tokens = list(range(length))
        if isinstance(positions, slice):
            return set(tokens[positions])
        return {tokens[p] for p in ([positions] if isinstance(positions, int) else positions)}

    select = cw.zero(AT, positions=positions).select
    if not any(own(length) for length in lengths):
        with pytest.raises(InputError, match="empty in every row"):
            select.place("it", ("batch", "position", "d_model"), tuple(x.shape), layout, "cpu")
        return
    place = select.place("it", ("batch", "position", "d_model"), tuple(x.shape), layout, "cpu")
    marked = torch.zeros_like(x, dtype=torch.bool)
    chosen = torch.ones_like(place.get(x), dtype=torch.bool) if place.keep is None else place.keep
    marked[place.index if place.index is not None else ...] = chosen
    assert bool((marked[..., 0] == marked[..., 1]).all())
    for row, length in enumerate(lengths):
        assert set(x[row, marked[row, :, 0], 0].tolist()) == own(length)


def test_positions_by_the_text_of_tokens() -> None:
    m = whole.load("almanac")
    prompt = "When Mary and John went to the shop, John gave a book to"
    tokens = m.run(prompt).token_strings()
    found = [i for i, token in enumerate(tokens) if token.strip() == "John"]
    assert len(found) == 2
    run = m.run(prompt, interventions=[cw.zero("resid_post.1", positions="John")])
    assert run.fired.rows[0].entries == 2 * m.facts.d_model
    assert torch.equal(run.logits, m.run(prompt, interventions=[cw.zero("resid_post.1", positions=found)]).logits)
    several = tokens[found[0]] + tokens[found[0] + 1]  # more tokens than one
    run = m.run(prompt, interventions=[cw.zero("resid_post.1", positions=several)])
    assert run.fired.rows[0].entries == 2 * m.facts.d_model
    with pytest.raises(InputError, match=r"no token 'Jon'.*' John'.*names=task.positions"):
        m.run(prompt, interventions=[cw.zero("resid_post.1", positions="Jon")])


@pytest.mark.parametrize("family", FIVE)
def test_a_patch_maps_positions_and_rows(family: str) -> None:
    m = five(family)
    other = m.run(ids(3, 9, seed=5), read=["resid_post.1", "z.1"])
    clean = m.run(ids(2, 7), read=["resid_post.1", "z.1"])
    change = cw.patch("resid_post.1", other, positions={5: 3, -1: 0}, rows={0: 2, 1: 1})
    got = m.run(ids(2, 7), read=["resid_post.1"], interventions=[change])["resid_post.1"]
    expected = clean["resid_post.1"].clone()
    expected[0, 5], expected[0, 6] = other["resid_post.1"][2, 3], other["resid_post.1"][2, 0]
    expected[1, 5], expected[1, 6] = other["resid_post.1"][1, 3], other["resid_post.1"][1, 0]
    assert close(got, expected)
    one = m.run(ids(1, 9, seed=6), read=["z.1"])
    change = cw.patch("z.1", one, head=[1, 4], positions={2: -1})
    got = m.run(ids(2, 7), read=["z.1"], interventions=[change])["z.1"]
    expected = clean["z.1"].clone()
    expected[:, 2, [1, 4]] = one["z.1"][:, -1, [1, 4]]
    assert close(got, expected)
    basis = torch.eye(48)[:4]
    change = cw.interchange("resid_post.1", basis, other, positions={1: 8}, rows={1: 0})
    got = m.run(ids(2, 7), read=["resid_post.1"], interventions=[change])["resid_post.1"]
    expected = clean["resid_post.1"].clone()
    expected[1, 1, :4] = other["resid_post.1"][0, 8, :4]
    assert close(got, expected)


def test_maps_by_name_and_of_each_row_its_own() -> None:
    m = five("llama")
    names = {"S": torch.tensor([3, 1, 0]), "IO": torch.tensor([0, -1, 2]), "start": 0}
    source = m.run(ids(3, 4, seed=5), read=[AT])
    clean = m.run(ROWS, read=[AT])
    for positions in ({"S": "IO", -1: "start"}, {names["S"]: names["IO"], -1: 0}):
        change = cw.patch(AT, source, positions=positions, names=names)
        got = m.run(ROWS, read=[AT], interventions=[change])
        for row in range(3):
            expected = clean[AT][row].clone()
            expected[names["S"][row]] = source[AT][row, names["IO"][row]]
            expected[len(ROWS[row]) - 1] = source[AT][row, 0]
            length = len(ROWS[row])
            assert close(got[AT][row, :length], expected[:length])
        assert cw.Intervention.from_json(change.to_json()) == change
    assert cw.patch(AT, source, positions={"start": "last"}, names={"start": 0, "last": -1}) == cw.patch(
        AT, source, positions={0: -1}
    )
    ends = cw.patch(AT, source, positions=torch.tensor([-1, -1, -1]))  # from each side's own end
    got = m.run(ROWS, read=[AT], interventions=[ends])
    assert torch.equal(got.at(AT), source.at(AT))
    for positions, match in [
        ({"S": "X"}, "X"),
        ({torch.tensor([1, 2]): 0, torch.tensor([1, 2, 0]): 1}, "one number a row"),
        ({torch.tensor([[1, 2]]): 0}, "one number a row"),
        ({0.5: 1}, "must be an int"),
    ]:
        with pytest.raises(InputError, match=match):
            cw.patch(AT, source, positions=positions, names=names)
    with pytest.raises(InputError, match="names="):
        cw.patch(AT, source, positions={"S": 0})


def test_a_pattern_patched_by_maps_of_queries_and_keys() -> None:
    m = five("llama")
    other = m.run(ids(1, 9, seed=5), read=["attn_probs.1"])["attn_probs.1"]
    source = m.run(ids(1, 9, seed=5), read=["attn_probs.1"])
    clean = m.run(ids(1, 7), read=["attn_probs.1"])["attn_probs.1"]
    change = cw.patch("attn_probs.1", source, head=2, positions={5: 8}, keys={0: 7, 1: 6})
    got = m.run(ids(1, 7), read=["attn_probs.1"], interventions=[change])["attn_probs.1"]
    expected = clean.clone()
    expected[0, 2, 5, 0], expected[0, 2, 5, 1] = other[0, 2, 8, 7], other[0, 2, 8, 6]
    assert close(got, expected)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize(("here", "there"), [("right", "left"), ("left", "right"), ("left", "left")])
def test_a_patch_between_paddings_meets_the_same_tokens(family: str, here: str, there: str) -> None:
    m = five(family)
    points = ["resid_post.1", "attn_probs.1", "value.1"]
    others = [[20, 21, 22, 23, 24], [25, 26], [27, 28, 29, 30]]
    source = m.run(others, read=points, padding=there)
    for at in points:
        got = m.run(ROWS, read=["resid_post.2"], padding=here, interventions=[cw.patch(at, source)])
        for row, (mine, other) in enumerate(zip(ROWS, others)):
            one = cw.patch(at, m.run(other, read=[at]))
            alone = m.run(mine, read=["resid_post.2"], interventions=[one])["resid_post.2"][0]
            start, length = got.layout.starts[row], got.layout.lengths[row]
            assert close(got["resid_post.2"][row, start : start + length], alone, 1e-4), (at, row)
    mean = cw.mean("resid_post.1", over=m.run(others, read=points, padding=there), per_position=True)
    first = m.run(ROWS, read=["resid_post.1"], padding=here, interventions=[mean])
    again = cw.mean("resid_post.1", over=m.run(others, read=points), per_position=True)
    second = m.run(ROWS, read=["resid_post.1"], interventions=[again])
    for row in range(3):
        a, b = first.layout.starts[row], second.layout.starts[row]
        length = first.layout.lengths[row]
        assert close(first["resid_post.1"][row, a : a + length], second["resid_post.1"][row, b : b + length])


def test_positions_that_the_source_has_not_are_refused() -> None:
    m = five("llama")
    short = m.run([[20, 21, 22], [25, 26]], read=[AT])
    long = m.run(ids(1, 9), read=[AT])
    same_rows = m.run([[20, 21, 22], [25, 26], [3, 4]], read=[AT])

    def refused(match: str, change: cw.Intervention, prompt: object = ROWS) -> None:
        with pytest.raises(InputError, match=match):
            m.run(prompt, interventions=[change])

    refused("rows have 3, 2, 2 tokens, these 5, 2, 4", cw.patch(AT, same_rows))
    refused("rows have 9 tokens, these 5, 2, 4", cw.patch(AT, long))
    refused("rows have 9 tokens, these 7", cw.patch(AT, long), ids(1, 7))
    refused("rows have 1 tokens, these 7", cw.patch(AT, m.run([7], read=[AT])), ids(1, 7))
    refused(r"has 2 rows, the batch 3", cw.patch(AT, short))
    refused(
        "no position 3 in row 0 of the tensor patched in, which has 3", cw.patch(AT, same_rows, positions=3, rows=0)
    )
    refused("no position 7 in row 0", cw.patch(AT, same_rows, positions={0: 7}))
    refused("these 5, 2, 4", cw.patch(AT, same_rows, positions=slice(2, None)))
    refused("no row 5", cw.patch(AT, same_rows, rows={0: 5}, positions=0))
    refused("no position 2 in row 1", cw.patch(AT, long, positions={2: 0}))
    with pytest.raises(InputError, match="maps to places of a run"):
        cw.patch(AT, torch.zeros(1, 3, 48), positions={0: 1})
    with pytest.raises(InputError, match="names="):
        cw.patch(AT, long, positions={0: "a"})
    with pytest.raises(InputError, match="whole numbers"):
        cw.patch(AT, long, rows={0: "a"})
    # The last of each, whatever the lengths.
    got = m.run(ROWS, read=[AT], interventions=[cw.patch(AT, same_rows, positions=-1)])
    for row in range(3):
        assert torch.equal(got.at(AT)[row], same_rows.at(AT)[row])


def test_what_is_no_position_is_refused() -> None:
    m = five("llama")
    for value, match in [
        (torch.tensor([1, 2]), "positions of 2 rows; the batch has 3"),
        (torch.tensor([0, 1, 9]), "no position 9 in row 2"),
        (slice(5, None), "empty in every row"),
    ]:
        with pytest.raises(InputError, match=match):
            m.run(ROWS, interventions=[cw.zero(AT, positions=value)])
    for value, match in [
        (slice(None, None, -1), "forward"),
        (slice("a", None), "whole numbers"),
        (["S1", "S2"], "names="),
        (torch.tensor([0.5]), "whole numbers"),
        (torch.tensor([True]), "mask="),
        ("", "empty"),
        (True, "must be an int"),
    ]:
        with pytest.raises(InputError, match=match):
            cw.zero(AT, positions=value)
    with pytest.raises(InputError, match="S1"):
        cw.zero(AT, positions="S3", names={"S1": torch.tensor([1])})
    with pytest.raises(InputError, match="not both"):
        cw.zero("value.1", head=1, kv_head=1)
    with pytest.raises(InputError, match="no kv_head axis"):
        m.run(ROWS, interventions=[cw.zero("z.1", kv_head=1)])
