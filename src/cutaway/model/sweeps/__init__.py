"""Sweeps: many independent interventions measured by one metric, planned into few batched forwards."""

from cutaway.model.sweeps.metric import LogitDifference
from cutaway.model.sweeps.plan import Plan, plan

__all__ = ["LogitDifference", "Plan", "plan"]
