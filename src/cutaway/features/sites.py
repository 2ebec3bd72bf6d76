"""Reading and replacing a model's MLPs in place: plain hooks at the sites that `model.site` gives.

Training needs what `model.run` does not offer: gradients from the logits into a dictionary that stands in for the MLPs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cutaway.core import CutawayError, InputError

if TYPE_CHECKING:
    from cutaway.model import Model
    from cutaway.model.sites import Site

Change = Callable[[Tensor], Tensor | None]


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

    @contextmanager
    def replaced(self, substitute: Callable[[int, Tensor, Tensor], Tensor], rows: int) -> Iterator[None]:
        """Within: the output of MLP l is `substitute(l, x, y)` of its input x and of its true output y on that input.

        All tensors are [rows, position, d]; `rows` is that of the passes run within.
        """
        held: dict[int, Tensor] = {}

        def reads(layer: int, x: Tensor) -> None:
            held[layer] = x

        with ExitStack() as stack:
            for layer, (read, write) in enumerate(zip(self.inputs, self.outputs)):
                hook(self.model, stack, read, rows, lambda x, layer=layer: reads(layer, x))  # type: ignore[misc]
                hook(self.model, stack, write, rows, lambda y, layer=layer: substitute(layer, held.pop(layer), y))  # type: ignore[misc]
            yield

    @torch.no_grad()
    def harvest(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """One pass over ids [rows, position], without the output matrix: (x, y), each [layers, rows, position, d]."""
        with self.harvesting(tokens.shape[0]) as taken:
            body = getattr(self.model.hf, "base_model", self.model.hf)
            body(tokens.to(self.device))
        return taken()

    @contextmanager
    def harvesting(self, rows: int) -> Iterator[Callable[[], tuple[Tensor, Tensor]]]:
        """Within, a pass of the model is read; calling the value then gives (x, y), [layers, rows, position, d]."""
        found: dict[tuple[str, int], Tensor] = {}

        def taken() -> tuple[Tensor, Tensor]:
            x, y = (
                [found[side, layer] for layer in range(self.n_layers) if (side, layer) in found] for side in ("x", "y")
            )
            if len(x) != self.n_layers or len(y) != self.n_layers:
                raise CutawayError(f"a forward of {self.model.name} never reached some of its MLPs.")
            return torch.stack(x), torch.stack(y)

        with ExitStack() as stack:
            for side, sites in (("x", self.inputs), ("y", self.outputs)):
                for layer, site in enumerate(sites):
                    hook(self.model, stack, site, rows, lambda v, at=(side, layer): found.__setitem__(at, v))  # type: ignore[misc]
            yield taken


def hook(model: Model, stack: ExitStack, site: Site, rows: int, change: Change) -> None:
    """While `stack` is open, `change` sees what passes through a site, [rows, position, …], and may replace it."""

    def through(raw: Tensor) -> Tensor | None:
        new = change(site.take(raw, rows))
        return None if new is None else site.put(raw, new)

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        at = next((i for i, value in enumerate(args) if _is_hidden(value)), None)
        if at is not None:
            new = through(args[at])
            return None if new is None else ((*args[:at], new, *args[at + 1 :]), kwargs)
        name = next(key for key, value in kwargs.items() if _is_hidden(value))
        new = through(kwargs[name])
        return None if new is None else (args, {**kwargs, name: new})

    def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, Tensor):
            return through(output)
        new = through(output[site.element])
        return None if new is None else type(output)([*output[: site.element], new, *output[site.element + 1 :]])

    def norm(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        parts = model.norms[site.address]
        change(parts.centre(args[0]) / parts.scale(args[0]))

    if site.via == "norm":
        handle = site.module.register_forward_hook(norm)
    elif site.via == "input":
        handle = site.module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = site.module.register_forward_hook(after)
    stack.callback(handle.remove)


def _is_hidden(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 2


@contextmanager
def parameters_held(module: nn.Module) -> Iterator[None]:
    """Within: the model's own parameters ask for no gradient; afterwards as before."""
    asked = [p for p in module.parameters() if p.requires_grad]
    for p in asked:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in asked:
            p.requires_grad_(True)
