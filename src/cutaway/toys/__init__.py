"""Toys: subjects whose truth is exact."""
