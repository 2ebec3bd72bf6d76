"""circuit-tracer's `.pt` graphs, read without running what they hold and written without circuit-tracer.

The file is a pickle. Reading goes through torch's restricted unpickler with stand-ins for the two classes that
circuit- tracer puts into it; anything else is refused. Its adjacency is dense, rows are targets, in the order selected
features | errors by (layer, position) | tokens | logits; it has no biases and no remainders, so its sums are not ours.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from cutaway.core import InputError, atomic_path
from cutaway.graphs import nodes as kinds
from cutaway.graphs.graph import AttributionGraph
from cutaway.graphs.influence import rated
from cutaway.graphs.nodes import concatenate, table


class LogitTarget(NamedTuple):
    """Stands for circuit_tracer.attribution.targets.LogitTarget."""

    token_str: str
    vocab_idx: int


class UnifiedConfig:
    """Stands for circuit_tracer's configuration; its fields are what the file gives it."""


_STAND_INS: dict[str, type] = {
    "circuit_tracer.attribution.targets.LogitTarget": LogitTarget,
    "circuit_tracer.utils.tl_nnsight_mapping.UnifiedConfig": UnifiedConfig,
    "transformer_lens.HookedTransformerConfig.HookedTransformerConfig": UnifiedConfig,
    "transformer_lens.config.HookedTransformerConfig.HookedTransformerConfig": UnifiedConfig,
}


@dataclass(frozen=True)
class PeerGraph:
    """The contents of a `.pt` graph. A features of which S selected; N = S + L T + T + logits."""

    prompt: str
    tokens: Tensor  # [T]
    adjacency: Tensor  # [N, N]
    active_features: Tensor  # [A, 3]: layer, position, feature
    selected_features: Tensor  # [S], into active_features
    activations: Tensor  # [A]
    logit_targets: tuple[LogitTarget, ...]
    logit_probabilities: Tensor
    config: Mapping[str, Any]
    scan: Any

    @property
    def n_layers(self) -> int:
        return int(self.config["n_layers"])


def read_pt(path: str | Path) -> PeerGraph:
    """Read a `.pt` graph of circuit-tracer, of any age. Raises InputError for what is none, or is not safe."""
    try:
        with torch.serialization.safe_globals([(cls, name) for name, cls in _STAND_INS.items()]):
            data = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, TypeError, KeyError, IndexError) as error:
        raise InputError(f"{path} is not a graph of circuit-tracer that can be read safely: {error}") from error
    needed = ("adjacency_matrix", "active_features", "input_tokens", "logit_probabilities", "cfg")
    missing = [name for name in needed if not isinstance(data, dict) or name not in data]
    if missing:
        raise InputError(f"{path} is not a graph of circuit-tracer: it lacks {', '.join(missing)}.")
    active = data["active_features"].long()
    given = data.get("logit_targets", data.get("logit_tokens"))
    if isinstance(given, Tensor):  # older files: token ids alone
        given = [LogitTarget("", int(token)) for token in given.reshape(-1).tolist()]
    if given is None:
        raise InputError(f"{path} is not a graph of circuit-tracer: it names no logits.")
    selected = data.get("selected_features")
    activations = data.get("activation_values")
    graph = PeerGraph(
        prompt=str(data.get("input_string", "")),
        tokens=data["input_tokens"].long().reshape(-1),
        adjacency=data["adjacency_matrix"].float(),
        active_features=active,
        selected_features=torch.arange(len(active)) if selected is None else selected.long(),
        activations=torch.zeros(len(active)) if activations is None else activations.float(),
        logit_targets=tuple(LogitTarget(str(target[0]), int(target[1])) for target in given),
        logit_probabilities=data["logit_probabilities"].float(),
        config=data["cfg"] if isinstance(data["cfg"], dict) else vars(data["cfg"]),
        scan=data.get("scan"),
    )
    expected = len(graph.selected_features) + (graph.n_layers + 1) * len(graph.tokens) + len(graph.logit_targets)
    if graph.adjacency.shape != (expected, expected):
        raise InputError(
            f"{path} is damaged: its adjacency is {tuple(graph.adjacency.shape)}, its nodes are {expected} in number."
        )
    return graph


