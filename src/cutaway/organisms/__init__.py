"""Organisms: the recipes of the models that ship, with their data and training."""
