"""Activations on disk, to train on again and again without the model: docs/shards.md is the normative page.

    FOLDER/shards.json          {schema, model, points, rows, dtype, shards [{file, sha256, n}], …}, written last
    FOLDER/shard_00000.safetensors …

A shard that is missing, cut short or altered is named, with the hash that it should have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from numpy.typing import ArrayLike
from safetensors.torch import load_file, save_file
from torch import Tensor

from cutaway.core import InputError, atomic_path, content_hash, read_json, write_json
from cutaway.core.cluster import mapped
from cutaway.features.places import Places
from cutaway.features.stream import Batch, Stream, as_rows, harvest_all

if TYPE_CHECKING:
    from cutaway.model import Model

SCHEMA = "cutaway.shards/1"
INDEX = "shards.json"
Stored = Literal["float32", "bfloat16", "int8"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Shards:
    """A folder of shards. Iterating gives {point: [n, d] float32}, a shard at a time, each checked as it is read."""

    folder: Path
    index: dict[str, Any]

    @property
    def points(self) -> list[str]:
        return list(self.index["points"])

    @property
    def n(self) -> int:
        """Activations in all."""
        return sum(int(one["n"]) for one in self.index["shards"])

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (self.read(i) for i in range(len(self.index["shards"])))

    def __len__(self) -> int:
        return len(self.index["shards"])

    def read(self, number: int) -> dict[str, Tensor]:
        """Shard `number`. Raises `InputError` where it is missing, cut short or altered, naming it and its hash."""
        one = self.index["shards"][number]
        path = self.folder / one["file"]
        if not path.is_file():
            raise InputError(f"{path} is missing; it should hold {one['n']} rows, SHA-256 {one['sha256']}.")
        found = content_hash(path)
        if found != one["sha256"]:
            raise InputError(f"{path} is altered or cut short: its SHA-256 is {found}, and should be {one['sha256']}.")
        held = load_file(path)
        return {point: _unpacked(held, point) for point in self.points}

    def rows(self, point: str, limit: int | None = None) -> Tensor:
        """[n, d] float32 of one point, of all shards or until there are `limit` rows."""
        if point not in self.points:
            raise InputError(f"{self.folder} holds {', '.join(self.points)}, not {point}.")
        parts, n = [], 0
        for shard in self:
            parts.append(shard[point])
            n += len(parts[-1])
            if limit is not None and n >= limit:
                break
        return torch.cat(parts)[:limit]


class ShardStream(Stream):
    """The stream of training out of shards, without a model: a block is as many shards as fill it, in a new order each
    epoch. What is held of them: the points asked for."""

    def __init__(
        self, shards: Shards, points: Sequence[str], *, batch: int, block: int, seed: int, device: torch.device
    ) -> None:
        if missing := [point for point in points if point not in shards.points]:
            raise InputError(f"{shards.folder} holds {', '.join(shards.points)}, not {', '.join(missing)}.")
        super().__init__(batch, seed, shards.n)
        self.shards, self.points, self.device = shards, list(points), device
        self.a_block = max(1, min(len(shards), round(block * len(shards) / max(1, shards.n))))

    def harvest(self, number: int) -> Batch:
        return self._read(self.numbers(number * self.a_block, self.a_block, len(self.shards)).tolist())

    def sample(self, tokens: int) -> Batch:
        count = max(1, min(len(self.shards), -(-tokens * len(self.shards) // max(1, self.shards.n))))
        return self._read(self.numbers(0, count, len(self.shards), order=3).tolist()).take(slice(0, tokens))

    @property
    def about(self) -> dict[str, Any]:
        index = self.shards.index
        return {"n": index["rows"], "tokens": self.tokens_an_epoch, "shards": len(self.shards), "dtype": index["dtype"]}

    def _read(self, numbers: Sequence[int]) -> Batch:
        parts = [self.shards.read(i) for i in numbers]
        at = {point: torch.cat([part[point] for part in parts]).to(self.device) for point in self.points}
        n = len(at[self.points[0]])
        none = torch.zeros(0, n, 0, device=self.device)
        for point, value in at.items():
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"{self.shards.folder} holds NaN or infinite activations at {point}.")
        return Batch(none, none, at)


def write_shards(
    model: Model, token_rows: ArrayLike | Tensor, points: Sequence[str], out: str | Path, *,
    dtype: Stored = "bfloat16", rows_a_shard: int = 512, seed: int = 0, first_position: bool = True,
    ray: str | None = None, on: Say = lambda message: None,
) -> Shards:  # fmt: skip
    """Run the model over rows of token ids once, and keep activations at `points`, shuffled within each shard.

    dtype: int8 keeps one scale a row (its largest absolute value / 127). ray: a cluster that makes the shards, into a
    folder that all its machines see (core/cluster.py); they hold what one process makes,
    to rounding. A run that was cut
    short goes on after the last whole shard; a folder of other settings is refused. Cost: one forward a row; bytes a
    number: 4, 2 or 1.
    """
    rows = as_rows(token_rows, model.facts.vocab_size)
    if dtype not in ("float32", "bfloat16", "int8"):
        raise InputError(f"activations are stored as float32, bfloat16 or int8; {dtype!r} was given.")
    places = Places.of(model, list(points), mlps=False)
    addresses = [places.address(point) for point in points]
    folder = Path(out)
    order = torch.randperm(rows.shape[0], generator=torch.Generator().manual_seed(seed))
    about = {
        "schema": SCHEMA, "model": {"name": model.name, "fingerprint": model.fingerprint}, "points": addresses,
        "dtype": dtype, "rows": rows.shape[0], "rows_a_shard": rows_a_shard, "seed": seed,
        "first_position": first_position,
    }  # fmt: skip
    done = _begun(folder, about)
    left = range(len(done), -(-rows.shape[0] // rows_a_shard))
    parts = ((number, rows[order[number * rows_a_shard : (number + 1) * rows_a_shard]]) for number in left)
    job = _Job(places, tuple(addresses), folder.resolve(), dtype, seed, first_position)
    for one in mapped(_one_shard, parts, job, ray):
        done.append(one)
        write_json(folder / INDEX, {**about, "finished": False, "shards": done}, indent=1)
        on(f"shard {len(done)}: {one['n']:,} activations")
    write_json(folder / INDEX, {**about, "finished": True, "shards": done}, indent=1)
    return open_shards(folder)


@dataclass(frozen=True)
class _Job:
    """What every shard of a run shares."""

    places: Places
    addresses: tuple[str, ...]
    folder: Path
    dtype: Stored
    seed: int
    first_position: bool


def _one_shard(job: _Job, part: tuple[int, Tensor]) -> dict[str, Any]:
    """Write shard `number` of these rows; its entry in the index. Done twice, it is the same file."""
    number, rows = part
    at = harvest_all(job.places, rows, job.first_position).at
    n = at[job.addresses[0]].shape[0]
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(job.seed * 1_000_003 + number))
    tensors: dict[str, Tensor] = {}
    for address in job.addresses:
        tensors |= _packed(at[address][shuffled], address, job.dtype)
    path = job.folder / f"shard_{number:05d}.safetensors"
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)
    return {"file": path.name, "sha256": content_hash(path), "n": n}


def open_shards(folder: str | Path) -> Shards:
    """Raises `InputError` for a folder that holds none, or that was cut short."""
    folder = Path(folder)
    if not (folder / INDEX).is_file():
        raise InputError(f"{folder} holds no {INDEX}: no activations were kept there.")
    index = read_json(folder / INDEX)
    if index.get("schema") != SCHEMA:
        raise InputError(f"{folder / INDEX} is of schema {index.get('schema')!r}, not {SCHEMA}.")
    if not index.get("finished"):  # the index names what is whole
        raise InputError(f"{folder} was cut short after {len(index['shards'])} shards; write it again, and it goes on.")
    return Shards(folder, index)


def _begun(folder: Path, about: dict[str, Any]) -> list[dict[str, Any]]:
    """The whole shards of an earlier, same run."""
    if not (folder / INDEX).is_file():
        return []
    index = read_json(folder / INDEX)
    changed = [name for name, value in about.items() if index.get(name) != value]
    if changed:
        raise InputError(f"{folder} holds shards of another run ({', '.join(changed)} differ); give another folder.")
    done: list[dict[str, Any]] = []
    for one in index["shards"]:
        path = folder / one["file"]
        if not path.is_file() or content_hash(path) != one["sha256"]:
            break
        done.append(one)
    return done


def _packed(x: Tensor, name: str, dtype: Stored) -> dict[str, Tensor]:
    if dtype != "int8":
        return {name: x.to(getattr(torch, dtype)).contiguous()}
    # x ~ q s,  s = max |x| / 127 of its row
    scale = (x.abs().amax(1, keepdim=True) / 127).clamp_min(1e-30)
    return {name: (x / scale).round().to(torch.int8).contiguous(), f"{name}.scale": scale[:, 0].contiguous()}


def _unpacked(held: dict[str, Tensor], name: str) -> Tensor:
    x = held[name].float()
    return x * held[f"{name}.scale"][:, None] if f"{name}.scale" in held else x
