"""What is known of the features that a graph shows: examples, histogram, logits, from beside their dictionary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cutaway.core import CutawayError
from cutaway.features import load
from cutaway.features.examples import read_examples
from cutaway.graphs import nodes as kinds
from cutaway.graphs.dictionaries import available

if TYPE_CHECKING:
    from cutaway.graphs.graph import AttributionGraph
    from cutaway.model import Model


def feature_cards(graph: AttributionGraph, model: Model) -> dict[str, Any]:
    """`{layer}_{feature}` -> circuit-tracer's feature JSON, for the features of `graph` as viewers get it."""
    from cutaway.graphs.viewer_json import shown

    folder = graph.dictionary_folder or available(model).get(graph.dictionary)
    if folder is None:
        return {}
    try:
        examples = read_examples(folder, load(folder).n_features)
    except CutawayError:
        return {}
    if examples is None:
        return {}
    nodes = shown(graph).nodes
    rows = np.flatnonzero(nodes.kind == kinds.FEATURE)
    pairs = sorted({(int(nodes.layer[row]), int(nodes.feature[row])) for row in rows})
    spelled: dict[int, str] = {}

    def spell(token: int) -> str:
        if token not in spelled:
            spelled[token] = model.token_strings([token])[0]
        return spelled[token]

    return {f"{layer}_{feature}": examples.feature(layer, feature, spell) for layer, feature in pairs}
