"""Words that a tokenizer has no token for are named, so that nobody reads a graph of bytes unawares."""

from pathlib import Path

import pytest

from cutaway.model.tokens import spelled_out

DATA = Path(__file__).parents[3] / "shared" / "data"


def test_words_spelled_in_bytes_are_named_once_and_in_order() -> None:
    if not (DATA / "stories260k").is_dir():
        pytest.skip("shared/data/stories260k is not beside the project")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(DATA / "stories260k")
    assert spelled_out(tokenizer, "Once upon a time\n there was a girl") == []
    assert spelled_out(tokenizer, "In Zürich lived a fox; Zürich was far from 東京") == ["Zürich", "東京"]


def test_words_that_are_unknown_are_named() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "cat": 2}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    assert spelled_out(tokenizer, "a cat") == []
    assert spelled_out(tokenizer, "a dog a cat a fox a dog") == ["dog", "fox"]


def test_without_a_tokenizer_nothing_is_named() -> None:
    assert spelled_out(None, "anything") == []
