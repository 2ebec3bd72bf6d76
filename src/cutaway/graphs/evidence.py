"""The evidence for a graph: what it predicts beside what the real model does, with nulls, baselines and the tail.

Six claims, each an `Evidence` record:

1. a feature's influence says how much taking it out changes the target (published, on an 18-layer model: .72);
2. its signed effect over all paths is the effect that it has, with nothing held;
3. the same with attention patterns and norm scales held as the graph holds them, so that the features are tested alone;
4. an edge's weight says how its target's pre-activation changes when its source is taken out;
5. the features of most influence matter more than as many others, or than random directions of their norm;
6. taking out the ten of most influence together changes the model's answer.

Direct edges hold by construction; what is tested is what they say about the model that the graph was made from. Rank
correlations hide size, so 5 and 6 stand beside. Claim 1 is the published one, and its null is strong: how much a
direction matters is decided mostly by where it is written and by its norm, which random directions share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cutaway.core import Comparison, Estimate, Evidence, Interval, NotDone, TailItem
from cutaway.core.protocols import TranscoderSet
from cutaway.evidence import bootstrap, bootstrap_difference, correlation
from cutaway.evidence.statistics import mean, spearman
from cutaway.graphs import measure as ms
from cutaway.graphs import nodes as kinds
from cutaway.graphs.arms import NEURONS, TWIN, UNTRAINED, Arms, repeated, run_arms
from cutaway.graphs.explained import explained
from cutaway.graphs.graph import AttributionGraph
from cutaway.graphs.trial import Plan, Trial, readout, try_graph
from cutaway.model import Model

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Pair = tuple[Floats, Floats]  # predicted, measured
RANDOM = "random directions of equal norm"
OTHERS = "as many other active features"
TAIL = 10


def measure(
    model: Model,
    graph: AttributionGraph,
    dictionary: TranscoderSet,
    *,
    quick: bool = False,
    seed: int = 0,
    plan: Plan | None = None,
    twin: tuple[Model, TranscoderSet] | None = None,
    paraphrases: Sequence[str] = (),
) -> AttributionGraph:
    """The graph with its evidence and measurements. See `measure_graph`."""
    evidence, rows = measure_graph(
        model, dictionary, graph, quick=quick, seed=seed, plan=plan, twin=twin, paraphrases=paraphrases
    )
    return graph.with_evidence(evidence, rows)


def measure_graph(
    model: Model,
    dictionary: TranscoderSet,
    graph: AttributionGraph,
    *,
    quick: bool = False,
    seed: int = 0,
    plan: Plan | None = None,
    twin: tuple[Model, TranscoderSet] | None = None,
    paraphrases: Sequence[str] = (),
) -> tuple[tuple[Evidence, ...], tuple[Mapping[str, Any], ...]]:
    """Intervene on what the graph shows: (evidence, table of measurements). The graph must be whole, not pruned.

    quick: leaves out the arms that trace other graphs (re-randomised model, untrained dictionary, raw neurons,
    paraphrases) and says so. twin: a re-randomised model and its dictionary. paraphrases: prompts to do the same on.
    Cost: for each arm about 2 (top + sample features + sources of edges) rows of forwards of the prompt.
    """
    plan = plan or Plan.for_model(model, len(graph.tokens), seed)
    main = try_graph(model, dictionary, graph, plan)
    arms = run_arms(model, dictionary, graph, plan, quick=quick, twin=twin, paraphrases=paraphrases)
    records = [
        _agreement(_INFLUENCE, main, arms, plan),
        _agreement(_SIGNED, main, arms, plan),
        _agreement(_HELD, main, arms, plan),
        _agreement(_EDGES, main, arms, plan),
        _sizes(main, arms, plan),
        _together(model, main, arms, plan),
        explained(main, arms, plan),
    ]
    return tuple(records), tuple(main.items())


# ------------------------------------------------------------------------------------------ predicted and measured


@dataclass(frozen=True)
class _Claim:
    """One way in which a graph predicts, and how to take it from a trial."""

    text: str
    how: str
    over: str
    pair: Callable[[Trial], Pair]
    null: Callable[[Trial], Pair]  # the same with random directions
    simpler: tuple[str, Callable[[Trial], Pair]]  # what predicts with less
    settings: Callable[[Trial], dict[str, Any]]
    tail: Callable[[Trial], tuple[TailItem, ...]]


def _agreement(claim: _Claim, main: Trial, arms: Arms, plan: Plan) -> Evidence:
    pair, seed, over = claim.pair(main), plan.seed, claim.over

    def against(name: str, other: Pair, paired: bool) -> Comparison:
        apart = bootstrap_difference(pair, other, paired=paired, statistic=spearman, over=over, seed=seed)
        return Comparison(estimate=correlation(*other, name=name, over=over, seed=seed), difference=apart)

    def beside(*names: str) -> list[Comparison]:
        return [against(n, claim.pair(arms.trials[n]), False) for n in names if n in arms.trials]

    return Evidence(
        claim=claim.text,
        effect=correlation(*pair, name="Spearman, predicted against measured", over=over, seed=seed),
        nulls=(against(RANDOM, claim.null(main), True), *beside(TWIN, UNTRAINED)),
        baselines=(against(claim.simpler[0], claim.simpler[1](main), True), *beside(NEURONS)),
        seeds=(seed,),
        how=claim.how,
        settings={"target": main.target_name, **claim.settings(main)},
        second_data=_pooled([claim.pair(trial) for trial in arms.others], "other prompt", over, seed),
        paraphrase=_pooled([claim.pair(trial) for trial in arms.paraphrases], "paraphrase", over, seed),
        residual_tail=claim.tail(main),
        not_done=arms.not_done,
    )


def _pooled(pairs: list[Pair], what: str, over: str, seed: int) -> Estimate | None:
    """The mean over prompts of the correlation within each, with an interval over units within prompts."""
    if not pairs:
        return None
    each = [correlation(*pair, over=over, seed=seed + i) for i, pair in enumerate(pairs)]
    value, n = float(np.mean([one.value for one in each])), sum(one.n for one in each)
    name = repeated(len(each), what)
    ends = [one.interval for one in each if one.interval is not None]
    if len(ends) < len(each):
        return Estimate(name=name, value=value, n=n)
    # The prompts are given and their units are drawn independently: variances of the correlations add.
    half = float(np.sqrt(sum((end.high - end.low) ** 2 for end in ends))) / (2 * len(ends))
    interval = Interval(low=value - half, high=value + half, method=f"bootstrap over {over} within prompts")
    return Estimate(name=name, value=value, interval=interval, n=n)


def _slope(predicted: Floats, measured: Floats) -> float | None:
    """Of measured on predicted, through zero: 1 where sizes agree as well as ranks."""
    size = float((predicted**2).sum())
    return float((predicted * measured).sum()) / size if size > 0 else None


def _counts(trial: Trial) -> dict[str, Any]:
    f = trial.features
    return {"features of most influence": int(f.top.sum()), "sampled others": int((~f.top).sum())}


def _activation(trial: Trial) -> Floats:
    """Of each edge's source."""
    return trial.graph.nodes.activation[trial.edges.source].astype(np.float64)


