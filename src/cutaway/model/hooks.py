"""One forward with hooks: reads, changes, frozen parts, leaves for gradients. One hook a module and side.

At a place the order is: stored or detached values, interventions in list order, gradient leaves, reads.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.core import InputError
from cutaway.model.attention import Tap, tapped
from cutaway.model.freeze import Frozen
from cutaway.model.interventions import Add, Intervention
from cutaway.model.norms import NormParts
from cutaway.model.selection import Layout
from cutaway.model.sites import Site


@dataclass(frozen=True, eq=False)
class Op:
    """One intervention at one site."""

    number: int  # in the list of interventions
    intervention: Intervention
    site: Site


@dataclass
class Station:
    """All that happens at one (module, via, quantity)."""

    module: nn.Module
    via: str
    ops: list[Op] = field(default_factory=list)
    leaves: list[Site] = field(default_factory=list)
    reads: list[Site] = field(default_factory=list)
    shifted: bool = False  # a resid_mid before it moved, and so must this output


@dataclass(frozen=True, eq=False)
class Touch:
    """That an intervention fired: how many entries, and the sum of squares of the change (0-d)."""

    number: int
    address: str
    entries: int
    squares: Tensor


class _Stop(Exception):
    """Nothing later is wanted."""


class Forward:
    """Runs a module once. After `run`: `read` and `leaves` by address, `touches` in order of firing."""

    def __init__(
        self,
        layout: Layout,
        *,
        reads: list[Site],
        ops: list[Op],
        leaves: list[Site],
        norms: dict[str, NormParts],
        frozen: Frozen | None,
        configs: list[Any],
        keep_graph: bool,
        stop: nn.Module | None,
        compare: bool = False,
    ) -> None:
        self.layout, self.batch = layout, len(layout.lengths)
        self.norms, self.frozen, self.configs = norms, frozen, configs
        self.keep_graph, self.stop, self.compare = keep_graph, stop, compare
        self.read: dict[str, Tensor] = {}
        self.leaves: dict[str, Tensor] = {}
        self.touches: list[Touch] = []
        self.errors: dict[str, str] = {}  # with `compare`: points that could not be taken
        self.versions: dict[str, int] = {}  # with `compare`: how often each tensor had been written to when read
        self.taps: dict[nn.Module, Tap] = {}
        self._moved: dict[nn.Module, Tensor] = {}
        self._frozen_norms: dict[nn.Module, Tensor | None] = {}
        self._stations: dict[tuple[int, str], Station] = {}
        for op in ops:
            self._station(op.site).ops.append(op)
        for site in leaves:
            self._station(site).leaves.append(site)
        for site in reads:
            self._station(site).reads.append(site)
        for site in (*(op.site for op in ops), *leaves):
            if site.follows is not None:
                self._at(site.follows, "output").shifted = True

    def _station(self, site: Site) -> Station:
        via = site.via
        if via == "attention":
            key = f"attention:{site.name}"
        elif via == "norm":
            key = "norm"
        else:
            key = f"{via}:{site.element}"
        return self._at(site.module, key)

    def _at(self, module: nn.Module, key: str) -> Station:
        key = "output:0" if key == "output" else key
        return self._stations.setdefault((id(module), key), Station(module, key))

    # ---- running

    def freeze(self, sites: dict[str, Site]) -> None:
        """Set up the frozen parts. `sites` are all attn_probs and norm_scale sites of the model."""
        if self.frozen is None:
            return
        values = self.frozen.values
        for address, site in sites.items():
            if site.name == "attn_probs" and "pattern" in self.frozen.parts:
                stored = None if values is None else self._stored(address, values)
                tap = self._tap(site.module)
                tap.detach_pattern, tap.stored = values is None, stored
                tap.opened = tap.opened or stored is not None
            if site.via == "norm" and "norm" in self.frozen.parts:
                self._at(site.module, "norm")
                self._frozen_norms[site.module] = None if values is None else self._stored(address, values)

    def _stored(self, address: str, values: Any) -> Tensor:
        if address not in values:
            raise InputError(f"the frozen values hold nothing for {address}; they are of another model.")
        value: Tensor = values[address]
        length = value.shape[-1] if address.startswith("attn_probs") else value.shape[1]
        if value.shape[0] not in (1, self.batch) or length != self.layout.width:
            raise InputError(
                f"the frozen run has {value.shape[0]} rows of {length} tokens; "
                f"this one has {self.batch} of {self.layout.width}."
            )
        return value

    def _tap(self, module: nn.Module) -> Tap:
        if module not in self.taps:

            def edit(quantity: str, tensor: Tensor) -> Tensor:
                station = self._stations.get((id(module), f"attention:{quantity}"))
                return tensor if station is None else self._visit(station, tensor)

            opened = any((id(module), f"attention:{name}") in self._stations for name in ("attn_scores", "attn_probs"))
            self.taps[module] = Tap(edit, opened or self.compare, compare=self.compare)
        return self.taps[module]

    def run(self, call: Callable[[], Any]) -> Any:
        """The module's output, or None where the forward stopped early."""
        for station in self._stations.values():
            if station.via.startswith("attention"):
                self._tap(station.module)
        with ExitStack() as stack:
            # A norm's own arithmetic comes before what is read from or done to its output.
            for station in sorted(self._stations.values(), key=lambda s: s.via != "norm"):
                if not station.via.startswith("attention"):
                    stack.callback(self._hook(station).remove)
            if self.stop is not None:
                stack.callback(self.stop.register_forward_hook(_stop).remove)
            stack.enter_context(tapped(self.taps, self.configs))
            try:
                return call()
            except _Stop:
                return None

    def _hook(self, station: Station) -> Any:
        if station.via == "norm":
            return station.module.register_forward_hook(lambda m, args, out: self._norm(station, args[0], out))
        element = int(station.via.partition(":")[2] or 0)
        if station.via.startswith("input"):

            def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                slot = _hidden(args, kwargs)
                raw = kwargs[slot] if isinstance(slot, str) else args[slot]
                new = self._visit(station, raw)
                if new is raw:
                    return None
                if isinstance(slot, str):
                    return args, {**kwargs, slot: new}
                return (*args[:slot], new, *args[slot + 1 :]), kwargs

            return station.module.register_forward_pre_hook(before, with_kwargs=True)

        def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
            many = isinstance(output, (tuple, list))
            raw = output[element] if many else output
            if not isinstance(raw, Tensor):
                raise InputError(
                    f"{type(station.module).__name__} gives {type(raw).__name__}, not a tensor, and cannot be read."
                )
            new = self._visit(station, raw)
            if new is raw:
                return None
            return type(output)([*output[:element], new, *output[element + 1 :]]) if many else new

        return station.module.register_forward_hook(after)

    # ---- at a station

    def _visit(self, station: Station, raw: Tensor) -> Tensor:
        if station.shifted and (moved := self._moved.pop(station.module, None)) is not None:
            raw = raw + moved.reshape(raw.shape)
        ops = station.ops
        while ops:
            site = ops[0].site
            count = next((i for i, op in enumerate(ops) if op.site is not site), len(ops))
            raw = self._replace(site, raw, self._apply(site.take(raw, self.batch), ops[:count]))
            ops = ops[count:]
        for site in station.leaves:
            raw = self._replace(site, raw, self._leaf(site, site.take(raw, self.batch)))
        for site in station.reads:
            try:
                self._keep(site, site.take(raw, self.batch))
            except (RuntimeError, IndexError) as error:
                if not self.compare:
                    raise
                self.errors[site.address] = str(error)
        return raw

    def _replace(self, site: Site, raw: Tensor, value: Tensor) -> Tensor:
        new = site.put(raw, value)
        if site.follows is not None:  # what goes around the MLP moves as what goes into it
            moved = self._moved.get(site.follows)
            self._moved[site.follows] = new - raw if moved is None else moved + (new - raw)
        return new

    def _norm(self, station: Station, x: Tensor, output: Tensor) -> Tensor | None:
        """A norm's output from its (possibly frozen or changed) denominator and normalised input."""
        every = [*(op.site for op in station.ops), *station.leaves, *station.reads]
        parts = self.norms[every[0].address] if every else self._parts_by_module(station.module)
        frozen = station.module in self._frozen_norms
        x = x.reshape(self.batch, -1, x.shape[-1])  # OPT's MLP norm comes as [batch * position, d_model]
        denominator = parts.scale(x)  # [batch, position, 1]
        if frozen:
            stored = self._frozen_norms[station.module]
            denominator = denominator.detach() if stored is None else stored.to(denominator).expand_as(denominator)
        denominator = self._quantity(station, "scale", denominator)
        normalized = self._quantity(station, "normalized", parts.centre(x) / denominator)
        changed = frozen or station.ops or station.leaves
        return parts.output(normalized, output.dtype).reshape(output.shape) if changed else None

    def _parts_by_module(self, module: nn.Module) -> NormParts:
        return next(parts for parts in self.norms.values() if parts.module is module)

    def _quantity(self, station: Station, ending: str, x: Tensor) -> Tensor:
        if ops := [op for op in station.ops if op.site.name.endswith(ending)]:
            x = self._apply(x, ops)
        for site in station.leaves:
            if site.name.endswith(ending):
                x = self._leaf(site, x)
        for site in station.reads:
            if site.name.endswith(ending):
                self._keep(site, x)
        return x

    def _leaf(self, site: Site, x: Tensor) -> Tensor:
        """x on the path of gradients: what is upstream may need none, and then x starts the path."""
        x = x if x.requires_grad else x.detach().clone().requires_grad_()
        x = x.view_as(x)  # a tensor of its own, through which all that is downstream passes
        self.leaves[site.address] = x
        return x.clone() if site.copies else x

    def _keep(self, site: Site, x: Tensor) -> None:
        x = self.leaves.get(site.address, x)
        x = x.clone() if site.copies else x
        self.read[site.address] = x if self.keep_graph else x.detach()
        if self.compare:
            self.versions[site.address] = x._version

    def _apply(self, x: Tensor, ops: list[Op]) -> Tensor:
        owned = False  # whether x may be written to
        at = 0
        while at < len(ops):
            together = _pointwise_adds(ops[at:]) if x.ndim == 3 else 0
            if together > 1:
                x, owned = self._add_many(x, ops[at : at + together]), True
                at += together
                continue
            op = ops[at]
            intervention, address = op.intervention, op.site.address
            axes = op.site.axes if len(op.site.axes) == x.ndim else ("batch", *(f"axis {i}" for i in range(1, x.ndim)))
            place = intervention.select.place(
                f"{intervention.kind} at {address}", axes, tuple(x.shape), self.layout, x.device
            )
            old = place.get(x)
            new = intervention.change(old, place, address).to(x.dtype)
            if new.shape != old.shape:
                raise InputError(f"{intervention.kind} at {address} turned {list(old.shape)} into {list(new.shape)}.")
            if place.keep is not None:
                new = torch.where(place.keep, new, old)
            entries = old.numel() if place.keep is None else int(place.keep.sum())
            self.touches.append(Touch(op.number, address, entries, (new - old).detach().float().pow(2).sum()))
            if place.index is None:
                # `new` may be a tensor that an intervention or another run holds: nobody may write into it.
                x, owned = (new.clone() if op.site.copies else new), op.site.copies
            else:
                x, owned = (x if owned else x.clone()), True
                x[place.index] = new
            at += 1
        return x

    def _add_many(self, x: Tensor, ops: list[Op]) -> Tensor:
        """Many vectors each added at its own rows and positions, as one indexed sum."""
        rows: list[int] = []
        columns: list[int] = []
        which: list[int] = []
        vectors: list[Tensor] = []
        for i, op in enumerate(ops):
            select, what = op.intervention.select, f"add at {op.site.address}"
            assert isinstance(op.intervention, Add)
            vector = op.intervention.vector.tensor
            if vector.shape != x.shape[-1:]:
                raise InputError(f"{what}: the vector has shape {list(vector.shape)}, the point is {x.shape[-1]} wide.")
            vectors.append(vector.to(x.device, x.dtype))
            at_rows = select._bounded(select.rows or (), self.batch, what, "row")
            for row, found in zip(at_rows, self.layout.columns(at_rows, select.positions or (), what)):
                rows += [row] * len(found)
                columns += found
                which += [i] * len(found)
        stacked = torch.stack(vectors)  # [op, width]
        counts = torch.bincount(torch.tensor(which), minlength=len(ops)).to(x.device)
        squares = stacked.detach().float().pow(2).sum(-1) * counts
        for i, op in enumerate(ops):
            self.touches.append(Touch(op.number, op.site.address, int(counts[i]) * x.shape[-1], squares[i]))
        index = (torch.tensor(rows, device=x.device), torch.tensor(columns, device=x.device))
        return x.index_put(index, stacked[torch.tensor(which, device=x.device)], accumulate=True)


def _pointwise_adds(ops: list[Op]) -> int:
    """How many of the first ops are vectors added at given rows and positions, and nothing more."""
    for count, op in enumerate(ops):
        intervention = op.intervention
        select = intervention.select
        plain = select.head is None and select.neuron is None and select.keys is None and select.mask is None
        if not (isinstance(intervention, Add) and plain and select.rows and select.positions):
            return count
        if intervention.vector.tensor.ndim != 1:
            return count
    return len(ops)


def _stop(_: nn.Module, __: Any, ___: Any) -> None:
    raise _Stop


def _hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | str:
    """Which argument of a module's call is the hidden state."""
    if isinstance(kwargs.get("hidden_states"), Tensor):
        return "hidden_states"
    for i, value in enumerate(args):
        if isinstance(value, Tensor) and value.is_floating_point():
            return i
    for name, value in kwargs.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 2:
            return name
    raise InputError("a module was called without a hidden state to read or change.")
