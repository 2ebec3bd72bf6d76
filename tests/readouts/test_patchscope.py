"""Patchscopes: states put into another prompt."""

import numpy as np
import pytest
import torch
from model.families import model as family

import cutaway as cw
from cutaway.core import InputError
from cutaway.readouts import patchscope

SOURCES = [[5, 9, 12, 3], [7, 7, 2], [11, 4, 4, 8, 6], [30, 20, 10], [3, 14, 15, 9]]
TARGET = [2, 6, 8, 4]


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
def test_what_is_said_is_that_of_a_patched_run(name):
    m = family(name)
    result = patchscope(m, SOURCES, target=TARGET, at="resid_post.*")
    run = m.run(SOURCES, ["resid_post.*"])
    own = run.at("logits").argmax(-1)
    for p, point in enumerate(result.points):
        for i in range(len(SOURCES)):
            change = [cw.patch(point, run.at(point)[i][None, None].expand(1, 4, -1), positions=-1)]
            logits = m.run([TARGET], interventions=change).at("logits")[0]
            assert result.said[p][i] == m.token_strings(logits.argmax()[None])[0]
            assert result.agreement[p, i] == float(logits.argmax() == own[i])
            np.testing.assert_allclose(result.surprisal[p, i], -logits.log_softmax(-1)[own[i]], rtol=1e-3, atol=1e-4)
    # The last block's output is what is said: it needs no target, and is never chosen.
    assert result.agreement[-1].all()
    assert result.best < len(result.points) - 1
    assert {e.nulls[0].estimate.name for e in result.evidence} == {"the state of another source"}


def test_a_state_put_back_where_it_was_says_what_was_said():
    m = family("llama")
    result = patchscope(m, [SOURCES[0]], target=SOURCES[0])
    assert result.agreement.all()
    assert result.evidence == ()  # one source is no test


def test_the_target_goes_on():
    m = family("gpt2")
    result = patchscope(m, SOURCES[:2], target=TARGET, tokens=3, at="resid_post.1")
    run = m.run(SOURCES[:2], ["resid_post.1"])
    states = torch.zeros(2, 4, m.facts.d_model)
    states[:, -1] = run.at("resid_post.1")
    target = torch.tensor([TARGET]).expand(2, -1)
    made = m.generate(target, 3, [cw.patch("resid_post.1", states, positions=-1)], when="prompt", stop=())
    assert result.texts == (tuple(made.text),)


def test_wrong_use_is_named(almanac):
    for given, message in (
        ({"at": "z.0"}, "residual stream"),
        ({"into": "resid_post.*"}, "one point"),
        ({"position": 99}, "99"),
        ({"at": "resid_post.99"}, "no layer 99"),
        ({"target": ""}, "empty"),
    ):
        with pytest.raises(InputError, match=message):
            patchscope(almanac, "the capital of", **given)


def test_two_hop_is_decoded_before_the_lens_shows_it(almanac):
    target = "the capital of Texas is Austin . the capital of Ohio is Columbus . the capital of"
    result = patchscope(almanac, cw.task("two-hop", almanac, n=12), target=target)
    middle = result.points.index("resid_post.1")
    assert result.agreement[middle].mean() > result.lens[middle].mean()
    assert "logit lens" in str(result)
    assert result.to_json()["schema"] == "cutaway.patchscope/1"


def test_one_source_has_no_other_to_stand_beside_it(almanac):
    found = patchscope(almanac, "Mary went home because")
    assert found.to_json()["null"] is None
    assert len(found.to_json()["said"]) == len(found.points)
    table = found.table().splitlines()
    assert table[3].split()[-1] == "-"
