"""What belongs to a family beside its points: sources, towers, checkpoints, the table of families."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from model.families import (
    close,
    ids,
    images,
    model,
    module,
    prompt,
)

import cutaway.model as cw
from cutaway.core import InputError
from cutaway.model import families


def test_a_source_is_asked_for_and_refused_elsewhere() -> None:
    t5, llama = model("t5"), model("llama")
    with pytest.raises(InputError, match="source="):
        t5.run(ids())
    with pytest.raises(InputError, match="reads no source"):
        llama.run(llama.batch(ids(), source=ids()))
    with pytest.raises(InputError, match="2 rows, the tokens 3"):
        t5.run(t5.batch(ids(3), source=ids(2)))
    with pytest.raises(InputError, match="attends to no source"):
        llama.addresses("cross_probs.1")


def test_the_decoder_reads_the_source_through_cross_attention_alone() -> None:
    m = model("t5")
    one, two = m.batch(ids(), source=ids(2, 7, 1)), m.batch(ids(), source=ids(2, 7, 2))
    cut = [cw.zero("cross_z.*")]
    assert not close(m.run(one).logits, m.run(two).logits, 1e-3)
    assert close(m.run(one, interventions=cut).logits, m.run(two, interventions=cut).logits)


def test_a_decoders_text_begins_with_its_start_token_and_ends_with_none() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "das": 3, "Haus": 4}, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    inner.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    m = cw.load(module("t5"), tokenizer=PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>"))
    batch = m.batch(["das Haus", ""], source=["Haus das", "das"])
    assert batch.ids.tolist() == [[0, 3, 4], [0, 0, 0]]
    assert batch.mask.tolist() == [[True] * 3, [True, False, False]]
    assert batch.source is not None
    assert batch.source.ids.tolist() == [[4, 3, 1], [3, 1, 0]]
    with pytest.raises(InputError, match="give its decoder ids"):
        model("t5").batch("das", source=[[3]])


def test_towers_are_loaded_by_name() -> None:
    import transformers

    torch.manual_seed(0)
    settings = {"num_hidden_layers": 2, "hidden_size": 48, "num_attention_heads": 6, "intermediate_size": 80}
    clip = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config=dict(settings, vocab_size=101, max_position_embeddings=64, bos_token_id=1, eos_token_id=2),
            vision_config=dict(settings, image_size=16, patch_size=4),
        )
    )
    vision, text = cw.load(clip, tower="vision"), cw.load(clip, tower="text")
    assert vision.run(images(), read=["resid_post.1"])["resid_post.1"].shape == (2, 17, 48)
    assert text.run(ids(), read=["resid_post.1"])["resid_post.1"].shape == (2, 9, 48)
    with pytest.raises(InputError, match="tower='vision' or tower='text'"):
        cw.load(clip)
    with pytest.raises(InputError, match="no tower of CLIPModel 'visoin'; the nearest: vision"):
        cw.load(clip, tower="visoin")
    with pytest.raises(InputError, match="no tower"):
        cw.load(module("llama"), tower="text")
    encoder = cw.load(module("t5"), tower="encoder")
    assert close(encoder.run(ids()).logits, module("t5").get_encoder()(ids())[0].detach())


@pytest.mark.parametrize("family", ["bert", "t5", "vit", "gptj"])
def test_a_checkpoint_is_loaded_as_what_it_names(family: str, tmp_path: Path) -> None:
    hf = module(family)
    hf.save_pretrained(tmp_path)
    m = cw.load(tmp_path)
    assert type(m.hf) is type(hf)
    assert m.points() == model(family).points()
    assert close(m.run(prompt(family)).logits, model(family).run(prompt(family)).logits, 1e-6)


# ---- the table


def test_the_table_in_the_docs_is_what_the_models_say() -> None:
    page = Path(__file__).parents[2] / "docs" / "families.md"
    assert families.written(page.read_text(encoding="utf-8")) == families.section(), (
        "docs/families.md is not current: python -m cutaway.model.families --write docs/families.md"
    )


def test_unknown_families_and_pages_without_a_table_are_errors() -> None:
    with pytest.raises(InputError, match="gemma2"):
        families.tiny("gemma-2")
    with pytest.raises(InputError, match="lacks the lines"):
        families.written("no table")


def test_the_examples_in_the_docs_run() -> None:
    page = (Path(__file__).parents[2] / "docs" / "families.md").read_text(encoding="utf-8")
    scope: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, scope)
        for line in block.splitlines():  # a comment behind print says what it prints
            if (found := re.fullmatch(r"print\((.*)\)  # ([^…]*)", line)) is not None:
                printed = " ".join(str(part) for part in eval(f"[{found[1]}]", scope))
                assert printed == found[2].split(": ")[0], line
