"""The best of several variants on the same images, and how good it is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from iaside.backend.content import by_content
from iaside.estimate.estimate import Estimate
from iaside.estimate.resampling import LEAST, Levels, per_image, tail_of, warn_too_few


@by_content
class Best(NamedTuple):
    """The best of some variants on the same images: which they are, their mean, and how far it is
    above the mean of all."""

    rows: list[int]
    score: Estimate
    above: Estimate


def best_interval(
    rows: ArrayLike, level: float = 0.95, n_resamples: int = 4000, seed: int = 0
) -> Best:
    """Return which of K variants is the best on the same images, and how good it is.

    `rows` is (K, N), one column per image; several are the best where they are equal. What was the
    best of K in these images looks better than it is: the limits of its mean, and of how far that
    is above the mean of all rows, in pairs, hold for all K at once, hence for whichever is the
    best. They reach as many standard errors as the farthest of K means lies off in all but so many
    normal samples of N images, whose rows vary together as these do (max-t: Hothorn, Bretz and
    Westfall 2008). Of K rows some vary little by chance, the more so the skewer they are, and would
    pass for the best: no standard error counts for less than one that nine of ten do not exceed.

    With fewer than 5 images the limits (with one, the standard error too) are NaN, with a
    RuntimeWarning. Errors as in `interval`.

    >>> rows = np.random.default_rng(0).normal(size=(3, 40)) + [[0.0], [2.0], [0.0]]
    >>> best = best_interval(rows)
    >>> best.rows, bool(best.above.low > 0)
    ([1], True)
    """
    rows = per_image(rows, least=1)
    means = rows.mean(1)
    score = _of_one(rows, means.argmax(), n_resamples, seed)(level)
    above = lead_at_levels(rows, n_resamples, seed)(level)
    return Best(np.flatnonzero(means == means.max()).tolist(), score, above)


def lead_at_levels(rows: ArrayLike, n_resamples: int = 4000, seed: int = 0) -> Levels:
    """Return how far the best is above the mean of all, as in `best_interval`, by the level.

    >>> rows = np.random.default_rng(0).normal(size=(3, 40)) + [[0.0], [2.0], [0.0]]
    >>> lead = lead_at_levels(rows)
    >>> bool(lead(0.999).low < lead(0.95).low)
    True
    """
    rows = per_image(rows, least=1)
    return _of_one(rows - rows.mean(0), rows.mean(1).argmax(), n_resamples, seed)


def _of_one(values: np.ndarray, row: int, n_resamples: int, seed: int) -> Levels:
    """The mean of a row with limits that hold for those of all rows at once."""
    if n_resamples < 100:
        raise ValueError(f"n_resamples must be at least 100, got {n_resamples!r}")
    n, value = values.shape[1], values[row].mean()
    se = values.std(1, ddof=1) / np.sqrt(n) if n > 1 else np.full(len(values), np.nan)
    if n < LEAST["photographs"]:
        warn_too_few(n, "photographs")
        return lambda level: Estimate.unsure(value, n, "photographs", se[row])
    unit, far = _no_less_than_most(se)[row], _farthest_of_all(values, n_resamples, seed)

    def limits(level: float) -> Estimate:
        reach = unit * np.quantile(far, 1 - tail_of(level))
        return Estimate(value, se[row], value - reach, value + reach, n, "photographs")

    return limits


def _farthest_of_all(values: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """How many standard errors the farthest up of the means of rows (K, n) lies off its own, in
    normal samples (n_resamples,)."""
    n, rng, found = values.shape[1], np.random.default_rng(seed), []
    root = np.linalg.qr((values - values.mean(1, keepdims=True)).T / np.sqrt(n - 1), mode="r")
    for some in np.array_split(np.arange(n_resamples), -(-n_resamples * n // 20_000)):
        drawn = (rng.normal(size=(len(some) * n, len(root))) @ root).reshape(len(some), n, -1)
        # A mean, times sqrt(n), and the squares of a standard deviation are n independent draws.
        spread = np.sqrt((drawn[:, 1:] ** 2).mean(1))
        found.append((drawn[:, 0] / _no_less_than_most(spread)).max(1))
    return np.concatenate(found)


def _no_less_than_most(spread: np.ndarray) -> np.ndarray:
    """Spreads (..., K), none below the one that nine of ten do not exceed."""
    nine_of_ten = -(-9 * spread.shape[-1] // 10) - 1
    most = np.partition(spread, nine_of_ten, axis=-1)[..., nine_of_ten, None]
    return np.maximum(spread, np.maximum(most, np.finfo(float).tiny))
