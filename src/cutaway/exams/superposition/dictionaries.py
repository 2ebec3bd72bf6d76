"""What dictionaries of every width and L0 recover of features that are known: cosine and F1.

Forty equal features of density 1/20 lie in twenty dimensions of a toy network, two active at a time on average. Sparse
autoencoders of several widths, each asked for several L0, are trained on its hidden vectors and scored as on any
synthetic features (`features/recovery.py`): MCC, the |cosine| of decoder rows and W_i matched one to one, and F1 of
each latent as a detector of the feature that it lies closest to. Beside each stands a dictionary of as many random
directions, coding as sparsely: a wider one comes closer to any direction by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cutaway.core import Comparison, Estimate, Evidence, Interval
from cutaway.exams.superposition.limits import DENSITY, ROWS, TESTED, N, dictionary, toy_network
from cutaway.toys.superposition.data import Sparse
from cutaway.toys.superposition.geometry import represented

DIMENSIONS = 20
WIDTHS, SPARSITIES = (20, 40, 80, 160), (1, 2, 4, 8)
QUICK_WIDTHS, QUICK_SPARSITIES = (20, 40), (2, 4)


@dataclass(frozen=True)
class Cell:
    """One width and L0: MCC and F1 of each seed, and of as many random directions."""

    width: int
    l0: int
    mcc: tuple[float, ...]
    f1: tuple[float, ...]
    random_mcc: tuple[float, ...]
    random_f1: tuple[float, ...]

    def of(self, measure: str, *, random: bool = False) -> Estimate:
        """`measure` "mcc" or "f1": the mean over seeds and their range."""
        values = getattr(self, f"random_{measure}" if random else measure)
        span = Interval(low=min(values), high=max(values), method=f"range over {len(values)} seeds")
        name = "random directions" if random else {"mcc": "cosine, one to one (MCC)", "f1": "F1"}[measure]
        return Estimate(
            name=name, value=float(np.mean(values)), interval=span if len(values) > 1 else None, n=len(values)
        )


def dictionary_grid(*, quick: bool = False, seed: int = 0, on: Callable[[str], None] = lambda _: None) -> list[Cell]:
    """Every width with every L0; three seeds of network and dictionary, `quick`: one, and four cells.

    Cost: a toy training a seed, and some seconds a dictionary.
    """
    from cutaway.features.components import random_dictionary
    from cutaway.features.recovery import recovery

    widths, sparsities = (QUICK_WIDTHS, QUICK_SPARSITIES) if quick else (WIDTHS, SPARSITIES)
    found: dict[tuple[int, int], list[tuple[float, float, float, float]]] = {}
    for one in range(seed, seed + (1 if quick else 3)):
        network = toy_network(DIMENSIONS, one, quick)
        index = represented(network.encoder)[0].nonzero()[:, 0]
        data = Sparse(torch.full((1, N), DENSITY))
        x, held = (
            data.draw(n, torch.Generator().manual_seed(10_007 * one + k))[0] for k, n in enumerate((ROWS, TESTED))
        )
        h, held_h = network.hidden(x)[0], network.hidden(held)[0]
        truth = torch.nn.functional.normalize(network.encoder[0].T[index], dim=1)
        for width in widths:
            for l0 in sparsities:
                on(f"seed {one}: a dictionary of {width}, L0 {l0}")
                ours = recovery(dictionary(h, one, quick, width, l0), truth, held_h, held[0][:, index])
                theirs = recovery(random_dictionary(h, l0, width, one), truth, held_h, held[0][:, index])
                found.setdefault((width, l0), []).append((ours.mcc, ours.f1, theirs.mcc, theirs.f1))
    return [Cell(width, l0, *zip(*rows)) for (width, l0), rows in found.items()]


def evidence(cells: Sequence[Cell]) -> tuple[Evidence, ...]:
    """The dictionary of the right width and L0 beside random directions; in F1, the same."""
    right = min(cells, key=lambda c: (abs(c.width - N), abs(c.l0 - N * DENSITY)))
    return tuple(
        Evidence(
            claim=f"A dictionary as wide as there are features ({right.width}, L0 {right.l0}) recovers them, by {said}",
            effect=right.of(measure),
            nulls=(Comparison(estimate=right.of(measure, random=True)),),
            how=f"{N} features of density {DENSITY} in {DIMENSIONS} dimensions; scored on {TESTED:,} held-out inputs",
            settings={"widths": sorted({c.width for c in cells}), "l0": sorted({c.l0 for c in cells})},
        )
        for measure, said in (("mcc", "cosine"), ("f1", "F1"))
    )


def rows(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Exam rows, reported: a fitted dictionary has no law to pass."""
    out = []
    for cell in cells:
        for measure, title in (("mcc", "cosine"), ("f1", "F1")):
            one = cell.of(measure)
            out.append({
                "name": f"dictionary of {cell.width}, L0 {cell.l0}: {title}", "truth": 1.0, "estimate": one.value,
                "interval": None if one.interval is None else [one.interval.low, one.interval.high], "n": one.n,
                "tolerance": None, "null": cell.of(measure, random=True).value, "passed": None,
                "table": [f"dictionaries of {N} known features, {title}", f"width {cell.width}", f"L0 {cell.l0}"],
            })  # fmt: skip
    return out


