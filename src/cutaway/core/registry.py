"""What ships: names of models and the folders that hold them.

A shipped model is a Hugging Face folder under `cutaway/organisms/shipped/`. The environment variable
`CUTAWAY_MODELS` may add folders of one's own (separated as in PATH), each holding model folders.
"""

from __future__ import annotations

import importlib
import os
from importlib import resources
from pathlib import Path
from typing import Any

from cutaway.core.files import read_json

# Hugging Face model types of our own, and the module whose import registers their classes with transformers.
OWN_FAMILIES = {
    "cutaway_rasp": "cutaway.toys.rasp.transformer",
    "cutaway_primer": "cutaway.organisms.primer.model",
}

NULL = "-null"  # ends the name of a dictionary that was trained on the re-randomised twin


def shipped_models() -> dict[str, Path]:
    """Name -> folder, sorted by name. A folder counts when it holds a `config.json`. Costs one directory listing."""
    roots = [_shipped_root(), *(Path(part) for part in os.environ.get("CUTAWAY_MODELS", "").split(os.pathsep) if part)]
    found: dict[str, Path] = {}
    for root in roots:
        if not root.is_dir():
            continue
        for folder in root.iterdir():
            if (folder / "config.json").is_file():
                found.setdefault(folder.name, folder)
    return dict(sorted(found.items()))


def register_family(model_type: str) -> None:
    """Make transformers know a model type, if it is one of our own. Costs the import of its module, once."""
    if model_type in OWN_FAMILIES:
        importlib.import_module(OWN_FAMILIES[model_type])


def shipped_dictionaries(model: str) -> dict[str, Path]:
    """Name -> folder of the dictionaries that lie in `<model folder>/dictionaries/`, sorted by name.

    Empty for a model that is not among `shipped_models()` or has none. A folder counts when it holds a configuration.
    """
    folder = shipped_models().get(model)
    return {} if folder is None else _dictionaries(folder / "dictionaries")


def null_dictionary(model: str, name: str) -> Path | None:
    """The dictionary `name` of a shipped model, trained on its re-randomised twin; None where none ships."""
    return shipped_dictionaries(model).get(f"{name}{NULL}")


def trained_folder(fingerprint: str) -> Path:
    """Where the dictionaries that a user trains for a model are kept: under $CUTAWAY_HOME or ~/.cache/cutaway."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("CUTAWAY_HOME") or cache / "cutaway") / "dictionaries" / fingerprint


def trained_dictionaries(fingerprint: str) -> dict[str, Path]:
    """Name -> folder of the dictionaries that were trained here for the model of that fingerprint."""
    return _dictionaries(trained_folder(fingerprint))


def model_examples(folder: Path) -> list[dict[str, Any]]:
    """Prompts to try on a model, from its `examples.json`: [{behaviour, prompt, answer, paraphrases?}], [] without."""
    path = folder / "examples.json"
    return list(read_json(path)["prompts"]) if path.is_file() else []


def _dictionaries(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        return {}
    configured = (path.parent for name in ("config.json", "config.yaml") for path in root.glob(f"*/{name}"))
    return {path.name: path for path in sorted(configured)}


def _shipped_root() -> Path:
    return Path(str(resources.files("cutaway"))) / "organisms" / "shipped"
