"""Exercises on sparse autoencoders: what they compute, how they are trained and judged."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cutaway.exercises.exercise import Answer, Case, Exercise, Finding

MONOSEMANTICITY = "Bricken et al. 2023, Towards Monosemanticity"
APRIL = "Conerly et al. 2024, Update on how we train SAEs (April)"
SCALING = "Gao et al. 2024, Scaling and evaluating sparse autoencoders"
JUDGING = "Karvonen et al. 2025, SAEBench; Templeton et al. 2024, Scaling Monosemanticity"


def encode(x: Tensor, encoder: Tensor, bias: Tensor, decoder_bias: Tensor) -> Tensor:
    """A ReLU sparse autoencoder's features: take the decoder's bias off the activations, multiply by the encoder, add
    the encoder's bias, ReLU.

    x: [token, d]. encoder: [d, feature]. bias: [feature]. decoder_bias: [d].
    Return the activations of the features, [token, feature].
    """
    return torch.relu((x - decoder_bias) @ encoder + bias)


def top_k(before: Tensor, k: int) -> Tensor:
    """The TopK activation: of each token keep the k largest pre-activations, and of those the ones above zero; all
    others are exactly 0.

    before: [token, feature].
    Return [token, feature].
    """
    values, places = before.topk(k, dim=1)
    return torch.zeros_like(before).scatter(1, places, torch.relu(values))


def batch_top_k(before: Tensor, k: int) -> Tensor:
    """BatchTopK: over the whole batch keep the (number of tokens x k) largest pre-activations that are above zero,
    however they fall on the tokens; all others are exactly 0. A hard token may so have more than k features, an easy
    one fewer.

    before: [token, feature].
    Return [token, feature].
    """
    positive = torch.relu(before).flatten()
    values, places = positive.topk(before.shape[0] * k)
    return torch.zeros_like(positive).scatter(0, places, values).view_as(before)


def sparse_loss(x: Tensor, made: Tensor, active: Tensor, decoder: Tensor, weight: float) -> Tensor:
    """The loss of the April recipe: the mean over tokens of squared error, summed over dimensions, plus `weight`
    times the sum over features of activation times the length of the feature's decoder row. With that length in it,
    the loss can't be lowered by making activations small and decoder rows long.

    x and made: [token, d]. active: [token, feature]. decoder: [feature, d].
    Return a scalar tensor.
    """
    error = (x - made).square().sum(dim=1)
    return (error + weight * (active * decoder.norm(dim=1)).sum(dim=1)).mean()


def explained_variance(x: Tensor, made: Tensor) -> Tensor:
    """The share of variance explained: 1 - (sum over tokens and dimensions of squared error) / (the same sum for the
    mean of x over tokens, put in place of made). 1 is perfect, 0 no better than the mean; it may be negative.

    x and made: [token, d].
    Return a scalar tensor.
    """
    return 1 - (x - made).square().sum() / (x - x.mean(dim=0)).square().sum()


def loss_recovered(clean: float, spliced: float, ablated: float) -> float:
    """How much of a model's loss a dictionary keeps: (ablated - spliced) / (ablated - clean). 1 where the model does as
    well with the reconstruction as without it, 0 where it does as well with the activations ablated.

    clean, spliced, ablated: mean cross-entropies, nats per token: the model's own; with the reconstruction in place of
    the activations; with the activations ablated.
    Return a number; it is not clipped.
    """
    return (ablated - spliced) / (ablated - clean)


def clamp(
    x: Tensor, encoder: Tensor, bias: Tensor, decoder: Tensor, decoder_bias: Tensor, feature: int, to: float
) -> Tensor:
    """Set one feature to a value, and leave all else as it is: what the dictionary can't reconstruct (its error)
    stays in the activations, so that setting the feature to the value it has changes nothing.

    x: [token, d]. encoder: [d, feature]. bias: [feature]. decoder: [feature, d]. decoder_bias: [d].
    Return the changed activations, [token, d].
    """
    active = torch.relu((x - decoder_bias) @ encoder[:, feature] + bias[feature])
    return x + (to - active)[:, None] * decoder[feature]


def train_dictionary(x: Tensor, n_features: int, seed: int) -> Tensor:
    """Find the directions that some activations are sparse sums of. x was made from 24 unit directions in 12
    dimensions, about two of them at a time, with strengths between 1/2 and 3/2: more directions than dimensions, so
    that PCA can't find them. Train a sparse autoencoder of any kind on x (TopK with k = 2 does it), and give its
    decoder.

    x: [token, 12], 20,000 tokens. n_features: rows that your decoder may have. seed: of what you draw.
    Return the decoder, [n_features, 12]; rows may have any length. Marked by the cosine of each true direction with the
    nearest row: the mean must pass 0.95.
    """
    generator = torch.Generator().manual_seed(seed)
    present = x[x.norm(dim=1) > 0]  # tokens are near the directions that they are made of
    decoder = present[torch.randperm(len(present), generator=generator)[:n_features]]
    decoder = (decoder / decoder.norm(dim=1, keepdim=True)).requires_grad_()
    encoder = decoder.detach().T.clone().requires_grad_()
    optimiser = torch.optim.Adam([encoder, decoder], lr=5e-3)
    for _ in range(400):
        batch = x[torch.randint(len(x), (512,), generator=generator)]
        made = top_k(batch @ encoder, 2) @ decoder
        optimiser.zero_grad()
        (batch - made).square().sum(dim=1).mean().backward()
        optimiser.step()
        with torch.no_grad():
            decoder /= decoder.norm(dim=1, keepdim=True).clamp_min(1e-8)
    return decoder.detach()


def planted(seed: int = 5) -> tuple[Tensor, Tensor]:
    """(x [20,000, 12], the directions [24, 12]) of `train_dictionary`."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(24, 12, generator=generator)
    directions /= directions.norm(dim=1, keepdim=True)
    present = torch.rand(20_000, 24, generator=generator) < 2 / 24
    return (present * (0.5 + torch.rand(20_000, 24, generator=generator))) @ directions, directions


