"""Numbers that a caller gives: whole or finite, and within their bounds, or an error that names them."""

from __future__ import annotations

import math
import operator
from typing import Any

from cutaway.core.errors import InputError


def whole(value: Any, name: str, least: int | None = None, most: int | None = None) -> int:
    """`value` as an int. Raises InputError for a fraction, a truth value, text, or a number out of bounds."""
    try:
        found = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = None
    if found is None or (least is not None and found < least) or (most is not None and found > most):
        raise InputError(f"{name} is a whole number{_bounds(least, most)}; given {value!r}.")
    return found


def seeded(value: Any, name: str = "seed") -> int:
    """A seed, from 0 on: what every generator here takes. Raises InputError."""
    return whole(value, name, 0, 2**63 - 1)


def finite(value: Any, name: str, least: float | None = None, most: float | None = None) -> float:
    """`value` as a float that is neither NaN nor infinite. Raises InputError."""
    try:
        found = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        found = math.nan
    if not math.isfinite(found) or (least is not None and found < least) or (most is not None and found > most):
        raise InputError(f"{name} is a finite number{_bounds(least, most)}; given {value!r}.")
    return found


def _bounds(least: float | None, most: float | None) -> str:
    if least is not None and most is not None and most < 2**63 - 1:
        return f" from {least} to {most}"
    return "" if least is None else f" of at least {least}"
