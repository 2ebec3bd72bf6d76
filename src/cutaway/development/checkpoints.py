"""The checkpoints of a training run: local folders, or revisions of a hub repository, in the order of their steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from cutaway.core import InputError

_STEP = re.compile(r"(?:step|checkpoint|ckpt|iter)[-_]?0*(\d+)(?:\D|$)|^0*(\d+)$", re.IGNORECASE)


@dataclass(frozen=True)
class Checkpoint:
    """One moment of training. `source`: a folder, or `repository@revision`."""

    step: int
    label: str
    source: str


def _open_model(checkpoint: Checkpoint) -> Any:
    from cutaway.model import load

    source = checkpoint.source
    if "@" in source and not Path(source).exists():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        repository, revision = source.split("@", 1)
        try:
            # Weights as safetensors alone: a repository may hold the same in three formats.
            source = snapshot_download(
                repository, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
            )
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
            raise InputError(
                f"revision {revision!r} of {repository!r} is neither in the local cache nor to be had: {error}"
            ) from error
    return load(source, tokenizer=_tokenizer_above(Path(source)))


def _tokenizer_above(folder: Path) -> Any:
    """The tokenizer that lies beside the checkpoints, or in the model's folder around them, for a checkpoint that has
    none of its own; None where it has, or none is there."""
    if any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        return None
    for above in list(folder.resolve().parents)[:2]:
        if (above / "tokenizer.json").is_file():
            from transformers import AutoTokenizer

            return AutoTokenizer.from_pretrained(above)
    return None


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints in order, and how one is opened (a model; or with another `opener` any module)."""

    name: str
    items: tuple[Checkpoint, ...]
    opener: Callable[[Checkpoint], Any] = field(default=_open_model, compare=False)

    def __len__(self) -> int:
        return len(self.items)

    def open(self, checkpoint: Checkpoint, like: dict[str, tuple[int, ...]] | None = None) -> Any:
        """The model of a checkpoint. Raises InputError where it cannot be read, or its shapes are not `like` those of
        the first."""
        from safetensors import SafetensorError

        try:
            subject = self.opener(checkpoint)
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError, EOFError) as error:
            raise InputError(f"checkpoint {checkpoint.label} ({checkpoint.source}) cannot be read: {error}") from error
        if like is not None and (own := shapes(subject)) != like:
            differ = sorted(name for name in {*own, *like} if own.get(name) != like.get(name))
            name = differ[0]
            raise InputError(
                f"{checkpoint.label} is another architecture than the first checkpoint: {name} is {own.get(name)} "
                f"there and {like.get(name)} in the first ({len(differ)} parameters differ). One run a timeline."
            )
        return subject


def module_of(subject: Any) -> nn.Module:
    """The module of a model, or the module itself."""
    module: nn.Module = getattr(subject, "hf", subject)
    return module


def shapes(subject: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module_of(subject).named_parameters()}


def find_checkpoints(
    where: str | Path | Sequence[str | Path],
    opener: Callable[[Checkpoint], Any] | None = None,
    every: int = 1,
) -> Checkpoints:
    """Checkpoints of a folder (its subfolders `step-000100`, `checkpoint-100`, …, or a folder `checkpoints/` in it), of
    a list of folders, of a shipped model by name, or of hub revisions (`repo@step0,step512,step1000`).

    every: only each so-many-th, the last always. Raises InputError: nothing found, one checkpoint alone, a name
    without a step, two checkpoints of one step.
    """
    if isinstance(where, (str, Path)):
        name, sources = _sources(str(where))
    else:
        name, sources = "checkpoints", [str(one) for one in where]
    found = []
    for source in sources:
        label = source.rsplit("@", 1)[1] if "@" in source and not Path(source).exists() else Path(source).name
        match = _STEP.search(label)
        if match is None:
            raise InputError(
                f"no step in the name {label!r}; checkpoints are named like step-000100 or checkpoint-100."
            )
        found.append(Checkpoint(int(next(part for part in match.groups() if part is not None)), label, source))
    found.sort(key=lambda checkpoint: checkpoint.step)
    steps = [checkpoint.step for checkpoint in found]
    if len(set(steps)) < len(steps):
        twice = next(step for step in steps if steps.count(step) > 1)
        raise InputError(f"two checkpoints of step {twice} in {name}.")
    if len(found) < 2:
        raise InputError(
            f"a timeline needs at least two checkpoints; {name} has {len(found)}. Train with checkpoints, or name a "
            "folder that holds several (step-000100/, …)."
        )
    if every > 1:
        found = [c for i, c in enumerate(found) if i % every == 0 or i == len(found) - 1]
    return Checkpoints(name, tuple(found), opener or _open_model)


def _sources(where: str) -> tuple[str, list[str]]:
    from cutaway.core.registry import shipped_models

    path = Path(where)
    if not path.is_dir() and where in shipped_models():
        path = shipped_models()[where] / "checkpoints"
        if not path.is_dir():
            raise InputError(
                f"no checkpoints of {where} are here: they lie in the project's repository, not its wheel."
            )
        return where, _folders(path)
    if path.is_dir():
        if (path / "checkpoints").is_dir():
            path = path / "checkpoints"
        found = _folders(path)
        if not found:
            raise InputError(_why_none(path))
        return path.name if path.name != "checkpoints" else path.parent.name, found
    if "@" in where:
        repository, revisions = where.split("@", 1)
        return repository, [f"{repository}@{one.strip()}" for one in revisions.split(",") if one.strip()]
    raise InputError(
        f"no checkpoints at {where!r}: name a folder of step-… folders, a shipped model, or repo@revision,revision."
    )


def _folders(path: Path) -> list[str]:
    return [str(p) for p in _named(path) if any(p.glob("*.safetensors"))]


def _named(path: Path) -> list[Path]:
    inside = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    return [p for p in inside if _STEP.search(p.name)]


def _why_none(path: Path) -> str:
    """What a folder without checkpoints holds instead."""
    if named := _named(path):
        pickled = any(p.glob(pattern) for p in named for pattern in ("*.bin", "*.pt", "*.pth"))
        held = "only pickled weights, which are not opened: save them as safetensors" if pickled else "no weights"
        return f"{path} has {len(named)} folders named like checkpoints ({named[0].name}, …), and in them {held}."
    if any(path.glob("*.safetensors")):
        return (
            f"{path} is one checkpoint, not several: name the folder that holds the training's checkpoints as "
            "subfolders (step-000100/, checkpoint-100/, …)."
        )
    inside = sorted(p.name for p in path.iterdir())[:5]
    return (
        f"{path} holds no checkpoints (subfolders step-000100/, checkpoint-100/, …, with safetensors in them); in it: "
        f"{', '.join(inside) or 'nothing'}."
    )
