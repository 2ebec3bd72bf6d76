"""The arms beside a graph's own trial: the same procedure on what learned nothing, and on what is simpler.

| arm | what is traced and measured |
|---|---|
| re-randomised model | every matrix Gaussian with its own mean and variance, with a dictionary trained on it |
| untrained dictionary | the same model; random encoder, decoders fitted by least squares |
| raw neurons | the same model; each neuron a feature |
| paraphrases | the same model and dictionary; other prompts |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.core import CutawayError, NotDone
from cutaway.core.protocols import TranscoderSet
from cutaway.evidence import rerandomise
from cutaway.features import DictionarySettings, load, untrained
from cutaway.features.fit import own_text
from cutaway.features.train import facts_of
from cutaway.graphs import nodes as kinds
from cutaway.graphs.graph import AttributionGraph
from cutaway.graphs.trace import graph_of
from cutaway.graphs.trial import Plan, Trial, try_graph
from cutaway.model import Model

TWIN = "re-randomised model"
UNTRAINED = "untrained dictionary"
NEURONS = "raw neurons"
PARAPHRASES = "paraphrases"
# An untrained dictionary's decoders take a solve of [F, F] a layer; the text for it, forwards of the model.
_MOST_FEATURES, _MOST_PARAMETERS = 4096, 20_000_000
_TEXT_ROWS, _TEXT_LENGTH = 64, 40


@dataclass(frozen=True)
class Arms:
    """Trials by the arm's name; what was not done, and why."""

    trials: dict[str, Trial] = field(default_factory=dict)
    paraphrases: tuple[Trial, ...] = ()
    not_done: tuple[NotDone, ...] = ()


def run_arms(
    model: Model,
    dictionary: TranscoderSet,
    graph: AttributionGraph,
    plan: Plan,
    *,
    quick: bool = False,
    twin: tuple[Model, TranscoderSet] | None = None,
    paraphrases: Sequence[str] = (),
) -> Arms:
    """Trace and measure the arms. With `quick` none is run, and that is said.

    twin: a re-randomised model and the dictionary trained on it. Without it, `<dictionary's folder>-null` is looked for
    beside the dictionary.
    """
    if quick:
        return Arms(not_done=tuple(NotDone(what=n, why="quick") for n in (TWIN, UNTRAINED, NEURONS, PARAPHRASES)))
    makers: dict[str, Callable[[], Trial]] = {
        TWIN: lambda: _trial(*(twin or _twin(model, dictionary)), graph, plan, own_target=True),
        UNTRAINED: lambda: _trial(model, _untrained(model, dictionary, graph, plan.seed), graph, plan),
        NEURONS: lambda: _trial(model, _neurons(model), graph, plan),
    }
    trials, missing = {}, []
    for name, make in makers.items():
        try:
            trials[name] = make()
        except _Absent as absent:
            missing.append(NotDone(what=name, why=str(absent)))
        except CutawayError as error:
            missing.append(NotDone(what=name, why=f"could not be traced: {error}"))
    if not paraphrases:
        missing.append(NotDone(what=PARAPHRASES, why="no other prompts were given"))
    others = tuple(
        try_graph(model, dictionary, graph_of(model, prompt, dictionary), plan)
        for prompt in paraphrases
        if prompt != graph.prompt
    )
    return Arms(trials, others, tuple(missing))


class _Absent(Exception):
    """An arm that cannot be had here, in words."""


def _trial(
    model: Model, dictionary: TranscoderSet, graph: AttributionGraph, plan: Plan, own_target: bool = False
) -> Trial:
    """The same prompt traced for the same target, and tried. `own_target`: where none was chosen, what `model` says."""
    chosen = not (own_target and graph.target["kind"] == "likely")
    tokens = [int(token) for token in graph.target["tokens"]]
    target: dict[str, Any] = {"position": int(graph.target["position"])}
    if graph.target["kind"] == "contrast":
        target["contrast"] = (tokens[0], tokens[1])
    elif chosen:
        target["target"] = tokens[int(np.argmax(graph.probabilities))]
    return try_graph(model, dictionary, graph_of(model, list(graph.tokens), dictionary, **target), plan)


def _twin(model: Model, dictionary: TranscoderSet) -> tuple[Model, TranscoderSet]:
    """The re-randomised model that `<folder>-null` was trained on. Raises _Absent."""
    folder: Path | None = getattr(dictionary, "folder", None)
    beside = None if folder is None else folder.with_name(folder.name + "-null")
    if beside is None or not beside.is_dir():
        raise _Absent(
            "no dictionary trained on the re-randomised model lies beside this one; train one on "
            "`cutaway.evidence.rerandomise(model)` and give both as twin="
        )
    null = load(beside)
    if not isinstance(null, TranscoderSet):
        raise _Absent(f"{beside.name} is no transcoder set")
    trained_on = str(getattr(getattr(null, "model", None), "fingerprint", ""))
    for embeddings in ("keep", "redraw"):
        made = rerandomise(model, embeddings)  # type: ignore[arg-type]
        if not trained_on or facts_of(made).fingerprint == trained_on:
            return made, null
    raise _Absent(f"{beside.name} was trained on another model than the re-randomised twin of this one")


def _untrained(model: Model, dictionary: TranscoderSet, graph: AttributionGraph, seed: int) -> TranscoderSet:
    """An untrained dictionary with as many features, and as many active a token, on text that the model writes."""
    n_features, size = dictionary.n_features, model.facts.n_parameters
    if n_features > _MOST_FEATURES or size > _MOST_PARAMETERS:
        raise _Absent(
            f"fitting one here costs too much for {n_features} features a layer on {size / 1e6:.0f}M parameters "
            f"(done up to {_MOST_FEATURES} and {_MOST_PARAMETERS / 1e6:.0f}M)"
        )
    active = int((graph.nodes.kind == kinds.FEATURE).sum()) + graph.n_unexplored
    l0 = max(1, round(active / (len(graph.tokens) * dictionary.n_layers)))
    settings = DictionarySettings(name="untrained", kind=dictionary.kind, features=n_features, l0=l0, seed=seed)
    return untrained(model, own_text(model, seed, _TEXT_ROWS, _TEXT_LENGTH), settings)


def _neurons(model: Model) -> TranscoderSet:
    raise _Absent("not here yet")
