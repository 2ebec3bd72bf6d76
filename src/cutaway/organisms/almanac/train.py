"""The trainer: from a seed to a model, with log-spaced checkpoints; a killed run goes on bit-exactly.

out/model/                   the finished model (Hugging Face format, with its tokenizer)
out/checkpoints/step-000000/ half-precision weights, config and tokenizer
out/text.npy                 the training rows, int16 [rows, 128]
out/state.safetensors        weights, optimiser state and step, rewritten every two minutes
out/log.jsonl, out/recipe.json
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cutaway.core.files import atomic_folder, atomic_path, refuse_foreign
from cutaway.core.progress import without_bars

from .recipe import ALMANAC, ONE_LAYER, Recipe

STATE_EVERY_S = 120
LOG_EVERY = 20


def train_almanac(
    out: str | Path, *, seed: int = 0, one_layer: bool = False, recipe: Recipe | None = None, **changes: Any
) -> Path:
    """Trains almanac (or its one-layer sibling) from a seed into `out`, and returns it.

    Run again on the same folder it goes on from the last state.  About 40 minutes on two cores (10 for the sibling).
    `changes` replace single numbers of the recipe; TypeError where the recipe has no such number.
    """
    from dataclasses import replace

    base = recipe or (ONE_LAYER if one_layer else ALMANAC)
    return train(replace(base, seed=seed, **changes), Path(out))


# ---------------------------------------------------------------- files
def save_folder(model: Any, tokenizer: Any, folder: Path, half: bool) -> None:
    """A Hugging Face folder, complete or absent.

    `half` stores the weights in float16; the config still says float32, so that they are computed with in float32.
    """
    with atomic_folder(folder) as temporary:
        _write_model(model, tokenizer, temporary, half)


def own_state(model: Any) -> dict[str, Any]:
    """The state without the output matrix where that is the embedding: no file holds a tensor twice."""
    tied = model.config.tie_word_embeddings
    return {k: v for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}


def _write_model(model: Any, tokenizer: Any, folder: Path, half: bool) -> None:
    state = {k: v.half() if half else v.float() for k, v in own_state(model).items()}
    with without_bars():
        model.save_pretrained(folder, state_dict=state, save_original_format=False)
    config = json.loads((folder / "config.json").read_text())
    config.pop("transformers_version", None)  # the same recipe writes the same bytes
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors makes its files private


def finish(model: Any, tokenizer: Any, out: Path) -> None:
    """Puts the finished model's files into `out`, config.json last: a folder that has one is a whole model."""
    with tempfile.TemporaryDirectory(dir=out, prefix=".finished.") as temporary:
        _write_model(model, tokenizer, Path(temporary), half=False)
        for file in sorted(Path(temporary).iterdir(), key=lambda f: f.name == "config.json"):
            os.replace(file, out / file.name)


def training_rows(recipe: Recipe, path: Path) -> np.ndarray:
    """The run's text as a memory map [rows, context], made once (20 s for 40 M tokens)."""
    from .text import CHUNK_ROWS, CONTEXT, chunk

    n = recipe.steps * recipe.batch_rows
    step = CHUNK_ROWS * CONTEXT // recipe.context
    if not path.exists():
        with atomic_path(path) as temporary:
            rows = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.int16, shape=(n, recipe.context))
            for index, begin in enumerate(range(0, n, step)):
                made = chunk(index, recipe.seed, mixture=recipe.text).reshape(-1, recipe.context)
                rows[begin : begin + step] = made[: n - begin]
                print(f"\rtext: {min(n, begin + step):,} of {n:,} rows", end="", file=sys.stderr, flush=True)
            print(file=sys.stderr)
            rows.flush()
    rows = np.load(path, mmap_mode="r")
    if rows.shape != (n, recipe.context):
        raise ValueError(
            f"{path} holds {rows.shape} rows, the recipe asks for {(n, recipe.context)}; remove it or use a new folder"
        )
    return rows


