"""Networks trained to be a program: by strict interchange intervention training, from compiled programs."""

from cutaway.toys.siit.network import Network, fresh
from cutaway.toys.siit.report import Report, make
from cutaway.toys.siit.score import Score, score
from cutaway.toys.siit.train import Settings, Trained, train

__all__ = ["Network", "Report", "Score", "Settings", "Trained", "fresh", "make", "score", "train"]
