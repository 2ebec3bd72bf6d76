"""Which weights a sampler moves: whole parameters by name, or entries of them (a head's rows)."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.core import InputError, UnknownName

Chosen = str | Sequence[str] | Mapping[str, Any] | None


@dataclass(frozen=True, eq=False)
class Weights:
    """The moved weights as one vector [d]: parts of `parameters`, each whole or at flat `entries`."""

    parameters: dict[str, Tensor]  # every parameter and buffer of the module, not moved where not chosen
    chosen: tuple[tuple[str, Tensor | None], ...]  # name, flat indices or None for all
    sizes: tuple[int, ...]

    @property
    def d(self) -> int:
        return sum(self.sizes)

    def origin(self) -> Tensor:
        """The chosen weights as they are, [d]."""
        parts = []
        for name, entries in self.chosen:
            flat = self.parameters[name].detach().flatten()
            parts.append(flat if entries is None else flat[entries])
        return torch.cat(parts)

    def unpack(self, theta: Tensor) -> dict[str, Tensor]:
        """[d] -> the parameters (and buffers) by name, the chosen weights from theta."""
        return self.place(torch.split(theta, list(self.sizes)))

    def place(self, pieces: Sequence[Tensor]) -> dict[str, Tensor]:
        """The same from the pieces of theta, one for each of `chosen`."""
        out = dict(self.parameters)
        for (name, entries), piece in zip(self.chosen, pieces):
            whole = self.parameters[name]
            if entries is not None:
                piece = whole.flatten().index_copy(0, entries, piece)
            out[name] = piece.view(whole.shape)
        return out


def choose(module: nn.Module, chosen: Chosen = None) -> Weights:
    """Weights of a module: all that train (None), those whose names match a pattern (`*` as in a shell; a name alone
    also means everything below it), or a mapping of names to boolean masks of the parameter's shape.

    Raises UnknownName where a pattern matches nothing, InputError for a mask of another shape or an empty choice.
    """
    named = dict(module.named_parameters())
    held = {name: value.detach() for name, value in [*named.items(), *module.named_buffers()]}
    masks: Mapping[str, Any]
    if chosen is None:
        masks = {name: None for name, value in named.items() if value.requires_grad} or dict.fromkeys(named)
    elif isinstance(chosen, Mapping):
        masks = chosen
    else:
        patterns = [chosen] if isinstance(chosen, str) else list(chosen)
        masks = {}
        for pattern in patterns:
            found = [n for n in named if fnmatch.fnmatchcase(n, pattern) or n.startswith(f"{pattern}.")]
            if not found:
                raise UnknownName("weights", pattern, named)
            masks.update(dict.fromkeys(found))
    picked: list[tuple[str, Tensor | None]] = []
    sizes = []
    for name, mask in masks.items():
        if name not in named:
            raise UnknownName("weights", name, named)
        entries = None
        if mask is not None:
            mask = torch.as_tensor(mask, dtype=torch.bool)
            if mask.shape != named[name].shape:
                raise InputError(
                    f"a mask has its parameter's shape: {name} is {tuple(named[name].shape)}, "
                    f"the mask {tuple(mask.shape)}."
                )
            entries = mask.flatten().nonzero()[:, 0].to(named[name].device)
        picked.append((name, entries))
        sizes.append(named[name].numel() if entries is None else len(entries))
    if sum(sizes) == 0:
        raise InputError("no weight is chosen; nothing would move.")
    return Weights(held, tuple(picked), tuple(sizes))
