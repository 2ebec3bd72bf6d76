"""The attribution graph of one prompt: a frozen result that prints as a table, prunes itself and saves itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from cutaway.core import Evidence, InputError, UnknownName, atomic_path, read_json, write_json
from cutaway.core.drawing import Drawn
from cutaway.graphs import nodes as kinds
from cutaway.graphs.nodes import Nodes

if TYPE_CHECKING:
    from cutaway.graphs.influence import Scores
    from cutaway.model import Model

SCHEMA = "cutaway.graph/1"


@dataclass(frozen=True)
class AttributionGraph(Drawn):
    """Nodes, and direct effects between them.

    `edges` is sparse [N, N] with targets as rows: edges[t, s] is what s adds to the pre-activation of t on this prompt.
    `weights` [n_logits] says how much each logit node counts in influence; `probabilities` are the model's own.
    """

    nodes: Nodes
    edges: csr_array
    prompt: str
    tokens: tuple[int, ...]
    token_strings: tuple[str, ...]
    logit_strings: tuple[str, ...]  # one a logit node: the token, or "A - B" for a contrast
    probabilities: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    target: Mapping[str, Any]  # {"kind": "likely" | "token" | "contrast", "position", "tokens"}
    accounting: Mapping[str, Any]  # {"nodes", "max_error"}
    n_layers: int
    n_active: int  # features active on the prompt
    n_unexplored: int = 0  # of them, not nodes: their output is in the error nodes
    model: str = ""
    dictionary: str = ""
    dictionary_kind: str = ""
    pruning: Mapping[str, Any] = field(default_factory=dict)  # how this graph was pruned; empty for the whole graph
    evidence: tuple[Evidence, ...] = ()
    measurements: tuple[Mapping[str, Any], ...] = ()
    controls: Mapping[str, Any] = field(default_factory=dict)
    dictionary_folder: Path | None = None  # where it was read from on this machine; not saved

    @property
    def n_logits(self) -> int:
        return int((self.nodes.kind == kinds.LOGIT).sum())

    @property
    def logit_rows(self) -> npt.NDArray[np.int64]:
        """Rows of the logit nodes, in the order of `probabilities`."""
        return np.flatnonzero(self.nodes.kind == kinds.LOGIT)

    def row(self, node_id: str) -> int:
        """The row of a node by its id. Raises UnknownName."""
        ids = self.nodes.ids()
        if node_id not in ids:
            raise UnknownName("node", node_id, ids)
        return ids.index(node_id)

    def inputs(self, row: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """(source rows, weights) of a node's inputs."""
        start, end = self.edges.indptr[row], self.edges.indptr[row + 1]
        return self.edges.indices[start:end], self.edges.data[start:end]

    @property
    def scores(self) -> Scores:
        """Replacement and completeness, with their variants. See `cutaway.graphs.influence.scores`."""
        from cutaway.graphs.influence import scores

        return scores(self)

    def pruned(self, node: float = 0.8, edge: float = 0.98, max_nodes: int | None = None) -> AttributionGraph:
        """The nodes that carry `node` of the influence and the edges that carry `edge` of it. See `influence.prune`."""
        from cutaway.graphs.influence import prune

        return prune(self, node=node, edge=edge, max_nodes=max_nodes)

    def subgraph(self, node_ids: list[str]) -> AttributionGraph:
        """The graph of the named nodes, the embeddings and the logits; everything else goes to remainders."""
        from cutaway.graphs.influence import subgraph

        return subgraph(self, node_ids)

    def with_evidence(
        self, evidence: tuple[Evidence, ...], measurements: tuple[Mapping[str, Any], ...] = ()
    ) -> AttributionGraph:
        return replace(self, evidence=evidence, measurements=measurements)

    def __str__(self) -> str:
        from cutaway.graphs.report import describe

        return describe(self)

    def to_json(self) -> dict[str, Any]:
        """The graph in short: target, scores, accounting, the features and paths of most influence, the evidence."""
        from cutaway.graphs.report import summary

        return summary(self)

    def settings_json(self) -> dict[str, Any]:
        """What the graph was made with."""
        names = ("dictionary", "dictionary_kind", "target", "n_active", "n_unexplored", "controls")
        return {name: getattr(self, name) for name in names}

    def measurements_json(self) -> list[dict[str, Any]]:
        """The table of predicted and measured effects, as JSON."""
        return [dict(row) for row in self.measurements]

    def feature_cards(self, model: Model) -> dict[str, Any]:
        """`{layer}_{feature}` -> where the feature fires and what it writes to the logits, for the nodes of graph.json.

        From the examples that lie beside the dictionary; {} where there are none.
        """
        from cutaway.graphs.cards import feature_cards

        return feature_cards(self, model)

    def save(self, folder: str | Path, pt: bool = False) -> None:
        """Write graph.safetensors (the whole graph), graph.json (the pruned graph for viewers), evidence.json.

        `pt`: also graph.pt, as circuit-tracer reads it (a dense matrix).
        """
        from cutaway.graphs.circuit_tracer import write_pt
        from cutaway.graphs.viewer_json import viewer_json

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.save_tensors(folder / "graph.safetensors")
        write_json(folder / "graph.json", viewer_json(self))
        write_json(
            folder / "evidence.json",
            {
                "schema": "cutaway.evidence/1",
                "evidence": [item.to_json() for item in self.evidence],
                "measurements": self.measurements_json(),
            },
        )
        if pt:
            write_pt(self, folder / "graph.pt")

    def save_tensors(self, path: str | Path) -> None:
        """Columns of the nodes, the edges in compressed rows, and everything else as JSON in the header."""
        from safetensors.numpy import save_file

        tensors = {f"nodes.{column.name}": getattr(self.nodes, column.name) for column in fields(Nodes)}
        tensors |= {
            "edges.weight": self.edges.data,
            "edges.source": self.edges.indices.astype(np.int32),
            "edges.pointer": self.edges.indptr.astype(np.int64),
            "probabilities": self.probabilities,
            "weights": self.weights,
        }
        rest = {name: getattr(self, name) for name in _PLAIN}
        header = {"schema": SCHEMA, "graph": json.dumps(rest, ensure_ascii=False)}
        with atomic_path(path) as part:
            save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, part, metadata=header)

    @classmethod
    def load(cls, folder: str | Path) -> AttributionGraph:
        """Read what `save` wrote. Raises InputError where the folder holds no graph of a schema that we know."""
        from safetensors import safe_open

        folder = Path(folder)
        path = folder if folder.is_file() else folder / "graph.safetensors"
        if not path.is_file():
            raise InputError(f"{folder} holds no graph.safetensors; it is not a saved graph.")
        try:
            with safe_open(path, framework="numpy") as file:
                header = file.metadata() or {}
                data = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except Exception as error:  # safetensors raises its own class for a damaged file
            raise InputError(f"{path} cannot be read as safetensors: {error}") from error
        if header.get("schema") != SCHEMA:
            raise InputError(f"{path} has schema {header.get('schema')!r}; this version reads {SCHEMA!r}.")
        rest: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in json.loads(header["graph"]).items()
        }
        table = Nodes(**{column.name: data[f"nodes.{column.name}"] for column in fields(Nodes)})
        edges = csr_array((data["edges.weight"], data["edges.source"], data["edges.pointer"]), shape=(len(table),) * 2)
        evidence: dict[str, Any] = {}
        if (path.parent / "evidence.json").is_file():
            saved = read_json(path.parent / "evidence.json")
            evidence = {
                "evidence": tuple(Evidence.from_json(item) for item in saved["evidence"]),
                "measurements": tuple(saved["measurements"]),
            }
        return cls(table, edges, probabilities=data["probabilities"], weights=data["weights"], **rest, **evidence)


_APART = ("nodes", "edges", "probabilities", "weights", "evidence", "measurements", "dictionary_folder")
_PLAIN = tuple(column.name for column in fields(AttributionGraph) if column.name not in _APART)
