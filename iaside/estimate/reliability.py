"""Attenuation: how much the scatter over photographs lowers a coefficient over networks."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from iaside.estimate.coefficients import coefficient, measured_together, without_group_means
from iaside.estimate.correlation import independent
from iaside.estimate.estimate import Estimate

DRAWS = 400  # of networks and photographs, for what is shown only


def reliability(
    x: ArrayLike, n_images: int, groups: Sequence[Hashable] | None = None, level: float = 0.95
) -> Estimate:
    """Return the share of a score's spread over networks that other photographs would not move.

    1 less the variance over photographs over that over networks (within groups); at most 1, below
    0 where the errors are over-estimated. Limits: Student's times the spread of the logarithm of
    the share of errors when networks are drawn again, and the variance over photographs is as
    uncertain as that of normal numbers; none of a score without errors.

    Shapes: x (K, 1 + R) as `crossed.resampled_scores` gives it of n_images photographs; groups
    (K,).
    Source: docs/methods.md, Correlations.

    >>> scores = np.arange(6.0)[:, None] + np.zeros((6, 101))
    >>> print(reliability(scores, n_images=9))
    1.00 (no interval), n = 6 networks
    """
    x, _, _, g = measured_together(x, x, "spearman", None, groups)
    value, *drawn = 1 - _reliable(x, n_images, g, *_drawn_again(len(x), n_images, g))
    if not value > 0 or (df := independent(len(x), groups) - 1) < 1:
        return Estimate.unsure(1 - value, len(x), "networks")
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.log(drawn)
    se = np.std(apart[np.isfinite(apart)], ddof=1)
    low, high = (1 - value * math.exp(s * stdtrit(df, (1 + level) / 2) * se) for s in (1, -1))
    return Estimate(1 - value, value * se, low, high, len(x), "networks")


def without_error(
    x: ArrayLike,
    y: ArrayLike,
    n_images: int,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Estimate:
    """Return Spearman's coefficient corrected for measurement error, for show: it decides nothing.

    The coefficient over the root of both reliabilities (`reliability`). NaN where an error
    explains all of a spread; beyond 1 in size where the errors are over-estimated. Limits:
    percentiles over networks, drawn again, and with them coefficient and reliabilities, these as
    uncertain as photographs leave them; a draw in which an error explains all may be anything, and
    counts at both ends.

    Shapes: x, y (K, 1 + R) as `crossed.resampled_scores` gives them of n_images photographs;
    groups (K,).
    Source: Spearman 1904; docs/methods.md, Verdicts (shown, never decides).

    >>> scores = np.arange(6.0)[:, None] + np.zeros((6, 101))
    >>> print(without_error(scores, -scores, n_images=9))
    -1.00 [-1.00, -1.00], n = 6 networks
    """
    x, y, _, g = measured_together(x, y, "spearman", None, groups)
    index, off = _drawn_again(len(x), n_images, g)
    r = coefficient(x[index, 0], y[index, 0], groups=None if g is None else g[index])
    shares = [_reliable(v, n_images, g, index, off) for v in (x, y)]
    both = np.where((shares[0] > 0) & (shares[1] > 0), shares[0] * shares[1], np.nan)
    found, tail = r / np.sqrt(both), (1 - level) / 2
    if not np.isfinite(found[0]):
        return Estimate.unsure(np.nan, len(x), "networks")
    low, high = (
        np.quantile(np.where(np.isnan(found[1:]), end, found[1:]), q, method="nearest")
        for q, end in ((tail, -np.inf), (1 - tail, np.inf))
    )
    return Estimate(found[0], np.nanstd(found[1:]), low, high, len(x), "networks")


def _drawn_again(n: int, n_images: int, g: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Networks, (1 + D, n), each in the place of one of its group, and by what the variance over
    photographs is off, (1 + D,), of every draw: as of so many normal numbers. The first are the
    networks and the variance at hand."""
    rng, df = np.random.default_rng(0), max(n_images - 1, 1)
    index = np.tile(np.arange(n), (1 + DRAWS, 1))
    for own in [index[0]] if g is None else [np.flatnonzero(g == k) for k in np.unique(g)]:
        index[1:, own] = rng.choice(own, (DRAWS, len(own)))
    return index, np.concatenate([[1.0], rng.chisquare(df, DRAWS) / df])


def _reliable(
    v: np.ndarray, n_images: int, g: np.ndarray | None, index: np.ndarray, off: np.ndarray
) -> np.ndarray:
    """The reliability of a score, (n, 1 + R), in every draw of `_drawn_again`, (1 + D,)."""
    groups = np.zeros(index.shape, int) if g is None else g[index]
    spread = (without_group_means(v[index, 0], groups) ** 2).sum(1)
    known = v[:, 1:][:, np.isfinite(v[:, 1:]).all(0)]
    # Without resamples there is no error; of too few photographs none is known.
    error = np.full(len(index), 0.0 if v.shape[1] == 1 else np.nan)
    if known.shape[1] > 1:
        cov = np.atleast_2d(np.cov(known))[index[:, :, None], index[:, None]]  # (1 + D, n, n)
        alike = groups[:, :, None] == groups[:, None]
        lost = (cov * alike / alike.sum(2, keepdims=True)).sum((1, 2))  # with means of groups
        error = np.diagonal(cov, axis1=1, axis2=2).sum(1) - lost
    # Resamples vary by less than new photographs.
    error *= n_images / max(n_images - 1, 1) * off
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, 1 - error / spread, np.nan)
