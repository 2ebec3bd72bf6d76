"""Interventions: changes at a point, as frozen values.

Each is made by the lower-case function of its name, compares and hashes by content, and goes to JSON and back (a
spliced dictionary by its name and fingerprint). Several at one point are applied in the order of the list; what is
read there is read after them. At different points the order is the forward's own.
"""

from cutaway.model.interventions.base import SCHEMA, Intervention
from cutaway.model.interventions.dictionary import (
    FeatureEdit,
    Splice,
    ablate_features,
    clamp_features,
    scale_features,
    splice,
)
from cutaway.model.interventions.linear import Add, ProjectOut, Scale, add, project_out, scale
from cutaway.model.interventions.pattern import KnockOut, knock_out
from cutaway.model.interventions.recorded import Recorded
from cutaway.model.interventions.rewrite import Rewrite, rewrite
from cutaway.model.interventions.values import (
    Interchange,
    Mean,
    Patch,
    Resample,
    Zero,
    interchange,
    mean,
    patch,
    resample,
    zero,
)

__all__ = [
    "SCHEMA",
    "Add",
    "FeatureEdit",
    "Interchange",
    "Intervention",
    "KnockOut",
    "Mean",
    "Patch",
    "ProjectOut",
    "Recorded",
    "Resample",
    "Rewrite",
    "Scale",
    "Splice",
    "Zero",
    "ablate_features",
    "add",
    "clamp_features",
    "interchange",
    "knock_out",
    "mean",
    "patch",
    "project_out",
    "resample",
    "rewrite",
    "scale",
    "scale_features",
    "splice",
    "zero",
]
