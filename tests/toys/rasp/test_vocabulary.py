"""Tokens: every value has one id and one spelling, and both ways agree."""

from __future__ import annotations

from fractions import Fraction

import pytest

from cutaway.core import InputError
from cutaway.toys.rasp.vocabulary import Vocabulary

VALUES = [(("a", "b"), ("b", "c", None)), ((0, 1, 2), (True, False, Fraction(1, 3))), (("1", 1), ((1, "a b"), None))]


@pytest.mark.parametrize(("inputs", "outputs"), VALUES)
def test_ids_spellings_and_values_correspond(inputs, outputs):
    v = Vocabulary.of(inputs, outputs)
    texts = v.spellings()
    assert len(set(texts)) == len(texts) == len(v)
    assert all(len(text.split()) == 1 for text in texts)
    for value in (*inputs, *outputs):
        assert v.decode(v.id(value)) == value
        assert isinstance(v.decode(v.id(value)), bool) == isinstance(value, bool)
    tokenizer = v.tokenizer()
    assert tokenizer(" ".join(texts[2:])).input_ids == [0, *range(2, len(v))]


def test_only_inputs_are_given():
    v = Vocabulary.of("ab", [3])
    assert v.encode("ab") == [0, 2, 3]
    with pytest.raises(InputError, match="output"):
        v.encode([3])
    with pytest.raises(InputError, match="no value"):
        v.encode(["z"])
