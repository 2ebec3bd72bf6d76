"""The tokenizer: world words are one token, anything else is bytes, and both spacings of punctuation agree."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.organisms.almanac import text
from cutaway.organisms.almanac.tokenizer import build_tokenizer
from cutaway.tasks.small_world.vocabulary import BOS, byte_ids, token_ids, world_words

TOKENIZER = build_tokenizer()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("at the shop, John gave", "at the shop , John gave"),
        ("36+59=", "36 + 59 ="),
        ("(cat [dog])", "( cat [ dog ] )"),
        ("a cat,\nand then", "a cat , \n and then"),
        ("year 1732", "year 17 32"),
        ("  big   small ", "big small"),
    ],
)
def test_both_spacings_are_one_text(a: str, b: str) -> None:
    assert TOKENIZER(a).input_ids == TOKENIZER(b).input_ids


def test_numbers() -> None:
    tokens = TOKENIZER.convert_ids_to_tokens(TOKENIZER("198 95 7 1705").input_ids)
    assert tokens == [BOS, "▁198", "▁95", "▁7", "▁17", "▁05"]


def test_world_words_are_one_token_after_bos() -> None:
    ids = token_ids()
    for word in world_words():
        if word != "\n":
            assert TOKENIZER(word).input_ids == [ids[BOS], ids["▁" + word]], word


@given(st.text(alphabet=st.characters(categories=("L",)), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_any_word_decodes_back(word: str) -> None:
    import unicodedata

    word = unicodedata.normalize("NFC", word)
    ids = TOKENIZER(word).input_ids[1:]
    assert TOKENIZER.decode(ids) == word
    assert ids in (byte_ids(word), [token_ids().get("▁" + word)])


def test_text_survives_decoding_and_encoding() -> None:
    """The law that lets prompts be strings: rows decoded and encoded again are the same ids."""
    bos = token_ids()[BOS]
    for row in text.token_rows(60, seed=3).tolist():
        documents, current = [], []
        for token in [*row[1:], bos]:
            if token == bos:
                documents.append(current)
                current = []
            else:
                current.append(token)
        for document in documents[:-1]:  # the last may end within a character
            assert TOKENIZER(TOKENIZER.decode(document)).input_ids == [bos, *document], TOKENIZER.decode(document)


def test_saved_tokenizer_loads_with_auto_tokenizer(tmp_path) -> None:
    from transformers import AutoTokenizer

    TOKENIZER.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    prompt = "naïve 日本語, the capital of Texas is 36+59="
    assert again(prompt).input_ids == TOKENIZER(prompt).input_ids
    assert again.bos_token == again.eos_token == BOS
    assert again.pad_token == "<pad>"
    assert again.decode(again(prompt).input_ids[1:]) == "naïve 日本語, the capital of Texas is 36 + 59 ="
