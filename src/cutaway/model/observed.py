"""One forward of one prompt, with what enters and leaves every part of every block written down.

The frozen path reads a model's linear pieces; this is what it reads them from. Parts are told apart by what flows into
what (a norm before attention is the one whose output attention receives), so that families need no table of norm names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from cutaway.core import InputError
from cutaway.model.facts import Facts

if TYPE_CHECKING:
    from cutaway.model.model import Model
    from cutaway.model.sites import Site


@dataclass
class Passage:
    """What entered and what left a module in the observed forward, without the batch axis."""

    module: nn.Module
    entered: Tensor
    left: Tensor


@dataclass
class ObservedLayer:
    """One block: its own passage, its norms', and the boundaries of attention and MLP. Tensors are [position, …]."""

    block: Passage
    norms: tuple[Passage, ...]  # its children that map the stream to the stream and are neither attention nor MLP
    attn_in: Tensor
    attn_out: Tensor
    z: Tensor  # [position, heads * d_head]
    mlp_in: Tensor
    mlp_out: Tensor
    pattern: Tensor  # [head, query, key]
    value: Site
    out_projection: nn.Module


@dataclass
class Observed:
    """The whole forward. `embedding` is what the token table gave; `lm_head.left` is before any scale or cap."""

    name: str
    facts: Facts
    tokens: Tensor  # [position]
    embedding: Tensor
    position_embedding: Tensor | None
    final_norm: Passage
    lm_head: Passage
    logits: Tensor
    layers: list[ObservedLayer] = field(default_factory=list)


_PER_LAYER = ("attn_in", "attn_out", "z", "mlp_in", "mlp_out")


def observe(model: Model, tokens: Tensor) -> Observed:
    """Run `tokens` [position] through a causal language model, and write down what its frozen path is read from.

    Costs two forwards (one as the model runs by itself, to compare with); keeps about 12 tensors of [position,
    d_model] and one of [head, position, position] a layer. Raises InputError where a point that the frozen path is
    read from does not exist, with the reason.
    """
    if model.architecture is None:
        raise InputError(f"{model.name} is no causal language model that is known: it has no frozen linear path.")
    hf, n_layers, name = model.hf, model.facts.n_layers, model.facts.architecture
    boundaries = [{point: model.site(f"{point}.{layer}") for point in _PER_LAYER} for layer in range(n_layers)]
    values = [model.site(f"value.{layer}") for layer in range(n_layers)]
    ends = {point: model.site(point).module for point in ("embeddings", "final_norm", "lm_head")}
    blocks = [model.architecture.block(layer) for layer in range(n_layers)]

    passages: dict[nn.Module, Passage] = {}
    tables = [module for module in hf.modules() if isinstance(module, nn.Embedding)]
    watched: set[nn.Module] = {*ends.values(), *tables}
    for block, at in zip(blocks, boundaries):
        watched |= {block, *block.children(), *(site.module for site in at.values())}

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        given = (*args, kwargs.get("hidden_states"), *kwargs.values())
        entered, left = _first_tensor(given), _first_tensor(output)
        if entered is not None and left is not None:
            # Copies: some families (Falcon) add to a sublayer's output in place.
            passages[module] = Passage(module, _unbatched(entered).clone(), _unbatched(left).clone())

    training = hf.training
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        hf.eval()
        stack.callback(hf.train, training)
        ids = tokens[None].to(model.device)
        ordinary = hf(input_ids=ids, use_cache=False, return_dict=True).logits[0]
        for module in watched:
            handle = module.register_forward_hook(record, with_kwargs=True)
            stack.callback(handle.remove)
        patterns, logits = _patterns(model, ids)
    apart = float((logits - ordinary).abs().max() / ordinary.abs().max().clamp_min(1e-30))
    if not apart <= 1e-4:
        raise InputError(
            f"{name} computes other logits when its attention patterns are read (relative difference {apart:.2g}; NaN "
            "means that the weights or the prompt give no finite logits)."
        )
    if any(bool(pattern.triu(1).any()) for pattern in patterns):
        raise InputError(f"{name} attends to later positions; a graph needs causal attention.")

    embedding = passages[ends["embeddings"]].left
    positions = [passages[table].left for table in tables if table is not ends["embeddings"] and table in passages]
    positions = [table for table in positions if table.shape == embedding.shape]
    seen = Observed(
        name,
        model.facts,
        tokens.to(model.device),
        embedding,
        positions[0] if positions else None,
        passages[ends["final_norm"]],
        passages[ends["lm_head"]],
        ordinary.detach(),
    )
    for layer, (block, at) in enumerate(zip(blocks, boundaries)):
        sublayers = {site.module for site in at.values()} | {model.architecture.attention(layer)}
        rest = [passages[child] for child in block.children() if child in passages and child not in sublayers]
        shape = passages[block].entered.shape
        # Dropout maps the stream to the stream too, and changes nothing here.
        norms = [
            part
            for part in rest
            if part.entered.shape == part.left.shape == shape and not torch.equal(part.entered, part.left)
        ]
        tensors = {point: _side(passages[site.module], site.via) for point, site in at.items()}
        seen.layers.append(
            ObservedLayer(
                block=passages[block],
                norms=tuple(norms),
                pattern=patterns[layer],
                value=values[layer],
                out_projection=at["z"].module,
                **tensors,
            )
        )
    return seen


