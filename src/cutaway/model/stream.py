"""Many prompts in batches, one run after another, with what is read kept small or written to disk."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from cutaway.core import InputError, atomic_path
from cutaway.model.interventions import Intervention
from cutaway.model.progress import Progress
from cutaway.model.reduce import wanted
from cutaway.model.tokens import Side

if TYPE_CHECKING:
    from cutaway.model.model import Model
    from cutaway.model.run import Run

TOKENS = "tokens.safetensors"


def stream(
    model: Model,
    prompts: Iterable[Any],
    read: Sequence[Any] | Mapping[Any, Any] | str,
    *,
    batch: int = 16,
    interventions: Sequence[Intervention] = (),
    logits: bool = False,
    stop_after: int | str | None = None,
    padding: Side = "right",
    progress: bool | None = None,
) -> Iterator[Run]:
    """A run for each `batch` of prompts (texts, or lists of ids), in their order; nothing of a run is held after it.

    `read` as in `model.run`; what it writes to disk (`cw.reduce(to=folder)`) goes to a numbered folder a batch, the
    tokens beside it, and `Shards(folder)` reads it back. Without `logits` each forward stops after what is read.
    Progress goes to stderr after a few seconds. Raises InputError for a folder that holds something already.
    """
    if batch < 1:
        raise InputError(f"batch= is a number of prompts, at least 1; given {batch}.")
    how = wanted(read)
    folders = {r.to for r in how.values() if r is not None and r.to is not None}
    for folder in folders:
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty; name a new folder for these reads.")
    total = float(len(prompts)) if isinstance(prompts, (Sequence, Tensor)) else float("nan")
    items = iter(prompts)
    with Progress(total, "reading", "prompts", progress) as shown:
        for number in itertools.count():
            some = [x.tolist() if isinstance(x, Tensor) else x for x in itertools.islice(items, batch)]
            if not some:
                return
            part = f"{number:06}"
            run = model.run(
                some,
                {pattern: None if r is None else r.into(part) for pattern, r in how.items()},
                interventions,
                logits=logits,
                stop_after=stop_after,
                padding=padding,
            )
            for folder in folders:
                with atomic_path(folder / part / TOKENS) as path:
                    save_file({"ids": run.tokens.cpu().contiguous(), "mask": run.mask.cpu().contiguous()}, path)
            yield run
            shown.step(len(some))


class Shards:
    """What `stream` wrote: `shards["resid_post.3"]` is a list of one tensor a batch, mapped from its file."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.parts = sorted(p.parent for p in self.folder.glob(f"*/{TOKENS}"))
        if not self.parts:
            raise InputError(f"{folder} holds no reads (a stream with cw.reduce(to=…) writes them).")

    @property
    def addresses(self) -> tuple[str, ...]:
        files = (p.name.removesuffix(".safetensors") for p in self.parts[0].glob("*.safetensors") if p.name != TOKENS)
        return tuple(sorted(files))

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, address: str) -> list[Tensor]:
        if address not in self.addresses:
            raise InputError(f"{self.folder} holds no {address}; there are: {', '.join(self.addresses)}.")
        return [_mapped(part / f"{address}.safetensors", "values") for part in self.parts]

    def tokens(self) -> list[tuple[Tensor, Tensor]]:
        """(ids, mask), each [batch, position], of each batch."""
        return [(_mapped(part / TOKENS, "ids"), _mapped(part / TOKENS, "mask")) for part in self.parts]

    def cat(self, address: str) -> Tensor:
        """All batches as one tensor in memory, for reads that have no positions left."""
        return torch.cat(self[address])


def _mapped(path: Path, name: str) -> Tensor:
    with safe_open(path, framework="pt") as file:
        found: Tensor = file.get_tensor(name)
    return found
