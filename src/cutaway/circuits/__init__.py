"""Circuits: which edges between a model's components carry a task, and how far to believe it.

`discover` gives a `Circuit` with its evidence; `score_edges` the scores alone, by any of `METHODS`. `measure` runs any
sets of edges with the rest ablated; `path_patching` goes from some senders to some receivers. `faithfulness`, `curve`,
`random_circuits`, `stability` and `audit` judge a circuit, `against_truth` does where the truth is known.
"""

from cutaway.circuits.circuit import Circuit
from cutaway.circuits.discover import discover
from cutaway.circuits.exact import exact
from cutaway.circuits.faithfulness import Curve, Faithfulness, curve, faithfulness, random_circuits
from cutaway.circuits.graph import Graph
from cutaway.circuits.judge import Audit, against_truth, audit, jaccard, stability
from cutaway.circuits.masked import masked_logits, measure, opened
from cutaway.circuits.methods import METHODS, Method, score_edges
from cutaway.circuits.paths import PathEffect, path_patching
from cutaway.circuits.senders import ABLATIONS
from cutaway.circuits.wires import Wires

__all__ = [
    "ABLATIONS",
    "METHODS",
    "Audit",
    "Circuit",
    "Curve",
    "Faithfulness",
    "Graph",
    "Method",
    "PathEffect",
    "Wires",
    "against_truth",
    "audit",
    "curve",
    "discover",
    "exact",
    "faithfulness",
    "jaccard",
    "masked_logits",
    "measure",
    "opened",
    "path_patching",
    "random_circuits",
    "score_edges",
    "stability",
]
