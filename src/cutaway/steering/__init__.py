"""Steering: directions added or taken out, features clamped, behind one interface; with doses and controls.

A `Steering` has `.interventions(strength)`, which `model.run` and `model.generate` take. `steer` learns one from two
lists of prompts and tests it; `dose_response` tests any; `function_vector` makes one from pairs.
"""

from cutaway.steering.contrast import Contrast, contrast_of, contrast_tokens
from cutaway.steering.dose import DoseResponse, Setting, dose_response
from cutaway.steering.function_vector import FunctionVector, function_vector
from cutaway.steering.make import activation_addition, difference_in_means, direction, feature_direction, projection
from cutaway.steering.methods import ActivationAddition, Direction, FeatureClamp, Projection, Steering, from_json
from cutaway.steering.steer import steer

__all__ = [
    "ActivationAddition",
    "Contrast",
    "Direction",
    "DoseResponse",
    "FeatureClamp",
    "FunctionVector",
    "Projection",
    "Setting",
    "Steering",
    "activation_addition",
    "contrast_of",
    "contrast_tokens",
    "difference_in_means",
    "direction",
    "dose_response",
    "feature_direction",
    "from_json",
    "function_vector",
    "projection",
    "steer",
]
