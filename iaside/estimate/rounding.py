"""Rounding: when a difference is no more than floating-point error."""

import numpy as np
from numpy.typing import ArrayLike

ROUNDING = 1e-12  # of the largest number that was added or taken off: no more is known


def total_worth(values: ArrayLike) -> np.ndarray:
    """The sum of values (M, N) of each image, v(all) - v(none): 0 where only rounding is left.

    >>> total_worth([[0.1, 1.0], [0.2, 1.0], [-0.3, 1.0]])
    array([0., 3.])
    """
    values = np.asarray(values, dtype=float)
    total = values.sum(0)
    return np.where(np.abs(total) <= ROUNDING * np.abs(values).max(0), 0.0, total)


def flat(values: ArrayLike, groups: np.ndarray | None = None, tolerance: float | None = None):
    """Which rows (R, n) are constant, but for rounding: of all of it, or within every group.

    Means and deviations of n numbers are known to about n roundings of the largest of them: what
    spreads by no more, each of them a few roundings off itself, has no spread that is known.

    Shapes: values, groups (R, n); returns (R,) bool, False for NaN.
    tolerance: of the spread, relative to the largest magnitude; None is 4 n roundings of float64.

    >>> flat([[0.3, 0.1 + 0.2, 0.3], [1e8, 1e8 + 1e-3, 1e8], [0, 0, 0]]).tolist()
    [True, False, True]
    """
    values = np.asarray(values, dtype=float)
    largest = np.abs(values, where=np.isfinite(values), out=np.zeros(values.shape)).max(1)
    tolerance = 4 * values.shape[1] * np.finfo(float).eps if tolerance is None else tolerance
    still = np.ones(len(values), bool)
    for group in [None] if groups is None else np.unique(groups):
        inside = True if group is None else groups == group
        high = np.where(inside, values, -np.inf).max(1)
        low = np.where(inside, values, np.inf).min(1)
        with np.errstate(invalid="ignore", over="ignore"):
            still &= (high <= low) | (high - low <= tolerance * largest)
    return still
