"""Tensors as values: equal and hashed by what they hold, written to JSON and back."""

from __future__ import annotations

import base64
import hashlib
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.core import InputError

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    )
}  # fmt: skip


class Content:
    """A tensor that compares and hashes by dtype, shape and bytes. It is detached, and must not be written to."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()

    @classmethod
    def of(cls, value: Any, what: str) -> Content:
        """From a tensor, an array, a number or nested lists of numbers. Raises InputError for all else, and for NaN."""
        if isinstance(value, Content):
            return value
        if not isinstance(value, Tensor):
            try:
                value = torch.as_tensor(value, dtype=None if isinstance(value, np.ndarray) else torch.float32)
            except (TypeError, ValueError, RuntimeError) as error:
                raise InputError(f"{what} must be a tensor or numbers; given {type(value).__name__}.") from error
        if value.is_meta:
            raise InputError(f"{what} lies on the meta device and holds no numbers.")
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(f"{what} holds NaN or infinity.")
        return cls(value)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over dtype, shape and bytes."""
        head = f"{self.tensor.dtype}{tuple(self.tensor.shape)}".encode()
        return hashlib.sha256(head + self._bytes()).hexdigest()

    def _bytes(self) -> bytes:
        flat = self.tensor.cpu().contiguous().reshape(-1)
        return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Content) and (self is other or self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"tensor{list(self.tensor.shape)}"

    def to_json(self) -> dict[str, Any]:
        dtype = str(self.tensor.dtype).removeprefix("torch.")
        return {
            "dtype": dtype,
            "shape": list(self.tensor.shape),
            "base64": base64.b64encode(self._bytes()).decode("ascii"),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Content:
        dtype = _DTYPES.get(str(value.get("dtype")))
        if dtype is None:
            raise InputError(f"a tensor of dtype {value.get('dtype')!r} cannot be read; known: {', '.join(_DTYPES)}.")
        data = bytearray(base64.b64decode(value["base64"], validate=True))
        flat = torch.frombuffer(data, dtype=torch.uint8).view(dtype) if data else torch.empty(0, dtype=dtype)
        return cls(flat.reshape(value["shape"]).clone())
