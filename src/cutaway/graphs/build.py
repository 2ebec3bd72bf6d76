"""Nodes and exact direct effects of one prompt: every node's inputs sum to its pre-activation.

Nodes are embeddings, biases, reconstruction errors, active features and logits; an edge is what its source adds to its
target's pre-activation along the frozen linear path. The law is asserted here for every node of every graph:

    | sum of inputs - pre-activation |  <=  1e-4 max( |pre-activation|, sum of |inputs| )

A pre-activation w·x that is nothing but the rounding of its own product (the two differ by less than ROUNDING |w| |x|:
x happens to be at a right angle to w) is taken to be the sum of the inputs, which is as true.

Position 0 is treated as any other. Source of the method: "Circuit Tracing" (Anthropic, 2025); bias nodes are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from cutaway.core import CutawayError
from cutaway.core.protocols import TranscoderSet
from cutaway.graphs import nodes as kinds
from cutaway.graphs.active import ActiveFeatures, Sources, active_features, collect
from cutaway.graphs.nodes import Nodes, concatenate, table
from cutaway.graphs.sweep import Batch, sweep
from cutaway.graphs.targets import LogitTargets
from cutaway.graphs.workers import in_order, workers
from cutaway.model.frozen import FrozenPath

TOLERANCE = 1e-4
ROUNDING = 16 * torch.finfo(torch.float32).eps
Progress = Callable[[int, int], None]  # (targets done, targets in all)


@dataclass(frozen=True)
class Accounting:
    """How many nodes' inputs were summed, and the worst relative difference to the pre-activation."""

    nodes: int
    max_error: float


@dataclass(frozen=True)
class Built:
    nodes: Nodes
    adjacency: csr_array  # [N, N], rows are targets
    accounting: Accounting
    n_active: int  # features active on the prompt
    n_unexplored: int  # of them, counted as error


@dataclass(frozen=True)
class _Columns:
    """Where each source lies among the graph's rows."""

    n_positions: int
    position_embedding: bool
    biases: npt.NDArray[np.int64]  # kept columns of the bias block
    first_error: int
    first_feature: int


@dataclass(frozen=True)
class _Targets:
    """All A features and then the n logits, as targets: gradient at the stream, and constants."""

    layer: Tensor
    gradient: Tensor
    norm: Tensor  # from the bias of the norm that the target reads through
    own: Tensor  # encoder bias, or unembedding bias
    pre_activation: Tensor
    rounding: Tensor  # of the pre-activation as it was computed


def build(
    path: FrozenPath,
    dictionary: TranscoderSet,
    logits: LogitTargets,
    *,
    max_features: int | None = None,
    max_bytes: int = 256 << 20,
    progress: Progress | None = None,
) -> Built:
    """The whole graph of one prompt.

    `max_features`: with more active features than this, those of most influence become nodes (found in rounds, from the
    logits down) and the others' output is counted in the error node of their layer and position, so sums hold still.
    `max_bytes` bounds the gradients held at once. Raises CutawayError where the law does not hold, naming the node.
    """
    with torch.no_grad():
        features = active_features(path, dictionary)
        sources = collect(path, dictionary, features)
        targets = _targets(path, dictionary, features, logits)
        block = _Blocks(path, sources, targets, logits.position, max_bytes)
        if max_features is None or len(features) <= max_features:
            explored = np.arange(len(features))
        else:
            explored = _explore(block, logits, max_features)
        return _assemble(path, block, features, explored, logits, progress)


def array(tensor: Tensor) -> npt.NDArray[Any]:
    return tensor.detach().cpu().numpy()


