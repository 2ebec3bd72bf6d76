"""Do the heads that look like induction heads induce? Take them out, and see what the repeats then cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cutaway import model as layer
from cutaway.core import Comparison, Estimate, Evidence, Interval
from cutaway.evidence import bootstrap
from cutaway.model import Model
from cutaway.readouts.reading import Floats

RANDOM = "as many other heads of the same layers"
Places = Sequence[tuple[int, int]]


def induction_evidence(
    model: Model, ids: Tensor, m: int, heads: Places, others: Places, *, draws: int = 20, seed: int = 0
) -> Evidence:
    """The rise of the loss in later repeats when `heads` are taken out together, beside as many of `others`.

    ids [n, 1 + m repeats], random tokens repeated. A head is taken out by its mean output over the sequences. Costs
    2 + draws forwards of the sequences.
    """
    before = later_loss(model, ids, m, [])
    rise = later_loss(model, ids, m, heads) - before
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        chosen = _drawn(heads, others, rng)
        drawn.append(float((later_loss(model, ids, m, chosen) - before).mean()))
    low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
    method, mean = f"95 % of {draws} draws", float(rise.mean())
    null = Comparison(
        estimate=Estimate(
            name=RANDOM, value=float(np.mean(drawn)), interval=Interval(low=low, high=high, method=method), n=draws,
            unit=" nats",
        ),
        difference=Interval(low=mean - high, high=mean - low, method=method),
    )  # fmt: skip
    names = ", ".join(f"{place[0]}.{place[1]}" for place in heads)
    return Evidence(
        claim=f"Without the prefix-matching heads ({names}) repeats cost more",
        effect=bootstrap(rise, name="rise of the loss in later repeats", over="sequences", unit=" nats", seed=seed),
        nulls=(null,),
        seeds=(seed,),
        how="The heads above the null in prefix matching set to their mean output, together; so for the others. Heads "
        "of earlier layers that feed them (previous-token heads) matter as well, and are not among the others.",
        settings={"heads": names, "loss in later repeats before": float(before.mean())},
    )


def _drawn(heads: Places, others: Places, rng: np.random.Generator) -> Places:
    """As many others, of the same layers as far as these have them."""
    chosen: list[tuple[int, int]] = []
    for at in sorted({place[0] for place in heads}):
        wanted = sum(place[0] == at for place in heads)
        here = [place for place in others if place[0] == at]
        chosen += [here[i] for i in rng.permutation(len(here))[:wanted]]
    rest = [place for place in others if place not in chosen]
    return chosen + [rest[i] for i in rng.permutation(len(rest))[: len(heads) - len(chosen)]]


def later_loss(model: Model, ids: Tensor, m: int, heads: Places) -> Floats:
    """Nats a token in the repeats after the first, without their first tokens, [n]; `heads` at their means."""
    layers = sorted({place[0] for place in heads})
    changes = []
    if heads:
        run = model.run(ids, read=[f"z.{i}" for i in layers], logits=False)
        changes = [layer.mean(f"z.{i}", run, head=[h for at, h in heads if at == i]) for i in layers]
    logits = model.run(ids, interventions=changes).logits
    loss = -logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None].to(logits.device))[..., 0]
    repeats = (ids.shape[1] - 1) // m
    later = torch.tensor([q for r in range(1, repeats) for q in range(r * m + 1, (r + 1) * m)])
    return np.asarray(loss[:, later.to(loss.device)].mean(1).double().cpu().numpy())
