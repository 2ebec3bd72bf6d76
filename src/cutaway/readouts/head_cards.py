"""What each head does, for its card: its pattern on an example, what it copies and looks for, what it costs to lose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.evidence import bootstrap, rerandomise
from cutaway.model import Model
from cutaway.readouts.head_ablation import later_loss
from cutaway.readouts.head_weights import head_weights
from cutaway.readouts.heads import _sequences
from cutaway.readouts.low_rank import vocabulary
from cutaway.readouts.reading import Floats

EXAMPLE = "When Mary and John went to the shop, John gave a book to"
LONGEST = 40  # tokens of an example: a pattern has their square
MOST_TOKENS = 10

Place = tuple[int, int]


def patterns(model: Model, prompt: Any, heads: Sequence[Place] | None = None) -> dict[str, Any]:
    """{"tokens": [...], "patterns": {"1.2": [query][key]}} of one prompt (text, ids or a batch of one row).

    Attention to three decimals; padding is left out. Costs one forward. Raises InputError where patterns are refused.
    """
    wanted = _all(model) if heads is None else list(heads)
    layers = sorted({layer for layer, _ in wanted})
    for layer in layers:
        if (reason := model.refuses(f"attn_probs.{layer}")) is not None:
            raise InputError(f"the patterns of {model.name} cannot be read: {reason}")
    run = model.run(prompt, read=[f"attn_probs.{layer}" for layer in layers], logits=False)
    there = run.mask[0].nonzero()[:LONGEST, 0].cpu()
    found = {}
    for layer, head in wanted:
        pattern = run[f"attn_probs.{layer}"][0, head].float().cpu()[there][:, there]
        found[f"{layer}.{head}"] = [[round(x, 3) for x in row] for row in pattern.tolist()]
    return {"tokens": run.token_strings(0)[: len(there)], "patterns": found}


def head_cards(
    model: Model,
    example: Any = None,
    *,
    top: int = 6,
    ablate: bool = True,
    sequences: int = 8,
    tokens: int | None = None,
    repeats: int = 4,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """{"tokens", "patterns", "circuits": {head: {"OV", "QK"}}, "ablation": {head: estimate}, "ablation_null"}.

    OV: for tokens of the example the logits that attending to them raises and lowers most; QK: the tokens they look
    for. Of the weights alone, as `head_circuit`. Left out where a family does not show its weights.
    ablation: the rise of the loss in later repeats of random tokens with the head at its mean output, an interval over
    sequences; its null the largest rise of any head of the re-randomised model.
    Costs one forward, two products [tokens, d_model] x [d_model, vocab] a head, and with `ablate` twice a forward of
    `sequences` for each head. Raises InputError where patterns cannot be read.
    """
    tell = progress or (lambda _: None)
    ids, m = _sequences(model, sequences, tokens, repeats, seed, None)
    if example is None:
        example = EXAMPLE if model.tokenizer is not None else ids[:1, : min(LONGEST, 2 * m + 1)]
    shown = patterns(model, example)
    body: dict[str, Any] = {**shown, "circuits": _circuits(model, example, top)}
    if ablate and model.refuses("z.*") is None:
        tell(f"Taking out {len(_all(model))} heads, one at a time")
        body["ablation"] = _rises(model, ids, m, seed)
        null = max(one["value"] for one in _rises(rerandomise(model, seed=seed), ids, m, seed).values())
        body["ablation_null"] = {"name": "largest rise of any head of the re-randomised model", "value": null}
        body["ablation_unit"] = "nats a token in later repeats of random tokens"
    return body


def _all(model: Model) -> list[Place]:
    return [(layer, head) for layer in range(model.facts.n_layers) for head in range(model.facts.n_heads)]


def _circuits(model: Model, example: Any, top: int) -> dict[str, Any] | None:
    try:
        weights = head_weights(model)
        embedding, unembedding = vocabulary(model)
    except InputError:
        return None
    ids = list(dict.fromkeys(model.run(example, logits=False).tokens[0].tolist()))[:MOST_TOKENS]
    e = embedding[torch.tensor(ids, device=embedding.device)]  # [token, d_model]
    names = model.token_strings(ids)
    found = {}
    for i, (layer, head) in enumerate(weights.places):
        raised = e @ weights.v[i].T @ weights.o[i].T @ unembedding.T  # [token, vocab]: U W_O W_V e
        sought = e @ weights.q[i].T @ weights.k[i] @ embedding.T  # e^T W_Q^T W_K E^T
        found[f"{layer}.{head}"] = {
            "OV": [
                {"token": name, "raises": _top(model, row, top), "lowers": _top(model, -row, top, -1)}
                for name, row in zip(names, raised)
            ],
            "QK": [{"token": name, "looks_for": _top(model, row, top)} for name, row in zip(names, sought)],
        }
    return found


def _top(model: Model, values: Tensor, k: int, sign: int = 1) -> list[list[Any]]:
    best = values.topk(min(k, len(values)))
    return [
        [name, round(sign * value, 4)] for name, value in zip(model.token_strings(best.indices), best.values.tolist())
    ]


def _rises(model: Model, ids: Tensor, m: int, seed: int) -> dict[str, dict[str, Any]]:
    before = later_loss(model, ids, m, [])
    return {f"{a}.{b}": _estimate(later_loss(model, ids, m, [(a, b)]) - before, seed) for a, b in _all(model)}


def _estimate(rise: Floats, seed: int) -> dict[str, Any]:
    made = bootstrap(rise, name="rise of the loss", over="sequences", unit=" nats", seed=seed)
    found: dict[str, Any] = made.model_dump(mode="json")
    return found
