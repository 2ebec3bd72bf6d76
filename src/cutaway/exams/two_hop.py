"""Two hops: swap the middle term inside the model and see whether the answer follows.

"the capital of the state containing Dallas is" is answered Austin by way of Texas, which is never written. If the
features of the middle term are found, putting another state's in their place must give the other state's capital.

1. **Find them on training questions alone.** A feature at a place (the subject's position, or the last) carries the
   middle term when which middle term it is explains most of the feature's variance over questions about *different*
   subjects (eta^2), both where the answer is the capital and where the answer is the state itself, and it prefers the
   same states in both. Features that only announce the answer fail the second.
2. **Choose how on training questions**: which places, up to which layer, how high eta^2, what factor on the injected
   activations; judged on subjects that the features were not found on. Of the choices that carry nearly as many
   answers as the best, those whose direct effect on the logits carries fewest (a middle term acts through what later
   layers compute from it), and of these the one that carries most.
3. **Report on withheld pairs**: A's activations of these features out, B's in, nothing held; how often is the top
   answer B's? Beside: random directions of the same norm; as many other active features swapped; the difference of the
   states' mean MLP outputs at the same places (the simplest method); the swap's direct effect on the logits alone (what
   a cross-layer dictionary that skips the hop would do); and whether the question for the state itself now gives B's.

Published: "On the Biology of a Large Language Model" (Anthropic, 2025), "Dallas" to Oakland's Sacramento.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, InputError
from cutaway.core.protocols import TranscoderSet
from cutaway.evidence import proportion, random_directions
from cutaway.model import Intervention, Model, Run, add, freeze, patch

Place = Literal["subject", "end"]
PLACES: tuple[Place, ...] = ("subject", "end")
CHOICES = (("subject",), ("end",), ("subject", "end"))
THRESHOLDS = (0.5, 0.3, 0.15)
FACTORS = (1.0, 2.0)
NEARLY = 0.05  # shares of training pairs that differ by no more count as equal while choosing
Floats = npt.NDArray[np.float64]
Hits = npt.NDArray[np.bool_]
Deltas = dict[tuple[str, Place], Tensor]  # (output point, place) -> [rows, d_model]


@dataclass(frozen=True)
class Question:
    """A prompt about a subject. `frame` names its wording: two questions of a frame differ in their subject alone."""

    ids: tuple[int, ...]
    position: int  # of the subject's last token
    subject: str
    middle: str
    answer: int  # token id
    frame: str
    text: str = ""


Pair = tuple[Question, Question]


@dataclass(frozen=True)
class Cases:
    """`training`: asked for the end of two hops. `middle`: asked for the middle term, of the same and other subjects.
    `pairs`: withheld questions for the end of two hops, of one frame and different middle terms."""

    training: Sequence[Question]
    middle: Sequence[Question]
    pairs: Sequence[Pair]


@dataclass(frozen=True)
class How:
    """What was chosen on training questions: where, eta^2 at least, the factor on what is injected."""

    places: tuple[Place, ...]
    layers: int  # the first so many
    threshold: float
    factor: float


@dataclass(frozen=True)
class Swap:
    """The result for one dictionary. Estimates are shares of the n pairs that the model answers right on both sides."""

    kind: str
    how: How
    n_features: dict[str, int]  # "place, layer" -> features that carry the middle term
    asked: int  # pairs given, of which n were answered right
    flips: Estimate
    random: Estimate
    others: Estimate
    means: Estimate
    direct: Estimate
    middle: Estimate
    training: Estimate
    failures: tuple[dict[str, str], ...] = field(repr=False)

    def evidence(self, seed: int = 0) -> Evidence:
        """The swap as an Evidence record."""
        return Evidence(
            claim=f"Swapping the middle term's features ({self.kind}) makes the answer follow",
            effect=self.flips,
            nulls=(Comparison(estimate=self.random), Comparison(estimate=self.others)),
            baselines=(Comparison(estimate=self.means),),
            seeds=(seed,),
            how="Features, places and factor were chosen on training questions; withheld pairs were judged once. "
            "Pairs share subjects, so that intervals are somewhat narrow.",
            settings={
                "places": self.how.places,
                "layers": self.how.layers,
                "eta^2 at least": self.how.threshold,
                "factor": self.how.factor,
                "features": self.n_features,
                "pairs asked": self.asked,
                "flips by the direct effect alone": self.direct.value,
                "state questions that follow": self.middle.value,
                "flips on training pairs": self.training.value,
                "failures": list(self.failures),
            },
        )


def two_hop(model: Model, dictionary: TranscoderSet, cases: Cases, *, seed: int = 0, choose_on: int = 96) -> Swap:
    """Run the swap with one dictionary. See the module's text.

    Costs about (18 choices a layer x `choose_on` + 8 x pairs) rows of forwards. Raises InputError where no training
    question is answered right or no feature carries the middle term.
    """
    found_on, chosen_on = _halves(cases.training)
    half = _Swapper(model, dictionary, found_on, cases.middle, seed)
    practice = half.right(_practice(chosen_on, choose_on, seed))
    if not practice:
        raise InputError(f"{model.name} answers no pair of training questions right: there is nothing to swap.")
    how, means, trained = _choose(half, practice)
    work = _Swapper(model, dictionary, cases.training, cases.middle, seed)

    pairs = work.right(cases.pairs)
    ready, wanted = work.prepared(pairs), _wanted(pairs)
    answers = work.answers(ready, how)

    def share(name: str, hits: Hits) -> Estimate:
        return proportion(int(hits.sum()), len(hits), name=name)

    asked_middle = work.right(_state_questions(cases, pairs))
    followed = work.answers(work.prepared(asked_middle), how) == _wanted(asked_middle)
    return Swap(
        kind=dictionary.kind,
        how=how,
        n_features=work.features(how),
        asked=len(cases.pairs),
        flips=share("answers that follow the swap", answers == wanted),
        random=share("random directions of equal norm", work.answers(ready, how, "random") == wanted),
        others=share("as many other active features", work.answers(ready, how, "others") == wanted),
        means=share("difference of mean MLP outputs", work.answers(ready, how, "means", means) == wanted),
        direct=share("the swap's direct effect alone", work.answers(ready, how, direct=True) == wanted),
        middle=share("state questions that follow", followed),
        training=share("training pairs that follow", trained),
        failures=tuple(
            {
                "prompt": a.text,
                "swapped in": b.middle,
                "wanted": model.token_strings([b.answer])[0].strip(),
                "got": model.token_strings([int(answers[i])])[0].strip(),
            }
            for i, (a, b) in enumerate(pairs)
            if answers[i] != wanted[i]
        ),
    )


def _choose(work: _Swapper, practice: Sequence[Pair]) -> tuple[How, float, Hits]:
    """The choice, the factor for the difference of means, and whether each training pair follows under the choice."""
    layers = range(1, work.dictionary.n_layers + 1)
    grid = (How(p, n, t, f) for p, n, t, f in product(CHOICES, layers, THRESHOLDS, FACTORS))  # type: ignore[arg-type]
    ready, wanted = work.prepared(practice), _wanted(practice)
    follows = {how: work.answers(ready, how) == wanted for how in grid if work.features(how)}
    if not follows:
        raise InputError("no feature carries the middle term; is the dictionary of this model?")
    best = max(hits.mean() for hits in follows.values())
    contenders = [how for how, hits in follows.items() if hits.mean() >= best - NEARLY]
    direct = {how: float((work.answers(ready, how, direct=True) == wanted).mean()) for how in contenders}
    least = [how for how in contenders if direct[how] <= min(direct.values()) + NEARLY]
    # Of those that carry as many the first: fewer places, fewer layers, fewer features, a smaller factor.
    how = max(least, key=lambda one: float(follows[one].mean()))
    means = max(FACTORS, key=lambda factor: float((work.answers(ready, how, "means", factor) == wanted).mean()))
    return how, means, follows[how]


@dataclass(frozen=True, eq=False)
class _Ready:
    """Pairs of one length, with what the model does on both sides. `rows`: where they lie among all pairs."""

    rows: list[int]
    a: list[Question]
    b: list[Question]
    clean: Run
    other: Run


class _Swapper:
    """One model and dictionary with their tuning on the training questions."""

    def __init__(
        self,
        model: Model,
        dictionary: TranscoderSet,
        training: Sequence[Question],
        middle: Sequence[Question],
        seed: int,
    ) -> None:
        self.model, self.dictionary, self.seed = model, dictionary, seed
        self.layers = range(dictionary.n_layers)
        self.read = [p(layer) for layer in self.layers for p in (dictionary.input_point, dictionary.output_point)]
        subjects = {question.subject for question in training}
        same = [question for question in middle if question.subject in subjects]
        self.middles = sorted({question.middle for question in training})
        (ends, self.means), (states, _) = self._tuning(training), self._tuning(same)
        self.score = {at: _carries(*ends[at], *states[at]) for at in ends}

    def _tuning(self, questions: Sequence[Question]) -> tuple[dict[Any, tuple[Floats, Floats]], dict[Any, Tensor]]:
        """For each (place, layer): eta^2 [F] and the mean activation by middle term [middle, F]; and the mean MLP
        output by middle term [middle, d]."""
        acts: dict[Any, list[Tensor]] = {(p, layer): [] for p in PLACES for layer in self.layers}
        outs: dict[Any, list[Tensor]] = {key: [] for key in acts}
        order: list[str] = []
        for group in _by_length(questions):
            run = self._run(group)
            order += [question.middle for question in group]
            for place, layer in acts:
                at = (torch.arange(len(group)), _where(group, place))
                acts[place, layer].append(
                    self.dictionary.activations(layer, run[self.dictionary.input_point(layer)][at])
                )
                outs[place, layer].append(run[self.dictionary.output_point(layer)][at])
        which = torch.tensor([self.middles.index(middle) for middle in order])
        tuned = {key: _eta_squared(torch.cat(parts), which, len(self.middles)) for key, parts in acts.items()}
        return tuned, {key: _means(torch.cat(parts), which, len(self.middles)) for key, parts in outs.items()}

    def _run(self, group: Sequence[Question]) -> Run:
        return self.model.run(torch.tensor([question.ids for question in group]), read=self.read)

    def chosen(self, how: How, place: Place) -> dict[int, list[int]]:
        """Layer -> the features that carry the middle term at a place."""
        found = {n: np.flatnonzero(self.score[place, n] >= how.threshold).tolist() for n in range(how.layers)}
        return {layer: features for layer, features in found.items() if features}

    def features(self, how: How) -> dict[str, int]:
        """ "place, layer" -> how many features are swapped there."""
        chosen = {place: self.chosen(how, place) for place in how.places}
        return {f"{place}, layer {n}": len(found) for place, by in chosen.items() for n, found in by.items()}

    def right(self, pairs: Sequence[Pair]) -> list[Pair]:
        """The pairs of which the model answers both questions right."""
        kept = []
        for group in _by_length(pairs):
            good = torch.ones(len(group), dtype=torch.bool)
            for side in (0, 1):
                questions = [pair[side] for pair in group]
                good &= _top(self._run(questions)) == torch.tensor([question.answer for question in questions])
            kept += [pair for pair, keep in zip(group, good.tolist()) if keep]
        return kept

    def prepared(self, pairs: Sequence[Pair]) -> list[_Ready]:
        """Both sides of each pair, run once."""
        ready = []
        for rows, group in _grouped(pairs):
            a, b = [pair[0] for pair in group], [pair[1] for pair in group]
            ready.append(_Ready(rows, a, b, self._run(a), self._run(b)))
        return ready

    def answers(
        self, ready: Sequence[_Ready], how: How, what: str = "swap", factor: float | None = None, direct: bool = False
    ) -> npt.NDArray[np.int64]:
        """The top answer to each A after the change [pairs]. `what`: swap, random, others, means."""
        out = np.empty(sum(len(group.rows) for group in ready), dtype=np.int64)
        for group in ready:
            if what == "means":
                deltas = self._difference_of_means(group, how, factor or how.factor)
            else:
                deltas = self._difference_of_features(group, how, what == "others")
            if what == "random":
                numbered = enumerate(deltas.items())
                deltas = {key: random_directions(delta, seed=self.seed + 7 * i) for i, (key, delta) in numbered}
            changes = _added(deltas, group.a, self.model.facts.d_model)
            held, frozen = [], None
            if direct:
                # Everything behind the changes is held at the clean run's: what is left is their way to the logits.
                points = [self.dictionary.output_point(layer) for layer in self.layers]
                held, frozen = [patch(point, group.clean) for point in points], freeze(group.clean, "pattern", "norm")
            ids = torch.tensor([question.ids for question in group.a])
            out[group.rows] = _top(self.model.run(ids, interventions=[*held, *changes], freeze=frozen)).numpy()
        return out

    def _difference_of_features(self, group: _Ready, how: How, others: bool) -> Deltas:
        """factor x B's activations less A's, through the decoders. `others`: of as many other active features a row."""
        deltas: Deltas = {}
        generator = torch.Generator().manual_seed(self.seed)
        for place in how.places:
            at = (torch.arange(len(group.a)), _where(group.a, place))
            for layer, features in self.chosen(how, place).items():
                point = self.dictionary.input_point(layer)
                mine, theirs = (
                    self.dictionary.activations(layer, run[point][at]) for run in (group.clean, group.other)
                )
                keep = torch.zeros(mine.shape[1], dtype=torch.bool)
                keep[features] = True
                active = (mine > 0) | (theirs > 0)
                if others:
                    chance = torch.rand(mine.shape, generator=generator) * (active & ~keep)
                    rank = chance.argsort(1, descending=True).argsort(1)
                    swapped = (rank < (active & keep).sum(1, keepdim=True)) & active & ~keep
                else:
                    swapped = active & keep
                change = (how.factor * theirs - mine) * swapped
                index = torch.nonzero(swapped.any(0)).flatten()
                for to in self.dictionary.writes(layer):
                    key = (self.dictionary.output_point(to), place)
                    written = change[:, index] @ self.dictionary.decoder_rows(layer, index, to).detach().to(change)
                    deltas[key] = deltas[key] + written if key in deltas else written
        return deltas

    def _difference_of_means(self, group: _Ready, how: How, factor: float) -> Deltas:
        """factor x (mean output of B's middle term less that of A's), in the layers and places of the swap."""
        mine, theirs = ([self.middles.index(question.middle) for question in side] for side in (group.a, group.b))
        return {
            (self.dictionary.output_point(layer), place): factor * (means[theirs] - means[mine])
            for place in how.places
            for layer in self.chosen(how, place)
            for means in [self.means[place, layer]]
        }


# ------------------------------------------------------------------------------------------------------- arithmetic


def _eta_squared(x: Tensor, which: Tensor, groups: int) -> tuple[Floats, Floats]:
    """Share of each column's variance that lies between groups [F], and the groups' means [groups, F]."""
    x = x.double()
    means = _means(x, which, groups)
    total = (x - x.mean(0)).square().sum(0)
    between = (means[which] - x.mean(0)).square().sum(0)
    return (between / total.clamp_min(1e-12)).numpy(), means.numpy()


def _means(x: Tensor, which: Tensor, groups: int) -> Tensor:
    counts = torch.bincount(which, minlength=groups).clamp_min(1).to(x)
    return torch.zeros(groups, x.shape[1], dtype=x.dtype).index_add_(0, which, x) / counts[:, None]


def _carries(eta_end: Floats, by_end: Floats, eta_state: Floats, by_state: Floats) -> Floats:
    """The smaller eta^2 of the two kinds of question; 0 where their preferences correlate at less than .5."""
    a, b = by_end - by_end.mean(0), by_state - by_state.mean(0)
    agree = (a * b).sum(0) / np.maximum(np.sqrt((a**2).sum(0) * (b**2).sum(0)), 1e-12)
    return np.where(agree >= 0.5, np.minimum(eta_end, eta_state), 0.0)


def _where(group: Sequence[Question], place: Place) -> Tensor:
    return torch.tensor([q.position if place == "subject" else len(q.ids) - 1 for q in group])


def _added(deltas: Deltas, group: list[Question], width: int) -> list[Intervention]:
    dense: dict[str, Tensor] = {}
    for (point, place), delta in deltas.items():
        whole = dense.setdefault(point, torch.zeros(len(group), len(group[0].ids), width))
        whole[torch.arange(len(group)), _where(group, place)] += delta
    return [add(point, whole) for point, whole in dense.items()]


def _top(run: Run) -> Tensor:
    return run.logits[:, -1].argmax(-1).cpu()


def _length(item: Question | Pair) -> int:
    return len(item.ids if isinstance(item, Question) else item[0].ids)


def _grouped(items: Sequence[Any], most: int = 256) -> Iterator[tuple[list[int], list[Any]]]:
    """(indices, items) of one length each, so that rows need no padding."""
    for length in sorted({_length(item) for item in items}):
        rows = [i for i, item in enumerate(items) if _length(item) == length]
        for start in range(0, len(rows), most):
            part = rows[start : start + most]
            yield part, [items[i] for i in part]


def _by_length(items: Sequence[Any]) -> Iterator[list[Any]]:
    yield from (group for _, group in _grouped(items))


def _wanted(pairs: Sequence[Pair]) -> npt.NDArray[np.int64]:
    """B's answers."""
    return np.array([b.answer for _, b in pairs], dtype=np.int64)


