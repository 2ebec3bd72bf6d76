"""Dictionaries on disk: ours, and circuit-tracer's folders, read and written without loss. docs/dictionaries.md is the
normative page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cutaway.core import InputError, atomic_path, content_hash, read_json, write_json
from cutaway.features import circuit_tracer
from cutaway.features.activations import Inference
from cutaway.features.settings import Kind
from cutaway.features.transcoders import Layer, ModelFacts, Transcoders

SCHEMA = "cutaway.dictionary/1"
_RULES = ("relu", "jumprelu", "topk")


def load(path: str | Path) -> Transcoders:
    """Read a dictionary, in the precision it is stored in: our folder, or circuit-tracer's (PLT or CLT).

    Raises `InputError` for a folder that is neither, saying what was found; for files that are cut short, altered or do
    not fit one another.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"there is no dictionary at {folder}: a folder was expected.")
    if (folder / "config.json").is_file() and (found := _json(folder / "config.json")).get("schema") == SCHEMA:
        return _read(folder, found)
    if circuit_tracer.is_one(folder):
        return circuit_tracer.read(folder)
    raise InputError(f"{folder} is no dictionary that can be read here: {_what(folder)}.")


def save(dictionary: Transcoders, folder: str | Path) -> None:
    """Write our format. config.json comes last, so a folder that was cut short is no dictionary."""
    folder = Path(folder)
    config = folder / "config.json"
    config.unlink(missing_ok=True)
    files = {}
    for layer, held in enumerate(dictionary.layers):
        name = f"layer_{layer}.safetensors"
        with atomic_path(folder / name) as path:
            save_file({key: value.detach().cpu().contiguous() for key, value in held.tensors().items()}, path)
        files[name] = content_hash(folder / name)
    write_json(config, _config(dictionary, files), indent=1)


def _config(dictionary: Transcoders, files: Mapping[str, str]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kind": dictionary.kind,
        "architecture": dictionary.rule,
        "k": dictionary.k,
        "n_layers": dictionary.n_layers,
        "n_features": dictionary.n_features,
        "d_in": dictionary.d_in,
        "d_out": dictionary.d_out,
        "input_point": dictionary.input_name,
        "output_point": dictionary.output_name,
        "model": asdict(dictionary.model),
        "training": dict(dictionary.training),
        "metrics": dict(dictionary.metrics),
        "extra": dict(dictionary.extra),
        "files": dict(files),
    }


def _read(folder: Path, config: Mapping[str, Any]) -> Transcoders:
    try:
        kind, rule, n_layers = config["kind"], config["architecture"], int(config["n_layers"])
        files: Mapping[str, str] = config["files"]
        if kind not in ("plt", "clt") or rule not in _RULES:
            raise InputError(
                f"{folder}: a {kind!r} with {rule!r} is not known; plt or clt with {', '.join(_RULES)} are."
            )
        layers = []
        for layer in range(n_layers):
            path = folder / f"layer_{layer}.safetensors"
            tensors = read_tensors(path, expected=files.get(path.name))
            layers.append(_layer(tensors, path))
        return Transcoders(
            kind=cast(Kind, kind),
            rule=cast(Inference, rule),
            layers=tuple(layers),
            k=config["k"],
            model=ModelFacts(**config["model"]),
            input_name=config["input_point"],
            output_name=config["output_point"],
            training=config["training"],
            metrics=config["metrics"],
            extra=config.get("extra", {}),
            folder=folder,
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / 'config.json'} lacks a field or holds a wrong one: {error}.") from error


def _layer(tensors: Mapping[str, Tensor], path: Path) -> Layer:
    known = Layer.__dataclass_fields__
    missing = [name for name in ("W_enc", "b_enc", "W_dec", "b_dec") if name not in tensors]
    if missing or set(tensors) - set(known):
        raise InputError(f"{path} should hold {', '.join(known)} and holds {', '.join(sorted(tensors))}.")
    return Layer(**tensors)


def read_tensors(path: Path, expected: str | None = None) -> dict[str, Tensor]:
    """A safetensors file; `expected` is its SHA-256. Raises `InputError` naming the file."""
    if not path.is_file():
        raise InputError(f"{path} is missing: the dictionary is not whole.")
    if expected is not None and (found := content_hash(path)) != expected:
        raise InputError(
            f"{path} was altered or cut short: its SHA-256 is {found[:16]}…, and {expected[:16]}… was written."
        )
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({error}): cut short or no such file.") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is no JSON file: {error}.") from error
    return found if isinstance(found, dict) else {}


def _what(folder: Path) -> str:
    """What a folder that is not ours seems to be."""
    names = {p.name for p in folder.iterdir()}
    if {"cfg.json", "sae_weights.safetensors"} <= names:
        return "it looks like a SAELens dictionary, which is not read yet"
    if {"cfg.json", "sae.safetensors"} <= names:
        return "it looks like a sparsify dictionary, which is not read yet"
    if "ae.pt" in names:
        return "it looks like a dictionary_learning checkpoint, which is not read yet"
    if "params.npz" in names or "params.safetensors" in names:
        return "it looks like a Gemma Scope dictionary, which is not read yet"
    if "model.safetensors" in names:
        return "it looks like a model, not a dictionary"
    if (folder / "training").is_dir() and "config.json" not in names:
        return "its training has not ended (run the same command again to go on)"
    few = ", ".join(sorted(names)[:6]) or "nothing"
    return f"config.json of ours or config.yaml of circuit-tracer was expected, and it holds {few}"
