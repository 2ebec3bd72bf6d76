"""What each head writes about the token it attends to: that token less (copy suppression), again, or its successor.

For head h of layer l and a token t, with x_t the stream that t alone leaves after the first block (for heads of the
first block: the token's embedding),

    out_t = U W_O W_V x_t                     the head's effect on the logits when it attends to t, [tokens]

    copy suppression  share of tokens t whose own logit out_t[t] is among the lowest hundredth   (McDougall et al. 2023)
    copying           share whose own logit is among the highest hundredth
    succession        share of ordinals (2, Monday, May) for which the successor's logit is the highest of all ordinals'
                      (Gould et al. 2023, "Successor Heads")

Logits are compared among a sample of the vocabulary. x_t stands for the "effective embedding" of both papers, the
first MLP's view of a token; the norm's denominator is positive and moves no rank. Weights alone: whether the head ever
attends to such tokens is for `head_scores` and ablation to say.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, InputError, NotDone
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns, shown
from cutaway.evidence import proportion, rerandomise
from cutaway.model import Model
from cutaway.readouts.head_weights import HeadWeights, head_weights
from cutaway.readouts.heads import _ordinary
from cutaway.readouts.low_rank import vocabulary
from cutaway.readouts.seeds import beside_seeds

SCHEMA = "cutaway.token_heads/1"
KINDS = ("copy suppression", "copying", "succession")
NULL = "best head of the re-randomised model"
DIRECT = "the token's own stream, through no head"
_EXTREME = 100  # the lowest or highest 1 / _EXTREME of the logits

_WORDS = {
    "numbers": [str(i) for i in range(100)],
    "number words": ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"],
    "ordinals": ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"],
    "days": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
    "months": [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    "letters": list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    "roman numerals": ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X"],
}

Hits = dict[str, NDArray[np.bool_]]  # kind -> [heads, tokens]


@dataclass(frozen=True, eq=False, repr=False)
class TokenHeads(Drawn):
    """hits[kind] [heads, tokens of that kind]; `threshold[kind]` the best share of any head of the null."""

    model: str
    places: tuple[tuple[int, int], ...]
    hits: Hits
    chance: dict[str, float]
    direct: dict[str, float]
    threshold: dict[str, float]
    tokens: int
    ordinals: tuple[tuple[str, str], ...]
    evidence: tuple[Evidence, ...]
    not_done: tuple[NotDone, ...] = ()

    def share(self, kind: str) -> NDArray[np.float64]:
        """[heads]"""
        if kind not in self.hits:
            raise InputError(f"no score {kind!r} here; there are: {', '.join(self.hits)}.")
        return np.asarray(self.hits[kind].mean(1))

    def found(self, kind: str) -> tuple[tuple[int, int], ...]:
        """The heads above every head of the null, best first."""
        share = self.share(kind)
        order = np.argsort(-share, kind="stable")
        return tuple(self.places[i] for i in order if share[i] > self.threshold.get(kind, np.inf))

    def table(self) -> str:
        kinds = tuple(self.hits)
        rows: list[tuple[str, ...]] = [("head", *kinds, "above every head of the null in")]
        shares = {kind: self.share(kind) for kind in kinds}
        for i, place in enumerate(self.places):
            above = [kind for kind in kinds if shares[kind][i] > self.threshold.get(kind, np.inf)]
            rows.append((f"{place[0]}.{place[1]}", *(f"{shares[k][i]:.2f}" for k in kinds), ", ".join(above)))
        if self.threshold:
            rows.append(("null", *(f"{self.threshold[k]:.2f}" for k in kinds), "its best head in each"))
        rows.append(("direct", *(f"{self.direct[k]:.2f}" for k in kinds), DIRECT))
        rows.append(("chance", *(f"{self.chance[k]:.2f}" for k in kinds), ""))
        some = ", ".join(f"{shown(a)}→{shown(b)}" for a, b in self.ordinals[:6])
        count = {kind: self.hits[kind].shape[1] for kind in kinds}
        lines = [
            f"what heads of {self.model} write about the token they attend to (share of tokens; weights alone)",
            *columns(rows, right=range(1, 1 + len(kinds))),
            "  n = " + ", ".join(f"{n} tokens for {kind}" for kind, n in count.items()),
        ]
        if self.ordinals:
            lines.append(f"  successors: {some}, …")
        return "\n".join([*lines, *(f"  not done: {item.what}: {item.why}" for item in self.not_done)])

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "n": {kind: hits.shape[1] for kind, hits in self.hits.items()},
            "heads": [
                {"head": f"{p[0]}.{p[1]}", **{kind: float(hits[i].mean()) for kind, hits in self.hits.items()}}
                for i, p in enumerate(self.places)
            ],
            "threshold": self.threshold,
            "direct": self.direct,
            "chance": self.chance,
            "found": {kind: [f"{p[0]}.{p[1]}" for p in self.found(kind)] for kind in self.hits},
            "ordinals": [list(pair) for pair in self.ordinals],
            "evidence": [item.to_json() for item in self.evidence],
            "not_done": [{"what": item.what, "why": item.why} for item in self.not_done],
        }

    def __str__(self) -> str:
        return "\n\n".join([self.table(), *map(str, self.evidence)])

    __repr__ = __str__


def token_heads(
    model: Model,
    *,
    tokens: int = 300,
    successions: Sequence[Sequence[str]] | None = None,
    null_seeds: Sequence[int] = (0, 1, 2, 3, 4),
    seed: int = 0,
) -> TokenHeads:
    """Copy suppression, copying and succession of every head, beside the re-randomised model's best heads.

    tokens: how many are drawn from the vocabulary. successions: lists of words in their order; by default numbers,
    days, months, letters and such, of which those that are one token here are kept.
    Evidence, a kind: the head chosen on half of the tokens, its share on the others, against the null's best, chosen
    alike, and against the direct path. Costs one block on each token alone and two products [tokens, tokens] a head;
    as much for each of `null_seeds`. Raises InputError where the family does not show its weights.
    """
    if tokens < 40:
        raise InputError(f"at least 40 tokens are needed to rank a token among them; given {tokens}.")
    head_weights(model)
    pool = torch.tensor(_ordinary(model))
    drawn = pool[torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))[:tokens]].sort().values
    pairs = _successors(model, list(_WORDS.values()) if successions is None else successions)
    missing: tuple[NotDone, ...] = ()
    if len(pairs) < 10:
        why = f"{len(pairs)} of the successions' tokens are one token with a successor here; 10 are needed"
        missing, pairs = (NotDone(what="succession", why=why),), []
    main, direct, chance, places = _measure(model, drawn, pairs)
    nulls = [_measure(rerandomise(model, seed=s), drawn, pairs)[0] for s in null_seeds]
    threshold = {kind: max(float(null[kind].mean(1).max()) for null in nulls) for kind in main} if nulls else {}
    names = model.token_strings([token for pair in pairs for token in pair])
    return TokenHeads(
        model=model.name,
        places=places,
        hits=main,
        chance=chance,
        direct={kind: float(hits.mean()) for kind, hits in direct.items()},
        threshold=threshold,
        tokens=len(drawn),
        ordinals=tuple(zip(names[::2], names[1::2])),
        evidence=tuple(
            _evidence(kind, main[kind], [n[kind] for n in nulls], direct[kind], places, tuple(null_seeds))
            for kind in main
        ),
        not_done=missing,
    )


def _successors(model: Model, lists: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """(token, its successor's) of neighbours in a list that are one token each, written in the same way."""
    if model.tokenizer is None:
        return []

    def single(text: str) -> int | None:
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        unknown = getattr(model.tokenizer, "unk_token_id", None)
        return int(ids[0]) if len(ids) == 1 and ids[0] != unknown else None

    pairs: dict[int, int] = {}
    for words in lists:
        for space in (" ", ""):
            ids = [single(space + word) for word in words]
            found = [(a, b) for a, b in itertools.pairwise(ids) if a is not None and b is not None and a != b]
            if found:
                for a, b in found:
                    pairs.setdefault(a, b)
                break
    return list(pairs.items())


@torch.no_grad()
def _measure(
    model: Model, drawn: Tensor, pairs: list[tuple[int, int]]
) -> tuple[Hits, Hits, dict[str, float], tuple[tuple[int, int], ...]]:
    """(hits of every head, hits of the direct path [1, tokens], chance, the heads)."""
    weights = head_weights(model)
    unembedding = vocabulary(model)[1]  # [vocab, d_model]
    ordinals = torch.tensor(sorted({token for pair in pairs for token in pair}), dtype=torch.long)
    place = {int(token): i for i, token in enumerate(ordinals)}
    first = torch.tensor([a for a, _ in pairs], dtype=torch.long)
    second = torch.tensor([place[b] for _, b in pairs], dtype=torch.long)
    streams = {name: _streams(model, ids) for name, ids in (("drawn", drawn), ("first", first)) if len(ids)}
    device = unembedding.device
    few = max(1, len(drawn) // _EXTREME)
    hits: dict[str, list[Tensor]] = {kind: [] for kind in KINDS if kind != "succession" or pairs}

    def note(out: Tensor, after: Tensor | None, into: dict[str, list[Tensor]]) -> None:
        """out [n, n] the drawn tokens' logits when each is attended to; after [pairs, ordinals]."""
        own = out.diagonal()[:, None]
        into["copy suppression"].append((out <= own).sum(1) <= few)  # a tie is no lead: own is among them
        into["copying"].append((out >= own).sum(1) <= few)
        if after is not None:
            into["succession"].append(after.argmax(1).cpu() == second)

    onto, onto_ordinals = unembedding[drawn.to(device)], unembedding[ordinals.to(device)]
    for i, (layer, _) in enumerate(weights.places):
        which = 0 if layer == 0 else 1
        out = _through(weights, i, streams["drawn"][which], onto)
        after = _through(weights, i, streams["first"][which], onto_ordinals) if pairs else None
        note(out, after, hits)
    straight: dict[str, list[Tensor]] = {kind: [] for kind in hits}
    note(
        streams["drawn"][1] @ onto.T,
        streams["first"][1] @ onto_ordinals.T if pairs else None,
        straight,
    )
    chance = dict.fromkeys(("copy suppression", "copying"), few / len(drawn))
    if pairs:
        chance["succession"] = 1 / len(ordinals)
    numbers = [{kind: torch.stack(each).cpu().numpy() for kind, each in found.items()} for found in (hits, straight)]
    return numbers[0], numbers[1], chance, weights.places


def _through(weights: HeadWeights, i: int, x: Tensor, onto: Tensor) -> Tensor:
    """(x V^T) (U O)^T, [tokens, logits]."""
    return (x @ weights.v[i].T) @ (onto @ weights.o[i]).T


def _streams(model: Model, ids: Tensor) -> tuple[Tensor, Tensor]:
    """What each token alone gives the first block's heads and all later ones, [tokens, d_model] each."""
    first = model.run(ids[:, None], ["resid_pre.0", "resid_post.0"], logits=False)
    return first["resid_pre.0"][:, 0].float(), first["resid_post.0"][:, 0].float()


def _evidence(
    kind: str,
    main: NDArray[np.bool_],
    nulls: Sequence[NDArray[np.bool_]],
    direct: NDArray[np.bool_],
    places: tuple[tuple[int, int], ...],
    seeds: tuple[int, ...],
) -> Evidence:
    half = np.arange(main.shape[1]) % 2 == 0  # neighbours lie close: every other one is held out

    def best(hits: NDArray[np.bool_]) -> tuple[int, NDArray[np.bool_]]:
        index = int(hits[:, half].mean(1).argmax())
        return index, hits[index, ~half]

    index, held = best(main)
    where = f"{places[index][0]}.{places[index][1]}"
    effect = proportion(int(held.sum()), len(held), name=f"share of tokens, head {where}")
    straight = direct[0, ~half]
    baseline: Estimate = proportion(int(straight.sum()), len(straight), name=DIRECT)
    verb = {
        "copy suppression": "lowers the token it attends to",
        "copying": "raises the token it attends to",
        "succession": "raises the successor of the ordinal it attends to",
    }[kind]
    return Evidence(
        claim=f"Head {where} {verb}",
        effect=effect,
        nulls=(beside_seeds(effect, [float(best(null)[1].mean()) for null in nulls], NULL),) if nulls else (),
        baselines=(Comparison(estimate=baseline),),
        seeds=seeds,
        how="The best head on every other token, measured on the rest; so for the null. Of the weights: the token "
        "alone through the first block, then the head's OV circuit: what the head would write, not when it attends.",
        not_done=() if nulls else (NotDone(what=NULL, why="it was asked to be left out"),),
    )
