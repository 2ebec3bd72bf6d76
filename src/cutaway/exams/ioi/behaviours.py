"""What each head does in the sentences of indirect objects, and off them: what its class is named by.

On the task's items (positions as in Wang et al. 2022: IO, S1, S1+1, S2, END):
    attention          END to IO, S1 and S2; S2 to S1 (duplicate token) and to S1+1 (induction); S1+1 to S1 (previous)
    copying            share of name tokens that are among the five logits that the head's OV circuit raises most where
                       it attends to them (Wang et al., section 3.1; after the first layer); "against": lowers most
    direct effect      loss of the logit difference when the head's path to the logits is resampled (through MLPs)
    lowers S           rise of S's logit above the mean logit when that path is resampled: the part of the direct effect
                       that is had by holding the subject down
    through queries    the same for its path to the queries of some other heads
    total, joint       loss when it is ablated by itself, and when other heads are ablated already
On random tokens: `cutaway.readouts.head_scores`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cutaway.circuits import Graph, Wires, path_patching
from cutaway.core import InputError
from cutaway.evidence import rerandomise
from cutaway.exams.ioi.search import Trials
from cutaway.model import Model
from cutaway.readouts import head_scores
from cutaway.readouts.head_weights import head_weights
from cutaway.readouts.low_rank import vocabulary

Floats = NDArray[np.float64]
LOOKS = {
    "END to IO": ("end", "IO"),
    "END to S1": ("end", "S1"),
    "END to S2": ("end", "S2"),
    "S2 to S1": ("S2", "S1"),
    "S2 to S1+1": ("S2", "S1+1"),
    "S1+1 to S1": ("S1+1", "S1"),
}
TOP = 5  # logits among which a copied name is


@dataclass(eq=False)
class Behaviours:
    """Of every head, in the model's order: `attention`, `copying`, `effects` [head, item]; `scores` [head] of random
    tokens and of weights. `null`: of each of these but the effects, the best head of re-randomised models. `whole`: the
    mean metric."""

    heads: tuple[str, ...]
    whole: float
    attention: dict[str, Floats]
    copying: dict[str, Floats]
    scores: dict[str, Floats]
    null: dict[str, float]
    effects: dict[str, Floats] = field(default_factory=dict)
    said: tuple[str, ...] = ()

    def row(self, head: str) -> dict[str, float]:
        """Every mean of one head."""
        i = self.heads.index(head)
        tables = {**self.attention, **self.copying, **self.effects}
        found = {name: float(values[i].mean()) for name, values in tables.items()}
        return found | {name: float(values[i]) for name, values in self.scores.items()}


def behaviours(
    model: Model, wires: Wires, task: Any, *, null_seeds: Sequence[int] = (0, 1, 2), seed: int = 0
) -> Behaviours:
    """Attention, copying, scores on random tokens and the direct effect of every head.

    Costs a forward with patterns for the items, 2 forwards of them a head, and `head_scores`.
    """
    graph = wires.split
    heads = tuple(name for name in graph.sources if name.startswith("a"))
    attention = _attention(model, task)
    copying, said = _copying(model, task)
    scores, null = _random_tokens(model, null_seeds, seed)
    for seed_ in null_seeds:
        twin = rerandomise(model, seed=seed_)
        there = {**_attention(twin, task), **(_copying(twin, task)[0] if copying else {})}
        for name, values in there.items():
            null[name] = max(null.get(name, 0.0), float(values.mean(1).max()))
    metric = task.metric(task.at_end(model.run(task.clean))).double().cpu()
    made = Behaviours(heads, float(metric.mean()), attention, copying, scores, null, {}, said)
    made.effects["direct effect"] = through(wires, graph, task, heads, ["logits"])
    held_down = task.with_metric(_subject_below, name="S below the mean")
    made.effects["lowers S"] = through(wires, graph, held_down, heads, ["logits"])
    return made


def _subject_below(logits: torch.Tensor, target: Any) -> torch.Tensor:
    """[item] the mean logit less that of the wrong answer, which is S."""
    return logits.mean(-1) - logits.gather(-1, target.wrong[:, None])[:, 0]


def through(wires: Wires, graph: Graph, task: Any, heads: Sequence[str], receivers: Sequence[str]) -> Floats:
    """[head, item] loss of the metric by each head's paths to these receivers, MLPs among them; 0 for heads after."""
    found = np.zeros((len(heads), len(task)))
    read = [graph.destination(name) for name in receivers]
    for i, head in enumerate(heads):
        if receivers and bool(graph.exists[graph.source(head)][read].any()):
            found[i] = path_patching(wires, task, [head], receivers, null=0).effect.numpy()
    return found


