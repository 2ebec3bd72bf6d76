"""Files of dictionaries, read with errors that name them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cutaway.core import InputError, atomic_path, content_hash


def read_tensors(path: Path, expected: str | None = None) -> dict[str, Tensor]:
    """A safetensors file; `expected` is its SHA-256. Raises `InputError` naming the file."""
    if not path.is_file():
        raise InputError(f"{path} is missing: the dictionary is not whole.")
    if expected is not None and (found := content_hash(path)) != expected:
        raise InputError(
            f"{path} was altered or cut short: its SHA-256 is {found[:16]}…, and {expected[:16]}… was written."
        )
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({error}): cut short or no such file.") from error


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `InputError` naming the file, where it is no object or names a field twice."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is no JSON file: {error}.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no JSON object.")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i]))
        raise ValueError(f"it names {twice!r} twice")
    return found


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file, whole or not at all. Tensors that share memory (a tied encoder) are written each."""
    held: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        held[name] = value.clone() if place in places else value
        places.add(place)
    with atomic_path(path) as temporary:
        save_file(held, temporary)
