"""Null models, matched floors and statistics: what a finding stands beside."""

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
    "auroc",
    "benjamini_hochberg",
    "bootstrap",
    "bootstrap_difference",
    "correlation",
    "holm",
    "permutation_test",
    "proportion",
    "wilson",
]
