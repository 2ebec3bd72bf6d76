"""Many toy networks at once: one on each place of the instance axis, trained together, gradients written out.

    h  = f(x W1^T)          f: identity, or ReLU ("privileged basis")           W1 [instance, m, n]
    x' = g(h W2^T + b)      g: ReLU, or identity (the linear model)             W2 [instance, n, m]; tied: W2 = W1^T
    L  = E sum_i I_i (y_i - x'_i)^2       y = x, or |x| ("computation in superposition")

Source: Elhage et al. 2022, "Experiment setup".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from cutaway.core import CutawayError, InputError
from cutaway.toys.superposition.data import Data


@dataclass(frozen=True, eq=False)
class Networks:
    """`encoder` [instance, m, n], `bias` [instance, n]; `decoder` [instance, n, m], or None where it is tied."""

    encoder: torch.Tensor
    bias: torch.Tensor
    decoder: torch.Tensor | None = None
    relu_hidden: bool = False
    relu_output: bool = True
    absolute: bool = False

    @classmethod
    def random(cls, instances: int, n: int, m: int, *, seed: int, tied: bool = True, **kind: bool) -> Networks:
        """Xavier-normal weights (the public notebook's), zero bias. `kind`: relu_hidden, relu_output, absolute."""
        if min(instances, n, m) < 1:
            raise InputError(f"a toy network needs instances, n and m of at least 1; {instances}, {n}, {m} were given.")
        generator = torch.Generator().manual_seed(seed)
        scale = (2 / (n + m)) ** 0.5
        encoder = torch.randn(instances, m, n, generator=generator) * scale
        decoder = None if tied else torch.randn(instances, n, m, generator=generator) * scale
        return cls(encoder, torch.zeros(instances, n), decoder, **kind)

    @property
    def instances(self) -> int:
        return self.encoder.shape[0]

    @property
    def output_weights(self) -> torch.Tensor:
        """W2 [instance, n, m]."""
        return self.encoder.mT if self.decoder is None else self.decoder

    def at(self, index: torch.Tensor | list[int]) -> Networks:
        """The networks at these places of the instance axis."""
        decoder = None if self.decoder is None else self.decoder[index]
        return replace(self, encoder=self.encoder[index], bias=self.bias[index], decoder=decoder)

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        """h [instance, batch, m] of x [instance or 1, batch, n]."""
        h = _product(x, self.encoder.mT)
        return h.relu_() if self.relu_hidden else h

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x' [instance, batch, n] of x [instance or 1, batch, n]."""
        z = torch.baddbmm(self.bias[:, None], self.hidden(x), self.output_weights.mT)
        return z.relu_() if self.relu_output else z

    def errors(self, x: torch.Tensor) -> torch.Tensor:
        """x' - y, [instance, batch, n]."""
        return self(x) - (x.abs() if self.absolute else x)

    def loss(self, data: Data, importance: torch.Tensor, *, samples: int = 8192, seed: int = 1_000_003) -> torch.Tensor:
        """L [instance] on fresh draws (exact where the data are). `importance` [instance or 1, n]."""
        x, weight = data.draw(samples, torch.Generator().manual_seed(seed))
        each = (self.errors(x).square() * importance[:, None]).sum(dim=2)
        return each.mean(dim=1) if weight is None else (each * weight).sum(dim=1)


def gradients(
    nets: Networks, x: torch.Tensor, weight: torch.Tensor | None, importance: torch.Tensor
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """L [instance] of a batch, and its gradients in the order encoder, bias(, decoder).

    About half the time of autograd at these sizes: one buffer of outputs is made, and it becomes the gradient.
    """
    h = _product(x, nets.encoder.mT)
    if nets.relu_hidden:
        h.relu_()
    out_weights = nets.output_weights
    z = torch.baddbmm(nets.bias[:, None], h, out_weights.mT)
    if nets.relu_output:
        z.relu_()
    share = 2 / x.shape[1] if weight is None else 2 * weight[..., None]
    error = z - (x.abs() if nets.absolute else x)
    g = error * (importance[:, None] * share)  # dL/dx'
    loss = torch.bmm(g.flatten(1)[:, None], error.flatten(1)[..., None])[:, 0, 0] / 2
    if nets.relu_output:
        g.masked_fill_(z <= 0, 0)
    d_bias = g.sum(dim=1)
    d_out = g.mT @ h  # [instance, n, m]
    d_h = g @ out_weights
    if nets.relu_hidden:
        d_h.masked_fill_(h <= 0, 0)
    d_in = _product_over_batch(d_h, x)  # [instance, m, n]
    if nets.decoder is None:
        return loss, (d_in + d_out.mT, d_bias)
    return loss, (d_in, d_bias, d_out)


def train(
    start: Networks,
    data: Data,
    importance: torch.Tensor,
    *,
    steps: int,
    learning_rate: float = 1e-2,
    batch: int = 1024,
    seed: int = 0,
    watch: Callable[[int, torch.Tensor, Networks], None] | None = None,
) -> Networks:
    """The networks after `steps` of Adam with the learning rate falling to zero as a cosine.

    `importance` [instance or 1, n]. `watch(step, losses [instance], networks)` is called before each step; the
    networks it sees are changed by the next. Cost of a step: 8 * instances * batch * n * m multiply-adds and one
    buffer [instance, batch, n]. Raises CutawayError where a loss is no longer finite.
    """
    if steps < 1 or batch < 1:
        raise InputError(f"training takes at least one step and one sample; {steps} and {batch} were given.")
    nets = replace(
        start,
        encoder=start.encoder.clone(),
        bias=start.bias.clone(),
        decoder=None if start.decoder is None else start.decoder.clone(),
    )
    parameters = [p for p in (nets.encoder, nets.bias, nets.decoder) if p is not None]
    optimiser = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        x, weight = data.draw(batch, generator)
        loss, slopes = gradients(nets, x, weight, importance)
        if watch is not None:
            watch(step, loss, nets)
        for parameter, slope in zip(parameters, slopes):
            parameter.grad = slope
        optimiser.step()
        schedule.step()
    if not bool(torch.isfinite(loss).all()):
        raise CutawayError(
            f"{int((~torch.isfinite(loss)).sum())} of {len(loss)} toy networks diverged; lower the rate."
        )
    for parameter in parameters:
        parameter.grad = None
    return nets


def best_of(nets: Networks, loss: torch.Tensor, restarts: int) -> tuple[Networks, torch.Tensor]:
    """Of each run of `restarts` neighbours on the instance axis the one with the least loss; and those losses."""
    chosen = loss.reshape(-1, restarts).argmin(dim=1) + restarts * torch.arange(len(loss) // restarts)
    return nets.at(chosen), loss[chosen]


def _product(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """x [instance or 1, batch, a] times weights [instance, a, c]; shared inputs as one matrix product."""
    if x.shape[0] == weights.shape[0]:
        return torch.bmm(x, weights)
    instances, a, c = weights.shape
    return (x[0] @ weights.permute(1, 0, 2).reshape(a, instances * c)).reshape(-1, instances, c).transpose(0, 1)


def _product_over_batch(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """g [instance, batch, m], x [instance or 1, batch, n] -> [instance, m, n]."""
    if x.shape[0] == g.shape[0]:
        return torch.bmm(g.mT, x)
    instances, batch, m = g.shape
    return (g.transpose(1, 2).reshape(instances * m, batch) @ x[0]).reshape(instances, m, -1)
