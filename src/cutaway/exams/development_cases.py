"""Cases of development, by one call each: almanac's training, attention-only stages, grokking, polygons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.core import Comparison, Estimate, Evidence, InputError, Interval

CASES = {
    "almanac": "almanac's own training: which behaviour when, and the LLC beside it",
    "attention-only": "a two-layer attention-only model: the stages up to induction heads",
    "grokking": "addition modulo 53: memorised first, general later",
    "polygons": "the toy model of superposition in two dimensions: losses of regular polygons, LLC across transitions",
}
ATTENTION_ONLY = ("agreement", "greater_than", "two_hop", "indirect_object", "induction")  # behaviours it learns
SHORT: dict[str, Any] = {"rows": 256, "length": 32, "draws": 30, "burn_in": 20, "batch": 4, "items": 40}  # --quick
MOST_BESIDE = 8  # changepoints of the series beside which an event is put
LATE = 20  # checkpoints that a part of a timeline needs
On = Callable[[str], None]


@dataclass(frozen=True, eq=False, repr=False)
class Development:
    """A timeline, its essential dynamics where outputs were kept, and lines that say what was found."""

    timeline: Any
    essential: Any = None
    lines: tuple[str, ...] = ()
    stages_by: str | None = None

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        found: tuple[Evidence, ...] = self.timeline.evidence
        return found

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = self.timeline.to_json(self.stages_by)
        body["essential"] = None if self.essential is None else self.essential.to_json()
        body["summary"] = list(self.lines)
        return body

    def __str__(self) -> str:
        parts = [str(self.timeline)]
        if self.essential is not None:
            parts.append(str(self.essential))
        return "\n\n".join([*parts, *(["\n".join(self.lines)] if self.lines else [])])

    __repr__ = __str__


def finished(
    line: Any, *, kind: str = "slope", event: str | None = None, against: str = "llc", lines: Sequence[str] = (),
    seed: int = 0,
) -> Development:  # fmt: skip
    """Changepoints of every series, essential dynamics of what was kept, and an event's distance to a changepoint: of
    the whole series, and of what comes after nine tenths of the loss's fall, beside whose size nothing later counts."""
    from cutaway.development import essential_dynamics

    line = line.with_changepoints(kind=kind, most=3, seed=seed)
    essential, lines = None, list(lines)
    if "outputs" in line.arrays:
        try:
            essential = essential_dynamics(line.steps, line.arrays["outputs"], seed=seed)
        except InputError as error:
            line = replace(line, notes=(*line.notes, f"no essential dynamics: {error}"))
    if event is not None and event in line.series and against in line.series:
        line = line.with_changepoints([against], kind=kind, most=MOST_BESIDE, seed=seed)
        line, said = _beside(line, event, against, seed, kind)
        lines += said
    return Development(line, essential, tuple(lines), against if against in line.series else None)


def _beside(line: Any, event: str, against: str, seed: int, kind: str) -> tuple[Any, list[str]]:
    """How far the onset of one series lies from the nearest changepoint of another, beside shuffled checkpoints."""
    from cutaway.development import onset

    values = line.values(event)
    at = onset(line.steps, values)
    if not np.isfinite(at):
        return line, [f"{event} never rises: no onset."]
    seen = values[np.isfinite(values)]
    lines = [f"onset of {event} (half way from {seen[0]:.3g} to {seen.max():.3g}): step {at:.0f}"]
    late = _after_the_fall(line, at)
    records = []
    for part, where in ((line, ""), *([] if late is None else [(late, f" from step {late.steps[0]:,} on")])):
        if where:  # where the loss has made nine tenths of its fall
            part = part.with_changepoints([against], kind=kind, most=MOST_BESIDE, seed=seed)
        record, said = _one_beside(part, event, at, against, seed, where)
        records += [] if record is None else [record]
        lines.append(said)
    return replace(line, evidence=(*line.evidence, *records)), lines