def _patterns(model: Model, ids: Tensor) -> tuple[list[Tensor], Tensor]:
    """One forward of `ids` [1, position]: (each layer's pattern [head, query, key], logits [position, vocab])."""
    points = [f"attn_probs.{layer}" for layer in range(model.facts.n_layers)]
    if all(model.refuses(point) is None for point in points):
        run = model.run(ids, read=points)
        return [run[point][0] for point in points], run.logits[0]
    # Families that compute attention inside their own forward (Falcon) hand the pattern out in their eager form.
    with _eager_attention(model.hf):
        result = model.hf(input_ids=ids, output_attentions=True, use_cache=False, return_dict=True)
    given = [pattern[0].detach() for pattern in result.attentions or () if pattern is not None]
    if len(given) != len(points):
        reason = next(reason for point in points if (reason := model.refuses(point)))
        raise InputError(f"{model.facts.architecture} shows no attention pattern in every layer: {reason}")
    return given, result.logits[0].detach()


def value_map(value: Site, d_model: int) -> tuple[Tensor, Tensor | None]:
    """W_V [kv_head * d_head, d_model] and its bias, out of a fused projection where the family fuses them."""
    weight, bias = linear_map(value.module, d_model)
    if value.columns is not None:
        columns = value.columns.to(weight.device)
        weight, bias = weight[columns], None if bias is None else bias[columns]
    return weight, bias


def linear_map(module: nn.Module, d_in: int) -> tuple[Tensor, Tensor | None]:
    """(weight [d_out, d_in], bias [d_out]) of an affine module. A kind we do not know is applied to the identity."""
    with torch.no_grad():
        if type(module) is nn.Linear:
            return module.weight.detach(), None if module.bias is None else module.bias.detach()
        if type(module).__name__ == "Conv1D":
            transposed: Any = module
            return transposed.weight.detach().T, transposed.bias.detach()
        some = next(module.parameters())
        probe = torch.cat([torch.zeros(1, d_in), torch.eye(d_in)]).to(some.device, some.dtype)
        image = module(probe)
        return (image[1:] - image[0]).T, image[0]


def _side(passage: Passage, side: str) -> Tensor:
    return passage.entered if side == "input" else passage.left


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (tuple, list)):
        return next((item for item in value if isinstance(item, Tensor)), None)
    return None


def _unbatched(x: Tensor) -> Tensor:
    """[1, position, …] -> [position, …]. Families that flatten the batch into positions give [position, …] already."""
    x = x.detach()
    return x[0] if x.ndim >= 2 and x.shape[0] == 1 and x.ndim != 2 else x


@contextmanager
def _eager_attention(hf: nn.Module) -> Iterator[None]:
    """Patterns exist as tensors in the eager form alone; the implementation in use is put back afterwards."""
    config: Any = getattr(hf, "config", None)
    before = getattr(config, "_attn_implementation", None)
    if before in (None, "eager"):
        yield
        return
    switchable: Any = getattr(hf, "_can_set_attn_implementation", None)
    through_model = switchable is not None and switchable()

    def switch(implementation: str) -> None:
        if through_model:
            cast(Any, hf).set_attn_implementation(implementation)
        else:  # older families read it from the configuration at every forward
            config._attn_implementation = implementation

    switch("eager")
    try:
        yield
    finally:
        switch(before)
