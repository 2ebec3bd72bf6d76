"""Loading: a shipped name, a folder, a hub id or a module becomes a Model, or an error that says what is missing."""

from __future__ import annotations

import difflib
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cutaway.core import InputError, UnknownName
from cutaway.core.registry import register_family, shipped_models
from cutaway.model.anatomy import Anatomy, Refused
from cutaway.model.hub import on_hub
from cutaway.model.model import Model
from cutaway.model.module_file import is_spec, load_own
from cutaway.model.placing import dtype_named, placed, quantisation, refuse_absent, uncompiled
from cutaway.model.points import Architecture
from cutaway.model.stacks import STACKS, Stack, parts_for

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")


def load(
    source: str | Path | nn.Module,
    tokenizer: Any = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    trust_remote_code: bool = False,
    pickle: bool = False,
    *,
    tower: str | None = None,
    device_map: Any = None,
    quantise: str | None = None,
) -> Model:
    """A model from a shipped name ("almanac"), a local Hugging Face folder, a hub id, a module in memory, or
    "file.py:factory", a function in a Python file (which is run) that gives a module, or (module, tokenizer).

    `tokenizer`: a tokenizer, or a folder or hub id of one; a folder's own by default. Without one, prompts are token
    ids.
    `dtype`: float32 by default (a module keeps its own). `device`: the CPU by default. `pickle=True` also reads
    `pytorch_model.bin`, which can run code of whoever wrote it; `trust_remote_code=True` runs the checkpoint's Python.
    `tower`: "vision" or "text" of a model that has both, "encoder" of an encoder-decoder (else its decoder).
    `device_map`, `quantise` ("8bit", "4bit") go to transformers as a checkpoint is loaded (accelerate, bitsandbytes).

    The model is set to evaluation and its parameters to no gradient. Costs the weights, and one forward of 14 tokens in
    which its points are checked (`model.contract`). Raises InputError: nothing under that name, a folder that is no
    model, weights absent, NaN or infinite, a tokenizer larger than the vocabulary, a device that is not here.
    """
    if isinstance(source, str) and not source.strip():
        raise InputError("the model's name is empty.")
    wanted = dtype_named(dtype)
    folder: Path | None = None
    spec = str(source) if is_spec(source) else None
    if spec is not None:
        source, found = load_own(spec)
        tokenizer = found if tokenizer is None else tokenizer
    if isinstance(source, nn.Module):
        if device_map is not None or quantise is not None:
            raise InputError("device_map and quantise are for checkpoints; place and quantise a module yourself.")
        hf, name = uncompiled(source), spec or type(source).__name__
        if isinstance(tokenizer, (str, Path)):
            tokenizer = _tokenizer(str(tokenizer), trust_remote_code)
    elif isinstance(source, (str, Path)):
        place, name = _locate(source)
        folder = Path(place) if Path(place).is_dir() else None
        more: dict[str, Any] = {} if device_map is None else {"device_map": device_map}
        if quantise is not None:
            more["quantization_config"] = quantisation(quantise)
        hf = _weights(place, wanted or torch.float32, trust_remote_code, pickle, more)
        wanted = None
        if tokenizer is None:
            tokenizer = _own_tokenizer(place, trust_remote_code)
        elif isinstance(tokenizer, (str, Path)):
            tokenizer = _tokenizer(str(tokenizer), trust_remote_code)
    else:
        raise InputError(f"load takes a name, a folder or a module; given {type(source).__name__}.")
    hf = placed(_tower(hf, tower), wanted, device)
    refuse_absent(hf, name)
    _finite(hf, name)
    hf.eval().requires_grad_(False)
    architecture, why = _architecture(hf)
    model = Model(hf, tokenizer, name, architecture, why)
    model.folder = folder
    _tokenizer_fits(model)
    return model


