"""Statements about means over photographs, on which verdicts of several reports rest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import at_levels
from iaside.estimate.resampling import Levels


def over_photographs(rows: ArrayLike, statistic: Callable | None = None) -> Levels:
    """A statistic of the means of rows over the photographs that have all of them, by its level.

    Shapes: rows (K, N), or (N,) for one, nan where there is no number; statistic maps means (K, R)
    to (R,), None is the mean over rows. Of no photograph the value is nan.
    Source: docs/methods.md, Verdicts (the unit is what was drawn).

    >>> print(over_photographs([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, np.nan]])(0.95).n)
    5
    """
    rows = np.atleast_2d(np.asarray(rows, dtype=float))
    rows = rows[:, np.isfinite(rows).all(0)]
    if not rows.size:
        return lambda level: Estimate.unsure(np.nan, 0, "photographs")
    if statistic is None:  # the same as of K means, from one row
        return at_levels(rows.mean(0)[None], lambda mean: mean[0])
    return at_levels(rows, statistic)
