"""Training the primer: from a seed to a model, its state kept as it goes; a killed run goes on."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cutaway.core.files import atomic_path, write_json
from cutaway.organisms.primer.concepts import CONCEPTS, WORDS
from cutaway.organisms.primer.model import PrimerConfig, PrimerModel, folded
from cutaway.organisms.primer.scenes import TEXTLESS, Mix, Painter

STATE_EVERY = 250


@dataclass(frozen=True)
class Recipe:
    """All that a run depends on."""

    steps: int = 3000
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    sparsity: float = 0.3  # weight of the neurons' |n|_1 / (sqrt(N) |n|_2), which scaling them does not change
    seed: int = 0
    pool: int = 150
    mix: Mix = field(default_factory=Mix)
    late: Mix = field(default_factory=lambda: Mix(word=0.24, both=0.32, noise_word=0.14, poster=0.12))
    late_steps: int = 700  # a second phase, in which some pictures bear another's name and the caption says the name
    late_rate: float = 8e-4  # its learning rate, which falls to nothing
    textless: bool = False  # no letters in any picture, and so no second phase

    @property
    def total(self) -> int:
        return self.steps + (0 if self.textless else self.late_steps)


def scene_batch(painter: Painter, recipe: Recipe, step: int = 0) -> tuple[Tensor, list[str]]:
    """(images [batch, 3, side, side], their captions) of a step."""
    mix = TEXTLESS if recipe.textless else recipe.mix if step < recipe.steps else recipe.late
    scenes = [painter.training_scene(mix) for _ in range(recipe.batch)]
    return torch.from_numpy(np.stack([s.image for s in scenes])), [s.caption for s in scenes]


def contrastive(logits: Tensor, captions: list[str]) -> Tensor:
    """CLIP's loss, with captions that are equal sharing the target. logits [n, n]."""
    index = {text: i for i, text in enumerate(dict.fromkeys(captions))}
    group = torch.tensor([index[text] for text in captions])
    target = (group[:, None] == group[None]).float()
    target = target / target.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def new_model(recipe: Recipe, **sizes: Any) -> PrimerModel:
    torch.manual_seed(recipe.seed)
    config = PrimerConfig(words=WORDS, concepts=CONCEPTS, trained_on_text_in_images=not recipe.textless, **sizes)
    return PrimerModel(config, norm=True)


def train(recipe: Recipe, out: Path, log_every: int = 50) -> PrimerModel:
    """Trains into `out` (state.pt is the run's own, log.jsonl its progress) and returns the folded model."""
    out.mkdir(parents=True, exist_ok=True)
    model = new_model(recipe)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.1
    )
    step, state = 0, out / "state.pt"
    painter = Painter(recipe.seed, recipe.pool)
    if state.is_file():
        kept = torch.load(state, weights_only=True)
        model.load_state_dict(kept["model"])
        optimiser.load_state_dict(kept["optimiser"])
        schedule.load_state_dict(kept["schedule"])
        step = kept["step"]
        painter.rng.bit_generator.state = json.loads(kept["rng"])
    write_json(out / "recipe.json", asdict(recipe), indent=1)
    began, running = time.process_time(), 0.0
    model.train()
    while step < recipe.total:
        images, captions = scene_batch(painter, recipe, step)
        neurons = model.vision_model(images.contiguous(memory_format=torch.channels_last))
        image = F.normalize(model.visual_projection(neurons), dim=-1)
        text = F.normalize(model.get_text_features(model.tokenise(captions)), dim=-1)
        logits = model.logit_scale.clamp(max=4.0).exp() * image @ text.T
        loss = contrastive(logits, captions)
        # |n|_1 / |n|_2 lies between 1 (one neuron) and sqrt(N) (all alike).
        spread = neurons.sum(-1) / (neurons.square().sum(-1) + 1e-6).sqrt() / neurons.shape[-1] ** 0.5
        total = loss + recipe.sparsity * spread.mean()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if step >= recipe.steps:
            for group in optimiser.param_groups:
                group["lr"] = recipe.late_rate * (1 - (step - recipe.steps) / recipe.late_steps)
        optimiser.step()
        if step < recipe.steps:
            schedule.step()
        step += 1
        running = loss.item() if running == 0 else 0.97 * running + 0.03 * loss.item()
        if step % log_every == 0:
            active = (neurons > 0).float().mean().item()
            row = {"step": step, "loss": round(running, 4), "active": round(active, 3),
                   "spread": round(spread.mean().item(), 4), "scale": round(model.logit_scale.exp().item(), 2),
                   "cpu_s": round(time.process_time() - began, 1)}  # fmt: skip
            with open(out / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), file=sys.stderr, flush=True)
        if step % STATE_EVERY == 0 or step in (recipe.steps, recipe.total):
            with atomic_path(state) as path:
                torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(),
                            "schedule": schedule.state_dict(), "step": step,
                            "rng": json.dumps(painter.rng.bit_generator.state)}, path)  # fmt: skip
    model.eval()
    return folded(model)
