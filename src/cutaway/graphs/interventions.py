"""Set features of a prompt to values, in the real model.

Setting feature f of layer l at position t to v adds (v - a) W_dec[f] at each MLP output that it writes to, a its
activation there. What else may move is the mode:

| mode | attention patterns | norms | MLP outputs |
|---|---|---|---|
| iterative | held (or free) | free | free: later MLPs answer the change |
| constrained | held (or free) | free | held at the prompt's own, plus the change, up to layer `through`; free above |
| direct | held | held | all held: the direct effect alone, along the graph's linear path |

A cross-layer feature's writes stand for what later MLPs would do, so in iterative mode those MLPs do it a second time;
constrained mode through its last layer counts it once. Sources: "Circuit Tracing" (Anthropic, 2025); circuit-tracer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName
from cutaway.core.protocols import TranscoderSet
from cutaway.model import Intervention, Model, Run, add, freeze, patch
from cutaway.model.freeze import Frozen

Mode = Literal["iterative", "constrained", "direct"]
MODES = ("iterative", "constrained", "direct")


@dataclass(frozen=True)
class SetFeature:
    """One feature of a prompt and the activation that it shall have. 0 takes it out."""

    layer: int
    position: int
    feature: int
    value: float = 0.0


def set_features(
    model: Model,
    dictionary: TranscoderSet,
    run: Run,
    rows: Sequence[Sequence[SetFeature]],
    mode: Mode = "iterative",
    *,
    attention_held: bool = True,
    through: int | None = None,
    read: Sequence[str] = (),
    batch: int = 64,
) -> Iterator[tuple[slice, Run]]:
    """Each of `rows` is a set of features set together, independent of the other rows: (which rows, their run).

    `run` is of one prompt. `through`: the last layer whose MLP output constrained mode holds; by default the last that
    the row's features write to. Rows are batched, `batch` prompts a forward. With features of several layers in a row,
    a lower one moves a higher one's activation: one more partial forward for each layer after the first.
    """
    if mode not in MODES:
        raise UnknownName("mode", mode, MODES)
    if run.tokens.shape[0] != 1:
        raise InputError(f"Features are set on one prompt; the run has {run.tokens.shape[0]} rows.")
    for item in (item for row in rows for item in row):
        _check(item, dictionary, run)
    lowest = min((item.layer for row in rows for item in row), default=0)
    wanted = {dictionary.input_point(item.layer) for row in rows for item in row}
    held_layers = range(0 if mode == "direct" else lowest, dictionary.n_layers) if mode != "iterative" else range(0)
    wanted |= {dictionary.output_point(layer) for layer in held_layers}
    missing = sorted(point for point in wanted if point not in run)
    base = run.again(read=[*run.reads, *missing]) if missing else run
    parts = ("pattern", "norm") if mode == "direct" else ("pattern",) if attention_held else ()
    frozen = freeze(base, *parts) if parts else None

    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        changes = _Changes(dictionary, base, some, mode, through, held_layers)
        for layer in changes.layers[1:] if mode == "iterative" or changes.any_free_between() else ():
            point = dictionary.input_point(layer)
            moved = _run(model, base, len(some), changes.interventions(below=layer), frozen, [point], logits=False)
            changes.measure(layer, moved[point])
        yield slice(start, start + len(some)), _run(model, base, len(some), changes.interventions(), frozen, read)


def feature_effects(
    model: Model,
    dictionary: TranscoderSet,
    run: Run,
    features: Sequence[SetFeature],
    mode: Mode = "iterative",
    *,
    position: int = -1,
    **how: Any,
) -> Tensor:
    """What setting each feature alone does to the logits at `position`: with the change less without, [n, vocab].

    Without anything changed the model may differ from `run` in the last bits; both sides are run with the same things
    held. `how`: see `set_features`. Costs one row of a forward a feature.
    """
    plain = next(iter(set_features(model, dictionary, run, [[]], mode, **how)))[1].at("logits", position)
    rows = [[feature] for feature in features]
    found = [done.at("logits", position) - plain for _, done in set_features(model, dictionary, run, rows, mode, **how)]
    return torch.cat(found) if found else plain[:0]


class _Changes:
    """What is added at each output point, [row, position, d_model]; filled from the lowest layer up."""

    def __init__(
        self,
        dictionary: TranscoderSet,
        base: Run,
        rows: Sequence[Sequence[SetFeature]],
        mode: Mode,
        through: int | None,
        held: range,
    ) -> None:
        self.dictionary, self.base, self.mode, self.held = dictionary, base, mode, held
        self.n_rows, self.n_positions = len(rows), base.tokens.shape[1]
        self.items = [(number, item) for number, row in enumerate(rows) for item in row]
        self.layers = sorted({item.layer for _, item in self.items})
        self.through = [self._last(row, mode, through) for row in rows]
        self.added: dict[tuple[int, int], Tensor] = {}  # (from layer, to layer)
        for layer in self.layers:
            point = dictionary.input_point(layer)
            self.measure(layer, base[point].expand(self.n_rows, -1, -1))

    def _last(self, row: Sequence[SetFeature], mode: Mode, through: int | None) -> int:
        if mode == "direct" or (mode == "constrained" and not row):
            return self.dictionary.n_layers - 1 if mode == "direct" else -1
        if through is not None:
            return through
        return max((self.dictionary.writes(item.layer)[-1] for item in row), default=-1)

    def any_free_between(self) -> bool:
        """In constrained mode: whether a feature lies above the layers held for its row, so that its input moves."""
        return self.mode == "constrained" and any(item.layer > self.through[row] for row, item in self.items)

    def measure(self, layer: int, x: Tensor) -> None:
        """Set the changes that features of `layer` make, from their input x [row, position, d_in]."""
        here = [(row, item) for row, item in self.items if item.layer == layer]
        row = torch.tensor([row for row, _ in here], device=x.device)
        position = torch.tensor([item.position for _, item in here], device=x.device)
        feature = torch.tensor([item.feature for _, item in here], device=x.device)
        value = torch.tensor([item.value for _, item in here], device=x.device, dtype=x.dtype)
        with torch.no_grad():
            activation = self.dictionary.activations(layer, x[row, position])
            step = value - activation[torch.arange(len(here), device=x.device), feature]
            for to in self.dictionary.writes(layer):
                rows = step[:, None] * self.dictionary.decoder_rows(layer, feature, to)
                whole = x.new_zeros(self.n_rows, self.n_positions, rows.shape[-1])
                self.added[layer, to] = whole.index_put_((row, position), rows.to(x.dtype), accumulate=True)

    def interventions(self, below: int | None = None) -> list[Intervention]:
        """Outputs held, then what is added; `below`: only the changes made by features of lower layers."""
        found: list[Intervention] = []
        for layer in self.held:
            point = self.dictionary.output_point(layer)
            rows = [row for row, last in enumerate(self.through) if layer <= last]
            if rows:
                found.append(patch(point, self.base, rows=rows))
        by_target: dict[int, Tensor] = {}
        for (layer, to), vectors in self.added.items():
            if below is None or layer < below:
                by_target[to] = by_target[to] + vectors if to in by_target else vectors
        found += [add(self.dictionary.output_point(to), vectors) for to, vectors in sorted(by_target.items())]
        return found


def _run(
    model: Model,
    base: Run,
    n_rows: int,
    interventions: list[Intervention],
    frozen: Frozen | None,
    read: Sequence[str],
    logits: bool = True,
) -> Run:
    tokens = base.tokens.expand(n_rows, -1)
    if not logits:
        reached = {point: int(point.split(".")[1]) for point in read}
        last = max(reached.values())
        interventions = [item for item in interventions if int(str(item.at).split(".")[1]) < last]
    return model.run(tokens, read=read, interventions=interventions, freeze=frozen, logits=logits)


def _check(item: SetFeature, dictionary: TranscoderSet, run: Run) -> None:
    for name, value, size in (
        ("layer", item.layer, dictionary.n_layers),
        ("position", item.position, run.tokens.shape[1]),
        ("feature", item.feature, dictionary.n_features),
    ):
        if not 0 <= value < size:
            raise InputError(f"{item} lies outside the prompt and its dictionary: {name} must be 0 … {size - 1}.")
