"""States of a world: what may be read, what an edit does, and data that is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from model.families import model as family

from cutaway.core import InputError
from cutaway.readouts import StateData, read_states, state_study
from cutaway.readouts.softmaxes import fit_softmaxes
from cutaway.readouts.state_data import Edits
from cutaway.readouts.state_edit import _Editor, state_edit
from cutaway.readouts.state_probe import _bag, state_probe

N, T, V = 120, 8, 12


def data(edits: bool = True) -> StateData:
    """The state after a token: which third of the vocabulary it is of, and which the one before was of."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, V, (N, T))
    third = tokens // (V // 3)
    state = np.stack([third, np.concatenate([np.full((N, 1), -1), third[:, :-1]], 1)], -1)
    tokens[:5, T - 2 :] = -1
    state[:5, T - 2 :] = -1
    found = None
    if edits:
        row, position = np.arange(5, N), np.full(N - 5, 4)
        to = (state[row, position, 0] + 1) % 3
        valid = np.zeros((N - 5, 101), dtype=bool)
        valid[np.arange(N - 5), to] = True
        found = Edits(row, position, np.zeros(N - 5, dtype=np.int64), to, valid, np.roll(valid, 1, 1))
    return StateData("thirds", tokens, state, ("now", "before"), ("low", "middle", "high"), None, found)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
def test_what_the_last_token_says_is_read_and_the_record_has_its_nulls(name):
    m = family(name)
    d = data(edits=False)
    found = state_probe(m, d)
    assert found.by_variable[0] > 0.8  # the token itself is in the stream; chance is a third
    assert found.by_variable[0] > found.by_variable[1]
    (record,) = found.evidence
    assert [b.estimate.name for b in record.baselines] == [
        "bag of the tokens so far, by parity", "most common value at that position",
    ]  # fmt: skip
    assert record.nulls[0].estimate.name.startswith("re-randomised model")
    train, validation, test = (set(side.tolist()) for side in found.sides)
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert train | validation | test == set(range(N))


def test_values_that_are_not_asked_for_do_not_count():
    m, d = family("gpt2"), data(edits=False)
    state = d.state.copy()
    state[:, :, 1] = -1
    found = state_probe(m, replace(d, state=state), "resid_post.0", null=False)
    assert np.isnan(found.by_variable[1])
    assert found.evidence[0].not_done[0].what == "the re-randomised model"
    blank = state_probe(m, replace(d, blank=0), "resid_post.0", null=False)
    assert not (replace(d, blank=0).counted & (d.state == 0)).any()
    assert blank.blank == "low"
    assert "low counted too" in str(blank)


def test_an_edit_mirrors_what_the_probe_reads():
    m, d = family("llama"), data()
    probe = state_probe(m, d, null=False)
    editor = _Editor(m, d, d.edits, probe, [s.point for s in probe.sweep], seed=0)
    which = np.arange(7)
    x = torch.randn(7, m.facts.d_model, generator=torch.Generator().manual_seed(1))
    for point in probe.probes:
        for strength in (0.5, 1.0, 3.0):

            def gap(y, point=point):
                logits = probe.probes[point].logits(y)[torch.arange(7), d.edits.variable[which]]
                return logits[torch.arange(7), d.edits.to[which]] - logits[torch.arange(7), editor.now[which]]

            moved = x + editor.along(point, x, which, strength)
            torch.testing.assert_close(gap(moved), -strength * gap(x), rtol=1e-3, atol=1e-3)
            for other in (editor.random, editor.another):  # the nulls go as far
                shift = other(point, x, which, strength)
                torch.testing.assert_close(shift.norm(dim=1), editor.along(point, x, which, strength).norm(dim=1))


