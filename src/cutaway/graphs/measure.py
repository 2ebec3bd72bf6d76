"""What the graph says, measured: features are taken out of the real model and the change is compared.

Taking out a feature with activation a adds -a W_dec to each MLP output that it writes to, at its position. Nothing is
frozen: the MLPs behind it run with their own nonlinearities, attention patterns and norm scales are formed anew. What
the dictionary leaves of an MLP's output stays in. Effects have the sign of the feature's presence: clean less ablated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.core.protocols import TranscoderSet
from cutaway.evidence.floors import random_directions
from cutaway.graphs.nodes import Nodes
from cutaway.model import Frozen, Intervention, Model, Run, add, freeze, patch

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Directions = Literal["decoder", "random"]
MAX_BYTES = 192 << 20


@dataclass(frozen=True)
class Readout:
    """The number that effects are on, at one position: a logit less the mean logit, or the logit of `token` less that
    of `against`. Before a softcap, as the graph is."""

    position: int
    token: int
    against: int | None = None
    softcap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """[rows, position, vocab] -> [rows]."""
        z = logits[:, self.position].double()
        if self.softcap:
            z = self.softcap * torch.atanh((z / self.softcap).clamp(-1 + 1e-12, 1 - 1e-12))
        other = z.mean(-1) if self.against is None else z[:, self.against]
        return z[:, self.token] - other

    def probability(self, logits: Tensor) -> Tensor:
        """[rows, position, vocab] -> the probability of `token`, [rows]."""
        return logits[:, self.position].double().softmax(-1)[:, self.token]


@dataclass(frozen=True)
class Changes:
    """Vectors to add, by row of a batch: entry i of a point goes to (row[i], position[i])."""

    n_rows: int
    parts: tuple[tuple[str, Tensor, Tensor, Tensor], ...]  # point, row [k], position [k], vectors [k, d]

    def dense(self, start: int, stop: int, n_positions: int) -> dict[str, Tensor]:
        """Point -> [stop - start, n_positions, d]; points without an entry in these rows are left out."""
        out: dict[str, Tensor] = {}
        for point, row, position, vectors in self.parts:
            here = (row >= start) & (row < stop)
            if here.any():
                whole = out.setdefault(point, vectors.new_zeros(stop - start, n_positions, vectors.shape[-1]))
                whole.index_put_((row[here] - start, position[here]), vectors[here], accumulate=True)
        return out


def ablations(
    dictionary: TranscoderSet,
    nodes: Nodes,
    chosen: Ints,
    row: Ints | None = None,
    directions: Directions = "decoder",
    seed: int = 0,
) -> Changes:
    """The changes that take out the features `chosen` (rows of `nodes`), each in a batch row of its own, or in `row`.

    directions: "random" puts a random direction of the same norm in the place of each decoder vector (the null).
    Holds one vector of d_model per (feature, layer that it writes to).
    """
    row = np.arange(len(chosen)) if row is None else row
    layer, feature = nodes.layer[chosen], nodes.feature[chosen]
    parts = []
    for to in range(dictionary.n_layers):
        for source in np.unique(layer).tolist():
            if to not in dictionary.writes(source):
                continue
            here = np.flatnonzero(layer == source)
            decoder = dictionary.decoder_rows(source, torch.from_numpy(feature[here]), to).detach()
            if directions == "random":
                decoder = random_directions(decoder, seed=seed + 1009 * to + 31 * source)
            activation = torch.from_numpy(nodes.activation[chosen[here]]).to(decoder)
            position = torch.from_numpy(nodes.position[chosen[here]])
            parts.append(
                (dictionary.output_point(to), torch.from_numpy(row[here]), position, -activation[:, None] * decoder)
            )
    return Changes(int(row.max()) + 1 if len(row) else 0, tuple(parts))


def written(dictionary: TranscoderSet, nodes: Nodes, chosen: Ints) -> Floats:
    """The norm of what each of the features `chosen` writes, over all the layers that it writes to, [k]."""
    squares = np.zeros(len(chosen))
    for _, row, _, vectors in ablations(dictionary, nodes, chosen).parts:
        np.add.at(squares, row.numpy(), vectors.double().square().sum(-1).cpu().numpy())
    return np.sqrt(squares)


def runs(
    model: Model,
    tokens: Tensor,
    changes: Changes,
    read: tuple[str, ...] = (),
    freeze: Frozen | None = None,
    max_bytes: int = MAX_BYTES,
) -> Iterator[tuple[slice, Run]]:
    """Runs of the prompt `tokens` [1, T] with each row's changes made, as many rows at a time as `max_bytes` allows."""
    for rows, changed in _chunks(model, tokens, changes, max_bytes):
        batch = tokens.expand(rows.stop - rows.start, -1)
        yield rows, model.run(batch, read=read, interventions=changed, freeze=freeze)


