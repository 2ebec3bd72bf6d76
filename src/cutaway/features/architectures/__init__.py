"""Architectures by name: one small file each, behind one interface (base.py); one more is one more file and a row."""

from cutaway.features.architectures.base import Architecture, At
from cutaway.features.architectures.batchtopk import BatchTopK, Matryoshka
from cutaway.features.architectures.gated import Gated
from cutaway.features.architectures.jumprelu import JumpReLU
from cutaway.features.architectures.matching_pursuit import MatchingPursuit
from cutaway.features.architectures.p_anneal import PAnneal
from cutaway.features.architectures.relu import ReLU
from cutaway.features.architectures.topk import TopK

ARCHITECTURES: dict[str, Architecture] = {
    "relu": ReLU(),
    "gated": Gated(),
    "topk": TopK(),
    "batchtopk": BatchTopK(),
    "jumprelu": JumpReLU(),
    "matryoshka": Matryoshka(),
    "p_anneal": PAnneal(),
    "matching_pursuit": MatchingPursuit(),
}

__all__ = ["ARCHITECTURES", "Architecture", "At"]
