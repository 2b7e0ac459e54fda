"""Energy of a perturbation: norms, scaling to a given energy, confinement to a band."""

from __future__ import annotations

import math
from numbers import Integral

import torch
from torch import Tensor

from iaside.backend.checks import check_values, is_number
from iaside.backend.precision import undisturbed
from iaside.spectral import Masks, bands_of, check_masks


@undisturbed
def match_energy(x: Tensor, y: Tensor, energy: float) -> Tensor:
    """Scale the perturbation y - x of each image to a fraction of the energy of the image.

    Nothing is clamped afterwards.

    Shapes: x, y (B, C, H, W), clean and perturbed; returns (B, C, H, W).
    Errors: ValueError for an energy that is not positive, and for images that are black or were
    not changed, whose numbers it names.
    Source: Luo et al. 2024, Fig. 2 (10 % of the energy), docs/methods.md, Spectral SNR.

    >>> x = torch.rand(2, 3, 8, 8)
    >>> match_energy(x, 0.9 * x, 0.25).allclose(0.5 * x)
    True
    """
    check_values({"energy": energy})
    change, clean = norm(y - x), norm(x)
    for size, what in ((clean, "black"), (change, "unchanged by the perturbation")):
        if not size.all():
            raise ValueError(
                f"images {(size.flatten() == 0).nonzero().flatten().tolist()} are {what}, so "
                "no perturbation has a given fraction of their energy; leave them out (an attack "
                "leaves alone what gives it no usable gradient, and what is misclassified: give "
                "the model's own predictions as labels)"
            )
    return x + (y - x) * (math.sqrt(energy) * clean / change)


def norm(d: Tensor) -> Tensor:
    """Euclidean norm of each image, (B, 1, 1, 1)."""
    return torch.linalg.vector_norm(d, dim=(1, 2, 3), keepdim=True)


def confined(d: Tensor, band: int, masks: Masks) -> Tensor:
    """The component of each image in one band."""
    if callable(masks):
        return bands_of(d, masks)[band].detach()  # it may hold weights
    return bands_of(d, masks[band : band + 1])[0]


def shrink_to_fit(x: Tensor, y: Tensor) -> Tensor:
    """Scale the perturbation of each image down, as a whole, until all pixels are in [0, 1]."""
    delta = y - x
    room = torch.where(delta > 0, 1 - x, x)
    factor = (room / delta.abs()).nan_to_num(nan=1).amin(dim=(1, 2, 3), keepdim=True).clamp(max=1)
    if not factor.all():
        raise ValueError(
            f"images {(factor.flatten() == 0).nonzero().flatten().tolist()} have pixels at 0 or 1 "
            "that a perturbation confined to one band would push further, so none fits; leave "
            "clamp out, or give all images room first: 0.5 + 0.9 * (x - 0.5)"
        )
    return (x + factor * delta).clamp(0, 1)  # for the last rounding


def check_band(x: Tensor, band: int, masks: Masks) -> Masks:
    """Masks as they can be used, when they fit the images and have such a band."""
    masks, n_bands = check_masks(masks, x.detach())
    if not is_number(Integral, band) or not 0 <= band < n_bands:
        raise ValueError(f"band={band!r} is not possible; masks has bands 0 to {n_bands - 1}")
    return masks
