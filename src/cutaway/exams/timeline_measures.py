"""Measures of a timeline that come from other rooms, and all of them by name for the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cutaway.core import Estimate, InputError, UnknownName

# name -> what it is, and roughly what it costs a checkpoint
MEASURES = {
    "loss": "next-token loss on held-out text; a forward a row",
    "llc": "local learning coefficient at one setting for all; chains x draws gradients",
    "rllc": "the same restricted to each attention head; as much again a head",
    "heads": "best previous-token, duplicate-token, prefix-matching and induction score of any head; 8 forwards",
    "behaviours": "accuracy on held-out items of almanac's behaviours; 20 forwards",
    "task": "accuracy at a task of `cutaway tasks`, and how often right is above wrong (--task); a forward an item",
    "circuit": "overlap (Jaccard) of a task's edges with those of the last checkpoint; 2 forwards, 1 backward",
    "features": "share of the last checkpoint's dictionary features that are born (correlation >= .5); a forward",
    "norm": "Euclidean norm of all weights",
    "trace": "trace of the Hessian (Hutchinson); 8 Hessian-vector products",
    "essential": "log probabilities on fixed text, for essential dynamics; a forward",
    "bif": "mean |correlation| of the losses of different rows over the chains' draws; the chains, and forwards",
    "susceptibility": "of each layer's attention to text of random order; chains a layer",
}
DEFAULT = ("loss", "llc", "heads", "norm", "trace", "essential")


@dataclass(frozen=True)
class Plan:
    """Sizes of what is measured. `rows` of `length` tokens; chains as in `Setting`.

    n beta: about n / log n with every token an item (1,500 of them). gamma 1e4: a weight moves by 0.01, and almanac's
    loss by a quarter of a nat; at gamma 100 its chains left every use of the model behind (5 nats) and did not agree.
    Rows cost one forward each, since chains read `batch` of them a step; of few rows no weights are a minimum.
    """

    rows: int = 256
    length: int = 48
    chains: int = 4
    draws: int = 40
    burn_in: int = 30
    batch: int = 8
    n_beta: float = 300.0
    localisation: float = 10_000.0
    eps: float | None = None
    items: int = 64
    task: str = "ioi"
    behaviours: tuple[str, ...] = ()
    heads: tuple[tuple[int, int], ...] = field(default=())
    seed: int = 0


def wired(
    names: Sequence[str], found: Any, ids: Any, plan: Plan, on: Callable[[str], None] = lambda message: None,
    out: Any = None,
) -> list[Any]:  # fmt: skip
    """The measures of those names. found: the checkpoints; chains get one step for all of them, circuits and features
    are compared with the last. ids: rows of text [n, position]. out: a folder whose timeline goes on, with more
    checkpoints perhaps: its chains keep their step. Raises UnknownName."""
    from cutaway import development as dev

    for name in names:
        if name not in MEASURES:
            raise UnknownName("measure", name, MEASURES)
    data = dev.Data((ids,), dev.next_token, f"{len(ids)} rows of {ids.shape[1]} tokens")
    made: list[Any] = []
    model = found.open(found.items[-1])
    for name in ("behaviours", "features"):
        if name in names and not reads_small_world(model):
            raise InputError(
                f"the measure {name!r} is of almanac's small world, whose words {model.name} does not read. For "
                "another model's behaviours give cutaway.development.timeline a Function of your own."
            )
    setting = None
    if {"llc", "rllc", "bif", "susceptibility"} & set(names):
        setting = _setting(found, data, plan, on, dev.settings_in(out))
    for name in names:
        if name == "loss":
            made.append(dev.loss_measure(data, seed=plan.seed))
        elif name == "llc":
            assert setting is not None
            made.append(dev.llc_measure(data, setting))
        elif name == "rllc":
            assert setting is not None
            places = plan.heads or tuple(
                (a, h) for a in range(model.facts.n_layers) for h in range(model.facts.n_heads)
            )
            made.append(dev.head_llc_measure(data, setting, places))
        elif name == "norm":
            made.append(dev.weight_norm())
        elif name == "trace":
            made.append(dev.trace_measure(data, items=16, seed=plan.seed))
        elif name == "essential":
            made.append(dev.outputs_measure(ids[:16], seed=plan.seed))
        elif name == "heads":
            made.append(heads_measure(plan.seed))
        elif name == "behaviours":
            made.append(behaviours_measure(plan))
        elif name == "task":
            made.append(task_measure(model, plan))
        elif name == "circuit":
            made.append(circuit_measure(model, plan, found.items[-1].label))
        elif name == "features":
            made.append(features_measure(model, ids, plan, found.items[-1].label))
        elif name == "bif":
            assert setting is not None
            made.append(bif_measure(data, setting))
        else:
            assert setting is not None
            made.append(susceptibility_measure(model, data, setting, plan))
    return made


def _setting(
    found: Any, data: Any, plan: Plan, on: Callable[[str], None], before: Mapping[str, Mapping[str, Any]]
) -> Any:
    """Chains for all checkpoints alike, so that they compare: the step from the steepest of up to seven of them, or
    that of the rows that are there `before`.

    SGNHT, since in the same number of steps SGLD gets nowhere near rest: a flat weight takes 2 / (eps gamma) of them.
    """
    from dataclasses import replace

    from cutaway import development as dev

    setting = dev.Setting(
        n_beta=plan.n_beta, localisation=plan.localisation, eps=1.0, sampler="sgnht", chains=plan.chains,
        draws=plan.draws, burn_in=plan.burn_in, batch=plan.batch, seed=plan.seed,
    )  # fmt: skip
    if plan.eps is not None:
        return replace(setting, eps=plan.eps)
    if known := [float(one["eps"]) for one in before.values() if "eps" in one]:
        on(f"step eps {known[0]:.2g}: as in the rows that are there")
        return replace(setting, eps=known[0])
    curvature, where = 1e-6, found.items[-1].label
    for i in sorted({round(share * (len(found) - 1)) for share in np.linspace(0, 1, 7)}):
        try:
            loss = data.loss(found.open(found.items[i]))
        except InputError:  # NaN weights: the timeline says so at that checkpoint
            continue
        steep = dev.largest_eigenvalue(loss, items=16, iterations=12, seed=plan.seed)
        if steep > curvature:
            curvature, where = steep, found.items[i].label
    eps = 0.2 / (plan.n_beta * curvature + plan.localisation)
    on(f"step eps {eps:.2g}: the largest curvature found is {curvature:.3g}, at {where}")
    return replace(setting, eps=eps)


def reads_small_world(model: Any) -> bool:
    """Whether the model reads almanac's words, so that almanac's text and items will do. Without a tokenizer (the
    shipped checkpoints have none) as many words are taken for the same."""
    from cutaway.tasks.small_world.vocabulary import token_ids

    if model.tokenizer is None:
        return bool(model.hf.get_input_embeddings().num_embeddings == len(token_ids()))
    same: bool = model.tokenizer.get_vocab() == token_ids()
    return same


def heads_measure(seed: int = 0, sequences: int = 8) -> Any:
    """The best head's mean attention in each kind (see `readouts.head_scores`), with its interval over sequences."""
    from cutaway.development import Function
    from cutaway.evidence import bootstrap
    from cutaway.readouts import head_scores
    from cutaway.readouts.heads import TESTED

    def measured(model: Any) -> dict[str, Estimate]:
        found = head_scores(model, sequences=sequences, null_seeds=(), ablate=False, seed=seed)
        out = {}
        for kind in TESTED:
            best = int(found.mean(kind).argmax())
            one = bootstrap(found.scores[kind][best], name=kind, over="sequences", seed=seed)
            out[f"head: {kind}"] = one.model_copy(update={"name": f"best head: {kind}"})
        return out

    return Function("heads", measured, {"sequences": sequences, "seed": seed})


