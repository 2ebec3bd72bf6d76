"""Training: exact resume after kill -9, refusals, the stream, and that it learns what can be learned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from features.tiny import tiny_llama

from cutaway.core import InputError
from cutaway.features import DictionarySettings, TrainSettings, evaluate, load, rows_from_text, train, untrained
from cutaway.features.learner import Learner
from cutaway.features.sites import Sites
from cutaway.features.stream import RowStream, as_rows, harvest_all, kept_positions

FINETUNED = TrainSettings(
    dictionaries=(
        DictionarySettings(name="clt", kind="clt", features=40, l0=4, finetune=256, dead_after=200, l0_start=8),
        DictionarySettings(name="plt", kind="plt", features=32, l0=4, activation="jumprelu", dead_after=200),
    ),
    tokens=64 * 40,
    batch=64,
    block=200,
)


def finetuned_run(out, **more):
    model = tiny_llama()
    rows = torch.randint(1, 37, (60, 12), generator=torch.Generator().manual_seed(3), dtype=torch.int32)
    return train(model, rows, FINETUNED, out, quiet=True, **more)


def weights(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.safetensors"))}


def test_a_killed_run_resumes_and_ends_with_the_same_bytes(tmp_path):
    """kill -9 somewhere in the middle; the checkpoints of the straight run fall on other steps."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    finetuned_run(straight, checkpoint_steps=7)
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "import torch; torch.set_num_threads(1)\n"
        "import time, cutaway.features.checkpoint as c\n"
        "from features import test_train\n"
        "save = c.save\n"
        "def slow(*a): save(*a); print('saved', a[2]['step'], flush=True); time.sleep(0.3)\n"
        "c.save = slow\n"
        f"test_train.finetuned_run({str(killed)!r}, checkpoint_steps=3)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    seen = 0
    for line in process.stdout:
        seen += line.startswith("saved")
        if seen == 5:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert seen == 5, "the run ended before it could be killed"
    assert not (killed / "clt" / "config.json").exists()
    state = json.loads((killed / "training" / "checkpoint" / "state.json").read_text())
    assert 0 < state["step"] < FINETUNED.steps
    finetuned_run(killed, checkpoint_steps=11)
    assert weights(killed) == weights(straight)
    steps = [json.loads(line)["step"] for line in (killed / "training" / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("at", [9, 42], ids=["on the stream", "through the replacement model"])
def test_an_interrupted_run_resumes_in_either_phase(tmp_path, at, monkeypatch):
    finetuned_run(tmp_path / "straight")
    update, calls = Learner.update, []

    def interrupted(self, *arguments):
        calls.append(self.settings.name)
        if calls.count("clt") > at:
            raise KeyboardInterrupt
        update(self, *arguments)

    monkeypatch.setattr(Learner, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finetuned_run(tmp_path / "broken", checkpoint_steps=4)
    monkeypatch.undo()
    made = finetuned_run(tmp_path / "broken")
    assert not (tmp_path / "broken" / "training" / "checkpoint").exists()
    assert weights(tmp_path / "broken") == weights(tmp_path / "straight")
    monkeypatch.setattr(Learner, "update", interrupted)  # the same call again gives what was made, without a step
    again = finetuned_run(tmp_path / "broken")
    assert torch.equal(again["clt"].layers[1].W_dec, made["clt"].layers[1].W_dec)


def test_resuming_with_other_settings_is_refused_and_names_them(tmp_path, model, rows):
    settings = TrainSettings(dictionaries=(DictionarySettings(features=16, l0=2),), tokens=128, batch=64, block=200)
    train(model, rows, settings, tmp_path, quiet=True, checkpoint_steps=1)
    changed = settings.model_copy(update={"seed": 5})
    with pytest.raises(InputError, match="seed was 0, now 5"):
        train(model, rows, changed, tmp_path, quiet=True)
    with pytest.raises(InputError, match="rows was"):
        train(model, rows.flip(0), settings, tmp_path, quiet=True)
    with pytest.raises(InputError, match="model was"):
        train(tiny_llama(seed=1), rows, settings, tmp_path, quiet=True)
    train(model, rows, changed, tmp_path, resume=False, quiet=True)


def test_several_dictionaries_share_a_stream_and_train_as_each_does_alone(tmp_path, model, rows):
    a, b = (DictionarySettings(name=n, kind=k, features=16, l0=2) for n, k in (("a", "plt"), ("b", "clt")))
    common = {"tokens": 640, "batch": 64, "block": 200}
    together = train(model, rows, TrainSettings(dictionaries=(a, b), **common), quiet=True)
    alone = train(model, rows, TrainSettings(dictionaries=(b,), **common), quiet=True)
    for mine, other in zip(together["b"].layers, alone["b"].layers):
        for name, tensor in mine.tensors().items():
            assert torch.equal(tensor, other.tensors()[name])


@pytest.mark.parametrize("kind", ["plt", "clt"])
def test_training_beats_an_untrained_dictionary_and_finetuning_lowers_the_kl(model, rows, kind):
    asked = [p.requires_grad for p in model.hf.parameters()]
    settings = DictionarySettings(name="x", kind=kind, features=64, l0=6)
    run = {"tokens": 64 * 100, "batch": 64, "block": 600}
    held_out = rows[:20]
    made = train(model, rows[20:], TrainSettings(dictionaries=(settings,), **run), quiet=True)["x"]
    report = evaluate(model, made, held_out)
    null = evaluate(model, untrained(model, rows[20:], settings), held_out)
    assert report.errors.median.value < 0.8 * null.errors.median.value
    assert report.errors.median.value < 0.8
    tuned = settings.model_copy(update={"finetune": 64 * 40, "finetune_lr": 0.2, "kl": 5.0})
    after = evaluate(
        model, train(model, rows[20:], TrainSettings(dictionaries=(tuned,), **run), quiet=True)["x"], held_out
    )
    assert after.replacement.kl.value < report.replacement.kl.value
    assert not any(p.grad is not None for p in model.hf.parameters())
    assert [p.requires_grad for p in model.hf.parameters()] == asked


def test_the_stream_gives_each_token_once_an_epoch_and_no_padding(model):
    rows = torch.full((7, 6), -1, dtype=torch.int32)
    for i, length in enumerate((6, 5, 2, 6, 3, 1, 4)):
        rows[i, :length] = torch.arange(1, length + 1) + i
    sites = Sites.of(model)
    held = harvest_all(sites, rows, first_position=False)
    x, y = held.x, held.y
    assert x.shape[1] == int((rows[:, 1:] >= 0).sum()) == kept_positions(rows, False).sum()
    stream = RowStream(sites, rows, batch=1, block=10**6, seed=0, first_position=False)
    batches = [next(stream) for _ in range(x.shape[1])]
    for whole, name in ((x, "x"), (y, "y")):
        drawn = torch.cat([getattr(b, name) for b in batches], 1)[0]
        # The same vectors, in another order (rows are batched otherwise, hence the rounding).
        gaps = torch.cdist(drawn, whole[0]).min(1)
        assert gaps.values.max() < 1e-4
        assert len(set(gaps.indices.tolist())) == x.shape[1]


def test_rows_differ_from_epoch_to_epoch_and_each_epoch_has_all(model, rows):
    stream = RowStream(Sites.of(model), rows, batch=8, block=200, seed=0)
    numbers = torch.cat([stream.row_numbers(i) for i in range(9)])
    n = rows.shape[0]
    first, second = numbers[:n], numbers[n : 2 * n]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(n))
    assert first.tolist() != second.tolist()


def test_text_becomes_rows(tmp_path):
    class Words:
        bos_token_id = 0

        def __call__(self, text, add_special_tokens=True):
            return {"input_ids": ([0] if add_special_tokens else []) + [len(w) for w in text.split()]}

    (tmp_path / "a.txt").write_text("one three seventeen on")
    (tmp_path / "b.jsonl").write_text('{"text": "a b\\u2028 c"}\n\n{"text": "dd"}\n')
    rows = rows_from_text(Words(), [tmp_path / "a.txt", tmp_path / "b.jsonl"], context=4)
    assert rows.tolist() == [[0, 3, 5, 9], [0, 2, -1, -1], [0, 1, 1, 1], [0, 2, -1, -1]]
    (tmp_path / "c.jsonl").write_text("nonsense")
    (tmp_path / "d.txt").write_text("  ")
    (tmp_path / "e.txt").write_bytes(b"\xff\xfe\x00")
    for name, told in (("none.txt", "no text file"), ("c.jsonl", "line 1"), ("d.txt", "no text"), ("e.txt", "UTF-8")):
        with pytest.raises(InputError, match=told):
            rows_from_text(Words(), tmp_path / name)
    (tmp_path / "f.csv").write_text("a")
    with pytest.raises(InputError, match="neither"):
        rows_from_text(Words(), tmp_path / "f.csv")


def test_rows_that_are_none_are_refused(model, rows):
    for wrong in (
        torch.ones(3),
        torch.ones(3, 4),
        torch.full((2, 3), 99),
        torch.tensor([[1, -1, 2]]),
        torch.ones(0, 3),
    ):
        with pytest.raises(InputError):
            as_rows(wrong, 37)
    with pytest.raises(InputError, match="no token"):
        train(model, rows[:, :1], TrainSettings(first_position=False), quiet=True)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="features"):
        DictionarySettings.read({"features": 0})
    with pytest.raises(InputError, match="l0"):
        DictionarySettings.read({"features": 4, "l0": 9})
    with pytest.raises(InputError, match="one name each"):
        TrainSettings.read({"dictionaries": [{"name": "a"}, {"name": "a"}]})
    with pytest.raises(InputError, match="colour"):
        TrainSettings.read({"colour": 1})
    settings = TrainSettings(dictionaries=(DictionarySettings(name="a", l0=3),), tokens=99)
    assert TrainSettings.read(json.loads(json.dumps(settings.to_json()))) == settings


def test_broken_weights_are_named_before_anything_is_written(tmp_path, rows):
    model = tiny_llama(seed=2)
    with torch.no_grad():
        next(model.hf.model.layers[1].mlp.parameters()).fill_(float("nan"))
    settings = TrainSettings(dictionaries=(DictionarySettings(features=16, l0=2),), tokens=64)
    with pytest.raises(InputError, match="NaN"):
        train(model, rows, settings, tmp_path / "out", quiet=True)
    assert not (tmp_path / "out" / "config.json").exists()


def test_one_dictionary_is_written_where_asked_and_read_back(tmp_path, model, rows):
    settings = TrainSettings(dictionaries=(DictionarySettings(features=16, l0=2),), tokens=128, batch=64, block=200)
    begun = time.time()
    made = train(model, rows, settings, tmp_path / "mine", quiet=True)["clt"]
    found = load(tmp_path / "mine")
    assert found.model.name == "tiny"
    assert found.training["settings"]["l0"] == 2
    x = torch.randn(5, 2, 16)
    assert torch.equal(found.encode(x), made.encode(x))
    assert time.time() - begun < 60


def test_thresholds_leave_a_fiftieth_less_than_the_l0_that_was_asked_for(model, rows):
    """Counted without position 0, on the training text; so that other text does not exceed it."""
    settings = DictionarySettings(name="x", kind="plt", features=64, l0=6)
    run = TrainSettings(dictionaries=(settings,), tokens=64 * 30, batch=64, block=600)
    made = train(model, rows, run, quiet=True)["x"]
    assert evaluate(model, made, rows, replacement=False).l0.value == pytest.approx(0.98 * 6, rel=0.01)
