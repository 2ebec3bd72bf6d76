"""A forward taken apart, so that it can be gone on with from any block.

One run of the base prompts keeps what each block was called with. Any block can then be called again on some columns of
some rows, with the keys and values of earlier columns taken from that run: causal attention makes the two equal. How a
family's block is called is not known here but seen: its own arguments are cut to the columns and rows asked for.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cutaway.model.hooks import Forward
from cutaway.model.threads import suited

if TYPE_CHECKING:
    from cutaway.model.model import Model
    from cutaway.model.sites import Site
    from cutaway.model.tokens import Batch

CACHES = ("past_key_values", "layer_past", "past_key_value")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}  # of the logits' scale; 3e-2 in half precision


class CannotRestart(Exception):
    """Why a model's forward cannot be gone on with from a block."""


class _Kept(Exception):
    """The keys and values are there; the rest of the block is not wanted."""


class Prefix:
    """Stands where a block expects a cache: puts earlier keys and values before those of the columns it is called on.

    Keys and values are [row, head, column, width]. With `only`, the block is left as soon as they are there.
    """

    is_compileable = False
    is_initialized = True

    def __init__(self, keys: Tensor | None, values: Tensor | None, only: bool = False) -> None:
        self.keys, self.values, self.only = keys, values, only
        self.calls = 0

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.calls += 1
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
        self.keys, self.values = keys, values
        if self.only:
            raise _Kept
        return keys, values

    def get_seq_length(self, *_: Any) -> int:
        return 0 if self.keys is None else int(self.keys.shape[2])


class Base:
    """The base prompts' run: what it read, what each block was called with, and the logits at `columns` [row].

    Costs one forward that unembeds only the columns wanted; holds one residual stream a block.
    """

    def __init__(self, model: Model, batch: Batch, columns: Tensor, reads: list[Site]) -> None:
        self.model, self.batch, self.layout = model, batch, batch.layout
        self.columns = columns  # [row]
        self.rows, self.width = batch.mask.shape
        self.calls: list[dict[str, Any]] = []
        self.inputs: list[Tensor] = []  # [row, column, d_model] entering each block
        self.output: Tensor | None = None  # leaving the last
        forward = Forward(
            self.layout, reads=reads, ops=[], leaves=[], norms=model.norms, frozen=None,
            configs=model.contract.configs, keep_graph=False, stop=None,
        )  # fmt: skip
        handles = [self._watch(block) for block in self._blocks()]
        try:
            with suited(model.facts.d_model, self.rows * self.width, model.device), torch.no_grad():
                self.logits = forward.run(lambda: unembedded(model, batch, columns))
        finally:
            for before, after in handles:
                before.remove()
                after.remove()
        self.read = forward.read

    def _blocks(self) -> list[nn.Module]:
        architecture = self.model.architecture
        if architecture is None:
            return []
        return [architecture.block(layer) for layer in range(architecture.n_layers)]

    def _watch(self, block: nn.Module) -> tuple[Any, Any]:
        signature = inspect.signature(block.forward)

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            bound = dict(signature.bind(*args, **kwargs).arguments)
            for name, parameter in signature.parameters.items():
                if parameter.kind is parameter.VAR_KEYWORD:
                    bound.update(bound.pop(name, {}))
            first = next(iter(signature.parameters))
            self.inputs.append(bound.pop(first))
            self.calls.append(bound)

        def after(_: nn.Module, __: Any, output: Any) -> None:
            self.output = first_tensor(output)

        return (
            block.register_forward_pre_hook(before, with_kwargs=True),
            block.register_forward_hook(after),
        )


def first_tensor(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, (tuple, list)) or hasattr(output, "to_tuple") else output
    return found


def unembedded(model: Model, batch: Batch, columns: Tensor) -> Tensor:
    """The logits [row, vocab] of one forward at one column of each row; the others are not unembedded where the family
    lets one say so."""
    wanted, which = torch.unique(columns, return_inverse=True)
    few = "logits_to_keep" in model._signature and len(wanted) < batch.mask.shape[1]
    output = model._call(batch, **({"logits_to_keep": wanted.to(model.device)} if few else {}))
    found = getattr(output, "logits", None)
    logits: Tensor = first_tensor(output) if found is None else found
    if logits.ndim == 2:  # one prediction a row
        return logits
    at = which if few else columns
    return logits[torch.arange(len(columns), device=logits.device), at.to(logits.device)]


