"""A prompt in a padded batch is that prompt alone, on every family that reads tokens; positions can't slip."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model.families import ENCODERS, FAMILIES, OWN_ATTENTION, READING_SOURCE, close, model, module
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

import cutaway.model as cw
from cutaway.core import InputError
from cutaway.model.tokens import Batch

ROWS = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [14, 15, 16, 17]]
SOURCES = [[20, 21], [22, 23, 24, 25, 26], [27]]


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("family", [*FAMILIES, *ENCODERS])
def test_every_point_of_a_row_is_what_it_is_alone(family: str, padding: str) -> None:
    m = model(family)
    reads = [a for a in m.points() if m.site(a).axes[1] == "position" and not a.startswith("expert_indices")]
    together = m.run(ROWS, read=reads, padding=padding)
    for number, row in enumerate(ROWS):
        alone = m.run(row, read=reads)
        mine = together.mask[number]
        assert together.tokens[number][mine].tolist() == row
        assert close(together.logits[number][mine], alone.logits[0])
        for name in reads:
            assert close(together[name][number][mine], alone[name][0], 1e-4), name


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("family", [*OWN_ATTENTION, "bert", "roberta", "t5_encoder", "clip_text", "gemma3", "phi3"])
def test_nothing_attends_to_padding(family: str, padding: str) -> None:
    m = model(family)
    together = m.run(ROWS, read=["attn_probs.*"], padding=padding)
    for number, row in enumerate(ROWS):
        alone = m.run(row, read=["attn_probs.*"])
        mine = together.mask[number]
        for name in alone.reads:
            assert close(together[name][number][:, mine][:, :, mine], alone[name][0])
            assert together[name][number][:, mine][:, :, ~mine].abs().sum() == 0


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("family", READING_SOURCE)
def test_sources_and_tokens_are_padded_each_for_itself(family: str, padding: str) -> None:
    m = model(family)
    batch = m.batch(ROWS, source=SOURCES, padding=padding)
    together = m.run(batch, read=["cross_out.*", "resid_post.*"])
    for number, (row, source) in enumerate(zip(ROWS, SOURCES)):
        alone = m.run(m.batch(row, source=source), read=["cross_out.*", "resid_post.*"])
        mine = together.mask[number]
        assert close(together.logits[number][mine], alone.logits[0])
        for name in alone.reads:
            assert close(together[name][number][mine], alone[name][0])


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "bloom", "gptj", "gpt_neo", "falcon_alibi", "opt", "roberta"])
def test_interventions_at_a_position_of_each_row_are_those_of_the_row_alone(family: str, padding: str) -> None:
    """Positions of each row's own (a tensor), from its end, and in the attention pattern."""
    m, vector = model(family), torch.linspace(-1, 1, 48)
    where = torch.tensor([4, 1, 2])

    def changes(positions: object, last: object) -> list[cw.Intervention]:
        return [
            cw.add("resid_post.0", vector, positions=positions),
            cw.zero("z.1", head=3, positions=-1),
            cw.zero("attn_probs.1", head=1, positions=last, keys=positions),
        ]

    together = m.run(ROWS, interventions=changes(where, torch.tensor([6, 1, 3])), padding=padding)
    for number, row in enumerate(ROWS):
        alone = m.run(row, interventions=changes(int(where[number]), len(row) - 1))
        assert close(together.at("logits")[number], alone.at("logits")[0])


def _words(family: str) -> cw.Model:
    words = ["a", "b", "c", "Mary", "John", "went", "gave", "to", "the", "shop"]
    vocabulary = {"<unk>": 0} | {word: i for i, word in enumerate(words, 1)}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    return cw.load(module(family), tokenizer=PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>"))


@pytest.mark.parametrize("padding", ["right", "left"])
def test_positions_by_the_text_of_a_token_are_found_in_each_row(padding: str) -> None:
    m, prompts = _words("gptj"), ["a b Mary went to the shop", "Mary gave a", "John to Mary"]
    change = cw.zero("resid_post.1", positions=" Mary")
    together = m.run(prompts, interventions=[change], padding=padding)
    for number, (text, at) in enumerate(zip(prompts, (2, 0, 2))):
        alone = m.run(text, interventions=[cw.zero("resid_post.1", positions=at)])
        assert close(together.at("logits")[number], alone.at("logits")[0])
    with pytest.raises(InputError, match="row 1 has no token"):
        m.run(prompts, interventions=[cw.zero("resid_post.1", positions=" shop")], padding=padding)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(3, 100), min_size=1, max_size=9), min_size=1, max_size=5),
    st.sampled_from(["right", "left"]),
    st.sampled_from(["llama", "gpt_neo", "bloom"]),
)
def test_any_mixture_of_lengths(rows: list[list[int]], padding: str, family: str) -> None:
    m = model(family)
    together = m.run(rows, padding=padding)
    for number, row in enumerate(rows):
        assert close(together.logits[number][together.mask[number]], m.run(row).logits[0])


def test_masks_in_which_positions_could_slip_are_refused() -> None:
    ids = torch.randint(3, 100, (2, 4))
    for mask, why in [
        ([[1, 0, 1, 1], [1, 1, 1, 1]], "row 0 of the mask is 1011"),
        ([[1, 1, 1, 1], [0, 0, 0, 0]], "row 1 of the mask is 0000"),
        ([[1, 1], [1, 1]], r"\[2, 4\]; given \[2, 2\]"),
    ]:
        with pytest.raises(InputError, match=why):
            model("llama").run(Batch(ids, torch.tensor(mask, dtype=torch.bool)))


def test_a_module_without_a_mask_is_not_given_prompts_of_several_lengths() -> None:
    net = torch.nn.Sequential(torch.nn.Embedding(10, 4), torch.nn.Linear(4, 10))
    with pytest.raises(InputError, match="takes no attention mask"):
        cw.load(net).run([[1, 2, 3], [4]])


class Heedless(torch.nn.Module):
    """Takes a mask and looks at the tokens before all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(10, 4)
        self.head = torch.nn.Linear(4, 10)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.head(self.embed(input_ids).cumsum(1))


def test_a_module_that_does_not_heed_its_mask_is_padded_only_where_that_moves_nothing() -> None:
    m, rows = cw.load(Heedless()), [[1, 2, 3], [4]]
    assert close(m.run(rows).logits[1, :1], m.run([4]).logits[0])
    with pytest.raises(InputError, match="does not heed its attention mask where prompts are padded on the left"):
        m.run(rows, padding="left")
    assert m.run([[1, 2], [3, 4]], padding="left").logits.shape == (2, 2, 10)  # nothing is padded
