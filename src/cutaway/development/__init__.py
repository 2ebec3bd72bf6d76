"""How a model came to be: its checkpoints, its learning coefficient, the stages of its training."""

from cutaway.development.calibrate import calibrated_llc, find_step
from cutaway.development.chains import Draws, Setting, sample
from cutaway.development.curvature import hessian, hessian_trace, largest_eigenvalue, quadratic_llc
from cutaway.development.fit import LambdaFit, fit_lambda
from cutaway.development.llc import LLC, default_n_beta, from_draws, llc
from cutaway.development.loss import Loss, cross_entropy, next_token, squared_error
from cutaway.development.samplers import HMC, SAMPLERS, SGLD, SGNHT, RMSpropSGLD
from cutaway.development.weights import Weights, choose

__all__ = [
    "HMC",
    "LLC",
    "SAMPLERS",
    "SGLD",
    "SGNHT",
    "Draws",
    "LambdaFit",
    "Loss",
    "RMSpropSGLD",
    "Setting",
    "Weights",
    "calibrated_llc",
    "choose",
    "cross_entropy",
    "default_n_beta",
    "find_step",
    "fit_lambda",
    "from_draws",
    "hessian",
    "hessian_trace",
    "largest_eigenvalue",
    "llc",
    "next_token",
    "quadratic_llc",
    "sample",
    "squared_error",
]