def _chunks(
    model: Model, tokens: Tensor, changes: Changes, max_bytes: int = MAX_BYTES
) -> Iterator[tuple[slice, list[Intervention]]]:
    n_positions, facts = tokens.shape[-1], model.facts
    # Held at once by a row of a forward, in floats a position: logits, the changes, what is read, and the MLP's inside.
    width = 2 * facts.vocab_size + facts.d_model * (4 * facts.n_layers + 8) + 4 * facts.d_mlp
    most = max(1, min(changes.n_rows, max_bytes // (4 * n_positions * width)))
    for start in range(0, changes.n_rows, most):
        stop = min(start + most, changes.n_rows)
        yield slice(start, stop), [add(point, x) for point, x in changes.dense(start, stop, n_positions).items()]


def measure_target(
    model: Model, tokens: Tensor, changes: Changes, readout: Readout, hold: tuple[str, ...] = ()
) -> Floats:
    """Clean value less the value with each row's changes, [rows]. One forward of rows x T tokens, in chunks.

    hold: "pattern", "norm": attention patterns and norm scales stay as they are in the clean run.
    """
    clean = model.run(tokens)
    held = freeze(clean, *hold) if hold else None
    out = np.empty(changes.n_rows)
    for rows, run in runs(model, tokens, changes, freeze=held):
        out[rows] = (readout(clean.logits)[0] - readout(run.logits)).cpu().numpy()
    return out


def measure_probability(model: Model, tokens: Tensor, changes: Changes, readout: Readout) -> Floats:
    """Clean probability of the readout's token less that with each row's changes, [rows]."""
    clean = readout.probability(model.run(tokens).logits)[0]
    out = np.empty(changes.n_rows)
    for rows, run in runs(model, tokens, changes):
        out[rows] = (clean - readout.probability(run.logits)).cpu().numpy()
    return out


def measure_edges(
    model: Model,
    dictionary: TranscoderSet,
    tokens: Tensor,
    nodes: Nodes,
    source: Ints,
    target: Ints,
    directions: Directions = "decoder",
    seed: int = 0,
) -> Floats:
    """What each source feature adds to the pre-activation of its target feature in the real model, [edges].

    Clean pre-activation less that with the source taken out: by every way there is, not along the direct edge alone.
    One ablation a distinct source; reads the dictionary's inputs.
    """
    distinct, which = np.unique(source, return_inverse=True)
    changes = ablations(dictionary, nodes, distinct, directions=directions, seed=seed)
    layers = np.unique(nodes.layer[target]).tolist()
    read = tuple(dictionary.input_point(layer) for layer in layers)
    clean = model.run(tokens, read=read, logits=False)
    out = np.empty(len(source))
    for rows, run in runs(model, tokens, changes, read):
        for layer in layers:
            edges = np.flatnonzero((nodes.layer[target] == layer) & (which >= rows.start) & (which < rows.stop))
            if not len(edges):
                continue
            point, position = dictionary.input_point(layer), torch.from_numpy(nodes.position[target[edges]])
            encoder = dictionary.encoder_rows(layer, torch.from_numpy(nodes.feature[target[edges]])).detach()
            moved = clean[point][0, position] - run[point][torch.from_numpy(which[edges] - rows.start), position]
            out[edges] = (moved.double() * encoder.to(moved).double()).sum(-1).cpu().numpy()
    return out


def direct_effects(
    model: Model, dictionary: TranscoderSet, tokens: Tensor, nodes: Nodes, source: Ints, target: Ints
) -> Floats:
    """What `measure_edges` gives with everything frozen that a graph freezes: patterns, norm scales and MLP outputs.

    The graph's edges equal it by construction (skip connections excepted): a check of the arithmetic, no evidence.
    """
    points = [dictionary.output_point(layer) for layer in range(dictionary.n_layers)]
    read = tuple(dictionary.input_point(layer) for layer in range(dictionary.n_layers))
    clean = model.run(tokens, read=[*points, *read])
    held, frozen = [patch(point, clean[point]) for point in points], freeze(clean, "pattern", "norm")
    changes = ablations(dictionary, nodes, source)
    out = np.empty(len(source))
    for rows, changed in _chunks(model, tokens, changes):
        count = rows.stop - rows.start
        run = model.run(
            tokens.expand(count, -1), read=read, interventions=[*held, *changed], freeze=frozen, logits=False
        )
        for i, edge in enumerate(range(rows.start, rows.stop)):
            layer, position = int(nodes.layer[target[edge]]), int(nodes.position[target[edge]])
            encoder = dictionary.encoder_rows(layer, torch.tensor([int(nodes.feature[target[edge]])]))[0].detach()
            moved = clean[read[layer]][0, position] - run[read[layer]][i, position]
            out[edge] = float(moved.double() @ encoder.to(moved).double())
    return out
