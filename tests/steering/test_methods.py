"""Each way of steering does what its equation says, and comes back from JSON as it was."""

import json

import pytest
import torch
from model.families import close, ids, model

from cutaway.core import InputError
from cutaway.model.content import Content
from cutaway.steering import ActivationAddition, Direction, FeatureClamp, Projection, Steering, from_json, projection

FAMILIES = ("gpt2", "llama", "gpt_neox", "gemma2", "qwen3_moe")
VECTOR = torch.linspace(-1, 2, 48)


class Rotation:
    """A dictionary whose features are the coordinates in another orthonormal basis."""

    n_features = 48

    def __init__(self) -> None:
        self.Q = torch.linalg.qr(torch.randn(48, 48, generator=torch.Generator().manual_seed(0))).Q

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.Q

    def decode(self, a: torch.Tensor) -> torch.Tensor:
        return a @ self.Q.T


def every() -> list[Steering]:
    direction = Direction("resid_post.1", Content(VECTOR))
    return [
        direction,
        Direction("resid_post.1", Content(VECTOR), positions=(-1, 0)),
        ActivationAddition("resid_post.1", Content(torch.stack([VECTOR, -VECTOR]))),
        projection(model("llama"), direction),
        FeatureClamp("resid_post.1", Rotation(), 3, "rotation"),
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_direction_adds_its_multiple_everywhere(family: str) -> None:
    m = model(family)
    plain = m.run(ids(), read="resid_post.1")["resid_post.1"]
    plan = Direction("resid_post.1", Content(VECTOR)).interventions(-2.5)
    assert close(m.run(ids(), read="resid_post.1", interventions=plan)["resid_post.1"], plain - 2.5 * VECTOR)


def test_positions_count_each_prompts_own_tokens() -> None:
    m = model("llama")
    rows = [ids(1, 4)[0].tolist(), ids(1, 7)[0].tolist()]
    plain = m.run(rows, read="resid_post.1")
    plan = Direction("resid_post.1", Content(VECTOR), positions=(-1,)).interventions(1.0)
    after = m.run(rows, read="resid_post.1", interventions=plan)
    moved = (after["resid_post.1"] - plain["resid_post.1"]).abs().sum(-1) > 1e-3
    assert [r.nonzero().flatten().tolist() for r in moved] == [[3], [6]]


@pytest.mark.parametrize("family", FAMILIES)
def test_activation_addition_moves_the_first_positions_alone(family: str) -> None:
    m = model(family)
    vectors = torch.stack([VECTOR, -VECTOR])
    plain = m.run(ids(), read="resid_pre.1")["resid_pre.1"]
    plan = ActivationAddition("resid_pre.1", Content(vectors)).interventions(3.0)
    moved = m.run(ids(), read="resid_pre.1", interventions=plan)["resid_pre.1"] - plain
    assert close(moved[:, :2], 3 * vectors.expand(2, -1, -1), 1e-4)
    assert moved[:, 2:].abs().max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_a_projection_leaves_nothing_along_the_direction_anywhere(family: str) -> None:
    m = model(family)
    made = projection(m, Direction("resid_post.1", Content(VECTOR)))
    assert "resid_pre.0" in made.points
    assert f"resid_post.{m.facts.n_layers - 1}" in made.points
    run = m.run(ids(), read=made.points, interventions=made.interventions())
    for point in made.points:
        along = (run[point] @ VECTOR).abs().max() / VECTOR.norm()
        assert along < 1e-3 * run[point].norm(dim=-1).max(), point
    with pytest.raises(InputError, match="taken out"):
        made.interventions(0.5)


def test_a_clamp_sets_its_feature_and_no_other() -> None:
    m, dictionary = model("llama"), Rotation()
    plain = dictionary.encode(m.run(ids(), read="resid_post.1")["resid_post.1"])
    plan = FeatureClamp("resid_post.1", dictionary, 3).interventions(7.0)
    after = dictionary.encode(m.run(ids(), read="resid_post.1", interventions=plan)["resid_post.1"])
    assert torch.allclose(after[..., 3], torch.tensor(7.0), atol=1e-4)
    rest = [i for i in range(48) if i != 3]
    assert close(after[..., rest], plain[..., rest], 1e-4)


@pytest.mark.parametrize("number", range(5))
def test_json_and_back(number: int) -> None:
    one = every()[number]
    assert isinstance(one, Steering)
    text = json.dumps(one.to_json())
    back = from_json(json.loads(text), dictionary=getattr(one, "dictionary", None))
    assert back == one
    if not isinstance(one, FeatureClamp):
        assert back.interventions(1.0) == one.interventions(1.0)
        assert hash(back) == hash(one)


@pytest.mark.parametrize("number", range(4))
def test_strength_zero_is_no_intervention(number: int) -> None:
    assert every()[number].interventions(0.0) == []
    for bad in (float("nan"), float("inf"), "1"):
        with pytest.raises(InputError, match="finite number"):
            every()[number].interventions(bad)  # type: ignore[arg-type]


def test_the_random_control_has_the_same_norm_and_another_direction() -> None:
    one = Direction("resid_post.1", Content(VECTOR))
    drawn = [one.random(seed) for seed in range(50)]
    cosines = torch.stack([torch.cosine_similarity(d.vector.tensor, VECTOR, 0) for d in drawn])
    assert all(abs(d.norm - one.norm) < 1e-4 for d in drawn)
    assert abs(float(cosines.mean())) < 3 / (48 * 50) ** 0.5, "uniform on the sphere"
    assert abs(float(cosines.std()) - 48**-0.5) < 0.05
    assert one.random(3) == one.random(3) != one.random(4)
    many = ActivationAddition("resid_post.1", Content(torch.stack([VECTOR, 0 * VECTOR])))
    assert torch.allclose(many.random(0).vectors.tensor.norm(dim=-1), many.vectors.tensor.norm(dim=-1), atol=1e-4)
    clamp = FeatureClamp("resid_post.1", Rotation(), 3)
    assert all(clamp.random(seed).feature != 3 for seed in range(60))


def test_bad_input() -> None:
    with pytest.raises(InputError, match="no feature 48"):
        FeatureClamp("resid_post.1", Rotation(), 48)
    with pytest.raises(InputError, match="encode and decode"):
        FeatureClamp("resid_post.1", object(), 0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="kind of steering"):
        from_json({"schema": "cutaway.steering/1", "kind": "push", "at": "x"})
    with pytest.raises(InputError, match="schema"):
        from_json({"kind": "direction"})
    with pytest.raises(InputError, match="give it as dictionary"):
        from_json(FeatureClamp("resid_post.1", Rotation(), 3).to_json())
    with pytest.raises(InputError, match="does not fit"):
        model("llama").run(ids(), interventions=Direction("resid_post.1", Content(torch.ones(9))).interventions())
    assert Projection("resid_post.1", Content(VECTOR), ("resid_post.1",)).interventions(0.0) == []
