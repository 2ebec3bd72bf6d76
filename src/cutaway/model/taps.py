"""Functions at places of a forward: what passes there is shown to them, and what they give takes its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cutaway.core import InputError
from cutaway.model.sites import Site

Visit = Callable[[Tensor], Tensor | None]
"""Takes what is there; gives what comes there, or None to leave it."""


Tap = Callable[[], RemovableHandle]
"""Registers its function when it is called: `tapped` does, for the time of a forward."""


@contextmanager
def tapped(taps: Iterable[Tap]) -> Iterator[None]:
    with ExitStack() as stack:
        for tap in taps:
            stack.callback(tap().remove)
        yield


def at_site(site: Site, batch: int, visit: Visit) -> Tap:
    """`visit` sees the point's tensor in the axes of the point."""

    def change(raw: Tensor) -> Tensor | None:
        new = visit(site.take(raw, batch))
        return None if new is None else site.put(raw, new)

    return entering(site.module, change) if site.via == "input" else leaving(site.module, change, site.element)


def entering(module: nn.Module, visit: Visit) -> Tap:
    """`visit` sees the hidden state that a module is called with."""

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        slot = hidden(args, kwargs)
        raw = kwargs[slot] if isinstance(slot, str) else args[slot]
        new = visit(raw)
        if new is None:
            return None
        if isinstance(slot, str):
            return args, {**kwargs, slot: new}
        return (*args[:slot], new, *args[slot + 1 :]), kwargs

    return lambda: module.register_forward_pre_hook(before, with_kwargs=True)


def leaving(module: nn.Module, visit: Visit, element: int = 0) -> Tap:
    """`visit` sees what a module gives; of several things the one at `element`."""

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        many = isinstance(output, (tuple, list))
        new = visit(output[element] if many else output)
        if new is None:
            return None
        return type(output)([*output[:element], new, *output[element + 1 :]]) if many else new

    return lambda: module.register_forward_hook(after)


def passing(module: nn.Module, visit: Callable[[Tensor, Any], Any]) -> Tap:
    """`visit` sees the hidden state that a module is called with and all that it gives, whose place it may take."""

    def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        slot = hidden(args, kwargs)
        return visit(kwargs[slot] if isinstance(slot, str) else args[slot], output)

    return lambda: module.register_forward_hook(after, with_kwargs=True)


def hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | str:
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