def _feature_tail(trial: Trial, measured: Floats) -> tuple[TailItem, ...]:
    f = trial.features
    return _worst([trial.ids[row] for row in f.row], f.predicted, measured)


def _edge_tail(trial: Trial) -> tuple[TailItem, ...]:
    e = trial.edges
    names = [f"{trial.ids[source]}->{trial.ids[target]}" for source, target in zip(e.source, e.target)]
    return _worst(names, e.weight, e.measured)


def _worst(names: list[str], predicted: Floats, measured: Floats) -> tuple[TailItem, ...]:
    order = np.argsort(-np.abs(predicted - measured), kind="stable")[:TAIL]
    return tuple(
        TailItem(item=names[i], predicted=float(predicted[i]), measured=float(measured[i])) for i in order.tolist()
    )


def _within(predicted: Floats, measured: Floats, top: npt.NDArray[np.bool_], slope: bool = True) -> dict[str, Any]:
    """What the one correlation hides: among the top alone, among the others, and whether sizes agree."""
    return {
        "Spearman among the top": float(spearman(predicted[None, top], measured[None, top])[0]),
        "Spearman among the others": float(spearman(predicted[None, ~top], measured[None, ~top])[0]),
        **({"slope of measured on predicted": _slope(predicted, measured)} if slope else {}),
    }


