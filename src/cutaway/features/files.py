"""Files of dictionaries, read with errors that name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from cutaway.core import InputError, content_hash, read_json


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
    """A JSON object; {} where the file holds another value. Raises `InputError` naming the file."""
    try:
        found = read_json(path)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is no JSON file: {error}.") from error
    return found if isinstance(found, dict) else {}
