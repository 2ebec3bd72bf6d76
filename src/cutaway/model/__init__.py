"""The model layer: load a model, run it, read and change it at named points.

`load` gives a `Model`; `model.run(prompt, read=…, interventions=…)` a `Run`. Interventions are values made by `zero`,
`mean`, `resample`, `patch`, `add`, `scale`, `project_out`, `interchange` and `splice`; `freeze` holds attention
patterns and norm scales.
"""

from cutaway.model.freeze import Frozen, freeze
from cutaway.model.interventions import (
    Intervention,
    add,
    interchange,
    mean,
    patch,
    project_out,
    resample,
    scale,
    splice,
    zero,
)
from cutaway.model.load import load
from cutaway.model.model import Model
from cutaway.model.run import Run
from cutaway.model.selection import Selection

__all__ = [
    "Frozen",
    "Intervention",
    "Model",
    "Run",
    "Selection",
    "add",
    "freeze",
    "interchange",
    "load",
    "mean",
    "patch",
    "project_out",
    "resample",
    "scale",
    "splice",
    "zero",
]
