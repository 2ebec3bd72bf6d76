"""What stands beside an alignment: nulls, baselines, the row-space test, divergence, and the items that fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from cutaway.abstraction.counterfactuals import Hypothesis
from cutaway.abstraction.counterfactuals import shown as spelled
from cutaway.abstraction.data import Data, Spot
from cutaway.abstraction.featurizers import (
    Coordinates,
    DictionaryFeatures,
    Featurizer,
    Subspace,
    Whole,
    random_subspace,
)
from cutaway.abstraction.illusion import Cut, divergence, natural_cut, read_cut
from cutaway.abstraction.measure import Cell, Measured, measure
from cutaway.abstraction.nonlinear import Nonlinear
from cutaway.abstraction.places import Place
from cutaway.abstraction.score import Score, beside, share
from cutaway.abstraction.written import right
from cutaway.core import Estimate, Evidence, NotDone, TailItem

if TYPE_CHECKING:
    from cutaway.abstraction.items import Settings

DRAWS = 5  # random subspaces
SHOWN = 40  # failing items that are kept


@dataclass(frozen=True, eq=False)
class Found:
    """What an alignment found on its data: featurizers [seed][variable], and how they do on the items `test`."""

    data: Data
    places: tuple[Place, ...]
    spots: tuple[Spot, ...]
    featurizers: list[list[Featurizer]]
    train: Tensor
    test: Tensor
    measured: Measured


@dataclass(frozen=True, eq=False)
class Arm:
    """Another way to do the same: its hits [draw, item] on the held-out items, or why there are none."""

    name: str
    hits: Tensor | None
    kind: Literal["null", "baseline"]
    why: str = ""


def beside_it(
    found: Found, arms: Sequence[Arm], settings: Settings, hypotheses: Mapping[str, Hypothesis], *, learned: bool,
    quick: bool,
) -> tuple[tuple[Evidence, ...], Estimate]:  # fmt: skip
    """The evidence, and the divergence."""
    data, test, mine = found.data, found.test, found.measured.hits
    every = [*_random_arms(found, settings), *arms, *_simple_arms(found)]
    not_done = [NotDone(what=arm.name, why=arm.why) for arm in every if arm.hits is None]
    if learned and quick:
        not_done.append(NotDone(what="shuffled labels, untrained network", why="quick was asked for"))
    if not hypotheses:
        not_done.append(NotDone(what="a wrong causal model", why="no rivals= were given"))
    if learned and len(settings.seeds) < 3:
        not_done.append(NotDone(what="three seeds", why=f"{len(settings.seeds)} were asked for"))
    not_done.append(NotDone(what="a paraphrase", why="prompts are those of the causal model; give another prompt="))
    compared = {
        kind: tuple(
            beside(mine, arm.hits, arm.name, settings.seed)
            for arm in every
            if arm.kind == kind and arm.hits is not None
        )
        for kind in ("null", "baseline")
    }
    what = ", ".join(f"{v} at {place}" for v, place in zip(data.variables, found.places))
    score = Score(mine, data.changes[test])
    main = Evidence(
        claim=f"{data.model.name} computes as {data.causal.name} says, with {what}",
        effect=score.iia,
        nulls=compared["null"],
        baselines=compared["baseline"],
        seeds=tuple(settings.seeds) if learned else (settings.seed,),
        how=f"Interchange interventions on {len(test)} held-out items ({data.pairs.held_out} not seen in training), "
        "half of which change the answer; a hit is the causal model's counterfactual output as the largest logit. "
        "Intervals are Wilson's over items, differences paired bootstraps over items.",
        settings={
            "model": data.model.name, "causal_model": data.causal.name, "seed": settings.seed, "n": settings.n,
            "n_test": len(test), "steps": settings.training.steps, "batch": settings.training.batch,
            "rate": settings.training.rate, "only_right": settings.only_right,
            "sizes": [f.size for f in found.featurizers[0]],
        },
        residual_tail=tuple(
            TailItem(item=one["base"], predicted=1.0, measured=one["share"]) for one in failures(found)[:5]
        ),
        not_done=tuple(not_done),
    )  # fmt: skip
    first = found.featurizers[0]
    read = [read_cut(data, spot, f, test) for spot, f in zip(found.spots, first)]
    natural = [natural_cut(data, spot, f, test, found.train) for spot, f in zip(found.spots, first)]
    more = [
        _by_parts(
            found, read, "What the subspace does, the part of it that is read does alone", "the part that is read"
        ),
        _by_parts(found, natural, "What the subspace does, its natural part does alone", "the natural part"),
    ]
    apart = divergence(data, found.spots, first, found.train, test)
    return (main, *(one for one in more if one is not None)), apart


def _random_arms(found: Found, settings: Settings) -> list[Arm]:
    """Random features of the same kind and size, several draws."""
    if all(place.how == "whole" for place in found.places):
        return [Arm("random subspaces", None, "null", why="the whole vector is exchanged")]
    generator = torch.Generator().manual_seed(settings.seed)
    drawn = [
        [random_like(featurizer, spot.width, generator) for featurizer, spot in zip(found.featurizers[0], found.spots)]
        for _ in range(DRAWS)
    ]
    cells = [Cell(found.spots, found.data.wanted)] * DRAWS
    return [
        Arm(
            f"random features of the same size ({DRAWS} draws)",
            measure(found.data, cells, drawn, found.test).hits,
            "null",
        )
    ]


def random_like(like: Featurizer, width: int, generator: torch.Generator) -> Featurizer:
    if isinstance(like, Whole):
        return like
    if isinstance(like, Coordinates):
        return Coordinates(tuple(torch.randperm(width, generator=generator)[: like.size].tolist()), width)
    if isinstance(like, DictionaryFeatures):
        total = int(like.dictionary.encode(torch.zeros(1, width)).shape[-1])
        return DictionaryFeatures(
            tuple(torch.randperm(total, generator=generator)[: like.size].tolist()), like.dictionary
        )
    if isinstance(like, Nonlinear):
        return Nonlinear.random(width, like.size, generator)
    return Subspace(random_subspace(width, like.size, generator), "random")


def _simple_arms(found: Found) -> list[Arm]:
    """The whole vector exchanged; and nothing, a null: an exchange that changes nothing is no success."""
    data, test = found.data, found.test
    arms = []
    if not all(place.how == "whole" for place in found.places):
        whole: list[list[Featurizer]] = [[Whole(spot.width) for spot in found.spots]]
        hits = measure(data, [Cell(found.spots, data.wanted)], whole, test).hits
        arms.append(Arm("the whole vector exchanged", hits, "baseline"))
    alone = right(data.continuation.logits[test.to(data.continuation.logits.device)], data.wanted[test]).cpu()[None]
    arms.append(Arm("nothing exchanged", alone, "null"))
    return arms


def _by_parts(found: Found, cuts: Sequence[Cut | None], claim: str, name: str) -> Evidence | None:
    """Whether the inner parts alone do what the subspaces do; None where nothing was cut off."""
    known = [cut for cut in cuts if cut is not None]
    if len(known) < len(cuts) or not known or all(cut.outside is None for cut in known):
        return None
    data, test = found.data, found.test
    none = [Subspace(torch.zeros(0, spot.width)) for spot in found.spots]
    inner = [cut.inside or empty for cut, empty in zip(known, none)]
    outer = [cut.outside or empty for cut, empty in zip(known, none)]
    cells = [Cell(found.spots, data.wanted)] * 2
    hits = measure(data, cells, [inner, outer], test).hits
    off = max(cut.share for cut in known)
    return Evidence(
        claim=claim,
        effect=share(hits[:1], f"IIA of {name} alone"),
        nulls=(beside(hits[:1], hits[1:], "IIA of the rest alone"),),
        baselines=(beside(hits[:1], found.measured.hits[:1], "the whole subspace"),),
        seeds=(0,),
        how=f"After Makelov et al. 2023, first seed. The part is cut by {known[0].span} ({known[0].dims} of "
        f"{found.spots[0].width} directions). Of what the exchange writes, {off:.0%} in squared length lies outside.",
        settings={
            "dims": [cut.dims for cut in known],
            "outside": [cut.share for cut in known],
            "part": name,
            "activity": [cut.activity for cut in known],
        },
    )


def failures(found: Found) -> list[dict[str, Any]]:
    """Held-out items that fail in some seed, worst first: base, sources, what was said and expected."""
    data, hits = found.data, found.measured.hits
    share_right = hits.double().mean(0)
    order = [i for i in share_right.argsort(stable=True).tolist() if share_right[i] < 1][:SHOWN]
    rows = []
    for i in order:
        item = int(found.test[i])
        seed = int((~hits[:, i]).nonzero()[0])
        rows.append(
            {
                "base": _text(data.rows.prompts[item], data.pairs.base[item]),
                "sources": {
                    v: _text(data.source_rows[slot].prompts[item], data.pairs.sources[slot][item])
                    for slot, v in enumerate(data.variables)
                    if bool(data.pairs.which[item, slot])
                },
                "expected": _tokens(data, [t for t in data.wanted[item].tolist() if t >= 0]),
                "before": _tokens(data, [t for t in data.unchanged[item].tolist() if t >= 0]),
                "said": _tokens(data, [int(found.measured.said[seed, i])]),
                "changes": bool(data.changes[item]),
                "share": float(share_right[i]),
            }
        )
    return rows


def _text(prompt: Any, values: Mapping[str, Any]) -> str:
    return prompt if isinstance(prompt, str) else spelled(values)


def _tokens(data: Data, ids: list[int]) -> str:
    names = data.model.token_strings(ids[:4]) if data.model.tokenizer is not None else [str(i) for i in ids[:4]]
    return " or ".join(name.strip() or repr(name) for name in names) + (" …" if len(ids) > 4 else "")
