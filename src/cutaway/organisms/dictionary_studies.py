"""Studies of dictionaries by name: what needs a model's text found, and folders resolved, before `features/` begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.core import InputError
from cutaway.organisms.dictionaries import _suited, text_rows

if TYPE_CHECKING:
    from cutaway.features import ArmStudy

Say = Callable[[str], None]
ARM_ROWS = 16_384


def study_arms(
    model: str, *, at: Sequence[str] = (), text: Sequence[str | Path] = (), architecture: str = "batchtopk",
    features: int | None = None, l0: int = 8, tokens: int = 100_000, seeds: int = 3, held_out: int = 16_000,
    seed: int = 0, on: Say = lambda message: None,
) -> ArmStudy:  # fmt: skip
    """The five arms of Heap et al. of a model, by name. at: by default the first layer's output and the last but one's.

    features: 2 a dimension by default, at least 256. Raises InputError for points that hold no vector a position.
    """
    import torch

    import cutaway as cw
    from cutaway.features import DictionarySettings, TrainSettings, arm_study

    loaded = cw.load(model)
    points = list(at) or _first_and_last(loaded.facts.n_layers)
    learn, score = text_rows(loaded, text, rows=min(ARM_ROWS, 2 + tokens // 100), seed=seed, held_out_tokens=held_out)
    if text:
        order = torch.randperm(learn.shape[0], generator=torch.Generator().manual_seed(seed))
        learn = learn[order[: max(2, tokens // max(1, int((learn[:, 1:] >= 0).sum()) // learn.shape[0]))]]
    wide = features or max(256, 2 * loaded.facts.d_model)
    if wide < l0:
        raise InputError(f"l0 {l0} is more than the {wide} features.")
    settings = TrainSettings(
        dictionaries=tuple(
            DictionarySettings.read(
                {"name": point, "kind": "sae", "at": point, "features": wide, "l0": l0, "activation": architecture,
                 "dead_after": max(5_000, tokens // 8), **_suited(architecture)}
            )
            for point in points
        ),
        tokens=tokens, batch=512,
    )  # fmt: skip
    return arm_study(loaded, learn, score, settings, seeds=tuple(range(seed, seed + seeds)), on=on)


def _first_and_last(n_layers: int) -> list[str]:
    """The first layer's output and the last but one's: after the last, the next token is all that matters."""
    return list(dict.fromkeys(f"resid_post.{layer}" for layer in (0, max(0, n_layers - 2))))


def studied(result: Any) -> dict[str, Any]:
    """A result as the command line prints it."""
    body: dict[str, Any] = result.to_json()
    body.pop("schema", None)
    return body
