"""Reads made small as they are taken are the whole reads made small; nothing of the whole is held."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from model.families import close, ids, model, module

import cutaway as cw
from cutaway.core import InputError

LENGTHS = ([5, 6, 7, 8, 9, 10, 11], [12, 13], [14, 15, 16, 17])


def batch(family: str, side: Any = "right") -> Any:
    return model(family).batch([list(row) for row in LENGTHS], padding=side)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "bloom"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_reduced_read_is_the_read_reduced(family: str, side: Any) -> None:
    m, prompts = model(family), batch(family, side)
    points = ["resid_post.1", "z.1", "mlp_act.0"]
    whole = m.run(prompts, read=points)
    own = [whole.tokens.new_tensor(range(s, s + n)) for s, n in zip(whole.layout.starts, whole.layout.lengths)]
    for point in points:
        x = whole[point]
        directions = torch.randn(3, x.shape[-1], generator=torch.Generator().manual_seed(0))

        def read(how: Any, at: str = point) -> torch.Tensor:
            return m.run(prompts, read={at: how})[at]

        assert torch.equal(read(cw.reduce(position=-1)), whole.at(point))
        assert torch.equal(read(cw.reduce(positions=[0, -1])), torch.stack([whole.at(point, p) for p in (0, -1)], 1))
        ends = torch.tensor([3, 1, 2])
        per_row = torch.stack([x[i, own[i][p]] for i, p in enumerate(ends.tolist())])
        assert torch.equal(read(cw.reduce(position=ends)), per_row)
        assert close(read(cw.reduce(mean=True)), torch.stack([x[i, at].mean(0) for i, at in enumerate(own)]))
        assert close(read(cw.reduce(project=directions)), x @ directions.T)
        both = read(cw.reduce(positions=slice(0, 2), project=directions[0], mean=True))
        assert close(both, torch.stack([(x[i, at[:2]] @ directions[:1].T).mean(0) for i, at in enumerate(own)]))
        half = read(cw.reduce(dtype="bfloat16"))
        assert half.dtype == torch.bfloat16
        assert close(half.float(), x, 1e-2)


def test_patterns_are_reduced_by_query() -> None:
    m = model("llama")
    whole = m.run(ids(), read=["attn_probs.1"])["attn_probs.1"]
    last = m.run(ids(), read={"attn_probs.1": cw.reduce(position=-1)})["attn_probs.1"]
    assert torch.equal(last, whole[:, :, -1])
    two = m.run(ids(), read={"attn_probs.1": cw.reduce(positions=[2, 4])})["attn_probs.1"]
    assert torch.equal(two, whole[:, :, [2, 4]])


def test_some_reads_reduced_and_others_whole() -> None:
    m = model("gpt2")
    run = m.run(ids(), read={"resid_post.*": cw.reduce(position=-1), "z.2": None}, logits=False)
    assert [tuple(run[f"resid_post.{i}"].shape) for i in range(3)] == [(2, 48)] * 3
    assert run["z.2"].shape == (2, 9, 6, 8)
    with pytest.raises(InputError, match="reduced"):
        run.at("resid_post.1")


def held(work: Any) -> int:
    """Bytes of the storages that the reads of a run hold."""
    run = work()
    gc.collect()
    storages = {run[name].untyped_storage().data_ptr(): run[name].untyped_storage().nbytes() for name in run.reads}
    return sum(storages.values())


def test_nothing_of_the_whole_is_held() -> None:
    m, prompt = model("gpt2"), ids(2, 60)
    whole = held(lambda: m.run(prompt, read="resid_post.*", logits=False))
    assert whole == 3 * 2 * 60 * 48 * 4
    small = {"resid_post.*": cw.reduce(position=-1)}
    assert held(lambda: m.run(prompt, read=small, logits=False)) == whole // 60


def test_to_disk_and_back(tmp_path: Path) -> None:
    m = model("gpt2")
    whole = m.run(ids(), read=["resid_post.*"])
    run = m.run(ids(), read={"resid_post.*": cw.reduce(to=tmp_path / "reads")})
    assert sorted(f.name for f in (tmp_path / "reads").iterdir()) == [f"resid_post.{i}.safetensors" for i in range(3)]
    for name in whole.reads:
        assert torch.equal(run[name], whole[name])


def test_gradients_pass_through_a_reduced_read() -> None:
    m = model("gpt2")
    run = m.run(
        ids(), read={"resid_post.2": cw.reduce(position=-1)}, grad=["resid_pre.1"], keep_graph=True, logits=True
    )
    (g,) = torch.autograd.grad(run["resid_post.2"].sum(), run.leaves["resid_pre.1"])
    assert float(g.abs().sum()) > 0


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_stop_after_runs_no_block_more(family: str) -> None:
    m = model(family)
    later = []
    handle = m.architecture.block(2).register_forward_hook(lambda *_: later.append(1))  # type: ignore[union-attr]
    try:
        run = m.run(ids(), read=["resid_post.0"], stop_after=1)
        assert later == []
        assert torch.equal(run["resid_post.0"], m.run(ids(), read=["resid_post.0"])["resid_post.0"])
        assert later
    finally:
        handle.remove()
    with pytest.raises(InputError, match="stop_after"):
        _ = run.logits
    assert "resid_post.1" in m.run(ids(), read=["resid_post.1"], stop_after="mlp_out.1")
    with pytest.raises(InputError, match="stopped after 1"):
        m.run(ids(), read=["resid_post.2"], stop_after=1)
    with pytest.raises(InputError, match="did not fire"):
        m.run(ids(), interventions=[cw.zero("resid_post.2")], stop_after=1)
    for wrong in (9, -1, "final_norm"):
        with pytest.raises(InputError, match="stop_after= is a layer"):
            m.run(ids(), stop_after=wrong)


def test_patterns_only_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from cutaway.model import attention

    formed = []
    real = attention.pattern_from_scores
    monkeypatch.setattr(attention, "pattern_from_scores", lambda *a, **k: (formed.append(1), real(*a, **k))[1])
    m = model("llama")
    m.run(ids(), read=["resid_post.*", "z.*", "mlp_act.*", "q_rot.*"])
    assert formed == []
    m.run(ids(), read=["resid_post.*", "attn_probs.1"])
    assert formed == [1]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (cw.reduce, "leaves all"),
        (lambda: cw.reduce(position=1, positions=[2]), "position="),
        (lambda: cw.reduce(position=[1, 2]), "positions="),
        (lambda: cw.reduce(dtype="float7"), "float7"),
        (lambda: cw.reduce(project=torch.zeros(2, 3, 4)), "k, width"),
        (lambda: cw.reduce(position=1, mean=True), "no mean"),
        (lambda: cw.reduce(position=70), "no position 70"),
        (lambda: cw.reduce(project=torch.ones(5)), "5 wide"),
        (lambda: "mean", "cw.reduce"),
    ],
)
def test_bad_input_is_refused(how: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        model("gpt2").run(ids(), read={"resid_post.1": how()})


def test_positions_that_differ_in_number_cannot_be_stacked() -> None:
    with pytest.raises(InputError, match="different numbers"):
        model("gpt2").run(batch("gpt2"), read={"resid_post.1": cw.reduce(positions=slice(0, None))})


def test_a_module_path_is_reduced_by_its_second_axis() -> None:
    m = cw.load(module("gpt2"))
    whole = m.run(ids(), read=["path.transformer.h.1.mlp"])["path.transformer.h.1.mlp"]
    small = m.run(ids(), read={"path.transformer.h.1.mlp": cw.reduce(position=-1)})["path.transformer.h.1.mlp"]
    assert torch.equal(small, whole[:, -1])


def test_a_stream_gives_what_single_runs_give(tmp_path: Path) -> None:
    m = model("llama")
    prompts = [list(range(5, 5 + n)) for n in (4, 9, 2, 6, 6, 3, 8)]
    how = {"resid_post.1": cw.reduce(position=-1, to=tmp_path / "s"), "z.0": cw.reduce(mean=True, to=tmp_path / "s")}
    seen = torch.cat([run["resid_post.1"] for run in m.stream(prompts, how, batch=3)])
    alone = [m.run([p], ["resid_post.1", "z.0"]) for p in prompts]
    assert close(seen, torch.cat([run.at("resid_post.1") for run in alone]))
    shards = cw.Shards(tmp_path / "s")
    assert (len(shards), shards.addresses) == (3, ("resid_post.1", "z.0"))
    assert torch.equal(shards.cat("resid_post.1"), seen)
    assert close(shards.cat("z.0"), torch.cat([run["z.0"].mean(1) for run in alone]))
    assert [mask.sum(-1).tolist() for _, mask in shards.tokens()] == [[4, 9, 2], [6, 6, 3], [8]]
    with pytest.raises(InputError, match="not empty"):
        next(m.stream(prompts, how))
    with pytest.raises(InputError, match=r"resid_post\.1, z\.0"):
        _ = shards["z.1"]
    with pytest.raises(InputError, match="no reads"):
        cw.Shards(tmp_path)
    with pytest.raises(InputError, match="batch="):
        next(m.stream(prompts, "z.0", batch=0))


def test_a_stream_holds_one_batch_at_a_time() -> None:
    taken: list[int] = []

    def prompts() -> Any:
        for i in range(6):
            taken.append(i)
            yield [5 + i, 6, 7]

    runs = model("gpt2").stream(prompts(), "resid_post.*", batch=2)
    next(runs)
    assert taken == [0, 1]
    next(runs)
    assert taken == [0, 1, 2, 3]
