"""A loss of chosen weights on chosen data, as a function of one vector: what samplers and curvature work on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from cutaway.core import InputError
from cutaway.development.products import fast_products
from cutaway.development.weights import Chosen, choose

_BATCHED = 2_000_000  # numbers in all chains up to which they are batched
PerItem = Callable[..., Tensor]  # (forward, *batch) -> losses [b]


def next_token(forward: Callable[..., Any], ids: Tensor) -> Tensor:
    """Mean next-token cross-entropy of each row of ids [b, position], in nats: [b]."""
    out = forward(ids)
    logits = getattr(out, "logits", out)[:, :-1]
    # logsumexp - logit: a gather that vmap does in one kernel, where cross_entropy would loop over chains
    right = logits.gather(-1, ids[:, 1:, None])[..., 0]
    loss: Tensor = (logits.logsumexp(-1) - right).mean(-1)
    return loss


def squared_error(forward: Callable[..., Any], x: Tensor, y: Tensor) -> Tensor:
    """1/2 |y - f(x)|^2 of each row, [b]: minus the log density of y under N(f(x), 1), but for a constant."""
    loss: Tensor = 0.5 * (forward(x) - y).flatten(1).square().sum(-1)
    return loss


def cross_entropy(forward: Callable[..., Any], x: Tensor, labels: Tensor) -> Tensor:
    """-log softmax(f(x))[label] of each row, [b]."""
    out = forward(x)
    logits = getattr(out, "logits", out)
    loss: Tensor = logits.logsumexp(-1) - logits.gather(-1, labels[:, None])[:, 0]
    return loss


class Loss:
    """L_n(w) = 1/n sum_i l_i(w) of the chosen weights of a module on n items.

    data: tensors with the items along their first dimension. per_item(forward, *batch) -> [b], where `forward` calls
    the module with the weights in question. weights: see `choose`. The module is never changed.

    `origin` [d] are the weights as they are (w*). Raises InputError for no data, data of unequal length, a loss that is
    not one number an item or not finite at w*.
    """

    def __init__(
        self, module: nn.Module, data: Tensor | Sequence[Tensor], per_item: PerItem = next_token, weights: Chosen = None
    ) -> None:
        self.module = module
        self.data = (data,) if isinstance(data, Tensor) else tuple(data)
        lengths = {len(part) for part in self.data}
        if len(lengths) != 1 or 0 in lengths:
            raise InputError(f"data are tensors of one length, at least 1: lengths {sorted(lengths)} were given.")
        self.n = lengths.pop()
        self.per_item = per_item
        self.weights = choose(module, weights)
        self.origin = self.weights.origin()
        self.d = self.weights.d
        self.at_origin = self._all_items(self.origin)  # [n]
        if not bool(self.at_origin.isfinite().all()):
            bad = int((~self.at_origin.isfinite()).sum())
            raise InputError(f"the loss of {bad} of {self.n} items is NaN or infinite at these weights.")

    def items(self, theta: Tensor, *batch: Tensor) -> Tensor:
        """[d] and a batch -> losses [b]."""
        return self._items_of(self.weights.unpack(theta), *batch)

    def _items_of(self, parameters: dict[str, Tensor], *batch: Tensor) -> Tensor:
        def forward(*inputs: Any, **more: Any) -> Any:
            return functional_call(self.module, parameters, inputs, more)

        return self.per_item(forward, *batch)

    def mean(self, theta: Tensor, *batch: Tensor) -> Tensor:
        return self.items(theta, *batch).mean()

    def mean_of(self, parameters: dict[str, Tensor], *batch: Tensor) -> Tensor:
        """The mean loss with parameters by name."""
        return self._items_of(parameters, *batch).mean()

    def batch(self, rows: Tensor) -> tuple[Tensor, ...]:
        return tuple(part[rows] for part in self.data)

    def full(self, theta: Tensor, at_once: int = 512) -> Tensor:
        """L_n of weights [..., d], without gradient."""
        flat = theta.reshape(-1, self.d)
        return torch.stack([self._all_items(one, at_once).mean() for one in flat]).reshape(theta.shape[:-1])

    def _all_items(self, theta: Tensor, at_once: int = 512) -> Tensor:
        with torch.no_grad():
            parts = [self.items(theta, *(p[i : i + at_once] for p in self.data)) for i in range(0, self.n, at_once)]
        found = torch.cat([part.detach().reshape(-1) for part in parts])
        if found.shape != (self.n,):
            raise InputError(f"a loss gives one number an item: {self.n} items gave shape {tuple(found.shape)}.")
        return found

    def gradients(self, shared: bool, traced: bool = True) -> Gradients:
        """A function of (theta [chains, d], *batch) -> (gradients [chains, d], mean losses [chains]).

        shared: all chains see one batch [b, …]; else each its own [chains, b, …].
        """
        return Gradients(self, shared, traced)


class Gradients:
    """Gradients of all chains in one call: `vmap(grad)`, recorded once as a graph of tensor operations and replayed.

    Recording takes Python and the function transforms out of every step. It is used where it agrees with the
    transforms at another point; a module whose operations vmap cannot batch is called chain by chain. `how` says which.
    """

    def __init__(self, loss: Loss, shared: bool, traced: bool = True) -> None:
        self.loss, self.shared, self.traced = loss, shared, traced
        self.how = ""
        self._slopes: Tensor | None = None
        self._graphs: dict[tuple[Any, ...], Callable[..., tuple[Tensor, Tensor]]] = {}
        one = grad_and_value(loss.mean)
        self._vmapped = vmap(one, in_dims=(0, *([None if shared else 0] * len(loss.data))))
        self._one = one

    def __call__(self, theta: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
        key = (theta.shape, *(part.shape for part in batch))
        if key not in self._graphs:
            self._graphs[key] = self._prepare(theta, batch)
        with torch.no_grad():
            return self._graphs[key](theta, *batch)

    def _prepare(self, theta: Tensor, batch: tuple[Tensor, ...]) -> Callable[..., tuple[Tensor, Tensor]]:
        if theta.numel() > _BATCHED:  # arithmetic dominates: batching saves nothing, recording costs seconds
            self.how = "chain by chain"
            return self._each
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # a kernel that vmap would loop over says so in a warning
                expected = self._vmapped(theta, *batch)
        except Exception:  # whatever a module does that vmap does not know; the loop gives its own errors
            self.how = "chain by chain"
            return self._each
        if not self.traced:
            self.how = "vmap"
            return self._vmapped
        try:
            from torch.fx.experimental.proxy_tensor import make_fx

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                graph = make_fx(self._vmapped)(theta, *batch)
                moved = theta + 0.01 * torch.randn(theta.shape, generator=torch.Generator().manual_seed(0)).to(theta)
                rolled = tuple(part.roll(1, 0 if self.shared else 1) for part in batch)
                expected, found = self._vmapped(moved, *rolled), graph(moved, *rolled)
            same = all(torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(expected, found))
        except Exception:  # control flow that depends on values: not one graph
            same = False
        self.how = "recorded vmap" if same else "vmap"
        return graph if same else self._vmapped

    def _each(self, theta: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """Chain by chain, with each chain's own slice of theta as the parameters: no copy but the gradient's."""
        if self._slopes is None or self._slopes.shape != theta.shape:
            self._slopes = torch.empty_like(theta)
        slopes, weights, values = self._slopes, self.loss.weights, []
        sizes = list(weights.sizes)
        for i, one in enumerate(theta):
            mine = batch if self.shared else tuple(part[i] for part in batch)
            pieces = [piece.detach().requires_grad_() for piece in torch.split(one, sizes)]
            wanted = torch.split(slopes[i], sizes)
            with torch.enable_grad(), fast_products({p.data_ptr(): out for p, out in zip(pieces, wanted)}):
                value = self.loss.mean_of(weights.place(pieces), *mine)
                found = torch.autograd.grad(value, pieces)
            for out, slope in zip(wanted, found):
                if slope.data_ptr() != out.data_ptr():
                    out.copy_(slope)
            values.append(value.detach())
        return slopes, torch.stack(values)
