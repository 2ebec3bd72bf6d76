"""Attribution graphs: which features, tokens and errors of one prompt made the model say what it said.

`trace` builds a graph with its evidence; an `AttributionGraph` prints, prunes and saves itself. Every node's inputs sum
to its pre-activation; that is asserted whenever a graph is made. `set_features` and `feature_effects` set features to
values in the real model; `neurons` makes a dictionary of the model's own neurons.
"""

from cutaway.graphs.circuit_tracer import read_pt, to_graph, write_pt
from cutaway.graphs.graph import AttributionGraph
from cutaway.graphs.interventions import SetFeature, feature_effects, set_features
from cutaway.graphs.neurons import neurons
from cutaway.graphs.trace import graph_of, trace
from cutaway.graphs.viewer_json import read_viewer_json, viewer_json

__all__ = [
    "AttributionGraph",
    "SetFeature",
    "feature_effects",
    "graph_of",
    "neurons",
    "read_pt",
    "read_viewer_json",
    "set_features",
    "to_graph",
    "trace",
    "viewer_json",
    "write_pt",
]
