"""Cutaway opens a neural network, shows what it did to produce its output, and how far to believe what it shows."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as typing has it, without its 40 ms: nothing heavy before the command line can be interrupted
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

# Name -> room. Imported on first use, so that `import cutaway` and `cutaway --help` stay light.
_FRONT = {
    "load": "cutaway.model",
    "load_module": "cutaway.model",
    "Model": "cutaway.model",
    "Run": "cutaway.model",
    "Intervention": "cutaway.model",
    "zero": "cutaway.model",
    "mean": "cutaway.model",
    "resample": "cutaway.model",
    "rewrite": "cutaway.model",
    "patch": "cutaway.model",
    "add": "cutaway.model",
    "scale": "cutaway.model",
    "project_out": "cutaway.model",
    "interchange": "cutaway.model",
    "splice": "cutaway.model",
    "knock_out": "cutaway.model",
    "clamp_features": "cutaway.model",
    "ablate_features": "cutaway.model",
    "scale_features": "cutaway.model",
    "integrated_gradients": "cutaway.model",
    "jvp": "cutaway.model",
    "vjp": "cutaway.model",
    "freeze": "cutaway.model",
    "reduce": "cutaway.model",
    "Shards": "cutaway.model",
    "sweep": "cutaway.model",
    "Sweep": "cutaway.model",
    "plan": "cutaway.model",
    "Plan": "cutaway.model",
    "pairs": "cutaway.model",
    "LogitDifference": "cutaway.model",
    "task": "cutaway.tasks",
    "Task": "cutaway.tasks",
    "discover": "cutaway.circuits",
    "Circuit": "cutaway.circuits",
    "lens": "cutaway.readouts",
    "direct_effects": "cutaway.readouts",
    "head_scores": "cutaway.readouts",
    "probe": "cutaway.readouts",
    "steer": "cutaway.steering",
    "align": "cutaway.abstraction",
    "align_sweep": "cutaway.abstraction",
    "scrub": "cutaway.abstraction",
    "CausalModel": "cutaway.abstraction",
    "subspace": "cutaway.abstraction",
    "Alignment": "cutaway.abstraction",
    "look": "cutaway.vision",
    "visualise": "cutaway.vision",
    "trace": "cutaway.graphs",
    "AttributionGraph": "cutaway.graphs",
    "calibrated_llc": "cutaway.development",
    "timeline": "cutaway.development",
    "Evidence": "cutaway.core",
}

__all__ = ["__version__", *_FRONT]  # noqa: PLE0604 - strings, all of them


def __getattr__(name: str) -> Any:
    if name in _FRONT:
        return getattr(importlib.import_module(_FRONT[name]), name)
    if name.startswith("__"):  # Python's own questions
        raise AttributeError(f"module 'cutaway' has no attribute {name!r}")
    from cutaway.core.errors import unknown

    raise AttributeError(f"module 'cutaway': {unknown('name', name, _FRONT)}")


def __dir__() -> list[str]:
    return sorted(__all__)  # what a tab completes: no imports of this file
