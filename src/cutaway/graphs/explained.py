"""How much of the output a handful of features explains: what a reader of the graph looks at, measured against nulls.

The replacement score of the graph cut to its k features of most influence: the share of the logits' input, over all
paths, that comes from tokens through those features alone; whatever was cut counts as error. At equal k a dictionary
whose features mean nothing, or raw neurons, must spread the same influence over more of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cutaway.core import Comparison, Estimate, Evidence, Interval
from cutaway.graphs import nodes as kinds
from cutaway.graphs.arms import NEURONS, TWIN, UNTRAINED, Arms, repeated
from cutaway.graphs.graph import AttributionGraph
from cutaway.graphs.trial import Plan, Trial

FEATURES = 40
_RANDOM = "as many active features drawn at random"
Ints = npt.NDArray[np.int64]


def explained(main: Trial, arms: Arms, plan: Plan, k: int = FEATURES) -> Evidence:
    """The record. Cost: a cut of the graph and its scores for each arm, and for each of the plan's draws."""
    graph = main.graph
    every = np.flatnonzero(graph.nodes.kind == kinds.FEATURE)
    k = min(k, len(every))
    rng = np.random.default_rng(plan.seed + 3)
    drawn = np.array([_score(graph, rng.choice(every, k, replace=False)) for _ in range(plan.draws)])
    effect = _strongest(graph, k)

    def alone(name: str) -> list[Comparison]:
        if name not in arms.trials:
            return []
        estimate = Estimate(name=name, value=_strongest(arms.trials[name].graph, k), n=1)
        return [Comparison(estimate=estimate)]

    low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975])) if k else (math.nan, math.nan)
    method = f"95 % of {plan.draws} draws"
    null = Comparison(
        estimate=Estimate(
            name=_RANDOM, value=float(drawn.mean()), interval=Interval(low=low, high=high, method=method), n=plan.draws
        ),
        difference=Interval(low=effect - high, high=effect - low, method=method),
    )

    def again(trials: Sequence[Trial], what: str) -> Estimate | None:
        scores = [_strongest(trial.graph, k) for trial in trials]
        name = repeated(len(scores), what)
        return Estimate(name=name, value=float(np.mean(scores)), n=len(scores)) if scores else None

    return Evidence(
        claim=f"The {k} features of most influence explain the output",
        effect=Estimate(name=f"replacement score with {k} features", value=effect, n=1),
        nulls=(null, *alone(UNTRAINED), *alone(TWIN)),
        baselines=tuple(alone(NEURONS)),
        seeds=(plan.seed,),
        how=f"The graph was cut to its tokens, its logits and {k} features, and the graph of each arm to as many; "
        "everything else counts as error. One prompt: single numbers, no interval.",
        settings={"features": k, "replacement score of the whole graph": graph.scores.replacement},
        second_data=again(arms.others, "other prompt"),
        paraphrase=again(arms.paraphrases, "paraphrase"),
        not_done=arms.not_done,
    )


def _strongest(graph: AttributionGraph, k: int) -> float:
    every = np.flatnonzero(graph.nodes.kind == kinds.FEATURE)
    return _score(graph, every[np.argsort(-graph.nodes.influence[every], kind="stable")[:k]])


def _score(graph: AttributionGraph, rows: Ints) -> float:
    ids = graph.nodes.ids()
    return float(graph.subgraph([ids[row] for row in rows.tolist()]).scores.replacement)
