"""Circuits: which edges between a model's components carry a task, and how far to believe it.

`discover` gives a `Circuit` with its evidence; `score_edges` the scores alone, by any of `METHODS`. `measure` runs any
sets of edges with the rest ablated; `path_patching` goes from some senders to some receivers. `faithfulness`, `curve`,
`random_circuits`, `stability` and `audit` judge a circuit, `against_truth` does where the truth is known.
"""

from cutaway.circuits.circuit import Circuit
from cutaway.circuits.completeness import Completeness, completeness
from cutaway.circuits.discover import discover
from cutaway.circuits.exact import exact
from cutaway.circuits.faithfulness import Curve, Faithfulness, curve, faithfulness, random_circuits
from cutaway.circuits.frequencies import Frequencies, frequencies
from cutaway.circuits.graph import Graph
from cutaway.circuits.hypotheses import CircuitTests, circuit_tests
from cutaway.circuits.judge import Audit, against_truth, audit, jaccard, stability
from cutaway.circuits.masked import masked_logits, measure, opened
from cutaway.circuits.methods import METHODS, CircuitWarning, Method, score_edges
from cutaway.circuits.minimality import Minimality, minimality
from cutaway.circuits.neurons import NeuronScores, score_neurons
from cutaway.circuits.nodewise import measure_nodes
from cutaway.circuits.paths import PathEffect, path_patching
from cutaway.circuits.score import remade, score
from cutaway.circuits.senders import ABLATIONS
from cutaway.circuits.truth import average_precision, precision_recall
from cutaway.circuits.units import Units, heads_circuit, units
from cutaway.circuits.wires import Wires

__all__ = [
    "ABLATIONS",
    "METHODS",
    "Audit",
    "Circuit",
    "CircuitTests",
    "CircuitWarning",
    "Completeness",
    "Curve",
    "Faithfulness",
    "Frequencies",
    "Graph",
    "Method",
    "Minimality",
    "NeuronScores",
    "PathEffect",
    "Units",
    "Wires",
    "against_truth",
    "audit",
    "average_precision",
    "circuit_tests",
    "completeness",
    "curve",
    "discover",
    "exact",
    "faithfulness",
    "frequencies",
    "heads_circuit",
    "jaccard",
    "masked_logits",
    "measure",
    "measure_nodes",
    "minimality",
    "opened",
    "path_patching",
    "precision_recall",
    "random_circuits",
    "remade",
    "score",
    "score_edges",
    "score_neurons",
    "stability",
    "units",
]
