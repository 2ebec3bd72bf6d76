"""From a trained dictionary to one that ships: half precision, judged as it is stored, with examples beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cutaway.core import CutawayError
from cutaway.features.evaluate import Report, evaluate
from cutaway.features.examples import find_examples
from cutaway.features.replacement import Task
from cutaway.features.transcoders import Transcoders

if TYPE_CHECKING:
    from cutaway.model import Model


def package(
    model: Model,
    dictionary: Transcoders,
    folder: str | Path,
    held_out: ArrayLike | Tensor,
    tasks: Mapping[str, Sequence[Task]] | None = None,
    *,
    example_rows: ArrayLike | Tensor | None = None,
    half: bool = True,
    seed: int = 0,
) -> tuple[Transcoders, Report]:
    """Write the dictionary into `folder` with its metrics in config.json and, from `example_rows`, its examples.

    Metrics are of the weights as stored, on `held_out` rows and `tasks`; beside them, what half precision changed, and
    the share of features that never fired on the example rows (a sample large enough to say so).
    Cost: evaluate twice, and find_examples. Raises `CutawayError` where half precision does not hold a weight.
    """
    stored = dictionary.to(dtype=torch.float16) if half else dictionary
    report = evaluate(model, stored, held_out, tasks, seed=seed)
    metrics: dict[str, Any] = report.to_json()
    if half:
        metrics["half_precision"] = _difference(evaluate(model, dictionary, held_out, seed=seed), report)
    folder = Path(folder)
    stored = stored.with_(folder=folder)
    examples = None if example_rows is None else find_examples(model, stored, example_rows)
    if examples is not None:
        frequency = examples.tables["frequency"]
        metrics["never_fired"] = {"share": float((frequency == 0).float().mean()), "n_tokens": examples.n_tokens}
    stored = stored.with_(metrics=metrics)
    stored.save(folder)
    if examples is not None:
        examples.save(folder)
    return stored, report


def _difference(whole: Report, half: Report) -> dict[str, float]:
    """Half precision less float32."""
    if whole.replacement is None or half.replacement is None:
        raise CutawayError("both reports need the replacement model.")
    return {
        "median_error": half.errors.median.value - whole.errors.median.value,
        "l0": half.l0.value - whole.l0.value,
        "kl": half.replacement.kl.value - whole.replacement.kl.value,
        "agreement": half.replacement.agreement.value - whole.replacement.agreement.value,
    }
