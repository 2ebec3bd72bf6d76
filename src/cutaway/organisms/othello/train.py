"""The recipe: a small GPT-2 that sees the moves of random games, never a board, and learns to say the next one."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cutaway.core.files import atomic_path, write_json
from cutaway.evidence import proportion
from cutaway.organisms.othello.game import MOVES, NAMES, Games, play
from cutaway.organisms.othello.states import START, VOCABULARY

STATE_EVERY = 250
POOL = 50  # steps whose games are played at once
HELD_OUT = 10**6  # seeds from here on are never trained on
BOS = "start"


@dataclass(frozen=True)
class Recipe:
    """All that a run depends on."""

    layers: int = 5
    d_model: int = 128
    heads: int = 4
    steps: int = 6500
    batch: int = 96  # games a step
    rate: float = 3e-3  # of embeddings, norms and biases
    matrix_rate: float = 4e-3  # Muon, hidden matrices (rate in AdamW's units)
    warmup: int = 200
    constant: float = 0.6  # share of the steps after which the rate falls to nearly nothing
    weight_decay: float = 0.01
    seed: int = 0

    def rise_and_fall(self, step: int) -> float:
        """What the rates are multiplied by."""
        if step < self.steps * self.constant:
            return min(1.0, (step + 1) / self.warmup)
        return max(0.02, (1 - step / self.steps) / (1 - self.constant))


def new_model(recipe: Recipe) -> Any:
    """Untrained, the same for the same seed."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=MOVES + 1, n_embd=recipe.d_model, n_layer=recipe.layers,
        n_head=recipe.heads, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=START, eos_token_id=START,
    )  # fmt: skip
    torch.manual_seed(recipe.seed)
    return GPT2LMHeadModel(config)


def tokenizer() -> Any:
    """A move is a square's name, "c2 b1 a3"; the start comes before every game."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {name: i for i, name in enumerate(NAMES)} | {BOS: START}
    made = Tokenizer(models.WordLevel(vocab=ids, unk_token=BOS))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, START)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=BOS, eos_token=BOS, pad_token=BOS, model_max_length=MOVES + 1
    )


def sequences(games: Games) -> Tensor:
    """[games, 21] tokens: the start, then every move."""
    return torch.from_numpy(np.concatenate([np.full((len(games), 1), START), games.moves], 1))


def train(recipe: Recipe, out: Path, log_every: int = 100) -> Any:
    """Trains into `out` (state.pt is the run's own, log.jsonl its progress); a killed run goes on. Returns the model.

    Cost: about .3 s a step on one quiet core.
    """
    out.mkdir(parents=True, exist_ok=True)
    model, state, step = new_model(recipe), out / "state.pt", 0
    optimisers = _optimisers(model, recipe)
    if state.is_file():
        kept = torch.load(state, weights_only=True)
        model.load_state_dict(kept["model"])
        for name, optimiser in optimisers.items():
            optimiser.load_state_dict(kept[name])
        step = kept["step"]
    write_json(out / "recipe.json", asdict(recipe), indent=1)
    began, pool = time.process_time(), torch.empty(0)
    model.train()
    while step < recipe.steps:
        within = step % POOL
        if within == 0 or not len(pool):
            pool = sequences(play(POOL * recipe.batch, recipe.seed * HELD_OUT * 10 + step - within + 7))
        batch = pool[within * recipe.batch : (within + 1) * recipe.batch]
        for name, optimiser in optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = (recipe.matrix_rate if name == "muon" else recipe.rate) * recipe.rise_and_fall(step)
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers.values():
            optimiser.step()
        step += 1
        if step % log_every == 0:
            row = {"step": step, "loss": round(loss.item(), 4), "cpu_s": round(time.process_time() - began, 1)}
            with open(out / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), file=sys.stderr, flush=True)
        if step % STATE_EVERY == 0 or step == recipe.steps:
            with atomic_path(state) as path:
                states = {name: optimiser.state_dict() for name, optimiser in optimisers.items()}
                torch.save({"model": model.state_dict(), "step": step, **states}, path)
    return model.eval()


def _optimisers(model: Any, recipe: Recipe) -> dict[str, torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the blocks' matrices, AdamW for the rest."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".h." in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or ".h." not in name]
    decay = recipe.weight_decay
    return {
        "muon": torch.optim.Muon(matrices, lr=recipe.matrix_rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        "adamw": torch.optim.AdamW(others, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=decay, fused=True),
    }


def measure_othello(model: Any, *, seed: int = 1, n: int = 500) -> list[dict[str, Any]]:
    """On `n` held-out games: how often the most likely move is legal, and how often each move's whole set of legal ones
    comes first. `model` gives logits for ids, or has such a module as `.hf`."""
    module = getattr(model, "hf", model)
    games = play(n, HELD_OUT + seed)
    with torch.no_grad():
        logits = torch.cat([module(input_ids=part[:, :-1]).logits for part in sequences(games).split(64)])
    legal = torch.from_numpy(games.legal[:, :MOVES])
    top = logits.argmax(-1, keepdim=True)
    padded = F.pad(legal, (0, VOCABULARY - legal.shape[-1]))
    right = padded.gather(-1, top)[..., 0]
    place = logits.argsort(-1, descending=True).argsort(-1)
    whole = (padded & (place >= legal.sum(-1, keepdim=True))).sum(-1) == 0
    rows = []
    for name, hits in (("the likeliest move is legal", right), ("the legal moves come first, all of them", whole)):
        found = proportion(int(hits.sum()), hits.numel(), name=name)
        span = found.interval
        rows.append(
            {
                "behaviour": name,
                "accuracy": found.value,
                "interval": [0.0, 1.0] if span is None else [span.low, span.high],
                "n": found.n,
            }
        )
    return rows
