"""`align`: does a network have this variable there? Trained on some counterfactuals, measured on others, beside what
could do the same by chance or more simply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from cutaway.abstraction.alignment import Alignment
from cutaway.abstraction.arms import Arm, Found, beside_it, failures
from cutaway.abstraction.causal_model import CausalModel
from cutaway.abstraction.counterfactuals import Hypothesis, check
from cutaway.abstraction.data import Data, Spot
from cutaway.abstraction.featurizers import Featurizer
from cutaway.abstraction.items import LEAST, Settings, drawn, split
from cutaway.abstraction.measure import Cell, measure
from cutaway.abstraction.places import Place
from cutaway.abstraction.score import Score, attributes, share
from cutaway.abstraction.train import Training, train
from cutaway.abstraction.written import same_width
from cutaway.core import InputError
from cutaway.model import Model

Rivals = Mapping[str, tuple[CausalModel, str | Sequence[str]]]


def align(
    model: Model,
    causal_model: CausalModel,
    places: Mapping[str, Place],
    *,
    n: int = 512,
    n_test: int = 256,
    seeds: Sequence[int] = (0, 1, 2),
    training: Training | None = None,
    rivals: Rivals | None = None,
    untrained: Model | Literal["auto"] | None = "auto",
    only_right: bool = True,
    quick: bool = False,
    seed: int = 0,
    progress: bool | None = None,
) -> Alignment:
    """Look for variables of `causal_model` at places of a network.

    places: variable -> place (`subspace`, `whole`, `neurons`, `dictionary_features`). n: counterfactuals to train on;
    n_test: others, of inputs that training never saw, to measure on. Half of each change the answer. seeds: of what is
    learned (its start); fewer than three are said in the evidence. only_right: leave out items where the network is
    wrong on the base or on a source. training: steps, batch and rate.
    rivals: name -> (another causal model of the same inputs, its variable or variables), looked for in the same places
    on the same items. untrained: a network that learned nothing, "auto" for one made of this model. quick: no shuffled
    labels, no untrained network (and the evidence says so). seed: of the items and of random subspaces.

    Several variables: each item exchanges a random non-empty set of them, each from a source of its own; where their
    rotations share a vector, their subspaces are orthogonal.

    Costs two forwards of all base prompts, one of the sources', and `steps` forwards and backwards of batch x
    (seeds + controls) lanes from the first changed block and position on; the same again for the untrained network.
    Raises InputError: a causal model without prompt=, a place or position that does not exist, answers that never
    change; CutawayError where too few held-out items are left.
    """
    variables = tuple(places)
    check(causal_model, variables)
    settings = Settings(n, n_test, tuple(seeds), seed, only_right, training or Training())
    _check(settings, places)
    hypotheses = _hypotheses(rivals or {}, causal_model, variables)
    pairs, first_test = drawn(causal_model, variables, settings, list(hypotheses.values()))
    data = Data(model, causal_model, variables, pairs, [place.at for place in places.values()])
    rows, test = split(data, first_test, only_right)
    listed = list(places.values())
    spots = tuple(data.spot(place, slot) for slot, place in enumerate(listed))
    learned = any(place.learned for place in listed)
    tried = settings.seeds if learned else settings.seeds[:1]
    own = [Cell(spots, data.wanted, s) for s in tried]
    extra = _extra(data, spots, hypotheses, rows, settings, learned and not quick)
    featurizers = train(data, listed, [*own, *(cell for _, cell in extra)], rows, settings.training, progress)
    mine = measure(data, own, featurizers[: len(own)], test)
    found = Found(data, tuple(listed), spots, featurizers[: len(own)], rows, test, mine)
    arms = _trained_arms(found, extra, featurizers[len(own) :], hypotheses)
    if not quick and learned:
        arms += _untrained_arm(model, untrained, found, settings, progress)
    evidence, apart = beside_it(found, arms, settings, hypotheses, learned=learned, quick=quick)
    score = Score(mine.hits, data.changes[test])
    several = len(variables) > 1
    differs = pairs.take(test.tolist()).differs(causal_model, variables) if several else None
    return Alignment(
        model=model.name,
        fingerprint=model.fingerprint,
        causal=causal_model.to_json(),
        svg=causal_model.to_svg({v: place.where for v, place in places.items()}),
        places=dict(places),
        featurizers=tuple(tuple(row) for row in found.featurizers),
        settings=settings,
        seeds=tried,
        competence=share(data.competent[first_test:][None], "the network is right on base and sources"),
        rate=pairs.rate,
        held_out=pairs.held_out,
        score=score,
        attributes=() if differs is None else attributes(variables, score, pairs.which[test], differs),
        loss=mine.loss,
        evidence=evidence,
        divergence=apart,
        failures=failures(found),
        how_run=data.continuation.reason,
    )


def _check(settings: Settings, places: Mapping[str, Place]) -> None:
    for variable, place in places.items():
        if not isinstance(place, Place):
            raise InputError(
                f"{variable} has a {type(place).__name__} for its place; give cw.subspace(point, positions=…)."
            )
    if settings.n < LEAST or settings.n_test < LEAST:
        raise InputError(f"n= and n_test= are at least {LEAST}; given {settings.n} and {settings.n_test}.")
    if not settings.seeds or len(set(settings.seeds)) < len(settings.seeds):
        raise InputError(f"seeds= are different numbers, at least one; given {list(settings.seeds)}.")


def _hypotheses(rivals: Rivals, model: CausalModel, variables: tuple[str, ...]) -> dict[str, Hypothesis]:
    found: dict[str, Hypothesis] = {}
    for name, (rival, its) in rivals.items():
        its = (its,) if isinstance(its, str) else tuple(its)
        check(rival, its)
        if len(its) > len(variables):
            raise InputError(f"the rival {name} has {len(its)} variables for {len(variables)} places.")
        if set(rival.inputs) != set(model.inputs):
            raise InputError(
                f"the rival {name} has inputs {', '.join(rival.inputs)}, and {model.name} {', '.join(model.inputs)}: "
                "rivals are compared on the same inputs."
            )
        found[name] = (rival, its)
    return found


def _extra(
    data: Data, spots: tuple[Spot, ...], hypotheses: Mapping[str, Hypothesis], rows: Tensor, settings: Settings,
    shuffled: bool,
) -> list[tuple[str, Cell]]:  # fmt: skip
    """Controls that are trained in the same batches: shuffled labels, and rival causal models."""
    first = settings.seeds[0]
    extra: list[tuple[str, Cell]] = []
    if shuffled:
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(settings.seed))
        labels = data.wanted.clone()
        labels[rows] = data.wanted[rows[order]]
        extra.append(("shuffled labels", Cell(spots, labels, first)))
    for name, (rival, its) in hypotheses.items():
        extra.append((name, Cell(spots, data.labels(rival, its), first)))
    return extra


def _trained_arms(
    found: Found, extra: Sequence[tuple[str, Cell]], featurizers: Sequence[list[Featurizer]],
    hypotheses: Mapping[str, Hypothesis],
) -> list[Arm]:  # fmt: skip
    arms = []
    for (name, cell), mine in zip(extra, featurizers):
        # Shuffled labels are for training alone; a rival is measured by its own.
        judged = cell if name in hypotheses else Cell(cell.spots, found.data.wanted, cell.seed)
        hits = measure(found.data, [judged], [mine], found.test).hits
        label = f"{name}, learned"
        if name in hypotheses:  # a rival that says the same of most items is no rival
            theirs, ours = same_width([cell.wanted[found.test], found.data.wanted[found.test]])
            label = f"rival: {name} (says otherwise of {float((theirs != ours).any(1).double().mean()):.0%})"
        arms.append(Arm(label, hits, "null"))
    return arms


def _untrained_arm(
    model: Model, untrained: Model | str | None, found: Found, settings: Settings, progress: bool | None
) -> list[Arm]:
    """The same training on a network that learned nothing, measured by the same labels."""
    if untrained is None:
        return [Arm("untrained network", None, "null", why="untrained=None was asked for")]
    try:
        twin = untrained_twin(model, settings.seed) if isinstance(untrained, str) else untrained
    except InputError as error:
        return [Arm("untrained network", None, "null", why=str(error))]
    data = Data(twin, found.data.causal, found.data.variables, found.data.pairs, [p.at for p in found.places])
    spots = tuple(data.spot(place, slot) for slot, place in enumerate(found.places))
    cells = [Cell(spots, data.wanted, settings.seeds[0])]
    learned = train(data, found.places, cells, found.train, settings.training, progress, "untrained network")
    return [Arm("untrained network, learned", measure(data, cells, learned, found.test).hits, "null")]


def untrained_twin(model: Model, seed: int) -> Model:
    from cutaway.evidence import rerandomise, step0

    return step0(model, seed=seed) if model.architecture is None else rerandomise(model, seed=seed)
