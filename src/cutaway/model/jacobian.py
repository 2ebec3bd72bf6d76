"""Products with the Jacobian between two points, along the model's own path or the frozen linear one.

J = d to / d at, over all rows and positions of both. Forward: J v, what a small change v at `at` does at `to`.
Backward: v J, the gradient of <v, to> at `at`. The frozen path is the model with attention patterns, norm scales and
MLP outputs held at the run's own values: what remains is linear in the stream, and is the path along which attribution
graphs measure their edges (`linear_path.py`, which holds it as matrices for one prompt).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from cutaway.core import InputError, UnknownName
from cutaway.model.content import Content
from cutaway.model.freeze import Frozen
from cutaway.model.interventions import Intervention
from cutaway.model.selection import Place
from cutaway.model.threads import suited

if TYPE_CHECKING:
    from cutaway.model.model import Model

PATHS = ("true", "frozen")
LINEAR = ("pattern", "norm", "mlp")  # what the frozen path holds
Path = Literal["true", "frozen"]


@dataclass(frozen=True)
class _Tangent(Intervention):
    """The point with a tangent, for forward-mode derivatives. Within one `dual_level`."""

    tangent: Content
    kind: ClassVar[str] = ""

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        v = self.tangent.tensor.to(x)
        try:
            v = v.expand(x.shape)
        except RuntimeError as error:
            raise InputError(f"the vector has shape {list(v.shape)}, {address} {list(x.shape)}.") from error
        dual: Tensor = forward_ad.make_dual(x, v.contiguous())  # type: ignore[no-untyped-call]
        return dual


def jvp(
    model: Model,
    prompt: Any,
    at: str,
    to: str,
    vector: Tensor,
    *,
    path: Path = "true",
    freeze: Frozen | Sequence[str] | None = None,
    interventions: Sequence[Intervention] = (),
) -> Tensor:
    """J v: what `vector`, added a little at `at`, does at `to` (an address, or "logits"), in the shape of `to`.

    `vector` has the shape of `at` or broadcasts to it. `freeze` holds parts of one's own choice in place of `path`.
    Interventions are part of the function that is differentiated. Raises InputError: unknown points, `to` not after
    `at`, a function without a forward derivative in the model. Costs about two forwards and no backward.
    """
    held = _held(path, freeze)
    last = _Tangent(at, Content.of(vector, "vector"))
    (address,) = model.addresses(at)
    with forward_ad.dual_level(), _plain_kernels(model):
        try:
            run = model.run(
                prompt,
                read=[] if to == "logits" else [to],
                interventions=[*interventions, last],
                freeze=held,
                logits=to == "logits" or not _in_order(model, address, to),
                keep_graph=True,
            )
        except NotImplementedError as error:
            raise InputError(f"{model.name} has no forward derivative ({error}); vjp needs none.") from error
        primal = run.logits if to == "logits" else run[to]
        tangent: Tensor | None = forward_ad.unpack_dual(primal).tangent  # type: ignore[no-untyped-call]
        if tangent is None:
            raise InputError(_apart(address, to, held))
        return tangent.detach().clone()


def vjp(
    model: Model,
    prompt: Any,
    at: str,
    to: str,
    vector: Tensor,
    *,
    path: Path = "true",
    freeze: Frozen | Sequence[str] | None = None,
    interventions: Sequence[Intervention] = (),
) -> Tensor:
    """v J: the gradient at `at` of the sum of `vector` times what is at `to` (or "logits"), in the shape of `at`.

    `vector` has the shape of `to` or broadcasts to it. The rest as for `jvp`. Costs one forward and one backward.
    """
    held = _held(path, freeze)
    (address,) = model.addresses(at)
    run = model.run(
        prompt,
        read=[] if to == "logits" else [to],
        interventions=interventions,
        grad=[address],
        freeze=held,
        keep_graph=True,
    )
    reached, leaf = (run.logits if to == "logits" else run[to]), run.leaves[address]
    v = Content.of(vector, "vector").tensor.to(reached)
    try:
        v = v.expand(reached.shape)
    except RuntimeError as error:
        raise InputError(f"the vector has shape {list(v.shape)}, {to} {list(reached.shape)}.") from error
    if not reached.requires_grad:
        raise InputError(_apart(address, to, held))
    with suited(model.facts.d_model, run.mask.numel(), model.device):
        (gradient,) = torch.autograd.grad(reached, leaf, v, allow_unused=True)
    if gradient is None:
        raise InputError(_apart(address, to, held))
    return gradient


@contextmanager
def _plain_kernels(model: Model) -> Iterator[None]:
    """Attention and experts in plain operations, for the fused kernels have no forward derivative."""
    held: dict[int, tuple[Any, str | None]] = {}
    for module in model.hf.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "_experts_implementation"):
            held.setdefault(id(config), (config, config._experts_implementation))
    try:
        for config, own in held.values():
            if own is not None:
                config._experts_implementation = "eager"
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for config, own in held.values():
            if own is not None:
                config._experts_implementation = own


def _held(path: str, freeze: Any) -> Any:
    if path not in PATHS:
        raise UnknownName("path", str(path), PATHS)
    if freeze is not None:
        if path != "true":
            raise InputError("give path='frozen' or freeze=, not both.")
        return freeze
    return LINEAR if path == "frozen" else None


def _in_order(model: Model, at: str, to: str) -> bool:
    """Whether `at` is surely reached by a forward that stops after `to`."""
    here, there = model.site(at), model.site(to)
    return here.name == "embeddings" or (here.layer is not None and (there.layer is None or here.layer <= there.layer))


def _apart(at: str, to: str, held: Any) -> str:
    along = f" along the path with {', '.join(held)} held" if isinstance(held, tuple) else ""
    return f"nothing at {at} reaches {to}{along}: it must come later in the forward."
