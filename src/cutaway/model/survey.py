"""How a model's points are established: resolved, then all read in one forward of a few random tokens.

Where a module says nothing of a tensor's shape, of which norm feeds which sublayer, or of what the model later writes
into in place, the forward shows it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cutaway.core import InputError
from cutaway.model.anatomy import Anatomy, Refused
from cutaway.model.contract import Contract, hold
from cutaway.model.hooks import Forward
from cutaway.model.inputs import random_pixels
from cutaway.model.norms import parts_of
from cutaway.model.points import GLOBAL, NORM_POINTS, POINTS
from cutaway.model.sites import Site
from cutaway.model.tokens import Batch

if TYPE_CHECKING:
    from cutaway.model.model import Model


def establish(model: Model, why: str) -> Contract:
    """Resolve every point, run the model once on [2, 7] random tokens, and hold the points to the laws."""
    architecture = model.architecture
    if architecture is None:
        return Contract(why=why or "not a transformer that is known")
    contract = Contract()
    _resolve(architecture, contract)
    batch = _random_batch(model)
    for _ in range(2):
        survey = Survey(architecture, contract, batch)
        try:
            with torch.no_grad():
                output = survey.run(lambda: model._call(batch))
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            raise InputError(
                f"{model.name} cannot be run on token ids alone: {type(error).__name__}: {error}"
            ) from error
        if not (written := survey.written()):
            break
        for address in written:  # Falcon adds into the MLP's output in place; read copies, and survey again
            contract.sites[address] = replace(contract.sites[address], copies=True)
    _shapes(model, contract, survey, batch)
    _find_norms(architecture, contract, survey, model.facts.post_norm)
    contract.checks = tuple(hold(model, contract, survey, output))
    ordered = [n if n in GLOBAL else f"{n}.{i}" for n, i in _order(architecture.n_layers)]
    contract.sites = {address: contract.sites[address] for address in ordered if address in contract.sites}
    return contract


def _order(n_layers: int) -> list[tuple[str, int]]:
    """Names with layers, in forward order."""
    names = list(POINTS)
    first = [(n, -1) for n in names if n == "embeddings"]
    last = [(n, n_layers) for n in names if n in GLOBAL and n != "embeddings"]
    return first + [(n, layer) for layer in range(n_layers) for n in names if n not in GLOBAL] + last


def _resolve(architecture: Anatomy, contract: Contract) -> None:
    modules: list[nn.Module] = []
    for name, layer in _order(architecture.n_layers):
        if name in NORM_POINTS:
            continue
        address = name if name in GLOBAL else f"{name}.{layer}"
        try:
            contract.sites[address] = architecture.site(name, None if name in GLOBAL else layer)
        except Refused as error:
            contract.refused[address] = str(error)
        if address in contract.sites and contract.sites[address].via == "attention":
            modules.append(contract.sites[address].module)
    configs = [config for module in modules if (config := getattr(module, "config", None)) is not None]
    configs += architecture.configs()
    contract.configs = list({id(config): config for config in configs}.values())


def _random_batch(model: Model) -> Batch:
    """[2, positions] ids. The number of positions is none that another axis has, so that no axes can be confused."""
    facts = model.facts
    if facts.reads == "pixels":
        return random_pixels(model)
    taken = {facts.n_heads, facts.n_kv_heads, facts.d_head, facts.d_model, 2}
    positions = next(n for n in (7, 9, 11, 13, 5, 3) if n not in taken)
    positions = min(positions, facts.max_positions or positions)
    ids = torch.randint(facts.vocab_size or 2, (2, positions), generator=torch.Generator().manual_seed(0))
    batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool))
    if facts.reads == "tokens":
        return batch
    source = ids[:, : positions - 2].flip(1)
    return replace(batch, source=Batch(source, torch.ones_like(source, dtype=torch.bool)))


class Survey:
    """All points read in one forward, and every norm of every block with its input and output."""

    def __init__(self, architecture: Anatomy, contract: Contract, batch: Batch) -> None:
        self.forward = Forward(
            batch.layout,
            reads=list(contract.sites.values()),
            ops=[],
            leaves=[],
            norms={},
            frozen=None,
            configs=contract.configs,
            keep_graph=False,
            stop=None,
            compare=True,
        )
        self.norms: dict[tuple[int, str], nn.Module] = {}  # (layer, name in the block) -> module
        for layer in range(architecture.n_layers):
            for name, child in architecture.norms(layer).items():
                self.norms[layer, name] = child
        self.outputs: dict[nn.Module, Tensor] = {}
        self.device = next(iter(architecture.hf.parameters())).device

    def run(self, call: Any) -> Any:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self.outputs[module] = output

        handles = [module.register_forward_hook(note) for module in self.norms.values()]
        try:
            return self.forward.run(call)
        finally:
            for handle in handles:
                handle.remove()

    def written(self) -> list[str]:
        """Points whose tensor the model wrote into after it was read."""
        versions = self.forward.versions
        return [address for address, x in self.forward.read.items() if x._version != versions[address]]

    def __getitem__(self, address: str) -> Tensor:
        """A point's tensor, on one device for all: blocks may lie on several, and laws join what lies side by side."""
        return self.forward.read[address].to(self.device)

    def __contains__(self, address: str) -> bool:
        return address in self.forward.read


