"""Small networks for small images, and the one that JaFR was trained on; pixels -> logits."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn


def small_cnn(num_classes: int) -> nn.Module:
    """Four plain convolutions, 61,000 parameters: for 32 to 64 pixels, quick on a CPU.

    >>> import torch
    >>> small_cnn(10)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    return nn.Sequential(
        _convolution(3, 16, 2),
        _convolution(16, 32, 2),
        _convolution(32, 64, 2),
        _convolution(64, 64),
        *_head(64, num_classes),
    )


def resnet8(num_classes: int) -> nn.Module:
    """A residual network with three blocks and no pooling, 78,000 parameters.

    >>> import torch
    >>> resnet8(10)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    return nn.Sequential(
        _convolution(3, 16, 2),
        _Block(16, 16, 1),
        _Block(16, 32, 2),
        _Block(32, 64, 2),
        *_head(64, num_classes),
    )


def cnn_a(num_classes: int) -> nn.Module:
    """Two wide strides and a dense layer, 215,000 parameters: for 32 pixels.

    Source: CNN-A of the zoo of CIFAR-10 networks (architectures/cifar10.py), of which nine
    trainings are published and none is a plain one.

    >>> import torch
    >>> cnn_a(10)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, 2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2048, 100),
        nn.ReLU(),
        nn.Linear(100, num_classes),
    )


def preactresnet18(num_classes: int) -> nn.Module:
    """The pre-activation ResNet-18 for images of 32 pixels, 11 million parameters.

    Convolutions and linear layers are drawn from N(0, 2 / fan_out).
    Source: He et al. 2016 (the architecture of JaFR's published code).

    >>> import torch
    >>> preactresnet18(10)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    blocks, width = [], 64
    for stage in range(4):
        for stride in (1 if stage == 0 else 2, 1):
            blocks.append(_PreActBlock(width, 64 * 2**stage, stride))
            width = 64 * 2**stage
    net = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1, bias=False),
        *blocks,
        nn.BatchNorm2d(512),
        nn.ReLU(),
        *_head(512, num_classes),
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, math.sqrt(2 / module.out_features))
            nn.init.zeros_(module.bias)
    return net


ARCHITECTURES = {f.__name__: f for f in (small_cnn, resnet8, cnn_a, preactresnet18)}


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _head(width: int, num_classes: int) -> list[nn.Module]:
    last = nn.Linear(width, num_classes) if num_classes else nn.Identity()
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), last]


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, stride)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        same = inputs == outputs and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.second(self.first(x))) + self.skip(x))


class _PreActBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = inputs == outputs and stride == 1
        self.skip = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        skip = x if self.skip is None else self.skip(y)
        return self.conv2(F.relu(self.norm2(self.conv1(y)))) + skip
