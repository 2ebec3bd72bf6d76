"""Finished batches of a plan in a folder, so that one that was killed goes on from where it was.

plan.json              {schema, fingerprint, chunks}: whose work it is and how it is cut
chunk-00012.safetensors  values [lane] of one batch
"""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cutaway.core import InputError, atomic_path, read_json, write_json

SCHEMA = "cutaway.plan/1"


class Store:
    """Raises InputError where the folder holds the work of another plan."""

    def __init__(self, folder: Path, fingerprint: str, extents: list[list[list[int]]]) -> None:
        self.folder = folder
        mine = {"schema": SCHEMA, "fingerprint": fingerprint, "chunks": extents}
        index = folder / "plan.json"
        if index.is_file():
            if read_json(index) != mine:
                raise InputError(
                    f"{folder} holds batches of another sweep (another model, prompts, interventions, metric or batch "
                    "size); give an empty folder, or the same settings."
                )
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(index, mine)

    def read(self, number: int) -> Tensor | None:
        """A finished batch's values, None where it is not there (or a disk lost it)."""
        path = self._path(number)
        if not path.is_file():
            return None
        try:
            values: Tensor = load_file(path)["values"]
        except (SafetensorError, KeyError, OSError):
            return None
        return values

    def write(self, number: int, values: Tensor) -> None:
        with atomic_path(self._path(number)) as path:
            save_file({"values": values.contiguous()}, path)

    def _path(self, number: int) -> Path:
        return self.folder / f"chunk-{number:05}.safetensors"