def behaviours_measure(plan: Plan) -> Any:
    """Accuracy on held-out items of each behaviour of the small world."""
    from cutaway.core import Interval
    from cutaway.development import Function
    from cutaway.organisms.almanac.behaviours import measure_behaviours

    def measured(model: Any) -> dict[str, Estimate]:
        scores = measure_behaviours(model.hf, model.tokenizer, seed=plan.seed + 1, n=plan.items, names=plan.behaviours)
        return {
            s.behaviour: Estimate(
                name=s.behaviour, value=s.accuracy, n=s.n, interval=Interval(low=s.low, high=s.high, method="Wilson")
            )
            for s in scores
        }

    return Function("behaviours", measured, {"items": plan.items, "names": list(plan.behaviours), "seed": plan.seed})


def task_measure(last: Any, plan: Plan) -> Any:
    """A behaviour of any language model that can read the task's prompts: how often the likeliest token is the right
    one, and where the task has a wrong answer, how often the right one is above it."""
    from cutaway import tasks
    from cutaway.development import Function
    from cutaway.evidence import proportion

    task = tasks.task(plan.task, last, n=plan.items, seed=plan.seed)
    kinds = {"accuracy": f"{plan.task}: accuracy"}
    if task.wrong is not None:
        kinds["preference"] = f"{plan.task}: right above wrong"

    def measured(model: Any) -> dict[str, Any]:
        run = model.run(task.clean)
        hits = {name: task.measure(run, metric) for metric, name in kinds.items()}
        return {name: proportion(int(one.sum()), len(one), name=name) for name, one in hits.items()}

    return Function("task", measured, {"task": plan.task, "items": plan.items, "seed": plan.seed})


def circuit_measure(last: Any, plan: Plan, label: str = "last", edges: int = 40) -> Any:
    """The best `edges` edges of a task by attribution: Jaccard with the last checkpoint's, which `label` names: a
    timeline that goes on after more training would compare with another."""
    from cutaway import tasks
    from cutaway.circuits import jaccard, opened, score_edges
    from cutaway.circuits.circuit import top_members
    from cutaway.development import Function

    task = tasks.task(plan.task, last, n=plan.items, seed=plan.seed)

    def chosen(model: Any) -> Any:
        found = score_edges(opened(model), task, "eap", seed=plan.seed)
        return top_members(found.graph, found.scores, edges)

    final = chosen(last)

    def measured(model: Any) -> dict[str, Any]:
        name = f"circuit of {plan.task}"
        try:
            return {name: jaccard(chosen(model), final)}
        except InputError as error:  # no gradient, or none of the task's effect yet
            return {name: Estimate(name=name, value=float("nan"), n=0, note=str(error))}

    said = {"task": plan.task, "edges": edges, "items": plan.items, "seed": plan.seed, "compared with": label}
    return Function("circuit", measured, said)


