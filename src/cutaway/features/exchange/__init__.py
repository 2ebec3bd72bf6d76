"""Dictionaries of other packages: one file a format, each with `is_one`, `read` and `write`, and its equations."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from cutaway.features.exchange import dictionary_learning, gemma_scope, gemma_scope_2, llamascopium, saelens, sparsify
from cutaway.features.sae import SAE


class Form(Protocol):
    def is_one(self, folder: Path) -> bool: ...
    def read(self, folder: Path) -> SAE: ...
    def write(self, sae: SAE, folder: str | Path) -> None: ...


FORMS: dict[str, Form] = {
    "llamascopium": llamascopium,  # before SAELens, whose weights have the same name
    "saelens": saelens,
    "sparsify": sparsify,
    "dictionary_learning": dictionary_learning,
    "gemma_scope": gemma_scope,
    "gemma_scope_2": gemma_scope_2,
}
WEIGHTS = (
    saelens.WEIGHTS, sparsify.WEIGHTS, dictionary_learning.WEIGHTS, gemma_scope.WEIGHTS, gemma_scope_2.WEIGHTS,
)  # fmt: skip


def recognised(folder: Path) -> str | None:
    """The name of a folder's format, by its files."""
    return next((name for name, form in FORMS.items() if form.is_one(folder)), None)


__all__ = ["FORMS", "WEIGHTS", "Form", "recognised"]
