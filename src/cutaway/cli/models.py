"""`cutaway models`: what ships, how well it does, and what to try on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from cutaway.cli.output import JSON, print_json, step


def models(
    name: str | None = typer.Argument(
        None, help="One model in full: a shipped name, a folder, a hub id or FILE.PY:FACTORY."
    ),
    option: str | None = typer.Option(
        None, "--model", "-m", "--module", help="The same as an option, as in other verbs."
    ),
    as_json: bool = JSON,
) -> None:
    """List the models that ship, with their dictionaries and prompts to try; or show which points a model has.

    A folder or hub id is loaded, and what is printed is which points hold in it, how exactly, and why others do not.

    FILE.PY:FACTORY is a module of one's own (the file is run); what is no known family is read by its module paths.

    Example:  cutaway models almanac
    """
    from cutaway.core import InputError, UnknownName
    from cutaway.core.registry import shipped_models

    if option is not None and name is not None:
        raise InputError("give a model's name or --model, not both.")
    name = name if option is None else option
    found = shipped_models()
    if name is not None and name not in found:
        if "/" not in name and ".py:" not in name and not Path(name).exists():
            raise UnknownName("shipped model", name, found)
        _loaded(name, as_json)
        return
    rows = [_describe(key, folder) for key, folder in found.items() if name in (None, key)]
    if as_json:
        print_json("cutaway.models/1", {"models": rows})
        return
    for row in rows:
        print(_render(row, full=name is not None))


def _loaded(name: str, as_json: bool) -> None:
    """A model of the user's own: its shape and its points."""
    import cutaway as cw
    from cutaway.core.registry import trained_dictionaries

    with step(f"Loading {name}"):
        model = cw.load(name)
    dictionaries = trained_dictionaries(model.fingerprint)
    if as_json:
        facts = {key: value for key, value in vars(model.facts).items() if isinstance(value, (int, float, str, bool))}
        body = {"name": name, "fingerprint": model.fingerprint, "facts": facts, "points": list(model.points())}
        body["paths"] = [f"path.{path}" for path, _ in model.hf.named_modules() if path]
        body |= {"refused": dict(model.contract.refused), "dictionaries": {k: str(v) for k, v in dictionaries.items()}}
        print_json("cutaway.models/1", {"models": [body]})
        return
    print(model)
    if model.architecture is None:
        for path, part in model.hf.named_modules():
            if path:
                print(f"  path.{path:40} {type(part).__name__}")
        return
    print(model.contract)
    kept = ", ".join(dictionaries) or "none (cutaway dictionary train --model … --text … makes one)"
    print(f"dictionaries trained here: {kept}")


def _describe(name: str, folder: Path) -> dict[str, Any]:
    from cutaway.core import read_json
    from cutaway.core.registry import model_examples, shipped_dictionaries

    config = read_json(folder / "config.json")
    return {
        "name": name,
        "folder": str(folder),
        "architecture": (config.get("architectures") or ["?"])[0],
        "layers": config.get("num_hidden_layers", config.get("n_layer")),
        "d_model": config.get("hidden_size", config.get("n_embd")),
        "vocabulary": config.get("vocab_size"),
        "context": config.get("max_position_embeddings", config.get("n_positions")),
        "pictures": config.get("image_size"),
        "checkpoints": sorted(path.name for path in (folder / "checkpoints").glob("step-*")),
        "dictionaries": sorted(shipped_dictionaries(name)),
        "examples": model_examples(folder),
    }


def _render(row: dict[str, Any], *, full: bool) -> str:
    if row["pictures"] and not row["layers"]:
        lines = [row["name"], f"  {row['architecture']}, sees pictures of {row['pictures']} x {row['pictures']} pixels"]
        lines += [f"  folder: {row['folder']}"] * full
        return "\n".join([*lines, f"  cutaway neurons {row['name']}", f"  cutaway attack {row['name']}"])
    lines = [
        f"{row['name']}",
        f"  {row['architecture']}, {row['layers']} layer{'s' * (row['layers'] != 1)}, d_model {row['d_model']}, "
        f"vocabulary {row['vocabulary']}, context {row['context']}",
        f"  dictionaries: {', '.join(row['dictionaries']) or 'none'}",
    ]
    if row["checkpoints"]:
        lines.append(f"  checkpoints of its training: {len(row['checkpoints'])}")
    if full:
        lines.append(f"  folder: {row['folder']}")
    examples = row["examples"] if full else row["examples"][:3]
    verb = "trace" if row["dictionaries"] else "lens"  # a trace needs a dictionary
    lines += [f'  cutaway {verb} "{e["prompt"]}" --model {row["name"]}    ({e["behaviour"]})' for e in examples]
    return "\n".join(lines)
