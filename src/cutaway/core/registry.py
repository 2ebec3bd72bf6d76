"""What ships: names of models and the folders that hold them.

A shipped model is a Hugging Face folder under `cutaway/organisms/shipped/`. The environment variable
`CUTAWAY_MODELS` may add folders of one's own (separated as in PATH), each holding model folders.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path


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


def shipped_dictionaries(model: str) -> dict[str, Path]:
    """Name -> folder of the dictionaries that lie in `<model folder>/dictionaries/`, sorted by name.

    Empty for a model that is not among `shipped_models()` or has none. A folder counts when it holds a configuration.
    """
    folder = shipped_models().get(model)
    root = None if folder is None else folder / "dictionaries"
    if root is None or not root.is_dir():
        return {}
    configured = (path.parent for name in ("config.json", "config.yaml") for path in root.glob(f"*/{name}"))
    return {path.name: path for path in sorted(configured)}


def _shipped_root() -> Path:
    return Path(str(resources.files("cutaway"))) / "organisms" / "shipped"
