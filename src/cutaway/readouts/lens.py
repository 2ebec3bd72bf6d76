"""The logit lens (nostalgebraist 2020) and the tuned lens (Belrose et al. 2023): what each layer would say next.

The stream at a layer goes through the model's own final norm and unembedding, or first through a trained translator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from cutaway.core import Comparison, Estimate, Evidence, InputError, NotDone, refuse_name
from cutaway.core.answers import one_token
from cutaway.core.drawing import Drawn
from cutaway.core.numbers import whole
from cutaway.core.table import columns, shown
from cutaway.evidence import bootstrap, bootstrap_difference, rerandomise
from cutaway.model import Model
from cutaway.model.tokens import Batch
from cutaway.readouts.asked import is_task, up_to_the_end
from cutaway.readouts.reading import Floats, Reading, Translate, read_lens
from cutaway.readouts.seeds import beside_seeds
from cutaway.readouts.tuned import TunedLens, lens_points

SCHEMA = "cutaway.lens/1"
NULL = "re-randomised model"
UNIGRAM = "unigram (one distribution, reads no layer)"
OTHERS = "mean output at the other tokens (reads no layer)"
BIAS = "bias only"
LOGIT = "logit lens"


@dataclass(frozen=True, eq=False, repr=False)
class Lens(Drawn):
    """A lens on one or more prompts. `reading` holds every point and token; it prints the first prompt's table."""

    model: str
    kind: str  # "logit lens" or "tuned lens"
    reading: Reading
    tokens: tuple[tuple[str, ...], ...]  # of each row
    token_names: dict[int, str] = field(repr=False)
    null_kl: (
        Floats  # [P]: mean over tokens, on the re-randomised model, against its own final distribution; NaN: not run
    )
    evidence: tuple[Evidence, ...]

    def table(self, row: int = 0) -> str:
        """The last position of a prompt, layer by layer."""
        r, at = self.reading, int(self.reading.last[row])
        answer = self.token_names[int(r.target[at])]
        head = ("point", "reads", "", "", f"rank of {shown(answer)!r}", "probability", "KL to final", "KL, null")
        rows: list[tuple[str, ...]] = [head]
        for i, point in enumerate(r.points):
            says = [f"{shown(self.token_names[int(t)])} {p:.2f}" for t, p in zip(r.top[i, at], r.top_p[i, at])]
            says = [*says, "", "", ""][:3]
            null = self.null_kl[i]
            rows.append(
                (
                    point if point != "logits" else "output",
                    *says,
                    str(int(r.rank[i, at])),
                    f"{math.exp(r.log_p[i, at]):.3g}",
                    f"{r.kl[i, at]:.3f}",
                    f"{null:.3f}" if math.isfinite(null) else "-",
                )
            )
        text = "".join(self.tokens[row]).strip().replace("\n", "⏎")
        depth = r.points[int(r.depth[at])].replace("logits", "the output alone")
        return "\n".join(
            [
                f"{self.kind} of {self.model} after: {text}",
                *columns(rows, right=(4, 5, 6, 7)),
                f"  prediction depth: {depth} (from there on the top token is the model's own). KL in nats; 'null' is "
                "the re-randomised model's, against its own output, mean over tokens",
            ]
        )

    def grid(self, row: int = 0, width: int = 150) -> str:
        """Layer by position: the top token at each; as many of the last positions as fit in `width` characters."""
        r = self.reading
        (here,) = np.nonzero(r.row == row)
        cells = [[shown(self.token_names[int(t)])[:10] for t in r.top[i, here, 0]] for i in range(len(r.points))]
        names = [shown(token)[:10] for token in self.tokens[row]]
        room = width - max(map(len, r.points)) - 2
        first = len(here)
        while first > 0:
            wide = max(len(names[first - 1]), *(len(line[first - 1]) for line in cells)) + 2
            if wide > room:
                break
            room, first = room - wide, first - 1
        rows = [("", *names[first:])] + [
            (r.points[i].replace("logits", "output"), *cells[i][first:]) for i in reversed(range(len(cells)))
        ]
        left = f" (the last {len(here) - first} of {len(here)} positions)" if first else ""
        return "\n".join([f"top token at each position{left}, the model's output on top", *columns(rows)])

    def to_json(self) -> dict[str, Any]:
        r = self.reading
        prompts = []
        for row, tokens in enumerate(self.tokens):
            (here,) = np.nonzero(r.row == row)
            at = int(r.last[row])
            prompts.append(
                {
                    "tokens": list(tokens),
                    "answer": {"id": int(r.target[at]), "token": self.token_names[int(r.target[at])]},
                    "prediction_depth": [int(d) for d in r.depth[here]],
                    "points": [
                        {
                            "point": point,
                            "top": [
                                [[self.token_names[int(t)], float(p)] for t, p in zip(ids, ps)]
                                for ids, ps in zip(r.top[i, here], r.top_p[i, here])
                            ],
                            "kl_to_final": r.kl[i, here].tolist(),
                            "answer_rank": int(r.rank[i, at]),
                            "answer_probability": math.exp(r.log_p[i, at]),
                        }
                        for i, point in enumerate(r.points)
                    ],
                }
            )
        return {
            "schema": SCHEMA,
            "model": self.model,
            "kind": self.kind,
            "points": list(r.points),
            "null_kl": [x if math.isfinite(x) else None for x in self.null_kl.tolist()],
            "prompts": prompts,
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        more = f"\n\n({len(self.tokens) - 1} more prompts; lens.table(row) shows them)" if len(self.tokens) > 1 else ""
        return "\n\n".join([self.table(), self.grid() + more, *map(str, self.evidence)])

    __repr__ = __str__


def lens(
    model: Model,
    prompt: Any,
    *,
    at: str = "resid_post.*",
    tuned: TunedLens | None = None,
    answer: str | int | Sequence[str | int] | None = None,
    top: int = 5,
    null_seeds: Sequence[int] = (0, 1, 2, 3, 4),
) -> Lens:
    """What the stream at each point says next, for one prompt or several (or a task's), beside its controls.

    at: the points, by default the stream entering the first block and leaving each. A sublayer's contribution
    (attn_out_post.*, mlp_out_post.*) may be read by itself. tuned: a trained lens; its points then. answer: the token
    whose rank is followed (one for all prompts or one each); by default the model's own top token. top: tokens a cell.

    Evidence: (1) below the last block the lens's top token is already the model's; (2) it gives the answer a high
    probability. Null: the same on the re-randomised model, `null_seeds` times. Baselines: the unigram; for a tuned
    lens also the bias-only translator and the logit lens.
    Costs 1 + len(null_seeds) forwards and unembeddings of every token at every point. Raises InputError.
    """
    refuse_name("lens", model=model)
    if is_task(prompt):
        prompt, answer = up_to_the_end(model, prompt), prompt.answers.tolist() if answer is None else answer
    batch: Batch = model.batch(prompt)
    if (reason := model.refuses("lm_head")) is not None:
        raise InputError(f"{model.name} has no unembedding that is known, so it has no lens: {reason}")
    top = whole(top, "top, the tokens shown a cell,", 1, model.facts.vocab_size)
    last = f"resid_post.{model.facts.n_layers - 1}"
    points = lens_points(model, at) if tuned is None else tuned.addresses
    points = tuple(point for point in points if point != last)  # that is the output, which is always read
    if not points:
        raise InputError(f"{last} is the model's own output; a lens reads points before it, as resid_post.* does.")
    if tuned is not None:
        tuned.fits(model)
    answers = _answers(model, answer, len(batch.ids))
    unigram = None if tuned is None else tuned.unigram

    def read(of: Model, translate: Translate | None, prior: torch.Tensor | None, targets: torch.Tensor) -> Reading:
        return read_lens(of, batch, points, translate=translate, answers=targets, unigram=prior, top=top)

    main = read_lens(
        model, batch, points, translate=tuned.translate if tuned else None, answers=answers, unigram=unigram, top=top
    )
    targets = torch.from_numpy(main.target[main.last])
    others = {}
    if tuned is not None:
        others = {BIAS: read(model, tuned.shift, unigram, targets), LOGIT: read(model, None, unigram, targets)}
    nulls, not_done = _nulls(model, tuned, null_seeds, read, targets)
    tokens = tuple(tuple(model.token_strings(ids[keep])) for ids, keep in zip(batch.ids, batch.mask))
    named = sorted({int(t) for t in (*main.top.flat, *main.target)})
    settings = {"points": list(points), "prompts": len(tokens), "lens": "logit" if tuned is None else "tuned"}
    return Lens(
        model=model.name,
        kind="logit lens" if tuned is None else "tuned lens",
        reading=main,
        tokens=tokens,
        token_names=dict(zip(named, model.token_strings(named))),
        null_kl=np.mean([null.kl.mean(1) for null in nulls], 0) if nulls else np.full(len(points) + 1, np.nan),
        evidence=tuple(_record(claim, main, nulls, others, tuple(null_seeds), settings, not_done) for claim in _CLAIMS),
    )


def _answers(model: Model, answer: Any, rows: int) -> torch.Tensor | None:
    if answer is None:
        return None
    given = [answer] * rows if isinstance(answer, (str, int)) else list(answer)
    if len(given) != rows:
        raise InputError(f"one answer for all prompts, or one each: {len(given)} answers for {rows} prompts.")
    return torch.tensor([one_token(model, item) for item in given])


def _nulls(model: Model, tuned: TunedLens | None, seeds: Sequence[int], read: Any, targets: Any) -> Any:
    if tuned is None:
        found = [read(rerandomise(model, seed=seed), None, None, targets) for seed in seeds]
        return found, () if found else (NotDone(what=NULL, why="it was asked to be left out"),)
    if tuned.twin is None:
        return [], (NotDone(what=NULL, why="the tuned lens was trained without its twin"),)
    arm = rerandomise(model, seed=int(tuned.settings["seed"]))
    return [read(arm, tuned.twin.translate, tuned.twin.unigram, targets)], ()


# ------------------------------------------------------------------------------------------------------- evidence


@dataclass(frozen=True)
class _Claim:
    text: str
    name: str
    unit: str
    over: str
    how: str
    of_the_answer: bool


_CLAIMS = (
    _Claim(
        "Before the last block the stream already says what the model will say",
        "share of points before the output whose top token is the model's own",
        "",
        "tokens",
        "Every token but the first of each prompt; tokens of one prompt are not independent.",
        False,
    ),
    _Claim(
        "Before the last block the stream holds the answer",
        "log-probability of the answer at the last point before the output",
        " nats",
        "prompts",
        "The last token of each prompt. The null's answers are this model's.",
        True,
    ),
)


def _record(
    claim: _Claim,
    main: Reading,
    nulls: Sequence[Reading],
    others: dict[str, Reading],
    seeds: tuple[int, ...],
    settings: dict[str, Any],
    not_done: tuple[NotDone, ...],
) -> Evidence:
    answer = claim.of_the_answer
    chosen = main.last if answer else np.flatnonzero(main.position > 0)
    if not answer and not len(chosen):
        chosen = np.arange(len(main.position))

    def values(reading: Reading) -> Floats:
        if answer:
            return np.asarray(reading.log_p[-2, chosen])  # at the last point before the output
        return np.asarray(reading.agrees[:-1, chosen].mean(0), dtype=np.float64)

    effect = values(main)

    def beside(name: str, other: Floats) -> Comparison:
        apart = bootstrap_difference(effect, other, paired=True, over=claim.over)
        return Comparison(estimate=_estimate(name, other, claim), difference=apart)

    prior = main.unigram_log_p if answer else main.unigram_agrees
    main_estimate = _estimate(claim.name, effect, claim)
    null = [beside_seeds(main_estimate, [float(values(n).mean()) for n in nulls], NULL)] if nulls else []
    if settings["lens"] == "tuned" and nulls:  # a tuned lens has one twin: its tokens are all there is to compare
        null = [beside(f"{NULL}, the lens trained on it", values(nulls[0]))]
    return Evidence(
        claim=claim.text,
        effect=main_estimate,
        nulls=tuple(null),
        baselines=(
            beside(UNIGRAM if settings["lens"] == "tuned" else OTHERS, prior[chosen]),
            *(beside(name, values(r)) for name, r in others.items()),
        ),
        seeds=seeds,
        how=claim.how + " Both lenses end in the model's own final norm, output matrix, scale and cap.",
        settings=settings,
        not_done=not_done,
    )


def _estimate(name: str, values: Floats, claim: _Claim) -> Estimate:
    return bootstrap(values, name=name, over=claim.over, unit=claim.unit)
