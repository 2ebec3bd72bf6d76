"""GPT-2's architecture with random weights, saved with a tokenizer: what the contestants of a benchmark load."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def saved(folder: Path, vocab_size: int = 50_257, **config: Any) -> None:
    """A checkpoint in `folder`, weights from seed 0; `config` as transformers' GPT2Config takes it."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    # TransformerLens wants a tokenizer; nobody uses it.
    words = {"<s>": 0, **{f"w{i}": i for i in range(1, vocab_size)}}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<s>")),
        bos_token="<s>", eos_token="<s>", pad_token="<s>", unk_token="<s>",
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    settings = GPT2Config(vocab_size=vocab_size, bos_token_id=0, eos_token_id=0, **config)
    GPT2LMHeadModel(settings).save_pretrained(folder)
