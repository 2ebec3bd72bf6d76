"""Where a model runs and in what numbers: devices, dtypes, quantised and compiled modules, each refused with a reason
where it cannot be had."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import torch
from torch import nn

from cutaway.core import InputError, UnknownName

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
QUANTISED = ("8bit", "4bit")


def dtype_named(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise InputError(f"no dtype {dtype!r}; there are: {', '.join(DTYPES)}.")
        return DTYPES[dtype]
    return dtype


def device_named(device: str | torch.device) -> torch.device:
    """Raises InputError for what is no device, and for one that is not here, with those that are."""
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise UnknownName("device", str(device), available()) from None
    here = available()
    if found.type in ("cuda", "mps") and (f"{found.type}:{found.index}" if found.index else found.type) not in here:
        why = " (this torch is built without CUDA)" if found.type == "cuda" and torch.version.cuda is None else ""
        raise InputError(f"no device {found} here{why}; there are: {', '.join(here)}.")
    return found


def available() -> list[str]:
    """Names of the devices that can be used."""
    found = ["cpu"]
    if torch.cuda.is_available():
        found += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def quantisation(kind: str) -> Any:
    """transformers' configuration for loading in 8 or 4 bits, which bitsandbytes does."""
    if kind not in QUANTISED:
        raise UnknownName("quantisation", kind, QUANTISED)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(f"loading in {kind} needs bitsandbytes, which is not installed (pip install bitsandbytes).")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=kind == "8bit", load_in_4bit=kind == "4bit")


def placed(hf: nn.Module, dtype: torch.dtype | None, device: str | torch.device | None) -> nn.Module:
    """The module in `dtype` on `device`. Raises InputError for a quantised module that would be cast, and for one
    spread over several devices that would be moved."""
    if dtype is not None:
        if (kind := quantised(hf)) is not None:
            raise InputError(f"the module holds {kind}: its dtype cannot be changed; load it without dtype=.")
        hf = hf.to(dtype)
    if device is not None:
        if len(devices := {str(p.device) for p in hf.parameters()}) > 1:
            raise InputError(f"the module is spread over {', '.join(sorted(devices))}; load it without device=.")
        hf = hf.to(device_named(device))
    switch: Any = getattr(hf, "set_experts_implementation", None)
    chosen = getattr(getattr(hf, "config", None), "_experts_implementation", None)
    if switch is not None and chosen == "grouped_mm" and getattr(hf, "dtype", None) == torch.float64:
        switch("eager")  # torch's grouped product takes no float64: the experts are run one by one
    return hf


def quantised(hf: nn.Module) -> str | None:
    """The kind of quantised layer that a module holds, or None."""
    if getattr(hf, "is_quantized", False):
        return f"weights quantised by {getattr(getattr(hf, 'quantization_method', None), 'value', 'transformers')}"
    for module in hf.modules():
        if "quantized" in type(module).__module__ or type(module).__name__ in ("Linear4bit", "Linear8bitLt"):
            return f"quantised layers ({type(module).__name__})"
    return None


def refuse_underivable(hf: nn.Module, name: str) -> None:
    """Raise InputError where no gradient can be taken through a module."""
    for module in hf.modules():
        if type(module).__name__ == "Linear4bit" and all(p.device.type == "cpu" for p in module.parameters()):
            raise InputError(
                f"{name} has no gradients: on the CPU bitsandbytes makes 4-bit layers by a kernel that autograd does "
                "not know, and they would be wrong without an error; load the model in 8 bits, or whole."
            )


def uncompiled(hf: nn.Module) -> nn.Module:
    """A module as it was before torch.compile. Hooks that are set afterwards do not reach into compiled code, so it is
    run without (a warning says so). Raises InputError for one compiled in place, which cannot be taken back."""
    inner = getattr(hf, "_orig_mod", None)
    if isinstance(inner, nn.Module):
        warnings.warn(
            f"{type(inner).__name__} is compiled; hooks do not reach inside compiled code, so it is run uncompiled.",
            stacklevel=3,
        )
        hf = inner
    inside = next((name or "the module" for name, m in hf.named_modules() if _compiled(m)), None)
    if inside is not None:
        raise InputError(
            f"{inside} is compiled in place (module.compile()), and hooks do not reach inside compiled code: "
            "load it before compiling."
        )
    return hf


def _compiled(module: nn.Module) -> bool:
    return getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod")


def refuse_absent(hf: nn.Module, name: str) -> None:
    """Raise InputError where weights are not in memory, so that points could be read but weights not."""
    away = [key for key, parameter in hf.named_parameters() if parameter.device.type == "meta"]
    if away:
        raise InputError(
            f"{len(away)} tensors of {name} are not in memory (offloaded: {away[0]}, …), and norms and heads are read "
            "from weights. Give it devices that hold it whole (device_map over GPUs), or a smaller dtype."
        )
