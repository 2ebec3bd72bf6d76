"""A plan gives what one run a cell gives; what it leaves out makes no difference; what cannot be restarted is not."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model.families import VOCABULARY, close, ids, model, module
from torch import Tensor, nn

import cutaway as cw
from cutaway.core import InputError
from cutaway.model import Model, load
from cutaway.model.sweeps.execute import Executor
from cutaway.model.sweeps.memory import in_bytes, peak

FAMILIES = ("gpt2", "llama", "gpt_neox", "gemma2", "mixtral", "opt", "bloom", "phi", "mistral")
WEIGHTS = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(7))


def metric(logits: Tensor) -> Tensor:
    return logits.float() @ WEIGHTS


def named(family: str) -> Model:
    if family != "mixtral":
        return model(family)
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(5)
    config = MixtralConfig(
        num_hidden_layers=3, hidden_size=48, num_attention_heads=6, num_key_value_heads=3, intermediate_size=64,
        max_position_embeddings=64, vocab_size=VOCABULARY, num_local_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    return load(MixtralForCausalLM(config).eval())


def one_at_a_time(m: Model, prompt: Any, cells: list[list[cw.Intervention]], at: int = -1) -> Tensor:
    return torch.stack([metric(m.run(prompt, interventions=cell).at("logits", at)) for cell in cells])


def cells_of(
    m: Model, other: cw.Run, names: tuple[str, ...], positions: tuple[int, ...]
) -> list[list[cw.Intervention]]:
    addresses = [name for name in m.points() if name.split(".")[0] in names]
    cells = [[cw.patch(a, other, positions=p)] for a in addresses for p in positions]
    return cells + [[cw.scale(a, 0.4)] for a in addresses]


NAMES = (
    "resid_pre", "attn_in", "q", "k_rot", "value", "attn_probs", "z", "attn_out", "resid_mid", "mlp_norm_scale",
    "mlp_in", "mlp_act", "mlp_out_post", "resid_post",
)  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_to_one_run_a_cell(family: str) -> None:
    m = named(family)
    a, b = ids(3, 9, 0), ids(3, 9, 1)
    b[:, :2], b[1, :5] = a[:, :2], a[1, :5]
    names = tuple(n for n in NAMES if f"{n}.1" in m.points())
    other = m.run(b, read=[f"{n}.*" for n in names] + ["final_norm"])
    cells = cells_of(m, other, names, (0, 4, -1))
    cells += [
        [cw.patch("final_norm", other, positions=-1)],
        [cw.zero("z.1", head=2, positions=3), cw.scale("resid_post.0", 2.0, positions=5), cw.zero("mlp_out.2", rows=1)],
        [cw.zero("embeddings", positions=2)],
    ]
    made = cw.plan(m, a, cells, metric)
    assert made.how == "restart"
    assert close(made.run(progress=False), one_at_a_time(m, a, cells))
    assert made.work < 0.35


@pytest.mark.parametrize("family", ["gpt2", "llama", "bloom", "gemma2"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_changes_nothing(family: str, side: Any) -> None:
    m = model(family)
    g = torch.Generator().manual_seed(0)
    rows, others = ([torch.randint(3, VOCABULARY, (n,), generator=g).tolist() for n in (5, 9, 7)] for _ in range(2))
    batch = m.batch(rows, padding=side)
    other = m.run(m.batch(others, padding=side), read=["resid_pre.*", "z.*"])
    cells = [
        [cw.patch(f"{n}.{i}", other, positions=p)] for n in ("resid_pre", "z") for i in range(3) for p in (0, 3, -1)
    ]
    assert close(cw.plan(m, batch, cells, metric).run(progress=False), one_at_a_time(m, batch, cells))


@pytest.mark.parametrize("how", ["whole", "one"])
def test_other_ways_give_the_same(how: Any) -> None:
    m = model("llama")
    other = m.run(ids(2, 8, 3), read=["z.*"])
    cells = [[cw.patch(f"z.{i}", other, head=h, positions=p)] for i in range(3) for h in (0, 5) for p in (1, 7)]
    made = cw.plan(m, ids(2, 8), cells, metric, how=how)
    assert made.how == how
    assert close(made.run(progress=False), one_at_a_time(m, ids(2, 8), cells))


def test_logits_are_read_where_asked_for() -> None:
    m = model("gpt2")
    prompt = ids(2, 8)
    cells = [[cw.zero(f"resid_post.{i}", positions=p)] for i in range(3) for p in (1, 4, 6)]
    values = cw.plan(m, prompt, cells, metric, at=torch.tensor([4, 6])).run(progress=False)
    expected = torch.stack(
        [
            torch.stack([metric(m.run(prompt, interventions=c).logits[r, [p]])[0] for r, p in ((0, 4), (1, 6))])
            for c in cells
        ]
    )
    assert close(values, expected)


def test_only_the_metrics_tokens_are_unembedded() -> None:
    m = model("gemma2")  # with a soft cap on its logits
    difference = cw.LogitDifference(torch.tensor([5, 6]), torch.tensor([9, 8]))
    cells = [[cw.zero(f"resid_pre.{i}", positions=p)] for i in range(4) for p in (0, 8)]
    made = cw.plan(m, ids(), cells, difference)
    runs = [difference(m.run(ids(), interventions=cell).at("logits")) for cell in cells]
    assert close(made.run(progress=False), torch.stack(runs))
    heads: list[int] = []
    handle = m.hf.lm_head.register_forward_hook(lambda *_: heads.append(1))
    made.run(progress=False)
    handle.remove()
    assert heads == []


def count_tokens(m: Model, layer: int, work: Callable[[], Any]) -> int:
    seen = [0]
    block = m.architecture.block(layer)  # type: ignore[union-attr]
    handle = block.mlp.register_forward_hook(lambda _, args, out: seen.__setitem__(0, seen[0] + out.numel() // 48))
    work()
    handle.remove()
    return seen[0]


def test_nothing_before_the_first_change_is_computed() -> None:
    m = model("gpt2")
    prompt = ids(2, 9)
    made = cw.plan(m, prompt, [[cw.zero("z.1", positions=6)]], metric)
    run = lambda: made.run(progress=False)  # noqa: E731
    # Two rows: no block before; one position where the change is; at the end only the position that the metric reads.
    assert [count_tokens(m, layer, run) for layer in range(3)] == [0, 2, 2]
    made = cw.plan(m, prompt, [[cw.zero("resid_pre.1", positions=6)]], metric)
    assert [count_tokens(m, layer, run) for layer in range(3)] == [0, 2 * 3, 2]


def test_what_changes_nothing_is_not_run() -> None:
    m = model("llama")
    a = ids(3, 9)
    b = a.clone()
    b[:, 5] = (b[:, 5] + 1) % VOCABULARY
    b[2] = a[2]
    other = m.run(b, read=["resid_pre.*", "z.*"])
    cells = [[cw.patch(f"resid_pre.{i}", other, positions=p)] for i in range(3) for p in range(9)]
    made = cw.plan(m, a, cells, metric)
    live = [cell for cell in made.cells if cell.rows]
    assert {cell.rows for cell in live} == {(0, 1)}
    assert {cell.number % 9 for cell in live} <= {5, 6, 7, 8}
    assert close(made.run(progress=False), one_at_a_time(m, a, cells))
    # In the last block a change elsewhere than where the metric looks shows nowhere.
    assert not any(c.rows for c in cw.plan(m, a, [[cw.zero("z.2", positions=3)]], metric).cells)


def test_a_small_memory_makes_many_batches_of_the_same_values() -> None:
    m = model("gpt2")
    other = m.run(ids(4, 9, 1), read=["resid_pre.*"])
    cells = [[cw.patch(f"resid_pre.{i}", other, positions=p)] for i in range(3) for p in range(9)]
    wide, narrow = (cw.plan(m, ids(4, 9), cells, metric, memory=limit) for limit in ("1GB", "100KB"))
    assert len(narrow.chunks) > 2 * len(wide.chunks)
    assert all(chunk.lanes * (9 - chunk.start) <= max(narrow.most, 9) for chunk in narrow.chunks)
    assert close(narrow.run(progress=False), wide.run(progress=False))


def test_a_batch_without_room_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    m = model("gpt2")
    cells = [[cw.zero(f"resid_pre.{i}", positions=2)] for i in range(3)] + [[cw.scale("z.1", 0.5)]]
    made = cw.plan(m, ids(5, 6), cells, metric)
    expected = made.run(progress=False)
    lanes: list[int] = []
    real = Executor.values

    def cramped(self: Executor, chunk: Any, measure: Any) -> list[Tensor]:
        if chunk.lanes > 2:
            raise torch.OutOfMemoryError("no room")
        lanes.append(chunk.lanes)
        return real(self, chunk, measure)

    monkeypatch.setattr(Executor, "values", cramped)
    assert close(made.run(progress=False), expected)
    assert sum(lanes) == 4 * 5
    monkeypatch.setattr(Executor, "values", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("none at all")))
    with pytest.raises(torch.OutOfMemoryError):
        made.run(progress=False)


def test_memory_is_measured() -> None:
    def work() -> None:
        held = torch.empty(1 << 20)  # 4 MiB
        torch.empty(1 << 19)  # 2 MiB more, then freed
        torch.empty(1 << 18)
        del held

    assert 6 << 20 <= peak(work, torch.device("cpu")) < 7 << 20
    weight = torch.ones(1 << 10, 1 << 10)
    assert peak(lambda: torch.nn.functional.linear(torch.ones(1, 1 << 10), weight), torch.device("cpu")) < 1 << 14
    assert in_bytes("1.5 GiB") == 3 << 29
    for wrong in ("much", 0, -1):
        with pytest.raises(InputError):
            in_bytes(wrong)


def test_a_model_that_looks_ahead_is_not_restarted() -> None:
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    m = load(BertForMaskedLM(config).eval())
    prompt = torch.randint(3, 50, (2, 7), generator=torch.Generator().manual_seed(0))
    cells = [[cw.zero(f"resid_post.{i}", positions=p)] for i in range(2) for p in (0, 6)]
    weights = torch.randn(50, generator=torch.Generator().manual_seed(0))
    made = cw.plan(m, prompt, cells, lambda logits: logits @ weights, at=2)
    assert made.how == "whole"
    assert "later" in str(made)
    expected = torch.stack([m.run(prompt, interventions=c).logits[:, 2] @ weights for c in cells])
    assert close(made.run(progress=False), expected)


class Peeking(nn.Module):
    """A block's attention that also adds the mean over all positions: causal in name only."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        out, pattern = self.attention(x, *args, **kwargs)
        return out + 0.1 * x.mean(1, keepdim=True), pattern


