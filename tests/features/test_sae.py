"""SAEs at points of a model: trained together, killed and resumed, spliced, judged, refused where they do not fit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from features.tiny import tiny_gpt2, tiny_llama

import cutaway as cw
from cutaway.core import InputError
from cutaway.core.protocols import Dictionary
from cutaway.features import ARCHITECTURES, SAE, DictionarySettings, TrainSettings, check_fit, evaluate_sae, load, train
from cutaway.features.places import Places
from cutaway.features.stream import harvest_all


def sae_settings(name, at, **more):
    return DictionarySettings(name=name, kind="sae", at=at, features=24, l0=3, dead_after=150, **more)


EVERY = TrainSettings(
    dictionaries=(
        *(sae_settings(rule, "resid_post.1", activation=rule, resample=300, adapt=0.01) for rule in ARCHITECTURES),
        sae_settings("tanh", "z.0", activation="jumprelu", penalty="tanh", adapt=0.05),
        sae_settings("unit", "mlp_act.1", activation="topk", decoder="unit", normalise="rms"),
        sae_settings("through", "mlp_in.0", to="mlp_out.0", skip=True),
        DictionarySettings(name="gated-clt", kind="clt", activation="gated", features=16, l0=2, dead_after=150),
    ),
    tokens=64 * 30,
    batch=64,
    block=200,
)


def every_run(out, **more):
    rows = torch.randint(1, 37, (60, 12), generator=torch.Generator().manual_seed(3), dtype=torch.int32)
    return train(tiny_llama(), rows, EVERY, out, quiet=True, **more)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    return folder, every_run(folder, checkpoint_steps=7)


def weights(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.safetensors"))}


def test_killed_and_resumed_each_architecture_ends_with_the_same_bytes(tmp_path, straight):
    killed = tmp_path / "killed"
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "import torch; torch.set_num_threads(1)\n"
        "import time, cutaway.features.checkpoint as c\n"
        "from features import test_sae\n"
        "save = c.save\n"
        "def slow(*a): save(*a); print('saved', a[2]['step'], flush=True); time.sleep(0.3)\n"
        "c.save = slow\n"
        f"test_sae.every_run({str(killed)!r}, checkpoint_steps=4)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    seen = 0
    for line in process.stdout:
        seen += line.startswith("saved")
        if seen == 4:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert seen == 4, "the run ended before it could be killed"
    assert not (killed / "topk" / "config.json").exists()
    every_run(killed)
    assert weights(killed) == weights(straight[0])


@pytest.mark.parametrize("settings", EVERY.dictionaries, ids=lambda s: s.name)
def test_what_was_trained_is_read_back_and_trains_alone_as_among_others(settings, straight, model, rows):
    folder, made = straight
    held, found = made[settings.name], load(folder / settings.name)
    assert type(found) is type(held)
    if settings.kind != "sae":
        return
    for name, tensor in held.tensors().items():
        assert torch.equal(tensor, getattr(found, name))
    assert str(found) == str(held)
    alone = train(model, rows, EVERY.model_copy(update={"dictionaries": (settings,)}), quiet=True)[settings.name]
    for name, tensor in held.tensors().items():
        assert torch.equal(tensor, getattr(alone, name))


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("point", ["resid_post.1", "resid_mid.0", "mlp_out.1", "mlp_act.0", "z.1", "attn_out.0"])
def test_what_is_read_is_what_a_run_reads_and_it_can_be_spliced(make, point, rows):
    model = make()
    at = harvest_all(Places.of(model, [point], mlps=False), rows, first_position=True).at[point]
    read = model.run(rows.long(), read=[point])[point]
    torch.testing.assert_close(at, read.flatten(0, 1).flatten(1), rtol=1e-4, atol=1e-4)
    run = TrainSettings(
        dictionaries=(DictionarySettings(kind="sae", at=point, features=64, l0=8),), tokens=64 * 60, batch=64, block=800
    )
    sae = check_fit(model, train(model, rows, run, quiet=True)["clt"], rows)
    assert isinstance(sae, Dictionary)
    spliced = model.run(rows.long(), read=[point], interventions=[cw.splice(point, sae, keep_error=False)])
    flat = read.flatten(0, 1)
    expected = sae.decode(sae.encode(flat))
    assert expected.shape == flat.shape
    torch.testing.assert_close(spliced[point].flatten(0, 1), expected, rtol=1e-4, atol=1e-4)
    kept = model.run(rows.long(), interventions=[cw.splice(point, sae)])
    torch.testing.assert_close(kept.logits, model.run(rows.long()).logits, rtol=1e-3, atol=1e-3)


def test_another_point_or_model_is_refused_by_shape_and_by_error(straight, model, rows):
    _, made = straight
    sae = made["batchtopk"]
    with pytest.raises(InputError, match="reads 16 numbers a token and mlp_act"):
        check_fit(model, sae.with_(point="mlp_act.0"))
    with pytest.raises(InputError, match="worse than the mean"):
        check_fit(model, sae.with_(b_dec=sae.b_dec + 50), rows)
    with pytest.raises(InputError, match="not known which point"):
        check_fit(model, sae.with_(point=""), rows)
    with pytest.raises(InputError, match="reads 16 numbers"):
        sae.encode(torch.ones(2, 9))
    with pytest.raises(InputError, match="decodes with what it read"):
        made["through"].decode(torch.ones(1, 24))
    with pytest.raises(InputError, match="vector a position"):
        train(model, rows, TrainSettings(dictionaries=(sae_settings("x", "attn_probs.0"),)), quiet=True)


def test_weights_that_do_not_agree_are_refused(straight):
    sae = straight[1]["batchtopk"]
    for change, told in (
        ({"b_enc": torch.ones(3)}, "b_enc should be"),
        ({"W_dec": sae.W_dec * float("nan")}, "NaN"),
        ({"threshold": None}, "threshold belongs"),
        ({"rule": "topk", "threshold": None}, "needs k"),
        ({"heads": 5}, "heads"),
    ):
        with pytest.raises(InputError, match=told):
            sae.with_(**change)


def test_a_file_that_was_cut_or_altered_is_named(tmp_path, straight):
    straight[1]["topk"].save(tmp_path)
    path = tmp_path / "sae.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="altered or cut short"):
        load(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="missing"):
        load(tmp_path)


def test_constant_activations_and_nan_are_named():
    model = tiny_llama(seed=5)
    rows = torch.ones(4, 6, dtype=torch.int32)
    run = TrainSettings(dictionaries=(sae_settings("x", "resid_pre.0"),), tokens=64, batch=16)
    with pytest.raises(InputError, match=r"resid_pre\.0 .*same for every token"):
        train(model, rows, run, quiet=True)


def test_judging_holds_its_own_identities(model, rows):
    """A dictionary that is the identity loses nothing; one that gives the mean explains nothing and recovers nothing of
    mean ablation."""
    d = 16
    eye = torch.eye(d)
    identity = SAE(
        rule="relu", W_enc=torch.cat([eye, -eye]), b_enc=torch.zeros(2 * d), W_dec=torch.cat([eye, -eye]),
        b_dec=torch.zeros(d), point="resid_post.0",
    )  # fmt: skip
    ours = evaluate_sae(model, identity, rows).rows[0]
    assert ours.explained_variance.value == pytest.approx(1, abs=1e-6)
    assert ours.recovered_zero.value == pytest.approx(1, abs=1e-4)
    assert ours.recovered_mean.value == pytest.approx(1, abs=1e-4)
    assert abs(ours.cross_entropy_rise.value) < 1e-4
    measured = rows[rows.shape[0] // 2 :]
    at = harvest_all(Places.of(model, ["resid_post.0"], mlps=False), measured, first_position=False).at["resid_post.0"]
    silent = identity.with_(b_enc=torch.full((2 * d,), -1e6), b_dec=at.mean(0))
    report = evaluate_sae(model, silent, rows)
    nothing = report.rows[0]
    assert nothing.dead == 1
    assert nothing.explained_variance.value == pytest.approx(0, abs=1e-5)
    assert nothing.recovered_mean.value == pytest.approx(0, abs=1e-4)
    assert report.evidence.verdict in ("not distinguishable from null", "worse than null")
    assert {row.name for row in report.rows} == {
        "this dictionary", "PCA, 1 components", "ICA, 1 largest", "raw neurons, 1 largest", "random dictionary",
        "untrained encoder",
    }  # fmt: skip


def test_training_beats_an_untrained_encoder_and_the_report_says_so(model, rows):
    run = TrainSettings(
        dictionaries=(DictionarySettings(name="x", kind="sae", at="resid_post.1", features=64, l0=5),),
        tokens=64 * 150, batch=64, block=600,
    )  # fmt: skip
    sae = train(model, rows[20:], run, quiet=True)["x"]
    report = evaluate_sae(model, sae, rows[:20], fit_rows=rows[20:])
    ours, bare = report.rows[0], report.rows[-1]
    assert ours.explained_variance.value > bare.explained_variance.value
    assert "untrained encoder" in str(report)
    assert report.to_json()["rows"][0]["l0"]["value"] == ours.l0.value
