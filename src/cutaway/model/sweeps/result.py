"""What a sweep gives: the metric of every cell and item, effects with intervals, and the evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cutaway.core import (
    Comparison,
    Estimate,
    Evidence,
    InputError,
    Interval,
    NotDone,
    TailItem,
    atomic_path,
    read_json,
    write_json,
)
from cutaway.core.drawing import Drawn
from cutaway.model.sweeps.grid import Axes, Kind
from cutaway.model.sweeps.intervals import effects, intervals, resampled

SCHEMA = "cutaway.sweep/1"
METHOD = "percentile bootstrap over items"


@dataclass(frozen=True, eq=False, repr=False)
class Sweep(Drawn):
    """Made by `sweep`. Prints as a table; `effect` [*axes] is the mean over items.

    values: [*axes, item] the metric with one part changed; NaN where an item has no such position.
    clean, counterfactual: [item] the metric of the unchanged prompts. null: as `values`, of the null's sweep.
    axes.names: "layer" and what was told apart; labels: one tuple an axis; tokens: what stands at each position.
    """

    model: str
    task: str
    at: str
    how: Kind
    axes: Axes
    labels: tuple[tuple[str, ...], ...]
    tokens: tuple[str, ...]
    values: Tensor
    clean: Tensor
    counterfactual: Tensor | None
    null: Tensor | None
    null_name: str
    metric: str
    unit: str
    plan: str
    seed: int
    note: str = ""

    # ---- effects

    @property
    def base(self) -> Tensor:
        """[item] the metric before the change."""
        if self.how != "denoise":
            return self.clean
        assert self.counterfactual is not None
        return self.counterfactual

    @cached_property
    def gap(self) -> Tensor | None:
        """[item] how far the metric is from the base to the other prompts, the unit of denoise and noise. None where
        effects are in the metric's own unit: for other kinds, and where the two do not surely differ."""
        if self.how not in ("denoise", "noise") or self.counterfactual is None:
            return None
        other = self.clean if self.how == "denoise" else self.counterfactual
        gap = other - self.base
        low, high = intervals(gap[None], None, self.seed)
        apart = bool(low[0] > 0) or bool(high[0] < 0) or (len(gap) == 1 and abs(float(gap[0])) > 1e-6)
        return gap if apart else None

    @property
    def effect_unit(self) -> str:
        if self.gap is None:
            return self.unit or self.metric
        return (
            "share of the way from counterfactual to clean"
            if self.how == "denoise"
            else ("share of the way from clean to counterfactual")
        )

    @cached_property
    def effect(self) -> Tensor:
        """[*axes]: the mean change of the metric, as a share of the gap for denoise and noise."""
        return effects(self._flat(self.values), self.gap).reshape(self.values.shape[:-1])

    @cached_property
    def interval(self) -> tuple[Tensor, Tensor]:
        """(low, high), each [*axes]: 95 % bootstrap over items."""
        low, high = intervals(self._flat(self.values), self.gap, self.seed)
        return low.reshape(self.effect.shape), high.reshape(self.effect.shape)

    @cached_property
    def null_effect(self) -> Tensor | None:
        """[*axes], in the same unit; None where no null was run."""
        if self.null is None:
            return None
        return effects(self._flat(self.null), self.gap).reshape(self.values.shape[:-1])

    def _flat(self, values: Tensor) -> Tensor:
        """[cell, item] changes from the base."""
        return (values - self.base).flatten(0, -2)

    # ---- cells

    def order(self) -> list[int]:
        """Cells by the size of their effect, largest first; undefined ones last."""
        sizes = self.effect.flatten().abs().nan_to_num(-1.0)
        order: list[int] = sizes.argsort(descending=True, stable=True).tolist()
        return order

    def index(self, cell: int) -> tuple[int, ...]:
        return tuple(int(i) for i in torch.unravel_index(torch.tensor(cell), self.effect.shape))

    def label(self, cell: int) -> str:
        """A cell in words: 'z.2 head 5 position 7 (Mary)'."""
        index = self.index(cell)
        words = [self.axes.addresses[index[0]]]
        for name, labels, i in zip(self.axes.names[1:], self.labels[1:], index[1:]):
            words.append(f"{name} {labels[i]}" + (f" ({self.tokens[i].strip()})" if name == "position" else ""))
        return " ".join(words)

    # ---- evidence

    @cached_property
    def evidence(self) -> Evidence:
        """That the part with the largest effect has it, beside the null, the average part, and a choice made on other
        items."""
        if not bool(self.effect.isfinite().any()):
            raise InputError("no cell of this sweep has a value.")
        change = self._flat(self.values)
        best = self.order()[0]
        effect = float(self.effect.flatten()[best])
        nulls, not_done = [], []
        if self.null is None:
            why = (
                ("no item has another to take values from" if self.null_name else "null=None was asked for")
                if self.how in ("denoise", "noise")
                else (f"{self.how} takes no values from prompts; give null=cutaway.evidence.rerandomise(model)")
            )
            not_done.append(NotDone(what="a null", why=why))
        else:
            flat = self._flat(self.null)
            nulls.append(self._compared(f"{self.null_name}, same part", flat[best], change[best]))
            most = int(effects(flat, self.gap).abs().nan_to_num(-1.0).argmax())
            if most != best:
                nulls.append(self._compared(f"{self.null_name}, its largest part", flat[most], change[best]))
        others = torch.cat([change[:best], change[best + 1 :]])
        baselines = []
        if len(others):
            baselines.append(self._compared("the average of the other parts", others.nanmean(0), change[best]))
        else:
            not_done.append(NotDone(what="the other parts", why="the sweep has one cell"))
        second = self._second(change)
        if second is None:
            not_done.append(NotDone(what="a choice on other items", why="fewer than four items"))
        not_done.append(NotDone(what="a paraphrase", why="the task's prompts are swept as they are"))
        worst = (change[best] * (1 if effect >= 0 else -1)).nan_to_num(math.inf).argsort()[:3].tolist()
        expected = float(change[best].nanmean())
        return Evidence(
            claim=f"{self.label(best)} has the largest effect of {self.effect.numel()} parts ({self.how})",
            effect=self._estimate("effect of the part", change[best]),
            better="higher" if effect >= 0 else "lower",
            nulls=tuple(nulls),
            baselines=tuple(baselines),
            second_data=second,
            seeds=(self.seed,),
            how=_HOW[self.how],
            settings={
                "model": self.model, "task": self.task, "at": self.at, "each": list(self.axes.each),
                "how": self.how, "metric": self.metric, "unit": self.effect_unit,
            },
            residual_tail=tuple(
                TailItem(item=f"item {i}", predicted=expected, measured=float(change[best][i]))
                for i in worst
                if math.isfinite(float(change[best][i]))
            ),
            not_done=tuple(not_done),
        )  # fmt: skip

    def _estimate(self, name: str, change: Tensor) -> Estimate:
        """One cell's effect [item] with its interval."""
        value = float(effects(change[None], self.gap)[0])
        low, high = (float(x[0]) for x in intervals(change[None], self.gap, self.seed))
        held = Interval(low=low, high=high, method=METHOD) if math.isfinite(low + high) else None
        n = int((~change.isnan()).sum())
        unit = f" {self.unit}" if self.gap is None and self.unit else ""
        return Estimate(name=name, value=value, interval=held, n=n, unit=unit)

    def _compared(self, name: str, other: Tensor, change: Tensor) -> Comparison:
        """Another cell's effect, and the interval of (this one - that) over the same resamples."""
        mine, theirs = (resampled(x[None], self.gap, self.seed) for x in (change, other))
        difference = None
        if mine is not None and theirs is not None:
            low, high = (mine - theirs)[:, 0].nanquantile(torch.tensor([0.025, 0.975], dtype=mine.dtype)).tolist()
            if math.isfinite(low + high):
                difference = Interval(low=low, high=high, method=f"{METHOD}, paired")
        return Comparison(estimate=self._estimate(name, other), difference=difference)

    def _second(self, change: Tensor) -> Estimate | None:
        """The effect on the odd items of the part that is largest on the even ones: no winner's curse."""
        n = change.shape[1]
        if n < 4:
            return None
        gap = self.gap
        even = effects(change[:, ::2], None if gap is None else gap[::2])
        chosen = int(even.abs().nan_to_num(-1.0).argmax())
        odd = change[chosen].clone()
        odd[::2] = float("nan")
        return self._estimate(f"chosen on even items ({self.label(chosen)}), measured on odd ones", odd)

    # ---- out

    def to_json(self) -> dict[str, Any]:
        """A JSON object without the values of single items (`save` writes those)."""
        low, high = self.interval
        return {
            "schema": SCHEMA,
            "model": self.model,
            "task": self.task,
            "n": len(self.clean),
            "at": self.at,
            "how": self.how,
            "metric": self.metric,
            "unit": self.effect_unit,
            "clean": _plain(self._mean("clean", self.clean)),
            "counterfactual": None
            if self.counterfactual is None
            else _plain(self._mean("counterfactual", self.counterfactual)),
            "axes": [{"name": name, "labels": list(labels)} for name, labels in zip(self.axes.names, self.labels)],
            "tokens": list(self.tokens),
            "effect": _lists(self.effect),
            "low": _lists(low),
            "high": _lists(high),
            "null": None if self.null_effect is None else {"name": self.null_name, "effect": _lists(self.null_effect)},
            "evidence": self.evidence.to_json(),
            "plan": self.plan.splitlines(),
            "seed": self.seed,
            "note": self.note,
        }

    def _mean(self, name: str, values: Tensor) -> Estimate:
        low, high = (float(x[0]) for x in intervals(values[None], None, self.seed))
        held = Interval(low=low, high=high, method=METHOD) if math.isfinite(low + high) else None
        unit = f" {self.unit}" if self.unit else ""
        return Estimate(name=name, value=float(values.mean()), interval=held, n=len(values), unit=unit)

    def save(self, folder: str | Path) -> None:
        """Write sweep.json, and sweep.safetensors with `values` [*axes, item], clean, counterfactual and null."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"values": self.values, "clean": self.clean}
        tensors |= {} if self.counterfactual is None else {"counterfactual": self.counterfactual}
        tensors |= {} if self.null is None else {"null": self.null}
        with atomic_path(folder / "sweep.safetensors") as path:
            save_file({name: x.contiguous() for name, x in tensors.items()}, path)
        axes = self.axes
        settings = {
            "addresses": list(axes.addresses), "each": list(axes.each), "parts": axes.parts, "part": axes.part,
            "positions": [[label, list(at)] for label, at in axes.positions], "null_name": self.null_name,
            "metric_unit": self.unit,
        }  # fmt: skip
        write_json(folder / "sweep.json", {**self.to_json(), "settings": settings})

    @classmethod
    def load(cls, folder: str | Path) -> Sweep:
        """What `save` wrote. Raises InputError for another schema."""
        folder = Path(folder)
        if not (folder / "sweep.json").is_file():
            raise InputError(f"{folder} holds no sweep (no sweep.json).")
        data = read_json(folder / "sweep.json")
        if data.get("schema") != SCHEMA:
            raise InputError(f"{folder} has schema {data.get('schema')!r}; this version reads {SCHEMA!r}.")
        tensors, held = load_file(folder / "sweep.safetensors"), data["settings"]
        axes = Axes(
            tuple(held["addresses"]), tuple(held["each"]), held["parts"], held["part"],
            tuple((label, tuple(at)) for label, at in held["positions"]),
        )  # fmt: skip
        return cls(
            data["model"], data["task"], data["at"], data["how"], axes,
            tuple(tuple(axis["labels"]) for axis in data["axes"]), tuple(data["tokens"]),
            tensors["values"], tensors["clean"], tensors.get("counterfactual"), tensors.get("null"),
            held["null_name"], data["metric"], held["metric_unit"], "\n".join(data["plan"]), data["seed"], data["note"],
        )  # fmt: skip

    def __str__(self) -> str:
        from cutaway.model.sweeps.show import render

        return render(self)

    __repr__ = __str__


_HOW = {
    "denoise": "activation patching: the counterfactual's run with one part set to its value in the clean run",
    "noise": "activation patching: the clean run with one part set to its value in the counterfactual's run",
    "zero": "the clean run with one part set to zero",
    "mean": "the clean run with one part set to its mean over the reference prompts, per position and template",
    "resample": "the clean run with one part set to its value in another item's counterfactual run",
}


def _plain(estimate: Estimate) -> dict[str, Any]:
    found: dict[str, Any] = estimate.model_dump(mode="json")
    return found


def _lists(x: Tensor) -> Any:
    if x.ndim == 0:
        value = float(x)
        return value if math.isfinite(value) else None
    return [_lists(row) for row in x]