class _Blocks:
    """Dense blocks of effects, for any subset of the targets. Columns: embedding, position, bias, error, feature."""

    def __init__(self, path: FrozenPath, sources: Sources, targets: _Targets, at: int, max_bytes: int) -> None:
        self.path, self.sources, self.targets, self.at = path, sources, targets, at
        self.n_features = len(sources.features)
        self.position = torch.cat(
            [sources.features.position, sources.features.position.new_full((len(targets.layer) - self.n_features,), at)]
        )
        # Four arrays of gradients are alive at once at the worst moment of a sweep, in each worker.
        per_target = 4 * workers() * path.n_positions * path.d_model * path.embedding.element_size()
        self.most = max(16, max_bytes // per_target)
        self.n_biases = 4 * path.n_layers + 2
        self.kept: dict[int, Tensor] = {}  # rows of effects found while exploring, as long as memory allows
        self.room = 4 * max_bytes

    def __call__(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[npt.NDArray[np.int64], int, Tensor]]:
        """For `rows` in ascending order: (some of them, their position p, effects [n, columns up to p]) in order."""
        position = array(self.position)[rows]
        is_logit = rows >= self.n_features
        starts = np.flatnonzero((np.diff(position, prepend=-1) != 0) | np.diff(is_logit, prepend=False))
        chunks = [
            (rows[first : min(first + self.most, end)], int(position[start]))
            for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(rows)])
            for first in range(start, end, self.most)
        ]
        results = in_order(lambda chunk: self._found(*chunk), chunks, on_cpu=self.path.on_cpu)
        for (chunk, at), effects in zip(chunks, results):
            yield chunk, at, effects

    def keep(self, rows: npt.NDArray[np.int64], effects: Tensor) -> None:
        self.room -= effects.numel() * effects.element_size()
        if self.room >= 0:
            self.kept.update(zip(rows.tolist(), effects))

    def _found(self, rows: npt.NDArray[np.int64], position: int) -> Tensor:
        if all(row in self.kept for row in rows.tolist()):
            return torch.stack([self.kept[row] for row in rows.tolist()])
        return self._effects(rows, position)

    def _effects(self, rows: npt.NDArray[np.int64], position: int) -> Tensor:
        targets, n_layers = self.targets, self.path.n_layers
        index = torch.from_numpy(rows).to(targets.layer.device)
        layer = targets.layer[index]
        down = torch.arange(
            len(rows) - 1, -1, -1, device=index.device
        )  # rows are sorted by layer; a sweep takes them from the top down
        at = index[down]
        found = sweep(self.path, self.sources, Batch(position, layer[down], targets.gradient[at]))
        bias = found.attn_bias.new_zeros(len(rows), self.n_biases)
        bias[:, :n_layers], bias[:, n_layers : 2 * n_layers] = found.attn_bias, found.mlp_bias
        every = torch.arange(len(rows), device=index.device)
        bias[every, 2 * n_layers + layer[down]] = targets.norm[at]
        bias[every, 3 * n_layers + 1 + layer[down]] = targets.own[at]
        parts = [found.embedding, found.position_embedding, bias, found.errors.flatten(1), found.features]
        return torch.cat([part for part in parts if part is not None], dim=1)[down]

    def bias_names(self) -> tuple[list[int], list[int]]:
        """(kind, layer) of each column of the bias block."""
        n = self.path.n_layers
        what = [kinds.ATTN] * n + [kinds.MLP] * n + [kinds.NORM] * (n + 1) + [kinds.ENCODER] * n + [kinds.UNEMBED]
        return what, [*range(n), *range(n), *range(n + 1), *range(n), n]

    def columns(self, position: int) -> tuple[int, int, int, int]:
        """Where position embeddings, biases, errors and features start in a block at `position`."""
        p = position + 1
        biases = p if self.path.position_embedding is None else 2 * p
        errors = biases + self.n_biases
        return p, biases, errors, errors + p * self.path.n_layers


def _targets(path: FrozenPath, dictionary: TranscoderSet, features: ActiveFeatures, logits: LogitTargets) -> _Targets:
    d = path.d_model
    gradient = path.embedding.new_zeros(len(features), d)
    norm, own, rounding = path.embedding.new_zeros(3, len(features))
    for layer in range(path.n_layers):
        at = (features.layer == layer).nonzero().flatten()
        rows = dictionary.encoder_rows(layer, features.feature[at])
        gradient[at], norm[at] = path.read_transpose(layer, rows, features.position[at])
        own[at] = dictionary.encoder_bias(layer, features.feature[at])
        rounding[at] = ROUNDING * rows.norm(dim=1) * path.mlp_input(layer).norm(dim=1)[features.position[at]]
    last, last_norm = path.unembed_transpose(logits.vectors, logits.position)
    return _Targets(
        layer=torch.cat([features.layer, features.layer.new_full((len(last),), path.n_layers)]),
        gradient=torch.cat([gradient, last]),
        norm=torch.cat([norm, last_norm]),
        own=torch.cat([own, logits.biases]),
        pre_activation=torch.cat([features.pre_activation, logits.values]),
        rounding=torch.cat([rounding, rounding.new_zeros(len(last))]),
    )


