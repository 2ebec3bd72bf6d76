"""A tokenizer as tasks need it: rows of ids, which words are one token in mid-sentence, what a continuation adds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cutaway.core import InputError
from cutaway.model.tokens import spelled

LEAD = "and the"  # ordinary words to stand before a word whose tokens in mid-sentence are asked for


@dataclass(frozen=True, eq=False)
class Reader:
    """A tokenizer, with or without its model. `vocabulary` is the number of ids, 0 where it is not known."""

    tokenizer: Any
    name: str
    vocabulary: int
    context: int | None = None

    @property
    def whose(self) -> str:
        """ "gpt2's tokenizer", or "this tokenizer" where it has no name but its class's."""
        return "this tokenizer" if self.name == type(self.tokenizer).__name__ else f"{self.name}'s tokenizer"

    @cached_property
    def _trailing(self) -> int:
        """How many special tokens it puts after a text (CLIP's <|endoftext|>): the answer is asked for before them."""
        bare = self._bare([LEAD])[0]
        full = self._ids([LEAD])[0]
        for after in range(len(full) - len(bare) + 1):
            end = len(full) - after
            if full[end - len(bare) : end] == bare:
                return after
        return 0

    def rows(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of each text with the special tokens that the tokenizer puts before it, not with those it puts after."""
        cut = self._trailing
        return [row[: len(row) - cut] if cut else row for row in self._ids(texts)]

    def _ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        found = self.tokenizer(list(texts))["input_ids"]
        return [tuple(int(i) for i in row) for row in found]

    def _bare(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        try:
            found = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        except TypeError:  # a callable of one's own that adds none
            found = self.tokenizer(list(texts))["input_ids"]
        return [tuple(int(i) for i in row) for row in found]

    def raw(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids without special tokens, for text that already holds them (a chat template's)."""
        return self._bare(texts)

    def continuations(self, prompts: Sequence[str], answers: Sequence[str]) -> list[tuple[int, ...] | None]:
        """The ids that each answer (with its leading space, if it has one) adds to its prompt.

        None where the text cannot be cut there: the tokens of prompt + answer do not begin with those of the prompt.
        """
        before = self.rows(prompts)
        whole = self.rows([p + a for p, a in zip(prompts, answers)])
        return [w[len(b) :] if w[: len(b)] == b else None for b, w in zip(before, whole)]

    def pieces(self, words: Sequence[str], glue: str = " ") -> list[tuple[int, ...] | None]:
        """The tokens of each word in mid-sentence."""
        return self.continuations([LEAD] * len(words), [glue + w for w in words])

    def own(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """The ids without a first token that is a space alone, as some tokenizers put before a number."""
        return ids[1:] if len(ids) > 1 and not self.strings(ids[:1])[0].strip(" ▁") else ids

    def one_token(self, words: Iterable[str], glue: str = " ") -> dict[str, int]:
        """The words that are one token in mid-sentence, each with its id. The unknown token does not count."""
        listed = list(dict.fromkeys(words))
        unknown = getattr(self.tokenizer, "unk_token_id", None)
        found = zip(listed, self.pieces(listed, glue))
        return {word: ids[0] for word, ids in found if ids is not None and len(ids) == 1 and ids[0] != unknown}

    def unknown(self, ids: Sequence[int]) -> bool:
        token = getattr(self.tokenizer, "unk_token_id", None)
        return token is not None and token in ids

    def strings(self, ids: Iterable[int]) -> list[str]:
        """Each id as the text it adds, a leading space kept; without a tokenizer the ids as digits."""
        if self.tokenizer is None:
            return [str(i) for i in ids]
        return [spelled(int(i), self.tokenizer) for i in ids]

    def cut(self, ids: Sequence[int]) -> str:
        """The tokens one beside another, for messages: `Jo|h|n`."""
        return "|".join(text.strip(" ") or "␣" for text in self.strings(ids))

    def special(self) -> set[int]:
        return {int(i) for i in getattr(self.tokenizer, "all_special_ids", ())}

    def text(self, ids: Sequence[int]) -> str:
        """The text of a row, without special tokens."""
        if self.tokenizer is None:
            return " ".join(map(str, ids))
        special = self.special()
        return str(
            self.tokenizer.decode([i for i in ids if i not in special], clean_up_tokenization_spaces=False)
        ).strip(" ")


def reader(model_or_tokenizer: Any) -> Reader:
    """The reader of a cutaway model, a tokenizer, or a name or folder that `cw.load` takes.

    Raises InputError for anything else, and for a model without a tokenizer.
    """
    given = model_or_tokenizer
    if isinstance(given, Reader):
        return given
    if isinstance(given, (str, Path)):
        from cutaway.model import load

        given = load(given)
    if hasattr(given, "facts") and hasattr(given, "tokenizer"):
        if given.tokenizer is None:
            raise InputError(
                f"{given.name} has no tokenizer, so text cannot be read: load(..., tokenizer=…), or make the task of "
                "token ids with Task.from_tokens (cw.task('induction', model) needs no text either)."
            )
        return Reader(given.tokenizer, given.name, int(given.facts.vocab_size), given.facts.max_positions)
    if callable(given) and hasattr(given, "decode"):
        name = str(getattr(given, "name_or_path", "") or type(given).__name__)
        try:
            size = len(given)
        except TypeError:
            size = 0
        found = Reader(given, Path(name).name, size)
        if not found.rows([LEAD])[0]:
            raise InputError(
                f"{found.name} makes no token of {LEAD!r}: its vocabulary is empty ({size} tokens). Was it made from "
                "its files? (transformers: TheTokenizer.from_pretrained(folder).)"
            )
        return found
    raise InputError(f"a task is made for a model or a Hugging Face tokenizer; given {type(given).__name__}.")