def _tower(hf: nn.Module, tower: str | None) -> nn.Module:
    """One tower of a model that has several. Raises InputError where it must be said which, and UnknownName."""
    towers = {
        name: part for name in ("vision", "text") if isinstance(part := getattr(hf, f"{name}_model", None), nn.Module)
    }
    towers = towers if len(towers) > 1 else {}
    if getattr(getattr(hf, "config", None), "is_encoder_decoder", False):
        whole: Any = hf
        towers["encoder"] = whole.get_encoder()
    if tower is None:
        if "vision" in towers:
            raise InputError(f"{type(hf).__name__} has two towers; load one: tower='vision' or tower='text'.")
        return hf
    if tower not in towers:
        raise UnknownName(f"tower of {type(hf).__name__}", tower, towers)
    return towers[tower]


def _architecture(hf: nn.Module) -> tuple[Anatomy | None, str]:
    config = getattr(hf, "config", None)
    if config is None or not hasattr(config, "model_type"):
        return None, f"{type(hf).__name__} has no Hugging Face config"
    try:
        if (parts := parts_for(hf)) is not None:
            return Stack(hf, parts), ""
        if getattr(config, "is_encoder_decoder", False):
            return None, f"{type(hf).__name__} is an encoder-decoder of a family whose parts are not known"
        return Architecture(hf), ""
    except Refused as error:
        return None, str(error)


# ---- where it is


def _locate(source: str | Path) -> tuple[str, str]:
    """(a folder or hub id that can be read, a name to show)."""
    text = str(source)
    shipped = shipped_models()
    if isinstance(source, str) and text in shipped:
        return str(shipped[text]), text
    path = Path(text).expanduser()
    if path.is_dir():
        return str(path), path.resolve().name
    if path.suffix == ".py":
        raise InputError(f"{text} is a Python file: name the function in it that makes the module, {text}:FACTORY.")
    if path.is_file():
        raise InputError(f"{text} is a file; give the folder that holds it with its config.json.")
    if (
        isinstance(source, Path)
        or text.startswith((".", "/", "~"))
        or text.count("/") > 1
        or (os.sep != "/" and os.sep in text)
    ):
        beside = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, beside, n=3, cutoff=0.5)
        hint = f" Near it: {', '.join(near)}." if near else ""
        raise InputError(f"no folder {text}.{hint}")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", text):
        raise InputError(f"{text!r} is no shipped name, folder or hub id. {_alternatives(text)}")
    return on_hub(text, _alternatives(text)), text


def _alternatives(text: str) -> str:
    shipped = list(shipped_models())
    near = difflib.get_close_matches(text, shipped, n=1, cutoff=0.5)
    if not shipped:
        return "Give the path of a local Hugging Face folder."
    meant = f" (did you mean {near[0]}?)" if near else ""
    return f"Give a shipped name: {', '.join(shipped)}{meant}; or the path of a local Hugging Face folder."


# ---- weights