def test_errors_are_those_of_a_plain_count_and_nothing_is_edited_elsewhere():
    m, d = family("gpt_neox"), data()
    probe = state_probe(m, d, null=False)
    found = state_edit(m, d, probe, strengths=(1.0,))
    points = [s.point for s in probe.sweep]
    editor = _Editor(m, d, d.edits, probe, points, seed=0)
    test = np.flatnonzero(np.isin(d.edits.row, probe.sides[2]))
    plain = []
    for i in test:
        r, e = int(d.edits.row[i]), int(d.edits.position[i])
        logits = m.run(d.tokens[r, : e + 1].tolist()).logits[0, -1]
        valid = set(np.flatnonzero(d.edits.valid[i]).tolist())
        top = set(logits.topk(len(valid)).indices.tolist())
        plain.append(len(top - valid) + len(valid - top))
    assert found.unedited.value == pytest.approx(np.mean(plain))
    assert editor.errors(test, None, points[0], 1.0)[0].tolist() == plain
    assert found.n == (len(np.flatnonzero(np.isin(d.edits.row, probe.sides[1]))), len(test))
    assert {n.estimate.name for n in found.evidence[0].nulls} == {
        "nothing edited", "random directions as long as the edit", "the same change of another variable",
    }  # fmt: skip


def test_the_bag_counts_by_parity():
    d = data()
    bag = _bag(d)
    for r in (0, 7):
        for t in range(int(d.lengths[r])):
            for token in range(V):
                ago = [t - i for i in range(t + 1) if d.tokens[r, i] == token]
                assert bag[r, t, token] == sum(a % 2 == 0 for a in ago)
                assert bag[r, t, V + token] == sum(a % 2 == 1 for a in ago)


def test_softmaxes_reach_scikit_learns_optimum():
    from sklearn.linear_model import LogisticRegression

    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(300, 6, generator=g), torch.randint(0, 3, (300, 2), generator=g)
    found = fit_softmaxes(x, y, 3, decay=0.1)
    z = ((x - x.mean(0)) / x.std(0)).numpy()
    for s in range(2):  # sum over examples = n × mean, so C = 1 / (n decay)
        theirs = LogisticRegression(C=1 / (300 * 0.1), tol=1e-8, max_iter=5000).fit(z, y[:, s])
        ours = (found.weight[s] * x.std(0)).numpy()
        np.testing.assert_allclose(ours - ours.mean(0), theirs.coef_ - theirs.coef_.mean(0), atol=2e-3)


def test_a_file_holds_what_was_written(tmp_path):
    d = data()
    arrays = {"tokens": d.tokens, "state": d.state, "variables": np.array(d.variables), "values": np.array(d.values)}
    arrays |= {"shape": np.array([2, 1]), "words": np.array([f"w{i}" for i in range(V)]), "blank": np.array(0)}
    arrays |= {
        f"edit_{name}": getattr(d.edits, name) for name in ("row", "position", "variable", "to", "valid", "before")
    }
    np.savez(tmp_path / "thirds.npz", **arrays)
    read = read_states(tmp_path / "thirds.npz")
    assert (read.tokens == d.tokens).all()
    assert read.variables == d.variables
    assert (read.shape, read.words[1], read.blank) == ((2, 1), "w1", 0)
    assert read.edits is not None
    assert (read.edits.valid == d.edits.valid).all()
    result = state_study(family("gpt2"), read, "resid_post.*", null=False, strengths=(1.0,))
    assert result.to_json()["schema"] == "cutaway.state/1"
    assert "errors" in str(result)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tokens": np.zeros((3, T), dtype=int), "state": np.zeros((3, T, 2), dtype=int)}, "too few"),
        ({"state": np.zeros((N, T + 1, 2), dtype=int)}, r"\[n, T, S\]"),
        ({"state": np.full((N, T, 2), 3)}, "0 … 2"),
        ({"state": np.full((N, T, 2), -1)}, "nowhere|anywhere"),
        ({"variables": ("now", "now")}, "different names"),
        ({"shape": (2, 2)}, "2 x 2 does not hold 2"),
        ({"shape": (-1, -2)}, "-1 x -2"),
        ({"words": ("a",)}, "1 words, but a token 11"),
        ({"blank": 3}, "blank is one of"),
        ({"tokens": np.where(np.arange(T) == 2, -1, 0) + np.zeros((N, 1), dtype=int)}, "end"),
    ],
)
def test_data_that_does_not_fit_is_refused(change, says):
    with pytest.raises(InputError, match=says):
        replace(data(edits=False), **change)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"position": np.full(N - 5, T)}, "end"),
        ({"variable": np.full(N - 5, 2)}, "variable is 0 … 1"),
        ({"to": data().state[np.arange(5, N), 4, 0]}, "value that it has"),
        ({"valid": np.zeros((N - 5, 101), dtype=bool)}, "no next token"),
        ({"row": np.arange(3)}, "lengths"),
    ],
)
def test_edits_that_do_not_fit_are_refused(change, says):
    d = data()
    with pytest.raises(InputError, match=says):
        replace(d, edits=replace(d.edits, **change))


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(InputError, match=r"text\.npz"):
        read_states(tmp_path / "text.npz")
    np.savez(tmp_path / "pickle.npz", tokens=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"pickle\.npz"):
        read_states(tmp_path / "pickle.npz")
    np.savez(tmp_path / "half.npz", tokens=np.zeros((20, 3), dtype=int))
    with pytest.raises(InputError, match="no state"):
        read_states(tmp_path / "half.npz")
    whole = {"tokens": np.zeros((20, 3), dtype=int), "state": np.zeros((20, 3, 2), dtype=int)}
    for name, wrong in (
        ("shape", 2),
        ("shape", [1, 2, 1]),
        ("shape", [1.0, 2.0]),
        ("blank", [0, 0]),
        ("blank", "none"),
    ):
        np.savez(tmp_path / "wrong.npz", **whole, **{name: np.array(wrong)})
        with pytest.raises(InputError, match=name):
            read_states(tmp_path / "wrong.npz")
    with pytest.raises(InputError, match="no file"):
        read_states(tmp_path / "absent.npz")


