"""A toy classifier, models that read one band of toy pictures, and those pictures."""

import torch
from torch import nn

from iaside.spectral import band_masks, split_bands

SIDE, M = 16, 3
MASKS = band_masks(M, (SIDE, SIDE))


def some_images(n=4, seed=0):
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def some_labels(n=4):
    return torch.arange(n) % 2


def band_reader(band, masks=MASKS, gain=0.01):
    """A two-class model that sees nothing but the energy in one band."""

    def model(x):
        energy = split_bands(x.float().contiguous(), masks)[band].square().sum(dim=(1, 2, 3))
        return torch.stack([gain * energy, torch.zeros_like(energy)], 1)

    return model


class Net(nn.Module):
    """A small nonlinear classifier that counts the images it is shown."""

    def __init__(self, classes=2):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(4, classes)
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return self.head(self.conv(x).relu().mean((2, 3)))
