"""The small networks of the CIFAR-10 zoo; normalised pixels (N, 3, 32, 32) -> logits (N, classes).

A recipe's ``architecture`` is a name of ARCHITECTURES, its ``args`` what that takes besides. Batch
norms are folded into the convolutions wherever the weights came so.
"""

import torch.nn.functional as F
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


def build(recipe: dict) -> nn.Module:
    """The network of a recipe, as torch initialises it."""
    name = recipe["architecture"]
    if name not in ARCHITECTURES:
        raise ValueError(f"there is no architecture {name!r}; choose {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name](recipe["num_classes"], **recipe.get("args", {}))


class Plain(nn.Module):
    """Convolutions given as (channels, kernel, stride, padding), then layers of so many units."""

    def __init__(self, convs, units, classes: int, activation: str = "relu"):
        super().__init__()
        inputs, side = 3, 32
        self.convs, self.fcs = nn.ModuleList(), nn.ModuleList()
        for channels, kernel, stride, padding in convs:
            self.convs.append(nn.Conv2d(inputs, channels, kernel, stride, padding))
            inputs, side = channels, (side + 2 * padding - kernel) // stride + 1
        inputs *= side * side
        for width in (*units, classes):
            self.fcs.append(nn.Linear(inputs, width))
            inputs = width
        self.act = ACTIVATIONS[activation]()

    def forward(self, x):
        for conv in self.convs:
            x = self.act(conv(x))
        x = x.flatten(1)
        for layer in self.fcs[:-1]:
            x = self.act(layer(x))
        return self.fcs[-1](x)


class Residual(nn.Module):
    """A stem and blocks, each given as (channels, stride), then two dense layers."""

    def __init__(self, stem, blocks, classes: int):
        super().__init__()
        (inputs, stride), side = stem, 32 // stem[1]
        self.stem = nn.Conv2d(3, inputs, 3, stride, 1)
        self.blocks = nn.ModuleList()
        for channels, stride in blocks:
            self.blocks.append(Block(inputs, channels, stride))
            inputs, side = channels, side // stride
        self.fc1, self.fc2 = nn.Linear(inputs * side * side, 100), nn.Linear(100, classes)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Block(nn.Module):
    def __init__(self, inputs: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)
        same = stride == 1 and inputs == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, channels, 1, stride)

    def forward(self, x):
        return F.relu(self.shortcut(x) + self.conv2(F.relu(self.conv1(x))))


class CifarResNet(nn.Module):
    """He et al. (2016) for CIFAR-10: depth 6n + 2, shortcuts without parameters."""

    def __init__(self, classes: int, depth: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        inputs = 16
        for stage, channels in enumerate((16, 32, 64), 1):
            blocks = nn.Sequential()
            for _ in range((depth - 2) // 6):
                blocks.append(CifarBlock(inputs, channels))
                inputs = channels
            setattr(self, f"layer{stage}", blocks)
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


class CifarBlock(nn.Module):
    """Where channels double, the shortcut takes every second pixel and adds channels of zeros."""

    def __init__(self, inputs: int, channels: int):
        super().__init__()
        self.stride, self.zeros = channels // inputs, (channels - inputs) // 2
        self.conv1 = nn.Conv2d(inputs, channels, 3, self.stride, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.zeros:
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, self.zeros, self.zeros))
        return F.relu(x + y)


class ResNet8(nn.Module):
    """Three residual blocks with paddings as TensorFlow has them, then a mean."""

    def __init__(self, classes: int):
        super().__init__()
        self.stem = SameConv(3, 16, 3, 1)
        self.first, self.second, self.shortcut = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for inputs, channels, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)):
            self.first.append(SameConv(inputs, channels, 3, stride))
            self.second.append(SameConv(channels, channels, 3, 1))
            narrow = stride == 1
            self.shortcut.append(nn.Identity() if narrow else SameConv(inputs, channels, 1, stride))
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for first, second, shortcut in zip(self.first, self.second, self.shortcut, strict=True):
            x = F.relu(shortcut(x) + second(F.relu(first(x))))
        return self.linear(x.mean((2, 3)))


class SameConv(nn.Conv2d):
    """On even sides: where the padding is odd, its larger half lies after the picture."""

    def forward(self, x):
        total = max(self.kernel_size[0] - self.stride[0], 0)
        before, after = total // 2, total - total // 2
        return super().forward(F.pad(x, (before, after, before, after)))


def _plain(convs, units):
    return lambda classes, **args: Plain(convs, units, classes, **args)


def _residual(stem, blocks):
    return lambda classes: Residual(stem, blocks, classes)


ARCHITECTURES = {
    "cnn_a": _plain([(16, 4, 2, 1), (32, 4, 2, 1)], [100]),
    "cnn_base": _plain([(8, 4, 2, 1), (16, 4, 2, 1)], [100]),
    "cnn_deep": _plain([(8, 4, 2, 1), (8, 3, 1, 1), (8, 3, 1, 1), (8, 4, 2, 1)], [100]),
    "conv_small": _plain([(16, 4, 2, 0), (32, 4, 2, 0)], [100]),
    "cnn_narrow": _plain([(8, 4, 2, 0), (16, 4, 2, 0)], [128, 64]),
    "cnn_middle": _plain([(16, 4, 2, 0), (32, 4, 2, 0)], [128, 64]),
    "cnn_broad": _plain([(32, 4, 2, 0), (64, 4, 2, 0)], [128, 64]),
    "resnet_2b": _residual((8, 2), [(16, 2), (16, 1)]),
    "resnet_4b": _residual((16, 2), [(32, 2), (32, 1), (32, 2), (32, 1)]),
    "resnet_2b2": _residual((16, 2), [(32, 2), (64, 2)]),
    "resnet_3b2": _residual((16, 2), [(32, 2), (64, 2), (128, 2)]),
    "cifar_resnet": CifarResNet,
    "resnet_8": ResNet8,
}