def test_a_block_that_is_not_what_it_says_is_found_out() -> None:
    hf = module("gpt2")
    hf.transformer.h[1].attn = Peeking(hf.transformer.h[1].attn)
    m = load(hf)
    cells = [[cw.zero(f"resid_pre.{i}", positions=p)] for i in range(3) for p in (2, 5)]
    made = cw.plan(m, ids(2, 8), cells, metric)
    assert made.how == "whole"
    assert "block 1" in made.reason
    assert close(made.run(progress=False), one_at_a_time(m, ids(2, 8), cells))
    with pytest.raises(InputError, match="block 1"):
        cw.plan(m, ids(2, 8), cells, metric, how="restart")


def test_a_folder_is_gone_on_with_and_not_mixed_up(tmp_path: Path) -> None:
    m = model("gpt2")
    other = m.run(ids(2, 9, 1), read=["z.*"])
    cells = [[cw.patch(f"z.{i}", other, head=h, positions=p)] for i in range(3) for h in range(6) for p in range(9)]
    made = cw.plan(m, ids(2, 9), cells, metric, tokens=40)
    whole = made.run(tmp_path / "a", progress=False)
    files = sorted((tmp_path / "a").glob("chunk-*"))
    assert len(files) == len(made.chunks) > 5
    before = [f.read_bytes() for f in files]
    for f in files[::2]:
        f.unlink()
    files[1].write_bytes(b"torn")
    assert torch.equal(made.run(tmp_path / "a", progress=False), whole)
    assert [f.read_bytes() for f in files] == before
    with pytest.raises(InputError, match="another sweep"):
        cw.plan(m, ids(2, 9), cells[:-1], metric, tokens=40).run(tmp_path / "a", progress=False)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import model.test_sweep_plan as test
