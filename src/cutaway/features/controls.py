"""The controls that must be trained: the same recipe with other seeds, with half of it frozen, and on Gaussian rows.

Frozen-decoder and frozen-encoder dictionaries (arXiv 2602.14111) keep random directions on one side and learn the
other; the Gaussian floor learns noise of the same mean and covariance. All see the same tokens, so that they are
compared with the recipe trained on as many, not with a dictionary that has seen more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, Interval
from cutaway.core.table import columns
from cutaway.evidence import explained_variance, matched_gaussian
from cutaway.features.fit_rows import fit_rows as train_on_rows
from cutaway.features.judge import Figures, Judge
from cutaway.features.places import Places
from cutaway.features.sae import SAE
from cutaway.features.settings import DictionarySettings, TrainSettings
from cutaway.features.stability import Stability, stability
from cutaway.features.stream import as_rows, harvest_all

if TYPE_CHECKING:
    from cutaway.model import Model

Frozen = Literal["encoder", "decoder"]


@dataclass(frozen=True)
class Controls:
    """same: the recipe with each seed; frozen: with random halves; floor: explained variance on Gaussian rows, a seed
    each; stability: of its features over the seeds. `made` holds the dictionaries of the seeds."""

    tokens: int
    seeds: tuple[int, ...]
    same: tuple[Figures, ...]
    frozen: tuple[Figures, ...]
    floor: tuple[float, ...]
    stability: Stability
    evidence: Evidence
    made: tuple[SAE, ...] = field(repr=False)

    @property
    def excess(self) -> Estimate:
        """Explained variance less the floor's, mean and range over seeds."""
        return _range("excess over the Gaussian floor", [
            one.explained_variance.value - floor for one, floor in zip(self.same, self.floor)
        ])  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "seeds": list(self.seeds),
            "same": [one.to_json() for one in self.same],
            "frozen": [one.to_json() for one in self.frozen],
            "floor": list(self.floor),
            "excess": self.excess.model_dump(mode="json"),
            "stability": self.stability.to_json(),
            "evidence": self.evidence.to_json(),
        }

    def __str__(self) -> str:
        table = [["trained alike", "explained variance", "after token", "L0", "never fired", "KL, nats", "rise of CE"]]
        for one in (*self.same, *self.frozen):
            assert one.kl is not None
            assert one.cross_entropy_rise is not None
            table.append([
                one.name, f"{one.explained_variance.value:.3f}", f"{one.after_token:.3f}", f"{one.l0.value:.1f}",
                f"{one.dead or 0:.1%}", f"{one.kl.value:.3f}", f"{one.cross_entropy_rise.value:.3f}",
            ])  # fmt: skip
        table += [[f"Gaussian floor, seed {seed}", f"{floor:.3f}", "", "", "", "", ""]
                  for seed, floor in zip(self.seeds, self.floor)]  # fmt: skip
        span = self.excess.interval
        assert span is not None
        lines = [
            f"controls: the same recipe, trained on {self.tokens:,} tokens each",
            *columns(table, right=range(1, 7)),
            f"  excess over the Gaussian floor {self.excess.value:+.3f} (range over seeds {span.low:+.3f} to "
            f"{span.high:+.3f}); like for like: {self.evidence.verdict_text}",
            "",
            *str(self.stability).splitlines(),
        ]
        return "\n".join(lines)


def trained_controls(
    model: Model, judge: Judge, fit_rows: ArrayLike | Tensor, tokens: int, seeds: tuple[int, ...]
) -> Controls:
    """Train and judge the controls of `judge.sae` on the first `tokens` tokens of `fit_rows` [rows, position].

    Its own recorded settings where it has any, else BatchTopK of its width and L0.
    Cost: 2 dictionaries a seed and 2 more, each on `tokens` rows; four forwards over the judge's rows each.
    """
    sae = judge.sae
    base = settings_of(sae, max(1, round(judge_l0(judge))))
    rows = as_rows(fit_rows, model.facts.vocab_size)
    at = harvest_all(Places.of(model, [sae.point, sae.writes_to], mlps=False), rows, first_position=False).at
    x, y = at[sae.point][:tokens], at[sae.writes_to][:tokens]
    own = None if sae.output_point is None else y

    def made(seed: int, frozen: Frozen | None = None, noise: bool = False) -> SAE:
        more: dict[str, Any] = {"seed": seed, "frozen": frozen}
        run = TrainSettings(
            dictionaries=(base.model_copy(update=more),), tokens=tokens, batch=min(512, x.shape[0]), seed=seed
        )
        if noise:
            return next(iter(train_on_rows(matched_gaussian(y, seed=seed), run).values()))
        return next(iter(train_on_rows(x, run, y=own).values()))

    again = [made(seed) for seed in seeds]
    same = [judge.of(f"same recipe, seed {seed}", one.reconstruct) for seed, one in zip(seeds, again)]
    halves: tuple[Frozen, ...] = ("decoder",) if base.activation == "matching_pursuit" else ("decoder", "encoder")
    frozen = [judge.of(f"frozen {half}", made(seeds[0], half).reconstruct) for half in halves]
    floors = []
    for seed in seeds:
        fresh = matched_gaussian(y, judge.n, seed=seed + 1_000_003)
        floors.append(explained_variance(fresh, made(seed, noise=True).reconstruct(fresh)[0]))
    effect = _range("explained variance, same recipe", [one.explained_variance.value for one in same])
    nulls = [Comparison(estimate=one.explained_variance) for one in frozen]
    nulls.append(Comparison(estimate=_range("Gaussian floor", floors)))
    evidence = Evidence(
        claim="the recipe finds more than random directions or noise would give it", effect=effect,
        nulls=tuple(nulls), seeds=seeds, how=f"trained alike on {tokens} tokens, explained variance on held-out text",
    )  # fmt: skip
    found = stability(sae.W_dec, [one.W_dec for one in again], seed=seeds[0], what="seeds of the same recipe")
    return Controls(tokens, seeds, tuple(same), tuple(frozen), tuple(floors), found, evidence, tuple(again))


def settings_of(sae: SAE, l0: int) -> DictionarySettings:
    """The settings a dictionary was trained with, as far as they are recorded and of one point."""
    from cutaway.features.architectures import ARCHITECTURES

    held = dict(sae.training.get("settings", {}))
    known = {"name": "control", "kind": "sae", "at": sae.point or "resid_post.0", "to": sae.output_point}
    if held.get("kind") == "sae" and not sae.training.get("untrained"):
        return DictionarySettings.read(
            {**held, **known, "dead_after": min(int(held.get("dead_after", 10_000)), 10_000)}
        )
    rule = {"topk": "topk", "matching_pursuit": "matching_pursuit"}.get(sae.rule, "batchtopk")
    return DictionarySettings.read(
        {**known, "features": max(l0, sae.n_features), "l0": l0, "activation": rule, "dead_after": 10_000,
         **dict(ARCHITECTURES[rule].recipe)}
    )  # fmt: skip


@torch.no_grad()
def judge_l0(judge: Judge) -> float:
    """L0 on at most 8,192 of the judge's tokens."""
    some = judge.x[:8192]
    return len(judge.sae.reconstruct(some)[1]) / some.shape[0]


def _range(name: str, values: list[float]) -> Estimate:
    span = Interval(low=min(values), high=max(values), method=f"range over {len(values)} seeds")
    return Estimate(name=name, value=sum(values) / len(values), interval=span, n=len(values))
