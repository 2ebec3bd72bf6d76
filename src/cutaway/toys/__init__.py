"""Toys: subjects whose truth is exact. `TOYS` is what there is; a toy joins by one entry in `registry.py`."""

from cutaway.toys.registry import TOYS, Asked, Toy, ToyResult, find

__all__ = ["TOYS", "Asked", "Toy", "ToyResult", "find"]
