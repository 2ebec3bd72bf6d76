"""Whether features are good for classifying texts: the whole table, the rows where something simpler wins included.

Rows: a dictionary's features pooled over each text; the hidden state at the same point; words (TF-IDF); PCA of the
hidden state; a dense autoencoder of the dictionary's width; random directions at its L0; an untrained model's hidden
state. Columns: regimes of data. One classifier for all: logistic regression, its strength chosen by cross-validation on
the texts to learn from. Features and hidden state have boosted trees, too: what a linear classifier cannot combine.

    plentiful   all texts to learn from
    scarce      `few` of them a class, DRAWS draws
    noisy       a share NOISE of the labels to learn from replaced by another, DRAWS draws
    shifted     other texts with the same labels, or, without any: learned on the shorter half, tested on the longer
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, InputError
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import arm, bootstrap, bootstrap_difference
from cutaway.features.components import random_dictionary
from cutaway.features.embedding import FeatureEmbedding, text_rows
from cutaway.features.places import Places
from cutaway.features.sae import SAE
from cutaway.features.statistics import short
from cutaway.features.stream import harvest_all

if TYPE_CHECKING:
    from cutaway.model import Model

Floats = NDArray[np.float64]
REGIMES = ("plentiful", "scarce", "noisy", "shifted")
DRAWS, NOISE, TEST = 5, 0.3, 0.3
OURS = "features"
BOOSTED = ", boosted trees"  # behind the name of what they read
_AE_STEPS, _AE_BATCH = 400, 256
_TREES = 30  # a class
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class ClassifyTable(Drawn):
    """accuracy[representation][regime], each with a bootstrap interval over the texts tested on; evidence a regime."""

    data: str
    dictionary: str
    n_learn: int
    n_test: int
    classes: tuple[str, ...]
    few: int
    shifted_by: str
    width: Mapping[str, int]
    accuracy: Mapping[str, Mapping[str, Estimate]]
    chance: float
    evidence: tuple[Evidence, ...]

    def winners(self) -> dict[str, str]:
        """The best representation of each regime."""
        return {regime: max(self.accuracy, key=lambda r: self.accuracy[r][regime].value) for regime in REGIMES}

    def to_json(self) -> dict[str, Any]:
        table = {
            name: {regime: one.model_dump(mode="json") for regime, one in row.items()}
            for name, row in self.accuracy.items()
        }
        return {
            "schema": "cutaway.classify/1",
            "data": self.data, "dictionary": self.dictionary, "n_learn": self.n_learn, "n_test": self.n_test,
            "classes": list(self.classes), "few": self.few, "shifted_by": self.shifted_by, "chance": self.chance,
            "width": dict(self.width), "regimes": list(REGIMES), "accuracy": table, "winners": self.winners(),
            "evidence": [one.to_json() for one in self.evidence],
        }  # fmt: skip

    def __str__(self) -> str:
        best = self.winners()
        table = [["balanced accuracy", "numbers", *REGIMES]]
        for name, row in self.accuracy.items():
            top = {r: self.accuracy[best[r]][r].value - 1e-9 for r in REGIMES}
            cells = [f"{'*' if row[r].value >= top[r] else ' '}{short(row[r])}" for r in REGIMES]
            table.append([name, str(self.width[name]), *cells])
        lines = [
            f"{self.data}: {len(self.classes)} classes, {self.n_learn:,} texts to learn from, {self.n_test:,} to test "
            f"on; chance {self.chance:.3f}",
            f"features: {self.dictionary}, strongest over each text",
            *columns(table, right=range(1, len(table[0]))),
            f"  *: best of its column; brackets: 95 %, bootstrap over texts. scarce: {self.few} texts a class, noisy: "
            f"{NOISE:.0%} of labels wrong",
            f"  (means of {DRAWS} draws); shifted: {self.shifted_by}",
        ]
        lines += [f"  {one.claim}: {one.verdict_text}" for one in self.evidence]
        return "\n".join(lines)

    __repr__ = __str__


def classify_table(
    model: Model, dictionary: SAE, texts: Sequence[str], labels: Sequence[str], *,
    shifted: tuple[Sequence[str], Sequence[str]] | None = None, few: int = 10, seed: int = 0, data: str = "texts",
    on: Say = lambda message: None,
) -> ClassifyTable:  # fmt: skip
    """Classify labelled texts from each representation in each regime. shifted: texts and labels of another source.

    Cost: a forward a text for two models, an autoencoder of minutes at most, 8 x 12 logistic regressions (each over
    three strengths), 2 x 12 ensembles of at most `_TREES` trees a class.
    Raises `InputError` where a class has fewer texts than 2 `few`, or labels are of one class.
    """
    classes, y = np.unique(np.asarray([str(label) for label in labels]), return_inverse=True)
    if len(texts) != len(labels):
        raise InputError(f"one label a text: {len(texts)} texts and {len(labels)} labels were given.")
    counts = np.bincount(y)
    if len(classes) < 2 or counts.min() < 2 * few:
        raise InputError(
            f"classifying needs two classes or more, of at least {2 * few} texts each; there are "
            f"{', '.join(f'{name} ({n})' for name, n in zip(classes, counts))}."
        )
    learn, test = _halves(y, seed)
    made = _representations(model, dictionary, list(texts), learn, seed, on)
    found = {name: make(list(texts), learn) for name, make in made.items()}
    other = None
    if shifted is not None:
        unknown = set(map(str, shifted[1])) - set(classes)
        if unknown:
            raise InputError(f"the shifted texts have labels that the others do not: {', '.join(sorted(unknown))}.")
        other = {name: make([*texts, *shifted[0]], learn)[len(texts) :] for name, make in made.items()}
    for name in (OURS, "hidden state, mean"):
        found[name + BOOSTED] = found[name]
        if other is not None:
            other[name + BOOSTED] = other[name]
    on("learning")
    lengths = np.array([len(text) for text in texts])
    scores: dict[str, dict[str, Floats]] = {name: {} for name in found}
    weights: dict[str, Floats] = {}
    for regime, (fits, at, truth, source) in _regimes(
        y, learn, test, lengths, other is not None, few, seed, None if shifted is None else _codes(shifted[1], classes)
    ).items():
        weights[regime] = _balance(truth)
        for name in found:
            x, tested = found[name], (other if source == "other" and other is not None else found)[name][at]
            learned = _boosted if name.endswith(BOOSTED) else _linear
            right = [learned(x[index], labels_, tested) == truth for index, labels_ in fits]
            scores[name][regime] = np.mean(right, axis=0) * weights[regime]
    accuracy = {
        name: {
            r: bootstrap(v, weights[r], statistic=_ratio, name=f"{name}, {r}", over="texts", method="percentile")
            for r, v in row.items()
        }
        for name, row in scores.items()
    }
    by = "the longer half of the texts, learned on the shorter" if shifted is None else "texts of another source"
    return ClassifyTable(
        data, str(dictionary), len(learn), len(test), tuple(map(str, classes)), few, by,
        {name: x.shape[1] for name, x in found.items()}, accuracy, 1 / len(classes),
        tuple(_evidence(regime, accuracy, scores, weights[regime], seed) for regime in REGIMES),
    )  # fmt: skip


# ---- representations

Make = Callable[[list[str], NDArray[np.int64]], Floats]


def _representations(
    model: Model, sae: SAE, texts: list[str], learn: NDArray[np.int64], seed: int, on: Say
) -> dict[str, Make]:
    """Name -> texts (the first of which are those learned from, by `learn`) -> [texts, numbers]."""
    on("reading the texts with the model")
    rows = text_rows(model, [texts[i] for i in learn[:600]])
    x = harvest_all(Places.of(model, [sae.point], mlps=False), rows, first_position=False).at[sae.point][:60_000]
    l0 = max(1, round(float((sae.encode(x[:4096]) != 0).float().sum(1).mean())))
    dense = _Dense(x, sae.n_features, seed)
    bare = arm(model, "step0", seed)

    def embedded(m: Any, dictionary: Any, pool: Any) -> Make:
        return lambda given, _: FeatureEmbedding(m, dictionary, sae.point, pool).transform(given).astype(np.float64)

    def words(given: list[str], learn: NDArray[np.int64]) -> Floats:
        from sklearn.feature_extraction.text import TfidfVectorizer

        fit = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), max_features=20_000, token_pattern=r"(?u)\S+")
        fit.fit([given[i] for i in learn])
        return np.asarray(fit.transform(given).toarray(), dtype=np.float64)

    def principal(given: list[str], learn: NDArray[np.int64]) -> Floats:
        from sklearn.decomposition import PCA

        whole = embedded(model, None, "mean")(given, learn)
        size = min(whole.shape[1], len(learn), max(2, min(l0, 50)))
        return np.asarray(PCA(size, random_state=seed).fit(whole[learn]).transform(whole), dtype=np.float64)

    return {
        OURS: embedded(model, sae, "max"),
        "hidden state, mean": embedded(model, None, "mean"),
        "hidden state, last": embedded(model, None, "last"),
        "TF-IDF": words,
        "PCA": principal,
        "dense autoencoder": embedded(model, dense, "max"),
        "random dictionary": embedded(model, random_dictionary(x, l0, sae.n_features, seed), "max"),
        "untrained model": embedded(bare, None, "mean"),
    }


NULLS = ("random dictionary", "untrained model")


class _Dense:
    """An autoencoder of the same width without any sparsity: a = ReLU(W x + b), x ~ V a + c."""

    def __init__(self, x: Tensor, features: int, seed: int) -> None:
        g = torch.Generator().manual_seed(seed)
        mean, scale = x.mean(0), x.std().clamp_min(1e-8)
        d = x.shape[1]
        W = (torch.randn(features, d, generator=g) / d**0.5).requires_grad_(True)
        V = (torch.randn(d, features, generator=g) / features**0.5).requires_grad_(True)
        b = torch.zeros(features, requires_grad=True)
        optimiser = torch.optim.Adam([W, V, b], lr=1e-3)
        z = (x - mean) / scale
        with torch.enable_grad():
            for _ in range(_AE_STEPS):
                part = z[torch.randint(len(z), (_AE_BATCH,), generator=g)]
                loss = (part - torch.relu(part @ W.T + b) @ V.T).square().sum(-1).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        self.W, self.b = (W.detach() / scale), b.detach() - (W.detach() @ mean) / scale
        self.n_features = features

    def encode(self, x: Tensor) -> Tensor:
        return torch.relu(x.float() @ self.W.T + self.b)


# ---- regimes

Fit = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows to learn from, their labels


def _halves(y: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    test: list[int] = []
    for c in np.unique(y):
        mine = rng.permutation(np.flatnonzero(y == c))
        test += mine[: max(1, round(TEST * len(mine)))].tolist()
    chosen = np.zeros(len(y), dtype=bool)
    chosen[test] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _regimes(
    y: NDArray[np.int64], learn: NDArray[np.int64], test: NDArray[np.int64], lengths: NDArray[np.int64], other: bool,
    few: int, seed: int, other_y: NDArray[np.int64] | None,
) -> dict[str, tuple[list[Fit], Any, NDArray[np.int64], str]]:  # fmt: skip
    """Regime -> (what to learn from, draw by draw; rows to test on; their labels; whose rows)."""
    rng = np.random.default_rng(seed + 1)
    n = int(y.max()) + 1
    scarce, noisy = [], []
    for _ in range(DRAWS):
        some = np.concatenate([rng.permutation(learn[y[learn] == c])[:few] for c in range(n)])
        scarce.append((some, y[some]))
        wrong = y[learn].copy()
        flip = rng.random(len(learn)) < NOISE
        wrong[flip] = (wrong[flip] + rng.integers(1, n, flip.sum())) % n
        noisy.append((learn, wrong))
    out: dict[str, Any] = {
        "plentiful": ([(learn, y[learn])], test, y[test], "own"),
        "scarce": (scarce, test, y[test], "own"),
        "noisy": (noisy, test, y[test], "own"),
    }
    if other and other_y is not None:
        out["shifted"] = ([(learn, y[learn])], slice(None), other_y, "other")
    else:
        # Of each class its shorter texts, so that length does not tell the class.
        short = np.zeros(len(y), dtype=bool)
        for c in range(n):
            mine = np.flatnonzero(y == c)
            short[mine[np.argsort(lengths[mine], kind="stable")[: len(mine) // 2]]] = True
        at = test[~short[test]]
        rows = learn[short[learn]]
        out["shifted"] = ([(rows, y[rows])], at, y[at], "own")
    return out


def _ratio(right: Floats, weight: Floats) -> Floats:
    """[rows, n] -> [rows]: weighted rights over weights, so that a resample's accuracy cannot pass 1."""
    return np.asarray(right.sum(-1) / weight.sum(-1), dtype=np.float64)


