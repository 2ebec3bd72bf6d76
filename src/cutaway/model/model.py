"""A model under study: Hugging Face's own module run in place, its points, and `run`."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.core import InputError, UnknownName
from cutaway.model.anatomy import Anatomy, Refused
from cutaway.model.contract import Contract
from cutaway.model.facts import Facts, bare_facts
from cutaway.model.freeze import Frozen, held_points
from cutaway.model.generate import generate
from cutaway.model.generation import Generation
from cutaway.model.hooks import Forward, Op
from cutaway.model.inputs import arguments, begun, pixels, refuse_seen_padding, takes_pixels
from cutaway.model.interventions import Intervention
from cutaway.model.kernels import Kernels
from cutaway.model.names import View, hook_point, translate
from cutaway.model.norms import NormParts
from cutaway.model.ops import refuse_idle, resolve
from cutaway.model.placing import refuse_underivable
from cutaway.model.points import GLOBAL, POINTS
from cutaway.model.reduce import Kept, wanted
from cutaway.model.run import Fired, Reads, Run, gradients, logits_of
from cutaway.model.sites import OTHER, Site
from cutaway.model.survey import establish
from cutaway.model.threads import suited
from cutaway.model.tokens import Batch, Prompt, Side, encode, spelled, spelled_out


class Model:
    """Made by `load`. Prints as a table of facts; `contract` says which points hold and how closely."""

    def __init__(self, hf: nn.Module, tokenizer: Any, name: str, architecture: Anatomy | None, why: str = "") -> None:
        self.hf: Any = hf
        self.tokenizer = tokenizer
        self.name = name
        self.folder: Path | None = None  # the local folder that it was loaded from
        self.architecture = architecture
        self._signature = inspect.signature(hf.forward).parameters
        self.facts: Facts = architecture.facts() if architecture is not None else bare_facts(hf)
        self._served: dict[str, tuple[str, ...]] = {}  # what names were found to stand for
        self.contract: Contract = establish(self, why)

    # ---- what there is

    @property
    def device(self) -> torch.device:
        if self._first is None:
            return torch.device("cpu")
        parameters, name = self._first
        return torch.device(parameters[name].device)

    @cached_property
    def _first(self) -> tuple[dict[str, Any], str] | None:
        """Where the first parameter is kept: walking to it costs more than all else that a small run adds."""
        for module in self.hf.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    return module._parameters, name
        return None

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of a SHA-256 over every parameter's name, shape and up to 4,096 of its entries."""
        digest = hashlib.sha256()
        for name, parameter in self.hf.named_parameters():
            flat = parameter.detach().reshape(-1)
            some = flat[:: max(1, flat.numel() // 4096)][:4096].float().cpu()
            digest.update(f"{name}{tuple(parameter.shape)}".encode() + some.numpy().tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def kernels(self) -> Kernels:
        """Faster kernels for some modules, where the processor has them; used in forwards without autograd."""
        return Kernels(self.hf)

    @property
    def norms(self) -> dict[str, NormParts]:
        """The norms taken apart, by the address of their scale and normalised points."""
        return self.contract.norms

    def points(self) -> tuple[str, ...]:
        """Every address that can be read, in forward order."""
        return tuple(self.contract.sites)

    def refuses(self, address: Any) -> str | None:
        """Why a point cannot be had, or None when it can. Raises UnknownName for what is no point at all."""
        try:
            names = self._expand(address)
        except Refused as error:
            return str(error)
        if not names:
            return f"{self.name} has no layers"
        reasons = [self.contract.refused.get(name) for name in names]
        return None if None in reasons else reasons[0]

    def site(self, address: Any) -> Site:
        """Where one point lies: module, side and axes."""
        (name,) = self.addresses(address)
        return self._sites((name,))[0]

    def addresses(self, pattern: Any) -> tuple[str, ...]:
        """The addresses that a name stands for: 'resid_post.3', 'resid_post.*' (every layer that has the point),
        'blocks.3.hook_resid_post', 'path.model.layers.0.mlp' (a module's output).

        Raises InputError naming the nearest names, or why the point is refused.
        """
        if (known := self._served.get(str(pattern))) is not None:
            return known
        try:
            names = self._expand(pattern)
        except Refused as error:
            raise InputError(f"{pattern} does not exist here: {error}") from None
        served = tuple(name for name in names if name not in self.contract.refused)
        if not names:
            raise InputError(f"{pattern} stands for no point: {self.name} has no layers.")
        if not served:
            raise InputError(f"{pattern} does not exist here: {self.contract.refused[names[0]]}")
        self._served[str(pattern)] = served
        return served

    def _expand(self, pattern: Any) -> tuple[str, ...]:
        text = str(pattern)
        known = self.contract
        if text in known.sites or text in known.refused:
            return (text,)
        if text.startswith("path."):
            try:
                self.hf.get_submodule(text.removeprefix("path."))
            except AttributeError:
                paths = (f"path.{name}" for name, _ in self.hf.named_modules() if name)
                raise UnknownName("module path", text, paths) from None
            return (text,)
        if self.architecture is None:
            raise Refused(
                f"the module is no causal language model that is known ({self.contract.why}); "
                "its points are module paths, as path.layers.0"
            )
        if "blocks.*." in text:
            return tuple(
                n for layer in range(self.facts.n_layers) for n in self._expand(text.replace("*", str(layer), 1))
            )
        translated = translate(text, self._view)
        if translated is not None and translated != text:
            return self._expand(translated)
        name, _, layer = text.partition(".")
        if name in POINTS and name not in GLOBAL:
            if layer == "*":
                return tuple(f"{name}.{i}" for i in range(self.facts.n_layers))
            if not layer:
                raise InputError(f"{name} needs a layer: {name}.0 … {name}.{self.facts.n_layers - 1}, or {name}.*")
            if not self.facts.n_layers:
                raise InputError(f"no {text}: {self.name} has no layers.")
            if layer.isdigit():
                raise InputError(
                    f"no layer {layer}: {self.name} has {self.facts.n_layers} (0 … {self.facts.n_layers - 1})."
                )
        wild = re.sub(r"\.\*$", ".0", text)
        error = UnknownName("point", wild if wild != text else text, (*known.sites, *known.refused))
        error.given = text
        raise error

    def _sites(self, names: Iterable[str]) -> list[Site]:
        found = []
        for name in names:
            if (site := self.contract.sites.get(name)) is None:
                module = self.hf.get_submodule(name.removeprefix("path."))
                site = self.contract.paths.setdefault(
                    name, Site(name, "path", None, OTHER, module, "output", free=True, copies=True)
                )
            found.append(site)
        return found

    def frozen_points(self, parts: Iterable[str]) -> tuple[str, ...]:
        """The addresses whose values freezing holds. Raises InputError where the family refuses one."""
        return held_points(self, parts)

    def hook_point(self, name: str, layer: int, folded: bool | None = None) -> str:
        """A hook name as dictionaries carry it ("hook_resid_mid", "mlp.hook_in", "ln2.hook_normalized", …) at a layer,
        as an address of ours. `folded`: whether LayerNorms' gains had been folded into the weights where the name comes
        from, on which a LayerNorm's hook_normalized depends (None: not known, and that name is refused). Raises
        InputError."""
        if self.architecture is None:
            raise InputError(f"{self.name} has no points of that kind: {self.contract.why}.")
        return hook_point(name, layer, replace(self._view, folded=folded))

    @property
    def _view(self) -> View:
        return View(self.facts, self.contract.refused, self.contract.norms)

    # ---- prompts

    def batch(
        self,
        prompt: Prompt | Batch,
        padding: Side = "right",
        allow_unknown: bool = False,
        source: Prompt | Batch | None = None,
    ) -> Batch:
        """Ids and mask of one or several prompts; shorter ones are padded. Pixels for a vision tower. `source` is what
        an encoder-decoder's encoder reads; the prompt is then what its decoder has so far (text begins with the start
        token of its configuration; ids are taken as they are)."""
        if not isinstance(prompt, Batch) and takes_pixels(self, prompt):
            return pixels(self, prompt)
        if source is not None:
            prompt = begun(self, prompt)
        found = encode(prompt, self.tokenizer, self.facts, side=padding, allow_unknown=allow_unknown)
        if source is None:
            return found
        read = encode(source, self.tokenizer, self.facts, side=padding, allow_unknown=allow_unknown)
        return replace(found, source=read)

    def spelled_out(self, prompt: str) -> list[str]:
        """The words of `prompt` that the tokenizer has no token for: spelled in bytes, or unknown; [] for none."""
        return spelled_out(self.tokenizer, prompt)

    def tokens(self, prompt: Prompt, padding: Side = "right") -> Tensor:
        """Token ids [batch, position], with the special tokens that the tokenizer adds."""
        return self.batch(prompt, padding).ids

    def token_strings(self, ids: Tensor | Sequence[int]) -> list[str]:
        """Each id as the text it adds, a leading space kept; without a tokenizer the ids as digits."""
        flat = ids.reshape(-1).tolist() if isinstance(ids, Tensor) else [int(i) for i in ids]
        if self.tokenizer is None:
            return [str(i) for i in flat]
        return [spelled(i, self.tokenizer) for i in flat]

    # ---- run

    def run(
        self,
        prompt: Prompt | Batch,
        read: Sequence[Any] | Mapping[Any, Any] | str = (),
        interventions: Sequence[Intervention] = (),
        *,
        grad: Sequence[Any] | str | None = None,
        of: Callable[[Tensor], Tensor] | None = None,
        freeze: Frozen | Sequence[str] | str | None = None,
        logits: bool = True,
        stop_after: int | str | None = None,
        keep_graph: bool = False,
        padding: Side = "right",
    ) -> Run:
        """One forward.

        `read`: addresses (`*` for every layer), or a mapping from them to `cw.reduce(…)`, what is kept of each (None:
        all). `interventions`: applied in list order at each point. `grad`, `of`: the gradient of
        `of(logits [batch, position, vocab])`, one number, at these addresses. `freeze`: ("pattern", "norm") lets no
        gradient pass through attention patterns or norm scales; `cw.freeze(run)` holds them at that run's values.
        `logits=False` stops after the last layer that is read; `stop_after` after this block (a layer, or an address in
        it), and then there are no logits. `keep_graph=True` leaves what is read attached to autograd, downstream of
        the points in `grad` (for Jacobians and one's own derivatives).

        Raises InputError: unknown or refused points, wrong shapes, an intervention that did not fire.
        Costs one forward, one backward with `grad`; holds what is read; scores and patterns are formed only in layers
        where they are wanted.
        """
        batch = self.batch(prompt, padding)
        refuse_seen_padding(self, batch)
        small = {name: how for pattern, how in wanted(read).items() for name in self._names([pattern])}
        reads = self._sites(small)
        leaves = self._sites(self._names(grad or ()))
        if leaves and of is None and not keep_graph:
            raise InputError("grad= needs of=, a function from logits [batch, position, vocab] to one number.")
        if leaves or keep_graph:
            refuse_underivable(self.hf, self.name)
        ops = self._ops(interventions, batch)
        frozen = Frozen.of(freeze)  # type: ignore[arg-type]
        held = self.frozen_points(frozen.parts) if frozen is not None else ()
        if frozen is not None:
            frozen.refuse_another(self)
            frozen.refuse_another_source(None if batch.source is None else batch.source.layout)
        refuse_idle(ops, frozen)
        forward = Forward(
            batch.layout,
            reads=reads,
            ops=ops,
            leaves=leaves,
            norms=self.norms,
            frozen=frozen,
            configs=self.contract.configs,
            keep_graph=keep_graph,
            stop=self._stop_after(stop_after, bool(leaves)) or (None if logits or leaves else self._stop(reads)),
            reduced={name: how for name, how in small.items() if how is not None},
        )
        forward.freeze({name: self.contract.sites[name] for name in held})
        one_thread = suited(self.facts.d_model, batch.mask.numel(), self.device)
        with one_thread, torch.set_grad_enabled(bool(leaves) or keep_graph):
            output = forward.run(lambda: self._call(batch))
            whole = None if output is None else logits_of(output)
            self._check_fired(ops, forward, output is None)
            grads = gradients(of, whole, forward.leaves, keep_graph) if of is not None and whole is not None else {}
        if whole is not None and not keep_graph:
            whole = whole.detach()
        ordered = Kept({site.address: forward.read[site.address] for site in reads if site.address in forward.read})
        ordered.reduced = frozenset(forward.reduced)
        missing = [site.address for site in reads if site.address not in ordered]
        if missing:
            early = "" if stop_after is None else f" (it stopped after {stop_after})"
            raise InputError(f"never reached in this forward: {', '.join(missing)}{early}.")
        return Run(
            self,
            batch,
            tuple(interventions),
            frozen,
            Fired(tuple(interventions), tuple(forward.touches)),
            Reads(self, grads),
            Reads(self, forward.leaves if keep_graph else {}),
            whole,
            ordered,
        )

    def stream(
        self, prompts: Iterable[Any], read: Sequence[Any] | Mapping[Any, Any] | str, **how: Any
    ) -> Iterator[Run]:
        """A run for each batch of many prompts. `how`: batch=, interventions=, logits=, stop_after=, padding=,
        progress=; see `cutaway.model.stream`."""
        from cutaway.model.stream import stream

        return stream(self, prompts, read, **how)

    def generate(
        self, prompt: Prompt | Batch, n: int, interventions: Sequence[Intervention] = (), **how: Any
    ) -> Generation:
        """Up to `n` new tokens a prompt, with a cache. `how`: when=, read=, freeze=, temperature=, seed=, stop=,
        cache=; see `cutaway.model.generate`, which says what positions mean and what it costs."""
        return generate(self, prompt, n, interventions, **how)

    def _names(self, wanted: Sequence[Any] | str) -> list[str]:
        wanted = [wanted] if isinstance(wanted, str) else list(wanted)
        return list(dict.fromkeys(name for pattern in wanted for name in self.addresses(pattern)))

    def _ops(self, interventions: Sequence[Intervention], batch: Batch | None = None) -> list[Op]:
        return resolve(self, interventions, batch)

    def _stop_after(self, where: int | str | None, leaves: bool) -> nn.Module | None:
        """The block that `stop_after` means."""
        if where is None:
            return None
        if leaves:
            raise InputError("stop_after= leaves no logits, of which grad= could take the gradient.")
        layer = self.site(where).layer if isinstance(where, str) else where
        if (
            isinstance(layer, bool)
            or self.architecture is None
            or layer is None
            or not 0 <= layer < self.facts.n_layers
        ):
            last = self.facts.n_layers - 1
            raise InputError(f"stop_after= is a layer (0 … {last}) or an address in one; given {where!r}.")
        return self.architecture.block(layer)

    def _stop(self, reads: list[Site]) -> nn.Module | None:
        """The block after which nothing is read."""
        layers = [site.layer for site in reads if site.layer is not None]
        if self.architecture is None or not reads:
            return None
        if any(site.layer is None and site.name != "embeddings" for site in reads):
            return None
        return self.architecture.block(max(layers, default=0))

    def _call(self, batch: Batch, **more: Any) -> Any:
        first, named = arguments(self, batch)
        with self.kernels.during(batch.mask.numel()):
            return self.hf(first, **named, **more)

    def _check_fired(self, ops: list[Op], forward: Forward, stopped: bool) -> None:
        fired = {(touch.number, touch.address) for touch in forward.touches}
        unfired = [op for op in ops if (op.number, op.site.address) not in fired]
        if not unfired:
            return
        names = ", ".join(f"{op.intervention.kind} at {op.site.address}" for op in unfired[:5])
        why = "the forward never came there"
        if stopped:
            why = "logits=False or stop_after= stopped the forward before it"
        elif forward.frozen is not None and forward.frozen.values is not None:
            why = "the frozen values took its place"
        raise InputError(f"interventions that did not fire: {names}; {why}.")

    def __str__(self) -> str:
        if self.architecture is None:
            size = f"{self.facts.n_parameters:,} parameters, {self.facts.dtype or 'none'}"
            return f"{self.name}: {size}; read and changed by module path ({self.contract.why})"
        refused = len({name.split(".")[0] for name in self.contract.refused})
        ends = f"{len(self.points())} points; {refused} kinds refused (model.contract says why)"
        return f"{self.name}\n{self.facts}\n{ends}"

    __repr__ = __str__
