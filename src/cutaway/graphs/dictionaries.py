"""Which dictionary a graph is over: given as a value, by name, by folder, or found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cutaway.core import InputError, UnknownName
from cutaway.core.protocols import TranscoderSet
from cutaway.core.registry import NULL, shipped_dictionaries, trained_dictionaries
from cutaway.features import Transcoders, check_fit, load
from cutaway.features.fit import placed
from cutaway.features.train import facts_of

if TYPE_CHECKING:
    from cutaway.model import Model

NEURONS = "neurons"


def resolve(model: Model, given: TranscoderSet | str | Path | None) -> tuple[TranscoderSet, str]:
    """(the dictionary, its name). `given`: a dictionary, a name that ships with or was trained for `model`, "neurons",
    a folder (ours, or circuit-tracer's), or None for the first found, cross-layer ones before others.

    Raises InputError: nothing found (saying how to train one), or a dictionary of another model, by shape, and where
    shapes agree by how it reconstructs.
    """
    if given is not None and not isinstance(given, (str, Path)):
        return fitted(model, given), str(getattr(getattr(given, "folder", None), "name", ""))
    if given == NEURONS:
        from cutaway.graphs.neurons import neurons

        return neurons(model), NEURONS
    named = available(model)
    if given is None:
        if not named:
            raise InputError(
                f"No dictionary ships with {model.name} or was trained for it. Train one with "
                f"`cutaway dictionary train --model {model.name} --text FILE`, give a folder, or 'neurons'."
            )
        given = "clt" if "clt" in named else next(iter(named))
    if str(given) not in named and not Path(given).exists():
        raise UnknownName(f"dictionary for {model.name}", str(given), [*named, NEURONS], "A folder may be given, too.")
    found = load(named.get(str(given), Path(given)))
    if not isinstance(found, TranscoderSet):
        raise InputError(f"{given} is no transcoder set; a graph needs one for every MLP.")
    return fitted(model, found), str(given) if str(given) in named else Path(given).name


def available(model: Model) -> dict[str, Path]:
    """Name -> folder: what ships with the model, then what was trained here for its weights. Nulls are left out."""
    found = {**trained_dictionaries(facts_of(model).fingerprint), **shipped_dictionaries(model.name)}
    return {name: folder for name, folder in sorted(found.items()) if not name.endswith(NULL)}


def fitted(model: Model, dictionary: TranscoderSet) -> TranscoderSet:
    """The dictionary with its points as this model names them; refused where it belongs to another model.

    The reconstruction check (text written by the model, one forward) is made only where the dictionary does not say
    that it was trained on exactly these weights.
    """
    if not isinstance(dictionary, Transcoders):
        return dictionary
    own = dictionary.model.fingerprint
    if own and own == facts_of(model).fingerprint:
        return placed(dictionary, model)
    return check_fit(model, dictionary)