class Replay:
    """Calls blocks again on columns [start, stop) of chosen rows. Raises CannotRestart where the family does not allow
    it, or where going block by block does not give back the base run's logits.

    Costs one forward of the base prompts; holds their keys and values.
    """

    def __init__(self, base: Base) -> None:
        self.base, self.model = base, base.model
        architecture = self.model.architecture
        if architecture is None:
            raise CannotRestart(f"it is no causal language model that is known ({self.model.contract.why})")
        if not self.model.facts.causal:
            raise CannotRestart("each position attends to later ones, so nothing before a change stays as it was")
        if self.model.facts.reads != "tokens":
            raise CannotRestart(f"it reads {self.model.facts.reads}")
        self.blocks = base._blocks()
        if len(base.calls) != len(self.blocks):
            raise CannotRestart(f"one forward called {len(base.calls)} blocks where there are {len(self.blocks)}")
        if "lm_head" not in self.model.contract.sites:
            raise CannotRestart(f"its unembedding is not reached ({self.model.contract.refused.get('lm_head')})")
        self.norm: Any = architecture.final_norm
        self.head: Any = self.model.contract.sites["lm_head"].module
        self.caches = [self._cache_name(block) for block in self.blocks]
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        tokens = base.rows * base.width
        one_thread = suited(self.model.facts.d_model, tokens, self.model.device)
        with one_thread, torch.no_grad(), self.model.kernels.during(tokens):
            self._check()

    @staticmethod
    def _cache_name(block: nn.Module) -> str:
        names = inspect.signature(block.forward).parameters
        found = next((name for name in CACHES if name in names), None)
        if found is None:
            raise CannotRestart(f"{type(block).__name__} takes no cache of keys and values")
        return found

    def _check(self) -> None:
        """Go through the blocks one by one, keeping keys and values, and compare with the base run."""
        base = self.base
        every = torch.arange(base.rows)
        middle = base.width // 2  # in two spans: a later column must make no difference to an earlier one
        for layer in range(len(self.blocks)):
            cache = Prefix(None, None)
            parts = []
            try:
                for start, stop in ((0, middle), (middle, base.width)):
                    if start < stop:
                        parts.append(self._call(layer, base.inputs[layer][:, start:stop], every, start, stop, cache))
            except CannotRestart:
                raise
            except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
                raise CannotRestart(f"block {layer} cannot be called alone: {type(error).__name__}: {error}") from error
            held = None if cache.keys is None or cache.values is None else (cache.keys, cache.values)
            if cache.calls != len(parts) or held is None or held[0].shape[2] != base.width:
                raise CannotRestart(f"block {layer} keeps no keys and values of each position in its cache")
            out = torch.cat(parts, 1)
            then = base.inputs[layer + 1] if layer + 1 < len(self.blocks) else base.output
            assert then is not None
            self._same(out, then, f"block {layer}, called alone on half of the positions after the other,")
            self.keys.append(held[0])
            self.values.append(held[1])
        assert base.output is not None
        at = base.columns.to(base.output.device)
        last = base.output[torch.arange(base.rows, device=at.device), at][:, None]
        self._same(self.logits(last)[:, 0], base.logits, "the final norm and unembedding called alone")

    def _same(self, got: Tensor, expected: Tensor, what: str) -> None:
        tolerance = TOLERANCE.get(expected.dtype, 3e-2)
        own = self.base.batch.mask.to(expected.device)
        if expected.ndim == 3:  # padding is nobody's business
            got, expected = got[own], expected[own]
        error = float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
        if not error <= tolerance:
            raise CannotRestart(f"{what} differs from the forward by {error:.1e} of the largest entry")

    # ---- parts

    def block(self, layer: int, x: Tensor, rows: Tensor, start: int, prefix: Prefix | None = None) -> Tensor:
        """Block `layer` on x [lane, column, d_model], lane i being row rows[i] of the base, columns from `start` on."""
        cache = self.prefix(layer, rows, start) if prefix is None else prefix
        return self._call(layer, x, rows, start, start + x.shape[1], cache)

    def keep(self, layer: int, x: Tensor, rows: Tensor, start: int) -> Prefix:
        """Only the keys and values that the block makes of x, after those of the columns before `start`."""
        prefix = self.prefix(layer, rows, start)
        prefix.only = True
        with suppress(_Kept):
            self._call(layer, x, rows, start, start + x.shape[1], prefix)
        prefix.only = False
        return prefix

    def prefix(self, layer: int, rows: Tensor, start: int) -> Prefix:
        if start == 0:
            return Prefix(None, None)
        at = rows.to(self.keys[layer].device)
        return Prefix(self.keys[layer][:, :, :start][at], self.values[layer][:, :, :start][at])

    def logits(self, x: Tensor) -> Tensor:
        """cap(scale * W_U norm(x)): [lane, k, d_model] -> [lane, k, vocab]."""
        facts = self.model.facts
        logits: Tensor = self.head(self.norm(x)) * facts.logit_scale
        return logits if facts.logit_softcap is None else facts.logit_softcap * torch.tanh(logits / facts.logit_softcap)

    def logits_of(self, x: Tensor, tokens: Tensor) -> Tensor | None:
        """Only some tokens' logits: x [lane, d_model], tokens [lane, k] -> [lane, k]; None where the head is no plain
        matrix."""
        head, facts = self.head, self.model.facts
        if type(head) is not nn.Linear:
            return None
        # sum_d W_U[token, d] norm(x)[d]
        normed = self.norm(x[:, None])[:, 0]
        logits = torch.einsum("nkd,nd->nk", head.weight[tokens], normed)
        logits = (logits if head.bias is None else logits + head.bias[tokens]) * facts.logit_scale
        return logits if facts.logit_softcap is None else facts.logit_softcap * torch.tanh(logits / facts.logit_softcap)

    def _call(self, layer: int, x: Tensor, rows: Tensor, start: int, stop: int, cache: Prefix) -> Tensor:
        cut = _Cut(rows.to(x.device), self.base.rows, self.base.width, start, stop, x, self._float_masks(layer))
        arguments = {name: cut(name, value) for name, value in self.base.calls[layer].items()}
        arguments[self.caches[layer]] = cache
        if "use_cache" in arguments:
            arguments["use_cache"] = True
        return first_tensor(self.blocks[layer](x, **arguments))

    def _float_masks(self, layer: int) -> bool:
        """Whether a mask is added to scores, rather than true where a key is seen."""
        kind = str(getattr(self.model.hf.config, "_attn_implementation", "eager"))
        if kind not in ("sdpa", "eager", "cutaway_sdpa", "cutaway_eager"):
            raise CannotRestart(f"attention by {kind} takes masks of another form; load with sdpa or eager attention")
        return not kind.endswith("sdpa")


class _Cut:
    """A block's argument of the base run, cut to chosen rows (with repeats) and columns [start, stop)."""

    def __init__(
        self, rows: Tensor, of: int, width: int, start: int, stop: int, like: Tensor, float_masks: bool
    ) -> None:
        self.rows, self.of, self.width, self.start, self.stop = rows, of, width, start, stop
        self.like, self.float_masks = like, float_masks

    def __call__(self, name: str, value: Any) -> Any:
        if name in ("attention_mask", "causal_mask"):
            return self._mask(name, value)
        if name == "alibi" and isinstance(value, Tensor):
            return self._alibi(value)
        if isinstance(value, Tensor):
            return self._tensor(name, value)
        if isinstance(value, tuple) and value and all(isinstance(v, Tensor) for v in value):
            return tuple(self._tensor(name, v) for v in value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise CannotRestart(f"a block takes {name}, a {type(value).__name__}, which cannot be cut to some positions")

    def _batch(self, x: Tensor) -> Tensor:
        return x[self.rows.to(x.device)] if x.shape[0] == self.of and self.of > 1 else x

    def _tensor(self, name: str, x: Tensor) -> Tensor:
        if x.ndim == 1 and x.shape[0] == self.width:
            return x[self.start : self.stop]
        if x.ndim >= 2 and x.shape[0] in (1, self.of) and x.shape[1] == self.width:
            x = self._batch(x[:, self.start : self.stop])
            return x.expand(len(self.rows), *x.shape[1:]) if name == "position_ids" else x
        if x.ndim == 0:
            return x
        raise CannotRestart(f"a block takes {name} of shape {list(x.shape)}, which cannot be cut to some positions")

    def _mask(self, name: str, mask: Any) -> Tensor | None:
        if mask is None:
            return self._causal()
        if not isinstance(mask, Tensor) or mask.ndim != 4 or mask.shape[2:] != (self.width, self.width):
            shown = list(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            raise CannotRestart(f"a block takes {name} {shown}, where [row, head, query, key] was expected")
        return self._batch(mask[:, :, self.start : self.stop, : self.stop])

    def _causal(self) -> Tensor | None:
        """What no mask means: every earlier column is seen. A kernel told "causal" would count queries from column 0,
        so all but the first and the shortest spans get a mask."""
        if self.start == 0 or self.stop - self.start == 1:
            return None
        queries = torch.arange(self.start, self.stop, device=self.like.device)
        seen = (torch.arange(self.stop, device=self.like.device)[None] <= queries[:, None])[None, None]
        if not self.float_masks:
            return seen
        return torch.zeros(seen.shape, dtype=self.like.dtype, device=self.like.device).masked_fill(
            ~seen, torch.finfo(self.like.dtype).min
        )

    def _alibi(self, alibi: Tensor) -> Tensor:
        """[row * head, 1, column] (or with the rows apart), the bias of each key."""
        if alibi.shape[-1] != self.width:
            raise CannotRestart(f"a block takes alibi {list(alibi.shape)}, where one entry a position was expected")
        alibi = alibi[..., : self.stop]
        if alibi.shape[0] == self.of:
            return self._batch(alibi)
        apart = alibi.reshape(self.of, -1, *alibi.shape[1:])[self.rows.to(alibi.device)]
        return apart.reshape(-1, *alibi.shape[1:])
