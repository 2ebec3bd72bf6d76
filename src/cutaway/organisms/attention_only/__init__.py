"""A two-layer attention-only language model of the small world, in which induction heads form (Olsson et al. 2022)."""

from cutaway.organisms.attention_only.train import AttentionOnlyRecipe, attention_only, train_attention_only

__all__ = ["AttentionOnlyRecipe", "attention_only", "train_attention_only"]