def to_graph(peer: PeerGraph, token_strings: tuple[str, ...] = ()) -> AttributionGraph:
    """A `.pt` graph as ours. Its nodes know no pre-activations: nothing is accounted, and no effect passes."""
    n_layers, n_positions, n_selected = peer.n_layers, len(peer.tokens), len(peer.selected_features)
    layer, position, feature = peer.active_features[peer.selected_features].numpy().T
    order = np.lexsort((feature, layer, position))
    every = np.arange(n_positions)
    logits = np.array([target.vocab_idx for target in peer.logit_targets])
    activation = peer.activations[peer.selected_features].numpy()
    nodes = concatenate(
        [
            table(kinds.EMBEDDING, -1, every, peer.tokens.numpy()),
            table(kinds.ERROR, np.tile(np.arange(n_layers), n_positions), np.repeat(every, n_layers), -1),
            table(kinds.FEATURE, layer[order], position[order], feature[order], activation[order]),
            table(kinds.LOGIT, n_layers, n_positions - 1, logits),
        ]
    )
    rows = _rows(n_layers, n_positions, n_selected, order, len(logits))
    edges = csr_array(peer.adjacency.numpy()[np.ix_(rows, rows)])
    strings = token_strings or tuple(str(token) for token in peer.tokens.tolist())
    graph = AttributionGraph(
        nodes=nodes,
        edges=edges,
        prompt=peer.prompt,
        tokens=tuple(peer.tokens.tolist()),
        token_strings=strings,
        logit_strings=tuple(target.token_str or str(target.vocab_idx) for target in peer.logit_targets),
        probabilities=peer.logit_probabilities.numpy(),
        weights=peer.logit_probabilities.numpy(),
        target={"kind": "likely", "position": n_positions - 1, "tokens": logits.tolist(), "words": []},
        accounting={"nodes": 0, "max_error": None},
        n_layers=n_layers,
        n_active=len(peer.active_features),
        n_unexplored=len(peer.active_features) - n_selected,
        model=str(peer.config.get("model_name") or ""),
        dictionary=str(peer.scan or ""),
    )
    return rated(graph)


def write_pt(graph: AttributionGraph, path: str | Path, config: Mapping[str, Any] | None = None) -> None:
    """Write a whole graph as circuit-tracer reads it. Biases have no place there and are left out.

    `config` adds what its configuration holds beside the layers (d_model, d_head, n_heads, d_mlp, d_vocab,
    tokenizer_name, model_name). Memory: a dense [N, N] of float32.
    """
    if graph.pruning:
        raise InputError("circuit-tracer's format holds a whole graph; this one is pruned.")
    nodes, n_positions = graph.nodes, len(graph.tokens)
    feature_rows = np.flatnonzero(nodes.kind == kinds.FEATURE)
    columns = (nodes.layer[feature_rows], nodes.position[feature_rows], nodes.feature[feature_rows])
    feature_rows = feature_rows[np.lexsort(columns[::-1])]
    error_rows = np.flatnonzero(nodes.kind == kinds.ERROR)
    error_rows = error_rows[np.lexsort((nodes.position[error_rows], nodes.layer[error_rows]))]
    token_rows = np.flatnonzero(nodes.kind == kinds.EMBEDDING)
    rows = np.concatenate([feature_rows, error_rows, token_rows, graph.logit_rows])
    adjacency = graph.edges[rows][:, rows].toarray()

    settings: dict[str, Any] = {"n_layers": graph.n_layers, "model_name": graph.model, "tokenizer_name": graph.model}
    settings |= dict.fromkeys(("d_model", "d_head", "n_heads", "d_mlp"), 0)
    settings |= {"d_vocab": int(nodes.feature[graph.logit_rows].max(initial=0)) + 1, "original_architecture": "custom"}
    settings |= {"n_key_value_heads": None, "dtype": None, **(config or {})}
    cfg = UnifiedConfig()
    cfg.__dict__.update(settings)
    active = np.stack([column[feature_rows] for column in (nodes.layer, nodes.position, nodes.feature)], axis=1)
    data = {
        "input_string": graph.prompt,
        "adjacency_matrix": torch.from_numpy(np.ascontiguousarray(adjacency, dtype=np.float32)),
        "cfg": cfg,
        "active_features": torch.from_numpy(active),
        "logit_targets": [
            LogitTarget(text, token)
            for text, token in zip(graph.logit_strings, nodes.feature[graph.logit_rows].tolist())
        ],
        "logit_probabilities": torch.from_numpy(graph.probabilities.copy()),
        "vocab_size": settings["d_vocab"],
        "input_tokens": torch.tensor(graph.tokens),
        "selected_features": torch.arange(len(feature_rows)),
        "activation_values": torch.from_numpy(nodes.activation[feature_rows]),
        "scan": graph.dictionary or None,
    }
    assert len(error_rows) == graph.n_layers * n_positions
    with atomic_path(path) as part:
        torch.save(data, part, pickle_module=SimpleNamespace(Pickler=_Pickler, __name__="pickle"))


def _rows(
    n_layers: int, n_positions: int, n_features: int, order: npt.NDArray[np.int64], n_logits: int
) -> npt.NDArray[np.int64]:
    """For each of our rows (tokens | errors by (position, layer) | features in `order` | logits), the peer's."""
    errors = n_features + np.arange(n_layers * n_positions).reshape(n_layers, n_positions).T.reshape(-1)
    tokens = n_features + n_layers * n_positions + np.arange(n_positions)
    logits = n_features + (n_layers + 1) * n_positions + np.arange(n_logits)
    return np.concatenate([tokens, errors, order, logits])


class _Pickler(pickle._Pickler):
    """Names our stand-ins as the classes that they stand for."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        for full_name, cls in _STAND_INS.items():
            if obj is cls:
                module, _, attribute = full_name.rpartition(".")
                self.write(pickle.GLOBAL + f"{module}\n{attribute}\n".encode())  # type: ignore[attr-defined]
                self.memoize(obj)  # type: ignore[attr-defined]
                return
        super().save_global(obj, name)  # type: ignore[misc]
