"""The tuned lens learns, goes on where it was killed, and refuses what it was not trained on."""

from pathlib import Path

import pytest
import torch
from model.families import ids, model, module

from cutaway.core import InputError
from cutaway.model import load
from cutaway.readouts import TunedLens, TunedSettings, lens, train_tuned_lens
from cutaway.readouts.reading import read_lens

ROWS = ids(40, 12, seed=3).tolist()


def settings(**more: object) -> TunedSettings:
    return TunedSettings(**{"steps": 6, "tokens": 60, "save_every": 2, **more})  # type: ignore[arg-type]


def same(a: TunedLens, b: TunedLens) -> bool:
    mine, other = a._tensors(), b._tensors()
    return mine.keys() == other.keys() and all(torch.equal(mine[k], other[k]) for k in mine)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_training_brings_the_lens_nearer_on_held_out_text(family: str) -> None:
    made = train_tuned_lens(model(family), ROWS, settings=settings(steps=40, tokens=200), twin=False)
    last_l = f"resid_post.{model(family).facts.n_layers - 1}"
    assert last_l not in made.addresses, "what the logits are made of needs no translator"
    for point, cells in made.report["kl"].items():
        assert cells["tuned lens"]["value"] < cells["logit lens"]["value"], point
        assert cells["bias only"]["value"] < cells["logit lens"]["value"], point


def test_a_killed_training_ends_bit_equal(tmp_path: Path) -> None:
    m = model("llama")
    straight = train_tuned_lens(m, ROWS, settings=settings(), out=tmp_path / "straight")

    def kill(done: int, total: int) -> None:
        if done == 9:  # in the twin's third update, one after it was written
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_tuned_lens(m, ROWS, settings=settings(), out=tmp_path / "killed", progress=kill)
    with pytest.raises(InputError, match="not finished"):
        TunedLens.load(tmp_path / "killed")
    resumed = train_tuned_lens(m, ROWS, settings=settings(), out=tmp_path / "killed")
    assert same(straight, resumed)
    assert resumed.twin is not None
    assert straight.twin is not None
    assert same(straight.twin, resumed.twin)
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == ["config.json", "translators.safetensors"]


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    m = model("llama")
    made = train_tuned_lens(m, ROWS, settings=settings(), out=tmp_path / "t")
    read = TunedLens.load(tmp_path / "t")
    assert same(made, read)
    assert read.twin is not None
    assert same(made.twin, read.twin)  # type: ignore[arg-type]
    assert read.to_json() == made.to_json()
    found = lens(m, ids(1, 6), tuned=read)
    assert [b.estimate.name for b in found.evidence[0].baselines][1:] == ["bias only", "logit lens"]
    assert len(found.evidence[0].nulls) == 1


def test_a_last_block_that_adds_a_constant_is_undone_by_the_bias_alone() -> None:
    hf = module("gpt2")
    block = hf.transformer.h[-1]
    with torch.no_grad():
        block.attn.c_proj.weight.zero_()
        block.mlp.c_proj.weight.zero_()
    m = load(hf)
    point = f"resid_post.{m.facts.n_layers - 2}"
    made = TunedLens.identity(m)
    made.c[point].copy_(block.attn.c_proj.bias + block.mlp.c_proj.bias)
    without = read_lens(m, m.batch(ids()), [point])
    with_it = read_lens(m, m.batch(ids()), [point], translate=made.shift)
    assert without.kl[0].max() > 1e-3
    assert with_it.kl[0].max() < 1e-5


def test_it_fits_the_model_it_was_trained_on_alone(tmp_path: Path) -> None:
    made = train_tuned_lens(model("llama"), ROWS, settings=settings(), twin=False)
    with pytest.raises(InputError, match="other weights"):
        lens(model("mistral"), ids(1, 4), tuned=made)
    with pytest.raises(InputError, match="width"):
        lens(load(module("llama", hidden_size=24, intermediate_size=20)), ids(1, 4), tuned=made)
    assert lens(model("llama"), ids(1, 4), tuned=made).evidence[0].not_done[0].why.endswith("without its twin")


def test_bad_input(tmp_path: Path) -> None:
    m = model("llama")
    with pytest.raises(InputError, match="two rows"):
        train_tuned_lens(m, [[3, 4, 5]])
    with pytest.raises(InputError, match="at least 1"):
        TunedSettings(steps=0)
    (tmp_path / "photo.jpg").write_text("x")
    with pytest.raises(InputError, match="something else"):
        train_tuned_lens(m, ROWS, settings=settings(), out=tmp_path)
    with pytest.raises(InputError, match="holds no tuned lens"):
        TunedLens.load(tmp_path)


def test_other_settings_do_not_take_up_a_training(tmp_path: Path) -> None:
    m = model("llama")

    def kill(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_tuned_lens(m, ROWS, settings=settings(), out=tmp_path / "t", progress=kill)
    with pytest.raises(InputError, match="another tuned lens"):
        train_tuned_lens(m, ROWS, settings=settings(lr=0.1), out=tmp_path / "t")
