"""The QK and OV circuits of a head, as products of thin matrices: no [vocab, vocab] matrix is ever formed.

    OV circuit   U W_O W_V E^T   [token out, token attended to]: what attending to a token does to each logit
    QK circuit   E W_Q^T W_K E^T [token asking, token asked]: how much one token attends to another

E [vocab, d_model] is the embedding, U [vocab, d_model] the output matrix with the final norm's gain and centring. The
non-zero eigenvalues of A B are those of B A: a [d_head, d_head] matrix. Source: Elhage et al. (2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns, shown
from cutaway.model import Model
from cutaway.model.observed import linear_map
from cutaway.readouts.head_weights import HeadWeights, head_weights

SCHEMA = "cutaway.head-circuit/1"


@dataclass(frozen=True, eq=False, repr=False)
class HeadCircuit(Drawn):
    """left @ right.T, [vocab, vocab], never formed: left, right [vocab, d_head].

    QK: rows ask, columns are asked. OV: rows are logits, columns the tokens attended to.
    """

    kind: str
    layer: int
    head: int
    left: Tensor
    right: Tensor
    model: Model

    def entries(self, rows: Any, cols: Any) -> Tensor:
        """[rows, cols] of the matrix."""
        found: Tensor = self.left[torch.as_tensor(rows)] @ self.right[torch.as_tensor(cols)].T
        return found

    def eigenvalues(self) -> Tensor:
        """The non-zero ones, complex [d_head]."""
        values: Tensor = torch.linalg.eigvals((self.right.T @ self.left).double())
        return values

    def norm(self) -> float:
        """Frobenius, from two [d_head, d_head] products: |A B^T|^2 = tr(A^T A B^T B)."""
        gram = (self.left.T @ self.left).double() @ (self.right.T @ self.right).double()
        return float(gram.trace().clamp(min=0).sqrt())

    def top(self, token: int, k: int = 8) -> list[tuple[str, float]]:
        """QK: the tokens that `token` looks for. OV: the logits that attending to `token` raises most."""
        values = self.right @ self.left[token] if self.kind == "QK" else self.left @ self.right[token]
        found = values.topk(min(k, len(values)))
        return list(zip(self.model.token_strings(found.indices), found.values.tolist()))

    def table(self, tokens: list[int]) -> str:
        verb = "looks for" if self.kind == "QK" else "raises the logits of"
        rows = [("token", verb)]
        for token, name in zip(tokens, self.model.token_strings(tokens)):
            rows.append((shown(name), "  ".join(f"{shown(t)} {v:+.2f}" for t, v in self.top(token, 6))))
        return "\n".join([f"{self.kind} circuit of head {self.layer}.{self.head}", *columns(rows)])

    def to_json(self) -> dict[str, Any]:
        values = self.eigenvalues()
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "layer": self.layer,
            "head": self.head,
            "norm": self.norm(),
            "eigenvalues": [[float(v.real), float(v.imag)] for v in values],
        }

    def __str__(self) -> str:
        return (
            f"{self.kind} circuit of head {self.layer}.{self.head}, rank {self.left.shape[1]}, norm {self.norm():.3g}"
        )

    __repr__ = __str__


def head_circuit(model: Model, kind: Literal["QK", "OV"], layer: int, head: int) -> HeadCircuit:
    """The QK or OV circuit of one head over the whole vocabulary.

    Reads the token embedding alone: what position embeddings and earlier MLPs add to the stream is not in it.
    Costs two products [vocab, d_model] x [d_model, d_head].
    """
    weights = head_weights(model)
    i = weights.index(layer, head)
    embedding, unembedding = vocabulary(model)
    if kind == "QK":
        left, right = embedding @ weights.q[i].T, embedding @ weights.k[i].T
    elif kind == "OV":
        left, right = unembedding @ weights.o[i], embedding @ weights.v[i].T
    else:
        raise InputError(f"a head has a QK and an OV circuit; {kind!r} was given.")
    return HeadCircuit(kind, layer, head, left, right, model)


def vocabulary(model: Model) -> tuple[Tensor, Tensor]:
    """(E, U), both [vocab, d_model], float32; U with the final norm's gain and centring and the logit scale."""
    table = getattr(model.site("embeddings").module, "weight", None)
    if not isinstance(table, Tensor) or table.shape[1] != model.facts.d_model:
        raise InputError(f"{model.name} keeps its token embedding in no single [vocab, d_model] matrix.")
    out = model.facts.logit_scale * linear_map(model.site("lm_head").module, model.facts.d_model)[0].float()
    norm = model.norms.get("final_norm_scale")
    if norm is not None:
        out = out if norm.gain is None else out * norm.gain.float()
        out = out - out.mean(-1, keepdim=True) if norm.centred else out
    return table.detach().float(), out


def copying_scores(model: Model, weights: HeadWeights) -> Tensor:
    """[heads] in [-1, 1]: sum of the OV circuit's eigenvalues over the sum of their sizes (Elhage et al. 2021).

    1: attending to a token raises that token's logit, in every direction of the head; a random head is near 0.
    Costs one [d_model, d_model] product over the vocabulary, and an eigendecomposition [d_head, d_head] a head.
    """
    embedding, unembedding = vocabulary(model)
    through = (embedding.T @ unembedding).double()  # sum over tokens of e u^T, [d, d]
    # Eigenvalues of (U O)(V E^T) are those of V (E^T U) O.
    small = weights.v.double() @ through @ weights.o.double()  # [heads, d_head, d_head]
    values = torch.linalg.eigvals(small)
    size = values.abs().sum(-1)
    scores: Tensor = torch.where(size > 0, values.real.sum(-1) / size.clamp(min=1e-30), torch.zeros_like(size))
    return scores.float()
