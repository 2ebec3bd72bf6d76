"""Swapping features between pairs of prompts: found by what they are tuned to, changed where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.core.protocols import TranscoderSet
from cutaway.evidence import random_directions
from cutaway.model import Intervention, Model, Run, add, freeze, patch

Place = Literal["subject", "end"]
PLACES: tuple[Place, ...] = ("subject", "end")
Floats = npt.NDArray[np.float64]
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
class How:
    """What was chosen on training questions: where, eta^2 at least, the factor on what is injected."""

    places: tuple[Place, ...]
    layers: int  # the first so many
    threshold: float
    factor: float


@dataclass(frozen=True, eq=False)
class Ready:
    """Pairs of one length, with what the model does on both sides. `rows`: where they lie among all pairs."""

    rows: list[int]
    a: list[Question]
    b: list[Question]
    clean: Run
    other: Run


class Swapper:
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
        self.score = {at: carries(*ends[at], *states[at]) for at in ends}

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
        tuned = {key: eta_squared(torch.cat(parts), which, len(self.middles)) for key, parts in acts.items()}
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

    def prepared(self, pairs: Sequence[Pair]) -> list[Ready]:
        """Both sides of each pair, run once."""
        ready = []
        for rows, group in _grouped(pairs):
            a, b = [pair[0] for pair in group], [pair[1] for pair in group]
            ready.append(Ready(rows, a, b, self._run(a), self._run(b)))
        return ready

    def answers(
        self, ready: Sequence[Ready], how: How, what: str = "swap", factor: float | None = None, direct: bool = False
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

    def _difference_of_features(self, group: Ready, how: How, others: bool) -> Deltas:
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

    def _difference_of_means(self, group: Ready, how: How, factor: float) -> Deltas:
        """factor x (mean output of B's middle term less that of A's), in the layers and places of the swap."""
        mine, theirs = ([self.middles.index(question.middle) for question in side] for side in (group.a, group.b))
        return {
            (self.dictionary.output_point(layer), place): factor * (means[theirs] - means[mine])
            for place in how.places
            for layer in self.chosen(how, place)
            for means in [self.means[place, layer]]
        }


def eta_squared(x: Tensor, which: Tensor, groups: int) -> tuple[Floats, Floats]:
    """Share of each column's variance that lies between groups [F], and the groups' means [groups, F]."""
    x = x.double()
    means = _means(x, which, groups)
    total = (x - x.mean(0)).square().sum(0)
    between = (means[which] - x.mean(0)).square().sum(0)
    return (between / total.clamp_min(1e-12)).numpy(), means.numpy()


def _means(x: Tensor, which: Tensor, groups: int) -> Tensor:
    counts = torch.bincount(which, minlength=groups).clamp_min(1).to(x)
    return torch.zeros(groups, x.shape[1], dtype=x.dtype).index_add_(0, which, x) / counts[:, None]


def carries(eta_end: Floats, by_end: Floats, eta_state: Floats, by_state: Floats) -> Floats:
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
