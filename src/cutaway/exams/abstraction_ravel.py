"""RAVEL (Huang et al. 2024) on a model that knows its facts: is each attribute of an entity held apart from the others?

The entities kept are those that the model answers rightly, whatever is asked of them; of those its subspaces are
learned on some (their MDAS: jointly, orthogonal) and measured on others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.core import CutawayError, InputError, UnknownName
from cutaway.exams.abstraction_cases import Case

FRAMES_TRIED, ENTITIES_TRIED, ENTITIES = 8, 40, 400
KNOWN = 0.3  # of the entities tried, and more than one answer for all would get: else an attribute is not known
LEAST = 24  # entities that are answered rightly on all counts


def ravel_case(
    model: Any, data: str | Path | None, entity: str = "city", attributes: Sequence[str] = (), *, frames: int = 2,
    seed: int = 0,
) -> Case:  # fmt: skip
    """The case on `model` (loaded, or anything `cutaway.load` takes). data: RAVEL's data.tgz, or the folder in it.
    attributes: by default those that the model answers best, three at most. frames: prompts for each, the best of
    eight. An answer is right when its first token is the likeliest.

    Costs about 3,000 forwards of a prompt. Raises InputError, UnknownName; CutawayError where the model knows too
    little: fewer than two attributes, or 24 entities of which it knows them all.
    """
    import cutaway as cw
    from cutaway.tasks.ravel import read_files

    if data is None:
        raise InputError("give RAVEL's data: --data data.tgz (from github.com/explanare/ravel), or the folder in it.")
    files = read_files(Path(data), entity)
    network = model if isinstance(model, cw.Model) else cw.load(model)
    if network.tokenizer is None:
        raise InputError(f"{network.name} has no tokenizer: RAVEL's prompts are text.")
    asked = {name: _frames(texts) for name, texts in files["attribute_to_prompts"].items()}
    for name in attributes:
        if not asked.get(name):
            raise UnknownName(f"attribute of {entity}", name, [n for n, texts in asked.items() if texts])
    if len(set(attributes)) == 1:
        raise InputError(f"one attribute, {attributes[0]}, can't be told apart from others; name at least two.")
    rng = np.random.default_rng(np.random.SeedSequence([20331, seed]))
    values: dict[str, dict[str, Any]] = files["entity_attributes"]
    names = [str(n) for n in rng.permutation(sorted(values))]
    chosen = _best(network, names, values, {n: asked[n] for n in attributes or asked}, frames, rng)
    told = ", ".join(f"{name} {one.share:.0%} (one answer for all {one.one:.0%})" for name, one in chosen.items())
    known = {name: one for name, one in chosen.items() if one.share >= KNOWN and one.share > one.one}
    if not attributes:
        chosen = dict(sorted(known.items(), key=lambda item: -item[1].share)[:3])
    if len(chosen) < 2 or not known:
        raise CutawayError(
            f"{network.name} does not know RAVEL's {entity}: its likeliest token is right for {told} of "
            f"{ENTITIES_TRIED}, by the best prompts of each attribute. Give a model that knows them (--model)."
        )
    best = {name: one.texts for name, one in chosen.items()}
    kept = _known(network, names, values, best)
    for name in best:
        if kept and len(said := {values[one][name] for one in kept}) < 2:
            raise CutawayError(
                f"{network.name} gives {len(kept)} of RAVEL's {entity} the same {name}, {said.pop()}: it does not tell "
                "them apart. Name other attributes, or another model."
            )
    if len(kept) < LEAST:
        raise CutawayError(
            f"{network.name} knows {', '.join(best)} of only {len(kept)} among {min(ENTITIES, len(names))} of RAVEL's "
            f"{entity}, and {LEAST} are needed (by attribute: {told}). Name fewer attributes, or another model."
        )
    return _case(network, entity, kept, values, best, min(ENTITIES, len(names)))


@dataclass(frozen=True)
class _Asked:
    """An attribute's best prompts; the share of entities that they get right, and that one answer for all would."""

    share: float
    one: float
    texts: list[str]


def _frames(texts: Sequence[str]) -> list[str]:
    return [text for text in texts if text.count("%s") == 1]


def _right(network: Any, asked: Sequence[tuple[str, str, str]]) -> list[bool]:
    """Whether (frame, entity, value) is answered rightly. One forward each."""
    import torch

    from cutaway.model.sweeps.replay import unembedded
    from cutaway.tasks.reading import reader

    own = reader(network)
    wanted = _first(own, asked)
    rows = own.rows([frame.replace("%s", name) for frame, name, _ in asked])
    hits: list[bool] = []
    with torch.no_grad():
        for at in range(0, len(rows), 64):
            batch = network.batch([list(row) for row in rows[at : at + 64]])
            ends = torch.tensor([batch.layout.own(i, -1, "the answer") for i in range(len(batch.mask))])
            said = unembedded(network, batch, ends).argmax(-1).tolist()
            hits += [a == b for a, b in zip(said, wanted[at : at + 64])]
    return hits


