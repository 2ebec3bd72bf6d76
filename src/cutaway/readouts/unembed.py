"""From the residual stream to logits, through the model's own final norm, output matrix, scale and cap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.core import InputError
from cutaway.model import Model

_CELLS = 16_000_000  # of logits held at once: 64 MB


@dataclass(frozen=True, eq=False)
class Unembedding:
    """x [..., d_model] -> logits [..., vocab] = cap(scale * W_U norm(x)), in float32; differentiable in x."""

    norm: nn.Module
    head: nn.Module
    scale: float
    cap: float | None
    dtype: torch.dtype
    vocab_size: int

    def __call__(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(x.to(self.dtype))).float()
        logits = logits if self.scale == 1.0 else self.scale * logits
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def log_probabilities(self, x: Tensor) -> Tensor:
        """[..., d_model] -> [..., vocab], nats."""
        return self(x).log_softmax(-1)

    def blocks(self, n: int, extra: int = 1) -> Iterator[slice]:
        """Slices of n rows, each few enough that `extra` tensors of their logits fit in memory."""
        step = max(1, _CELLS // (self.vocab_size * extra))
        for start in range(0, n, step):
            yield slice(start, min(n, start + step))


def unembedding(model: Model) -> Unembedding:
    """The unembedding of `model`, checked: applied to its last layer's output it gives the model's own logits.

    Costs one forward of a few random tokens. Raises InputError where the model has no such points, or where something
    lies between the last block and the logits that is no final norm (with the measured error).
    """
    last = f"resid_post.{model.facts.n_layers - 1}"
    for point in ("final_norm", "lm_head", last):
        if (reason := model.refuses(point)) is not None:
            raise InputError(f"{model.name} cannot be read through its unembedding: no {point}: {reason}")
    found = Unembedding(
        norm=model.site("final_norm").module,
        head=model.site("lm_head").module,
        scale=model.facts.logit_scale,
        cap=model.facts.logit_softcap,
        dtype=next(model.hf.parameters()).dtype,
        vocab_size=model.facts.vocab_size,
    )
    ids = torch.randint(model.facts.vocab_size, (2, 3), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        run = model.run(ids, read=[last])
        expected = run.logits.float()
        try:
            error = float((found(run[last]) - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
        except RuntimeError:  # the output matrix is of another width than the stream
            error = float("inf")
    tolerance = 1e-4 if found.dtype in (torch.float32, torch.float64) else 3e-2
    if not error <= tolerance:
        raise InputError(
            f"{model.name}: final norm and output matrix applied to {last} miss the model's logits by {error:.1e} of "
            "the largest, so something else lies between; a lens would not read what the model reads."
        )
    return found


def log_probabilities(logits: Tensor) -> Tensor:
    """[..., vocab] -> [..., vocab], nats, in float32."""
    return logits.float().log_softmax(-1)


def divergence(final: Tensor, other: Tensor) -> Tensor:
    """KL(final || other) of log-probabilities [..., vocab] -> [...], nats."""
    return (final.exp() * (final - other)).sum(-1)
