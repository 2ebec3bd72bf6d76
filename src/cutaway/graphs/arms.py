"""The arms beside a graph's own trial: the same procedure on what learned nothing, and on what is simpler.

| arm | what is traced and measured |
|---|---|
| re-randomised model | every matrix Gaussian with its own mean and variance, with a dictionary trained on it |
| untrained dictionary | the same model; random encoder, decoders fitted by least squares |
| raw neurons | the same model; each neuron a feature |
| other prompts | the same model and dictionary; prompts of the same kind that ship with the model |
| paraphrases | the same; prompts that the caller gives, or that ship with an example |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.core import CutawayError, NotDone
from cutaway.core.protocols import TranscoderSet
from cutaway.core.registry import NULL, model_examples
from cutaway.evidence import rerandomise
from cutaway.features import DictionarySettings, load, untrained
from cutaway.features.fit import own_text
from cutaway.features.train import facts_of
from cutaway.graphs import nodes as kinds
from cutaway.graphs.graph import AttributionGraph
from cutaway.graphs.neurons import neurons
from cutaway.graphs.trace import graph_of
from cutaway.graphs.trial import Plan, Trial, try_graph
from cutaway.model import Model

TWIN = "re-randomised model"
UNTRAINED = "untrained dictionary"
NEURONS = "raw neurons"
OTHER_PROMPTS = "other prompts of the kind"
PARAPHRASES = "paraphrases"
# An untrained dictionary's decoders take a solve of [F, F] a layer; the text for it, forwards of the model.
_MOST_FEATURES, _MOST_PARAMETERS = 4096, 20_000_000
_TEXT_ROWS, _TEXT_LENGTH = 64, 40
_MOST_PROMPTS = 3


@dataclass(frozen=True)
class Arms:
    """Trials by the arm's name; what was not done, and why."""

    trials: dict[str, Trial] = field(default_factory=dict)
    others: tuple[Trial, ...] = ()
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

    twin: a re-randomised model and the dictionary trained on it. Without it, the folder `<dictionary>-null` is looked
    for beside the dictionary.
    """
    if quick:
        every = (TWIN, UNTRAINED, NEURONS, OTHER_PROMPTS, PARAPHRASES)
        return Arms(not_done=tuple(NotDone(what=name, why="left out (quick)") for name in every))
    makers: dict[str, Callable[[], Trial]] = {
        TWIN: lambda: _trial(*(twin or _twin(model, dictionary)), graph, plan, own_target=True),
        UNTRAINED: lambda: _trial(model, _untrained(model, dictionary, graph, plan.seed), graph, plan),
        NEURONS: lambda: _trial(model, neurons(model), graph, plan),
    }
    trials, missing = {}, []
    for name, make in makers.items():
        try:
            trials[name] = make()
        except _Absent as absent:
            missing.append(NotDone(what=name, why=str(absent)))
        except CutawayError as error:
            missing.append(NotDone(what=name, why=f"could not be traced: {error}"))

    def on(prompts: Sequence[str], name: str, why: str) -> tuple[Trial, ...]:
        if not prompts:
            missing.append(NotDone(what=name, why=why))
        return tuple(try_graph(model, dictionary, graph_of(model, one, dictionary), plan) for one in prompts)

    others = on(_same_kind(model, graph), OTHER_PROMPTS, "none of this kind ships with the model")
    same = on(paraphrases or _other_words(model, graph), PARAPHRASES, "none was given (--paraphrase, paraphrases=)")
    return Arms(trials, others, same, tuple(missing))


def repeated(n: int, what: str) -> str:
    """The name of an estimate over n prompts: "1 paraphrase", "mean over 3 paraphrases"."""
    return f"mean over {n} {what}s" if n > 1 else f"{n} {what}"


def _same_kind(model: Model, graph: AttributionGraph) -> list[str]:
    """Other prompts of the behaviour that the prompt is of, from those that ship with the model.

    Of which behaviour: that of the prompt which shares most of its tokens, if it shares half.
    """
    examples = model_examples(model.folder) if model.folder is not None and graph.target["kind"] == "likely" else []
    here = set(graph.tokens)
    tokens = [set(model.tokens(example["prompt"])[0].tolist()) for example in examples]
    shared = [len(here & other) / len(here | other) for other in tokens]
    if not shared or max(shared) < 0.5:
        return []
    kind = examples[int(np.argmax(shared))]["behaviour"]
    found = [e["prompt"] for e, other in zip(examples, tokens) if e["behaviour"] == kind and other != here]
    return found[:_MOST_PROMPTS]


def _other_words(model: Model, graph: AttributionGraph) -> list[str]:
    """The paraphrases that ship with the model, where the prompt is one of its examples."""
    examples = model_examples(model.folder) if model.folder is not None and graph.target["kind"] == "likely" else []
    return next((list(e.get("paraphrases", ())) for e in examples if e["prompt"] == graph.prompt), [])


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
    beside = None if folder is None else folder.with_name(folder.name + NULL)
    if beside is None or not beside.is_dir():
        raise _Absent(
            "no dictionary trained on the re-randomised model lies beside this one; the command that trained this one "
            "makes it with --twin (and, where it had --out DIR, with --out DIR-null)"
        )
    null = load(beside)
    if not isinstance(null, TranscoderSet):
        raise _Absent(f"{beside.name} is no transcoder set")
    trained_on = str(getattr(getattr(null, "model", None), "fingerprint", ""))
    for embeddings in ("keep", "redraw"):
        made = rerandomise(model, embeddings)
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
    settings = DictionarySettings.read(
        {"name": "untrained", "kind": dictionary.kind, "features": n_features, "l0": l0, "seed": seed}
    )
    return untrained(model, own_text(model, seed, _TEXT_ROWS, _TEXT_LENGTH), settings)
