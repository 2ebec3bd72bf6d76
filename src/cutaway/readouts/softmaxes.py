"""Many softmax classifiers on the same inputs, fitted at once: one for each variable of a state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 100


@dataclass(frozen=True, eq=False)
class Softmaxes:
    """logits(x)[..., s, c] = x · weight[s, c] + bias[s, c], in the activations' own units.

    weight: [S, C, width]. bias: [S, C].
    """

    weight: Tensor
    bias: Tensor

    def logits(self, x: Tensor) -> Tensor:
        """[n, width] -> [n, S, C]."""
        values, classes, width = self.weight.shape
        return (x @ self.weight.reshape(-1, width).T).view(len(x), values, classes) + self.bias

    def predict(self, x: Tensor) -> Tensor:
        """[n, width] -> [n, S]."""
        return self.logits(x).argmax(-1)


def fit_softmaxes(x: Tensor, y: Tensor, classes: int, decay: float = 1e-4) -> Softmaxes:
    """The minimum over W, b of mean cross-entropy + decay/2 |W|² (on standardised inputs), by L-BFGS.

    x: [n, width]. y: [n, S] in 0 … classes-1, -1 left out. Cost: about `STEPS` products of n × width × S·C.
    """
    mean, scale = x.mean(0), x.std(0)
    scale = torch.where(scale > 1e-8 * scale.max().clamp(min=1.0), scale, torch.ones_like(scale))
    z = (x - mean) / scale
    variables = y.shape[1]
    weight = torch.zeros(variables * classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(variables * classes, requires_grad=True)
    asked = (y >= 0).sum().clamp(min=1)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-6
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = (z @ weight.T + bias).view(-1, classes)
        entropy = torch.nn.functional.cross_entropy(logits, y.flatten(), ignore_index=-1, reduction="sum") / asked
        total = entropy * variables + decay / 2 * (weight**2).sum()  # each variable's own mean, summed
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    own = (weight / scale).detach()
    return Softmaxes(own.view(variables, classes, -1), (bias.detach() - own @ mean).view(variables, classes))