def _codes(labels: Sequence[str], classes: NDArray[Any]) -> NDArray[np.int64]:
    return np.searchsorted(classes, np.asarray([str(label) for label in labels])).astype(np.int64)


def _balance(truth: NDArray[np.int64]) -> Floats:
    """Weights of mean 1 that make the mean of rights the balanced accuracy."""
    counts = np.bincount(truth)
    there = counts > 0
    weight = np.zeros(len(counts))
    weight[there] = len(truth) / (there.sum() * counts[there])
    return np.asarray(weight[truth], dtype=np.float64)


def _linear(x: Floats, y: NDArray[np.int64], tested: Floats) -> NDArray[np.int64]:
    """The class of each tested row, by logistic regression on columns of mean 0 and deviation 1."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    mean, spread = x.mean(0), x.std(0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    folds = int(min(3, np.bincount(y)[np.unique(y)].min()))
    bare = LogisticRegression(max_iter=150, class_weight="balanced")
    fit: Any = bare if folds < 2 else GridSearchCV(bare, {"C": [0.001, 0.03, 1.0]}, cv=folds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit.fit((x - mean) / spread, y)
    return np.asarray(fit.predict((tested - mean) / spread))


def _boosted(x: Floats, y: NDArray[np.int64], tested: Floats) -> NDArray[np.int64]:
    """The same by gradient boosting of trees (Friedman 2001; histograms of at most 32 values a column)."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    few = int(np.bincount(y)[np.unique(y)].min())
    fit = HistGradientBoostingClassifier(
        max_iter=_TREES, max_leaf_nodes=8, min_samples_leaf=max(1, min(20, few // 3)), max_bins=32,
        class_weight="balanced", early_stopping=False, random_state=0,
    )  # fmt: skip
    return np.asarray(fit.fit(x, y).predict(tested))


def _evidence(
    regime: str, accuracy: Mapping[str, Mapping[str, Estimate]], scores: Mapping[str, Mapping[str, Floats]],
    weight: Floats, seed: int,
) -> Evidence:  # fmt: skip
    def compared(name: str) -> Comparison:
        ours, theirs = (np.stack([scores[one][regime], weight]) for one in (OURS, name))
        apart = bootstrap_difference(ours, theirs, paired=True, statistic=_ratio, over="texts", seed=seed)
        return Comparison(estimate=accuracy[name][regime].model_copy(update={"name": name}), difference=apart)

    return Evidence(
        claim=f"features classify, {regime}",
        effect=accuracy[OURS][regime],
        nulls=tuple(compared(name) for name in NULLS),
        # Trees over the features themselves are no simpler method.
        baselines=tuple(compared(name) for name in accuracy if name not in (OURS, OURS + BOOSTED, *NULLS)),
        seeds=(seed,),
        how="balanced accuracy on held-out texts, one linear classifier for all; differences paired by text",
    )
