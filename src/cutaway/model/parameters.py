"""A model's own parameters, set aside where gradients of something else are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def without_gradients(module: nn.Module) -> Iterator[None]:
    """Within, no parameter asks for a gradient, so autograd keeps no activations for them; afterwards as before."""
    asked = [p for p in module.parameters() if p.requires_grad]
    for p in asked:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in asked:
            p.requires_grad_(True)
