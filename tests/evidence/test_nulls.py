"""Each arm keeps what it says it keeps, loses the rest, and leaves the model given as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import cutaway as cw
from cutaway.core import InputError
from cutaway.evidence import control, rerandomise, step0

IDS = torch.tensor([[5, 9, 9, 3, 5, 60], [1, 2, 3, 4, 5, 6]])
BOTH = pytest.mark.parametrize("name", ["llama", "gpt2"])


@pytest.fixture
def model(request, name):
    return request.getfixturevalue(name)


def is_embedding(name):
    return any(part in name for part in ("embed_tokens", "wte", "wpe", "lm_head"))


@BOTH
@pytest.mark.parametrize("make", [rerandomise, lambda m: rerandomise(m, embeddings="redraw"), step0, control])
def test_the_model_given_is_untouched_and_the_seed_decides(model, make):
    before = copy.deepcopy(model.hf.state_dict())
    logits = model.run(IDS).logits
    first, again = make(model), make(model)
    assert all(torch.equal(before[k], v) for k, v in model.hf.state_dict().items())
    assert torch.equal(model.run(IDS).logits, logits)
    assert torch.equal(first.run(IDS).logits, again.run(IDS).logits)
    assert not torch.allclose(first.run(IDS).logits, logits, atol=1e-2)
    assert first.name != model.name
    assert first.facts == model.facts


@BOTH
@pytest.mark.parametrize("embeddings", ["keep", "redraw"])
def test_rerandomised_matrices_keep_their_moments_alone(model, embeddings):
    new = dict(rerandomise(model, embeddings=embeddings).hf.named_parameters())
    for name, old in model.hf.named_parameters():
        same = torch.equal(new[name], old)
        if old.ndim < 2 or (embeddings == "keep" and is_embedding(name)):
            assert same, name
            continue
        assert not same, name
        n = old.numel()
        spread = float(old.std())
        assert float(new[name].mean() - old.mean()) == pytest.approx(0, abs=5 * spread / n**0.5)
        assert float(new[name].std() / spread) == pytest.approx(1, abs=5 / (2 * n) ** 0.5)
        flat = torch.stack([old.flatten(), new[name].flatten()])
        assert abs(float(torch.corrcoef(flat)[0, 1])) < 5 / n**0.5


def test_norms_and_biases_are_drawn_on_request(gpt2):
    new = dict(rerandomise(gpt2, vectors="redraw").hf.named_parameters())
    for name, old in gpt2.hf.named_parameters():
        if old.ndim == 1:
            assert not torch.equal(new[name], old), name


def test_a_stack_of_matrices_keeps_each_ones_moments():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.stack = nn.Parameter(torch.randn(2, 200, 200) * torch.tensor([1.0, 50.0])[:, None, None])

        def forward(self, ids):
            return self.embed(ids)

    new = rerandomise(cw.load(Experts())).hf.stack
    assert float(new[0].std()) == pytest.approx(1, rel=0.05)
    assert float(new[1].std()) == pytest.approx(50, rel=0.05)


@BOTH
def test_ties_hold(model):
    tied = model.facts.tied
    for make in (lambda m: rerandomise(m, embeddings="redraw"), rerandomise, step0, control):
        made = make(model).hf
        shared = made.get_output_embeddings().weight.data_ptr() == made.get_input_embeddings().weight.data_ptr()
        assert shared == tied


@BOTH
def test_step0_is_the_initialisation(model):
    seeded = step0(model, seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        fresh = type(model.hf)(model.hf.config)
    assert all(torch.equal(v, seeded.hf.state_dict()[k]) for k, v in fresh.state_dict().items())
    state = torch.random.get_rng_state()
    step0(model, seed=4)
    assert torch.equal(state, torch.random.get_rng_state())


def test_step0_of_a_bare_module():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.out = nn.Embedding(7, 4), nn.Linear(4, 7)

        def forward(self, ids):
            return self.out(self.embed(ids))

    module = Bare()
    nn.init.constant_(module.out.weight, 9.0)
    assert float(step0(cw.load(module)).hf.out.weight.abs().max()) < 1
    module.own = nn.Parameter(torch.ones(3))
    with pytest.raises(InputError, match="own"):
        step0(cw.load(module))


@BOTH
def test_control_gives_each_occurrence_its_own_noise(model):
    made = control(model)
    embed = made.hf.get_input_embeddings()
    x = embed(IDS)
    assert x.shape == (*IDS.shape, model.facts.d_model)
    assert not torch.allclose(x[0, 1], x[0, 2])  # the same token twice
    assert not torch.allclose(x[0, 0], x[0, 4])
    assert torch.equal(embed(IDS[:1].expand(3, -1))[2], x[0])  # the same row in another batch
    assert not torch.allclose(embed(torch.tensor([[5, 9, 9, 3, 5, 61 % 61]]))[0, 0], x[0, 0])  # another row
    many = embed(torch.arange(60).reshape(2, 30).repeat(5, 1))
    assert float(many.mean()) == pytest.approx(0, abs=0.1)
    assert float(many.std()) == pytest.approx(1, abs=0.1)
    # All but the embedding is as trained.
    for name, old in model.hf.named_parameters():
        assert torch.equal(dict(made.hf.named_parameters())[name], old)


def test_bad_options_are_refused(llama):
    with pytest.raises(InputError, match="'keep' or 'redraw'"):
        rerandomise(llama, embeddings="excl")

    class NoEmbedding(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(3, 3)

        def forward(self, ids):
            return self.out(ids.float())

    with pytest.raises(InputError, match=r"no nn\.Embedding"):
        control(cw.load(NoEmbedding()))


def test_a_convolution_is_drawn_as_one_matrix():
    """Drawn kernel by kernel each would keep its own mean: which channel feeds which."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 5))
    with torch.no_grad():
        module[0].weight += 3 * torch.randn(16, 8, 1, 1)
    drawn = rerandomise(cw.load(module), seed=1).hf[0].weight
    trained = module[0].weight
    means = torch.stack([trained.mean((2, 3)).flatten(), drawn.mean((2, 3)).flatten()])
    assert torch.corrcoef(means)[0, 1].abs() < 0.3
    assert (drawn.mean() - trained.mean()).abs() < 0.1 * trained.std()
    assert (drawn.std() / trained.std() - 1).abs() < 0.1
