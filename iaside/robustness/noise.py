"""Noise, blur and ImageNet-C corruptions, with one seed for each image."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iaside.backend.seeds import generators, normal_like
from iaside.robustness.corruptions import corrupt
from iaside.robustness.energy import confined, norm

# low light at the severities 1 to 5: what white becomes, photons at pixel value 1, read noise (sd)
LOW_LIGHT = (
    (0.6, 600, 0.008),
    (0.5, 250, 0.012),
    (0.4, 120, 0.018),
    (0.3, 50, 0.026),
    (0.2, 30, 0.038),
)


def white_noise(
    x: Tensor, seeds: list[int], sigma: float | None = None, band=None, masks=None
) -> Tensor:
    noise = normal_like(x, seeds)
    if band is not None:
        noise = confined(noise, band, masks)
        noise = noise / norm(noise) * x[0].numel() ** 0.5
    return x + (noise if sigma is None else sigma * noise)  # without sigma, energy sets the size


def poisson(x: Tensor, seeds: list[int], photons: float) -> Tensor:
    counts = [
        torch.poisson(image * photons, generator=g)
        for image, g in zip(x.cpu(), generators(seeds), strict=True)
    ]
    return (torch.stack(counts) / photons).to(x)


def salt_and_pepper(x: Tensor, seeds: list[int], amount: float) -> Tensor:
    size = (1, *x.shape[2:])
    u = torch.stack([torch.rand(size, generator=g) for g in generators(seeds)]).to(x.device)
    return x.masked_fill(u < amount / 2, 0).masked_fill(u >= 1 - amount / 2, 1)


def gaussian_blur(x: Tensor, seeds: list[int], kernel: int, sigma: float | None = None) -> Tensor:
    side = min(x.shape[2:])
    if kernel // 2 >= side:
        raise ValueError(
            f"kernel={kernel} is too large for images of {side} pixels a side; "
            f"take at most {2 * side - 1}"
        )
    if sigma == 0:
        raise ValueError("sigma=0 is no blur; give a number above 0, or none at all")
    # Here: it takes a second to import, and most reports only want the names of corruptions.
    from torchvision.transforms.functional import gaussian_blur

    return gaussian_blur(x, kernel, sigma)


def low_light(x: Tensor, seeds: list[int], severity: int) -> Tensor:
    """Stretch each image from black to white, darken it (gamma 2), and add shot and read noise."""
    white, photons, read_noise = LOW_LIGHT[severity - 1]
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    stretched = torch.where(high > low, (x - low) / (high - low).clamp(min=1e-12), x)
    dark = poisson(white * stretched.square(), seeds, photons).clamp(0, 1)
    return dark + read_noise * normal_like(x, [seed + 1 for seed in seeds])


class Noise(NamedTuple):
    """A noise or blur: what makes it of (images, a seed for each, options), and its options."""

    make: Callable[..., Tensor]
    needs: tuple[str, ...]
    may: tuple[str, ...] = ()

    @property
    def strength(self) -> str:
        """The option that a table of responses varies: the first."""
        return (*self.needs, *self.may)[0]


NOISES = {
    "white_noise": Noise(white_noise, (), ("sigma", "band", "masks")),
    "poisson": Noise(poisson, ("photons",)),
    "salt_and_pepper": Noise(salt_and_pepper, ("amount",)),
    "gaussian_blur": Noise(gaussian_blur, ("kernel",), ("sigma",)),
    "low_light": Noise(low_light, ("severity",)),
}


def corrupted(x: Tensor, name: str, seeds: list[int], severity: int) -> Tensor:
    """One of the ImageNet-C corruptions, which know bytes only."""
    if x.shape[1] != 3 or min(x.shape[2:]) < 32:
        raise ValueError(
            f"{name} takes images of 3 channels and at least 32 pixels a side, "
            f"got {x.shape[1]} channels and {x.shape[2]}x{x.shape[3]} pixels"
        )
    images = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    pairs = zip(images, seeds, strict=True)
    done = np.stack([corrupt(image, name, severity, seed) for image, seed in pairs])
    return torch.from_numpy(done).permute(0, 3, 1, 2).to(x) / 255
