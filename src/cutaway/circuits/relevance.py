"""Relevance patching: EAP with coefficients of layer-wise relevance propagation in place of gradients (RelP; Jafari et
al. 2025). One backward, in which

    norms        LN-rule: the denominator is a constant; centring, gain and bias are linear   y = g o C x / [s] + b
    activations  identity rule: f(x) passes on as x [f(x) / x], its ratio a constant
    gates        half rule: of a product a o b each factor gets half of the gradient          y = y/2 + [y/2]
    linear maps  0-rule, which is their gradient

([ ] is held constant.) Attention has its ordinary gradient, as in the authors' code as it is shipped; their AH-rule,
which holds patterns constant, would give every query and key zero. Norms of queries and keys have theirs too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cutaway.circuits.attribution import TOKENS, Spans, parts
from cutaway.circuits.wires import Wires
from cutaway.core import InputError
from cutaway.model.norms import NormParts
from cutaway.model.taps import Tap, at_site, passing

SMALL = 1e-6  # below it x is taken for this, of its own sign


def relp(wires: Wires, task: Any, ablation: str = "resample", *, tokens: int = TOKENS, spans: Spans = ()) -> Tensor:
    """score(s, p) = (clean_s - ablated_s) . (relevance coefficient of the stream of p).  2F + 1B.

    [item, (span,) source, port]. Raises InputError where an MLP's activation function is no module.
    """
    found = []
    for part in parts(wires, task, ablation, tokens, spans):
        seen = part.run(rules=rules(wires, len(part.rows)), held=True)
        found.append(part.scores(seen, seen.senders - part.other).cpu())
    return torch.cat(found)


def rules(wires: Wires, size: int) -> list[Tap]:
    """Taps that leave a forward as it is and give its backward these rules."""
    model = wires.model
    norms = {id(norm.module): norm for norm in (*model.norms.values(), wires.final_norm) if norm is not None}
    taps = [_held_scale(norm) for norm in norms.values()]
    assert model.architecture is not None
    acts: dict[int, nn.Module] = {}
    for i in range(len(wires.layers)):
        function = model.architecture.activation(i)
        if not isinstance(function, nn.Module):
            what = "is no module" if callable(function) else "is not found"
            raise InputError(f"{model.name}, layer {i}: the activation function of its MLP {what}; RelP has no rule.")
        acts[id(function)] = function
        if model.facts.gated:
            taps.append(at_site(model.site(f"mlp_act.{i}"), size, lambda x: 0.5 * x + 0.5 * x.detach()))
    return [*taps, *(_identity(function) for function in acts.values())]


def _held_scale(norm: NormParts) -> Tap:
    return passing(norm.module, lambda x, output: norm.output(norm.centre(x) / norm.scale(x).detach(), output.dtype))


def _identity(function: nn.Module) -> Tap:
    def after(x: Tensor, output: Tensor) -> Tensor:
        safe = torch.where(x.abs() < SMALL, torch.where(x < 0, -SMALL, SMALL).to(x), x)
        return output.detach() + (x - x.detach()) * (output / safe).detach()

    return passing(function, after)
