"""How a model came to be: its checkpoints, its learning coefficient, the stages of its training."""

__all__: list[str] = []
