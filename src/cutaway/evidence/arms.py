"""The five arms of Heap et al. (2025, arXiv 2501.17727), each a transform of any model, made when it is asked for.

A score of a dictionary is worth what it is above the same score, found in the same way, in the arms that learned
nothing. The control arm shows what a score is when there is nothing to find at all.
"""

from __future__ import annotations

from collections.abc import Callable

from cutaway.core import UnknownName
from cutaway.evidence.nulls import control, rerandomise, step0
from cutaway.model import Model

ARMS: dict[str, tuple[str, Callable[[Model, int], Model]]] = {
    "trained": ("the model itself", lambda model, seed: model),
    "rerandomised_excl": (
        "every matrix Gaussian, with its own mean and variance; embeddings kept",
        lambda model, seed: rerandomise(model, "keep", seed),
    ),
    "rerandomised_incl": ("the same, embeddings too", lambda model, seed: rerandomise(model, "redraw", seed)),
    "step0": ("initialised as its architecture initialises itself", step0),
    "control": (
        "trained weights; each occurrence of a token gets a fresh N(0, 1) embedding",
        control,
    ),
}
RANDOM = ("rerandomised_excl", "rerandomised_incl", "step0")


def arm(model: Model, name: str, seed: int = 0) -> Model:
    """One arm of a model, which is never changed. The seed does nothing to the trained one.

    Cost: a copy of the model's weights. Raises UnknownName; `InputError` where the model has no such arm (a module
    without embeddings has no control; one without a config may have no step 0).
    """
    if name not in ARMS:
        raise UnknownName("arm of Heap et al.", name, ARMS)
    return ARMS[name][1](model, seed)
