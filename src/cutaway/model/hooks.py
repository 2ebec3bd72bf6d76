"""One forward with hooks: reads, changes, frozen parts, leaves for gradients. One hook a module and side.

At a place the order is: stored or detached values, interventions in list order, gradient leaves, reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from cutaway.core import InputError
from cutaway.model.apply import Op, Touch, apply
from cutaway.model.attention import Tap, tapped
from cutaway.model.freeze import Frozen
from cutaway.model.norms import NormParts
from cutaway.model.positions import Layout
from cutaway.model.reduce import Reduce
from cutaway.model.sites import Site
from cutaway.model.taps import hidden

__all__ = ["Forward", "Op", "Station", "Touch"]


@dataclass
class Station:
    """All that happens at one (module, via, quantity)."""

    module: nn.Module
    via: str
    ops: list[Op] = field(default_factory=list)
    leaves: list[Site] = field(default_factory=list)
    reads: list[Site] = field(default_factory=list)
    shifted: bool = False  # a resid_mid before it moved, and so must this output
    held: list[tuple[Site, Tensor | None]] = field(default_factory=list)  # frozen: at a value, or without gradient
    sources: list[Site] = field(default_factory=list)  # what an intervention elsewhere is computed from

    @property
    def only_read(self) -> bool:
        return not (self.ops or self.leaves or self.shifted or self.held or self.sources)


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
        reduced: Mapping[str, Reduce] | None = None,
    ) -> None:
        self.layout, self.batch = layout, len(layout.lengths)
        self.norms, self.frozen, self.configs = norms, frozen, configs
        self.keep_graph, self.stop, self.compare = keep_graph, stop, compare
        self.reduced = reduced or {}  # by address, how a read is made small as it is taken
        self.read: dict[str, Tensor] = {}
        self.leaves: dict[str, Tensor] = {}
        self.touches: list[Touch] = []
        self.errors: dict[str, str] = {}  # with `compare`: points that could not be taken
        self.versions: dict[str, int] = {}  # with `compare`: how often each tensor had been written to when read
        self.seen: dict[str, Tensor] = {}  # points that interventions elsewhere are computed from
        self.step = 0  # while generating, the number of forwards before
        self.taps: dict[nn.Module, Tap] = {}
        self._moved: dict[nn.Module, Tensor] = {}
        self._frozen_norms: dict[nn.Module, Tensor | None] = {}
        self._stations: dict[tuple[int, str], Station] = {}
        for op in ops:
            self._station(op.site).ops.append(op)
            if op.source is not None:
                self._station(op.source).sources.append(op.source)
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
        if (found := self._stations.get((id(module), key))) is None:
            found = self._stations[id(module), key] = Station(module, key)
        return found

    # ---- running

    def freeze(self, sites: dict[str, Site]) -> None:
        """Set up the frozen parts. `sites` are all the sites that they hold."""
        if self.frozen is None:
            return
        values = self.frozen.values
        for address, site in sites.items():
            stored = None if values is None else self._stored(address, values)
            if site.name == "attn_probs":
                tap = self._tap(site.module)
                tap.detach_pattern, tap.stored = values is None, stored
                tap.opened = tap.opened or stored is not None
            elif site.via == "norm":
                self._at(site.module, "norm")
                self._frozen_norms[site.module] = stored
            else:
                self._station(site).held.append((site, stored))

    def _stored(self, address: str, values: Any) -> Tensor:
        if address not in values:
            raise InputError(f"the frozen values hold nothing for {address}; they are of another model.")
        value: Tensor = values[address]
        length = value.shape[2] if "_probs." in address else value.shape[1]
        if value.shape[0] not in (1, self.batch) or length != self.layout.width:
            raise InputError(
                f"the frozen run has {value.shape[0]} rows of {length} tokens; "
                f"this one has {self.batch} of {self.layout.width}."
            )
        if self.frozen is not None and not self.frozen.fits(self.layout):
            raise InputError(
                "the frozen run's rows are padded otherwise than these: its positions would meet others here; pad both "
                "alike."
            )
        return value

    def thaw(self) -> None:
        """Hold nothing from here on."""
        self._frozen_norms = {}
        for tap in self.taps.values():
            tap.stored, tap.detach_pattern = None, False
        for station in self._stations.values():
            station.held = []

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
        hooked = []
        for station in self._stations.values():
            if station.via.startswith("attention"):
                self._tap(station.module)
            else:
                hooked.append(station)
        # A norm's own arithmetic comes before what is read from or done to its output.
        hooked.sort(key=lambda station: station.via != "norm")
        handles = []
        try:
            for station in hooked:
                handles.append(self._hook(station))
            if self.stop is not None:
                handles.append(self.stop.register_forward_hook(_stop))
            if not self.taps:
                return call()
            with tapped(self.taps, self.configs):
                return call()
        except _Stop:
            return None
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, station: Station) -> Any:
        if station.via == "norm":
            return station.module.register_forward_hook(lambda m, args, out: self._norm(station, args[0], out))
        element = int(station.via.partition(":")[2] or 0)
        only_read = station.only_read and not self.compare
        if station.via.startswith("input"):

            def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                slot = hidden(args, kwargs)
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
            raw = (output[element] if element < len(output) else None) if many else output
            if not isinstance(raw, Tensor):
                reason = f"{type(station.module).__name__} gives {type(raw).__name__} there, not a tensor"
                if self.compare:  # the survey refuses the point
                    self.errors |= {site.address: reason for site in station.reads}
                    return None
                raise InputError(f"{reason}, and cannot be read.")
            if only_read:  # the usual case, kept short: a small model's forward is a millisecond
                for site in station.reads:
                    self._keep(site, site.take(raw, self.batch))
                return None
            new = self._visit(station, raw)
            if new is raw:
                return None
            return type(output)([*output[:element], new, *output[element + 1 :]]) if many else new

        return station.module.register_forward_hook(after)

    # ---- at a station

    def _visit(self, station: Station, raw: Tensor) -> Tensor:
        if station.shifted and (moved := self._moved.pop(station.module, None)) is not None:
            raw = raw + moved.reshape(raw.shape)
        for site, stored in station.held:
            raw = self._hold(site, raw, stored)
        ops = station.ops
        while ops:
            site = ops[0].site
            count = next((i for i, op in enumerate(ops) if op.site is not site), len(ops))
            raw = self._replace(site, raw, self._apply(site.take(raw, self.batch), ops[:count]))
            ops = ops[count:]
        for site in station.sources:
            x = site.take(raw, self.batch)
            self.seen[site.address] = x.clone() if site.copies else x
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

    def _hold(self, site: Site, raw: Tensor, stored: Tensor | None) -> Tensor:
        """The point frozen: at a stored value, or at its own without gradient."""
        x = site.take(raw, self.batch)
        held = x.detach() if stored is None else stored.to(x.device, x.dtype).expand_as(x)
        return self._replace(site, raw, held)

    def _replace(self, site: Site, raw: Tensor, value: Tensor) -> Tensor:
        new = site.put(raw, value)
        if site.follows is not None:  # what goes around the MLP moves as what goes into it
            moved = self._moved.get(site.follows)
            self._moved[site.follows] = new - raw if moved is None else moved + (new - raw)
        return new

    def _norm(self, station: Station, x: Tensor, output: Tensor) -> Tensor | None:
        """A norm's output from its (possibly frozen or changed) denominator and normalised input."""
        every = [*(op.site for op in station.ops), *station.leaves, *station.reads, *station.sources]
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
        for site in station.sources:
            if site.name.endswith(ending):
                self.seen[site.address] = x
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
        x = x.detach() if x.requires_grad and not self.keep_graph else x
        if (small := self.reduced.get(site.address)) is not None:
            x = small(x, site, self.layout)
            self.read[site.address] = x if small.to is None else small.stored(site.address, x)
            return
        x = x.clone() if site.copies else x
        self.read[site.address] = x
        if self.compare:
            self.versions[site.address] = x._version

    def _apply(self, x: Tensor, ops: list[Op]) -> Tensor:
        return apply(x, ops, self.layout, self.touches, self.seen, self.step)


def _stop(_: nn.Module, __: Any, ___: Any) -> None:
    raise _Stop
