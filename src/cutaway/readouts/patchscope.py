"""Patchscopes: a hidden state is read by the model itself, put into another prompt that asks what it is.

The stream that a source prompt leaves at a point and position takes the place of the target prompt's, at a point and
position of its own, and the model goes on from there (Ghandeharioun et al. 2024, "Patchscopes"). The target is by
default the paper's token identity, `cat -> cat; 135 -> 135; hello -> hello; ?`, whose last token is replaced: its next
token then says what the state is about. Two measures, a layer and source:

    agreement   the model's top token in the target is its top token after the source
    surprisal   - log p(that token), nats

Nothing is trained. Beside it stand the logit lens (no target prompt at all) and the null: the state of another source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.core import Comparison, Evidence, InputError, NotDone
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns, shown
from cutaway.evidence import bootstrap, bootstrap_difference
from cutaway.model import Model, patch
from cutaway.readouts.asked import is_task, up_to_the_end
from cutaway.readouts.reading import Floats
from cutaway.readouts.unembed import unembedding

SCHEMA = "cutaway.patchscope/1"
IDENTITY = "cat -> cat; 135 -> 135; hello -> hello; ?"
NULL = "the state of another source"
LENS = "logit lens at the same point"


@dataclass(frozen=True, eq=False, repr=False)
class Patchscope(Drawn):
    """agreement, surprisal, lens, null [points, sources]: of the patchscope, agreement of the lens and of the null.

    said[p][i]: the target's top token with source i's state of point p; `own` what the model says after each source.
    """

    model: str
    target: str
    points: tuple[str, ...]
    sources: tuple[str, ...]
    own: tuple[str, ...]
    said: tuple[tuple[str, ...], ...]
    texts: tuple[tuple[str, ...], ...]  # with `tokens`: what the target goes on with, [points][sources]
    agreement: Floats
    surprisal: Floats
    lens: Floats
    null: Floats
    best: int  # the point chosen on every other source
    evidence: tuple[Evidence, ...]

    def table(self) -> str:
        rows: list[tuple[str, ...]] = [("point", "says the same", "surprisal", "logit lens", "another's state")]
        for i, point in enumerate(self.points):
            numbers = (self.agreement[i], self.lens[i], self.null[i])
            same, lens, null = (f"{float(each.mean()):.0%}" if each.size else "-" for each in numbers)
            rows.append((point, same, f"{float(self.surprisal[i].mean()):.2f}", lens, null))
        lines = [
            f"patchscope of {self.model}: the last state of {len(self.sources)} sources, read by the model in",
            f"  {self.target!r}",
            *columns(rows, right=(1, 2, 3, 4)),
            "  says the same: top token there = top token after the source; surprisal of that token in nats",
        ]
        shown_rows: list[tuple[str, ...]] = [("source", "says next", *self.points)]
        for i, source in enumerate(self.sources[:8]):
            each = [self.texts[p][i] if self.texts else self.said[p][i] for p in range(len(self.points))]
            shown_rows.append(
                (("…" + source[-24:]) if len(source) > 25 else source, shown(self.own[i]), *map(shown, each))
            )
        return "\n".join([*lines, "", *columns(shown_rows)])

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "target": self.target,
            "points": list(self.points),
            "sources": list(self.sources),
            "own": list(self.own),
            "said": [list(row) for row in self.said],
            "texts": [list(row) for row in self.texts],
            "agreement": self.agreement.mean(1).tolist(),
            "surprisal": self.surprisal.mean(1).tolist(),
            "logit_lens": self.lens.mean(1).tolist(),
            "null": self.null.mean(1).tolist() if self.null.size else None,
            "n": len(self.sources),
            "unit": "nats",
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        return "\n\n".join([self.table(), *map(str, self.evidence)])

    __repr__ = __str__


@torch.no_grad()
def patchscope(
    model: Model,
    prompt: Any,
    *,
    at: str = "resid_post.*",
    into: str | None = None,
    target: str | Sequence[int] = IDENTITY,
    position: int = -1,
    tokens: int = 0,
    seed: int = 0,
) -> Patchscope:
    """Read the last state of each source at every point of `at`, through `target`.

    prompt: one source, several, or a task (its clean prompts). into: the point of the target that is replaced; by
    default the one that the state comes from. position: which of the target's tokens, -1 its last. tokens: also go on
    with the target for so many tokens.
    Evidence (four sources or more): the point chosen on every other source, its agreement on the rest, beside the
    logit lens there and another source's state in the same place.
    Costs one forward of the sources and two of the target a source and point. Raises InputError.
    """
    batch = up_to_the_end(model, prompt) if is_task(prompt) else model.batch(prompt)
    points = tuple(name for name in model.addresses(at) if model.site(name).name.startswith("resid_"))
    if not points:
        raise InputError(
            f"a patchscope moves states of the residual stream (resid_pre, resid_mid, resid_post), not {at}."
        )
    if into is not None and len(model.addresses(into)) != 1:
        raise InputError(f"into= is one point of the target; {into} stands for {len(model.addresses(into))}.")
    asked = model.batch(target if isinstance(target, str) else [int(i) for i in target])
    asked.layout.column(0, position, "position=")
    n = len(batch.ids)
    run = model.run(batch, points)
    own = run.at("logits").argmax(-1)
    read = unembedding(model)
    shift = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    others = shift[(torch.argsort(shift) + 1) % n]  # one round through all: nobody keeps his own
    said, texts, agreement, surprisal, lens, null = [], [], [], [], [], []
    for point in points:
        states = run.at(point)
        where = point if into is None else model.addresses(into)[0]
        logits = _through(model, asked.ids, where, states, position)
        top = logits.argmax(-1)
        said.append(tuple(model.token_strings(top)))
        agreement.append((top == own).double().cpu().numpy())
        surprisal.append(-logits.double().log_softmax(-1)[torch.arange(n), own].cpu().numpy())
        lens.append((read(states).argmax(-1) == own).double().cpu().numpy())
        if n > 1:
            strange = _through(model, asked.ids, where, states[others.to(states.device)], position).argmax(-1)
            null.append((strange == own).double().cpu().numpy())
        if tokens:
            changes = [patch(where, _placed(states, asked.ids.shape[1], position), positions=position)]
            made = model.generate(asked.ids.expand(n, -1), tokens, changes, when="prompt", stop=())
            texts.append(tuple(made.text))
    arrays = [np.stack(each) if each else np.zeros((len(points), 0)) for each in (agreement, surprisal, lens, null)]
    # What leaves the last block is the output itself: it is said whatever the target, and is not chosen.
    last = f"resid_post.{model.facts.n_layers - 1}"
    able = [i for i, point in enumerate(points) if point != last] or [0]
    best = able[int(arrays[0][able][:, ::2].mean(1).argmax())]
    return Patchscope(
        model=model.name,
        target=target if isinstance(target, str) else "".join(model.token_strings(list(target))),
        points=points,
        sources=tuple("".join(model.token_strings(ids[mask])) for ids, mask in zip(batch.ids, batch.mask)),
        own=tuple(model.token_strings(own)),
        said=tuple(said),
        texts=tuple(texts),
        agreement=arrays[0],
        surprisal=arrays[1],
        lens=arrays[2],
        null=arrays[3],
        best=best,
        evidence=(_evidence(points, best, *arrays, seed=seed),) if n >= 4 else (),
    )


def _placed(states: Tensor, width: int, position: int) -> Tensor:
    """States [n, d] at one position of the target, [n, position, d]."""
    placed = states.new_zeros(len(states), width, states.shape[-1])
    placed[:, position] = states
    return placed


def _through(model: Model, ids: Tensor, where: str, states: Tensor, position: int) -> Tensor:
    """Logits at the target's end with each state in its place, [n, vocab]."""
    width = ids.shape[1]
    found = []
    for part in torch.split(states, max(1, 4096 // width)):
        change = patch(where, _placed(part, width, position), positions=position)
        found.append(model.run(ids.expand(len(part), -1), interventions=[change]).at("logits"))
    return torch.cat(found)


def _evidence(
    points: tuple[str, ...], best: int, agreement: Floats, surprisal: Floats, lens: Floats, null: Floats, *, seed: int
) -> Evidence:
    held = slice(1, None, 2)
    effect = bootstrap(
        agreement[best, held],
        name=f"sources whose next token the target says, {points[best]}",
        over="sources",
        seed=seed,
    )
    beside = []
    for name, values in ((NULL, null), (LENS, lens)):
        estimate = bootstrap(values[best, held], name=name, over="sources", seed=seed)
        apart = bootstrap_difference(agreement[best, held], values[best, held], paired=True, over="sources", seed=seed)
        beside.append(Comparison(estimate=estimate, difference=apart))
    return Evidence(
        claim=f"Put into the target, the state of {points[best]} makes the model say what it says after the source",
        effect=effect,
        nulls=(beside[0],),
        baselines=(beside[1],),
        seeds=(seed,),
        how="The point chosen on every other source, measured on the rest. The target's own top token is the same "
        "whatever is put in where the state moves nothing: the null shows how often that agrees.",
        settings={"mean surprisal, nats": float(surprisal[best, held].mean())},
        not_done=(NotDone(what="an untrained target", why="a re-randomised model reads nothing in any state"),),
    )
