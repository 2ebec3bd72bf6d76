"""A site: where a point lies in a live module, and how its tensor is taken out and put back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

Axes = tuple[str, ...]

RESIDUAL: Axes = ("batch", "position", "d_model")
HEADS: Axes = ("batch", "position", "head", "d_head")
KV_HEADS: Axes = ("batch", "position", "kv_head", "d_head")
NEURONS: Axes = ("batch", "position", "neuron")
SCORES: Axes = ("batch", "head", "query", "key")
SOURCE_SCORES: Axes = ("batch", "head", "query", "source")
SOURCE_HEADS: Axes = ("batch", "source", "kv_head", "d_head")
SCALE: Axes = ("batch", "position", "one")
VOCAB: Axes = ("batch", "position", "vocab")
OTHER: Axes = ("batch", "position", "width")

_FREE: dict[int, Axes] = {
    2: ("batch", "neuron"),
    3: ("batch", "position", "neuron"),
    4: ("batch", "neuron", "height", "width"),
}

# How the tensor is reached: a module's input or output, inside the attention function, inside a norm.
Via = Literal["input", "output", "attention", "norm"]


@dataclass(frozen=True, eq=False)
class Site:
    """One point of one layer, resolved. `take` and `put` are inverse: put(raw, take(raw)) = raw."""

    address: str
    name: str
    layer: int | None
    axes: Axes
    module: nn.Module
    via: Via
    element: int = 0  # which element of a module's tuple output
    columns: Tensor | None = None  # [width] of the last axis that are this point (fused projections)
    heads: tuple[int, int] | None = None  # (heads, d_head) that the last axis divides into
    head_major: bool = False  # the raw tensor is [batch, head, position, d_head]
    factor: float = 1.0  # the family multiplies the raw tensor by this before it joins the residual
    follows: nn.Module | None = None  # a block whose output must move with this point (resid_mid)
    writable: bool = True
    free: bool = False  # a module path: the tensor is left as it comes
    copies: bool = False  # the model later writes into this tensor, so what is read must be a copy

    def take(self, raw: Tensor, batch: int) -> Tensor:
        """raw -> [batch, position, …] in the axes of this point."""
        x = raw
        if self.free:
            return x
        if x.ndim == len(self.raw_axes) - 1 and x.shape[0] % batch == 0:
            x = x.reshape(batch, -1, x.shape[-1])  # modules that flatten [batch * position]
        if self.columns is not None:
            x = x.index_select(-1, self.columns.to(x.device))
        if self.heads is not None and not self.head_major and x.ndim == 3:
            x = x.reshape(*x.shape[:-1], *self.heads)
        if self.head_major:
            x = x.transpose(1, 2)
        return x if self.factor == 1.0 else x * self.factor

    def put(self, raw: Tensor, value: Tensor) -> Tensor:
        """The raw tensor with this point replaced by `value`, without writing to either."""
        if self.free:
            return value.to(raw.dtype)
        x = value if self.factor == 1.0 else value / self.factor
        if self.head_major:
            x = x.transpose(1, 2)
        if self.columns is not None:
            lead = x.shape[:2] if raw.ndim == 3 else raw.shape[:1]
            return raw.index_copy(-1, self.columns.to(raw.device), x.reshape(*lead, -1).to(raw.dtype))
        return x.reshape(raw.shape).to(raw.dtype)

    def named(self, ndim: int) -> Axes:
        """The axes of a tensor of `ndim` here. A module path's may be of any rank: units or channels are neurons."""
        if self.free and ndim in _FREE:
            return _FREE[ndim]
        return self.axes if len(self.axes) == ndim else ("batch", *(f"axis {i}" for i in range(1, ndim)))

    @property
    def raw_axes(self) -> Axes:
        if self.head_major:
            return ("batch", "head", "position", "d_head")
        return ("batch", "position", "width")

    def describe(self) -> str:
        return f"{self.address} [{', '.join(self.axes)}]"
