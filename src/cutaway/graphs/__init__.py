"""Attribution graphs: which features, tokens and errors of one prompt made the model say what it said.

`trace` builds a graph with its evidence; an `AttributionGraph` prints, prunes and saves itself. Every node's inputs sum
to its pre-activation; that is asserted whenever a graph is made.
"""

from cutaway.graphs.graph import AttributionGraph
from cutaway.graphs.trace import trace

__all__ = ["AttributionGraph", "trace"]