def _shapes(model: Model, contract: Contract, survey: Survey, batch: Batch) -> None:
    """Every point was reached, in the shape that its axes say."""
    facts = model.facts
    rows, positions = batch.mask.shape
    fixed = {
        "source": 0 if batch.source is None else batch.source.ids.shape[1],
        "batch": rows,
        "position": positions,
        "query": positions,
        "key": positions,
        "d_model": facts.d_model,
        "one": 1,
    }
    for address, site in list(contract.sites.items()):
        if address in survey.forward.errors:
            contract.refuse(address, survey.forward.errors[address])
            continue
        if address not in survey:
            contract.refuse(address, f"{type(site.module).__name__} was never reached in a forward")
            continue
        x = survey[address]
        want = dict(fixed)
        if site.heads is not None:
            want["head"], want["d_head"] = site.heads
            want["kv_head"] = site.heads[0]
        elif site.via == "attention":
            want["head"] = facts.n_heads
        shape = tuple(want.get(axis, 0) for axis in site.axes)
        flipped = (shape[0], shape[2], shape[1], *shape[3:]) if len(shape) == 4 else ()
        if site.heads is not None and x.ndim == 4 and _fits(tuple(x.shape), flipped):
            contract.sites[address] = replace(site, head_major=True)
            survey.forward.read[address] = x.transpose(1, 2)
        elif not _fits(tuple(x.shape), shape):
            named = ", ".join(f"{axis} {size or '?'}" for axis, size in zip(site.axes, shape))
            contract.refuse(address, f"the tensor there is {list(x.shape)}, where [{named}] was expected")


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(w in (0, s) for s, w in zip(shape, wanted))


def _same(a: Tensor, b: Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.numel() == b.numel()


def _find_norms(architecture: Anatomy, contract: Contract, survey: Survey, post_norm: bool) -> None:
    """A sublayer's norm is the module whose output is, as the same tensor in memory, what the sublayer reads."""
    covered: set[nn.Module] = set()
    unfreezable: list[str] = []

    def place(module: nn.Module | None, addresses: list[str], layer: int | None, reason: str) -> None:
        parts = None if module is None else parts_of(module, architecture.d_model)
        if module is not None and parts is None:
            reason = f"{type(module).__name__} is no norm whose arithmetic is known"
        for address in addresses:
            name = address.split(".")[0]
            if module is None or parts is None:
                contract.refused[address] = reason
            else:
                covered.add(module)
                contract.norms[address] = parts
                contract.sites[address] = Site(address, name, layer, POINTS[name][0], module, "norm")

    for layer in range(architecture.n_layers):
        mine = {name: module for (i, name), module in survey.norms.items() if i == layer}
        for sublayer in ("attn", "mlp"):
            reads = f"{sublayer}_in.{layer}"
            found, why = None, f"no norm of the block gives what the {sublayer} sublayer reads"
            if post_norm:
                why = f"the norm stands after the sum; its denominator is {sublayer}_out_norm_scale"
            elif reads in survey:
                found = next(
                    (
                        m
                        for m in mine.values()
                        if m in survey.outputs and _same(survey.outputs[m], survey.forward.read[reads])
                    ),
                    None,
                )
            addresses = [f"{sublayer}_norm_scale.{layer}", f"{sublayer}_normalized.{layer}"]
            place(found, addresses, layer, why)
            after = architecture.norm_after(layer, sublayer)
            place(after, [f"{sublayer}_out_norm_scale.{layer}"], layer, "the family norms no sublayer's output")
        unfreezable += [
            f"layer {layer}'s {name} norms something else than a sublayer's input or output"
            for name, module in mine.items()
            if module not in covered
        ]
    place(
        architecture.final_norm,
        ["final_norm_scale", "final_normalized"],
        None,
        contract.refused.get("final_norm", "no final norm"),
    )
    if architecture.final_norm is not None and architecture.final_norm not in covered:
        unfreezable.append(contract.refused["final_norm_scale"])
    contract.unfreezable = tuple(unfreezable)
