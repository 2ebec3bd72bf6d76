"""Labels from a language model behind any OpenAI-compatible endpoint, scored against shuffled labels.

Never needed: labels by rule are the default. What an endpoint says is worth what its scores are above those of the same
questions asked with another feature's label (Heap et al. 2025; Paulo et al. 2024, "Automatically interpreting millions
of features"):

    detection   of ten contexts, five of the feature's and five of others': which fit the label
    fuzzing     of ten contexts of the feature, five with its tokens marked, five with others marked: which are right
    intruder    of four contexts, one is another feature's: which; no label is shown

Nothing but contexts is sent. One request a label and question; they are answered one after another.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cutaway.core import Comparison, CutawayError, Estimate, Evidence, InputError
from cutaway.core.drawing import Drawn
from cutaway.core.table import shown
from cutaway.evidence import bootstrap
from cutaway.features.describe import Described

SHOWN, ASKED = 6, 5
Ask = Callable[[str], str]


@dataclass(frozen=True)
class Endpoint:
    """url: up to and with /v1. Raises `CutawayError` where it does not answer as the protocol has it."""

    url: str
    model: str
    key: str | None = None
    seconds: float = 60.0

    def __call__(self, prompt: str) -> str:
        body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": prompt}]}
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        where = self.url.rstrip("/") + "/chat/completions"
        if not where.startswith(("http://", "https://")):
            raise InputError(f"an endpoint is an http or https address; {self.url!r} was given.")
        request = urllib.request.Request(where, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.seconds) as reply:
                found = json.loads(reply.read())
            return str(found["choices"][0]["message"]["content"])
        except (urllib.error.URLError, TimeoutError, json.JSONDecodeError, KeyError, IndexError, TypeError) as error:
            raise CutawayError(f"{where} gave no chat completion: {error}") from error


@dataclass(frozen=True)
class Asked(Drawn):
    """labels: feature -> what the model called it. scores: question -> balanced accuracy over features, beside the
    same with shuffled labels (of intruder: .25 is chance)."""

    labels: dict[int, str]
    scores: dict[str, Evidence]
    per_feature: dict[int, dict[str, float]]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.asked_labels/1",
            "labels": {str(f): text for f, text in self.labels.items()},
            "scores": {name: one.to_json() for name, one in self.scores.items()},
            "per_feature": {str(f): one for f, one in self.per_feature.items()},
        }

    def __str__(self) -> str:
        return "\n".join([f"labels of {len(self.labels)} features", *(str(one) for one in self.scores.values())])

    __repr__ = __str__


def ask_labels(described: Described, ask: Ask, features: Sequence[int], seed: int = 0) -> Asked:
    """Labels for `features`, each scored on contexts that the label was not made from.

    Cost a feature: one request for the label, and five for the scores (two of them with another's label).
    Raises `InputError` for fewer than two features with examples enough.
    """
    by_feature: dict[int, list[dict[str, Any]]] = {}
    for one in described.examples:
        by_feature.setdefault(int(one["feature"]), []).append(one)
    usable = [f for f in features if len(by_feature.get(f, ())) >= 4]
    if len(usable) < 2:
        raise InputError("labels are scored on other contexts than they were made from: give features with examples.")
    rng = np.random.default_rng(seed)
    halves = {f: _halved(by_feature[f], rng) for f in usable}
    labels = {f: ask(_question(halves[f][0])).strip() for f in usable}
    others = dict(zip(usable, np.roll(usable, 1).tolist()))
    found: dict[int, dict[str, float]] = {}
    for f in usable:
        away = [e for g in usable if g != f for e in halves[g][1]]
        found[f] = {}
        for name, score in (("detection", _detection), ("fuzzing", _fuzzing)):
            for kind, label in (("", labels[f]), (", shuffled", labels[others[f]])):
                found[f][name + kind] = score(ask, label, halves[f][1], away, np.random.default_rng([seed, f]))
        found[f]["intruder"] = _intruder(ask, halves[f][1], away, np.random.default_rng([seed, f]))
    return Asked(labels, {name: _evidence(name, found, seed) for name in ("detection", "fuzzing", "intruder")}, found)


def _evidence(name: str, found: dict[int, dict[str, float]], seed: int) -> Evidence:
    ours = [one[name] for one in found.values()]
    if name == "intruder":
        null = Estimate(name="chance", value=0.25, n=len(ours))
    else:
        null = bootstrap([one[f"{name}, shuffled"] for one in found.values()], name="shuffled labels", over="features")
    return Evidence(
        claim=f"labels tell where features fire ({name})",
        effect=bootstrap(ours, name="accuracy", over="features"),
        nulls=(Comparison(estimate=null),),
        seeds=(seed,),
        how="a language model's answers on contexts that the labels were not made from",
    )


def _halved(examples: list[dict[str, Any]], rng: np.random.Generator) -> tuple[list[Any], list[Any]]:
    """Contexts to name a feature by, and others to score the name on; strong and weak ones in both."""
    order = [*range(0, len(examples), 2)], [*range(1, len(examples), 2)]
    return [examples[i] for i in order[0]][:SHOWN], [examples[i] for i in order[1]][:ASKED]


def _text(example: dict[str, Any], marked: set[int] | None = None) -> str:
    at = {i for i, a in enumerate(example["activations"]) if a > 0} if marked is None else marked
    return " ".join(f"<<{shown(t)}>>" if i in at else shown(t) for i, t in enumerate(example["tokens"]))


def _question(examples: list[dict[str, Any]]) -> str:
    listed = "\n".join(f"{i}. {_text(one)}" for i, one in enumerate(examples, 1))
    return (
        "A feature of a language model fires on the tokens marked <<so>> in these contexts:\n"
        f"{listed}\nIn one short phrase, what do the marked tokens or their contexts have in common? Answer with the "
        "phrase alone."
    )


def _detection(ask: Ask, label: str, own: list[Any], away: list[Any], rng: np.random.Generator) -> float:
    some = [away[i] for i in rng.permutation(len(away))[: len(own)]]
    return _which(ask, f"Which of these contexts fit the description “{label}”?", own, some, rng, mark=False)


def _fuzzing(ask: Ask, label: str, own: list[Any], away: list[Any], rng: np.random.Generator) -> float:
    wrong = []
    for one in own:
        n = len(one["tokens"])
        firing = [i for i, a in enumerate(one["activations"]) if a > 0]
        silent = [i for i in range(n) if i not in firing] or list(range(n))
        wrong.append({**one, "activations": [1.0 if i == rng.choice(silent) else 0.0 for i in range(n)]})
    question = f"In which of these contexts do the marked tokens fit the description “{label}”?"
    return _which(ask, question, own, wrong, rng, mark=True)


def _which(
    ask: Ask, question: str, right: list[Any], wrong: list[Any], rng: np.random.Generator, *, mark: bool
) -> float:
    """Balanced accuracy of one question."""
    items = [(one, True) for one in right] + [(one, False) for one in wrong]
    items = [items[i] for i in rng.permutation(len(items))]
    listed = "\n".join(f"{i}. {_text(one, None if mark else set())}" for i, (one, _) in enumerate(items, 1))
    said = {int(n) for n in re.findall(r"\d+", ask(f"{question}\n{listed}\nAnswer with their numbers, or “none”."))}
    hits = [i in said for i, (_, truth) in enumerate(items, 1) if truth]
    passed = [i not in said for i, (_, truth) in enumerate(items, 1) if not truth]
    return (float(np.mean(hits)) + float(np.mean(passed))) / 2


def _intruder(ask: Ask, own: list[Any], away: list[Any], rng: np.random.Generator) -> float:
    three = [own[i] for i in rng.choice(len(own), 3, replace=len(own) < 3)]
    items = [*three, away[int(rng.integers(len(away)))]]
    order = rng.permutation(4)
    listed = "\n".join(f"{i}. {_text(items[j])}" for i, j in enumerate(order, 1))
    said = re.findall(r"\d+", ask(f"Three of these contexts belong together; which is the odd one out?\n{listed}\n"
                                  "Answer with its number."))  # fmt: skip
    return float(bool(said) and int(said[0]) == int(np.flatnonzero(order == 3)[0]) + 1)