def table(cells: Sequence[Cell]) -> str:
    """A line a width, a column an L0: cosine, F1, and in brackets those of random directions."""
    from cutaway.core.table import columns

    sparsities = sorted({c.l0 for c in cells})
    lines = [["width", *(f"L0 {k}: cosine (random)  F1 (random)" for k in sparsities)]]
    for width in sorted({c.width for c in cells}):
        mine = {c.l0: c for c in cells if c.width == width}
        said = [
            f"{c.of('mcc').value:.2f} ({c.of('mcc', random=True).value:.2f})  "
            f"{c.of('f1').value:.2f} ({c.of('f1', random=True).value:.2f})"
            for c in (mine[k] for k in sparsities)
        ]
        lines.append([str(width), *said])
    return "\n".join(columns(lines, right=(0,)))


def to_json(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    return [
        {
            "width": c.width,
            "l0": c.l0,
            **{m: c.of(m).model_dump(mode="json") for m in ("mcc", "f1")},
            **{f"random_{m}": c.of(m, random=True).model_dump(mode="json") for m in ("mcc", "f1")},
        }
        for c in cells
    ]


def draw(axes: Sequence[Any], cells: Sequence[Cell]) -> None:
    """Two panels, cosine and F1: a curve a width against L0, random directions dotted in the same colour."""
    for ax, (measure, title) in zip(axes, (("mcc", "cosine with the features (MCC)"), ("f1", "F1 of latents"))):
        for i, width in enumerate(sorted({c.width for c in cells})):
            mine = sorted((c for c in cells if c.width == width), key=lambda c: c.l0)
            x = [c.l0 for c in mine]
            ax.plot(x, [c.of(measure).value for c in mine], "o-", color=f"C{i}", ms=4, label=f"width {width}")
            low, high = zip(*((min(getattr(c, measure)), max(getattr(c, measure))) for c in mine))
            ax.fill_between(x, low, high, color=f"C{i}", alpha=0.15, lw=0)
            ax.plot(x, [c.of(measure, random=True).value for c in mine], ":", color=f"C{i}", lw=1)
        ax.axvline(N * DENSITY, color="k", ls="--", lw=0.7)
        ax.set(xscale="log", xlabel="L0 asked for (dashed: active features)", ylim=(-0.03, 1.03))
        ax.set_xticks(sorted({c.l0 for c in cells}), [str(k) for k in sorted({c.l0 for c in cells})])
        ax.minorticks_off()
        ax.set_title(f"{N} features in {DIMENSIONS} dimensions: {title}", fontsize=9)
        ax.legend(fontsize=7)
