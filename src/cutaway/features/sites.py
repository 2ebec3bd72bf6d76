"""A model's MLPs, read in one pass or all replaced at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model import rewrite

if TYPE_CHECKING:
    from cutaway.model import Model, Run
    from cutaway.model.sites import Site

Substitute = Callable[[int, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Sites:
    """Where the MLPs of `model` read and write, a layer each."""

    model: Model
    inputs: tuple[Site, ...]
    outputs: tuple[Site, ...]

    @classmethod
    def of(cls, model: Model, input_name: str = "mlp_in", output_name: str | None = None) -> Sites:
        """Raises `InputError` where the model has no such points, with the reason.

        The default output is what the MLP adds to the residual stream: `mlp_out`, after the norm that some families put
        behind it (`mlp_out_post`).
        """
        output_name = output_name or ("mlp_out_post" if model.facts.sandwich else "mlp_out")
        layers = range(model.facts.n_layers)
        if not layers:
            raise InputError(
                f"{model.name} has no MLPs that are known by name, so no transcoders can be trained for it."
            )
        outputs = tuple(model.site(f"{output_name}.{layer}") for layer in layers)
        if any(site.via != "output" for site in outputs):
            raise InputError(f"transcoders write to an MLP's output; {output_name} of {model.name} lies elsewhere.")
        return cls(model, tuple(model.site(f"{input_name}.{layer}") for layer in layers), outputs)

    @property
    def n_layers(self) -> int:
        return len(self.inputs)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def input_name(self) -> str:
        return self.inputs[0].name

    @property
    def output_name(self) -> str:
        return self.outputs[0].name

    @torch.no_grad()
    def harvest(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """One pass over ids [rows, position], up to the last MLP's block: (x, y), each [layers, rows, position, d]."""
        run = self.model.run(tokens, self.addresses, logits=False)
        return self.stacked(run)

    @property
    def addresses(self) -> list[str]:
        """What a run reads for `stacked`."""
        return [site.address for site in (*self.inputs, *self.outputs)]

    def stacked(self, run: Run) -> tuple[Tensor, Tensor]:
        """(x, y), each [layers, rows, position, d], of a run that read `addresses`."""
        x, y = ([run[site.address] for site in sites] for sites in (self.inputs, self.outputs))
        return torch.stack(x), torch.stack(y)

    def replaced(self, tokens: Tensor, substitute: Substitute, *, keep_graph: bool = False) -> Tensor:
        """Logits [rows, position, vocab] on ids [rows, position] with the output of every MLP l replaced by
        `substitute(l, x, y)` of its input x and of its true output y on that input, each [rows, position, d].

        With `keep_graph` what `substitute` made keeps its gradient.
        """
        changes = [
            rewrite(write.address, lambda y, x, layer=layer: substitute(layer, x, y), given=read.address)
            for layer, (read, write) in enumerate(zip(self.inputs, self.outputs))
        ]
        return self.model.run(tokens, interventions=changes, keep_graph=keep_graph).logits
