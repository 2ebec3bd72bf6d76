"""What a module is called with: ids with mask and positions, pixels, or a source and the tokens that follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model.contract import TOLERANCE
from cutaway.model.run import logits_of
from cutaway.model.stacks import POSITIONS_FROM_IDS, Stack
from cutaway.model.tokens import Batch, Side

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
        config = getattr(model.hf, "config", None)
        pad = getattr(config, "pad_token_id", None)
        found_by_id = type(model.hf).__name__.endswith("ForSequenceClassification")  # where a text's last token is
        counted_by_id = model.facts.family in POSITIONS_FROM_IDS
        if pad is not None and (found_by_id or counted_by_id):
            ids = ids.masked_fill(~mask, pad)
        if not counted_by_id and "position_ids" in signature and any(batch.layout.starts):
            named["position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0)
    return ids, named


def refuse_seen_padding(model: Model, batch: Batch) -> None:
    """Raise InputError where a row padded as these is not what it is alone: some modules take a mask and do not heed
    it. Looked at once a model and side: two forwards of a few random tokens."""
    if batch.pixels or not batch.layout.padded or "attention_mask" not in model._signature:
        return
    side: Side = "left" if any(batch.layout.starts) else "right"
    known = model.contract.padding
    if side not in known:
        error = _moved_by_padding(model, side, batch.source)
        held = error <= TOLERANCE.get(next(iter(model.hf.parameters())).dtype, 3e-2)
        known[side] = "" if held else (
            f"{model.name} does not heed its attention mask where prompts are padded on the {side}: a row's output "
            f"moves by {error:.1e} of the largest entry. Batch prompts of one length"
            + (", or pad on the right." if side == "left" else ".")
        )  # fmt: skip
    if known[side]:
        raise InputError(known[side])


def _moved_by_padding(model: Model, side: Side, source: Batch | None) -> float:
    """How far padding moves the output at a row's own tokens, as a share of the largest entry."""
    ids = torch.randint(model.facts.vocab_size or 2, (2, 6), generator=torch.Generator().manual_seed(0))
    if (pad := getattr(getattr(model.hf, "config", None), "pad_token_id", None)) is not None:
        ids[ids == pad] += 1 if pad == 0 else -1  # which some modules take for padding wherever it stands
    mask = torch.ones_like(ids, dtype=torch.bool)
    own = slice(0, 4) if side == "right" else slice(2, 6)
    mask[1] = False
    mask[1, own] = True
    read = None if source is None else Batch(ids[:, :3], torch.ones(2, 3, dtype=torch.bool))
    first = None if read is None else Batch(read.ids[1:], read.mask[1:])
    with torch.no_grad():
        beside = logits_of(model._call(Batch(ids, mask, read)))[1].float()
        alone = logits_of(model._call(Batch(ids[1:, own], mask[1:, own], first)))[0].float()
    beside = beside[own] if beside.ndim > 1 and len(beside) == 6 else beside
    return float((beside - alone).abs().max() / alone.abs().max().clamp(min=1e-12))