def _weights(place: str, dtype: torch.dtype, trust_remote_code: bool, pickle: bool, more: dict[str, Any]) -> nn.Module:
    from transformers.utils import logging

    folder = Path(place)
    local = folder.is_dir()
    if local:
        _is_model(folder, pickle)
    has_safe = not local or any(folder.glob("*.safetensors*"))
    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    if local:
        logging.disable_progress_bar()  # a hub download keeps its own
    logging.set_verbosity_error()  # what it would warn of is checked below, and raised
    try:
        hf, info = _class(place, trust_remote_code).from_pretrained(
            place,
            dtype=dtype,
            use_safetensors=True if has_safe and not pickle else None,
            trust_remote_code=trust_remote_code,
            local_files_only=local,
            output_loading_info=True,
            **more,
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # transformers, its config validators and safetensors raise all kinds for a bad folder
        hint = "" if pickle or "safetensors" not in str(error) else " (Pickled weights are read only with pickle=True.)"
        raise InputError(f"{place} cannot be loaded: {_first_lines(error)}{hint}") from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    if missing := sorted(info.get("missing_keys", ())):
        raise InputError(f"{place} lacks weights for {len(missing)} tensors: {_some(missing)}.")
    if unused := sorted(info.get("unexpected_keys", ())):
        warnings.warn(f"{place}: {len(unused)} tensors of the checkpoint are not used: {_some(unused)}.", stacklevel=3)
    module: nn.Module = hf
    return module


def _class(place: str, trust_remote_code: bool) -> Any:
    """The class that a checkpoint is loaded with: for causal language models the auto class; for bodies without a head,
    for those under another head (reward models), and for all else the one that the checkpoint names."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    file = Path(place) / "config.json"
    if file.is_file():
        config = json.loads(file.read_text(encoding="utf-8"))
    else:
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=trust_remote_code).to_dict()
    family = str(config.get("model_type", ""))
    named = next(iter(config.get("architectures") or ()), "")
    bare = named.endswith("Model") and not named.endswith("LMHeadModel")
    other_head = named.endswith(("Classification", "QuestionAnswering"))
    if family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and family not in STACKS and not (bare or other_head):
        return transformers.AutoModelForCausalLM
    return getattr(transformers, named, transformers.AutoModelForCausalLM)


def _is_model(folder: Path, pickle: bool) -> None:
    """Raise InputError saying which files a folder lacks to be a model."""
    lacking = []
    config = folder / "config.json"
    if not config.is_file():
        lacking.append("config.json")
    safe, pickled = _present(folder, "model.safetensors"), _present(folder, "pytorch_model.bin")
    if not safe and not (pickle and pickled):
        if pickled:
            raise InputError(
                f"{folder} has its weights as a pickle (pytorch_model.bin), which can run code of whoever wrote it. "
                "Convert it to safetensors, or load(..., pickle=True) if you trust it."
            )
        lacking.append("model.safetensors (or model.safetensors.index.json and its shards)")
    if lacking:
        there = sorted(p.name for p in folder.iterdir())
        raise InputError(
            f"{folder} is no model: it lacks {' and '.join(lacking)}. It holds: {_some(there) or 'nothing'}."
        )
    try:
        data = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{config} cannot be read as JSON: {error}") from None
    if not isinstance(data, dict) or "model_type" not in data:
        raise InputError(f"{config} names no model_type, so it is no Hugging Face model's.")
    register_family(str(data["model_type"]))
    index = folder / "model.safetensors.index.json"
    if index.is_file() and not pickle:
        shards = set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
        if absent := sorted(shard for shard in shards if not (folder / shard).is_file()):
            raise InputError(f"{folder} lacks {len(absent)} of {len(shards)} shards: {_some(absent)}.")


def _present(folder: Path, name: str) -> bool:
    return (folder / name).is_file() or (folder / f"{name}.index.json").is_file()


def _finite(hf: nn.Module, name: str) -> None:
    bad = [
        key
        for key, parameter in hf.named_parameters()
        if parameter.is_floating_point() and not torch.isfinite(parameter.detach()).all()
    ]
    if bad:
        raise InputError(f"{name} holds NaN or infinity in {len(bad)} tensors: {_some(bad)}. The weights are damaged.")


# ---- tokenizers


def _own_tokenizer(place: str, trust_remote_code: bool) -> Any:
    """The tokenizer beside the weights, or None where a folder has none."""
    folder = Path(place)
    if folder.is_dir() and not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        return None
    return _tokenizer(place, trust_remote_code)


def _tokenizer(place: str, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            place, trust_remote_code=trust_remote_code, local_files_only=Path(place).is_dir()
        )
    except Exception as error:  # tokenizers raises bare Exception for a malformed file
        raise InputError(f"{place} holds no tokenizer that can be read: {_first_lines(error)}") from error


def _tokenizer_fits(model: Model) -> None:
    size, vocabulary = _size(model.tokenizer), model.facts.vocab_size
    if size is not None and vocabulary and size > vocabulary:
        raise InputError(
            f"the tokenizer has {size} tokens and {model.name} a vocabulary of {vocabulary}: "
            "it is another model's tokenizer."
        )


def _size(tokenizer: Any) -> int | None:
    try:
        return len(tokenizer)
    except TypeError:
        return None


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f", … ({len(names)} in all)" if len(names) > 6 else "")


def _first_lines(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:400] or type(error).__name__
