"""Dictionaries: sparse features for every MLP of a model. Train, judge, describe, read and write.

    settings = TrainSettings(dictionaries=(DictionarySettings(name="plt", kind="plt"),), tokens=2_000_000)
    made = train(model, rows, settings, out="dictionaries/mine")["plt"]
    print(evaluate(model, made, held_out_rows))
"""

from cutaway.features.formats import load
from cutaway.features.settings import DictionarySettings, TrainSettings
from cutaway.features.stream import rows_from_text
from cutaway.features.train import train, untrained
from cutaway.features.transcoders import Layer, Transcoders

__all__ = [
    "DictionarySettings",
    "Layer",
    "TrainSettings",
    "Transcoders",
    "load",
    "rows_from_text",
    "train",
    "untrained",
]