# ---------------------------------------------------------------- model and optimisers
def new_model(recipe: Recipe) -> Any:
    """An untrained LlamaForCausalLM in float32, the same for the same seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from cutaway.tasks.small_world.vocabulary import BOS, PAD_TOKEN, token_ids

    ids = token_ids()
    config = LlamaConfig(
        vocab_size=len(ids),
        hidden_size=recipe.d_model,
        intermediate_size=recipe.d_mlp,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        head_dim=recipe.head_width or recipe.d_model // recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=recipe.tied,
        bos_token_id=ids[BOS],
        eos_token_id=ids[BOS],
        pad_token_id=ids[PAD_TOKEN],
        use_cache=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return LlamaForCausalLM(config).float()


class Rates(Protocol):
    @property
    def matrix_rate(self) -> float: ...
    @property
    def other_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...


def make_optimisers(model: Any, recipe: Rates) -> dict[str, Any]:
    """Muon (Jordan et al. 2024) for the hidden matrices that train, AdamW for the embedding, the head and the norms."""
    import torch

    matrices, others = [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        hidden = parameter.ndim == 2 and "embed_tokens" not in name and "lm_head" not in name
        (matrices if hidden else others).append(parameter)
    return {
        "muon": torch.optim.Muon(
            matrices, lr=recipe.matrix_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        "adamw": torch.optim.AdamW(others, lr=recipe.other_rate, betas=recipe.betas, weight_decay=recipe.weight_decay),
    }


def _named_state(model: Any, optimisers: dict[str, Any]) -> Iterator[tuple[str, dict, str, Any]]:
    """(key, the optimiser's own dictionary, its field, the tensor) for every tensor of the optimisers' state."""
    names = {id(p): name for name, p in model.named_parameters()}
    for kind, optimiser in optimisers.items():
        for parameter, state in optimiser.state.items():
            for entry, tensor in state.items():
                yield f"{kind}/{names[id(parameter)]}/{entry}", state, entry, tensor


def save_state(path: Path, step: int, model: Any, optimisers: dict[str, Any], recipe: Recipe) -> None:
    """Everything a run needs to go on as though it had never stopped; the data position is the step."""
    from safetensors.torch import save_file

    tensors = {f"model/{k}": v.contiguous() for k, v in own_state(model).items()}
    tensors |= {key: tensor.contiguous() for key, _, _, tensor in _named_state(model, optimisers)}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"step": str(step), "recipe": json.dumps(recipe.as_json())})


def load_state(path: Path, model: Any, optimisers: dict[str, Any], recipe: Recipe) -> int:
    """Restores what `save_state` wrote; returns the step.  ValueError where the state is another recipe's."""
    from safetensors import safe_open

    parameters = dict(model.named_parameters())
    with safe_open(path, framework="pt") as f:
        meta = f.metadata()
        if json.loads(meta["recipe"]) != json.loads(json.dumps(recipe.as_json())):
            raise ValueError(
                f"{path} belongs to another recipe than the one asked for; use a new folder or the same settings"
            )
        stored = list(f.keys())
        state = {k.removeprefix("model/"): f.get_tensor(k) for k in stored if k.startswith("model/")}
        model.load_state_dict(state, strict=not model.config.tie_word_embeddings)
        for key in stored:
            kind, name, *entry = key.split("/")
            if kind in optimisers:
                optimisers[kind].state[parameters[name]][entry[0]] = f.get_tensor(key)
    return int(meta["step"])


# ---------------------------------------------------------------- the loop
def compiled(model: Any) -> Any:
    """The model compiled where there is a C++ compiler (1.6 times faster on two cores), else as it is."""
    import torch

    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")):
        print("no C++ compiler found: training without torch.compile, 1.6 times slower", file=sys.stderr)
        return model
    return torch.compile(model)


def loss_of(model: Any, tokens: Any) -> Any:
    """Mean next-token cross-entropy of rows [batch, 128], in nats; matrix products in bfloat16, the loss in float32."""
    import torch

    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=tokens, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), tokens[:, 1:].flatten())


def train(recipe: Recipe, out: Path, exam_every: int = 250, exam_items: int = 100) -> Path:
    """Runs a recipe into a folder; see the module's docstring for what it leaves there."""
    import torch

    from .behaviours import behaviours_in, measure_behaviours
    from .tokenizer import build_tokenizer

    refuse_foreign(out, "recipe.json")
    out.mkdir(parents=True, exist_ok=True)
    (out / "checkpoints").mkdir(exist_ok=True)
    with atomic_path(out / "recipe.json") as temporary:
        temporary.write_text(json.dumps(recipe.as_json(), indent=2) + "\n")
    rows = training_rows(recipe, out / "text.npy")
    tokenizer = build_tokenizer()
    model = new_model(recipe)
    optimisers = make_optimisers(model, recipe)
    state_file = out / "state.safetensors"
    # At 128 tokens plain attention is faster than the fused kernel, whose backward alone took a third of a step.
    model.set_attn_implementation("eager")
    forward = compiled(model) if recipe.compile else model
    begin = load_state(state_file, model, optimisers, recipe) if state_file.exists() else 0
    wanted, names = set(recipe.checkpoint_steps()), behaviours_in(recipe.text)
    base = {"muon": recipe.matrix_rate, "adamw": recipe.other_rate}
    model.train()
    recent: list[float] = []
    started = saved = marked = time.time()
    marked_step = begin

    for step in range(begin, recipe.steps + 1):
        if step in wanted:
            save_folder(model, tokenizer, out / "checkpoints" / f"step-{step:06d}", half=True)
        if step == recipe.steps:
            break
        for kind, optimiser in optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = base[kind] * recipe.rate(step)
        batch = rows[step * recipe.batch_rows : (step + 1) * recipe.batch_rows]
        loss = loss_of(forward, torch.from_numpy(batch.astype(np.int64)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for optimiser in optimisers.values():
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if not np.isfinite(recent[-1]):
            raise FloatingPointError(f"the loss is {recent[-1]} at step {step}; lower the rates")
        done = step + 1
        if done % LOG_EVERY == 0 or done == recipe.steps:
            now = time.time()
            speed = (done - marked_step) * recipe.batch_rows * recipe.context / (now - marked)
            left = (recipe.steps - done) * recipe.batch_rows * recipe.context / speed / 60
            marked, marked_step = now, done
            _log(
                out,
                {
                    "step": done,
                    "loss": round(float(np.mean(recent)), 4),
                    "rate": recipe.rate(step),
                    "tokens_per_s": round(speed),
                },
            )
            recent.clear()
            line = f"step {done:>6}/{recipe.steps}  loss {loss.item():.4f}  {speed:,.0f} tokens/s  {left:.1f} min left"
            print(line, file=sys.stderr, flush=True)
        if exam_every and done % exam_every == 0:
            scores = {
                s.behaviour: round(s.accuracy, 3) for s in measure_behaviours(model, seed=99, n=exam_items, names=names)
            }
            _log(out, {"step": done, "held_out": scores, "seconds": round(time.time() - started)})
            print("  held out: " + "  ".join(f"{k} {v:.2f}" for k, v in scores.items()), file=sys.stderr, flush=True)
        if time.time() - saved > STATE_EVERY_S:
            save_state(state_file, done, model, optimisers, recipe)
            saved = time.time()

    save_state(state_file, recipe.steps, model, optimisers, recipe)
    model.eval()
    finish(model, tokenizer, out)
    return out


def _log(out: Path, record: dict) -> None:
    with open(out / "log.jsonl", "a") as f:
        f.write(json.dumps(record) + "\n")
