"""Models that decide by one band alone, and images of their two classes."""

import torch

import iaside as ia

SIDE, M, N = 32, 4, 16


class ByEnergy(torch.nn.Module):
    """Class 1 where a picture has energy in one band, class 0 where it has none."""

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, x):
        part = torch.fft.irfft2(torch.fft.rfft2(x) * self.mask, s=x.shape[-2:])
        much = 4000 * (part.square().mean((1, 2, 3)) - 5e-4)
        return torch.stack([-much / 2, much / 2], 1)


def planted(band, seed=0):
    """A model that decides by one band alone, and images of its two classes."""
    draw = torch.Generator().manual_seed(seed)
    masks = ia.band_masks(M, (SIDE, SIDE))
    noise = torch.randn(1 + N, 3, SIDE, SIDE, generator=draw)
    pattern = ia.split_bands(noise[:1], masks)[band]
    pattern = 0.06 * pattern / pattern.square().mean().sqrt()
    labels = torch.arange(N) % 2
    images = 0.5 + 0.02 * noise[1:] + labels.view(-1, 1, 1, 1) * pattern
    return ByEnergy(masks[band]).eval(), images.clamp(0, 1), labels


def made(band=1, **how):
    model, images, labels = planted(band)
    return ia.report(model, images, labels, name="planted", n_bands=M, progress=False, **how)
