"""Synthetic activations whose features are known: what a dictionary should find, and how often each fires."""

from cutaway.toys.synthetic.features import Sample, Synthetic, SyntheticSettings, synthetic

__all__ = ["Sample", "Synthetic", "SyntheticSettings", "synthetic"]
