"""Self-repair: direct and total effects of a head, and what lies between."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from model.families import model as family
from model.families import module

import cutaway as cw
from cutaway.core import InputError
from cutaway.readouts import self_repair
from cutaway.readouts.self_repair import _measure

FAMILIES = ("gpt2", "llama", "gpt_neox")


def _task(m, n=8):
    draw = torch.Generator().manual_seed(0)
    size = m.facts.vocab_size
    clean, other = (m.batch(torch.randint(3, size, (n, 6), generator=draw)) for _ in range(2))
    ids = torch.stack([torch.randperm(size, generator=draw)[:2] for _ in range(n)])
    end = torch.full((n,), 5)
    return SimpleNamespace(
        name="random", clean=clean, counterfactual=other, answers=ids[:, 0], wrong=ids[:, 1], columns=lambda _: end
    )


def _difference(logits, task):
    rows = torch.arange(len(task.answers))
    return logits[rows, task.answers] - logits[rows, task.wrong]


@pytest.mark.parametrize("name", FAMILIES)
def test_total_is_the_patched_run_and_direct_keeps_all_else_still(name):
    m = family(name)
    task = _task(m)
    places, direct, total, norm = _measure(m, task)
    other = m.run(task.counterfactual, ["z.*"])
    clean = m.run(task.clean, ["z.*", "resid_post.*", "final_norm_scale"])
    before = _difference(clean.at("logits"), task)
    last = m.facts.n_layers - 1
    for i, (layer, head) in enumerate(places):
        change = [cw.patch(f"z.{layer}", other, head=head, positions=-1)]
        patched = m.run(task.clean, ["attn_out_post.*"], interventions=change)
        after = _difference(patched.at("logits"), task)
        np.testing.assert_allclose(total[i], (after - before).double(), rtol=1e-3, atol=2e-5)
        # The head's write alone, added to the last stream: with the norm's scale held, and with the norm free.
        plain = m.run(task.clean, [f"attn_out_post.{layer}"])
        write = patched[f"attn_out_post.{layer}"] - plain[f"attn_out_post.{layer}"]
        alone = [cw.add(f"resid_post.{last}", write[row, -1], rows=row, positions=-1) for row in range(len(write))]
        free = _difference(m.run(task.clean, interventions=alone).at("logits"), task) - before
        held = m.run(task.clean, interventions=alone, freeze=cw.freeze(clean, "norm"))
        still = _difference(held.at("logits"), task) - before
        np.testing.assert_allclose(direct[i], still.double(), rtol=1e-3, atol=2e-5)
        np.testing.assert_allclose(norm[i], (free - still).double(), rtol=1e-3, atol=2e-5)


def test_with_nothing_after_a_head_only_the_norm_repairs():
    hf = module("gpt2")
    with torch.no_grad():
        hf.transformer.h[-1].mlp.c_proj.weight.zero_()
        hf.transformer.h[-1].mlp.c_proj.bias.zero_()
    m = cw.load(hf)
    places, direct, total, norm = _measure(m, _task(m))
    for i, (layer, _) in enumerate(places):
        if layer == m.facts.n_layers - 1:
            np.testing.assert_allclose(total[i] - direct[i], norm[i], rtol=1e-3, atol=2e-5)


def test_the_result_prints_its_null_and_its_baseline(almanac):
    result = self_repair(almanac, cw.task("ioi", almanac, n=8), null_seeds=(0, 1))
    text = str(result)
    for words in ("the final norm alone", "re-randomised model", "by the norm", "logits"):
        assert words in text
    np.testing.assert_allclose(result.repair, result.total - result.direct)
    assert result.to_json()["schema"] == "cutaway.self_repair/1"


def test_what_cannot_be_measured_is_refused(almanac):
    m = family("gpt2")
    with pytest.raises(InputError, match="at least 8"):
        self_repair(m, _task(m, 4))
    task = _task(m)
    task.wrong = None
    with pytest.raises(InputError, match="wrong answer"):
        self_repair(m, task)
    with pytest.raises(InputError, match="caps its logits"):
        self_repair(family("gemma2"), _task(family("gemma2")))
