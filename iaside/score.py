"""From values to scores: the spectral importance distribution (SID), the spectral robustness
score (SRC), and how both change with the number of images.

Band 0 holds the lowest frequencies. Bands lie on the first axis, further axes are independent
columns: a profile is (M,), a profile per image or per resample (M, R).
"""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from iaside.clean import may_be_zero
from iaside.intervals import evaluate, finite, interval, per_image
from iaside.rounding import ROUNDING, total_worth


def spectral_importance(
    psi: ArrayLike, normalise: str = "minmax", tau: float = 1.0
) -> np.ndarray:
    """Turn values of bands (M, ...) into shares of the same shape (seed 002, SID).

    normalise:
      "minmax"    (psi - min) / sum(psi - min), the papers' SID. The weakest band gets exactly 0,
                  and every share depends on it. Bands that are all equal get 1/M, with a warning.
      "share"     psi / sum(psi): signed and additive. ValueError if the sum is zero.
      "positive"  harmful bands count as 0. No useful band at all gives 1/M, with a warning.
      "softmax"   exp(psi / tau) / sum(exp(psi / tau)), with `tau` in the unit of psi.
      "none"      psi itself, checked only.

    Raises ValueError for fewer than two bands, NaN or infinity, an unknown name or tau <= 0.

    >>> spectral_importance([4.0, 2.0, 1.0])
    array([0.75, 0.25, 0.  ])
    """
    psi = finite(psi, "psi")
    if normalise == "none":
        return psi
    if normalise == "softmax":
        if not tau > 0:
            raise ValueError(f"tau must be above 0, got {tau!r}")
        weight = np.exp((psi - psi.max(0)) / tau)
        return weight / weight.sum(0)
    rounding = ROUNDING * np.abs(psi).max(0)
    if normalise == "share":
        if (np.abs(psi.sum(0)) <= rounding).any():
            raise ValueError(
                "normalise='share' needs values that do not add up to 0: the whole image is worth "
                "no more than the empty one; use another normalise, or the raw values"
            )
        return psi / psi.sum(0)
    if normalise == "minmax":
        weight = psi - psi.min(0)
    elif normalise == "positive":
        weight = np.maximum(psi, 0)
    else:
        raise ValueError(
            f"normalise must be minmax, share, positive, softmax or none, got {normalise!r}"
        )
    empty = weight.max(0) <= rounding
    if empty.any():
        warnings.warn(
            f"normalise={normalise!r} finds no difference between the bands to divide by; "
            f"their shares are set to 1/{len(psi)}", RuntimeWarning, stacklevel=2,
        )
    weight = np.where(empty, 1.0, weight)
    return weight / weight.sum(0)


def robustness_score(
    sid: ArrayLike, beta: float = 0.75, signed: bool = False, norm: str = "paper"
) -> np.ndarray:
    """Score how far a SID (M, ...) leans to low frequencies; the result drops the first axis.

    |b'p - mean(b)| / (||b||_2 - mean(b)) with b = (1, beta, beta^2, ...) (seed 002 Eq. 11). That
    divisor is never reached: all mass in band 0 scores 0.5217 for M = 8. norm="tight" divides by
    1 - mean(b) instead, so that it scores 1. The absolute value hides direction, a profile and
    one leaning as far to high frequencies score alike; signed=True keeps it (above 0: low).

    Raises ValueError for beta outside (0, 1), an unknown norm or shares that do not sum to 1.

    >>> round(float(robustness_score([1, 0, 0, 0, 0, 0, 0, 0])), 4)
    0.5217
    """
    sid = _shares(sid)
    if not 0 < beta < 1:
        raise ValueError(f"beta must lie between 0 and 1, both excluded; got {beta!r}")
    weight = beta ** np.arange(len(sid))
    top = {"paper": np.linalg.norm(weight), "tight": 1.0}
    if norm not in top:
        raise ValueError(f"norm must be 'paper' or 'tight', got {norm!r}")
    score = (np.tensordot(weight, sid, 1) - weight.mean()) / (top[norm] - weight.mean())
    return score if signed else np.abs(score)


def centroid(sid: ArrayLike) -> np.ndarray:
    """Return the mean band of a SID (M, ...), from 0 (all in band 0) to 1 (all in the last).

    Raises ValueError for shares that do not sum to 1. Negative shares can lead outside [0, 1].

    >>> float(centroid([0.5, 0.5, 0.0]))
    0.25
    """
    sid = _shares(sid)
    return np.tensordot(np.arange(len(sid)) / (len(sid) - 1), sid, 1)


def entropy(sid: ArrayLike) -> np.ndarray:
    """Return the entropy of a SID (M, ...) over log M: 0 for one band alone, 1 for uniform.

    Raises ValueError for shares that are negative or do not sum to 1.

    >>> float(entropy([0.25, 0.25, 0.25, 0.25]))
    1.0
    """
    sid = _shares(sid)
    if (sid < 0).any():
        raise ValueError(
            f"entropy needs shares of at least 0, got {sid.min():.4g}; "
            f"use normalise='minmax', 'positive' or 'softmax'"
        )
    return stats.entropy(sid, axis=0) / np.log(len(sid))


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
            RuntimeWarning, stacklevel=2,
        )
    return ratio


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


