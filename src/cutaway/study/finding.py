"""A finding as a study: the result as JSON and as the table that was printed, its tensors, the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.core import write_json, write_text
from cutaway.study.manifest import claim_folder, rewriting, seal

if TYPE_CHECKING:
    from torch import Tensor

    from cutaway.model import Model


def write_finding(
    folder: str | Path,
    kind: str,
    model: Model,
    result: Any,
    *,
    command: str = "",
    prompt: str | None = None,
    settings: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write `result` (which prints as a table and has `to_json`) to `folder`, whole or not at all; returns it.

    Files: result.json, evidence.json, result.txt, tensors.safetensors where there are any, manifest.json. Raises
    InputError where `folder` holds something else.
    """
    folder = claim_folder(folder, kind)
    body = result.to_json()
    with rewriting(folder) as temporary:
        write_json(temporary / "result.json", body)
        write_json(temporary / "evidence.json", {"schema": "cutaway.evidence/1", "evidence": body.get("evidence", [])})
        write_text(temporary / "result.txt", f"{result}\n")
        if tensors:
            from safetensors.torch import save_file

            save_file(
                {name: x.detach().cpu().contiguous() for name, x in tensors.items()}, temporary / "tensors.safetensors"
            )
        seal(
            temporary,
            kind=kind,
            command=command,
            model={"name": model.name, "fingerprint": model.fingerprint},
            prompt=prompt,
            settings=dict(settings or {}),
        )
    return folder
