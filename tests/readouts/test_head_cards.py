"""Head cards: the numbers of other calls, for every family."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import cutaway as cw
from cutaway.model.families import tiny
from cutaway.readouts import head_cards, head_circuit, patterns


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_patterns_are_the_models_own(family: str) -> None:
    model = cw.load(tiny(family))
    ids = torch.arange(2, 9)[None]
    found = patterns(model, ids)
    run = model.run(ids, read="attn_probs.*")
    assert len(found["tokens"]) == ids.shape[1]
    for layer in range(model.facts.n_layers):
        for head in range(model.facts.n_heads):
            mine = torch.tensor(found["patterns"][f"{layer}.{head}"])
            assert torch.allclose(mine, run[f"attn_probs.{layer}"][0, head].cpu(), atol=6e-4)


def test_padding_is_left_out() -> None:
    model = cw.load("almanac")
    alone = patterns(model, "Mary and John")
    batch = model.batch(["Mary and John", "Mary and John went to the shop"])
    padded = patterns(model, batch)
    assert padded["tokens"] == alone["tokens"]
    assert torch.allclose(torch.tensor(padded["patterns"]["2.1"]), torch.tensor(alone["patterns"]["2.1"]), atol=2e-3)


def test_a_cards_circuits_are_those_of_the_whole_vocabulary() -> None:
    model = cw.load("almanac")
    cards = head_cards(model, "Mary and John", ablate=False)
    ids = model.tokens("Mary and John")[0].tolist()
    for kind, key in (("OV", "raises"), ("QK", "looks_for")):
        circuit = head_circuit(model, kind, 2, 1)
        for row, token in zip(cards["circuits"]["2.1"][kind], ids):
            expected = circuit.top(token, 6)
            assert [name for name, _ in row[key]] == [name for name, _ in expected]
            assert [value for _, value in row[key]] == pytest.approx([value for _, value in expected], abs=1e-3)


def test_an_ablation_has_an_interval_and_a_null() -> None:
    cards = head_cards(cw.load("almanac"), "Mary and John", sequences=4, tokens=8, repeats=3)
    assert set(cards["ablation"]) == set(cards["patterns"])
    for row in cards["ablation"].values():
        assert row["n"] == 4
        assert row["interval"]["low"] <= row["value"] <= row["interval"]["high"]
    assert "re-randomised" in cards["ablation_null"]["name"]


def test_without_a_tokenizer_the_example_is_of_ids() -> None:
    model = cw.load(tiny("llama"))
    cards = head_cards(model, ablate=False, sequences=4, tokens=4, repeats=2)
    assert all(token.isdigit() for token in cards["tokens"])


def test_a_long_example_is_cut(tmp_path: Path) -> None:
    model = cw.load("almanac")
    found = patterns(model, " ".join(["Mary"] * 60))
    assert len(found["tokens"]) == 40
    assert len(found["patterns"]["0.0"]) == 40