def _halves(questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """The questions about every other subject of each middle term, and the rest."""
    place: dict[str, int] = {}
    for middle in sorted({question.middle for question in questions}):
        subjects = sorted({question.subject for question in questions if question.middle == middle})
        place |= {subject: i for i, subject in enumerate(subjects)}
    even, odd = ([q for q in questions if place[q.subject] % 2 == parity] for parity in (0, 1))
    return even, odd


def _practice(questions: Sequence[Question], count: int, seed: int) -> list[Pair]:
    """Pairs of training questions of one frame and different middle terms."""
    rng = np.random.default_rng(seed)
    frames: dict[str, list[Question]] = {}
    for question in questions:
        frames.setdefault(question.frame, []).append(question)
    names = sorted(name for name, group in frames.items() if len({q.middle for q in group}) > 1)
    pairs: list[Pair] = []
    while len(pairs) < count and names:
        group = frames[names[rng.integers(len(names))]]
        a, b = (group[i] for i in rng.integers(len(group), size=2))
        if a.middle != b.middle:
            pairs.append((a, b))
    return pairs


def _state_questions(cases: Cases, pairs: Sequence[Pair]) -> list[Pair]:
    """For each pair, the questions for the middle term about its two subjects, in the first frame that has both."""
    known: dict[tuple[str, str], Question] = {(q.frame, q.subject): q for q in cases.middle}
    frames = sorted({q.frame for q in cases.middle})
    found = []
    for a, b in pairs:
        both = next(
            ((known[f, a.subject], known[f, b.subject]) for f in frames
             if (f, a.subject) in known and (f, b.subject) in known), None,
        )  # fmt: skip
        if both is not None:
            found.append(both)
    return found


# ------------------------------------------------------------------------------------------------------------- rows


def rows(swap: Swap) -> list[dict[str, Any]]:
    """Rows of an exam: the swap must carry >= 80 % of the answers, random directions <= 10 %; the rest is reported."""

    def row(
        name: str, estimate: Estimate, truth: float | None = None, tolerance: float | None = None
    ) -> dict[str, Any]:
        span = estimate.interval
        passed = None if truth is None or tolerance is None else abs(estimate.value - truth) <= tolerance + 1e-12
        return {
            "name": f"two hops, {swap.kind}: {name}",
            "truth": truth,
            "estimate": estimate.value,
            "interval": None if span is None else [span.low, span.high],
            "n": estimate.n,
            "tolerance": tolerance,
            "passed": passed,
        }

    return [
        {
            **row("middle-hop features swapped, answers that follow", swap.flips, 1.0, 0.2),
            "failures": list(swap.failures),
        },
        row("random directions of equal norm", swap.random, 0.0, 0.1),
        row("as many other active features", swap.others),
        row("difference of mean MLP outputs", swap.means),
        row("the swap's direct effect on the logits alone", swap.direct),
        row("asked for the state, answers that follow", swap.middle),
    ]
