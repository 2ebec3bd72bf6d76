"""Networks that learned nothing, or less: the arms of Heap et al., "Sparse autoencoders can interpret randomly
initialized transformers" (2025), as transforms of any model. The model given is never changed.

| arm | here |
|---|---|
| re-randomised, embeddings kept | `rerandomise(model)` |
| re-randomised, embeddings too | `rerandomise(model, embeddings="redraw")` |
| step-0 | `step0(model)` |
| control | `control(model)` |
"""

from __future__ import annotations

import copy
import hashlib
from typing import Literal

import torch
from torch import Tensor, nn

from cutaway.core import InputError
from cutaway.core.numbers import seeded
from cutaway.model import Model, load


def rerandomise(
    model: Model,
    embeddings: Literal["keep", "redraw"] = "keep",
    seed: int = 0,
    vectors: Literal["keep", "redraw"] = "keep",
) -> Model:
    """A copy in which every matrix is Gaussian, with its own mean and variance.

    embeddings: "keep" leaves token and position embeddings and the output matrix as they are; "redraw" draws them too.
    vectors: norm weights and biases; "keep" as they are, or "redraw" each with its own mean and variance.
    A parameter of more than two dimensions (stacked experts) is a stack of matrices, each drawn by itself; but a
    convolution's weight is one matrix [out, in * places] (kernel by kernel, each would keep its mean, and with it which
    channel feeds which). Tied weights are drawn once and stay tied. Each parameter's draw depends on the seed and its
    name alone.
    """
    for given in (embeddings, vectors):
        if given not in ("keep", "redraw"):
            raise InputError(f"embeddings and vectors take 'keep' or 'redraw'; {given!r} was given.")
    seed = seeded(seed)
    module = copy.deepcopy(model.hf)
    kept = _embedding_parameters(module) if embeddings == "keep" else set()
    convolutions = {id(m.weight) for m in module.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d))}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if id(parameter) in kept or (parameter.ndim < 2 and vectors == "keep"):
                continue
            if id(parameter) in convolutions:
                noise = torch.randn(parameter.shape, generator=_generator(seed, name.removesuffix(".weight")))
                spread = parameter.std(correction=0)
                parameter.copy_(parameter.mean() + spread * noise.to(parameter))
                continue
            parameter.copy_(_matched(parameter, _generator(seed, name)))
    return _loaded(
        module, model, f"{model.name} re-randomised ({'excl.' if kept else 'incl.'} embeddings, seed {seed})"
    )


def step0(model: Model, seed: int = 0) -> Model:
    """A copy re-initialised as its architecture initialises itself: from its config, or by each part's own
    `reset_parameters`.

    Raises `InputError` for a module that has no config and holds parameters that no part of it can re-initialise.
    """
    config, seed = getattr(model.hf, "config", None), seeded(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config is not None and hasattr(model.hf, "post_init"):
            module = type(model.hf)(copy.deepcopy(config))
        else:
            module = copy.deepcopy(model.hf)
            _reset(module)
    like = next(model.hf.parameters())
    module = module.to(device=like.device, dtype=like.dtype).train(model.hf.training)
    return _loaded(module, model, f"{model.name} at step 0 (seed {seed})")


def control(model: Model, seed: int = 0) -> Model:
    """The trained weights, but each occurrence of a token gets a fresh N(0, 1) embedding.

    An occurrence's embedding is a function of the seed, the whole row of ids and the position: a row read twice (a run
    and its interventions) sees the same noise, while the same token elsewhere sees another. Position embeddings, and
    the output matrix where it is tied to the input's, stay as they are.
    """
    module, seed = copy.deepcopy(model.hf), seeded(seed)
    old = _input_embedding(module)
    for parent in module.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, NoiseEmbedding(old, seed))
    return _loaded(module, model, f"{model.name} with noise for embeddings (seed {seed})")


class NoiseEmbedding(nn.Embedding):
    """Ids [..., position] -> N(0, 1) vectors [..., position, d_model], the same for the same row of ids."""

    def __init__(self, old: nn.Embedding, seed: int) -> None:
        # The old weight stays: its shape is asked for, and an output matrix may be tied to it.
        super().__init__(old.num_embeddings, old.embedding_dim, _weight=old.weight)
        self.weight = old.weight
        self.seed = seed

    def forward(self, input: Tensor) -> Tensor:
        rows = input.reshape(-1, input.shape[-1])
        distinct, which = torch.unique(rows, dim=0, return_inverse=True)
        noise = torch.stack([self._noise(row) for row in distinct])
        return noise[which].reshape(*input.shape, self.embedding_dim)

    def _noise(self, row: Tensor) -> Tensor:
        generator = _generator(self.seed, ",".join(map(str, row.tolist())))
        drawn = torch.randn(row.shape[0], self.embedding_dim, generator=generator)
        return drawn.to(self.weight)


def _input_embedding(module: nn.Module) -> nn.Embedding:
    """The token embedding, by Hugging Face's accessor or as a bare module's first `nn.Embedding`."""
    find = getattr(module, "get_input_embeddings", None)
    found = find() if find is not None else next((m for m in module.modules() if isinstance(m, nn.Embedding)), None)
    if not isinstance(found, nn.Embedding):
        raise InputError(f"{type(module).__name__} has no nn.Embedding for its tokens, so no control arm.")
    return found


def _embedding_parameters(module: nn.Module) -> set[int]:
    """The identities of the weights of every `nn.Embedding` (tokens, positions) and of the output matrix."""
    held = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    find = getattr(module, "get_output_embeddings", None)
    output = find() if find is not None else None
    if output is not None:
        held.add(id(output.weight))
    return held


def _matched(parameter: Tensor, generator: torch.Generator) -> Tensor:
    """A Gaussian draw of the parameter's shape, with the mean and variance of each of its matrices (or vectors)."""
    whole = parameter.detach().double().cpu()
    over = (-2, -1) if whole.ndim >= 2 else (-1,)
    if whole.ndim == 0:
        return parameter.detach()
    mean = whole.mean(over, keepdim=True)
    spread = whole.std(over, keepdim=True, correction=0)
    return mean + spread * torch.randn(whole.shape, generator=generator, dtype=torch.float64)


def _reset(module: nn.Module) -> None:
    """Call each part's `reset_parameters`; refuse where a parameter would keep what it learned."""
    left = {name for name, _ in module.named_parameters()}
    for prefix, part in module.named_modules():
        reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
        if callable(reset):
            reset()
            left -= {f"{prefix}.{name}" if prefix else name for name, _ in part.named_parameters()}
    if left:
        raise InputError(
            f"step 0 needs a config, or `reset_parameters` on each part that holds parameters; "
            f"{type(module).__name__} can't re-initialise {', '.join(sorted(left)[:5])}."
        )


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") % 2**63)


def _loaded(module: nn.Module, like: Model, name: str) -> Model:
    model = load(module, tokenizer=like.tokenizer)
    model.name = name
    return model
