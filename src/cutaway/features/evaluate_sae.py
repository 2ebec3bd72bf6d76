"""How good a dictionary of one point is, on text it was not trained on, beside everything that should be worse.

explained variance   1 - sum |y - y_hat|^2 / sum |y - mean|^2           centred; FVU is the rest
about zero           1 - sum |y - y_hat|^2 / sum |y|^2                  what some report under the same name
after token          1 - sum |y - y_hat|^2 / sum |y - the token's mean|^2
loss recovered       (CE_ablated - CE_spliced) / (CE_ablated - CE)      ablated: the point set to zero, or to its
mean
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, InputError, NotDone
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.features.components import ica, neurons, pca, random_dictionary
from cutaway.features.controls import Controls, trained_controls
from cutaway.features.density import Density
from cutaway.features.fit import placed_sae
from cutaway.features.judge import Figures, Judge
from cutaway.features.sae import SAE
from cutaway.features.settings import DictionarySettings
from cutaway.features.statistics import short
from cutaway.features.stream import as_rows
from cutaway.features.train import untrained_sae

if TYPE_CHECKING:
    from cutaway.model import Model


@dataclass(frozen=True)
class SAEReport(Drawn):
    """What `evaluate_sae` measured: the dictionary first, then what it stands beside."""

    dictionary: str
    point: str
    n_tokens: int
    n_rows: int
    cross_entropy: Estimate
    rows: tuple[Figures, ...]
    density: Density
    controls: Controls | None
    evidence: Evidence

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.sae_report/2",
            "dictionary": self.dictionary,
            "point": self.point,
            "n_tokens": self.n_tokens,
            "n_rows": self.n_rows,
            "cross_entropy": self.cross_entropy.model_dump(mode="json"),
            "rows": [row.to_json() for row in self.rows],
            "density": self.density.to_json(),
            "controls": None if self.controls is None else self.controls.to_json(),
            "evidence": self.evidence.to_json(),
        }

    def __str__(self) -> str:
        kept = [["reconstruction", "L0", "never fired", "explained variance", "about 0", "after token", "median error"]]
        used = [["in the point's place", "KL, nats", "rise of CE, nats", "recovered (zero)", "(mean)"]]
        for r in self.rows:
            dead = "" if r.dead is None else f"{r.dead:.1%}"
            about = [f"{r.about_zero:.3f}", f"{r.after_token:.3f}", f"{r.median_error.value:.3f}"]
            kept.append([r.name, f"{r.l0.value:.1f}", dead, short(r.explained_variance), *about])
            recovered = [f"{e.value:.3f}" if e is not None else "" for e in (r.recovered_zero, r.recovered_mean)]
            used.append([r.name, short(r.kl), short(r.cross_entropy_rise), *recovered])
        lines = [
            self.dictionary,
            f"{self.n_tokens:,} held-out tokens in {self.n_rows} rows; position 0 is not counted; "
            "brackets: 95 %, bootstrap over rows",
            f"the model's cross-entropy: {short(self.cross_entropy)} nats",
            "",
            *columns(kept, right=range(1, len(kept[0]))),
            "",
            *columns(used, right=range(1, len(used[0]))),
            "",
            *str(self.density).splitlines(),
            "",
        ]
        if self.controls is not None:
            lines += [*str(self.controls).splitlines(), ""]
        lines += [
            *(f"  not done: {item.what}: {item.why}" for item in self.evidence.not_done),
            f"  verdict on the explained variance: {self.evidence.verdict_text}",
        ]
        return "\n".join(lines)

    __repr__ = __str__


def evaluate_sae(
    model: Model, dictionary: SAE, rows: ArrayLike | Tensor, *,
    fit_rows: ArrayLike | Tensor | None = None, null: tuple[Model, SAE] | None = None, seed: int = 0,
    control_tokens: int = 0, control_seeds: Sequence[int] = (0, 1, 2),
) -> SAEReport:  # fmt: skip
    """Judge a dictionary of one point on held-out rows of token ids [rows, position] (-1 pads on the right).

    Beside it, at its L0 and fitted to the same tokens, in their favour: PCA, ICA, the point's own neurons, random
    directions; a dictionary whose encoder was never trained, its decoders fitted on `fit_rows` (half of the rows where
    None; the other half is then measured on); and `null`, the re-randomised model with a dictionary trained on it.
    control_tokens: with more than 0, the same recipe is trained again on so many of `fit_rows`, with `control_seeds`,
    with a frozen decoder, with a frozen encoder and on Gaussian rows (controls.py).
    Cost: two forwards over the rows a line of the table, one solve of [F, F], one FastICA, and the trained controls.
    Raises `InputError` where the dictionary does not fit the model.
    """
    found = as_rows(rows, model.facts.vocab_size)
    if fit_rows is None:
        if found.shape[0] < 2:
            raise InputError("one row is too little to judge a dictionary on; give at least two.")
        fit_rows, found = found[: found.shape[0] // 2], found[found.shape[0] // 2 :]
    judge = Judge(model, placed_sae(dictionary, model), found, seed)
    sae = judge.sae
    ours = judge.of("this dictionary", sae.reconstruct)
    l0 = max(1, round(ours.l0.value))
    simple, nothing = _beside(judge, l0, untrained_sae(model, fit_rows, _untrained(sae, l0, seed)))
    missing = []
    if null is None:
        missing.append(NotDone(what="null model", why="no dictionary trained on the re-randomised model was given"))
    else:
        twin, theirs = null
        twins = Judge(twin, placed_sae(theirs, twin), found, seed)
        nothing.append(twins.of("re-randomised model's own", twins.sae.reconstruct))
    controls = None
    if control_tokens:
        controls = trained_controls(model, judge, fit_rows, control_tokens, tuple(control_seeds))
    else:
        missing.append(NotDone(what="frozen dictionaries, Gaussian floor, other seeds", why="they must be trained"))
    evidence = Evidence(
        claim=f"{sae} reconstructs {sae.writes_to} from sparse features",
        effect=ours.explained_variance,
        nulls=tuple(_compared(one) for one in nothing),
        baselines=tuple(_compared(one) for one in simple),
        seeds=(seed,),
        how=f"held-out text, {judge.n} tokens; the untrained encoder has the same L0 and fitted decoders",
        not_done=tuple(missing),
    )
    return SAEReport(
        str(sae), sae.writes_to, judge.n, found.shape[0], judge.cross_entropy(), (ours, *simple, *nothing),
        Density.of(sae, judge.x), controls, evidence,
    )  # fmt: skip


def _untrained(sae: SAE, l0: int, seed: int) -> DictionarySettings:
    return DictionarySettings.read(
        {
            "name": "untrained", "kind": "sae", "at": sae.point, "to": sae.output_point, "l0": l0,
            "features": max(l0, sae.n_features), "seed": seed,
        }
    )  # fmt: skip


def _beside(judge: Judge, l0: int, bare: SAE) -> tuple[list[Figures], list[Figures]]:
    """What needs no dictionary learning, and what learned nothing, at the same L0."""
    features, seed = max(l0, judge.sae.n_features), judge.seed
    simple = [
        judge.beside(f"PCA, {min(l0, judge.y.shape[1])} components", pca(judge.y, l0)),
        judge.beside(f"ICA, {l0} largest", ica(judge.y, l0, seed)),
        judge.beside(f"raw neurons, {l0} largest", neurons(judge.y, l0)),
    ]
    nothing = [
        judge.beside("random dictionary", random_dictionary(judge.y, l0, features, seed)),
        judge.of("untrained encoder", bare.reconstruct),
    ]
    return simple, nothing


def _compared(figures: Figures) -> Comparison:
    return Comparison(estimate=figures.explained_variance)
