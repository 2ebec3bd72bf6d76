"""The tokens of a compiled model: BOS, padding, the program's inputs, and the outputs that are no inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cutaway.core import InputError
from cutaway.toys.rasp.language import Value

BOS, PAD = "<bos>", "<pad>"


@dataclass(frozen=True)
class Vocabulary:
    """Token ids: 0 is BOS, 1 padding, then `values` in order; `inputs` says how many of them may be given."""

    values: tuple[Value, ...]
    inputs: int

    @classmethod
    def of(cls, inputs: Iterable[Value], outputs: Iterable[Value]) -> Vocabulary:
        given = list(inputs)
        more = [value for value in outputs if not any(_same(value, one) for one in given)]
        return cls((*given, *more), len(given))

    def __len__(self) -> int:
        return 2 + len(self.values)

    def id(self, value: Value) -> int:
        """The token id of an input or output value. Raises InputError where there is none."""
        for equal in (_same, lambda a, b: a == b):
            for number, known in enumerate(self.values):
                if equal(known, value):
                    return 2 + number
        raise InputError(f"{value!r} is no value of this program; inputs are {list(self.values[: self.inputs])}.")

    def encode(self, given: Iterable[Value]) -> list[int]:
        """Ids of an input, BOS first. Raises InputError for what is no input value."""
        ids = [self.id(value) for value in given]
        for value, number in zip(given, ids, strict=False):
            if number >= 2 + self.inputs:
                raise InputError(
                    f"{value!r} is an output of this program; inputs are {list(self.values[: self.inputs])}."
                )
        return [0, *ids]

    def decode(self, token: int) -> Value:
        """The value of a token id; BOS and padding as their spelling."""
        return (BOS, PAD)[token] if token < 2 else self.values[token - 2]

    def spellings(self) -> list[str]:
        """Every token's text, different and without spaces, by id."""
        texts: list[str] = [BOS, PAD]
        for value in self.values:
            text = spelled(value)
            while text in texts:
                text += "'"
            texts.append(text)
        return texts

    def tokenizer(self) -> Any:
        """A Hugging Face tokenizer: words between spaces, BOS put first; an unknown word becomes padding."""
        from tokenizers import Tokenizer
        from tokenizers.models import WordLevel
        from tokenizers.pre_tokenizers import WhitespaceSplit
        from tokenizers.processors import TemplateProcessing
        from transformers import PreTrainedTokenizerFast

        words = {text: number for number, text in enumerate(self.spellings())}
        backend = Tokenizer(WordLevel(words, unk_token=PAD))
        backend.pre_tokenizer = WhitespaceSplit()
        backend.post_processor = TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, words[BOS])]
        )
        return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=BOS, pad_token=PAD, unk_token=PAD)


def spelled(value: Value) -> str:
    """A value as one word."""
    return "".join(str(value).split()) if not isinstance(value, tuple) else ",".join(map(spelled, value))


def _same(a: Value, b: Value) -> bool:
    """Equal and of one kind: True is not 1 here, since a program may output either."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)
