"""Where a training run is: all that its next step depends on, written whole, so that a killed run ends bit-equal.

In OUT/training:

    settings.json   settings, fingerprint of the model, hash of the rows, threads; a change refuses to resume
    checkpoint/     state.safetensors (parameters, Adam, counts), state.json (step, cursor of the stream)
    log.jsonl       a line every few steps; lines past the checkpoint are cut off on resume

The checkpoint goes when the run has ended; the same call then gives what was made.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cutaway.core import InputError, atomic_folder, read_json, write_json
from cutaway.core.files import write_text
from cutaway.features.settings import TrainSettings

SCHEMA = "cutaway.training/1"


def identity(settings: TrainSettings, model: nn.Module, data: bytes) -> dict[str, Any]:
    """What a run is of: a checkpoint goes on only where all of this is the same. data: the rows of text, or the index
    of the shards, which has the hash of each."""
    return {
        "schema": SCHEMA,
        "settings": settings.to_json(),
        "model": fingerprint(model),
        "rows": hashlib.sha256(data).hexdigest()[:16],
    }


@torch.no_grad()
def fingerprint(module: nn.Module) -> str:
    """Of a model's weights: 16 hexadecimal digits of a SHA-256 over names, shapes and values in float32."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}{list(value.shape)}".encode())
        digest.update(value.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def claim(folder: Path, who: dict[str, Any], resume: bool) -> bool:
    """Take a folder for a run. True where there is a checkpoint of the same run to go on from.

    Raises `InputError` where another run's checkpoint lies there, naming what differs.
    """
    mark = folder / "settings.json"
    if mark.exists() and not resume:
        shutil.rmtree(folder)
    if not mark.exists():
        write_json(mark, {**who, "threads": torch.get_num_threads()}, indent=1)
        return False
    found = read_json(mark)
    changed = _differences({key: found.get(key) for key in who}, who)
    if changed:
        raise InputError(
            f"{folder} holds a run with other settings ({'; '.join(changed[:4])}). "
            "Resume with the same ones, or give another folder (or resume=False to start anew)."
        )
    if (folder / "checkpoint").exists() and found.get("threads") != torch.get_num_threads():
        print(
            f"note: this run was begun with {found.get('threads')} threads and goes on with {torch.get_num_threads()}; "
            "its last bits may differ from those of an unbroken one.",
            file=sys.stderr,
        )
    return (folder / "checkpoint" / "state.json").exists()


def save(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint in the place of the last; a kill at any moment leaves one of the two."""
    with atomic_folder(folder / "checkpoint") as path:
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path / "state.safetensors"
        )
        write_json(path / "state.json", dict(state))


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    path = folder / "checkpoint"
    return load_file(path / "state.safetensors"), read_json(path / "state.json")


def finish(folder: Path) -> None:
    """Mark a run as ended: its results are written, and what it would go on from is dropped."""
    write_json(folder / "settings.json", {**read_json(folder / "settings.json"), "finished": True}, indent=1)
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def finished(folder: Path) -> bool:
    return (folder / "settings.json").exists() and bool(read_json(folder / "settings.json").get("finished"))


def trim_log(path: Path, step: int) -> None:
    """Keep the log's lines up to a step."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (json.JSONDecodeError, KeyError):
            break  # the line that a kill cut
    write_text(path, "".join(f"{line}\n" for line in kept))


def _differences(old: Any, new: Any, at: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [d for key in keys for d in _differences(old.get(key), new.get(key), f"{at}.{key}" if at else str(key))]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [d for i, (a, b) in enumerate(zip(old, new)) for d in _differences(a, b, f"{at}[{i}]")]
    return [] if old == new else [f"{at} was {old!r}, now {new!r}"]
