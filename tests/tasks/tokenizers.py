"""Tokenizers of four makes to try tasks on; those that lie beside the repository are None where they are absent."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
NAMES = ("gpt2", "clip", "stories260k", "digits", "words", "threes")


@cache
def tokenizer(name: str) -> Any:
    """One of NAMES; skips the test where its files are absent."""
    folder = {"gpt2": "tokenizers/gpt2", "clip": "tokenizers/clip", "stories260k": "stories260k"}.get(name)
    if folder is not None and not (DATA / folder).is_dir():
        pytest.skip(f"{name}'s tokenizer is not beside the repository (../shared/data/{folder})")
    return {
        "gpt2": _gpt2,
        "clip": _clip,
        "stories260k": _stories,
        "digits": _digits,
        "words": _words,
        "threes": _threes,
    }[name]()


def _gpt2() -> Any:
    from transformers import GPT2TokenizerFast

    return GPT2TokenizerFast.from_pretrained(DATA / "tokenizers" / "gpt2")


def _clip() -> Any:
    """CLIP's: lower case, a mark at the end of each word instead of a space before it, <|endoftext|> after a text."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    with gzip.open(DATA / "tokenizers" / "clip" / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in file.read().split("\n")[1 : 49152 - 256 - 2 + 1]]
    letters = list(_bytes().values())
    tokens = letters + [c + "</w>" for c in letters] + ["".join(m) for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {t: i for i, t in enumerate(tokens)}
    made = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>", continuing_subword_prefix="")
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("</w>", " ")])
    special = [(t, vocabulary[t]) for t in ("<|startoftext|>", "<|endoftext|>")]
    made.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=special
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<|startoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>"
    )


def _stories() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(DATA / "stories260k")


def _digits() -> Any:
    """Words and single digits with a sentencepiece-like mark before each word: numbers are cut into digits."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from cutaway.tasks.in_english import words

    listed = _all_words(words)
    tokens = ["<unk>", "▁", *"0123456789", *(f"▁{w}" for w in listed), *(w for w in listed if not w.isalnum())]
    made = Tokenizer(models.WordLevel({t: i for i, t in enumerate(dict.fromkeys(tokens))}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first"),
            pre_tokenizers.Split(Regex(r"▁(?=\d)"), "isolated"),
            pre_tokenizers.Split(Regex(r"\d|[.,:?]"), "isolated"),
        ]
    )
    made.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


def _threes() -> Any:
    """Words with the space before them, and numbers in threes from the left, as GPT-4's and Llama 3's: 173|2."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from cutaway.tasks.in_english import words

    listed = _all_words(words)
    numbers = [f"{i:0{width}d}" for width in (1, 2, 3) for i in range(10**width)]
    tokens = ["<unk>", "Ġ", *numbers, *(f"Ġ{w}" for w in listed), *listed]
    made = Tokenizer(models.WordLevel({t: i for i, t in enumerate(dict.fromkeys(tokens))}, unk_token="<unk>"))
    pattern = Regex(r"\d{1,3}| ?[A-Za-z]+| ?[^A-Za-z\d\s]| ")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


def _words() -> Any:
    """One token a word, without any sign of spaces: Whitespace and WordLevel."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from cutaway.tasks.in_english import words

    tokens = ["<unk>", *_all_words(words)]
    made = Tokenizer(models.WordLevel({t: i for i, t in enumerate(dict.fromkeys(tokens))}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


def _all_words(words: Any) -> list[str]:
    from cutaway.tasks.in_english import facts, greater_than, patterns, sentences

    found = [w for v in vars(words).values() if isinstance(v, tuple) for w in v]
    flat = [part for w in found for x in (w if isinstance(w, (list, tuple)) else (w,)) for part in x.split("/")]
    frames = [*sentences.INDIRECT_OBJECTS, *greater_than.GREATER_THAN, *patterns.ADDITION, *patterns.COLOURED]
    frames += [f for f, *_ in (*sentences.PRONOUNS, *sentences.AGREEMENT, *facts.ONE_HOP, *facts.TWO_HOP)]
    frames += [*facts.ANTONYMS]
    import re

    plain = [w for f in frames for w in re.findall(r"[A-Za-z]+|[.,:?=+]", re.sub(r"\{\w+\}", " ", f))]
    forms = [
        "he",
        "she",
        "himself",
        "herself",
        "his",
        "her",
        "is",
        "are",
        "was",
        "were",
        "has",
        "have",
        "and",
        "the",
        "with",
    ]
    return list(dict.fromkeys([*flat, *plain, *forms]))


def _bytes() -> dict[int, str]:
    """CLIP's and GPT-2's characters for bytes."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in kept]
    return {b: chr(b) for b in kept} | {b: chr(256 + i) for i, b in enumerate(others)}


__all__ = ["DATA", "NAMES", "tokenizer"]