_ABLATION = (
    "Each feature was taken out of the real model, by subtracting what it writes from the MLP outputs; attention, "
    "norms and later MLPs ran freely. "
)
_LOGIT = "of the target's logit, less the mean logit (or of the contrast)"
_INFLUENCE = _Claim(
    text="A feature's influence in the graph says how much taking it out changes the target",
    how=_ABLATION + f"Influence against the size of the change {_LOGIT}.",
    over="features",
    pair=lambda t: (t.features.influence, np.abs(t.features.measured)),
    null=lambda t: (t.features.influence, np.abs(t.features.random)),
    simpler=("the norm of what the feature writes", lambda t: (t.features.written, np.abs(t.features.measured))),
    settings=lambda t: {
        **_counts(t),
        **_within(t.features.influence, np.abs(t.features.measured), t.features.top, slope=False),
    },
    tail=lambda t: (),  # influence is a share, its effect in logits: no item has an error
)
_SIGNED = _Claim(
    text="A feature's signed effect over all paths of the graph is the effect that it has in the model",
    how=_ABLATION + f"Signed total effect in the graph against the signed change {_LOGIT}.",
    over="features",
    pair=lambda t: (t.features.predicted, t.features.measured),
    null=lambda t: (t.features.predicted, t.features.random),
    simpler=("the direct edge alone", lambda t: (t.features.direct, t.features.measured)),
    settings=lambda t: {**_counts(t), **_within(t.features.predicted, t.features.measured, t.features.top)},
    tail=lambda t: _feature_tail(t, t.features.measured),
)
_HELD = _Claim(
    text="With attention and norms held as the graph holds them, a feature's signed effect is the effect that it has",
    how="As the claim before, but attention patterns and norm scales stayed as they are on the prompt; later MLPs ran "
    "freely. What is lost between the two is lost to holding them.",
    over="features",
    pair=lambda t: (t.features.predicted, t.features.held),
    null=lambda t: (t.features.predicted, t.features.random_held),
    simpler=("the direct edge alone", lambda t: (t.features.direct, t.features.held)),
    settings=lambda t: {**_counts(t), **_within(t.features.predicted, t.features.held, t.features.top)},
    tail=lambda t: _feature_tail(t, t.features.held),
)
_EDGES = _Claim(
    text="An edge's weight says what its source adds to its target in the model",
    how="The source was taken out of the real model with nothing held; the change of the target's pre-activation, by "
    "every way there is, against the direct edge.",
    over="edges",
    pair=lambda t: (t.edges.weight, t.edges.measured),
    null=lambda t: (t.edges.weight, t.edges.random),
    simpler=("the source's activation", lambda t: (_activation(t), t.edges.measured)),
    settings=lambda t: {
        "edges of most influence": int(t.edges.top.sum()),
        "sampled others": int((~t.edges.top).sum()),
        **_within(t.edges.weight, t.edges.measured, t.edges.top),
        "Spearman with all paths of the graph in place of the direct edge": float(
            spearman(t.edges.paths[None], t.edges.measured[None])[0]
        ),
    },
    tail=_edge_tail,
)


# --------------------------------------------------------------------------------------------------- size of effects