def _found(directions: Tensor, rows: Tensor) -> float:
    """The mean over true directions of the largest cosine with a row."""
    unit = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-8)
    return float((directions @ unit.T).max(dim=1).values.mean())


def _training_laws(answer: Answer) -> Iterator[Finding]:
    x, directions = planted()
    made = answer(x.clone(), 32, 0)
    shape = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
    yield Finding("it gives a decoder [32, 12]", shape == [32, 12], "" if shape == [32, 12] else f"it gives {shape}")
    if shape != [32, 12]:
        return
    score = _found(directions, made.detach().float())
    parts = torch.linalg.svd(x - x.mean(dim=0), full_matrices=False).Vh
    beside = {
        "principal components": _found(directions, torch.cat([parts, -parts])),
        "random directions": _found(directions, torch.randn(32, 12, generator=torch.Generator().manual_seed(1))),
        "32 tokens as they are": _found(directions, x[x.norm(dim=1) > 0][:32]),
    }
    says = ", ".join(f"{name} {value:.2f}" for name, value in beside.items())
    yield Finding(f"the mean cosine passes 0.95 (yours {score:.3f}; {says})", score > 0.95)


def _drawn() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    decoder = torch.randn(9, 4, generator=generator)
    return {
        "x": torch.randn(13, 4, generator=generator) + 0.5,
        "made": torch.randn(13, 4, generator=generator),
        "encoder": torch.randn(4, 9, generator=generator),
        "bias": 0.3 * torch.randn(9, generator=generator),
        "decoder": decoder,
        "decoder_bias": torch.randn(4, generator=generator),
        "before": torch.randn(13, 9, generator=generator) - 0.5,
    }


def _of(*names: str) -> tuple[Tensor, ...]:
    drawn = _drawn()
    return tuple(drawn[name] for name in names)


def _clamp_cases() -> list[Case]:
    parts = _of("x", "encoder", "bias", "decoder", "decoder_bias")
    return [Case("feature 3 set to 2", (*parts, 3, 2.0)), Case("feature 0 taken out", (*parts, 0, 0.0))]


def _clamp_alone(
    x: Tensor, encoder: Tensor, bias: Tensor, decoder: Tensor, decoder_bias: Tensor, f: int, to: float
) -> Tensor:
    active = encode(x, encoder, bias, decoder_bias)
    active[:, f] = to
    return active @ decoder + decoder_bias