def _one_beside(line: Any, event: str, at: float, against: str, seed: int, where: str) -> tuple[Evidence | None, str]:
    from cutaway.development import nearest

    found = line.found.get(against)
    near = None if found is None else nearest(at, line.steps, line.values(against), found, seed=seed)
    if near is None:
        return None, f"  {against}{where} has no changepoint beyond the shuffled null."
    method = "middle 90 % of shuffles"
    null = Estimate(
        name=f"{against} with its checkpoints shuffled", value=near.null_mean, n=near.shuffles,
        interval=Interval(low=near.null_low, high=near.null_high, level=0.9, method=method),
    )  # fmt: skip
    apart = Interval(low=near.distance - near.null_high, high=near.distance - near.null_low, level=0.9, method=method)
    record = Evidence(
        claim=f"The onset of {event} lies at a changepoint of {against}{where}",
        effect=Estimate(name="distance in log step", value=near.distance, n=len(line.steps)),
        better="lower",
        nulls=(Comparison(estimate=null, difference=apart),),
        seeds=(seed,),
        how=f"Onset: half way from the first value to the largest, at step {at:.0f}; checkpoints there are "
        f"{near.resolution:.2f} apart in log step. p = {near.p:.3f} of {near.shuffles} shuffles.",
        settings={"onset": at, "changepoint": near.changepoint, "resolution": near.resolution, "p": near.p},
    )
    steps = ", ".join(f"{step:g}" for step in found.steps)
    return record, f"  {against}{where} changes at {steps}: {near}"


def _after_the_fall(line: Any, event: float) -> Any:
    """The checkpoints after nine tenths of the loss's fall, where that leaves enough before the event; else None."""
    if "loss" not in line.series:
        return None
    loss = line.values("loss")
    if not np.isfinite(loss[0]) or not np.isfinite(loss).all():
        return None
    low = int(np.argmax(loss <= loss[0] - 0.9 * (loss[0] - loss.min())))
    late = line.since(line.steps[low])
    return late if line.steps[low] < event and len(late.steps) >= LATE else None


def almanac_case(
    out: Path | None, *, checkpoints: str | Path = "almanac", quick: bool = False, seed: int = 0, every: int = 1,
    names: Sequence[str] = (), on: On = print,
) -> Development:  # fmt: skip
    """almanac's own training; `checkpoints`: the twelve that lie in the repository, or the hundred that
    `cutaway organism train almanac` writes. About 30 s a checkpoint of one core; `quick` a third of that."""
    from cutaway.development import find_checkpoints, timeline
    from cutaway.exams.timeline_measures import Plan, wired

    found = find_checkpoints(checkpoints, every=every)
    names = names or (
        ("loss", "llc", "heads", "behaviours", "norm", "trace", "essential")
        if quick
        else ("loss", "llc", "heads", "behaviours", "circuit", "features", "norm", "trace", "essential")
    )
    plan = Plan(
        seed=seed,
        **(SHORT if quick else {}),
        behaviours=("induction", "indirect_object", "addition", "two_hop", "agreement", "pronoun", "greater_than"),
    )
    ids = small_world_rows(plan.rows, plan.length)
    line = timeline(found, wired(names, found, ids, plan, on, out), out, on=on)
    return finished(line, event="induction", seed=seed, lines=_when(line, plan.behaviours))


def _when(line: Any, names: Sequence[str]) -> list[str]:
    from cutaway.development import onset

    at = {name: onset(line.steps, line.values(name)) for name in names if name in line.series}
    order = sorted((step, name) for name, step in at.items() if np.isfinite(step))
    return ["half of each behaviour is there by step: " + ", ".join(f"{n} {s:.0f}" for s, n in order)] if order else []


def small_world_rows(rows: int, length: int) -> Any:
    """Held-out text of the small world, ids [rows, length]."""
    import torch

    from cutaway.organisms.almanac.text import held_out_rows

    return torch.from_numpy(held_out_rows(rows, 1).astype(np.int64))[:rows, :length]


