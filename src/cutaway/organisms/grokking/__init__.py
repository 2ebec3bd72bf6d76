"""Modular addition: a one-layer transformer that memorises first and generalises later (Nanda et al. 2023)."""

from cutaway.organisms.grokking.module import ModularAddition, read_modular_addition
from cutaway.organisms.grokking.train import GrokkingRecipe, split, train_modular_addition

__all__ = ["GrokkingRecipe", "ModularAddition", "read_modular_addition", "split", "train_modular_addition"]
