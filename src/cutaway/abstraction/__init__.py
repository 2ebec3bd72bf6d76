"""Causal abstraction: causal models, where their variables live in a network, and how far to believe it.

`CausalModel` states an algorithm; `align` looks for its variables at places (`subspace`, `whole`, `neurons`,
`dictionary_features`) and measures interchange intervention accuracy beside nulls; `align_sweep` does so over layers
and positions; `capacity_curve` over the number of dimensions; `scrub` resamples what the hypothesis calls equivalent.
"""

from cutaway.abstraction.align import align
from cutaway.abstraction.alignment import Alignment
from cutaway.abstraction.capacity import Capacity, capacity_curve
from cutaway.abstraction.causal_model import CausalModel, NoMeaning
from cutaway.abstraction.counterfactuals import Counterfactuals, counterfactuals
from cutaway.abstraction.places import Place, dictionary_features, neurons, subspace, whole
from cutaway.abstraction.scrub import Scrubbed, scrub
from cutaway.abstraction.sweep import AlignmentSweep, align_sweep
from cutaway.abstraction.train import Training

__all__ = [
    "Alignment",
    "AlignmentSweep",
    "Capacity",
    "CausalModel",
    "Counterfactuals",
    "NoMeaning",
    "Place",
    "Scrubbed",
    "Training",
    "align",
    "align_sweep",
    "capacity_curve",
    "counterfactuals",
    "dictionary_features",
    "neurons",
    "scrub",
    "subspace",
    "whole",
]
