"""What the units of a point do on pictures: one number a unit and picture."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core import InputError
from cutaway.vision.pictures import Pictures
from cutaway.vision.tower import BATCH, Tower

Floats = NDArray[np.float64]
Over = Literal["max", "mean"]


def per_picture(values: Tensor, over: Over = "max") -> Tensor:
    """Units [n, unit], a map [n, unit, height, width] or positions [n, position, unit] as [n, unit]: the largest (or
    the mean) over space."""
    if values.ndim == 2:
        return values
    if values.ndim not in (3, 4):
        raise InputError(f"a point's values are [n, unit], [n, unit, height, width] or [n, position, unit]; here "
                         f"{list(values.shape)}.")  # fmt: skip
    axes = (-2, -1) if values.ndim == 4 else (1,)
    return values.amax(axes) if over == "max" else values.mean(axes)


def activations(tower: Tower, pictures: Pictures | Tensor, point: str, over: Over = "max") -> Floats:
    """[n, unit] of `point`. Costs one forward a picture; holds one number a unit and picture."""
    images = pictures.images if isinstance(pictures, Pictures) else pictures
    found = [per_picture(tower.see(part, [point])[point].float(), over) for part in torch.split(images, BATCH)]
    return torch.cat(found).double().numpy()


def units_of(tower: Tower, point: str) -> int:
    """How many units a point has. Costs one forward. Raises InputError for a point whose parts are no units."""
    axes = tower.model.site(point).named(
        tower.see(torch.full((1, 3, tower.side, tower.side), 0.5), [point])[point].ndim
    )
    if "neuron" not in axes:
        raise InputError(f"{point} has axes {', '.join(axes)}: no neurons. Units are looked at in maps and MLPs.")
    blank = torch.full((1, 3, tower.side, tower.side), 0.5)
    return per_picture(tower.see(blank, [point])[point]).shape[1]