def _assemble(
    path: FrozenPath,
    block: _Blocks,
    features: ActiveFeatures,
    explored: npt.NDArray[np.int64],
    logits: LogitTargets,
    progress: Progress | None,
) -> Built:
    n_positions, n_layers, n_features = path.n_positions, path.n_layers, len(features)
    rows = np.concatenate([explored, np.arange(n_features, n_features + len(logits.tokens))])
    keep = _kept_biases(path, block)
    table_, columns = _nodes(path, block, features, explored, logits, keep)
    all_explored = len(explored) == n_features
    hidden = np.setdiff1d(np.arange(n_features), explored, assume_unique=True)
    # An unexplored feature's whole output counts in the error node of its own layer and position.
    into = (array(features.position)[hidden] * n_layers + array(features.layer)[hidden]).astype(np.int64)

    edges = _Edges(len(table_), _bound(features, explored, columns, block))
    worst, done = 0.0, 0
    for chunk, position, effects in block(rows):
        settled, error_ = _check(effects, block.targets, chunk, features)
        table_.pre_activation[len(table_) - len(rows) + done :][: len(chunk)] = array(settled)
        worst = max(worst, error_)
        p, first_bias, first_error, first_feature = block.columns(position)
        dense = array(effects)
        error, feature = dense[:, first_error:first_feature], dense[:, first_feature:]
        if not all_explored:
            seen, unseen = np.searchsorted(explored, feature.shape[1]), np.searchsorted(hidden, feature.shape[1])
            error = error.copy()
            np.add.at(error.T, into[:unseen], feature[:, hidden[:unseen]].T)
            feature = feature[:, explored[:seen]]
        # Embeddings of positions 0 … p, position embeddings, biases: the same order as the graph's rows.
        source = np.concatenate(
            [
                np.arange(p),
                n_positions + np.arange(first_bias - p),
                columns.first_error - len(keep) + np.arange(len(keep)),
                columns.first_error + np.arange(error.shape[1]),
                columns.first_feature + np.arange(feature.shape[1]),
            ]
        ).astype(np.int32)
        edges.add(source, np.concatenate([dense[:, :first_bias], dense[:, first_bias + keep], error, feature], axis=1))
        done += len(chunk)
        if progress:
            progress(done, len(rows))

    return Built(table_, edges.matrix(), Accounting(len(rows), worst), n_features, len(hidden))


class _Edges:
    """Compressed rows, filled in order; the last rows of the graph are its targets. Reserved once, not grown."""

    def __init__(self, n_nodes: int, at_most: int) -> None:
        self.n_nodes, self.filled = n_nodes, 0
        self.source, self.weight = np.empty(at_most, dtype=np.int32), np.empty(at_most, dtype=np.float32)
        self.counts: list[npt.NDArray[np.int64]] = []

    def add(self, source: npt.NDArray[np.int32], dense: npt.NDArray[np.floating[Any]]) -> None:
        """The next rows, [n, columns]; `source` [columns] says which node a column is. Zeros are no edges."""
        present = dense != 0
        self.counts.append(present.sum(1))
        to = slice(self.filled, self.filled + int(self.counts[-1].sum()))
        self.weight[to] = dense[present]
        self.source[to] = np.broadcast_to(source, dense.shape)[present]
        self.filled = to.stop

    def matrix(self) -> csr_array:
        counts = np.concatenate(self.counts)
        pointers = np.zeros(self.n_nodes + 1, dtype=np.int64)
        pointers[self.n_nodes - len(counts) + 1 :] = counts.cumsum()
        data = (self.weight[: self.filled], self.source[: self.filled], pointers)
        return csr_array(data, shape=(self.n_nodes, self.n_nodes))


def _bound(features: ActiveFeatures, explored: npt.NDArray[np.int64], columns: _Columns, block: _Blocks) -> int:
    """How many edges there can be: a feature's sources lie in lower layers, at its position or before."""
    layer, position = array(features.layer)[explored], array(features.position)[explored]
    n_layers, n_positions = block.path.n_layers, block.path.n_positions
    here = np.zeros((n_positions, n_layers + 1), dtype=np.int64)
    np.add.at(here, (position, layer + 1), 1)
    below = here.cumsum(0).cumsum(1)  # [p, l]: features at positions up to p in layers below l
    other = columns.first_error + layer * (position + 1)
    n_logits = len(block.targets.layer) - block.n_features
    return int((below[position, layer] + other).sum()) + n_logits * (columns.first_feature + len(explored))


