"""AtP*'s two corrections, on edges (Kramár et al. 2024).

Queries and keys.  Where a softmax is saturated its gradient is nearly zero however much a changed query would move the
pattern. So the pattern is computed anew, and linear alone is what comes after it:

    score(s, h<q>)  =  (A - A with the query of h computed without what s changes) . d metric / d A

with A the pattern of head h; likewise for keys, whose group of heads is added up. All else is as in EAP.

GradDrop.  A direct and an indirect effect may cancel in the gradient by accident. So L gradients are taken, the l-th
with what layer l adds to the stream held constant, and the mean of the absolute scores over them is the score:

    score  =  1 / (L - 1)  sum over l of | score with the gradient that does not pass layer l |

(the edges into layer l itself have no score in the l-th; those into the logits have one in all L).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cutaway.circuits.attribution import TOKENS, Part, Spans, parts
from cutaway.circuits.gradients import Pass
from cutaway.circuits.masked import skipped
from cutaway.circuits.senders import Senders, chunks
from cutaway.circuits.wires import Wires, normed
from cutaway.model.taps import Tap, at_site, tapped

ROWS = 2048  # tokens of one forward of a block


def eap_qk(wires: Wires, task: Any, ablation: str = "resample", *, tokens: int = TOKENS, spans: Spans = ()) -> Tensor:
    """EAP with patterns computed anew for queries and keys: [item, (span,) source, port], signed.

    2F + 1B, and two forwards of a block for every source before it (2 S/2 forwards of the model for S sources).
    """
    found = []
    for part in parts(wires, task, ablation, tokens, spans):
        seen = part.run(patterns=True)
        delta = seen.senders - part.other
        found.append(_corrected(part, [seen], delta)[0].cpu())
    return torch.cat(found)


def atp_star(wires: Wires, task: Any, ablation: str = "resample", *, tokens: int = TOKENS, spans: Spans = ()) -> Tensor:
    """Both corrections: [item, (span,) source, port], without sign. As `eap_qk`, with a forward and a backward a layer.
    A model of one layer has no other layer to drop: its score is the absolute one of `eap_qk`."""
    count = len(wires.layers)
    found = []
    for part in parts(wires, task, ablation, tokens, spans):
        if count == 1:
            passes = [part.run(patterns=True)]
        else:
            passes = [part.run(patterns=True, rules=_held(wires, len(part.rows), layer)) for layer in range(count)]
        total = sum(one.abs() for one in _corrected(part, passes, passes[0].senders - part.other))
        assert isinstance(total, Tensor)
        if count > 1:
            times = torch.full((total.shape[-1],), count - 1.0)
            times[-1] = count  # the logits are in no layer
            total = total / times.to(total)
        found.append(total.cpu())
    return torch.cat(found)


def _held(wires: Wires, size: int, layer: int) -> list[Tap]:
    """No gradient passes what a layer adds to the stream."""
    at = wires.layers[layer]
    return [at_site(site, size, lambda x: x.detach()) for site in (at.attn_out, at.mlp_out)]


def _corrected(part: Part, passes: list[Pass], delta: Senders) -> list[Tensor]:
    """EAP's scores of each pass, with those of queries and keys by patterns computed anew (once for all passes)."""
    wires, graph = part.wires, part.wires.split
    scores = [part.scores(seen, delta) for seen in passes]
    names = {name: i for i, name in enumerate(graph.ports)}
    spans: list[Tensor | None] = [None]
    if part.labels is not None:
        spans = [(part.labels == k).to(delta.start.device) for k in range(part.spans)]
    read = passes[0].read
    for i, layer in enumerate(wires.layers):
        first = next(p for name, p in names.items() if name.startswith(f"a{i}."))
        early = int((graph.writes < graph.reads[first]).sum())
        at = first
        for kind in ("q", "k"):
            n = layer.projections[kind].weight.shape[0]
            for number, inside in enumerate(spans):
                moved = delta if inside is None else delta.where(inside)
                for sources in chunks(early, max(1, ROWS // max(1, part.batch.ids.numel()))):
                    change = _patterns(part, i, kind, read[2 * i], moved, sources)  # [source, row, head, query, key]
                    for seen, score in zip(passes, scores):
                        pattern, gradient = seen.patterns[i]
                        effect = ((pattern - change) * gradient).sum((-2, -1))  # [source, row, head]
                        effect = (
                            effect.reshape(*effect.shape[:2], n, -1).sum(-1).transpose(0, 1)
                        )  # a key head's query heads
                        block = score if inside is None else score[:, number]
                        block[:, sources[0] : sources[-1] + 1, at : at + n] = effect
            at += n
    return scores


def _patterns(part: Part, i: int, kind: str, stream: Tensor, delta: Senders, sources: Tensor) -> Tensor:
    """Patterns of layer i when its queries (or keys) read the stream without what each source changes:
    [source, row, head, query, key]. One forward of the block."""
    wires, layer = part.wires, part.wires.layers[i]
    size, several = len(part.rows), len(sources)
    change = _messages(wires, delta, sources).transpose(0, 1)  # [source, row, position, d]
    moved = normed(layer.attn_norm, (stream[None] - change).flatten(0, 1))
    clean = normed(layer.attn_norm, stream).repeat(several, 1, 1)
    taps = []
    for name in ("q", "k"):  # values do not come into the pattern
        projection = layer.projections[name]
        y = torch.einsum("bpd,hcd->bphc", moved if name == kind else clean, projection.weight)
        y = y if projection.bias is None else y + projection.bias
        taps.append(at_site(projection.site, size * several, lambda _, y=y: y))  # type: ignore[misc]
    batch = type(part.batch)(part.batch.ids.repeat(several, 1), part.batch.mask.repeat(several, 1))
    with torch.no_grad(), skipped(wires, i), tapped(taps):
        run = wires.model.run(batch, read=[f"attn_probs.{i}"], stop_after=i, logits=False)
    pattern: Tensor = run[f"attn_probs.{i}"]
    return pattern.reshape(several, size, *pattern.shape[1:])


def _messages(wires: Wires, delta: Senders, sources: Tensor) -> Tensor:
    """The messages [row, source, position, d] of some sources, which are next to one another."""
    low, high = int(sources[0]), int(sources[-1]) + 1
    found, at = [], 0
    if low == 0:
        found.append(delta.start[:, None])
    at = 1
    for i, layer in enumerate(wires.layers):
        inside = range(max(low, at), min(high, at + layer.n_heads))
        if inside:
            heads = slice(inside.start - at, inside.stop - at)
            found.append(torch.einsum("bphc,hcd->bhpd", delta.u[i][:, :, heads], layer.w_out[heads]))
        at += layer.n_heads
        inside = range(max(low, at), min(high, at + layer.n_mlp))
        if inside:
            wrote = layer.mlp_messages(delta.mlp[i], delta.neurons[i])
            found.append(wrote[:, inside.start - at : inside.stop - at])
        at += layer.n_mlp
    return torch.cat(found, 1)
