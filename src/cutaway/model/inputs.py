"""What a module is called with: ids with mask and positions, pixels, or a source and the tokens that follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model.stacks import POSITIONS_FROM_IDS, Stack
from cutaway.model.tokens import Batch

if TYPE_CHECKING:
    from cutaway.model.model import Model


def takes_pixels(model: Model, prompt: Any) -> bool:
    """Whether `prompt` goes in as it is: pixels for a vision tower, or any numbers for a bare module."""
    if model.facts.reads == "pixels":
        return True
    return model.architecture is None and isinstance(prompt, Tensor) and prompt.is_floating_point()


def pixels(model: Model, prompt: Any) -> Batch:
    """Images [batch, channel, height, width] (or one, without batch) as a batch; positions are the tower's patches and
    tokens. A bare module takes a tensor of numbers of any shape [batch, …]; its positions are axis 1 of three.

    Raises InputError: text or ids where pixels are read, another rank, channels or size than the tower takes, NaN.
    """
    tower = model.architecture
    if not isinstance(prompt, Tensor) or not prompt.is_floating_point():
        given = f"{prompt.dtype} {list(prompt.shape)}" if isinstance(prompt, Tensor) else type(prompt).__name__
        raise InputError(
            f"{model.name} reads pixels, a tensor of floats [batch, channel, height, width] as its image processor "
            f"makes them; given {given}."
        )
    if not torch.isfinite(prompt).all():
        raise InputError("the pixels hold NaN or infinity.")
    if not isinstance(tower, Stack):
        if prompt.ndim < 2 or 0 in prompt.shape:
            raise InputError(f"a module's input is [batch, …]; given {list(prompt.shape)}.")
        return Batch(prompt, torch.ones(prompt.shape[0], prompt.shape[1] if prompt.ndim == 3 else 1, dtype=torch.bool))
    images = prompt[None] if prompt.ndim == 3 else prompt
    channels = getattr(model.hf.config, "num_channels", None)
    if images.ndim != 4 or 0 in images.shape or (channels and images.shape[1] != channels):
        raise InputError(
            f"{model.name} reads pixels [batch, {channels or 'channel'}, height, width]; given {list(prompt.shape)}."
        )
    try:
        with torch.no_grad():
            count = tower.positions(images[:1].to(model.device, model.hf.dtype))
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{model.name} takes no image of {list(images.shape[1:])}: {error}") from error
    return Batch(images, torch.ones(len(images), count, dtype=torch.bool))


def random_pixels(model: Model) -> Batch:
    """Two images of the tower's own size."""
    config = model.hf.config
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    generator = torch.Generator().manual_seed(0)
    return pixels(model, torch.randn(2, config.num_channels, height, width, generator=generator))


def begun(model: Model, prompt: Any) -> Any:
    """Texts for a decoder as ids: its start token, then the text without the special tokens that end a source."""
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(text, str) for text in texts):
        return prompt
    start = getattr(model.hf.config, "decoder_start_token_id", None)
    if start is None or model.tokenizer is None:
        raise InputError(f"{model.name} has no tokenizer or no start token: give its decoder ids.")
    return [
        [int(start), *(model.tokenizer(text, add_special_tokens=False)["input_ids"] if text else [])] for text in texts
    ]


def arguments(model: Model, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
    """(the first argument, the named ones) that the module is called with for `batch`, on the model's device."""
    device, signature = model.device, model._signature
    if batch.pixels:
        x = batch.ids.to(device)
        return (x if model.architecture is None else x.to(model.hf.dtype)), {}
    named: dict[str, Any] = {}
    if "use_cache" in signature:
        named["use_cache"] = False
    ids = batch.ids.to(device)
    mask = batch.mask.to(device) if batch.layout.padded else batch.mask  # looked at only where there is padding
    if model.facts.reads == "source and tokens":
        if batch.source is None:
            raise InputError(
                f"{model.name} is an encoder-decoder: give what its encoder reads, model.batch(tokens, source=…)."
            )
        named["decoder_input_ids"] = ids
        if batch.layout.padded:
            named["decoder_attention_mask"] = mask.long()
        if len(batch.source.ids) != len(ids):
            raise InputError(f"the source has {len(batch.source.ids)} rows, the tokens {len(ids)}.")
        if batch.source.layout.padded:
            named["attention_mask"] = batch.source.mask.to(device).long()
        return batch.source.ids.to(device), named
    if batch.source is not None:
        raise InputError(f"{model.name} is no encoder-decoder and reads no source.")
    if batch.layout.padded:
        if "attention_mask" not in signature:
            raise InputError(
                f"{model.name} takes no attention mask, so prompts of different lengths cannot be batched."
            )
        named["attention_mask"] = mask.long()
        if model.facts.family in POSITIONS_FROM_IDS:
            ids = ids.masked_fill(~mask, model.hf.config.pad_token_id)
        elif "position_ids" in signature and any(batch.layout.starts):
            named["position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0)
    return ids, named
