"""Five tests of a circuit (Shi et al. 2024, "Hypothesis Testing the Circuit Hypothesis in LLMs").

    s(X)       the metric of each item with the edges X in;  D(A, B) = mean over items of |s(A) - s(B)|
    equivalence    the circuit's metric is above the model's as often as below:  |P(s(C) > s(M)) - 1/2| <= epsilon
    independence   the model without the circuit says nothing of the model:  s(M \\ C) independent of s(M)
    minimality     each part v: taking it out moves C by more than taking a random part out of C + random parts
    sufficiency    C is nearer to M than a share q of random circuits of its size:  D(M, C) < D(M, R)
    partial necessity  M \\ C is farther from M than a share q of M \\ R, R as many parts from outside C

The first three are strict; on GPT-2's IOI circuit they fail, and the last two pass. In the first three a small p-value
speaks against the circuit, in the last two for it. The published code takes the mean difference for the share in the
first test, and corrects none of the p-values of the third; here neither is so, and the five are Holm-adjusted together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from cutaway.circuits.circuit import Circuit
from cutaway.circuits.faithfulness import random_circuits
from cutaway.circuits.masked import opened_for
from cutaway.circuits.nodewise import measure_any
from cutaway.circuits.units import Units, units
from cutaway.circuits.wires import Wires
from cutaway.core import Estimate, Evidence, InputError, NotDone
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import equivalence, exceeds_share, holm, hsic, proportion
from cutaway.model import Model

Outcome = Literal["passes", "fails", "not settled"]


@dataclass(frozen=True, eq=False, repr=False)
class CircuitTest:
    """One test. `p`: of its null; `p_holm`: adjusted with the others of the five. `outcome`: of the circuit."""

    name: str
    question: str
    null: str
    statistic: Estimate
    p: float
    p_holm: float
    outcome: Outcome
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "question": self.question,
            "null": self.null,
            "statistic": self.statistic.model_dump(mode="json"),
            "p": self.p,
            "p_holm": self.p_holm,
            "outcome": self.outcome,
            "note": self.note,
        }


@dataclass(frozen=True, eq=False, repr=False)
class CircuitTests(Drawn):
    """The five tests. `idle`: parts that minimality finds no better than random ones, with their adjusted p-values."""

    tests: tuple[CircuitTest, ...]
    idle: tuple[tuple[str, float], ...]
    alpha: float
    n: int
    evidence: tuple[Evidence, ...]

    def __getitem__(self, name: str) -> CircuitTest:
        return next(test for test in self.tests if test.name == name)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.circuit-tests/1",
            "alpha": self.alpha,
            "n": self.n,
            "tests": [test.to_json() for test in self.tests],
            "idle": [{"part": name, "p_holm": p} for name, p in self.idle],
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        rows = [("test", "measured", "p", "p (Holm)", "the circuit")]
        rows += [
            (
                t.name,
                f"{t.statistic.name}: {t.statistic}",
                f"{t.p:.2g}",
                f"{t.p_holm:.2g}",
                f"{t.outcome} {t.note}".strip(),
            )
            for t in self.tests
        ]
        title = f"Five tests of Shi et al. (2024), n={self.n} items, alpha {self.alpha:g}"
        return "\n".join([title, *columns(rows, right=(2, 3))])

    __repr__ = __str__


def circuit_tests(
    model: Model | Wires,
    circuit: Circuit,
    task: Any,
    *,
    ablation: str | None = None,
    epsilon: float = 0.1,
    quantile: float = 0.9,
    draws: int = 100,
    permutations: int = 1000,
    most: int = 60,
    alpha: float = 0.05,
    seed: int = 0,
) -> CircuitTests:
    """The five tests on a circuit of edges or nodes, on items that it was not found on.

    `epsilon`, `quantile`, `draws`, `permutations`: as published. Of a circuit of more than `most` parts that many are
    drawn for minimality. Costs 4 + 4 draws + min(parts, most) masked forwards of the task.
    Raises InputError for an empty or a full circuit (without parts outside nothing is to be compared with).
    """
    wires = opened_for(model, circuit.graph)
    ablation = str(circuit.choices["ablation"]) if ablation is None else ablation
    parts, graph = units(circuit), circuit.graph
    if not parts.outside:
        raise InputError("the circuit holds all there is: random circuits of its size are the circuit itself.")
    generator = torch.Generator().manual_seed(seed)

    def s(masks: Sequence[Tensor]) -> Tensor:
        return measure_any(wires, graph, task, torch.stack(list(masks)), ablation)

    c, m, rest = s([parts.members, graph.exists, parts.complement])
    others = random_circuits(graph, circuit, draws, seed)
    sufficient = (s(list(others)) - m).abs().mean(1)
    necessary = (s([parts.without(graph.exists, one) for one in _outside(parts, draws, generator)]) - m).abs().mean(1)
    chosen = torch.randperm(len(parts.inside), generator=generator)[:most].tolist()
    tested = [parts.inside[i] for i in sorted(chosen)]
    moved = (s([parts.without(parts.members, [u]) for u in tested]) - c).abs().mean(1)
    beside = _inflated(s, parts, circuit, draws, seed + 1, generator)
    return _judged(parts, tested, c, m, rest, sufficient, necessary, moved, beside, epsilon, quantile, permutations,
                   alpha, ablation, seed)  # fmt: skip


def _outside(parts: Units, draws: int, generator: torch.Generator) -> list[list[int]]:
    """As many units as the circuit has from outside it (or all there are), `draws` times.

    Drawn from the whole graph they would share the circuit's bottlenecks, and harm as much by those alone.
    """
    n = min(len(parts.inside), len(parts.outside))
    return [
        [parts.outside[i] for i in torch.randperm(len(parts.outside), generator=generator)[:n]] for _ in range(draws)
    ]


def _inflated(s: Any, parts: Units, circuit: Circuit, draws: int, seed: int, generator: torch.Generator) -> Tensor:
    """[draws] D(C + random parts, the same without one of them): a random path's edges, or a random node."""
    masks: list[Tensor] = []
    paths = iter(random_circuits(parts.graph, circuit, 4 * draws, seed)) if parts.level == "edge" else None
    while len(masks) < 2 * draws:
        new: list[int] = list(parts.outside)
        added = [new[int(torch.randint(len(new), (1,), generator=generator))]]
        if paths is not None:
            path = next(paths, None)
            some = (
                None if path is None else (_first_path(parts, path) & ~parts.members).flatten().nonzero()[:, 0].tolist()
            )
            added = some or added  # a path wholly inside, or no more of them: a single edge
        out = added[int(torch.randint(len(added), (1,), generator=generator))]
        whole = parts.added(parts.members, added)
        masks += [whole, parts.without(whole, [out])]
    values = s(masks).reshape(draws, 2, -1)
    found: Tensor = (values[:, 0] - values[:, 1]).abs().mean(1)
    return found


