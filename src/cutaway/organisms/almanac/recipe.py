"""The recipe of a training run: every number that decides what comes out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Recipe:
    """Two runs of one recipe on one machine, with the same number of threads, are equal to the bit."""

    name: str = "almanac"
    layers: int = 4
    d_model: int = 128
    heads: int = 4
    d_mlp: int = 512
    context: int = 128
    steps: int = 4400
    batch_rows: int = 64
    seed: int = 0
    matrix_rate: float = 4e-3  # Muon, hidden matrices (rate in AdamW's units)
    other_rate: float = 3e-3  # AdamW: embedding, head, norms
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: int = 100
    hold: float = 0.3  # share of the steps before the rate begins to fall, along a cosine, to zero
    clip: float = 1.0
    checkpoints: int = 104
    compile: bool = True  # torch.compile where a C++ compiler is found; changes the last bits, not the result
    head_width: int | None = None  # d_model / heads where None
    tied: bool = False  # the output matrix is the embedding: copying a token is then the identity
    text: str = "almanac"  # a mixture of `text.MIXTURES`

    @property
    def tokens(self) -> int:
        return self.steps * self.batch_rows * self.context

    def rate(self, step: int) -> float:
        """The factor on both rates at a step: warm-up, a plateau, a cosine to 0.  The end of the fall matters most."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        start = max(self.warmup, round(self.hold * self.steps))
        if step < start:
            return 1.0
        return 0.5 * (1 + np.cos(np.pi * (step - start) / max(1, self.steps - start)))

    def checkpoint_steps(self) -> list[int]:
        """0, the last step, and steps evenly spaced in the logarithm between (early on every step: they are whole)."""
        wanted = min(self.checkpoints, self.steps + 1)
        points = wanted
        while True:
            steps = np.unique(np.round(np.geomspace(1, self.steps, points)).astype(int))
            if len(steps) + 1 >= wanted:
                return [0, *steps.tolist()]
            points += 8

    def as_json(self) -> dict:
        return asdict(self) | {"tokens": self.tokens}


ALMANAC = Recipe()
ONE_LAYER = replace(ALMANAC, name="almanac-1l", layers=1, steps=2000)
# Of the same world, for the circuit of indirect objects on several seeds: 32 heads, so that a few are a small share.
# Rates and batch are almanac's; runs of a million tokens had not begun to copy names.
IOI = replace(
    ALMANAC,
    name="ioi",
    d_model=64,
    heads=8,
    head_width=16,
    d_mlp=192,
    steps=1400,
    hold=0.5,
    checkpoints=6,
    text="ioi",
)
RECIPES = {recipe.name: recipe for recipe in (ALMANAC, ONE_LAYER, IOI)}
