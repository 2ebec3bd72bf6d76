"""`trace` from a prompt to a graph: targets by text, dictionaries by name, neurons, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from graphs.random_case import IDS, dictionary, model
from graphs.tiny_case import build_model, random_dictionary

import cutaway as cw
from cutaway.core import InputError
from cutaway.graphs import nodes as kinds
from cutaway.graphs.neurons import neurons
from cutaway.graphs.trace import graph_of


def words():
    """A tokenizer of whole words, 101 of them, some with and some without a space."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {f"w{i}": i for i in range(101)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="w0")


@pytest.fixture(scope="module")
def spoken():
    return cw.load(model("llama").hf, tokenizer=words())


def test_a_prompt_in_words_is_traced_and_prints(spoken):
    graph = cw.trace(spoken, "w7 w3 w91 w40", dictionary("llama", "clt"), evidence=False)
    assert graph.tokens == (7, 3, 91, 40)
    text = str(graph)
    for part in ("w7 w3 w91 w40", "replacement", "completeness", "accounting", "path", "influence"):
        assert part in text
    short = graph.to_json()
    assert short["accounting"]["nodes"] == graph.nodes.has_inputs.sum()
    assert short["features"][0]["influence"] == pytest.approx(
        float(graph.nodes.influence[graph.nodes.kind == kinds.FEATURE].max())
    )


def test_targets_by_text_and_by_id_agree(spoken):
    coder = dictionary("llama", "plt")
    by_text = graph_of(spoken, "w7 w3 w91", coder, target="w5")
    by_id = graph_of(spoken, [7, 3, 91], coder, target=5)
    assert (by_text.edges != by_id.edges).nnz == 0
    assert [text.strip() for text in by_text.logit_strings] == ["w5"]
    assert by_text.weights.tolist() == [1.0]
    both = graph_of(spoken, "w7 w3 w91", coder, contrast=("w5", "w9"))
    assert both.logit_strings[0].replace(" ", "") == "w5-w9"
    assert both.target["tokens"] == [5, 9]
    assert both.nodes.pre_activation[-1] == pytest.approx(
        float(spoken.run([7, 3, 91]).logits[0, -1, 5] - spoken.run([7, 3, 91]).logits[0, -1, 9]), abs=1e-4
    )


def test_another_position_can_be_explained(spoken):
    graph = graph_of(spoken, IDS.tolist(), dictionary("llama", "plt"), position=3)
    assert set(graph.nodes.position[graph.logit_rows]) == {3}
    later = (graph.nodes.position > 3) & (graph.nodes.kind == kinds.EMBEDDING)
    assert graph.edges[graph.logit_rows][:, np.flatnonzero(later)].nnz == 0


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2", "qwen3", "phi3", "falcon"])
def test_all_neurons_leave_no_error_and_their_sums_hold(family):
    graph = graph_of(model(family), IDS[:4], neurons(model(family), None), max_features=None)
    assert graph.accounting["max_error"] < 1e-4
    assert graph.n_active == model(family).facts.n_layers * 4 * model(family).facts.d_mlp
    assert graph.scores.replacement == pytest.approx(1, abs=1e-5)


def test_some_neurons_are_the_largest_writers():
    coder = neurons(model("llama"), 5)
    graph = graph_of(model("llama"), IDS, coder)
    assert graph.n_active == 3 * len(IDS) * 5
    run = model("llama").run(IDS[None], read=["mlp_act.1"])
    written = (run["mlp_act.1"][0].abs() * coder.w_out[1].norm(dim=1)).topk(5, dim=1).indices
    at = (graph.nodes.kind == kinds.FEATURE) & (graph.nodes.layer == 1) & (graph.nodes.position == 4)
    assert set(graph.nodes.feature[at]) == set(written[4].tolist())


def test_models_without_neurons_say_why():
    with pytest.raises(InputError, match="sparse MoE"):
        neurons(model("qwen3_moe"))
    with pytest.raises(InputError, match="in its block"):
        neurons(model("opt"))


def test_wrong_prompts_and_targets_are_refused(spoken):
    coder = dictionary("llama", "plt")
    with pytest.raises(InputError, match="not both"):
        graph_of(spoken, "w7", coder, target=1, contrast=(1, 2))
    with pytest.raises(InputError, match="a target is one token"):
        graph_of(spoken, "w7", coder, target="w5 w6")
    with pytest.raises(InputError, match="one prompt; 2"):
        graph_of(spoken, torch.tensor([[1, 2], [3, 4]]), coder)
    with pytest.raises(InputError):
        graph_of(spoken, "", coder)
    with pytest.raises(InputError):
        graph_of(spoken, [5] * 65, coder)
    with pytest.raises(InputError):
        graph_of(spoken, [5, 1000], coder)
    with pytest.raises(InputError, match="no tokenizer"):
        graph_of(model("llama"), IDS, coder, target="w5")


@pytest.fixture
def at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CUTAWAY_MODELS", str(tmp_path / "none"))
    return tmp_path


def test_a_model_without_a_dictionary_says_how_to_train_one(at_home):
    with pytest.raises(InputError, match="cutaway dictionary train"):
        cw.trace(build_model("llama"), [1, 2, 3], evidence=False)
    with pytest.raises(InputError, match="neurons"):
        cw.trace(build_model("llama"), [1, 2, 3], "clt", evidence=False)
    assert cw.trace(build_model("llama"), [1, 2, 3], "neurons", evidence=False).dictionary == "neurons"


def test_a_dictionary_is_found_by_folder_and_refused_where_it_does_not_fit(at_home):
    loaded = build_model("llama")
    random_dictionary("plt").save(at_home / "random")
    with pytest.raises(InputError, match="does not fit"):  # shapes agree; it reconstructs nothing
        cw.trace(loaded, [1, 2, 3], at_home / "random", evidence=False)
    with pytest.raises(InputError, match="48"):
        cw.trace(model("llama"), IDS, at_home / "random", evidence=False)


def test_a_prompt_of_one_token_and_a_silent_dictionary_are_graphs_too():
    from dataclasses import replace

    coder = dictionary("llama", "clt")
    for prompt, over in ((IDS[:1], coder), (IDS, replace(coder, threshold=1e9))):
        graph = graph_of(model("llama"), prompt, over)
        assert graph.pruned().accounting["max_error"] < 1e-5
        assert str(graph)
    assert graph.n_active == 0


def test_cards_show_the_features_that_viewers_get(tmp_path):
    from cutaway.features import find_examples, load
    from cutaway.graphs.viewer_json import viewer_json

    loaded = build_model("llama")
    random_dictionary("plt").save(tmp_path)
    coder = load(tmp_path)
    rows = torch.randint(2, 61, (8, 16), generator=torch.Generator().manual_seed(0))
    find_examples(loaded, coder, rows).save(tmp_path)
    graph = graph_of(loaded, rows[0, :7], coder)
    cards = graph.feature_cards(loaded)
    shown = [node for node in viewer_json(graph)["nodes"] if node["kind"] == "feature"]
    assert set(cards) == {f"{node['layer']}_{node['index']}" for node in shown}
    assert {"examples_quantiles", "top_logits", "histogram"} <= set(next(iter(cards.values())))
    assert graph_of(loaded, rows[0, :7], random_dictionary("plt")).feature_cards(loaded) == {}
