"""Train on activations that are at hand, [n, d]: synthetic features, floors, shards. No model is run.

The same learners, schedule and calibration as `train`, so that what is trained on a matched Gaussian, or on a null
model's activations, differs from the dictionary it stands beside in its data alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.features.learner import Learner
from cutaway.features.normalise import Normalisation
from cutaway.features.parallel import Split, check_split, learner_class, share_of_batch
from cutaway.features.sae import SAE
from cutaway.features.settings import TrainSettings
from cutaway.features.transcoders import ModelFacts

CALIBRATION_ROWS = 50_000
_SAMPLE = 65_536  # rows that the units are measured on


def fit_rows(
    x: Tensor, settings: TrainSettings, *, y: Tensor | None = None, model: ModelFacts | None = None,
    split: Split = "batch",
) -> dict[str, SAE]:  # fmt: skip
    """Train `settings.dictionaries` (kind sae) on rows x [n, d_in], to reconstruct x or to write y [n, d_out].

    All share one shuffled order of the rows, read as many times as `settings.tokens` takes. Their `at` is recorded as
    the point. Where `torch.distributed` is initialised, each process takes its share of every batch, or of the features
    (`split`, parallel.py); all are given the same rows, and get the same dictionaries. float64 rows are trained on in
    float64. Cost a row and dictionary: one dense encoder product and the sparse path.
    Raises `InputError` for rows that are no finite [n, d] or fewer than the features, and for constant activations.
    """
    target = x if y is None else y
    for name, value in (("x", x), ("y", target)):
        if value.ndim != 2 or value.shape[0] < 2:
            raise InputError(f"activations are rows [n, d], at least two; {name} {list(value.shape)} was given.")
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"{name} holds NaN or infinite values.")
    if x.shape[0] != target.shape[0]:
        raise InputError(f"x and y have a row each: {x.shape[0]} and {target.shape[0]} were given.")
    if wrong := [d.name for d in settings.dictionaries if d.kind != "sae"]:
        raise InputError(f"{', '.join(wrong)}: rows of activations train dictionaries of one point, kind sae.")
    if x.dtype != torch.float64:
        x, target = x.float(), target.float()
    settings.check_rows(x.shape[0])
    check_split(split, settings.batch)
    learners = [_learner(d, x, target, settings, split) for d in settings.dictionaries]
    for step, part in enumerate(_batches(x.shape[0], settings)):
        done = step / settings.steps
        up = (step + 1) / max(1.0, settings.warmup * settings.steps)
        down = (settings.steps - step) / max(1.0, settings.decay * settings.steps)
        for learner in learners:
            learner.anneal(done)
            mine = part[share_of_batch(split, len(part))]
            learner.step(x[mine][None], target[mine][None], learner.lr * min(1.0, up, down))
    return {learner.settings.name: _finished(learner, x, settings, y is None, model) for learner in learners}


def _learner(dictionary: Any, x: Tensor, y: Tensor, settings: TrainSettings, split: Split) -> Learner:
    some = slice(0, _SAMPLE)
    what = (f"activations at {dictionary.at}", f"activations at {dictionary.to or dictionary.at}")
    normal = Normalisation.of(x[some][None], y[some][None], dictionary.normalise, what)
    made = learner_class(split)
    more: dict[str, Any] = {"bf16": bool(settings.bf16), "device": x.device, "dtype": x.dtype}
    return made(dictionary, 1, x.shape[1], y.shape[1], normal, **more).begin(x[some][None])


def _batches(n: int, settings: TrainSettings) -> Iterator[Tensor]:
    """Indices [batch] of rows, a new random order each epoch; a batch may span two."""
    left, epoch = torch.empty(0, dtype=torch.long), 0
    for _ in range(settings.steps):
        while left.shape[0] < settings.batch:
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
            left, epoch = torch.cat([left, torch.randperm(n, generator=generator)]), epoch + 1
        yield left[: settings.batch]
        left = left[settings.batch :]


def _finished(learner: Learner, x: Tensor, settings: TrainSettings, same: bool, model: ModelFacts | None) -> SAE:
    learner, n = learner.whole(), x.shape[0]
    if x.shape[0] > CALIBRATION_ROWS:  # of all: rows may stand in some order
        x = x[torch.randperm(x.shape[0], generator=torch.Generator().manual_seed(settings.seed))[:CALIBRATION_ROWS]]
    learner.calibrate(x[None])
    about = {
        "settings": learner.settings.to_json(),
        "run": settings.model_dump(mode="json", exclude={"dictionaries"}),
        "tokens": settings.tokens,
        "rows": {"n": n},
    }
    fields: dict[str, Any] = {} if model is None else {"model": model}
    at = str(learner.settings.at)
    return learner.sae(point=at, output_point=None if same else (learner.settings.to or "?"), training=about, **fields)