def _first_path(parts: Units, members: Tensor) -> Tensor:
    """One path from the input to the logits among the edges of a circuit made of paths."""
    graph = parts.graph
    on = graph.on_paths(members)
    path = torch.zeros_like(on)
    destination = len(graph.destinations) - 1
    while True:
        sources = on[:, destination].nonzero()[:, 0].tolist()
        if not sources:
            return path
        source = sources[-1]
        path[source, destination] = True
        into = [d for d in graph.feeds[source] if bool(on[:, d].any())]
        if source == 0 or not into:
            return path
        destination = into[0]


def _relaxed(share: float, p: float, quantile: float, alpha: float) -> Outcome:
    return "passes" if p <= alpha else "not settled" if share > quantile else "fails"


def _judged(
    parts: Units, tested: list[int], c: Tensor, m: Tensor, rest: Tensor, sufficient: Tensor, necessary: Tensor,
    moved: Tensor, beside: Tensor, epsilon: float, quantile: float, permutations: int, alpha: float, ablation: str,
    seed: int,
) -> CircuitTests:  # fmt: skip
    n, draws = len(c), len(sufficient)
    same = equivalence((c - m).tolist(), epsilon)
    statistic, p_independent = hsic(rest.tolist(), m.tolist(), permutations=permutations, seed=seed)
    counts = [int((one > beside).sum()) for one in moved]
    p_idle = holm([exceeds_share(k, len(beside), quantile, less=True) for k in counts])
    apart = float((c - m).abs().mean())
    beats = int(
        (apart < sufficient - 1e-9 * max(1.0, apart)).sum()
    )  # a tie, as of circuits that carry nothing, is none
    harms = int((float((rest - m).abs().mean()) > necessary).sum())
    raw = [same.p_apart, p_independent, float(p_idle.min()), exceeds_share(beats, draws, quantile),
           exceeds_share(harms, draws, quantile)]  # fmt: skip
    after = holm(raw)
    idle = sorted(((parts.name(u), float(p)) for u, p in zip(tested, p_idle) if p <= alpha), key=lambda item: item[1])
    what = "nodes" if parts.level == "node" else "edges"
    equal = f"equivalent at {epsilon:g}: p = {same.p_same:.2g}"
    tests = (
        CircuitTest(
            "equivalence", "Is the circuit's metric above the model's as often as below?",
            f"|P(s(C) > s(M)) - 1/2| <= {epsilon:g}", same.share, raw[0], float(after[0]),
            "fails" if after[0] <= alpha else "passes" if same.p_same <= alpha else "not settled", f"({equal})",
        ),
        CircuitTest(
            "independence", "Does the model without the circuit say nothing of the model's metric?",
            "s(M \\ C) and s(M) are independent",
            Estimate(name="HSIC", value=statistic, n=n, note=f"{permutations} permutations"), raw[1], float(after[1]),
            "fails" if after[1] <= alpha else "not settled", "" if after[1] <= alpha else "(independence not rejected)",
        ),
        CircuitTest(
            "minimality", f"Does each of its {what} matter more than {quantile:.0%} of random ones put into it?",
            f"each of the {what}: P(D(C, C \\ v) > D(C + r, C + r \\ r)) >= {quantile:g}",
            proportion(len(tested) - len(idle), len(tested), name=f"share of {what} not shown idle"), raw[2],
            float(after[2]), "fails" if after[2] <= alpha else "not settled",
            f"({len(idle)} of {len(tested)} {what} idle)",
        ),
        CircuitTest(
            "sufficiency", f"Is it nearer to the model than {quantile:.0%} of random circuits of its size?",
            f"P(D(M, C) < D(M, R)) <= {quantile:g}",
            proportion(beats, draws, name="share of random circuits it beats"), raw[3], float(after[3]),
            _relaxed(beats / draws, float(after[3]), quantile, alpha),
        ),
        CircuitTest(
            "partial necessity",
            f"Does the model lose more without it than without {quantile:.0%} of sets of as many other {what}?",
            f"P(D(M, M \\ C) > D(M, M \\ R)) <= {quantile:g}",
            proportion(harms, draws, name="share of sets of others it outdoes"), raw[4], float(after[4]),
            _relaxed(harms / draws, float(after[4]), quantile, alpha),
        ),
    )  # fmt: skip
    said = ", ".join(f"{t.name} {t.outcome}" for t in tests)
    evidence = Evidence(
        claim=f"Tests of the circuit hypothesis: {said}",
        effect=tests[3].statistic,
        seeds=(seed,),
        how=f"Shi et al. (2024); Holm over the five at {alpha:g}, and over the {what} within minimality. Strict tests "
        "that reject nothing leave the question open.",
        settings={"ablation": ablation, "epsilon": epsilon, "quantile": quantile, "draws": draws, "n": n,
                  "permutations": permutations, **{f"p_holm {t.name}": t.p_holm for t in tests}},
        not_done=(NotDone(what="a null beside the tests", why="each is itself a comparison with random circuits"),),
    )  # fmt: skip
    return CircuitTests(tests, tuple(idle), alpha, n, (evidence,))
