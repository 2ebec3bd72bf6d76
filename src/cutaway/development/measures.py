"""This room's own measures of a checkpoint; those of other rooms are values of the same protocol (`core.Measure`)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from cutaway.core import CutawayError, Estimate
from cutaway.development.chains import Setting
from cutaway.development.checkpoints import module_of
from cutaway.development.curvature import hessian_trace
from cutaway.development.heads import head_weights_mask
from cutaway.development.llc import llc
from cutaway.development.loss import Loss, PerItem, next_token
from cutaway.development.weights import Chosen
from cutaway.evidence import bootstrap


@dataclass(frozen=True, eq=False)
class Data:
    """Items and how a loss is made of them; `key` names them in a timeline's settings."""

    tensors: tuple[Tensor, ...]
    per_item: PerItem = next_token
    key: str = "data"

    def loss(self, subject: Any, weights: Chosen = None) -> Loss:
        module = module_of(subject)
        if hasattr(module, "set_attn_implementation"):
            set_attention: Any = module.set_attn_implementation
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                set_attention("eager")  # plain operations: batched over chains, twice differentiable
        return Loss(module, self.tensors, self.per_item, weights)


@dataclass(frozen=True, eq=False)
class Function:
    """Any function of a subject as a measure."""

    name: str
    function: Callable[[Any], Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, subject: Any) -> Mapping[str, Any]:
        return self.function(subject)


def loss_measure(data: Data, name: str = "loss", seed: int = 0) -> Function:
    """The mean loss of the items, with a bootstrap interval over them. One forward an item."""

    def measured(subject: Any) -> dict[str, Any]:
        try:
            values = data.loss(subject).at_origin.double().cpu().numpy()
        except CutawayError as error:
            return {name: Estimate(name=name, value=float("nan"), n=0, note=str(error))}
        return {name: bootstrap(values, name=name, over="items", unit=" nats", seed=seed)}

    return Function(name, measured, {"data": data.key, "items": len(data.tensors[0]), "seed": seed})


def llc_measure(data: Data, setting: Setting, weights: Chosen = None, name: str = "llc") -> Function:
    """lambda hat at one setting for every checkpoint, so that checkpoints compare; why it should not be believed as an
    absolute number stands in the note. Costs the chains."""

    def measured(subject: Any) -> dict[str, Any]:
        return {name: _noted(name, data, subject, setting, weights)}

    chosen = weights if weights is None or isinstance(weights, str) else "chosen"
    return Function(name, measured, {"data": data.key, **asdict(setting), "weights": chosen})


def head_llc_measure(data: Data, setting: Setting, heads: Sequence[tuple[int, int]]) -> Function:
    """The LLC restricted to the weights of each head (Wang et al. 2024, "Differentiation and specialization of
    attention heads via the refined local learning coefficient"). Costs the chains, a head."""

    def measured(subject: Any) -> dict[str, Any]:
        found = {}
        for layer, head in heads:
            name = f"rllc {layer}.{head}"
            found[name] = _noted(name, data, subject, setting, head_weights_mask(subject, layer, head))
        return found

    listed = [list(head) for head in heads]
    return Function("rllc", measured, {"data": data.key, **asdict(setting), "heads": listed})


def _noted(name: str, data: Data, subject: Any, setting: Setting, weights: Chosen) -> Estimate:
    try:
        found = llc(data.loss(subject, weights), setting)
    except CutawayError as error:
        return Estimate(name=name, value=float("nan"), n=setting.chains, note=str(error))
    return found.estimate.model_copy(update={"name": name, "note": "; ".join(found.refused)})


def weight_norm(name: str = "weight norm") -> Function:
    """The Euclidean norm of all parameters."""

    def measured(subject: Any) -> dict[str, Any]:
        total = sum(float(p.detach().double().square().sum()) for p in module_of(subject).parameters())
        return {name: total**0.5}

    return Function(name, measured)


def trace_measure(data: Data, probes: int = 8, items: int = 32, seed: int = 0) -> Function:
    """The Hessian's trace (Hutchinson). Costs `probes` Hessian-vector products."""

    def measured(subject: Any) -> dict[str, Any]:
        try:
            return {"hessian trace": hessian_trace(data.loss(subject), probes=probes, items=items, seed=seed)}
        except CutawayError as error:
            return {"hessian trace": Estimate(name="hessian trace", value=float("nan"), n=0, note=str(error))}

    return Function("hessian trace", measured, {"data": data.key, "probes": probes, "items": items, "seed": seed})


def outputs_measure(inputs: Tensor, numbers: int = 4096, seed: int = 0, name: str = "outputs") -> Function:
    """Log probabilities on fixed inputs, at `numbers` places drawn at random: what essential dynamics is of."""

    def measured(subject: Any) -> dict[str, Any]:
        with torch.no_grad():
            out = module_of(subject)(inputs)
        flat = getattr(out, "logits", out).log_softmax(-1).flatten()
        generator = torch.Generator().manual_seed(seed)
        places = torch.randint(len(flat), (min(numbers, len(flat)),), generator=generator)
        return {name: flat[places].float().cpu().numpy()}

    return Function(name, measured, {"inputs": list(inputs.shape), "numbers": numbers, "seed": seed})
