"""Answers as one token each."""

from __future__ import annotations

from typing import Any

from cutaway.core.errors import InputError


def one_token(model: Any, answer: str | int) -> int:
    """The id of an answer of `model`: an id as it is, or text that is one token, after a space or by itself.

    Raises InputError where the text is several tokens either way, or the id lies outside the vocabulary.
    """
    if isinstance(answer, int):
        if not 0 <= answer < model.facts.vocab_size:
            raise InputError(f"token id {answer} is not in the vocabulary (0 … {model.facts.vocab_size - 1}).")
        return answer
    if model.tokenizer is None:
        raise InputError(f"{model.name} has no tokenizer; give the answer as a token id.")
    forms = (answer,) if answer.startswith((" ", "\n")) else (" " + answer, answer)
    pieces: list[str] = []
    for form in forms:
        ids = [int(i) for i in model.tokenizer(form, add_special_tokens=False)["input_ids"]]
        if len(ids) == 1 and ids[0] != getattr(model.tokenizer, "unk_token_id", None):
            return ids[0]
        pieces = pieces or model.token_strings(ids)
    shown = " + ".join(map(repr, pieces)) or "no token"
    raise InputError(f"{answer!r} is not one token of {model.name}: it is {shown}. Name a word that is one, or an id.")
