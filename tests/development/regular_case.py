"""A regular model whose posterior is Gaussian: linear regression, with its curvatures."""

from __future__ import annotations

import torch
from torch import nn

from cutaway.development import Loss, squared_error


def regular(d: int = 6, n: int = 200, seed: int = 0) -> tuple[Loss, torch.Tensor]:
    """The loss at its minimum, and the eigenvalues of its Hessian."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64) * torch.linspace(0.7, 1.4, d)
    module = nn.Linear(d, 1, bias=False).double()
    loss = Loss(module, (x, (x @ module.weight.T).detach()), squared_error)
    return loss, torch.linalg.eigvalsh(x.T @ x / n)