def ports(graph: Graph, heads: Sequence[str], kind: str) -> list[str]:
    """The destinations of some heads' queries, keys or values; shared ones (GQA) once."""
    owner = {head: stem for stem, group in graph.shared.items() for head in group}
    named = [f"{head}<{kind}>" for head in heads]
    shared = [f"{owner[head]}<{kind}>" if head in owner else name for head, name in zip(heads, named)]
    found = [a if a in graph.destinations else b for a, b in zip(named, shared)]
    return list(dict.fromkeys(name for name in found if name in graph.destinations))


def joint(trials: Trials, out: Sequence[str]) -> tuple[Floats, Floats]:
    """[head, item] what ablating a head costs by itself, and what it costs when the heads `out` are ablated already;
    under the first of the trials' ablations."""
    every, gone = frozenset(trials.heads), frozenset(out)
    sets = [every, every - gone, *(every - {h} for h in trials.heads), *(every - gone - {h} for h in trials.heads)]
    values = trials.run(sets)[:, 0].numpy()
    n = len(trials.heads)
    return values[0] - values[2 : 2 + n], values[1] - values[2 + n :]


def _attention(model: Model, task: Any) -> dict[str, Floats]:
    rows = torch.arange(len(task))
    columns = {name: task.columns(name) for name in ("end", "IO", "S1", "S1+1", "S2")}
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in LOOKS}
    for some in rows.split(64):
        part = task.take(some)
        run = model.run(part.clean, read="attn_probs.*")
        for name, (query, key) in LOOKS.items():
            at, to = columns[query][some], columns[key][some]
            each = [run[f"attn_probs.{i}"][torch.arange(len(some)), :, at, to].T for i in range(model.facts.n_layers)]
            parts[name].append(torch.cat(each).double().cpu())
    return {name: torch.cat(found, 1).numpy() for name, found in parts.items()}


def _copying(model: Model, task: Any) -> tuple[dict[str, Floats], tuple[str, ...]]:
    """{"copying", "copying against"} [head, item]: of the two names of an item the share copied."""
    try:
        weights, (_, unembedding) = head_weights(model), vocabulary(model)
    except InputError as error:
        return {}, (f"no copying scores: {error}",)
    point = "resid_post.0"
    rows = torch.arange(len(task))
    hit: dict[str, list[torch.Tensor]] = {"copying": [], "copying against": []}
    for some in rows.split(16):
        part = task.take(some)
        stream = model.run(part.clean, read=point, logits=False)[point].float()
        both = []
        for name in ("IO", "S1"):
            at = part.columns(name)
            x = stream[torch.arange(len(some)), at]  # [item, d]
            token = part.clean.ids[torch.arange(len(some)), at].to(x.device)
            z = torch.einsum("hcd,bd->bhc", weights.v, x)
            logits = torch.einsum("bhc,hdc->bhd", z, weights.o) @ unembedding.T  # [item, head, vocab]
            found = {}
            for kind, values in (("copying", logits), ("copying against", -logits)):
                top = values.topk(TOP, -1).indices
                found[kind] = (top == token[:, None, None]).any(-1).double()
            both.append(found)
        for kind, parts in hit.items():
            parts.append(((both[0][kind] + both[1][kind]) / 2).T.cpu())
    return {kind: torch.cat(parts, 1).numpy() for kind, parts in hit.items()}, ()


def _random_tokens(model: Model, null_seeds: Sequence[int], seed: int) -> tuple[dict[str, Floats], dict[str, float]]:
    found = head_scores(model, sequences=16, repeats=3, null_seeds=null_seeds, seed=seed, ablate=False)
    kinds = ("previous token", "duplicate token", "prefix matching", "first token")
    scores = {kind: found.mean(kind) for kind in kinds}
    scores["OV copying (eigenvalues)"] = np.nan_to_num(np.asarray(found.copying, dtype=np.float64))
    null = {kind: found.threshold[kind] for kind in kinds if kind in found.threshold}
    return scores, null