def attention_only_case(
    out: Path | None, *, checkpoints: str | Path | None = None, quick: bool = False, seed: int = 0, every: int = 1,
    names: Sequence[str] = (), on: On = print,
) -> Development:  # fmt: skip
    """Two layers of attention alone. Without `checkpoints` they are trained first, into `out`/training: about
    twelve minutes of one core (quick: 300 steps of 8 rows)."""
    from cutaway.development import find_checkpoints, timeline
    from cutaway.exams.timeline_measures import Plan, wired
    from cutaway.organisms.attention_only import AttentionOnlyRecipe, train_attention_only

    if checkpoints is None:
        recipe = AttentionOnlyRecipe(seed=seed)
        if quick:
            recipe = replace(recipe, steps=300, checkpoints=16, batch_rows=8)
        checkpoints = train_attention_only(_training(out, "attention-only"), recipe, on=on)
    found = find_checkpoints(checkpoints, every=every)
    plan = Plan(seed=seed, behaviours=ATTENTION_ONLY, **(SHORT if quick else {}))
    ids = small_world_rows(plan.rows, plan.length)
    names = names or ("loss", "llc", "heads", "behaviours", "norm", "trace", "essential")
    out = out and out / "timeline"
    line = timeline(found, wired(names, found, ids, plan, on, out), out, on=on)
    return finished(line, event="head: prefix matching", seed=seed, lines=_when(line, plan.behaviours))


def _training(out: Path | None, name: str) -> Path:
    if out is None:
        raise InputError(
            f"{name} is trained first: name a folder for it with --out, or give its checkpoints with --checkpoints."
        )
    return out / "training"


def grokking_case(
    out: Path | None, *, checkpoints: str | Path | None = None, quick: bool = False, seed: int = 0, every: int = 1,
    on: On = print, **_: Any,
) -> Development:  # fmt: skip
    """Addition modulo 53. Without `checkpoints` it is trained first, into `out`/training: about two minutes."""
    from cutaway.core import read_json
    from cutaway.development import (
        Data,
        Function,
        Setting,
        cross_entropy,
        find_checkpoints,
        find_step,
        llc_measure,
        progress,
        timeline,
        trace_measure,
        weight_norm,
    )  # fmt: skip
    from cutaway.organisms.grokking import GrokkingRecipe, read_modular_addition, split, train_modular_addition

    if checkpoints is None:
        recipe = GrokkingRecipe(seed=seed)
        if quick:
            recipe = replace(recipe, p=23, d_model=32, d_mlp=64, steps=400, every=50)
        checkpoints = train_modular_addition(_training(out, "grokking"), recipe, on=on)
    if not (Path(checkpoints) / "recipe.json").is_file():
        raise InputError(
            f"{checkpoints} holds no run of grokking: recipe.json is missing. Without --checkpoints one is trained."
        )
    recipe = GrokkingRecipe(**read_json(Path(checkpoints) / "recipe.json"))
    found = find_checkpoints(
        checkpoints, opener=lambda c: read_modular_addition(Path(c.source) / "model.safetensors"), every=every
    )
    last = found.open(found.items[-1])
    tokens = last.pairs()
    answers = (tokens[:, 0] + tokens[:, 1]) % recipe.p
    inside, _outside = split(recipe.p, recipe.share, recipe.seed)
    key = progress(_all_logits(last), inside).key

    def measured(module: Any) -> dict[str, Any]:
        now = progress(_all_logits(module), inside, key)
        return {
            "training loss": now.train, "test loss": now.test, "test accuracy": now.accuracy,
            "restricted loss": now.restricted, "excluded loss": now.excluded,
            "key frequencies' share": now.explained,
        }  # fmt: skip

    data = Data((tokens[inside], answers[inside]), cross_entropy, f"{len(inside)} training pairs")
    # gamma 1000: weights move by 0.03 each. At 10 chains of hundreds of steps had not come to rest (R-hat 1.3).
    setting = Setting(
        n_beta=len(inside) / np.log(len(inside)), localisation=1000.0, eps=1.0, sampler="sgnht", chains=4,
        draws=40 if quick else 120, burn_in=20 if quick else 100, batch=128, seed=seed,
    )  # fmt: skip
    setting = _steepest(found, data, setting, find_step)
    on(f"step eps {setting.eps:.2g} from the steepest of three checkpoints")
    measures = [
        Function("progress", measured, {"key": list(key)}),
        llc_measure(data, setting),
        weight_norm(),
        trace_measure(data, items=512, seed=seed),
    ]
    line = timeline(found, measures, out and out / "timeline", on=on)
    final = progress(_all_logits(last), inside)
    llc = line.values("llc")
    peak = int(np.nanargmax(llc))
    lines = [
        f"at the last checkpoint: {final}",
        f"LLC: {llc[0]:.1f} at the start, at most {llc[peak]:.1f} (step {line.steps[peak]}), {llc[-1]:.1f} at the end",
    ]
    return finished(line, event="test accuracy", seed=seed, lines=lines)