def random_orders(n: int, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return `n_draws` random orders of n images, (n_draws, n): the first K are a sample of K.

    >>> random_orders(5, 3, np.random.default_rng(0)).shape
    (3, 5)
    """
    return rng.permuted(np.tile(np.arange(n), (n_draws, 1)), axis=1)


def consecutive_differences(
    psi: ArrayLike, orders: ArrayLike, sizes: ArrayLike, statistic: Callable
) -> np.ndarray:
    """Return how much one more image changes a statistic of mean values (seed 002 Fig. 15).

    statistic(mean of the first K + 1 images) - statistic(mean of the first K), for every K of
    `sizes` (S,) and every order (D, N) of the images of `psi` (M, N); `statistic` maps (M, R) to
    (..., R), the result is (..., S, D). It is no error: a mean over K changes by about 1/K of
    what one image differs from it, whether or not the mean converges.

    Raises ValueError for orders not of shape (D, N) or a K outside 1 ... N - 1.

    >>> psi = [[0.0, 2.0, 4.0], [0.0, 0.0, 0.0]]
    >>> consecutive_differences(psi, [[0, 1, 2]], [1, 2], lambda mean: mean[0]).tolist()
    [[1.0], [1.0]]
    """
    psi, orders, sizes = _splits(psi, orders, sizes)
    before, after = (_first_means(psi, orders, k) for k in (sizes, sizes + 1))
    return _over_draws(statistic, after) - _over_draws(statistic, before)


def split_differences(
    psi: ArrayLike, orders: ArrayLike, sizes: ArrayLike, statistic: Callable
) -> np.ndarray:
    """Return how far a statistic of K images lies from that of all the other images.

    statistic(mean of the first K images) - statistic(mean of the other N - K); shapes and errors
    as in `consecutive_differences`. The others are a noisy reference, at K = N/2 as noisy as the
    sample. Times sqrt(1 - K/N), the spread of a mean is exactly what K images have around the mean
    of an unlimited population, sigma / sqrt(K), and that of a smooth statistic nearly so.

    >>> psi = [[0.0, 2.0, 4.0], [0.0, 0.0, 0.0]]
    >>> split_differences(psi, [[0, 1, 2]], [1, 2], lambda mean: mean[0]).tolist()
    [[-3.0], [-3.0]]
    """
    psi, orders, sizes = _splits(psi, orders, sizes)
    first, k = _first_means(psi, orders, sizes), sizes[:, None]
    others = (psi.sum(1)[:, None, None] - k * first) / (psi.shape[1] - k)
    return _over_draws(statistic, first) - _over_draws(statistic, others)


def loglog_slope(sizes: ArrayLike, errors: ArrayLike) -> np.ndarray:
    """Return the least-squares slope of log(errors) against log(sizes): (..., S) -> (...).

    -1/2 for the error of a mean of independent images. Raises ValueError for fewer than two sizes.

    >>> loglog_slope([1, 10, 100], [5.0, 0.5, 0.05]).round(6)
    np.float64(-1.0)
    """
    x = np.log(np.asarray(sizes, dtype=float))
    if len(np.unique(x)) < 2:
        raise ValueError(f"a slope needs at least two different sizes, got {sizes!r}")
    x = x - x.mean()
    return np.log(errors) @ x / (x @ x)


def _splits(psi, orders, sizes):
    psi, orders, sizes = per_image(psi, least=1), np.asarray(orders), np.atleast_1d(sizes)
    n = psi.shape[1]
    if orders.ndim != 2 or orders.shape[1] != n:
        raise ValueError(f"orders must be (D, N) with N = {n} images, got {orders.shape}")
    if sizes.min() < 1 or sizes.max() >= n:
        raise ValueError(
            f"sizes must leave images over: from 1 to {n - 1} of {n} images, got {sizes.tolist()}"
        )
    return psi, orders, sizes


def _first_means(psi, orders, sizes):
    """Means (M, S, D) of the first K images of every order."""
    sums = psi[:, orders[:, : sizes.max()]].cumsum(2)
    return np.moveaxis(sums[:, :, sizes - 1] / sizes, 1, 2)


def _over_draws(statistic, mean):
    values = evaluate(statistic, mean.reshape(len(mean), -1))
    return values.reshape(*values.shape[:-1], *mean.shape[1:])


def _shares(sid):
    sid = finite(sid, "sid")
    off = np.abs(sid.sum(0) - 1)
    if (off > 1e-5).any():
        raise ValueError(
            f"shares must sum to 1, but these are off by {off.max():.4g}; "
            f"use spectral_importance() first"
        )
    return sid


