"""The folder that ships: the weights in half precision, and the card made from what was measured."""

from __future__ import annotations

import json
from pathlib import Path

from cutaway.core.files import atomic_folder
from cutaway.core.progress import without_bars
from cutaway.organisms.primer.model import PrimerModel


def save_half(model: PrimerModel, folder: Path, card: str = "", recipe: str = "") -> Path:
    """A Hugging Face folder with float16 weights, which are computed with in float32; whole or absent."""
    with atomic_folder(folder) as temporary:
        state = {name: x.half().contiguous() for name, x in model.state_dict().items()}
        with without_bars():
            model.save_pretrained(temporary, state_dict=state)
        config = json.loads((temporary / "config.json").read_text(encoding="utf-8"))
        config.pop("transformers_version", None)  # the same recipe writes the same bytes
        config["dtype"] = "float32"
        (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if card:
            (temporary / "README.md").write_text(card, encoding="utf-8")
        if recipe:
            (temporary / "recipe.json").write_text(recipe, encoding="utf-8")
        for file in temporary.iterdir():
            file.chmod(0o644)  # safetensors makes its files private
    return folder
