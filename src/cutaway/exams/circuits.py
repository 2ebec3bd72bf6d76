"""The exam of `circuits/`: every method on compiled programs, whose structural and causal edges are known."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

QUICK = ("length", "hist", "double_hist", "frac_prevs", "sort", "shift")
PAIRS, QUICK_PAIRS = 512, 256
SCORED = 64  # items that methods score on
DRAWS = 100  # random rankings
KINDS = ("causal", "structural")


def circuits_exam(*, quick: bool = False, seed: int = 0) -> list[dict[str, Any]]:
    """Laws of the masked forward and of exact patching, which pass or fail; then each method's AUROC over the full
    ranking of edges and its precision at the true size, which are reported.

    Items: pairs of inputs of one length and a position, drawn by the seed. For the laws the metric is whether the
    output is right, so that an edge scores where ablating it changes an output, as in the truth; methods are scored by
    the margin, logit(right output) - the best other logit, which has a gradient. All programs take more than eight
    minutes on one core; `quick`: 6 programs, half a minute.
    """
    from cutaway.circuits import METHODS
    from cutaway.toys.rasp import compile_program, program, program_names

    names = QUICK if quick else program_names()
    subjects = [_Subject(compile_program(program(name)), QUICK_PAIRS if quick else PAIRS, seed) for name in names]
    rows = _laws(subjects)
    methods = [name for name in METHODS if METHODS[name].level == "edge"]
    scored = {method: [_score(subject, method, seed) for subject in subjects] for method in methods}
    for method in methods:
        rows += _means(method, METHODS[method].cost, scored[method], seed)
    for i, subject in enumerate(subjects):
        rows += [_one(subject, method, scored[method][i]) for method in methods]
    return rows


class _Subject:
    """A compiled program as a model with a task, and its true edges in the model's graph."""

    def __init__(self, compiled: Any, pairs: int, seed: int) -> None:
        from cutaway.circuits import opened

        self.name = compiled.name
        self.model = compiled.load()
        self.wires = opened(self.model)
        self.graph = self.wires.graph()
        self.task = _task(compiled, pairs, seed)
        edges = compiled.truth.edges.merged()
        self.exists = self.graph.mask(edges.pairs("exists"))
        self.truth = {kind: self.graph.mask(edges.pairs(kind)) for kind in KINDS}


def margin(logits: Tensor, target: Any) -> Tensor:
    """logit(right output) - the largest other logit."""
    right = logits.gather(-1, target.answers[:, None])[:, 0]
    return right - logits.scatter(-1, target.answers[:, None], -torch.inf).max(-1).values


def _task(compiled: Any, pairs: int, seed: int) -> Any:
    """Items of a program: an input, another of the same length, and the position whose output is read."""
    from cutaway.model.tokens import Batch
    from cutaway.tasks import Item, Task
    from cutaway.tasks.metrics import Target, bind

    inputs = list(compiled.program.inputs())
    by_length: dict[int, list[int]] = {}
    for i, given in enumerate(inputs):
        by_length.setdefault(len(given), []).append(i)
    several = {length: rows for length, rows in by_length.items() if len(rows) > 1}
    generator = torch.Generator().manual_seed(seed)

    def draw(most: int) -> int:
        return int(torch.randint(most, (1,), generator=generator))

    lengths = sorted(several)
    width = 1 + max(lengths)
    clean, other, ends, mask = [], [], [], []
    while len(clean) < pairs:
        # Longer inputs have more to change: lengths are drawn by their share of all positions.
        length = lengths[int(torch.multinomial(torch.tensor([float(x) for x in lengths]), 1, generator=generator))]
        same = several[length]
        a, b = same[draw(len(same))], same[draw(len(same))]
        if a == b:
            continue
        rows = compiled.ids([inputs[a], inputs[b]]).tolist()
        clean.append(rows[0] + [0] * (width - len(rows[0])))
        other.append(rows[1] + [0] * (width - len(rows[1])))
        mask.append([True] * len(rows[0]) + [False] * (width - len(rows[0])))
        ends.append(1 + draw(length))
    kept = torch.tensor(mask)
    batch, end = Batch(torch.tensor(clean), kept), torch.tensor(ends)
    model = compiled.load()
    found = [model.run(Batch(batch.ids[r : r + 64], kept[r : r + 64])).logits for r in range(0, pairs, 64)]
    answers = torch.cat(found)[torch.arange(pairs), end].argmax(-1)
    items = tuple(
        Item(" ".join(map(str, a)), " ".join(map(str, b)), str(int(t))) for a, b, t in zip(clean, other, answers)
    )
    return Task(
        name=compiled.name,
        clean=batch,
        counterfactual=Batch(torch.tensor(other), kept),
        answers=answers,
        wrong=None,
        positions={"end": end},
        template=torch.zeros(pairs, dtype=torch.long),
        items=items,
        metric=bind(margin, Target(answers), "margin"),
        seed=seed,
    )


