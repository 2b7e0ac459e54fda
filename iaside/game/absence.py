"""What stands in the bands that are absent from a coalition."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

ABSENCES = ("zero", "gaussian", "replacement", "mean")


def fill_images(
    images: Tensor, absence: str, sigma: float, seed: int
) -> Callable[[Tensor], Tensor] | None:
    """None for ``zero``, else a function: indices (B,) -> fill images (B, C, H, W).

    Errors: ValueError for another absence, a sigma that is not above 0, one image alone.

    >>> fill_images(torch.ones(2, 3, 4, 4), "mean", 0.25, 0)(torch.tensor([0])).mean()
    tensor(1.)
    """
    if absence not in ABSENCES:
        raise ValueError(f"absence={absence!r} is not known; choose one of {', '.join(ABSENCES)}")
    if absence == "zero":
        return None
    if absence == "mean":
        colour = _mean_colour(images).to(images.dtype).view(-1, *[1] * (images.ndim - 2))
        return lambda index: colour.expand(len(index), *images.shape[1:])
    if absence == "replacement":
        if len(images) < 2:
            raise ValueError("absence='replacement' takes bands of other images: give at least 2")
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        donor = torch.empty_like(order)
        donor[order] = order.roll(-1)  # one cycle: nobody is his own donor
        return lambda index: images[donor[index]]
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma={sigma} must be a number above 0 for absence='gaussian'")

    def noise(index: Tensor) -> Tensor:
        draws = [
            torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed + 7919 * i))
            for i in index.tolist()
        ]
        return sigma * torch.stack(draws).to(images[:1])

    return noise


def _mean_colour(images: Tensor) -> Tensor:
    """Of all pixels, in float64, a mean for each channel."""
    if isinstance(images, Tensor):
        return images.double().mean(dim=(0, *range(2, images.ndim)))
    sums = sum(part.double().sum(dim=(0, 2, 3)) for part in images.split(16))
    return sums / (len(images) * images.shape[2:].numel())
