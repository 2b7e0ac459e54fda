"""Limits, as a function of the level, of what a whole procedure found on resamples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

from iaside.estimate import Estimate
from iaside.intervals import RESOLVED, STUDENT, Levels, least


def of_resamples(rows: ArrayLike, n: int, unit: str = "photographs") -> Levels:
    """What a procedure found on n images, with the percentiles of its resamples, by the level.

    rows: (1 + resamples,), as `intervals.bootstrap` gives them: first on the images as they are.

    As in `intervals.at_levels`, percentiles are widened for small n (normal tails to Student's), a
    tail with fewer than 20 resamples moves out from the last that has them as Student's does, and
    below 15 images limits reach at least as far as Student's. They always hold the estimate.
    With fewer images than the unit needs the limits are NaN.
    Errors: ValueError for other shapes, or fewer than 40 resamples.
    Source: methods 9.2.

    >>> rows = np.r_[0.0, np.random.default_rng(0).normal(size=2000)]
    >>> of_resamples(rows, n=500)(0.95).limits(".0f"), of_resamples(rows, n=4)(0.95).limits(".0f")
    ('0 [-2, 2]', '0 (no interval)')
    """
    rows = np.asarray(rows, dtype=float)
    if rows.ndim != 1 or len(rows) < 1 + 2 * RESOLVED:
        raise ValueError(
            f"rows must be the estimate and at least {2 * RESOLVED} resamples of it, (1 + R,); "
            f"got {rows.shape}"
        )
    value, moved = rows[0], rows[1:] - rows[0]
    if n < least(unit):
        return lambda level: Estimate.unsure(value, n, unit)
    se = moved.std(ddof=1)

    def limits(level: float) -> Estimate:
        tail = (1 - level) / 2
        held, student = max(tail, RESOLVED / len(moved)), stdtrit(n - 1, tail)
        # Resamples spread less than samples do: by n - 1 over n.
        out = np.sqrt(n / (n - 1)) * student / ndtri(held)
        low, high = np.quantile(moved, [held, 1 - held])
        low, high = min(0.0, low * out), max(0.0, high * out)
        if n < STUDENT:
            low, high = min(low, student * se), max(high, -student * se)
        return Estimate(value, se, value + low, value + high, n, unit)

    return limits
