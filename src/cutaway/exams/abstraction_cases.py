"""The published cases of causal abstraction, each by one command: `cutaway align NAME`.

A case is a causal model with a network, the places where its variables are looked for, and rivals. `SPEC.py`, a file of
the user's, says the same: see `from_file`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cutaway.core import InputError, UnknownName

NUMBERS = ("n", "n_test", "steps", "batch")


@dataclass(frozen=True, eq=False)
class Case:
    """One question. `sweep`: (variable, points, dims) to look for it over layers and positions before aligning."""

    name: str
    about: str
    causal: Any
    places: Mapping[str, Any]
    model: Any = "almanac"
    rivals: Mapping[str, Any] = field(default_factory=dict)
    n: int = 512
    n_test: int = 256
    steps: int = 300
    batch: int = 64
    sweep: tuple[str, str | Sequence[str], int | None] | None = None
    expect: str = ""
    untrained: Any = "auto"


@dataclass(frozen=True)
class Listed:
    """A case by name, made when it is asked for."""

    about: str
    make: Callable[[int], Case]


def _equality(seed: int) -> Case:
    from cutaway.exams.abstraction_equality import equality_case

    return equality_case(seed)


def _identities(seed: int) -> Case:
    from cutaway.exams.abstraction_equality import identities_case

    return identities_case(seed)


def _carry(seed: int) -> Case:
    from cutaway.exams.abstraction_language import carry_case

    del seed
    return carry_case()


def _greater_than(seed: int) -> Case:
    from cutaway.exams.abstraction_language import greater_than_case

    del seed
    return greater_than_case()


def _ioi(seed: int) -> Case:
    from cutaway.exams.abstraction_language import ioi_case

    del seed
    return ioi_case()


def _attributes(seed: int) -> Case:
    from cutaway.exams.abstraction_language import attributes_case

    del seed
    return attributes_case()


def _ravel(seed: int) -> Case:
    from cutaway.exams.abstraction_ravel import ravel_case

    return ravel_case("almanac", None, seed=seed)


def _two_hop(seed: int) -> Case:
    from cutaway.exams.abstraction_language import two_hop_case

    del seed
    return two_hop_case()


CASES: dict[str, Listed] = {
    "equality": Listed("hierarchical equality, (w = x) = (y = z), on a small network trained here", _equality),
    "identities": Listed("the same network by the identity of one input: an explanation that should fail", _identities),
    "carry": Listed("almanac's addition: is there a carry?", _carry),
    "greater-than": Listed("almanac's greater-than: the year that the answer must exceed", _greater_than),
    "ioi": Listed("almanac's indirect objects: which name is repeated, by its place in the sentence", _ioi),
    "attributes": Listed("almanac's words: are opposite, French and Spanish each held apart (RAVEL)?", _attributes),
    "ravel": Listed("RAVEL's own entities (--data), on a model that knows them: is each attribute held apart?", _ravel),
    "two-hop": Listed("almanac's two hops: the state between the city and its capital", _two_hop),
}


def case(name: str, seed: int = 0) -> Case:
    """A case by name, or from `SPEC.py` (which is run). Raises UnknownName, InputError."""
    if name.endswith(".py"):
        return from_file(name)
    if name not in CASES:
        raise UnknownName("case", name, CASES, hint="Or give a file, SPEC.py, that defines causal_model and places.")
    return CASES[name].make(seed)


def from_file(path: str) -> Case:
    """A case from a Python file, which is run. It defines `causal_model` (a CausalModel) and `places` {variable:
    place}; if wanted also `model` (a name, a folder or an nn.Module), `rivals`, `n`, `n_test`, `steps`, `batch` and
    `sweep`.

    Raises InputError: no such file, a file that fails (with its line), a name that is missing or of the wrong kind.
    """
    from cutaway.abstraction import CausalModel
    from cutaway.core.own_file import run_own

    names = vars(run_own(path))
    if not isinstance(names.get("causal_model"), CausalModel):
        raise InputError(f"{path} defines no causal_model, a cutaway.abstraction.CausalModel.")
    if not isinstance(names.get("places"), dict) or not names["places"]:
        raise InputError(f'{path} defines no places, as places = {{"carry": cw.subspace("resid_post.2", dims=4)}}.')
    more = {key: names[key] for key in ("model", "rivals", *NUMBERS, "sweep") if key in names}
    _checked(path, more)
    return Case(Path(path).stem, f"from {Path(path).name}", names["causal_model"], names["places"], **more)


def _checked(path: str, more: Mapping[str, Any]) -> None:
    """Raise InputError where what a file says beside its causal model and places is of the wrong kind."""
    from cutaway.abstraction import CausalModel

    for name in NUMBERS:
        value = more.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{path}: {name} is a number, at least 1; given {value!r}.")
    rivals = more.get("rivals", {})
    if not isinstance(rivals, dict) or not all(
        isinstance(r, tuple) and len(r) == 2 and isinstance(r[0], CausalModel) for r in rivals.values()
    ):
        kinds = {n: type(r).__name__ for n, r in rivals.items()} if isinstance(rivals, dict) else type(rivals).__name__
        raise InputError(f"{path}: rivals is {{name: (a CausalModel, its variable)}}; given {kinds}.")
    sweep = more.get("sweep")
    if sweep is not None and not (
        isinstance(sweep, tuple) and len(sweep) == 3 and (sweep[2] is None or isinstance(sweep[2], int))
    ):
        raise InputError(
            f"{path}: sweep is (variable, points, dims), dims None for whole vectors, as "
            f'("carry", "resid_post.*", 8); given {sweep!r}.'
        )


def opened(found: Case, model: str | None = None) -> Any:
    """The network of a case, loaded; `model` is another one. Costs what `cutaway.load` does."""
    import cutaway as cw

    wanted = found.model if model is None else model
    return wanted if isinstance(wanted, cw.Model) else cw.load(wanted)
