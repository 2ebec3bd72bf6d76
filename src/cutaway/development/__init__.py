"""How a model came to be: its checkpoints, its learning coefficient, the stages of its training."""

from cutaway.development.calibrate import calibrated_llc, find_step
from cutaway.development.chains import Draws, Setting, sample
from cutaway.development.changepoints import Changepoints, changepoints, nearest, onset
from cutaway.development.checkpoints import Checkpoint, Checkpoints, find_checkpoints
from cutaway.development.curvature import hessian, hessian_trace, largest_eigenvalue, quadratic_llc
from cutaway.development.essential import EssentialDynamics, essential_dynamics, osculating_circles
from cutaway.development.fit import LambdaFit, fit_lambda
from cutaway.development.heads import head_weights_mask
from cutaway.development.influence import bayesian_influence, susceptibilities
from cutaway.development.llc import LLC, default_n_beta, from_draws, llc
from cutaway.development.loss import Loss, cross_entropy, next_token, squared_error
from cutaway.development.measures import (
    Data,
    Function,
    head_llc_measure,
    llc_measure,
    loss_measure,
    outputs_measure,
    trace_measure,
    weight_norm,
)
from cutaway.development.modular import Progress, key_frequencies, progress
from cutaway.development.samplers import HMC, SAMPLERS, SGLD, SGNHT, RMSpropSGLD
from cutaway.development.timeline import Timeline, settings_in, timeline
from cutaway.development.weights import Weights, choose

__all__ = [
    "HMC",
    "LLC",
    "SAMPLERS",
    "SGLD",
    "SGNHT",
    "Changepoints",
    "Checkpoint",
    "Checkpoints",
    "Data",
    "Draws",
    "EssentialDynamics",
    "Function",
    "LambdaFit",
    "Loss",
    "Progress",
    "RMSpropSGLD",
    "Setting",
    "Timeline",
    "Weights",
    "bayesian_influence",
    "calibrated_llc",
    "changepoints",
    "choose",
    "cross_entropy",
    "default_n_beta",
    "essential_dynamics",
    "find_checkpoints",
    "find_step",
    "fit_lambda",
    "from_draws",
    "head_llc_measure",
    "head_weights_mask",
    "hessian",
    "hessian_trace",
    "key_frequencies",
    "largest_eigenvalue",
    "llc",
    "llc_measure",
    "loss_measure",
    "nearest",
    "next_token",
    "onset",
    "osculating_circles",
    "outputs_measure",
    "progress",
    "quadratic_llc",
    "sample",
    "settings_in",
    "squared_error",
    "susceptibilities",
    "timeline",
    "trace_measure",
    "weight_norm",
]
