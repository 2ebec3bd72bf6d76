"""Reference sets, and values that do not belong to the model they are given to."""

from __future__ import annotations

import pytest
import torch
from model.families import close, ids
from model.five import FIVE, Sparse, five

import cutaway as whole
import cutaway.model as cw
from cutaway.core import InputError

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13], [14, 15, 16, 17, 18], [19, 20]]


@pytest.mark.parametrize("family", FIVE)
@pytest.mark.parametrize("per_position", [False, True])
def test_a_mean_over_many_prompts_is_that_over_them_all(family: str, per_position: bool) -> None:
    m, at = five(family), "z.1"
    alone = [m.run(prompt, read=[at])[at][0] for prompt in PROMPTS]
    if per_position:
        expected = torch.stack([torch.stack([x[p] for x in alone if len(x) > p]).mean(0) for p in range(5)])
    else:
        expected = torch.cat(alone).mean(0).expand(5, -1, -1)
    for over in (m.run(PROMPTS, read=[at]), m.stream(PROMPTS, [at], batch=2)):
        change = cw.mean(at, over, per_position=per_position)
        got = m.run(ids(2, 5), read=[at], interventions=[change])[at]
        assert close(got, expected.expand(2, -1, -1, -1))
    if per_position:
        with pytest.raises(InputError, match="rows have 5 tokens, these 6"):
            m.run(ids(2, 6), interventions=[change])


def test_resampling_from_many_prompts_draws_among_them_all() -> None:
    m, at = five("llama"), "resid_post.1"
    many = ids(6, 8, seed=3)
    one = cw.resample(at, m.run(many, read=[at]), seed=11)
    several = cw.resample(at, m.stream(many, [at], batch=4), seed=11)
    first, second = (m.run(ids(20, 7), read=[at], interventions=[c])[at] for c in (one, several))
    assert close(first, second)
    assert len({tuple(row[0].tolist()) for row in first}) > 3
    padded = m.run([[3, 4, 5], [6, 7]], read=[at])
    with pytest.raises(InputError, match="one length"):
        cw.resample(at, padded, seed=0)
    with pytest.raises(InputError, match="rows have 8"):
        m.run(ids(2, 9), interventions=[one])


def test_what_is_no_reference_is_refused() -> None:
    m = five("llama")
    with pytest.raises(InputError, match="holds no run"):
        cw.mean("z.1", over=[])
    with pytest.raises(InputError, match=r"one of these is str.*model\.stream"):
        cw.mean("z.1", over=["a prompt"])
    with pytest.raises(InputError, match=r"model\.run"):
        cw.mean("z.1", over="a prompt")
    small = m.run(PROMPTS, read={"z.1": whole.reduce(positions=-1)})
    for make in (cw.mean, cw.patch):
        with pytest.raises(InputError, match=r"z\.1 was reduced as it was read"):
            make("z.1", small)
    with pytest.raises(InputError, match="holds no run"):
        cw.mean("z.1", over=m.stream([], ["z.1"]))
    with pytest.raises(InputError, match=r"z\.1 was not read"):
        cw.mean("z.1", over=m.run(PROMPTS, read=["z.2"]))


def test_values_of_another_model_are_refused_by_name() -> None:
    m, gemma = five("llama"), five("gemma2")  # gemma2 has a layer more, and heads of another width
    other = gemma.run(ids(2, 7), read=["resid_post.*", "z.*"])

    def refused(match: str, change: cw.Intervention) -> None:
        with pytest.raises(InputError, match=match):
            m.run(ids(2, 7), interventions=[change])

    refused(
        r"resid_post\.3 of Gemma2ForCausalLM, which .* of LlamaForCausalLM has not", cw.patch("resid_post.*", other)
    )
    refused(r"z\.3 of Gemma2ForCausalLM", cw.mean("z.*", other))
    refused(r"\[2, 7, 6, 10\], from Gemma2ForCausalLM, does not fit .*d_head 8", cw.patch("z.1", other))
    refused(r"from Gemma2ForCausalLM, does not fit .*d_head 8", cw.mean("z.1", other))
    llama = m.run(ids(2, 7), read=["resid_post.*"])
    with pytest.raises(InputError, match=r"no value for resid_post\.3 in what LlamaForCausalLM recorded"):
        gemma.run(ids(2, 7), interventions=[cw.patch("resid_post.*", llama)])
    got = gemma.run(ids(2, 7), read=["resid_post.1"], interventions=[cw.patch("resid_post.1", llama)])
    assert torch.equal(got["resid_post.1"], llama["resid_post.1"])  # of the same width, and said so: allowed


def test_nan_is_refused_wherever_it_comes_from() -> None:
    m = five("llama")
    blown_up = [cw.scale("resid_post.0", 1e38), cw.scale("resid_pre.1", 1e38)]
    spoilt = m.run(ids(1, 4), read=["resid_post.1"], interventions=blown_up)
    assert spoilt["resid_post.1"].isnan().any()
    with pytest.raises(InputError, match=r"resid_post\.1 of the run of LlamaForCausalLM holds NaN"):
        cw.patch("resid_post.1", spoilt)
    broken = torch.full((1, 4, 48), float("nan"))
    for make in (cw.patch, cw.mean, cw.add):
        with pytest.raises(InputError, match="NaN"):
            make("resid_post.1", broken)
    with pytest.raises(InputError, match="NaN"):
        cw.resample("resid_post.1", broken, seed=0)
    with pytest.raises(InputError, match="NaN"):
        cw.project_out("resid_post.1", broken[0, 0])
    with pytest.raises(InputError, match="finite"):
        cw.clamp_features("resid_post.1", _Nan(), 1, float("nan"))
    with pytest.raises(InputError, match="NaN"):
        m.run(ids(1, 4), interventions=[cw.splice("resid_post.1", _Nan(), keep_error=False)])
    with pytest.raises(InputError, match="edit gave NaN"):
        m.run(ids(1, 4), interventions=[cw.splice("resid_post.1", Sparse(), edit=lambda a: a / 0 - a / 0)])


class _Nan:
    n_features = 3

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., :3] * float("nan")

    def decode(self, a: torch.Tensor) -> torch.Tensor:
        return a.sum(-1, keepdim=True).expand(*a.shape[:-1], 48)
