"""A compiled program as a folder: a Hugging Face model and tokenizer, and the truth beside them.

config.json  model.safetensors  tokenizer.json  tokenizer_config.json     `cutaway.load(folder)` reads these
truth.json           variables, their components and liveness, true edges (schema cutaway.rasp-truth/1)
truth.safetensors    basis/NAME [size, d_model] of every variable; edges/structural, edges/causal [source, destination]
program.json         name, source, vocabulary, inputs, options (schema cutaway.rasp-program/1)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cutaway.core import atomic_folder, write_json
from cutaway.core.progress import without_bars
from cutaway.toys.rasp.program import CompiledProgram
from cutaway.toys.rasp.vocabulary import spelled


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Weights, config and tokenizer, without transformers' progress bar."""
    with without_bars():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def save(compiled: CompiledProgram, folder: str | Path) -> Path:
    """Write the folder, whole or not at all; an earlier one of ours is replaced. Works out the true edges first."""
    program, truth = compiled.program, compiled.truth
    tensors = {f"basis/{name}": variable.basis.contiguous() for name, variable in truth.variables.items()}
    for kind in ("exists", "structural", "causal"):
        tensors[f"edges/{kind}"] = getattr(truth.edges, kind).to(torch.uint8)
    with atomic_folder(folder, ("program.json",)) as made:
        save_model(compiled.model, compiled.tokenizer, made)
        write_json(made / "truth.json", truth.to_json(), indent=1)
        save_file(tensors, made / "truth.safetensors")
        write_json(
            made / "program.json",
            {
                "schema": "cutaway.rasp-program/1",
                "name": program.name,
                "about": program.about,
                "source": program.source,
                "vocabulary": [spelled(value) for value in program.vocabulary],
                "lengths": [program.shortest, program.longest],
                "causal": program.causal,
                "inputs": program.domain or "every sequence",
                "options": dict(compiled.options),
            },
            indent=1,
        )
    return Path(folder)
