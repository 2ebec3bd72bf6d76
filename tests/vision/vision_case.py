"""Small towers and pictures for the tests of vision."""

from __future__ import annotations

from functools import cache

import torch
import transformers
from torch import Tensor, nn

from cutaway.organisms.primer.model import PrimerConfig, PrimerModel
from cutaway.vision import Pictures, Tower, look

SIDE = 24
COLOURS = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.7, 0.2), "blue": (0.1, 0.2, 0.9)}


class Seer(nn.Module):
    """Says which of three colours a picture has most of; its units are channels of a random map."""

    image_size = SIDE
    classes = tuple(COLOURS)

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.map = nn.Conv2d(3, 6, 3, padding=1)
            self.units = nn.ReLU()
            self.weak = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = 10 * x.mean((2, 3)) + self.weak(self.units(self.map(x)).mean((2, 3)))
        return out


def seer(seed: int = 0) -> Tower:
    return look(Seer(seed))


def coloured(each: int = 12, side: int = SIDE, seed: int = 0) -> Pictures:
    """A square of one colour on grey, `each` times."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = [], []
    for name, colour in COLOURS.items():
        for _ in range(each):
            image = torch.full((3, side, side), 0.5) + 0.02 * torch.randn(3, side, side, generator=generator)
            y, x = (int(v) for v in torch.randint(0, side // 2, (2,), generator=generator))
            image[:, y : y + side // 2, x : x + side // 2] = torch.tensor(colour)[:, None, None]
            images.append(image.clamp(0, 1))
            labels.append((name,))
    return Pictures(torch.stack(images), tuple(labels))


@cache
def small_clip() -> Tower:
    """An untrained primer of a few units, with its text side."""
    torch.manual_seed(0)
    words = ("<pad>", "<unk>", *COLOURS, "a", "picture", "of")
    config = PrimerConfig(
        image_size=SIDE, channels=(4, 8), strides=(2, 2), neurons=16, text_width=8, projection_dim=6, words=words,
        concepts=tuple(COLOURS),
    )  # fmt: skip
    model = PrimerModel(config)
    nn.init.uniform_(model.vision_model.pooled.bias, 0.0, 0.5)
    return look(model)


def huggingface_clip() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes["projection_dim"] = 16
    config = transformers.CLIPConfig(
        text_config=dict(sizes, vocab_size=99, bos_token_id=1, eos_token_id=2, pad_token_id=0),
        vision_config=dict(sizes, image_size=16, patch_size=4),
        projection_dim=16,
    )
    return transformers.CLIPModel(config).eval()


def towers_of_every_kind() -> dict[str, nn.Module]:
    """ViT, ResNet and ConvNeXt with a head of three classes, as tiny random models of 32-pixel pictures."""
    torch.manual_seed(0)
    vit = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=32, patch_size=8,
        num_labels=3,
    )  # fmt: skip
    resnet = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3)
    convnext = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, num_labels=3)
    return {
        "vit": transformers.ViTForImageClassification(vit).eval(),
        "resnet": transformers.ResNetForImageClassification(resnet).eval(),
        "convnext": transformers.ConvNextForImageClassification(convnext).eval(),
    }
