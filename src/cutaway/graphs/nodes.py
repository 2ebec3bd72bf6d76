"""The nodes of an attribution graph, as one table of columns."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

KINDS = ("embedding", "feature", "error", "bias", "logit", "remainder")
EMBEDDING, FEATURE, ERROR, BIAS, LOGIT, REMAINDER = range(len(KINDS))
# A bias node's `feature` column: what the bias is of.
BIASES = ("position", "attn", "mlp", "norm", "encoder", "unembed")
POSITION, ATTN, MLP, NORM, ENCODER, UNEMBED = range(len(BIASES))

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Nodes:
    """N nodes, every edge from a lower row to a higher one.

    | kind | layer | position | feature |
    |---|---|---|---|
    | embedding | -1 | its position | token id |
    | bias: position embedding | -1 | its position | 0, "position" |
    | bias: attention, MLP output, norm before the MLP, encoder | its layer, all positions | -1 | which of BIASES |
    | bias: final norm, unembedding | L | -1 | which of BIASES |
    | error | its layer | its position | -1 |
    | feature | its layer | its position | its number in the dictionary |
    | logit | L | its position | token id |
    | remainder | its target's | its target's | the row of its target |
    """

    kind: Ints
    layer: Ints
    position: Ints
    feature: Ints
    activation: Floats  # of features; 0 elsewhere
    pre_activation: Floats  # of features and logits: what their inputs sum to; NaN elsewhere
    influence: Floats  # on the logits, in the whole graph (graphs.influence.influence)
    effect: Floats  # signed, on the most likely logit or the target, in the whole graph (influence.total_effects)

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: Ints | npt.NDArray[np.bool_] | slice) -> Nodes:
        return Nodes(**{column.name: getattr(self, column.name)[rows] for column in fields(self)})

    @property
    def has_inputs(self) -> npt.NDArray[np.bool_]:
        return np.isin(self.kind, (FEATURE, LOGIT))

    def ids(self) -> list[str]:
        """Names that no two nodes share, in the reference viewer's form where it has one.

        feature `{layer}_{feature}_{position}`, error `{layer}_-1_{position}`, token `E_{token}_{position}`, logit
        `{L + 1}_{token}_{position}`; ours: bias `B_{layer}_{what}_{position or *}`, remainder `R_{id of its target}`.
        """
        names: list[str] = []
        for kind, layer, position, feature in zip(
            self.kind.tolist(), self.layer.tolist(), self.position.tolist(), self.feature.tolist()
        ):
            if kind == EMBEDDING:
                names.append(f"E_{feature}_{position}")
            elif kind == LOGIT:
                names.append(f"{layer + 1}_{feature}_{position}")
            elif kind == BIAS:
                where = "E" if layer < 0 else layer
                names.append(f"B_{where}_{BIASES[feature]}_{position if position >= 0 else '*'}")
            elif kind == REMAINDER:
                names.append(f"R_{feature}")  # renamed below: a remainder may precede its target
            else:
                names.append(f"{layer}_{feature}_{position}")
        for row in np.flatnonzero(self.kind == REMAINDER).tolist():
            names[row] = f"R_{names[int(self.feature[row])]}"
        return names


def concatenate(parts: list[Nodes]) -> Nodes:
    """One table of all rows, in order."""
    return Nodes(**{c.name: np.concatenate([getattr(part, c.name) for part in parts]) for c in fields(Nodes)})


def table(
    kind: int,
    layer: npt.ArrayLike,
    position: npt.ArrayLike,
    feature: npt.ArrayLike,
    activation: npt.ArrayLike = 0.0,
    pre_activation: npt.ArrayLike = np.nan,
) -> Nodes:
    """Nodes of one kind; scalars are broadcast."""
    given = np.broadcast_arrays(np.atleast_1d(layer), position, feature, activation, pre_activation)
    layer, position, feature = (np.array(column, dtype=np.int64) for column in given[:3])
    activation, pre_activation, zero = (np.array(column, dtype=np.float32) for column in (*given[3:], 0 * given[0]))
    return Nodes(np.full_like(layer, kind), layer, position, feature, activation, pre_activation, zero, zero)
