"""Dictionaries: sparse features for every MLP of a model. Train, judge, describe, read and write.

settings = TrainSettings(dictionaries=(DictionarySettings(name="plt", kind="plt"),), tokens=2_000_000)
made = train(model, rows, settings, out="dictionaries/mine")["plt"]
print(evaluate(model, made, held_out_rows))
"""

from cutaway.features.circuit_tracer import write as write_circuit_tracer
from cutaway.features.evaluate import Report, evaluate
from cutaway.features.examples import Examples, find_examples
from cutaway.features.fit import check_fit
from cutaway.features.formats import load
from cutaway.features.package import package
from cutaway.features.replacement import Kept, Replacement, Task
from cutaway.features.settings import DictionarySettings, TrainSettings
from cutaway.features.stream import rows_from_text
from cutaway.features.train import train, untrained
from cutaway.features.transcoders import Layer, Transcoders

__all__ = [
    "DictionarySettings",
    "Examples",
    "Kept",
    "Layer",
    "Replacement",
    "Report",
    "Task",
    "TrainSettings",
    "Transcoders",
    "check_fit",
    "evaluate",
    "find_examples",
    "load",
    "package",
    "rows_from_text",
    "train",
    "untrained",
    "write_circuit_tracer",
]
