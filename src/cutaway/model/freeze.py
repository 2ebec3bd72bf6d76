"""What a run holds fixed: attention patterns and norm scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from cutaway.core import UnknownName

if TYPE_CHECKING:
    from cutaway.model.run import Run

PARTS = ("pattern", "norm")


@dataclass(frozen=True, eq=False)
class Frozen:
    """What `freeze=` takes. `values` None: detached, so that no gradient passes through patterns and scales.
    Otherwise address -> the stored tensor that a run uses in place of its own; batch 1 stands for all rows."""

    parts: tuple[str, ...]
    values: Mapping[str, Tensor] | None = field(default=None)

    @classmethod
    def of(cls, value: Frozen | str | tuple[str, ...] | list[str] | None) -> Frozen | None:
        if value is None or isinstance(value, Frozen):
            return value
        parts = (value,) if isinstance(value, str) else tuple(value)
        for part in parts:
            if part not in PARTS:
                raise UnknownName("thing to freeze", str(part), PARTS)
        return cls(parts) if parts else None


def freeze(run: Run, *parts: str) -> Frozen:
    """Hold attention patterns ('pattern') and norm scales ('norm') at the values of `run`; both if none is named.

    With both held, and the MLPs' outputs held too, the model is affine in its residual stream. Norm scales are the
    norms' denominators; a LayerNorm still centres its input (which is linear). Query and key norms act through the
    pattern.
    Costs one more forward of the same tokens and interventions where the run did not read what is needed.
    """
    chosen = Frozen.of(parts or PARTS)
    assert chosen is not None
    wanted = run.model.frozen_points(chosen.parts)
    missing = [address for address in wanted if address not in run]
    source = run.again(read=missing) if missing else run
    return Frozen(chosen.parts, {address: (run if address in run else source)[address] for address in wanted})
