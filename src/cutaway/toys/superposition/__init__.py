"""Toy models of superposition: every experiment of Elhage et al. (2022), each with its theory and its null.

`run` makes them by name; `Networks` and `train` are the many toy networks at once that they stand on.
"""

from cutaway.toys.superposition.data import Exact, Grouped, Sparse
from cutaway.toys.superposition.geometry import dimensionality, dimensions_per_feature
from cutaway.toys.superposition.networks import Networks, train
from cutaway.toys.superposition.report import Check, Experiment, Experiments
from cutaway.toys.superposition.toy import EXPERIMENTS

__all__ = [
    "EXPERIMENTS",
    "Check",
    "Exact",
    "Experiment",
    "Experiments",
    "Grouped",
    "Networks",
    "Sparse",
    "dimensionality",
    "dimensions_per_feature",
    "train",
]
