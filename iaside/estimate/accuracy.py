"""Accuracies and differences of accuracies, with exact or Wilson intervals."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtrc, gammaln, ndtri, xlogy

from iaside.estimate.clean import wilson
from iaside.estimate.estimate import Estimate

SHARES = 201  # of images that differ, of which a test takes the worst


def accuracy_interval(correct: ArrayLike, level: float = 0.95) -> Estimate:
    """Return the share of correct answers, (...), with its Wilson interval; `correct` is (..., N).

    Resampling would find no spread at all where every answer is right, or none.

    Raises ValueError for anything but zeros and ones.

    >>> accuracy_interval([1, 1, 1, 1]).low.round(2)
    np.float64(0.51)
    """
    correct = np.asarray(correct, dtype=float)
    if not np.isin(correct, (0, 1)).all():
        raise ValueError("correct must hold zeros and ones only, one per image")
    p, n = correct.mean(-1), correct.shape[-1]
    return Estimate(p, np.sqrt(p * (1 - p) / n), *wilson(p, n, level), n, "photographs")


def accuracy_difference(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Estimate:
    """Return accuracy of `first` minus accuracy of `second` on the same images, each (N,).

    Agresti and Min's interval for paired zeros and ones, which adds half an image to each of the
    four outcomes: resampling would find no spread where all images agree. The limits hold 0
    wherever the exact test of as many images lost as won does not reject it: at high levels a
    normal tail believes too few of them (five of five are one in 16). The test allows for every
    share of images that differ, and finds more than the sign test, which takes it as given.
    Source: Agresti and Min 2005; Suissa and Shuster 1991 (the test).

    Of no images everything is nan.
    Raises ValueError for anything but zeros and ones, or unequal lengths.

    >>> d = accuracy_difference([1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0])
    >>> float(d.estimate), bool(0.2 < d.low < d.high <= 1)
    (1.0, True)
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"both need one number per image, got {first.shape} and {second.shape}")
    if not (np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all()):
        raise ValueError("both must hold zeros and ones only, one per image")
    n, d = len(first), first - second
    if not n:
        return Estimate.unsure(np.nan, 0, "photographs")
    lost, won = (d > 0).sum() + 0.5, (d < 0).sum() + 0.5
    centre = (lost - won) / (n + 2)
    se = np.sqrt((lost + won) - (lost - won) ** 2 / (n + 2)) / (n + 2)
    reach = ndtri((1 + level) / 2) * se
    own = d.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    low, high = max(-1.0, centre - reach), min(1.0, centre + reach)
    told = low > 0 or high < 0
    if told and _lost_as_won(int((d > 0).sum()), int((d < 0).sum()), n) > 1 - level:
        low, high = min(low, 0.0), max(high, 0.0)
    return Estimate(d.mean(), own, low, high, n, "photographs")


@functools.lru_cache(maxsize=1000)
def _lost_as_won(lost: int, won: int, n: int) -> float:
    """The two-sided p value of so many of n images lost and won where either is as likely, at the
    share of images that differ which makes it largest."""
    if lost == won:
        return 1.0
    differ = np.arange(1, n + 1)  # of which at least so many have to be on one side
    least = np.ceil((differ + abs(lost - won) / np.sqrt(lost + won) * np.sqrt(differ)) / 2 - 1e-9)
    tail = np.where(least <= differ, bdtrc(np.minimum(least, differ) - 1, differ, 0.5), 0.0)
    ways = gammaln(n + 1) - gammaln(differ + 1) - gammaln(n - differ + 1)

    def p(share: float) -> float:
        return np.exp(ways + xlogy(differ, share) + xlogy(n - differ, 1 - share)) @ tail

    return min(1.0, 2 * float(max(map(p, np.linspace(0, 1, SHARES)[1:]))))
