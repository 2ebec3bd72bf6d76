"""Dictionaries into other packages' folders, and sets of transcoders from and into single ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cutaway.core import InputError, UnknownName
from cutaway.features import circuit_tracer
from cutaway.features.exchange import FORMS
from cutaway.features.sae import SAE
from cutaway.features.transcoders import Layer, Transcoders

TARGETS = (
    "saelens",
    "sparsify",
    "dictionary_learning",
    "gemma_scope",
    "gemma_scope_2",
    "llamascopium",
    "circuit-tracer",
)


def convert(dictionary: Transcoders | SAE, to: str, out: str | Path) -> list[Path]:
    """Write in the format `to`; the folders that were written. Of per-layer transcoders a folder each (layers.0.mlp,
    …), but circuit-tracer takes the set whole.

    Raises `InputError` where the format cannot hold it, saying why: nothing is approximated.
    """
    out = Path(out)
    if to not in TARGETS:
        raise UnknownName("dictionary format", to, TARGETS)
    if to == "circuit-tracer":
        if isinstance(dictionary, SAE):
            raise InputError("circuit-tracer holds transcoders for every MLP; this is of one point.")
        circuit_tracer.write(dictionary, out)
        return [out]
    if isinstance(dictionary, SAE):
        if dictionary.scaled and to != "llamascopium":
            dictionary = dictionary.plain()
        FORMS[to].write(dictionary, out)
        return [out]
    folders = []
    for layer, sae in enumerate(as_saes(dictionary)):
        FORMS[to].write(sae, out / f"layers.{layer}.mlp")
        folders.append(out / f"layers.{layer}.mlp")
    return folders


def as_saes(dictionary: Transcoders) -> list[SAE]:
    """Per-layer transcoders as single ones. Raises `InputError` for a cross-layer one, whose features write to many."""
    if dictionary.kind == "clt":
        raise InputError("a cross-layer transcoder's features write to many layers: only circuit-tracer holds them.")
    return [
        SAE.from_tensors(
            {**held.tensors(), "W_dec": held.W_dec[:, 0]},
            rule=dictionary.rule, k=dictionary.k, model=dictionary.model, training=dictionary.training,
            point=dictionary.input_point(layer), output_point=dictionary.output_point(layer),
        )
        for layer, held in enumerate(dictionary.layers)
    ]  # fmt: skip


def as_transcoders(saes: Sequence[SAE]) -> Transcoders:
    """Single transcoders, one for every MLP in order, as a set that graphs can be traced over.

    Raises `InputError` where points are not those of layers 0, 1, …, or rules and widths differ.
    """
    plain = [s.plain() if s.centred or s.norms or s.input_norm or s.scaled or s.rule == "gated" else s for s in saes]
    if not plain or len({(sae.rule, sae.k, sae.n_features) for sae in plain}) != 1:
        raise InputError("a set of transcoders has one rule, one k and one number of features a layer.")
    names = set()
    for layer, sae in enumerate(plain):
        reads, writes = (point.rpartition(".") for point in (sae.point, sae.output_point or ""))
        if reads[2] != str(layer) or writes[2] != str(layer):
            raise InputError(f"transcoder {layer} of the set should be of layer {layer}; it is {sae}.")
        names.add((reads[0], writes[0]))
    if len(names) != 1:
        raise InputError(f"the transcoders of a set read and write at the same points; these: {sorted(names)}.")
    (input_name, output_name), first = names.pop(), plain[0]
    layers = tuple(Layer(**{**sae.tensors(), "W_dec": sae.W_dec[:, None]}) for sae in plain)
    return Transcoders(
        kind="plt", rule=first.rule, layers=layers, k=first.k, model=first.model,
        input_name=input_name, output_name=output_name,
    )  # fmt: skip
