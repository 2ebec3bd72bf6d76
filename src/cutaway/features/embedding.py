"""Texts as vectors, for scikit-learn: features (or the point itself) pooled over the tokens of each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from torch import Tensor

from cutaway.core import InputError
from cutaway.features.concepts import padded_rows
from cutaway.features.places import Places
from cutaway.features.stream import kept_positions

if TYPE_CHECKING:
    from cutaway.core.protocols import Dictionary
    from cutaway.model import Model

Pool = Literal["max", "mean", "last"]
_PASS_TOKENS = 4096


class FeatureEmbedding(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn transformer: a sequence of texts in, float32 [texts, features] out.

    dictionary: what encodes the point (anything with `encode`); None gives the point's own coordinates.
    point: by default the dictionary's own. pool: over a text's tokens, "max" (does it occur), "mean", or the "last".
    The first token (beginning of text) is left out; texts are cut at `context` tokens. Nothing is learned in `fit`.
    Cost: one forward a text.

    make_pipeline(FeatureEmbedding(model, sae), StandardScaler(), LogisticRegression()).fit(texts, labels)
    """

    def __init__(
        self, model: Model, dictionary: Dictionary | None = None, point: str | None = None, pool: Pool = "max",
        context: int = 128,
    ) -> None:  # fmt: skip
        self.model, self.dictionary, self.point, self.pool, self.context = model, dictionary, point, pool, context

    def fit(self, texts: Sequence[str], y: Any = None) -> FeatureEmbedding:
        """Checks what it was given. Raises `InputError` for no point, no tokenizer, or texts that are none."""
        self._place()
        _texts(texts)
        if self.pool not in ("max", "mean", "last"):
            raise InputError(f"features are pooled by max, mean or last; {self.pool!r} was given.")
        if self.model.tokenizer is None:
            raise InputError(f"{self.model.name} has no tokenizer, so it reads no texts.")
        return self

    def __sklearn_clone__(self) -> FeatureEmbedding:
        # Nothing is learned in `fit`, so a clone shares the model instead of copying its weights.
        return FeatureEmbedding(**self.get_params(deep=False))

    def __sklearn_is_fitted__(self) -> bool:
        return True

    @torch.no_grad()
    def transform(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[texts, features], float32."""
        self.fit(texts)
        rows = text_rows(self.model, texts, self.context)
        places = Places.of(self.model, [self._place()], mlps=False)
        address = places.address(self._place())
        order = (rows >= 0).sum(1).argsort()  # texts of like length go together
        out: list[tuple[Tensor, Tensor]] = []
        start = 0
        while start < len(order):
            width = int((rows[order[start]] >= 0).sum())
            size = max(1, _PASS_TOKENS // max(1, width))
            index = order[start : start + size]
            part = rows[index][:, : int((rows[index] >= 0).sum(1).max())]
            _, _, at = places.harvest(part.long().clamp_min(0))
            out.append((index, self._pooled(at[address].float(), part)))
            start += size
        found = torch.empty(len(texts), out[0][1].shape[1])
        for index, values in out:
            found[index] = values
        return np.asarray(found.numpy(), dtype=np.float32)

    def _pooled(self, x: Tensor, rows: Tensor) -> Tensor:
        """[texts, position, d] -> [texts, features]."""
        a = x if self.dictionary is None else self.dictionary.encode(x)
        kept = kept_positions(rows, first_position=rows.shape[1] == 1).to(a.device)
        kept[~kept.any(1), 0] = True  # a text of its beginning alone
        if self.pool == "max":
            return a.masked_fill(~kept[..., None], -torch.inf).max(1).values.cpu()
        if self.pool == "mean":
            return ((a * kept[..., None]).sum(1) / kept.sum(1, keepdim=True)).cpu()
        last = (kept * torch.arange(rows.shape[1], device=a.device)).argmax(1)
        return a[torch.arange(len(a)), last].cpu()

    def _place(self) -> str:
        point = self.point or getattr(self.dictionary, "point", None)
        if not point:
            raise InputError(
                "it is not known which point to read: give point='resid_post.2', or a dictionary that says."
            )
        return str(point)


def text_rows(model: Model, texts: Sequence[str], context: int = 128) -> Tensor:
    """Texts as rows of ids, as the model's tokenizer begins them, cut at `context` and at what the model takes."""
    width = min(context, model.facts.max_positions or context)
    ids = [list(model.tokenizer(text)["input_ids"]) for text in _texts(texts)]
    if empty := [i for i, one in enumerate(ids) if not one]:
        raise InputError(f"text {empty[0]} has no tokens.")
    return padded_rows(ids, max(min(width, len(one)) for one in ids))


def _texts(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str) or len(texts) == 0 or not all(isinstance(text, str) for text in texts):
        raise InputError("texts are a sequence of strings, at least one.")
    return texts
