"""What the model layer asks of an architecture, whoever answers: `points.Architecture` for causal language models,
`stacks.Stack` for encoders, encoder-decoders and vision towers."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn

from cutaway.model.facts import Facts
from cutaway.model.sites import Site


class Refused(Exception):
    """A point that this architecture has not, with the reason."""


class Anatomy(Protocol):
    """Where the parts of one Hugging Face module lie."""

    hf: Any
    n_layers: int
    d_model: int
    gated_attention: bool  # attention's output is gated before W_O, so the pattern on the values is not z

    def facts(self) -> Facts: ...

    def block(self, layer: int) -> nn.Module: ...

    def attention(self, layer: int) -> nn.Module:
        """The module that attends, which the attention registry calls back with."""

    def norms(self, layer: int) -> dict[str, nn.Module]:
        """Every norm of a block, by its path in the block."""

    def norm_after(self, layer: int, sublayer: str) -> nn.Module | None:
        """The norm on a sublayer's output ('attn' or 'mlp'); in post-norm blocks on the stream after it joined."""

    @property
    def final_norm(self) -> nn.Module | None: ...

    def activation(self, layer: int) -> Any:
        """The MLP's activation function, or None where it is not to be found."""

    def configs(self) -> list[Any]:
        """Configs that may name an attention implementation, beside those of the attention modules."""

    def site(self, name: str, layer: int | None) -> Site:
        """The site of any point but a norm's. Raises Refused with the reason where there is none."""


def norms_within(block: nn.Module, nested: bool = False) -> dict[str, nn.Module]:
    """Norms by path: a block's own children, or all modules inside it."""
    named = block.named_modules() if nested else block.named_children()
    return {name: child for name, child in named if "norm" in type(child).__name__.lower()}
