"""Evaluation, the replacement model and the examples say what a direct computation says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from features.tiny import random_transcoders, tiny_gpt2, tiny_llama

import cutaway as cw
from cutaway.core import InputError
from cutaway.features import Task, evaluate, find_examples, load, package, write_circuit_tracer
from cutaway.features.card import card
from cutaway.features.examples import read_examples
from cutaway.features.replacement import kept, replaced_logits
from cutaway.features.sites import Sites

MODELS = {"llama": tiny_llama, "gpt2": tiny_gpt2}


@pytest.mark.parametrize("family", MODELS)
def test_replacing_each_mlp_by_itself_changes_nothing(family, rows):
    model = MODELS[family]()
    sites = Sites.of(model)
    seen = []
    logits = sites.replaced(rows.long(), lambda layer, x, y: seen.append((layer, x, y)) or y.clone())
    run = model.run(rows.long(), read=["mlp_in.*", "mlp_out.*"])
    torch.testing.assert_close(logits, run.logits)
    for layer, x, y in seen:
        torch.testing.assert_close(x, run[f"mlp_in.{layer}"])
        torch.testing.assert_close(y, run[f"mlp_out.{layer}"])
    assert [layer for layer, _, _ in seen] == [0, 1]


@pytest.mark.parametrize("first", [True, False], ids=["with position 0", "without"])
@pytest.mark.parametrize("kind", ["plt", "clt"])
def test_the_replacement_model_is_each_layer_patched_in_turn(model, rows, kind, first):
    made = random_transcoders(kind, skip=kind == "plt").with_(training={"run": {"first_position": first}})
    ids = rows[:4].long()
    patches, codes = [], []
    for layer in range(2):
        run = model.run(ids, read=[f"mlp_in.{layer}", f"mlp_out.{layer}"], interventions=patches)
        x = run[f"mlp_in.{layer}"]
        codes.append(made.activations(layer, x))
        y = made.output_bias(layer) + (x @ made.skip(layer).T if kind == "plt" else 0)
        for lower in range(layer + 1):
            if layer in made.writes(lower):
                y = y + codes[lower] @ made.decoder_rows(lower, torch.arange(made.n_features), layer)
        if not first:
            y[:, 0] = run[f"mlp_out.{layer}"][:, 0]
            codes[layer] = codes[layer].clone()
            codes[layer][:, 0] = 0
        patches.append(cw.patch(f"mlp_out.{layer}", y))
    expected = model.run(ids, interventions=patches).logits
    torch.testing.assert_close(replaced_logits(Sites.of(model), made, ids), expected, rtol=1e-4, atol=1e-4)


def test_figures_equal_a_direct_computation(model, rows):
    made = random_transcoders("clt")
    padded = rows[:10].clone()
    padded[0, 5:] = -1
    report = evaluate(model, made, padded)
    run = model.run(padded.long().clamp_min(0), read=["mlp_in.*", "mlp_out.*"])
    counted = padded >= 0
    counted[:, 0] = False
    x, y = (torch.stack([run[f"{p}.{layer}"][counted] for layer in range(2)], 1) for p in ("mlp_in", "mlp_out"))
    a = made.encode(x)
    error = (y - made.decode(a)).square().sum(-1)
    size = (y - y.mean(0)).square().sum(-1)
    assert report.n_tokens == int(counted.sum()) == 9 * 11 + 4
    for layer, found in enumerate(report.layers):
        ratio = (error / size)[:, layer].numpy()
        assert found.l0 == pytest.approx(float((a[:, layer] > 0).float().sum(-1).mean()))
        assert found.dead == pytest.approx(float(((a[:, layer] > 0).sum(0) == 0).float().mean()))
        assert found.errors.median.value == pytest.approx(np.median(ratio), rel=1e-4)
        assert found.errors.upper_quartile == pytest.approx(np.quantile(ratio, 0.75), rel=1e-4)
        assert found.errors.normalised_mse == pytest.approx(
            float(error[:, layer].sum() / size[:, layer].sum()), rel=1e-4
        )
        centred = y[:, layer] - y[:, layer].mean(0)
        _, _, V = torch.linalg.svd(centred, full_matrices=False)
        components = V[: round(found.l0)]
        left = (centred - centred @ components.T @ components).square().sum(-1)
        assert found.pca.normalised_mse == pytest.approx(float(left.sum() / size[:, layer].sum()), rel=1e-3)
        assert found.errors.median.interval.low <= found.errors.median.value <= found.errors.median.interval.high
    true = run.logits.log_softmax(-1)
    other = replaced_logits(Sites.of(model), made, padded).log_softmax(-1)
    kl = (true.exp() * (true - other)).sum(-1)[counted].mean()
    assert report.replacement.kl.value == pytest.approx(float(kl), rel=1e-4)
    assert "PCA" in str(report)
    assert report.to_json()["layers"][1]["errors"]["median"]["n"] == report.n_tokens


def test_without_its_largest_tokens_a_good_global_figure_can_be_bad():
    """The trap: a few huge tokens, reconstructed well, hide that all others are not."""
    from cutaway.features.evaluate import _errors

    size = torch.ones(400)
    size[:4] = 1e6
    squared = 0.9 * size
    squared[:4] = 1.0
    found = _errors(squared, size, np.ones((20, 20), bool), 0)
    assert found.normalised_mse < 0.001
    assert found.median.value == pytest.approx(0.9)
    assert found.trimmed_normalised_mse == pytest.approx(0.9)


def test_accuracy_counts_the_top_token_of_each_prompt(model, rows):
    tops = model.run(rows[:6, :7].long()).logits[:, -1].argmax(-1).tolist()
    right = [Task(tuple(row[:7].tolist()), (top,)) for row, top in zip(rows[:6], tops)]
    wrong = [Task(task.prompt, ((task.right[0] + 1) % 37,)) for task in right]
    made = random_transcoders()
    assert kept(Sites.of(model), made, right).model.value == 1
    assert kept(Sites.of(model), made, [*right[:3], *wrong[3:]]).model.value == 0.5
    with pytest.raises(InputError, match="at least one item"):
        kept(Sites.of(model), made, [])


def test_examples_show_what_the_dictionary_computes(tmp_path, model, rows):
    made = random_transcoders("clt", features=40)
    examples = find_examples(model, made, rows)
    path = examples.save(tmp_path)
    first = path.read_bytes()
    examples.save(tmp_path)
    assert path.read_bytes() == first
    read = read_examples(tmp_path, 40)
    run = model.run(rows.long(), read=["mlp_in.*"])
    W_U, gain = model.hf.lm_head.weight, model.hf.model.norm.weight
    for layer in range(2):
        a = made.activations(layer, run[f"mlp_in.{layer}"])
        a[:, 0] = 0
        for feature in range(0, 40, 7):
            card = read.feature(layer, feature, str)
            mine = a[:, :, feature]
            n = int((mine > 0).sum())
            assert card["activation_frequency"] == pytest.approx(n / (60 * 11), abs=1e-6)
            assert sum(card["histogram"]) == n
            if n == 0:
                assert card["examples_quantiles"] == []
                continue
            peak = float(mine.max())
            assert card["act_max"] == pytest.approx(peak, rel=1e-5)
            assert card["act_min"] == pytest.approx(float(mine[mine > 0].min()), rel=1e-4)
            assert card["examples_quantiles"][0]["quantile_name"] == "Top activations"
            best = card["examples_quantiles"][0]["examples"][0]
            assert best["tokens_acts_list"][best["train_token_ind"]] == pytest.approx(peak, rel=1e-3)
            for quantile in card["examples_quantiles"]:
                for shown in quantile["examples"]:
                    ids = [int(t) for t in shown["tokens"]]
                    # Some row holds these tokens with these activations.
                    assert any(
                        row[s : s + len(ids)].tolist() == ids
                        and np.allclose(mine[r, s : s + len(ids)], shown["tokens_acts_list"], atol=peak / 200)
                        for r, row in enumerate(rows)
                        for s in range(12 - len(ids) + 1)
                    )
            direct = (made.layers[layer].W_dec[feature].sum(0) * gain) @ W_U.T
            tokens = direct.topk(8).indices.tolist()
            assert [int(t) for t, _ in card["top_logits"]] == tokens
    with pytest.raises(InputError, match="no feature 40"):
        read.feature(0, 40, str)
    path.write_bytes(first[:-20])
    with pytest.raises(InputError, match="cut short"):
        read_examples(tmp_path, 40)


def test_a_circuit_tracer_dictionary_finds_its_points_on_the_model(tmp_path, model, rows):
    from cutaway.features.fit import placed

    made = random_transcoders("plt").with_(input_name="mlp_normalized")
    write_circuit_tracer(made, tmp_path)
    found = placed(load(tmp_path), model)
    assert (found.input_name, found.output_name) == ("mlp_normalized", "mlp_out")
    report = evaluate(model, found, rows[:8], replacement=False)
    run = model.run(rows[:8].long(), read=["mlp_normalized.0"])
    a = found.activations(0, run["mlp_normalized.0"][:, 1:])
    assert report.layers[0].l0 == pytest.approx(float((a > 0).float().sum(-1).mean()))


def test_a_packaged_dictionary_carries_its_metrics_and_examples(tmp_path, model, rows):
    made = random_transcoders("clt")
    tasks = {"next": [Task(tuple(row[:6].tolist()), (int(row[6]),)) for row in rows[:4]]}
    packed, report = package(model, made, tmp_path / "clt", rows[:10], tasks, example_rows=rows)
    found = load(tmp_path / "clt")
    assert found.layers[0].W_enc.dtype == torch.float16
    assert found.metrics == packed.metrics
    assert found.metrics["errors"]["median"]["value"] == report.errors.median.value
    assert found.metrics["never_fired"]["n_tokens"] == 60 * 11
    assert abs(found.metrics["half_precision"]["l0"]) < 0.1
    assert found.examples.feature(1, 3, str)["index"] == 3
    table = card([tmp_path / "clt", tmp_path / "clt"])
    assert f"| features a layer | {made.n_features} | {made.n_features} |" in table
    assert all(line.count("|") == 4 for line in table.splitlines())
    made.save(tmp_path / "bare")
    with pytest.raises(InputError, match="no metrics"):
        card([tmp_path / "bare"])
