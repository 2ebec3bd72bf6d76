"""Null models, matched floors and statistics: what a finding stands beside."""

from cutaway.evidence.arms import ARMS, arm
from cutaway.evidence.floors import (
    explained_variance,
    matched_gaussian,
    permuted,
    random_directions,
    without_token,
)
from cutaway.evidence.hypotheses import Equivalence, equivalence, exceeds_share, hsic
from cutaway.evidence.nulls import control, rerandomise, step0
from cutaway.evidence.statistics import (
    auroc,
    benjamini_hochberg,
    bootstrap,
    bootstrap_difference,
    correlation,
    holm,
    permutation_test,
    proportion,
    wilson,
)

__all__ = [
    "ARMS",
    "Equivalence",
    "arm",
    "auroc",
    "benjamini_hochberg",
    "bootstrap",
    "bootstrap_difference",
    "control",
    "correlation",
    "equivalence",
    "exceeds_share",
    "explained_variance",
    "holm",
    "hsic",
    "matched_gaussian",
    "permutation_test",
    "permuted",
    "proportion",
    "random_directions",
    "rerandomise",
    "step0",
    "wilson",
    "without_token",
]