def _steepest(found: Any, data: Any, setting: Any, find_step: Callable[..., Any]) -> Any:
    """The smallest of the steps found at the first, a middle and the last checkpoint: one for all, to compare them."""
    places = (0, len(found) // 2, len(found) - 1)
    return min((find_step(data.loss(found.open(found.items[i])), setting) for i in places), key=lambda s: s.eps)


def _all_logits(module: Any) -> Any:
    import torch

    with torch.no_grad():
        return module(module.pairs()).reshape(module.p, module.p, module.p)


def polygons_case(
    out: Path | None, *, quick: bool = False, seed: int = 0, every: int = 1, on: On = print, **_: Any
) -> Development:
    """Gradient descent with noise on the closed-form loss of six features in two dimensions; seconds."""
    import torch

    from cutaway.development import (
        Checkpoint,
        Checkpoints,
        Data,
        Function,
        Setting,
        find_step,
        llc_measure,
        timeline,
        trace_measure,
    )  # fmt: skip
    from cutaway.toys.normal_crossing import itself
    from cutaway.toys.polygons import Polygons, corners, polygon_loss, regular_polygon

    c = 6
    generator = torch.Generator().manual_seed(seed)
    w, b = 0.1 * torch.randn(2, c, generator=generator), torch.zeros(c)
    module = Polygons(w, b)
    steps, kept = 6000 if not quick else 2000, {}
    wanted = {0, *np.unique(np.round(np.geomspace(1, steps, 24 if quick else 60)).astype(int)).tolist()}
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05)
    for step in range(steps + 1):
        if step in wanted:
            kept[step] = {name: value.detach().clone() for name, value in module.named_parameters()}
        optimiser.zero_grad()
        polygon_loss(module.W, module.b).backward()  # type: ignore[no-untyped-call]
        for parameter in module.parameters():
            assert parameter.grad is not None
            parameter.grad += 1e-3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        optimiser.step()
    items = tuple(Checkpoint(step, f"step-{step:06d}", f"seed {seed}") for step in sorted(kept))[::every]
    found = Checkpoints("polygons", items, lambda one: Polygons(kept[one.step]["W"], kept[one.step]["b"]))
    table = [regular_polygon(k, c) for k in range(2, c + 1)]

    def measured(subject: Any) -> dict[str, Any]:
        value = polygon_loss(subject.W.detach(), subject.b.detach())
        return {"loss": float(value), "corners": float(corners(subject.W.detach()))}

    data = Data((module.data(),), itself, "closed form")
    setting = Setting(
        n_beta=1000.0, localisation=1.0, eps=1.0, sampler="sgnht", chains=16, draws=200 if quick else 600,
        burn_in=100 if quick else 300, every=2, seed=seed,
    )  # fmt: skip
    setting = _steepest(found, data, setting, find_step)
    line = timeline(
        found, [Function("polygon", measured), llc_measure(data, setting), trace_measure(data, seed=seed)], out, on=on
    )
    lines = ["regular polygons among 6 features, closed form:"]
    from cutaway.development import llc

    for one in table:
        measured_llc = llc(data.loss(one.place(c)), setting)
        lines.append(
            f"  {one.k}-gon: loss {one.loss:.5f}; lambda hat {measured_llc.estimate}"
            + (" (no minimum here: chains find lower losses)" if measured_llc.value <= 0 else "")
        )
    ends = line.values("loss")
    near = min(table, key=lambda one: abs(one.loss - ends[-1]))
    lines.append(f"training ends at loss {ends[-1]:.5f}; the nearest polygon is the {near.k}-gon at {near.loss:.5f}")
    return finished(line, seed=seed, lines=lines)


def run_case(name: str, out: Path | None, **more: Any) -> Development:
    """A case by name. Raises UnknownName."""
    from cutaway.core import UnknownName

    runs: dict[str, Callable[..., Development]] = {
        "almanac": almanac_case,
        "attention-only": attention_only_case,
        "grokking": grokking_case,
        "polygons": polygons_case,
    }
    if name not in runs:
        raise UnknownName("case", name, runs)
    return runs[name](out, **more)
