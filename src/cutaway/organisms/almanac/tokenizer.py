"""The tokenizer: one token a world word, bytes for anything else, in the `tokenizers` format.

Text is cut at blanks, digits and punctuation, and each piece gets a "▁" in front, so that "shop, John" and "shop ,
John" are the same tokens and so are "36+59=" and "36 + 59 =".  Four digits are a century and a year ("1732" -> 17,
32); three are one number ("198").  A piece that is a world word is one token; any other is "▁" and its UTF-8 bytes.
"""

from __future__ import annotations

from typing import Any

from cutaway.tasks.small_world.vocabulary import BLANK, BOS, PAD_TOKEN, token_ids

CONTEXT = 128


def build_tokenizer() -> Any:
    """A `PreTrainedTokenizerFast`; "<bos>" is prepended to every text, and also ends one."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = token_ids()
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[], byte_fallback=True, ignore_merges=True))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[^\S\n]+"), "removed"),
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Split(Regex(r"\d{3}(?!\d)|\d{2}|\d"), "isolated"),
            pre_tokenizers.Split(Regex(r"[.,?!:;()\[\]{}=+\-]"), "isolated"),
            pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="always", split=False),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, ids[BOS])]
    )
    tidy = [
        (Regex(r" (?=[.,?!:;)\]}])"), ""),  # no blank before closing punctuation
        (Regex(r"(?<=[(\[{]) "), ""),
        (Regex(r" ?\n ?"), "\n"),
        (Regex(r"(?<=\b1[1-9]) (?=\d\d\b)"), ""),  # a century and its year
    ]
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(BLANK, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *(decoders.Replace(pattern, content) for pattern, content in tidy),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=BOS,
        pad_token=PAD_TOKEN,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )
