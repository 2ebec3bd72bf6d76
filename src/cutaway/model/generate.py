"""Generating with a cache of keys and values, with points read and interventions made as the text grows.

Every token but the last new one is fed once: the prompt in one forward, then each new token alone. What is asked for of
positions is asked of the text, not of a forward:

    0 … L-1           the prompt's tokens; negative numbers count from its end, so -1 is its last
    L … L+n-2         new tokens, as they are fed; the last new token never is
    no positions      all of these
    when="prompt"     of the positions selected, those in the prompt; "new": those of new tokens; "both"

The first new token is drawn at the prompt's last position, so a change with when="new" moves the second new token at
the earliest. What was changed at a prompt's position stays in the cache: new tokens attend to it as changed. So the
logits are those of running prompt and new tokens whole, with the same changes at the same positions
(`generate(…, cache=False)` does that, at the cost of a whole forward a token).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName
from cutaway.core.numbers import finite, seeded, whole
from cutaway.model.freeze import Frozen
from cutaway.model.generation import Generation
from cutaway.model.hooks import Forward, Op
from cutaway.model.inputs import arguments, refuse_seen_padding
from cutaway.model.interventions import Intervention
from cutaway.model.ops import refuse_idle, resolve
from cutaway.model.positions import Layout, PerRow, When
from cutaway.model.reduce import Reduce, wanted
from cutaway.model.run import Fired
from cutaway.model.sites import Site
from cutaway.model.threads import suited
from cutaway.model.tokens import Batch

if TYPE_CHECKING:
    from cutaway.model.model import Model


def generate(
    model: Model,
    prompt: Any,
    n: int,
    interventions: Sequence[Intervention] = (),
    *,
    when: When | Sequence[When] = "both",
    read: Sequence[Any] | Mapping[Any, Any] | str = (),
    freeze: Frozen | None = None,
    temperature: float = 0.0,
    seed: int | None = None,
    stop: Sequence[int] | None = None,
    cache: bool = True,
) -> Generation:
    """Up to `n` new tokens for each prompt; see the head of this file for what positions mean.

    `temperature` 0 takes the most probable token; above it tokens are drawn from softmax(logits / temperature) with
    `seed`. `when`: one for all interventions, or one for each. A row ends at a token in `stop` (the model's own end
    tokens by default; () for none). `read`: what is read at every position that is fed; a mapping to `cw.reduce(…)`
    keeps a projection or another precision of it. `freeze=cw.freeze(run)` of a run of the same prompts holds its
    patterns, norms, … at the prompt's positions; those of new tokens, which that run has not, are their own.

    Raises InputError: a model that generates no text, a prompt too long for n more tokens, positions that are never
    fed, an intervention that fired nowhere. Costs one forward of the prompts and one of a token a row for each further
    new token; holds the cache, the logits [batch, n, vocab] and what is read.
    """
    if isinstance(interventions, Intervention):
        raise InputError("interventions= takes a list of interventions.")
    if freeze is not None and (not isinstance(freeze, Frozen) or freeze.values is None):
        raise InputError(
            "freeze= while generating is what cw.freeze(run) gives: no gradients are taken that it could stop."
        )
    if freeze is not None and not cache:
        raise InputError(
            "freeze= holds the prompt's forward, which cache=False makes again for every token; leave one out."
        )
    cache = cache and _keeps_keys(model)
    if freeze is not None and not cache:
        raise InputError(
            f"freeze= holds the prompt's forward, which is made again for every token: {model.name} has layers that "
            "keep no keys and values."
        )
    batch = _left_padded(_checked(model, prompt, n))
    refuse_seen_padding(model, batch)
    whens = _whens(when, interventions)
    given = [_in_the_prompt(item, model.batch(prompt)) for item in interventions]
    ops = resolve(model, given, batch, whens)
    small = {name: how for pattern, how in wanted(read).items() for name in model._names([pattern])}
    reads = model._sites(small)
    reduced = {site.address: _tokenwise(site, how) for site in reads if (how := small[site.address]) is not None}
    if freeze is not None:
        freeze.refuse_another(model)
        refuse_idle([op for op in ops if op.when == "prompt"], freeze)
    lengths = batch.layout.lengths
    for op in ops:
        _refuse_unreached(op, lengths, n)
    ends = _ends(model, stop)
    uniform = _draws(n, len(lengths), temperature, seed)
    forward = Forward(
        batch.layout, reads=reads, ops=ops, leaves=[], norms=model.norms, frozen=freeze, configs=model.contract.configs,
        keep_graph=False, stop=None, reduced=reduced,
    )  # fmt: skip
    if freeze is not None:
        forward.freeze({name: model.contract.sites[name] for name in model.frozen_points(freeze.parts)})
    feed = _Feed(model, forward, batch, cache, [*reads, *(op.site for op in ops)])
    new: list[Tensor] = []
    logits: list[Tensor] = []
    done = torch.zeros(len(lengths), dtype=torch.bool)
    finished = torch.zeros(len(lengths), dtype=torch.long)  # how many of its new tokens are text
    with suited(model.facts.d_model, batch.mask.numel(), model.device), torch.no_grad():
        for number in range(n):
            last = feed(new[-1] if new else None)
            if freeze is not None and number == 0:
                forward.thaw()
            logits.append(last)
            token = _choose(last, temperature, None if uniform is None else uniform[number])
            finished += (~done).long()
            done |= torch.isin(token, ends)
            new.append(token)
            if bool(done.all()):
                break
    _refuse_unfired(ops, forward, len(new))
    kept = torch.arange(len(new)) < finished[:, None]
    tokens = torch.stack(new, 1)
    whole = Batch(
        torch.cat([batch.ids, tokens.masked_fill(~kept, 0)], 1),
        torch.cat([batch.mask, kept], 1),
    )
    return Generation(
        model=model,
        batch=whole,
        prompt_lengths=lengths,
        logits=torch.stack(logits, 1),
        interventions=tuple(interventions),
        when=tuple(whens),
        fired=Fired(tuple(interventions), tuple(forward.touches)),
        _read=feed.read(reads),
    )


class _Feed:
    """Feeds the prompt, then token after token, keeping what is read."""

    def __init__(self, model: Model, forward: Forward, batch: Batch, cache: bool, sites: list[Site]) -> None:
        self.model, self.forward, self.batch = model, forward, batch
        self.starts, self.prompt = batch.layout.starts, batch.layout.lengths
        self.mask = batch.mask
        self.ids = batch.ids
        self.cache: Any = _new_cache(model) if cache else None
        self.parts: dict[str, list[Tensor]] = {}
        # Only the last position is unembedded, where nobody looks at the unembedding itself.
        watched = any(site.name in ("lm_head", "path") for site in sites)
        self.more = {} if watched or "logits_to_keep" not in model._signature else {"logits_to_keep": 1}
        self.step = 0

    def __call__(self, token: Tensor | None) -> Tensor:
        """Logits [batch, vocab] after the prompt (None), or after one more token of each row."""
        if token is not None:
            self.ids = torch.cat([self.ids, token[:, None]], 1)
            self.mask = torch.cat([self.mask, torch.ones_like(token, dtype=torch.bool)[:, None]], 1)
            self.step += 1
        forward, total = self.forward, self.ids.shape[1]
        past = total - 1 if self.cache is not None and token is not None else 0
        lengths = tuple(length + self.step for length in self.prompt)
        forward.layout = Layout(self.starts, lengths, total - past, past, self.prompt)
        forward.step = self.step
        if self.cache is None:
            forward.touches.clear()  # each forward is of the whole text
        forward.read = {}
        with self.model.kernels.during(self.mask.shape[0] * (total - past)):
            output = forward.run(lambda: self._call(past))
        logits: Tensor = output.logits if hasattr(output, "logits") else output[0]
        for address, x in forward.read.items():
            parts = self.parts.setdefault(address, [])
            if self.cache is None:
                parts.clear()
            parts.append(x)
        return logits[:, -1].detach().cpu()

    def _call(self, past: int) -> Any:
        model, device = self.model, self.model.device
        whole = Batch(self.ids, self.mask)
        if past == 0:
            first, named = arguments(model, whole)
            named = {**named, **self.more}
            if self.cache is not None:
                named.update(use_cache=True, past_key_values=self.cache)
            return model.hf(first, **named)
        named = {"use_cache": True, "past_key_values": self.cache, **self.more}
        if whole.layout.padded:
            named["attention_mask"] = self.mask.to(device).long()
            if "position_ids" in model._signature:
                named["position_ids"] = self.mask.sum(-1, keepdim=True).to(device) - 1
        return model.hf(self.ids[:, past:].to(device), **named)

    def read(self, sites: list[Site]) -> dict[str, Tensor]:
        """What was read, position after position: keys as attention uses them are whole in every forward."""
        found = {}
        for site in sites:
            parts = self.parts[site.address]
            if "key" in site.axes and site.address not in self.forward.reduced:
                widest = parts[-1].shape[-1]
                least = torch.finfo(parts[0].dtype).min if site.name == "attn_scores" else 0.0
                parts = [torch.nn.functional.pad(x, (0, widest - x.shape[-1]), value=least) for x in parts]
                found[site.address] = torch.cat(parts, 2)
            elif site.name == "k_rot":
                found[site.address] = parts[-1]
            elif all(x.ndim >= 2 for x in parts) and len({x.shape[2:] for x in parts}) == 1:
                found[site.address] = torch.cat(parts, 1)
            else:
                raise InputError(f"{site.address} has no position axis, and cannot be read while generating.")
        return found


def _checked(model: Model, prompt: Any, n: int) -> Batch:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"n is how many tokens to generate, at least 1; given {n!r}.")
    spoken = model.architecture is not None and model.facts.reads == "tokens" and model.facts.causal
    if not spoken or "lm_head" not in model.contract.sites:
        raise InputError(f"{model.name} is no causal language model, and generates no text.")
    batch = model.batch(prompt)
    longest, limit = max(batch.layout.lengths) + n, model.facts.max_positions
    if limit is not None and longest > limit:
        raise InputError(f"prompt and {n} new tokens are {longest} long; the model takes at most {limit}.")
    return batch


def _left_padded(batch: Batch) -> Batch:
    """The same rows padded on the left, so that new tokens follow each prompt's last."""
    layout = batch.layout
    width = max(layout.lengths)
    ids = torch.zeros(len(layout.lengths), width, dtype=torch.long)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for row, (start, length) in enumerate(zip(layout.starts, layout.lengths)):
        ids[row, width - length :] = batch.ids[row, start : start + length].cpu()
        mask[row, width - length :] = True
    return Batch(ids, mask)


def _tokenwise(site: Site, how: Reduce) -> Reduce:
    """What can be kept of one token at a time."""
    if how.positions is not None or how.mean or how.to is not None:
        raise InputError(
            f"read at {site.address}: while generating, project= and dtype= keep less of each token; positions=, mean= "
            "and to= are of a whole text: run it when it is written."
        )
    if how.project is not None and "key" in site.axes:
        raise InputError(
            f"read at {site.address}: its last axis, the keys, grows while generating; project= is not of it."
        )
    return how


def _whens(when: When | Sequence[When], interventions: Sequence[Intervention]) -> list[When]:
    several = [when] * len(interventions) if isinstance(when, str) else list(when)
    for item in [when] if isinstance(when, str) else several:
        if item not in get_args(When):
            raise UnknownName("when", str(item), get_args(When))
    if len(several) != len(interventions):
        raise InputError(f"when= has {len(several)} entries for {len(interventions)} interventions.")
    return several


def _in_the_prompt(item: Intervention, batch: Batch) -> Intervention:
    """A mask [batch, position] of the prompt as given, turned into each row's positions."""
    if not isinstance(item, Intervention) or item.select.mask is None:
        return item
    mask, layout = item.select.mask.tensor.cpu().bool(), batch.layout
    mask = mask[None] if mask.ndim == 1 else mask
    if mask.ndim != 2 or mask.shape[1] != layout.width or mask.shape[0] not in (1, len(layout.lengths)):
        raise InputError(
            f"{item}: while generating a mask is of the prompt's tokens, [{len(layout.lengths)}, {layout.width}]; "
            f"given {list(mask.shape)}."
        )
    if item.select.positions is not None:
        raise InputError(f"{item}: while generating give positions= or mask=, not both.")
    rows = [
        tuple(int(p) for p in mask[row if len(mask) > 1 else 0, start : start + length].nonzero()[:, 0])
        for row, (start, length) in enumerate(zip(layout.starts, layout.lengths))
    ]
    return replace(item, select=replace(item.select, mask=None, positions=PerRow(tuple(rows), "mask")))


def _refuse_unreached(op: Op, lengths: tuple[int, ...], n: int) -> None:
    select, what = op.intervention.select, f"{op.intervention.kind} at {op.site.address}"
    if select.positions is None:
        if op.when == "new" and n == 1:
            raise InputError(f"{what}: when='new' fires on new tokens as they are fed, and a single one never is.")
        return
    layout = Layout((0,) * len(lengths), tuple(length + n - 1 for length in lengths), 0, 0, lengths)
    reached = False
    for row in select.bounded_rows(len(lengths), what):
        fed = layout.lengths[row]
        for position in layout.all_own(row, select.positions, what):
            if position >= fed:
                raise InputError(
                    f"{what}: position {position} of row {row} is never fed: the prompt has {lengths[row]} tokens, and "
                    f"of {n} new ones the last is not fed (0 … {fed - 1})."
                )
            reached |= op.when == "both" or (position < lengths[row]) == (op.when == "prompt")
    if not reached:
        raise InputError(f"{what}: none of the positions {select.positions} is one of when={op.when!r}.")


def _refuse_unfired(ops: list[Op], forward: Forward, count: int) -> None:
    fired = {(touch.number, touch.address) for touch in forward.touches}
    if unfired := [op for op in ops if (op.number, op.site.address) not in fired]:
        names = ", ".join(f"{op.intervention.kind} at {op.site.address} (when={op.when!r})" for op in unfired[:5])
        raise InputError(f"interventions that did not fire: {names}; {count} tokens were generated.")


