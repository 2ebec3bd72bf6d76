"""Tasks: clean and counterfactual prompts aligned token by token, answers, named positions and a metric.

`task` makes those of the literature for any model or tokenizer; `Task.from_pairs`, `Task.from_csv`, … one's own.
"""

from cutaway.tasks.checks import TaskWarning
from cutaway.tasks.items import Item
from cutaway.tasks.make import task
from cutaway.tasks.metrics import METRICS, Metric
from cutaway.tasks.task import Task

__all__ = ["METRICS", "Item", "Metric", "Task", "TaskWarning", "task"]
