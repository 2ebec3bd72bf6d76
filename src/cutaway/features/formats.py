"""Dictionaries on disk: ours, and where those of others are read. docs/dictionaries.md is the normative page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast, get_args

from torch import Tensor

from cutaway.core import InputError, content_hash, write_json
from cutaway.features import circuit_tracer, exchange
from cutaway.features.activations import Inference
from cutaway.features.files import read_object, read_tensors, write_tensors
from cutaway.features.sae import FLAGS, SAE, TENSORS
from cutaway.features.settings import Kind
from cutaway.features.transcoders import Layer, ModelFacts, Transcoders

SCHEMA = "cutaway.dictionary/1"
SAE_FILE = "sae.safetensors"
_USUAL = {"input_scale": 1.0, "output_scale": 1.0}
_RULES = ("relu", "jumprelu", "topk")


def load(path: str | Path) -> Transcoders | SAE:
    """Read a dictionary, in the precision it is stored in: ours, circuit-tracer's (PLT or CLT), SAELens's,
    dictionary_learning's, sparsify's, Gemma Scope's, llamascopium's.

    Raises `InputError` for a folder that is none, saying what was found; for files that are cut short, altered or do
    not fit one another.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"there is no dictionary at {folder}: a folder was expected.")
    try:
        return _load(folder)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # a field that is of another kind than it should
        raise InputError(f"{folder}: its config lacks a field or holds a wrong one ({error}).") from error


def _load(folder: Path) -> Transcoders | SAE:
    if (folder / "config.json").is_file() and (found := read_object(folder / "config.json")).get("schema") == SCHEMA:
        return _read_sae(folder, found) if found.get("kind") == "sae" else _read(folder, found)
    if circuit_tracer.is_one(folder):
        return circuit_tracer.read(folder)
    if (name := exchange.recognised(folder)) is not None:
        try:
            return exchange.FORMS[name].read(folder)
        except InputError as error:
            if name in str(error).lower().replace(" ", "_"):
                raise
            raise InputError(f"{folder}, read as {name}: {error}") from error
    raise InputError(f"{folder} is no dictionary that can be read here: {_what(folder)}.")


def load_all(path: str | Path) -> dict[str, Transcoders | SAE]:
    """Every dictionary in the folders below (a run of several, sparsify's layers), by relative path; layers in order.

    Raises `InputError` where there is none.
    """
    root = Path(path)
    found = {}
    for folder in sorted((p for p in root.rglob("*") if p.is_dir()), key=_natural):
        ours = (folder / "config.json").is_file() and read_object(folder / "config.json").get("schema") == SCHEMA
        if ours or circuit_tracer.is_one(folder) or exchange.recognised(folder) is not None:
            found[folder.relative_to(root).as_posix()] = load(folder)
    if not found:
        raise InputError(f"no dictionary lies below {root}.")
    return found


def _natural(path: Path) -> list[tuple[int, str]]:
    """layers.2 before layers.10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.as_posix())]


def save(dictionary: Transcoders | SAE, folder: str | Path) -> None:
    """Write our format. config.json comes last, so a folder that was cut short is no dictionary."""
    folder = Path(folder)
    config = folder / "config.json"
    config.unlink(missing_ok=True)
    if isinstance(dictionary, SAE):
        write_json(config, _sae_config(dictionary, _write(folder, {SAE_FILE: dictionary.tensors()})), indent=1)
        return
    files = _write(folder, {f"layer_{i}.safetensors": held.tensors() for i, held in enumerate(dictionary.layers)})
    write_json(config, _config(dictionary, files), indent=1)


def _write(folder: Path, files: Mapping[str, Mapping[str, Tensor]]) -> dict[str, str]:
    """Tensors by file -> SHA-256 by file."""
    for name, tensors in files.items():
        write_tensors(folder / name, tensors)
    return {name: content_hash(folder / name) for name in files}


def _sae_config(sae: SAE, files: Mapping[str, str]) -> dict[str, Any]:
    flags = {name: getattr(sae, name) for name in FLAGS}
    return {
        "schema": SCHEMA,
        "kind": "sae",
        "architecture": sae.rule,
        **{name: value for name, value in flags.items() if value and value != _USUAL.get(name)},
        "n_features": sae.n_features,
        "d_in": sae.d_in,
        "d_out": sae.d_out,
        "input_point": sae.point,
        "output_point": sae.writes_to,
        "model": asdict(sae.model),
        "training": dict(sae.training),
        "metrics": dict(sae.metrics),
        "extra": dict(sae.extra),
        "files": dict(files),
    }


def _read_sae(folder: Path, config: Mapping[str, Any]) -> SAE:
    try:
        rule = config["architecture"]
        if rule not in get_args(Inference):
            raise InputError(f"{folder}: {rule!r} is not known; {', '.join(get_args(Inference))} are.")
        path = folder / SAE_FILE
        tensors = read_tensors(path, expected=config["files"].get(path.name))
        needed = {"W_dec", "b_dec"} if rule == "matching_pursuit" else {"W_enc", "b_enc", "W_dec", "b_dec"}
        if needed - set(tensors) or set(tensors) - set(TENSORS):
            raise InputError(f"{path} should hold {', '.join(TENSORS)} and holds {', '.join(sorted(tensors))}.")
        point, to = config["input_point"], config["output_point"]
        return SAE.from_tensors(
            tensors, rule=rule, **{name: config[name] for name in FLAGS if name in config},
            point=point, output_point=to if to != point else None, model=ModelFacts(**config["model"]),
            training=config["training"], metrics=config["metrics"], extra=config.get("extra", {}), folder=folder,
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / 'config.json'} lacks a field or holds a wrong one: {error}.") from error


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


def _what(folder: Path) -> str:
    """What a folder that is not ours seems to be."""
    names = {p.name for p in folder.iterdir()}
    if {"cfg.json", "config.json"} & names and not names & set(exchange.WEIGHTS):
        known = ", ".join(exchange.WEIGHTS)
        return f"a config lies there without weights that are known beside it ({known})"
    if "model.safetensors" in names:
        return "it looks like a model, not a dictionary"
    if (folder / "training").is_dir() and "config.json" not in names:
        return "its training has not ended (run the same command again to go on)"
    below = [p.name for p in folder.iterdir() if p.is_dir() and exchange.recognised(p) is not None]
    if below:
        return f"it holds several ({', '.join(sorted(below)[:4])}, …): give one of them, or read all with load_all"
    few = ", ".join(sorted(names)[:6]) or "nothing"
    return f"config.json of ours or config.yaml of circuit-tracer was expected, and it holds {few}"