from cutaway.model.sweeps.store import Store
write = Store.write
def until_the_third(self, number, values):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, number, values)
Store.write = until_the_third
test.resumed(sys.argv[2])
"""


def resumed(folder: str) -> Tensor:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        m = model("gpt2")
        other = m.run(ids(4, 9, 1), read=["resid_pre.*"])
        cells = [[cw.patch(f"resid_pre.{i}", other, positions=p)] for i in range(3) for p in range(9)]
        return cw.plan(m, ids(4, 9), cells, metric, tokens=60).run(folder, progress=False)
    finally:
        torch.set_num_threads(threads)


def test_killed_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parents[1]), str(killed)]
    assert subprocess.run(command, check=False, timeout=120).returncode == -signal.SIGKILL
    assert len(list(killed.glob("chunk-*"))) == 3
    assert torch.equal(resumed(str(killed)), resumed(str(straight)))
    names = sorted(f.name for f in straight.iterdir())
    assert len(names) > 5
    assert names == sorted(f.name for f in killed.iterdir() if not f.name.startswith("."))
    assert all((killed / n).read_bytes() == (straight / n).read_bytes() for n in names)


@pytest.mark.parametrize(
    ("cells", "more", "says"),
    [
        ([[]], {}, "no intervention"),
        ([[cw.zero("resid_post.9")]], {}, "no layer 9"),
        ([[cw.zero("z.1", head=77)]], {}, "77"),
        ([[cw.patch("resid_pre.1", torch.zeros(3, 5, 7))]], {}, "fit"),
        ([[cw.zero("z.1")]], {"at": 40}, "no position 40"),
        ([[cw.zero("z.1")]], {"at": [1, 2, 3]}, "each of 2 rows"),
        ([[cw.zero("z.1")]], {"memory": "plenty"}, "memory"),
        ([[cw.zero("z.1")]], {"metric": lambda logits: logits.mean()}, "one number a row"),
    ],
)
def test_bad_input_is_refused(cells: Any, more: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        cw.plan(model("gpt2"), ids(), cells, more.pop("metric", metric), **more)
