"""Dictionaries: sparse features for every MLP of a model, or for a point. Train, judge, describe, read and write.

settings = TrainSettings(dictionaries=(DictionarySettings(name="plt", kind="plt"),), tokens=2_000_000)
made = train(model, rows, settings, out="dictionaries/mine")["plt"]
print(evaluate(model, made, held_out_rows))
"""

from typing import TYPE_CHECKING, Any

from cutaway.features.architectures import ARCHITECTURES
from cutaway.features.arm_study import ArmStudy, arm_study
from cutaway.features.circuit_tracer import write as write_circuit_tracer
from cutaway.features.concepts import Concepts, document_concepts, spelled_concepts
from cutaway.features.convert import as_saes, as_transcoders, convert
from cutaway.features.describe import Described, describe
from cutaway.features.evaluate import Report, evaluate
from cutaway.features.evaluate_sae import SAEReport, evaluate_sae
from cutaway.features.examples import Examples, find_examples
from cutaway.features.fit import check_fit
from cutaway.features.fit_rows import fit_rows
from cutaway.features.formats import load, load_all
from cutaway.features.knowledge import Knowledge, knowledge
from cutaway.features.package import package
from cutaway.features.replacement import Kept, Replacement, Task
from cutaway.features.sae import SAE
from cutaway.features.search import load_descriptions, save_descriptions, search_features
from cutaway.features.settings import DictionarySettings, TrainSettings
from cutaway.features.stability import Splitting, Stability, splitting, stability
from cutaway.features.stream import rows_from_text
from cutaway.features.train import train, untrained, untrained_sae
from cutaway.features.transcoders import Layer, Transcoders

if TYPE_CHECKING:
    from cutaway.features.embedding import FeatureEmbedding

__all__ = [
    "ARCHITECTURES",
    "SAE",
    "ArmStudy",
    "Concepts",
    "Described",
    "DictionarySettings",
    "Examples",
    "FeatureEmbedding",
    "Kept",
    "Knowledge",
    "Layer",
    "Replacement",
    "Report",
    "SAEReport",
    "Splitting",
    "Stability",
    "Task",
    "TrainSettings",
    "Transcoders",
    "arm_study",
    "as_saes",
    "as_transcoders",
    "check_fit",
    "convert",
    "describe",
    "document_concepts",
    "evaluate",
    "evaluate_sae",
    "find_examples",
    "fit_rows",
    "knowledge",
    "load",
    "load_all",
    "load_descriptions",
    "package",
    "rows_from_text",
    "save_descriptions",
    "search_features",
    "spelled_concepts",
    "splitting",
    "stability",
    "train",
    "untrained",
    "untrained_sae",
    "write_circuit_tracer",
]


def __getattr__(name: str) -> Any:
    # A scikit-learn estimator: scikit-learn is imported when it is asked for.
    if name == "FeatureEmbedding":
        from cutaway.features.embedding import FeatureEmbedding

        return FeatureEmbedding
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
