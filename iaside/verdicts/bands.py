"""Verdicts on the spectra of natural images, and on the partition into bands."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import at_levels
from iaside.spectral import band_energy
from iaside.verdicts.rules import decide


def energy_shares(x: Tensor, masks: Tensor) -> np.ndarray:
    """The share of each band in the energy of images (N, C, H, W): (M, N).

    >>> import torch
    >>> from iaside.spectral import band_masks
    >>> energy_shares(torch.rand(2, 3, 8, 8), band_masks(2, (8, 8))).sum(0).round(6).tolist()
    [1.0, 1.0]
    """
    energy = band_energy(x, masks)
    return (energy / energy.sum(0)).double().numpy()


def low_energy_majority(energy: ArrayLike, data: str = "") -> dict:
    """Judge whether most of an image's energy lies in the lower half of the bands.

    Shapes: energy (M, N), the share of every band in each image's energy, DC excluded.

    >>> low_energy_majority(np.repeat([[0.8], [0.1], [0.1]], 9, axis=1))["verdict"]
    'supported'
    """
    energy = np.asarray(energy, dtype=float)
    low = energy[: len(energy) // 2].sum(0)
    return decide("low_energy_majority", at_levels(low[None], lambda mean: mean[0]), data=data)


def esd_power_law(gain: ArrayLike, data: str = "") -> dict:
    """Judge whether a power law describes the energy spectral density better than an exponential.

    Shapes: gain (N,), the AIC of the exponential fit minus that of the power law, of each image.

    >>> esd_power_law(50 + np.arange(9.0))["verdict"]
    'supported'
    """
    gain = np.asarray(gain, dtype=float)
    return decide("esd_power_law", at_levels(gain[None], lambda mean: mean[0]), data=data)


def linf_equal_cells(cells: ArrayLike) -> dict:
    """Judge whether linf bands hold equally many frequencies: cells (M,), exact.

    >>> linf_equal_cells([9, 9, 9])["verdict"], linf_equal_cells([1, 3, 5])["verdict"]
    ('supported', 'contradicted')
    """
    return _even("linf_equal_cells", cells)


def linf_density(cells: ArrayLike, side: int) -> dict:
    """Judge whether every linf band's square ring lies wholly inside the spectrum: cells (M,) of
    images of side x side pixels, over the areas of the rings, exact.

    >>> linf_density([4, 12, 20], side=6)["verdict"]
    'supported'
    """
    return _even("linf_density", np.asarray(cells) / rings(len(cells), side))


def l2_density(cells: ArrayLike, side: int) -> dict:
    """Judge whether l2 bands that reach the corners are filled unevenly: cells (M,), over the areas
    of their annuli, exact.

    >>> l2_density([7, 19, 10], side=6)["verdict"]
    'supported'
    """
    return _even("l2_density", np.asarray(cells) / (np.pi / 2 * rings(len(cells), side)))


def rings(n_bands: int, side: int) -> np.ndarray:
    """The area of each of M square rings of equal width around the middle of a spectrum, in cells.

    >>> rings(3, 6).tolist()
    [4.0, 12.0, 20.0]
    """
    return (2 * np.arange(n_bands) + 1) * (side / n_bands) ** 2


def _even(claim_id: str, values: ArrayLike) -> dict:
    """Judge a claim on the coefficient of variation over the bands, an exact number."""
    values = np.asarray(values, dtype=float)
    variation = Estimate.exact(values.std(ddof=1) / values.mean(), len(values), "bands")
    return decide(claim_id, lambda level: variation, exact=True)
