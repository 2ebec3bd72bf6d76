"""Path patching: what a set of senders does through a set of receivers alone (Wang et al. 2022, appendix B)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from cutaway.circuits.exact import port_taps
from cutaway.circuits.graph import Graph
from cutaway.circuits.masked import at_ends, columns, opened
from cutaway.circuits.methods import check_task
from cutaway.circuits.senders import Senders, ablated, chunks, none_of, record
from cutaway.circuits.wires import Wires, rows_of
from cutaway.core import Comparison, Estimate, Evidence, InputError, Interval, NotDone, UnknownName
from cutaway.core.drawing import Drawn
from cutaway.evidence import bootstrap
from cutaway.model import Model
from cutaway.model.taps import at_site, tapped

Through = Literal["mlps", "residual"]


@dataclass(frozen=True, eq=False, repr=False)
class PathEffect(Drawn):
    """What the metric loses: `effect` [item] = m(clean) - m(path patched)."""

    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    effect: Tensor
    evidence: tuple[Evidence, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.path-effect/1",
            "senders": list(self.senders),
            "receivers": list(self.receivers),
            "effect": self.effect.tolist(),
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        return "\n\n".join(str(item) for item in self.evidence)

    __repr__ = __str__


def path_patching(
    model: Model | Wires,
    task: Any,
    senders: Sequence[str],
    receivers: Sequence[str],
    *,
    through: Through = "mlps",
    ablation: str = "resample",
    positions: Sequence[str] | None = None,
    null: int = 20,
    seed: int = 0,
) -> PathEffect:
    """Ablate what `senders` (a9.h6, m0, input, …) send to `receivers` (a10.h0<q>, m11, logits, …), and nothing else.

    The receivers read the stream of a run in which the senders are ablated and every other head is held at its clean
    value; `through` "mlps": MLPs between are computed anew, as in the IOI paper; "residual": held too, so that only the
    direct edges count. Then the clean run with the receivers set so; one receiver does not see what another changed.
    `positions`: the senders are ablated at these
    named positions of the task only.
    `null`: the same with as many random heads of the same layers' range as senders.
    Costs 3 forwards, and 2 for each draw of the null. Raises UnknownName, InputError.
    """
    check_task(task, ablation)
    if not senders or not receivers:
        raise InputError("path patching takes at least one sender and one receiver.")
    wires = model if isinstance(model, Wires) else opened(model)
    graph = wires.split
    sent = [graph.source(name) for name in senders]
    read = [graph.destination(name) for name in receivers]
    if not bool(graph.exists[sent][:, read].any()):
        raise InputError(f"none of {', '.join(senders)} writes before any of {', '.join(receivers)} reads.")
    if through not in ("mlps", "residual"):
        raise InputError(f"paths lead through 'mlps' or the 'residual' alone; given {through!r}.")
    where = None if positions is None else _where(task, positions)
    effect, whole = _losses(wires, graph, task, sent, read, through, ablation, where)
    estimate = bootstrap(effect.tolist(), name="loss of the metric", over="items", seed=seed)
    nulls: tuple[Comparison, ...] = ()
    pool = _pool(graph, sent, read)
    if null and pool:
        generator = torch.Generator().manual_seed(seed)
        count = min(len(sent), len(pool))
        draws = []
        for _ in range(null):
            some = [pool[i] for i in torch.randperm(len(pool), generator=generator)[:count].tolist()]
            draws.append(_losses(wires, graph, task, some, read, through, ablation, where)[0].mean())
        drawn = torch.stack(draws)
        low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
        span = Interval(low=low, high=high, method=f"central 95% of {null} draws")
        beside = f"{count} other heads as senders"
        nulls = (Comparison(estimate=Estimate(name=beside, value=float(drawn.mean()), interval=span, n=null)),)
    settings = {"through": through, "ablation": ablation, "positions": positions, "metric": _name(task)}
    why = "it was asked to be left out" if pool else "there is no other head before the receivers"
    evidence = Evidence(
        claim=f"{', '.join(senders)} act through {', '.join(receivers)} (clean metric {float(whole.mean()):.3g})",
        effect=estimate,
        nulls=nulls,
        seeds=(seed,),
        how=f"Path patching, {ablation} ablation of the senders, through {through}; loss of the metric an item.",
        settings={key: list(v) if isinstance(v, tuple) else v for key, v in settings.items()},
        not_done=() if nulls else (NotDone(what="random senders", why=why),),
    )
    return PathEffect(tuple(senders), tuple(receivers), effect, (evidence,))


def _name(task: Any) -> str:
    return str(getattr(getattr(task, "metric", None), "name", "custom"))


def _pool(graph: Graph, sent: list[int], read: list[int]) -> list[int]:
    """Heads that write before some receiver, the senders left out."""
    early = graph.exists[:, read].any(1).tolist()
    return [s for s, name in enumerate(graph.sources) if name.startswith("a") and early[s] and s not in sent]


def _where(task: Any, positions: Sequence[str]) -> Tensor:
    """[item, position] True at the named positions."""
    found = torch.zeros(task.clean.ids.shape, dtype=torch.bool)
    starts = torch.tensor(task.clean.layout.starts)
    for name in positions:
        if name not in task.positions:
            raise UnknownName(f"position of {task.name}", name, task.positions)
        found[torch.arange(len(found)), starts + torch.as_tensor(task.positions[name]).cpu()] = True
    return found


def _losses(
    wires: Wires, graph: Graph, task: Any, sent: list[int], read: list[int], through: str, ablation: str,
    where: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(m(clean) - m(patched), m(clean)), each [item]."""
    other_of, ends = ablated(wires, task, ablation), columns(task)
    lost, whole = [], []
    with torch.no_grad():
        for rows in chunks(len(task), max(1, 1024 // task.clean.ids.shape[1])):
            batch = rows_of(wires.model, task.clean, rows)
            clean, other = record(wires, batch), other_of(rows)
            mixed = _mixed(wires, graph, clean, other, set(sent), None if where is None else where[rows])
            streams = _streams_through_mlps(wires, batch, mixed, graph, set(sent)) if through == "mlps" else None
            streams = mixed.streams(wires) if streams is None else streams
            nothing = streams[0].new_zeros(1, *streams[0].shape)
            taps = [h for d in read for h in port_taps(wires, graph, d, streams, nothing)]
            values = []
            for some in ([], taps):
                with tapped([*some, at_ends(wires, ends[rows])]):
                    logits = wires.model.run(batch).logits
                assert logits is not None
                values.append(task.take(rows).metric(logits[:, 0]).double().cpu())
            whole.append(values[0])
            lost.append(values[0] - values[1])
    return torch.cat(lost), torch.cat(whole)


def _mixed(wires: Wires, graph: Graph, clean: Senders, other: Senders, sent: set[int], where: Tensor | None) -> Senders:
    """The clean messages with those of `sent` ablated, at the positions `where` [row, position]."""
    us, mlps, neurons = [], [], []
    for i, layer in enumerate(wires.layers):
        inside = torch.tensor([[[graph.source(f"a{i}.h{h}") in sent for h in range(layer.n_heads)]]])  # [1, 1, head]
        chosen = inside.to(clean.u[i].device)
        chosen = chosen if where is None else chosen & where.to(chosen.device)[..., None]
        us.append(torch.where(chosen[..., None], other.u[i], clean.u[i]))
        kept = ~_mlp_flags(graph, i, sent).to(chosen.device)
        kept = kept if where is None else kept | ~where.to(chosen.device)[..., None]
        wrote, v = layer.mixed_mlp(kept, (clean.mlp[i], clean.neurons[i]), (other.mlp[i], other.neurons[i]))
        mlps.append(wrote)
        neurons.append(v)
    start = torch.tensor([[[graph.source("input") in sent]]]).to(clean.start.device)
    start = start if where is None else start & where.to(start.device)[..., None]
    return Senders(torch.where(start, other.start, clean.start), tuple(us), tuple(mlps), tuple(neurons))


def _mlp_flags(graph: Graph, i: int, sent: set[int]) -> Tensor:
    """[1, 1, 1 + n] which of a layer's MLP and its neurons are among these sources."""
    return torch.tensor([[[s in sent for s, name in enumerate(graph.sources) if name.partition(".n")[0] == f"m{i}"]]])


def _streams_through_mlps(wires: Wires, batch: Any, mixed: Senders, graph: Graph, sent: set[int]) -> list[Tensor]:
    """The streams when every head writes what `mixed` says and MLPs compute anew, senders among them excepted."""
    size = len(mixed.start)
    mlps: dict[int, Tensor] = {}
    fired: dict[int, Tensor] = {}

    def set_heads(_: Tensor, i: int) -> Tensor:
        layer = wires.layers[i]
        return torch.einsum("bphc,hcd->bpd", mixed.u[i], layer.w_out) + layer.constant

    def keep(x: Tensor, i: int) -> Tensor | None:
        flags, layer = _mlp_flags(graph, i, sent).to(x.device), wires.layers[i]
        if not bool(flags.any()):
            mlps[i] = x.clone()
            return None
        now = x, none_of(x) if layer.neurons is None else layer.neurons.scaled(fired[i])
        mlps[i] = layer.mixed_mlp(flags, (mixed.mlp[i], mixed.neurons[i]), now)[0]
        return mlps[i]

    taps = [at_site(wires.start, size, lambda _: mixed.start)]
    for i, layer in enumerate(wires.layers):
        taps.append(at_site(layer.attn_out, size, lambda x, i=i: set_heads(x, i)))  # type: ignore[misc]
        taps.append(at_site(layer.mlp_out, size, lambda x, i=i: keep(x, i)))  # type: ignore[misc]
        if layer.neurons is not None:
            taps.append(at_site(layer.neurons.site, size, lambda x, i=i: fired.update({i: x})))  # type: ignore[misc]
    with tapped(taps):
        wires.model.run(batch, read=[f"resid_post.{len(wires.layers) - 1}"], logits=False)
    return replace(mixed, mlp=tuple(mlps[i] for i in range(len(wires.layers)))).streams(wires)
