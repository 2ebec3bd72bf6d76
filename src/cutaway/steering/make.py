"""Directions learnt from prompts, and from dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.core.protocols import Dictionary
from cutaway.model import Model
from cutaway.model.content import Content
from cutaway.steering.methods import ActivationAddition, Direction, Projection

Where = Literal["last", "mean"]
_TOKENS = 4096  # a forward
_SMALL = 1e-6


def difference_in_means(
    model: Model, positive: Sequence[Any], negative: Sequence[Any], at: str = "resid_post.*", where: Where = "last"
) -> dict[str, Direction]:
    """Address -> mean over `positive` prompts of the stream there, less that over `negative`.

    where: each prompt's last token, or the mean over its tokens. One forward of the prompts for all of `at`.
    Raises InputError for empty lists, points without a d_model axis, and lists that no point tells apart.
    """
    points = steering_points(model, at)
    plus, minus = (means(model, prompts, points, where) for prompts in (positive, negative))
    found = {}
    for point in points:
        vector = plus[point] - minus[point]
        if float(vector.norm()) <= _SMALL * float(plus[point].norm() + minus[point].norm()):
            continue
        found[point] = Direction(point, Content(vector))
    if not found:
        raise InputError(f"the two lists have the same means at {', '.join(points)}: nothing to steer along.")
    return found


def direction(at: str, vector: Any, positions: Sequence[int] | None = None) -> Direction:
    """A vector [width] of one's own (a probe's direction, a decoder's row), added at every position or at some.

    Raises InputError for what is no vector, is zero, or is not finite.
    """
    content = Content.of(vector, "vector")
    if content.tensor.ndim != 1 or not content.tensor.numel():
        raise InputError(f"a direction is one vector [width]; given {list(content.tensor.shape)}.")
    content = Content(content.tensor.float())
    if float(content.tensor.norm()) == 0.0:
        raise InputError("the direction is zero: it would change nothing.")
    return Direction(at, content, None if positions is None else tuple(positions))


def steering_points(model: Model, at: str) -> list[str]:
    """The addresses of `at`, of the width of the stream. Raises InputError for others."""
    points = list(model.addresses(at))
    for point in points:
        if model.site(point).axes[-1] != "d_model":
            raise InputError(
                f"a direction is added to the stream (resid_pre, resid_mid, resid_post, attn_out, mlp_out); {point} is "
                f"[{', '.join(model.site(point).axes)}]."
            )
    return points


def means(model: Model, prompts: Sequence[Any], points: Sequence[str], where: Where = "last") -> dict[str, Tensor]:
    """Address -> the mean over prompts, [d_model], float32."""
    if where not in ("last", "mean"):
        raise InputError(f"a prompt is read at its 'last' token or as the 'mean' over its tokens; {where!r} was given.")
    if not len(prompts):
        raise InputError("a list of prompts is empty.")
    totals: dict[str, Tensor] = {}
    for batch in batches(model, prompts):
        run = model.run(batch, read=points, logits=False)
        for point in points:
            if where == "last":
                rows = run.at(point).float()
            else:
                keep = run.mask.to(run[point].device)[..., None]
                rows = (run[point].float() * keep).sum(1) / keep.sum(1)
            totals[point] = totals.get(point, torch.zeros(())) + rows.sum(0).cpu()
    return {point: total / len(prompts) for point, total in totals.items()}


def batches(model: Model, prompts: Sequence[Any], tokens: int = _TOKENS) -> list[list[list[int]]]:
    """The prompts as lists of ids, in their order, a few thousand tokens at a time."""
    if isinstance(prompts, str):
        raise InputError("prompts are a list of texts; one text was given.")
    batch = model.batch(list(prompts))
    out: list[list[list[int]]] = [[]]
    for ids, keep in zip(batch.ids, batch.mask):
        row = ids[keep].tolist()
        wide = max(len(row), *(len(r) for r in out[-1])) if out[-1] else len(row)
        if out[-1] and wide * (len(out[-1]) + 1) > tokens:
            out.append([])
        out[-1].append(row)
    return out


def activation_addition(model: Model, plus: str, minus: str, at: str) -> ActivationAddition:
    """The stream of prompt `plus` less that of `minus`, position by position (Turner et al. 2024).

    Raises InputError where the two are of different numbers of tokens (pad the shorter with blanks or filler words), or
    give the same stream.
    """
    (point,) = points if len(points := steering_points(model, at)) == 1 else (None,)
    if point is None:
        raise InputError(f"activation addition is at one point; {at} stands for {len(points)}.")
    one, two = (model.tokens(text)[0].tolist() for text in (plus, minus))
    if len(one) != len(two):
        shown = [" + ".join(map(repr, model.token_strings(ids))) for ids in (one, two)]
        raise InputError(
            f"the two prompts must have as many tokens each: {len(one)} ({shown[0]}) and {len(two)} ({shown[1]}). "
            "Lengthen the shorter with filler."
        )
    run = model.run([one, two], read=[point], logits=False)
    vectors = (run[point][0] - run[point][1]).float().cpu()
    if float(vectors.norm()) <= _SMALL * float(run[point].float().norm()):
        raise InputError(f"{plus!r} and {minus!r} give the same stream at {point}.")
    return ActivationAddition(point, Content(vectors))


def projection(model: Model, direction: Direction) -> Projection:
    """The direction taken out of the stream wherever a block could read it: every resid_pre and resid_mid there is, and
    what leaves the last block."""
    last = model.facts.n_layers - 1
    patterns = ("resid_pre.*", "resid_mid.*", f"resid_post.{last}")
    points = [name for pattern in patterns if model.refuses(pattern) is None for name in model.addresses(pattern)]
    return Projection(direction.at, direction.vector, tuple(points))


def feature_direction(dictionary: Dictionary, feature: int, at: str) -> Direction:
    """What one unit of a feature writes: decode(e_f) - decode(0), added at the point that the dictionary writes to."""
    if not 0 <= feature < dictionary.n_features:
        raise InputError(f"no feature {feature}; the dictionary has {dictionary.n_features}.")
    units = torch.zeros(2, dictionary.n_features)
    units[1, feature] = 1.0
    with torch.no_grad():
        nothing, one = dictionary.decode(units).float()
    return Direction(at, Content((one - nothing).cpu()))