def _sizes(main: Trial, arms: Arms, plan: Plan) -> Evidence:
    f, seed = main.features, plan.seed
    size = np.abs(f.measured)

    def estimate(name: str, values: Floats) -> Estimate:
        return bootstrap(values, statistic=mean, name=name, over="features", unit=" logits", seed=seed)

    def against(name: str, values: Floats, paired: bool) -> Comparison:
        apart = bootstrap_difference(size[f.top], values, paired=paired, over="features", seed=seed)
        return Comparison(estimate=estimate(name, values), difference=apart)

    neurons = arms.trials.get(NEURONS)
    theirs = None if neurons is None else np.abs(neurons.features.measured)[neurons.features.top]
    return Evidence(
        claim="The features of most influence matter more than others",
        effect=estimate("mean size of the change of the target's logit", size[f.top]),
        nulls=(against(RANDOM, np.abs(f.random)[f.top], True), against(OTHERS, size[~f.top], False)),
        baselines=() if theirs is None else (against(NEURONS, theirs, False),),
        seeds=(seed,),
        how=_ABLATION + "One feature at a time.",
        settings={"target": main.target_name, **_counts(main)},
        not_done=_without_neurons(arms),
    )


def _together(model: Model, main: Trial, arms: Arms, plan: Plan) -> Evidence:
    """The top features out at once. What it stands beside are draws: their intervals hold 95 % of the draws."""
    tokens, at = torch.tensor([main.graph.tokens]), readout(model, main.graph)
    best = main.features.row[main.features.top][: plan.together]
    every = np.flatnonzero(main.graph.nodes.kind == kinds.FEATURE)
    others = every[~np.isin(every, best)]
    rng = np.random.default_rng(plan.seed + 2)
    drawn = [rng.choice(others, min(len(best), len(others)), replace=False) for _ in range(plan.draws)]

    def change(trial: Trial, sets: list[Ints], directions: ms.Directions = "decoder") -> Floats:
        row = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
        changes = ms.ablations(
            trial.dictionary, trial.graph.nodes, np.concatenate(sets), row, directions=directions, seed=plan.seed
        )
        return np.abs(ms.measure_probability(model, tokens, changes, at))

    taken_out = float(change(main, [best])[0]) if len(best) else math.nan

    def draws(name: str, values: Floats) -> Comparison:
        low, high = (float(end) for end in np.quantile(values, [0.025, 0.975]))
        method = f"95 % of {len(values)} draws"
        around = Interval(low=low, high=high, method=method)
        return Comparison(
            estimate=Estimate(name=name, value=float(values.mean()), interval=around, n=len(values)),
            difference=Interval(low=taken_out - high, high=taken_out - low, method=method),
        )

    baselines: tuple[Comparison, ...] = ()
    if len(best) and (neurons := arms.trials.get(NEURONS)) is not None:
        largest = neurons.features.row[neurons.features.top][: len(best)]
        alone = Estimate(name=NEURONS, value=float(change(neurons, [largest])[0]), n=1)
        unsure = Interval(low=math.nan, high=math.nan, method="one measurement each")
        baselines = (Comparison(estimate=alone, difference=unsure),)
    return Evidence(
        claim=f"Taking out the {len(best)} features of most influence together changes the model's answer",
        effect=Estimate(name="change of the target's probability", value=taken_out, n=min(1, len(best))),
        nulls=(
            *([draws(RANDOM, change(main, [best] * plan.draws, "random"))] if len(best) else []),
            *([draws(OTHERS, change(main, drawn))] if len(best) and len(others) else []),
        ),
        baselines=baselines,
        seeds=(plan.seed,),
        how=_ABLATION + f"All {len(best)} at once; the probability of the target's token before and after.",
        settings={
            "target": main.target_name,
            "features": len(best),
            "probability before": float(at.probability(model.run(tokens).logits)[0]),
        },
        not_done=_without_neurons(arms),
    )


def _without_neurons(arms: Arms) -> tuple[NotDone, ...]:
    return tuple(item for item in arms.not_done if item.what == NEURONS)