def test_what_cannot_be_probed_or_edited_is_said():
    m, d = family("gpt2"), data()
    with pytest.raises(InputError, match="one vector a position"):
        state_probe(m, d, "attn_probs.0")
    with pytest.raises(InputError, match="residual stream after blocks"):
        state_edit(m, d, state_probe(m, d, "mlp_out.*", null=False))
    probe = state_probe(m, d, null=False)
    with pytest.raises(InputError, match="positive"):
        state_edit(m, d, probe, strengths=(float("nan"),))
    with pytest.raises(InputError, match="describes no edits"):
        state_edit(m, data(edits=False), probe)


def test_an_example_is_what_the_probe_reads_of_a_sequence_that_it_has_not_learnt_from():
    m, d = family("llama"), replace(data(edits=False), shape=(1, 2), words=tuple(f"word {i}" for i in range(V)))
    found = state_probe(m, d, null=False)
    assert len(found.examples) == 3
    for example in found.examples:
        assert example.row in found.sides[2]
        end = int(d.lengths[example.row])
        row = d.tokens[example.row, :end].tolist()
        assert example.tokens == tuple(f"word {i}" for i in row)
        assert (example.state == d.state[example.row, :end]).all()
        for point, read in example.read.items():
            alone = found.probes[point].predict(m.run(row, read=[point])[point][0].float())
            assert (read == alone.numpy()).all()
    body = found.to_json()
    assert body["shape"] == [1, 2]
    assert set(body["examples"][0]["read"]) == set(m.addresses("resid_post.*"))


def test_shares_by_variable_have_the_whole_share_as_their_mean():
    d = data(edits=False)
    found = state_probe(family("gpt2"), d)
    test = found.sides[2]
    assert found.counted.tolist() == (d.state[test] >= 0).sum((0, 1)).tolist()
    whole = (d.state[test] >= 0).sum((1, 2))  # every sequence here asks for as much, but for those that end early
    for score in found.sweep:
        assert score.untrained_by_variable is not None
        mean = (score.by_variable * found.counted).sum() / found.counted.sum()
        assert mean == pytest.approx(score.test.value, abs=0.02 if len(set(whole.tolist())) > 1 else 1e-9)
    assert all(len(shares) == 2 for shares in found.rivals.values())
    assert [b.estimate.name for b in found.evidence[0].baselines] == list(found.rivals)


@pytest.mark.parametrize("most", [1, 40, 200, 40_000])
def test_examples_stay_within_what_a_page_may_hold(most, monkeypatch):
    monkeypatch.setattr("cutaway.readouts.state_examples.MOST", most)
    found = state_probe(family("gpt2"), data(edits=False), null=False)
    said = sum((len(one.read) + 1) * one.state.size for one in found.examples)
    assert found.examples
    assert said <= max(most, 2 * 2)  # at the least one token of one sequence, at one point
    assert all(found.sweep[found.best].point in one.read for one in found.examples)
