"""ResNet-20 for CIFAR-10 (Idelbayev's layout: option-A shortcuts), from bare tensors, as a factory for `--module`.

    export RESNET20=path/to/resnet20-cifar10.safetensors
    cutaway neurons --module examples/vision/resnet20.py:resnet20 --pictures path/to/cifar45.png

What is written on the module (`image_size`, `image_mean`, `image_std`, `classes`) is what Cutaway needs to know of it.
"""

from __future__ import annotations

import os

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Block(nn.Module):
    """Two 3 x 3 convolutions; where the map halves, the shortcut takes every second pixel and pads channels."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.pad, self.stride = (out - width) // 2, stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.pad:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)


class ResNet20(nn.Module):
    image_size = 32
    image_mean = (0.485, 0.456, 0.406)
    image_std = (0.229, 0.224, 0.225)
    classes = CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*[Block(16, 16, 1) for _ in range(3)])
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(pixels)))
        x = self.layer3(self.layer2(self.layer1(x)))
        out: Tensor = self.linear(x.mean((2, 3)))
        return out


def resnet20() -> nn.Module:
    """The network with the weights of the file that the environment variable RESNET20 names."""
    path = os.environ.get("RESNET20")
    if not path:
        raise ValueError("set RESNET20 to the weights: export RESNET20=path/to/resnet20-cifar10.safetensors")
    net = ResNet20()
    state = {name.removeprefix("module."): x for name, x in load_file(path).items()}
    missing, unused = net.load_state_dict(state, strict=False)
    wrong = [name for name in missing if "num_batches" not in name] + list(unused)
    if wrong:
        raise ValueError(f"{path} is not of this network: {', '.join(wrong[:5])}")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.data = parameter.data.float()
    return net.eval()