EXERCISES = (
    Exercise(
        "encode",
        "What a sparse autoencoder's encoder does",
        MONOSEMANTICITY,
        encode,
        cases=lambda: [Case("nine features in four dimensions", _of("x", "encoder", "bias", "decoder_bias"))],
        mistakes={
            "the decoder's bias is not taken off.": lambda x, w, b, d: torch.relu(x @ w + b),
            "the decoder's bias is added; take it off.": lambda x, w, b, d: torch.relu((x + d) @ w + b),
            "there is no ReLU.": lambda x, w, b, d: (x - d) @ w + b,
        },
    ),
    Exercise(
        "top-k",
        "TopK",
        SCALING,
        top_k,
        cases=lambda: [
            Case("k = 3 of nine", (*_of("before"), 3)),
            Case("k = 6, where fewer than six are above zero", (*_of("before"), 6)),
        ],
        mistakes={
            "pre-activations below zero are kept.": lambda h, k: torch.zeros_like(h).scatter(
                1, h.topk(k, dim=1).indices, h.topk(k, dim=1).values
            ),
            "it keeps the largest over the whole batch; keep k of each token.": batch_top_k,
            "it keeps the k largest of each feature; keep k of each token.": lambda h, k: top_k(h.T, k).T,
        },
    ),
    Exercise(
        "batch-top-k",
        "BatchTopK",
        "Bussmann et al. 2024, BatchTopK sparse autoencoders",
        batch_top_k,
        cases=lambda: [Case("thirteen tokens, k = 2", (*_of("before"), 2))],
        mistakes={
            "it keeps k of each token.": top_k,
            "it keeps k in all; keep k for each token of the batch.": lambda h, k: batch_top_k(
                h.reshape(1, -1), k
            ).view_as(h),
        },
    ),
    Exercise(
        "sparse-loss",
        "The loss that makes a dictionary sparse",
        APRIL,
        sparse_loss,
        cases=lambda: [
            Case("weight 5", (*_of("x", "made"), torch.relu(_drawn()["before"]), _drawn()["decoder"], 5.0)),
        ],
        mistakes={
            "the decoder's lengths are left out.": lambda x, y, a, d, w: (
                (x - y).square().sum(dim=1) + w * a.sum(dim=1)
            ).mean(),
            "the error is the mean over dimensions; it is their sum.": lambda x, y, a, d, w: (
                (x - y).square().mean(dim=1) + w * (a * d.norm(dim=1)).sum(dim=1)
            ).mean(),
            "the penalty is the mean over features; it is their sum.": lambda x, y, a, d, w: (
                (x - y).square().sum(dim=1) + w * (a * d.norm(dim=1)).mean(dim=1)
            ).mean(),
        },
    ),
    Exercise(
        "explained-variance",
        "Explained variance",
        JUDGING,
        explained_variance,
        cases=lambda: [
            Case("random reconstructions", _of("x", "made")),
            Case(
                "good reconstructions of unequal tokens",
                (_drawn()["x"] * torch.arange(13)[:, None], _drawn()["x"] * torch.arange(13)[:, None] * 0.9),
            ),
        ],
        mistakes={
            "x is compared with 0 in the denominator; take off its mean over tokens.": lambda x, y: (
                1 - (x - y).square().sum() / x.square().sum()
            ),
            "the mean is over all numbers; each dimension has a mean of its own.": lambda x, y: (
                1 - (x - y).square().sum() / (x - x.mean()).square().sum()
            ),
            "it is the mean of each token's ratio; the ratio is of the two sums.": lambda x, y: (
                1 - (x - y).square().sum(dim=1) / (x - x.mean(dim=0)).square().sum(dim=1)
            ).mean(),
            "it is the mean of each dimension's ratio; the ratio is of the two sums.": lambda x, y: (
                1 - (x - y).square().sum(dim=0) / (x - x.mean(dim=0)).square().sum(dim=0)
            ).mean(),
        },
    ),
    Exercise(
        "loss-recovered",
        "Loss recovered",
        MONOSEMANTICITY,
        loss_recovered,
        cases=lambda: [
            Case("clean 2, with the reconstruction 2.5, ablated 7", (2.0, 2.5, 7.0)),
            Case("worse than ablation is negative, not 0", (2.0, 8.0, 7.0)),
        ],
        mistakes={
            "that is the share of loss that is lost.": lambda c, s, a: (s - c) / (a - c),
            "that is a ratio of losses; it has no zero where ablation stands.": lambda c, s, a: c / s,
            "it is clipped: below 0 is a finding, too.": lambda c, s, a: max(0.0, (a - s) / (a - c)),
        },
    ),
    Exercise(
        "clamp",
        "Clamp a feature, keep the error",
        JUDGING,
        clamp,
        cases=_clamp_cases,
        mistakes={
            "the reconstruction takes the activations' place, so that the dictionary's error is lost.": _clamp_alone,
            "the value is added to what the feature has; it takes its place.": lambda x, e, b, d, c, f, to: (
                x + to * d[f]
            ),
            "the feature's activation is changed by the wrong sign.": lambda x, e, b, d, c, f, to: (
                x - (to - torch.relu((x - c) @ e[:, f] + b[f]))[:, None] * d[f]
            ),
        },
    ),
    Exercise("train-dictionary", "Find planted directions", SCALING, train_dictionary, laws=_training_laws),
)