def _first(own: Any, asked: Sequence[tuple[str, str, str]]) -> list[int | None]:
    """The first token of each value after its prompt; None where the text can't be cut there, or the entity from its
    prompt."""
    from cutaway.tasks.builder import joins

    texts = [frame.replace("%s", name) for frame, name, _ in asked]
    tails = own.continuations(texts, [value if joins(t) else f" {value}" for t, (_, _, value) in zip(texts, asked)])
    whole, cut = own.rows(texts), own.rows([_upto(frame, name) for frame, name, _ in asked])
    return [
        tail[0] if tail and row[: len(part)] == part and not own.unknown(row) else None
        for tail, row, part in zip(tails, whole, cut)
    ]


def _upto(frame: str, name: str) -> str:
    return frame[: frame.index("%s")] + name


def _best(
    network: Any, names: Sequence[str], values: Any, asked: dict[str, list[str]], frames: int, rng: np.random.Generator
) -> dict[str, _Asked]:
    """Of each attribute."""
    from cutaway.tasks.reading import reader

    found = {}
    for attribute, texts in asked.items():
        some = [n for n in names if values[n].get(attribute)][:ENTITIES_TRIED]
        tried = [texts[int(i)] for i in rng.permutation(len(texts))[:FRAMES_TRIED]]
        if not some or not tried:
            continue
        asks = [(frame, name, str(values[name][attribute])) for frame in tried for name in some]
        share = np.array(_right(network, asks)).reshape(len(tried), len(some)).mean(1)
        best = np.argsort(-share, kind="stable")[:frames]
        commonest = Counter(_first(reader(network), asks[: len(some)])).most_common(1)[0][1]
        texts = [tried[int(i)] for i in best]
        found[attribute] = _Asked(float(share[best].mean()), commonest / len(some), texts)
    return found


def _known(network: Any, names: Sequence[str], values: Any, best: dict[str, list[str]]) -> list[str]:
    """The entities that are answered rightly by every prompt of every attribute."""
    kept = [n for n in names if all(values[n].get(attribute) for attribute in best)][:ENTITIES]
    for attribute, texts in best.items():
        for frame in texts:
            right = _right(network, [(frame, name, str(values[name][attribute])) for name in kept]) if kept else []
            kept = [name for name, is_right in zip(kept, right) if is_right]
    return sorted(kept)


def _case(network: Any, entity: str, kept: list[str], values: Any, best: dict[str, list[str]], tried: int) -> Case:
    from cutaway.abstraction import CausalModel, NoMeaning, subspace
    from cutaway.tasks.reading import reader

    own = reader(network)
    forms = range(min(map(len, best.values())))
    asks = {
        (attribute, form, value): (best[attribute][form], kept[0], value)
        for attribute in best
        for form in forms
        for value in {str(values[name][attribute]) for name in kept}
    }
    token = dict(zip(asks, _first(own, list(asks.values()))))

    def text(v: Any) -> str:
        return best[v["question"]][v["form"]].replace("%s", v["entity"])

    def last(v: Any) -> int:
        return len(own.rows([_upto(best[v["question"]][v["form"]], v["entity"])])[0]) - 1

    def said(question: str, form: int, *of: str) -> int:
        value = dict(zip(best, of))[question]
        if (found := token[question, form, value]) is None:
            raise NoMeaning(f"{value!r} shares a token with what stands before it")
        return found

    attributes: dict[str, Any] = {name: (("entity",), lambda e, name=name: str(values[e][name])) for name in best}
    causal = CausalModel(
        {"entity": tuple(kept), "question": tuple(best), "form": tuple(forms)},
        {**attributes, "said": (("question", "form", *best), said)},
        name=f"RAVEL, {entity}: {', '.join(best)}",
        prompt=lambda v: list(own.rows([text(v)])[0]),
        answer=int,
        positions={"entity": last},
        held_out=("entity",),
    )
    facts = network.facts
    layer, dims = facts.n_layers // 3, max(2, facts.d_model // (4 * len(best)))
    about = f"{', '.join(best)} of a {entity.replace('_', ' ')}, of which {network.name} knows {len(kept)} of {tried}"
    return Case(
        "ravel", about,
        causal, {name: subspace(f"resid_post.{layer}", "entity", dims=dims) for name in best}, network,
        n=1200, n_test=400, steps=300, batch=48, sweep=(next(iter(best)), ("resid_pre.0", "resid_post.*"), None),
    )  # fmt: skip
