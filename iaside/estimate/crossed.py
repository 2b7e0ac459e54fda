"""Intervals over networks (or trainings) and photographs that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from iaside.estimate.estimate import Estimate
from iaside.estimate.resampling import LEAST, draws, least, tail_of


def resampled_scores(
    values: Sequence[ArrayLike], statistic: Callable, n_resamples: int = 400, seed: int = 0
) -> np.ndarray:
    """Return a statistic of each of K networks on the photographs and on resamples of them.

    Shapes: values K arrays (M, N) of the same N photographs; statistic maps mean values (M, R),
    one column per resample, to (..., R). Returns (K, ..., 1 + n_resamples): column 0 is on the
    photographs as they are, each further one on the same resample for all networks. With fewer
    than 5 photographs resamples say nothing: NaN.
    Errors: ValueError for no network or for different photographs.

    >>> scores = resampled_scores([np.ones((2, 9)), np.eye(2, 9)], lambda mean: mean[0])
    >>> scores.shape, scores[:, 0].round(2).tolist()
    ((2, 401), [1.0, 0.11])
    """
    values = [np.asarray(v, dtype=float) for v in values]
    counts = {v.shape[-1] for v in values}
    if len(counts) != 1:
        raise ValueError(f"networks are compared on the same photographs, got {sorted(counts)}")
    n = counts.pop()
    weights = np.concatenate([np.full((n, 1), 1 / n), draws(n, n_resamples, seed)], axis=1)
    scores = np.stack([np.asarray(statistic(v @ weights), dtype=float) for v in values])
    if n < LEAST["photographs"]:
        scores[..., 1:] = np.nan
    return scores


def crossed_mean(
    scores: ArrayLike, n_images: int, level: float = 0.95, unit: str = "trainings"
) -> Estimate:
    """Return the mean of a score over K networks, allowing for other networks and photographs.

    Shapes: scores (K, 1 + R) as `resampled_scores` gives them; n_images is N. Two parts add up, in
    quadrature, to the reach of the limits: Student's with K - 1 degrees of freedom over what was
    drawn, and Student's with N - 1 over the photographs that all have in common. Below `LEAST` of
    the unit the limits are NaN.
    Source: docs/methods.md, Verdicts (networks and photographs crossed; the unit's own degrees of
    freedom).

    >>> f"{crossed_mean([[1.0] * 9, [2.0] * 9, [3.0] * 9], 9):.2f}"
    '2.00 [-0.48, 4.48], n = 3 trainings'
    """
    scores = np.asarray(scores, dtype=float)
    k = len(scores)
    variance = scores[:, 0].var(ddof=1) / k if k > 1 else np.nan
    return _crossed(scores.mean(0), variance, k - 1, k, n_images, level, unit)


def crossed_difference(
    first: ArrayLike, second: ArrayLike, n_images: int, level: float = 0.95, unit: str = "networks"
) -> Estimate:
    """Return the mean score of some networks minus that of others, limits as in `crossed_mean`.

    Each group is a part of its own, with its own degrees of freedom. (Welch's, of both together,
    are too many where the smaller group scatters more: of normal scores of 3 against 5 networks
    95 % limits missed the truth in up to 6.7 % of cases, 99.95 % limits in .5 %; these never in
    more than 5 and .05 %.) n is the size of the smaller group, which must hold `LEAST` of the unit.

    Shapes: first (A, 1 + R), second (B, 1 + R), on the same photographs and resamples of them.

    >>> high, low = [[4.0] * 9, [5.0] * 9, [6.0] * 9, [7.0] * 9], [[1.0] * 9] * 4
    >>> f"{crossed_difference(high, low, 9):.2f}"
    '4.50 [2.45, 6.55], n = 4 networks'
    """
    groups = [np.asarray(group, dtype=float) for group in (first, second)]
    sizes = np.array([len(group) for group in groups])
    difference = groups[0].mean(0) - groups[1].mean(0)
    if sizes.min() < 2:
        return _crossed(difference, np.nan, 1, sizes.min(), n_images, level, unit)
    variances = [group[:, 0].var(ddof=1) / len(group) for group in groups]
    return _crossed(difference, variances, sizes - 1, sizes.min(), n_images, level, unit)


def _crossed(found, variance, df, n, n_images, level, unit):
    """The value found on the photographs and on resamples of them, (1 + R,), with its limits.

    variance, df: over networks, of the whole or of each group of them.
    """
    # A resample varies by (n - 1) / n of what a new set of images does.
    over_images = found[1:].var(ddof=1) * n_images / max(n_images - 1, 1)
    variances = np.append(variance, over_images)
    if n < least(unit) or not np.isfinite(variances).all():
        return Estimate.unsure(found[0], n, unit)
    t = stdtrit(np.append(df, n_images - 1), tail_of(level))
    reach, se = np.sqrt((t**2 * variances).sum()), np.sqrt(variances.sum())
    return Estimate(found[0], se, found[0] - reach, found[0] + reach, n, unit)
