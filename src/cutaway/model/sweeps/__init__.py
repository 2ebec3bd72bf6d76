"""Sweeps: many independent interventions measured by one metric, planned into few batched forwards.

`sweep` changes every part of a point by itself on a task; `plan` takes any cells.
"""

from cutaway.model.sweeps.metric import LogitDifference
from cutaway.model.sweeps.pairs import Pairs, pairs
from cutaway.model.sweeps.plan import Plan, plan
from cutaway.model.sweeps.result import Sweep
from cutaway.model.sweeps.sweep import sweep

__all__ = ["LogitDifference", "Pairs", "Plan", "Sweep", "pairs", "plan", "sweep"]
