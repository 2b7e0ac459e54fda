"""Shares of bands: what a SID (M, ...) says as a whole, and how much of shares is noise."""

import warnings

import numpy as np
import scipy
from numpy.typing import ArrayLike

from iaside.backend.outside import outside
from iaside.estimate.clean import may_be_zero
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval
from iaside.estimate.resampling import finite, per_image
from iaside.estimate.rounding import ROUNDING, total_worth


def check_shares(sid: ArrayLike) -> np.ndarray:
    """Shares (M, ...) as they are. Errors: ValueError where they do not sum to 1.

    >>> check_shares([0.5, 0.5])
    array([0.5, 0.5])
    """
    sid = finite(sid, "sid")
    off = np.abs(sid.sum(0) - 1)
    if (off > 1e-5).any():
        raise ValueError(
            f"shares must sum to 1, but these are off by {off.max():.4g}; "
            f"use spectral_importance() first"
        )
    return sid


def centroid(sid: ArrayLike) -> np.ndarray:
    """Return the mean band of a SID (M, ...), from 0 (all in band 0) to 1 (all in the last).

    Raises ValueError for shares that do not sum to 1. Negative shares can lead outside [0, 1].

    >>> float(centroid([0.5, 0.5, 0.0]))
    0.25
    """
    sid = check_shares(sid)
    return np.tensordot(np.arange(len(sid)) / (len(sid) - 1), sid, 1)


def entropy(sid: ArrayLike) -> np.ndarray:
    """Return the entropy of a SID (M, ...) over log M: 0 for one band alone, 1 for uniform.

    Raises ValueError for shares that are negative or do not sum to 1.

    >>> float(entropy([0.25, 0.25, 0.25, 0.25]))
    1.0
    """
    sid = check_shares(sid)
    if (sid < 0).any():
        raise ValueError(
            f"entropy needs shares of at least 0, got {sid.min():.4g}; "
            f"use normalise='minmax', 'positive' or 'softmax'"
        )
    return scipy.stats.entropy(sid, axis=0) / np.log(len(sid))


def share_of_worth(values: ArrayLike, part: int, level: float = 0.95) -> str:
    """Say what share of v(all) - v(none) one band's values are, or that none can be told.

    values (M, N): Shapley values of every image;  part: the band.

    >>> share_of_worth([[1.0, 2.0], [-1.0, -2.0]], 0)
    'no share that can be told (its worth, v(all) - v(none) = 0, may be 0)'
    """
    values = np.asarray(values, dtype=float)
    gain = total_worth(values)
    if may_be_zero(gain, level):
        return (
            f"no share that can be told (its worth, v(all) - v(none) = {gain.mean():.3g}, may be 0)"
        )
    share = interval(values, lambda mean: mean[part] / mean.sum(0), level)
    return f"{share.limits('.0%')} of its worth"


def normalisation_noise(psi: ArrayLike) -> float:
    """Return by how many standard errors the divisor of "minmax" lies above 0 (psi: (M, N)).

    It is v(all) - v(none) - M min(psi). Below 3 a RuntimeWarning says that the SID is mostly noise:
    look at the raw values instead. One image gives NaN. Errors as in `interval`.

    >>> round(float(normalisation_noise([[2.0, 3.0, 4.0], [0.0, 0.0, 0.0]])), 3)
    5.196
    """
    psi = per_image(psi)
    n = psi.shape[1]
    if n == 1:
        return np.nan
    divisor = psi.sum(0) - len(psi) * psi[psi.mean(1).argmin()]
    divisor[np.abs(divisor) <= ROUNDING * np.abs(psi).max()] = 0
    size, se = divisor.mean(), divisor.std(ddof=1) / np.sqrt(n)
    ratio = size / se if se > 0 else (np.inf if size > 0 else 0.0)
    if ratio < 3:
        warnings.warn(
            f"the min-max SID divides by {size:.3g}, only {ratio:.1f} standard errors from 0 "
            f"(n = {n}): it is dominated by noise; use more images or the raw values",
            RuntimeWarning,
            stacklevel=outside(),
        )
    return ratio


def noise_distance(sid: Estimate) -> float:
    """How far in L1 the noise of a sample puts a SID, (M,), from its own truth on average.

    sqrt(2/pi) times the sum of the standard errors: the mean size of normal errors.

    >>> round(noise_distance(Estimate.unsure([0.5, 0.5], 24, "photographs", se=[0.1, 0.1])), 3)
    0.16
    """
    return float(np.sqrt(2 / np.pi) * np.sum(sid.se))


def distance_from_0(values: np.ndarray, rounding: float) -> float:
    """How many standard errors the mean of values (N,) is from 0; nan for one.

    rounding: the size of a difference that is none.

    >>> distance_from_0(np.array([1.0, 3.0]), 0.0)
    2.0
    """
    n = len(values)
    if n == 1:
        return np.nan
    size, se = np.abs(values.mean()), values.std(ddof=1) / np.sqrt(n)
    if se <= rounding:
        return np.inf if size > rounding else 0.0
    return float(size / se)


def survival_per_image(clean_energy: ArrayLike, change_energy: ArrayLike) -> np.ndarray:
    """Return how much of each band survives a perturbation of each image, (..., M, N).

    The Wiener weight s / (1 + s), s the energy of the band over that of the perturbation in it; a
    band without any energy survives.

    Shapes: both (..., M, N). Errors: ValueError for negative energies.
    Source: docs/methods.md, Matching.

    >>> survival_per_image([[3.0, 1.0]], [[1.0, 1.0]]).tolist()
    [[0.75, 0.5]]
    """
    clean, change = np.asarray(clean_energy, dtype=float), np.asarray(change_energy, dtype=float)
    if (clean < 0).any() or (change < 0).any():
        raise ValueError("energies must be 0 or more")
    total = clean + change
    return np.divide(clean, total, out=np.ones(total.shape), where=total > 0)


def survival_of_spectra(clean_energy: ArrayLike, degraded_energy: ArrayLike) -> np.ndarray:
    """Return how much of each band survives where only spectra are known, of other photographs.

    What a band has more is taken for noise that does not depend on it, what it has less for its
    amplitude having been reduced: the least change that leads from one energy to the other in
    either way.

    Shapes: both (...), mean energies of bands; returns the same. Errors: as `survival_per_image`.
    Source: docs/methods.md, Matching.

    >>> survival_of_spectra([1.0, 1.0, 4.0], [1.0, 4.0, 1.0]).tolist()
    [1.0, 0.25, 0.8]
    """
    clean, degraded = (np.asarray(e, dtype=float) for e in (clean_energy, degraded_energy))
    change = np.where(degraded > clean, degraded - clean, 0.0)
    change = np.where(degraded < clean, (np.sqrt(clean) - np.sqrt(degraded)) ** 2, change)
    return survival_per_image(clean, change)
