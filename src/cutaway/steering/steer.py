"""Steering from two lists of prompts: learn on some, choose on some, report on the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from cutaway.core import InputError, UnknownName, refuse_name
from cutaway.core.numbers import seeded
from cutaway.model import Model
from cutaway.steering.contrast import Contrast, contrast_tokens
from cutaway.steering.dose import BUDGET, STRENGTHS, DoseResponse, dose_response
from cutaway.steering.make import Where, difference_in_means, projection
from cutaway.steering.methods import Steering

How = Literal["add", "project"]


def steer(
    model: Model,
    from_: Sequence[str],
    to: Sequence[str],
    *,
    at: str = "resid_post.*",
    how: How = "add",
    where: Where = "last",
    contrast: Contrast | None = None,
    strengths: Sequence[float] = STRENGTHS,
    neutral: Sequence[Any] = (),
    budget: float = BUDGET,
    randoms: int = 39,
    null: bool = True,
    instruction: str | None = None,
    seed: int = 0,
) -> DoseResponse:
    """Learn a direction from prompts `from_` towards prompts `to`, and test it on prompts of `from_` kept apart.

    how: "add" the difference in means at one point of `at`, which is chosen; or "project" it out wherever a block could
    read it. where: prompts are read at their "last" token or as the "mean" over tokens. contrast: the next tokens to
    raise and lower; by default those that tell the two lists apart. instruction: text put in front of the prompts, as
    the baseline that asks. See `dose_response` for the rest.
    Half of each list is learnt from; of the other half of `from_`, half chooses and half reports.
    Raises InputError for lists that are too short, equal, or that nothing tells apart.
    """
    refuse_name("steer", model=model)
    if how not in ("add", "project"):
        raise UnknownName("way of steering", str(how), ("add", "project"))
    for name, items, least in (("from", from_, 8), ("to", to, 4)):
        if isinstance(items, str):
            raise InputError(f"`{name}` is a list of prompts; one text was given.")
        if len(items) < least:
            raise InputError(f"`{name}` needs at least {least} prompts (half to learn from); {len(items)} were given.")
    if both := set(map(str, from_)) & set(map(str, to)):
        raise InputError(f"{len(both)} prompts stand in both lists, as {min(both)!r}; the lists must differ.")
    rng = np.random.default_rng(seeded(seed))
    parts = []
    for items in (from_, to):
        order = rng.permutation(len(items))
        half = len(items) // 2
        parts.append(([items[i] for i in order[:half]], [items[i] for i in order[half:]]))
    (learn_from, rest_from), (learn_to, rest_to) = parts
    if contrast is None:
        contrast = contrast_tokens(model, learn_from, learn_to)

    def learn(of: Model) -> list[Steering]:
        found = difference_in_means(of, learn_to, learn_from, at, where)
        if how == "add":
            return list(found.values())
        return [projection(of, direction) for direction in found.values()]

    made = dose_response(
        model,
        learn(model),
        rest_from,
        contrast,
        strengths=strengths if how == "add" else (1.0,),
        neutral=neutral,
        budget=budget,
        randoms=randoms,
        relearn=learn if null else None,
        prompted=None if instruction is None else [f"{instruction} {prompt}" for prompt in rest_from],
        ceiling=rest_to,
        seed=seed,
    )
    settings = {**made.settings, "how": how, "learnt from": {"from": len(learn_from), "to": len(learn_to)}, "at": at}
    return replace(made, settings=settings)