def _ends(model: Model, stop: Sequence[int] | None) -> Tensor:
    if stop is None:
        config = getattr(model.hf, "generation_config", None)
        found = getattr(config, "eos_token_id", None)
        found = getattr(model.hf.config, "eos_token_id", None) if found is None else found
        stop = [] if found is None else [found] if isinstance(found, int) else list(found)
    return torch.tensor([whole(token, "a token of stop=", 0) for token in stop], dtype=torch.long)


def _draws(n: int, rows: int, temperature: float, seed: int | None) -> Tensor | None:
    """[n, rows] uniform numbers, or None where nothing is drawn."""
    if finite(temperature, "temperature", 0.0) == 0:  # the most probable token
        return None
    if seed is None:
        raise InputError("drawing tokens needs a seed=.")
    return torch.rand(n, rows, generator=torch.Generator().manual_seed(seeded(seed)), dtype=torch.float64)


def _choose(logits: Tensor, temperature: float, uniform: Tensor | None) -> Tensor:
    """[batch, vocab] -> [batch]."""
    if not torch.isfinite(logits).all():
        raise InputError("the logits are NaN or infinite; nothing can be generated from them.")
    if uniform is None:
        return logits.argmax(-1)
    cumulated = (logits.double() / temperature).softmax(-1).cumsum(-1)
    # The first token whose cumulated probability passes the number drawn.
    return torch.searchsorted(cumulated, uniform[:, None] * cumulated[:, -1:], right=True)[:, 0].clamp(
        max=logits.shape[-1] - 1
    )


def _keeps_keys(model: Model) -> bool:
    """Whether all that a text leaves behind is keys and values: state-space and linear attention keep a state."""
    layers = range(model.facts.n_layers)
    return "past_key_values" in model._signature and all(model.refuses(f"attn_probs.{i}") is None for i in layers)


def _new_cache(model: Model) -> Any:
    """A cache that keeps every position in every layer: a sliding window is left to the mask, so that keys keep the
    columns of the text."""
    from transformers import DynamicCache

    return DynamicCache()
