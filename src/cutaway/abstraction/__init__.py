"""Causal models of what a network computes, and where their variables live in it."""

__all__: list[str] = []