def features_measure(last: Any, ids: Any, plan: Plan, label: str = "last", name: str = "plt", born: float = 0.5) -> Any:
    """A feature of the dictionary of the finished model is born where, on fixed text, its activation correlates with
    that in the last checkpoint by `born` or more. Features that fire nowhere in the text are not counted."""
    import torch

    from cutaway import features
    from cutaway.core.registry import shipped_dictionaries
    from cutaway.development import Function
    from cutaway.evidence import proportion

    folders = shipped_dictionaries("almanac")
    if name not in folders:
        raise InputError(f"no dictionary {name!r} of the model is here, so no features' birth.")
    dictionary = features.load(folders[name])
    if not isinstance(dictionary, features.Transcoders):
        raise InputError(f"the dictionary {name!r} is of one point; features' birth reads transcoders of every layer.")
    if dictionary.n_layers != last.facts.n_layers:
        raise InputError(
            f"almanac's dictionary {name!r} has {dictionary.n_layers} layers, {last.name} {last.facts.n_layers}: "
            "features' birth is measured on checkpoints of almanac."
        )

    def activations(model: Any) -> list[Any]:
        points = [dictionary.input_point(layer) for layer in range(dictionary.n_layers)]
        run = model.run(ids[:16], read=points)
        return [
            dictionary.activations(layer, run[point][:, 1:].flatten(0, 1).float()).double()
            for layer, point in enumerate(points)
        ]

    final = activations(last)

    def measured(model: Any) -> dict[str, Any]:
        alive, total = 0, 0
        for now, then in zip(activations(model), final):
            fires = (then > 0).any(0)
            a, b = now[:, fires] - now[:, fires].mean(0), then[:, fires] - then[:, fires].mean(0)
            r = (a * b).sum(0) / (a.square().sum(0) * b.square().sum(0)).sqrt().clamp(min=1e-30)
            alive += int((r >= born).sum())
            total += int(fires.sum())
        return {"features born": proportion(alive, total, name="features born")}

    torch.manual_seed(plan.seed)
    said = {"dictionary": name, "born": born, "rows": len(ids[:16]), "compared with": label}
    return Function("features", measured, said)


def bif_measure(data: Any, setting: Any, rows: int = 16) -> Any:
    """How far the losses of different rows move together over the local posterior."""
    import torch

    from cutaway.core import CutawayError
    from cutaway.development import Function, bayesian_influence

    rows = min(rows, len(data.tensors[0]))

    def measured(model: Any) -> dict[str, Any]:
        try:
            found = bayesian_influence(data.loss(model), setting, torch.arange(rows))
        except CutawayError as error:
            return {"bif": Estimate(name="bif", value=float("nan"), n=0, note=str(error))}
        off = np.abs(found.correlation[~np.eye(rows, dtype=bool)])
        return {
            "bif": Estimate(name="mean |correlation| of two rows' losses", value=float(off.mean()), n=off.size // 2)
        }

    return Function("bif", measured, {"rows": rows, "data": data.key, "eps": setting.eps, "seed": setting.seed})


def susceptibility_measure(model: Any, data: Any, setting: Any, plan: Plan) -> Any:
    """Of each layer's attention weights to the same text with the tokens of each row in random order."""
    import torch

    from cutaway.core import CutawayError
    from cutaway.development import Data, Function, susceptibilities
    from cutaway.development.heads import head_weights_mask

    ids = data.tensors[0]
    generator = torch.Generator().manual_seed(plan.seed)
    order = torch.stack([torch.randperm(ids.shape[1] - 1, generator=generator) + 1 for _ in ids])
    shuffled = torch.cat([ids[:, :1], ids.gather(1, order)], 1)
    other = Data((shuffled,), data.per_item, f"{data.key}, shuffled")

    def measured(subject: Any) -> dict[str, Any]:
        found = {}
        for layer in range(subject.facts.n_layers):
            weights: dict[str, Any] = {}
            for head in range(subject.facts.n_heads):
                for name, mask in head_weights_mask(subject, layer, head).items():
                    weights[name] = mask if name not in weights else weights[name] | mask
            name = f"chi attention {layer}"
            try:
                one = susceptibilities(
                    data.loss(subject, weights), setting, {"random order": other.loss(subject, weights)}
                )
                found[name] = one["random order"].model_copy(update={"name": name})
            except CutawayError as error:
                found[name] = Estimate(name=name, value=float("nan"), n=0, note=str(error))
        return found

    return Function("susceptibility", measured, {"data": data.key, "eps": setting.eps, "seed": plan.seed})