# ---- laws


def _laws(subjects: Sequence[_Subject]) -> list[dict[str, Any]]:
    from cutaway.circuits import exact, measure

    apart_in, apart_out, apart_one = 0.0, 0.0, 0.0
    wrongly, found, causal, tried, single = 0, 0, 0, 0, 0
    for s in subjects:
        some = s.task.take(range(32))
        base, other = some.measure(s.model.run(some.clean)), some.measure(s.model.run(some.counterfactual))
        masks = torch.stack([s.graph.exists, torch.zeros_like(s.graph.exists)])
        whole, empty = measure(s.wires, s.graph, some, masks, "resample")
        scale = float(base.abs().max())
        apart_in = max(apart_in, float((whole - base).abs().max()) / scale)
        apart_out = max(apart_out, float((empty - other).abs().max()) / scale)
        index = s.exists.nonzero()[:: max(1, s.graph.n_edges // 12)]
        without = s.graph.exists.repeat(len(index), 1, 1)
        without[torch.arange(len(index)), index[:, 0], index[:, 1]] = False
        chosen = torch.zeros_like(s.exists)
        chosen[index[:, 0], index[:, 1]] = True
        by_hand = exact(s.wires, s.graph, some, edges=chosen)[:, index[:, 0], index[:, 1]].T
        masked = whole[None] - measure(s.wires, s.graph, some, without, "resample")
        apart_one = max(apart_one, float((masked - by_hand).abs().max()) / scale)
        single += len(index)
        # The truth: an edge is causal if some resample of its message changes an output.
        changed = (
            exact(s.wires, s.graph, s.task.with_metric("accuracy"), edges=s.exists).abs().nan_to_num(0).amax(0) > 0
        )
        wrongly += int((changed & ~s.truth["causal"]).sum())
        found += int((changed & s.truth["causal"]).sum())
        causal += int(s.truth["causal"].sum())
        tried += int((s.exists & ~s.truth["causal"]).sum())
    of = f"{len(subjects)} programs"
    return [
        _law(f"every edge in is the model, {of}, largest difference of the margin", apart_in, 1e-4, len(subjects)),
        _law(f"every edge out is the counterfactual's run, {of}, largest difference", apart_out, 1e-4, len(subjects)),
        _law(f"one edge out is that edge ablated by hand, {single} edges, largest difference", apart_one, 1e-4, single),
        _law(f"edges without effect to which exact patching gives one, of {tried}", float(wrongly), 0.0, tried),
        {
            "name": f"causal edges that exact patching finds, {of}",
            "truth": causal,
            "estimate": float(found),
            "interval": None,
            "n": causal,
            "tolerance": 0,
            "passed": found == causal,
        },
    ]


def _law(name: str, estimate: float, tolerance: float, n: int) -> dict[str, Any]:
    return {
        "name": name,
        "truth": 0.0,
        "estimate": estimate,
        "interval": None,
        "n": n,
        "tolerance": tolerance,
        "passed": estimate <= tolerance,
    }


# ---- methods


def _score(subject: _Subject, method: str, seed: int) -> dict[str, Any]:
    """AUROC and precision against both truths, and seconds."""
    from cutaway.circuits import against_truth, exact, score_edges
    from cutaway.core import InputError

    begun = time.perf_counter()
    if method == "random":
        return {"seconds": 0.0, **{kind: _by_chance(subject, kind, seed) for kind in KINDS}}
    task = subject.task.take(range(min(len(subject.task), SCORED)))
    try:
        if method == "exact":
            scores = exact(subject.wires, subject.graph, task, edges=subject.exists).nan_to_num(0)
        else:
            found = score_edges(subject.wires, task, method, seed=seed).per_item
            assert found is not None
            scores = found.double()
    except InputError as error:  # every score zero: attention so sharp that no gradient passes
        if "scores zero" not in str(error):
            raise
        scores = torch.zeros(1, *subject.exists.shape, dtype=torch.float64)
    size = scores.abs().mean(0)  # by how much in either direction, an item
    result: dict[str, Any] = {"seconds": round(time.perf_counter() - begun, 3)}
    for kind in KINDS:
        result[kind] = against_truth(size, subject.exists, subject.truth[kind])
    return result


def _by_chance(subject: _Subject, kind: str, seed: int) -> tuple[Any, ...]:
    """(AUROC, precision) of random rankings: the mean of DRAWS, and the middle 95 % of them."""
    from cutaway.circuits import against_truth
    from cutaway.core import Interval

    generator = torch.Generator().manual_seed(seed)
    truth, exists = subject.truth[kind], subject.exists
    drawn = [against_truth(torch.rand(exists.shape, generator=generator), exists, truth) for _ in range(DRAWS)]
    found = []
    for estimates in zip(*drawn):
        values = torch.tensor([one.value for one in estimates], dtype=torch.float64)
        low, high = torch.quantile(values, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        span = Interval(low=low, high=high, method=f"middle 95% of {DRAWS} rankings")
        found.append(estimates[0].model_copy(update={"value": float(values.mean()), "interval": span}))
    return tuple(found)


def _means(method: str, cost: str, scored: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """A method's means over programs, with intervals over programs."""
    from cutaway.evidence import bootstrap

    rows = []
    for kind in KINDS:
        for which, what in enumerate(("AUROC", "precision at the true size")):
            values = [one[kind][which].value for one in scored]
            known = [value for value in values if value == value]
            mean = bootstrap(known, name=what, over="programs", seed=seed)
            span = mean.interval
            rows.append(
                {
                    "name": f"{method}: {what}, {kind} edges, mean of {len(known)} programs",
                    "truth": None,
                    "estimate": mean.value,
                    "interval": None if span is None else [span.low, span.high],
                    "n": len(known),
                    "tolerance": None,
                    "passed": None,
                    "cost": cost,
                    "seconds": round(sum(one["seconds"] for one in scored), 2),
                }
            )
    return rows


def _one(subject: _Subject, method: str, scored: dict[str, Any]) -> dict[str, Any]:
    area, precision = scored["causal"]
    whole = subject.truth["causal"].sum() in (0, int(subject.exists.sum()))
    kind = "structural" if whole else "causal"
    area, precision = scored[kind]
    span = area.interval
    return {
        "name": f"{subject.name}, {method}: AUROC, {kind} edges",
        "truth": None,
        "estimate": area.value,
        "interval": None if span is None else [span.low, span.high],
        "n": area.n,
        "tolerance": None,
        "passed": None,
        "precision": precision.value,
        "true_edges": {kind: int(subject.truth[kind].sum()) for kind in KINDS},
        "structural": scored["structural"][0].value,
        "seconds": scored["seconds"],
    }
