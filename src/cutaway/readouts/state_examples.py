"""A few sequences told in full: the state after each token, and the state that the probes read there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from cutaway.readouts.softmaxes import Softmaxes
from cutaway.readouts.state_data import StateData

Ints = npt.NDArray[np.int64]
EXAMPLES = 3
MOST = 40_000  # values told in all: about 80 KB of JSON


@dataclass(frozen=True, eq=False)
class Example:
    """Sequence `row` of the data: tokens in words [T], state [T, S] (-1: not asked for), `read` point -> [T, S]."""

    row: int
    tokens: tuple[str, ...]
    state: Ints
    read: Mapping[str, Ints]

    def to_json(self) -> dict[str, Any]:
        return {
            "sequence": self.row,
            "tokens": list(self.tokens),
            "state": self.state.tolist(),
            "read": {point: values.tolist() for point, values in self.read.items()},
        }


def examples_of(
    data: StateData, test: Ints, probes: Mapping[str, Softmaxes], states: Mapping[str, Tensor], best: str
) -> tuple[Example, ...]:
    """The first test sequences, chosen by nothing else; `states`: point -> [n, T, width].

    Where that is more than `MOST` values: the best point alone, then fewer sequences, then their beginnings.
    """
    longest, variables = data.state.shape[1:]
    points = list(probes) if (len(probes) + 1) * longest * variables <= MOST else [best]
    each = (len(points) + 1) * variables
    found = []
    for row in test[: min(EXAMPLES, max(1, MOST // (each * longest)))]:
        end = min(int(data.lengths[row]), max(1, MOST // each))
        tokens = [data.words[i] if data.words else str(i) for i in data.tokens[row, :end]]
        read = {point: probes[point].predict(states[point][row, :end]).numpy() for point in points}
        found.append(Example(int(row), tuple(tokens), data.state[row, :end], read))
    return tuple(found)
