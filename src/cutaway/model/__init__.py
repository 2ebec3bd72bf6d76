"""The model layer: load a model, run it, read and change it at named points.

`load` gives a `Model`; `model.run(prompt, read=…, interventions=…)` a `Run`. Interventions are values made by `zero`,
`mean`, `resample`, `patch`, `add`, `scale`, `project_out`, `interchange`, `knock_out`, `splice`, `clamp_features` and
`rewrite`;
`freeze` holds attention patterns, norm scales, gates, routers and MLP outputs.
"""

from cutaway.model.freeze import Frozen, freeze
from cutaway.model.generation import Generation
from cutaway.model.integrated import IntegratedGradients, integrated_gradients
from cutaway.model.interventions import (
    Intervention,
    ablate_features,
    add,
    clamp_features,
    interchange,
    knock_out,
    mean,
    patch,
    project_out,
    resample,
    rewrite,
    scale,
    scale_features,
    splice,
    zero,
)
from cutaway.model.jacobian import jvp, vjp
from cutaway.model.load import load
from cutaway.model.model import Model
from cutaway.model.module_file import load_module
from cutaway.model.reduce import Reduce, reduce
from cutaway.model.run import Run
from cutaway.model.selection import Selection
from cutaway.model.stream import Shards
from cutaway.model.sweeps import LogitDifference, Pairs, Plan, Sweep, pairs, plan, sweep

__all__ = [
    "Frozen",
    "Generation",
    "IntegratedGradients",
    "Intervention",
    "LogitDifference",
    "Model",
    "Pairs",
    "Plan",
    "Reduce",
    "Run",
    "Selection",
    "Shards",
    "Sweep",
    "ablate_features",
    "add",
    "clamp_features",
    "freeze",
    "integrated_gradients",
    "interchange",
    "jvp",
    "knock_out",
    "load",
    "load_module",
    "mean",
    "pairs",
    "patch",
    "plan",
    "project_out",
    "reduce",
    "resample",
    "rewrite",
    "scale",
    "scale_features",
    "splice",
    "sweep",
    "vjp",
    "zero",
]
