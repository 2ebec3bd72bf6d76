"""What each attention head looks at, on random tokens: scores that need no task.

On [bos] r_1 … r_m repeated k times, with pattern A [query, key]:

    previous token   mean of A[q, q - 1]
    duplicate token  mean over q after the first repeat of the attention to earlier occurrences of the same token
    prefix matching  the same to the tokens that came *after* an earlier occurrence: what induction heads do
                     (Olsson et al., "In-context Learning and Induction Heads", 2022)
    induction        the same to the token after the last earlier occurrence alone
    first token      mean of A[q, 0], where heads rest

and of the weights alone the copying score (see low_rank). Random tokens leave nothing but position and identity to
attend by, so that a score is about the head and not the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, InputError, Interval, NotDone, refuse_name
from cutaway.core.drawing import Drawn
from cutaway.core.numbers import seeded, whole
from cutaway.core.table import columns
from cutaway.evidence import bootstrap, rerandomise
from cutaway.model import Model
from cutaway.readouts.head_ablation import induction_evidence
from cutaway.readouts.head_weights import head_weights
from cutaway.readouts.low_rank import copying_scores
from cutaway.readouts.reading import Floats
from cutaway.readouts.seeds import beside_seeds

SCHEMA = "cutaway.heads/1"
KINDS = ("previous token", "duplicate token", "prefix matching", "induction", "first token")
TESTED = KINDS[:4]
NULL = "best head of the re-randomised model"
UNIFORM = "uniform attention"
_CELLS = 50_000_000  # numbers of all patterns of a forward: 200 MB


@dataclass(frozen=True, eq=False, repr=False)
class HeadScores(Drawn):
    """scores[kind] [heads, sequences]; `copying` [heads], NaN where the weights cannot be read.

    `threshold[kind]`: the largest score of any head of the re-randomised models; a head above it is named.
    """

    model: str
    places: tuple[tuple[int, int], ...]
    scores: dict[str, Floats]
    copying: Floats
    threshold: dict[str, float]
    copying_threshold: float
    uniform: dict[str, float]
    sequences: int
    tokens: int  # of a repeat
    repeats: int
    loss: tuple[float, float]  # nats a token, first pass and later ones
    evidence: tuple[Evidence, ...]

    def mean(self, kind: str) -> Floats:
        return np.asarray(self.scores[kind].mean(1))

    def found(self, kind: str) -> tuple[tuple[int, int], ...]:
        """The heads above every head of the null, best first. Raises InputError for an unknown kind."""
        if kind not in KINDS:
            raise InputError(f"no head score {kind!r}; there are: {', '.join(KINDS)}.")
        mean = self.mean(kind)
        order = np.argsort(-mean, kind="stable")
        return tuple(self.places[i] for i in order if mean[i] > self.threshold.get(kind, np.inf))

    def table(self) -> str:
        head = ("head", *KINDS, "copying", "above every head of the null in")
        rows: list[tuple[str, ...]] = [head]
        means = {kind: self.mean(kind) for kind in KINDS}
        for i, place in enumerate(self.places):
            above = [kind for kind in TESTED if means[kind][i] > self.threshold.get(kind, np.inf)]
            if np.isfinite(self.copying[i]) and self.copying[i] > self.copying_threshold:
                above.append("copying")
            copying = f"{self.copying[i]:+.2f}" if np.isfinite(self.copying[i]) else "-"
            rows.append((_name(place), *(f"{means[kind][i]:.2f}" for kind in KINDS), copying, ", ".join(above)))
        if self.threshold:
            most = f"{self.copying_threshold:+.2f}" if np.isfinite(self.copying_threshold) else "-"
            rows.append(("null", *(f"{self.threshold[kind]:.2f}" for kind in KINDS), most, "its best head in each"))
        rows.append(("uniform", *(f"{self.uniform[kind]:.2f}" for kind in KINDS), "", "attention spread evenly"))
        first, later = self.loss
        return "\n".join(
            [
                f"attention heads of {self.model} on {self.sequences} sequences of {self.tokens} random tokens, each "
                f"{self.repeats} times over (mean attention)",
                *columns(rows, right=(1, 2, 3, 4, 5, 6)),
                f"  loss: {first:.2f} nats a token the first time, {later:.2f} in later repeats"
                " (a model that induces loses little there)",
            ]
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "sequences": self.sequences,
            "tokens": self.tokens,
            "repeats": self.repeats,
            "loss": {"first": self.loss[0], "later": self.loss[1]},
            "heads": [
                {
                    "head": _name(place),
                    **{kind: float(self.scores[kind][i].mean()) for kind in KINDS},
                    "copying": float(self.copying[i]) if np.isfinite(self.copying[i]) else None,
                }
                for i, place in enumerate(self.places)
            ],
            "threshold": self.threshold,
            "uniform": self.uniform,
            "found": {kind: [_name(p) for p in self.found(kind)] for kind in TESTED},
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        return "\n\n".join([self.table(), *map(str, self.evidence)])

    __repr__ = __str__


def head_scores(
    model: Model,
    *,
    sequences: int = 32,
    tokens: int | None = None,
    repeats: int = 4,
    null_seeds: Sequence[int] = (0, 1, 2, 3, 4),
    seed: int = 0,
    vocabulary: Sequence[int] | None = None,
    ablate: bool = True,
) -> HeadScores:
    """Attention-head scores of every head, beside the re-randomised model's best heads.

    tokens: of one repeat; by default 25, or what fits in the context. vocabulary: the ids drawn from; by default those
    that are no special tokens and no bytes. Evidence, a kind: the head chosen on half the sequences, its score on the
    other half, against the best head of the null, chosen in the same way. ablate: where heads match prefixes above the
    null, also what repeats cost without them.
    Costs sequences x (1 + len(null_seeds)) rows of forwards with every pattern formed, in blocks that fit in memory.
    Raises InputError: patterns that cannot be read, a context too short, fewer than four sequences.
    """
    refuse_name("head_scores", model=model)
    sequences, repeats = whole(sequences, "sequences", 4), whole(repeats, "repeats", 2)
    tokens = None if tokens is None else whole(tokens, "tokens", 1)
    seed = seeded(seed)
    _possible(model)
    ids, m = _sequences(model, sequences, tokens, repeats, seed, vocabulary)
    weights_of = _copying(model)
    main, loss = _measure(model, ids, m, repeats)
    arms = [rerandomise(model, seed=s) for s in null_seeds]
    nulls = [_measure(arm, ids, m, repeats)[0] for arm in arms]
    copying_null = [weights_of(arm) for arm in arms]
    places = tuple((layer, h) for layer in range(model.facts.n_layers) for h in range(model.facts.n_heads))
    uniform = _uniform(ids.shape[1], m, repeats)
    records = [_evidence(kind, main, nulls, places, uniform[kind], tuple(null_seeds), seed) for kind in TESTED]
    threshold = {k: max(float(null[k].mean(1).max()) for null in nulls) for k in KINDS} if nulls else {}
    inducing = [p for p, s in zip(places, main["prefix matching"].mean(1)) if s > threshold.get("prefix matching", 1)]
    others = [place for place in places if place not in inducing]
    if ablate and inducing and len(others) >= len(inducing) and model.refuses("z.*") is None:
        few = ids[: max(4, sequences // 4)]
        records.append(induction_evidence(model, few, m, inducing, others, seed=seed))
    return HeadScores(
        model=model.name,
        places=places,
        scores=main,
        copying=weights_of(model),
        threshold=threshold,
        copying_threshold=max((float(c.max()) for c in copying_null), default=float("nan")),
        uniform=uniform,
        sequences=sequences,
        tokens=m,
        repeats=repeats,
        loss=loss,
        evidence=tuple(records),
    )


def _possible(model: Model) -> None:
    for layer in range(max(1, model.facts.n_layers)):
        if (reason := model.refuses(f"attn_probs.{layer}")) is not None:
            raise InputError(f"the patterns of {model.name} cannot be read: no attn_probs.{layer}: {reason}")


def _sequences(
    model: Model, n: int, m: int | None, repeats: int, seed: int, vocabulary: Sequence[int] | None
) -> tuple[Tensor, int]:
    """[n, 1 + m repeats] ids, the first the tokenizer's own beginning (or a random token), and m."""
    longest = model.facts.max_positions or 10_000
    m = min(25, (longest - 1) // repeats) if m is None else m
    if m < 2 or 1 + m * repeats > longest:
        raise InputError(
            f"{repeats} repeats of {m} tokens do not fit in the {longest} positions of {model.name} "
            f"(at most {(longest - 1) // repeats} tokens, at least 2)."
        )
    pool = torch.tensor(list(_ordinary(model) if vocabulary is None else vocabulary))
    if len(pool) < m:
        raise InputError(f"{len(pool)} tokens to draw from are fewer than the {m} of a repeat.")
    generator = torch.Generator().manual_seed(seed)
    # Drawn without replacement: a token that came twice in a repeat would have two continuations.
    once = torch.stack([pool[torch.randperm(len(pool), generator=generator)[:m]] for _ in range(n)])
    first = getattr(model.tokenizer, "bos_token_id", None)
    start = pool[torch.randint(len(pool), (n, 1), generator=generator)] if first is None else torch.full((n, 1), first)
    return torch.cat([start, once.repeat(1, repeats)], 1), m


def _ordinary(model: Model) -> list[int]:
    """Ids that are text: no special tokens, no bytes, none of the white space alone."""
    every = range(model.facts.vocab_size)
    if model.tokenizer is None:
        return list(every)
    special = set(getattr(model.tokenizer, "all_special_ids", ()))
    size = min(len(model.tokenizer), model.facts.vocab_size)
    names = model.tokenizer.convert_ids_to_tokens(list(range(size)))
    kept = [
        i
        for i, name in enumerate(names)
        if i not in special and isinstance(name, str) and not name.startswith("<") and name.strip(" ▁Ġ")
    ]
    return kept if len(kept) >= 50 else list(every)


def _measure(model: Model, ids: Tensor, m: int, repeats: int) -> tuple[dict[str, Floats], tuple[float, float]]:
    """({kind: [heads, sequences]}, loss in the first pass and later), a few sequences a forward."""
    layers = range(model.facts.n_layers)
    width = ids.shape[1]
    step = max(1, _CELLS // (model.facts.n_layers * model.facts.n_heads * width * width))
    keys = _keys(width, m, repeats).to(model.device)
    queries = (keys.sum(2) > 0).sum(1)  # [kind]
    parts: list[Tensor] = []
    losses: list[Tensor] = []
    for start in range(0, len(ids), step):
        run = model.run(ids[start : start + step], read="attn_probs.*")
        each = []
        for layer in layers:
            pattern = run[f"attn_probs.{layer}"].float()
            summed = torch.einsum("bhqk,cqk->cbh", pattern, keys)  # attention to the keys in question, over queries
            each.append(summed / queries[:, None, None])
        parts.append(torch.cat(each, -1).cpu())  # [kind, sequence, heads]
        target = run.tokens[:, 1:].to(run.logits.device)
        losses.append(-run.logits[:, :-1].float().log_softmax(-1).gather(-1, target[..., None])[..., 0].cpu())
    scores = torch.cat(parts, 1).double()
    loss = torch.cat(losses)
    # The first token of a later repeat follows another one each time; from its second on the past decides.
    later = [q for r in range(1, repeats) for q in range(r * m + 1, (r + 1) * m)]
    return (
        {kind: scores[i].T.numpy() for i, kind in enumerate(KINDS)},
        (float(loss[:, :m].mean()), float(loss[:, later].mean())),
    )


def _keys(width: int, m: int, repeats: int) -> Tensor:
    """[kind, query, key] of 0 and 1: the keys whose attention each kind sums."""
    out = torch.zeros(len(KINDS), width, width)
    q = torch.arange(1, width)
    out[0, q, q - 1] = 1
    out[4, q, 0] = 1
    for query in range(1 + m, width):
        for back in range(1, (query - 1) // m + 1):
            earlier = query - back * m
            out[1, query, earlier] = 1
            out[2, query, earlier + 1] = 1
            if back == 1:
                out[3, query, earlier + 1] = 1
    return out


def _uniform(width: int, m: int, repeats: int) -> dict[str, float]:
    """The scores of a head that attends evenly to all it may."""
    keys = _keys(width, m, repeats)
    even = torch.ones(width, width).tril() / torch.arange(1, width + 1)[:, None]
    queries = (keys.sum(2) > 0).sum(1)
    values = (keys * even).sum((1, 2)) / queries
    return dict(zip(KINDS, values.tolist()))


def _copying(model: Model) -> Any:
    """model -> copying scores [heads], NaN where the family does not show its weights."""
    try:
        head_weights(model)
    except InputError:
        return lambda arm: np.full(arm.facts.n_layers * arm.facts.n_heads, np.nan)
    return lambda arm: copying_scores(arm, head_weights(arm)).double().cpu().numpy()


def _evidence(
    kind: str,
    main: dict[str, Floats],
    nulls: Sequence[dict[str, Floats]],
    places: tuple[tuple[int, int], ...],
    even: float,
    seeds: tuple[int, ...],
    seed: int,
) -> Evidence:
    half = main[kind].shape[1] // 2

    def best(scores: Floats) -> tuple[int, Floats]:
        index = int(scores[:, :half].mean(1).argmax())
        return index, scores[index, half:]

    index, values = best(main[kind])
    effect = bootstrap(values, name=f"attention of head {_name(places[index])}", over="sequences", seed=seed)
    level = Estimate(name=UNIFORM, value=even, n=len(values))
    span = effect.interval
    apart = None if span is None else Interval(low=span.low - even, high=span.high - even, method=span.method)
    return Evidence(
        claim=f"Head {_name(places[index])} is {'an' if kind == 'induction' else 'a'} {kind} head",
        effect=effect,
        nulls=(beside_seeds(effect, [float(best(null[kind])[1].mean()) for null in nulls], NULL),) if nulls else (),
        baselines=(Comparison(estimate=level, difference=apart),),
        seeds=seeds,
        how="The best head on half of the sequences, measured on the other half; so for the null. Attention on random "
        "tokens says where a head looks, not what it is for.",
        settings={"sequences measured on": len(values)},
        not_done=() if nulls else (NotDone(what=NULL, why="it was asked to be left out"),),
    )


def _name(place: tuple[int, int]) -> str:
    return f"{place[0]}.{place[1]}"