def _nodes(
    path: FrozenPath,
    block: _Blocks,
    features: ActiveFeatures,
    explored: npt.NDArray[np.int64],
    logits: LogitTargets,
    keep: npt.NDArray[np.int64],
) -> tuple[Nodes, _Columns]:
    n_positions, n_layers = path.n_positions, path.n_layers
    every = np.arange(n_positions)
    what, layer = (np.array(column)[keep] for column in block.bias_names())
    parts = [table(kinds.EMBEDDING, -1, every, array(path.tokens))]
    if path.position_embedding is not None:
        parts.append(table(kinds.BIAS, -1, every, kinds.POSITION))
    parts += [
        table(kinds.BIAS, layer, -1, what),
        table(kinds.ERROR, np.tile(np.arange(n_layers), n_positions), np.repeat(every, n_layers), -1),
    ]
    before = sum(len(part) for part in parts)
    columns = (features.layer, features.position, features.feature, features.activation, features.pre_activation)
    parts += [
        table(kinds.FEATURE, *(array(column)[explored] for column in columns)),
        table(kinds.LOGIT, n_layers, logits.position, array(logits.tokens), 0.0, array(logits.values)),
    ]
    first_error = before - n_positions * n_layers
    return concatenate(parts), _Columns(n_positions, path.position_embedding is not None, keep, first_error, before)


def _kept_biases(path: FrozenPath, block: _Blocks) -> npt.NDArray[np.int64]:
    """Columns of the bias block that are not zero throughout."""
    targets, n_layers = block.targets, path.n_layers
    present = torch.zeros(block.n_biases, dtype=torch.bool, device=targets.layer.device)
    present[:n_layers] = block.sources.attn_bias.ne(0).flatten(1).any(1)
    present[n_layers : 2 * n_layers] = block.sources.mlp_bias.ne(0).flatten(1).any(1)
    present[2 * n_layers + targets.layer[targets.norm != 0]] = True
    present[3 * n_layers + 1 + targets.layer[targets.own != 0]] = True
    return array(present.nonzero().flatten())


def _check(
    effects: Tensor, targets: _Targets, rows: npt.NDArray[np.int64], features: ActiveFeatures
) -> tuple[Tensor, float]:
    """The law, for the rows of one block. Returns their pre-activations and the worst relative error."""
    at = torch.from_numpy(rows).to(effects.device)
    pre, total = targets.pre_activation[at], effects.sum(1, dtype=torch.float64)
    size = torch.maximum(pre.abs().double(), effects.abs().sum(1, dtype=torch.float64)).clamp_min(1e-30)
    off = (total - pre.double()).abs()
    pre = torch.where((off > TOLERANCE * size) & (off <= targets.rounding[at]), total.to(pre.dtype), pre)
    error = (total - pre.double()).abs() / size
    worst = int(error.argmax())
    if not float(error[worst]) <= TOLERANCE:
        row = int(rows[worst])
        if row < len(features):
            what = f"feature {int(features.feature[row])} of layer {int(features.layer[row])}"
            what += f" at position {int(features.position[row])}"
        else:
            what = f"logit node {row - len(features)}"
        raise CutawayError(
            f"The inputs of {what} sum to {float(total[worst]):.6g}; its pre-activation is {float(pre[worst]):.6g} "
            f"(relative error {float(error[worst]):.2g}, at most {TOLERANCE:g}). If the dictionary's encoder is not "
            "affine before its activation, this graph cannot be built on it."
        )
    return pre, float(error[worst])


def _explore(block: _Blocks, logits: LogitTargets, max_features: int) -> npt.NDArray[np.int64]:
    """The features of most influence, in rounds: those found so far are targets, their sources are ranked again.

    Holds 2 bytes for each (explored feature, active feature) pair, and the effects found, up to four times `max_bytes`.
    """
    n_features, rounds = block.n_features, 8
    influence = np.zeros(n_features)
    shares: dict[int, npt.NDArray[np.float16]] = {}
    new = np.arange(n_features, n_features + len(logits.tokens))
    weights = dict(zip(new.tolist(), logits.weights().tolist()))
    explored = np.zeros(n_features, dtype=bool)
    for left in range(rounds, 0, -1):
        for chunk, position, effects in block(new):
            block.keep(chunk, effects)
            _, biases, errors, first = block.columns(position)
            size = effects.abs()
            size[:, biases:errors] = 0  # as in `influence`: biases share in no target's input
            size /= size.sum(1, keepdim=True).clamp_min(1e-30)
            shares.update(zip(chunk.tolist(), array(size[:, first:].half())))
        influence[:] = 0
        for row in sorted(shares, reverse=True):
            share = shares[row]
            influence[: len(share)] += (weights[row] if row >= n_features else influence[row]) * share
        want = (max_features - int(explored.sum()) + left - 1) // left
        rank = np.where(explored, -1.0, influence)
        new = np.sort(np.argpartition(-rank, want - 1)[:want]) if want else new[:0]
        explored[new] = True
    return np.flatnonzero(explored)
