"""Differences of numbers that were measured on different photographs."""

from __future__ import annotations

import numpy as np

from iaside.estimate.estimate import Estimate


def unpaired_difference(first: Estimate, second: Estimate) -> Estimate:
    """Return first minus second, of independent samples, with limits from those of both.

    Each limit lies as far out as the distances of the two limits that lead there, squared and
    added (MOVER); of Wilson's limits of two shares that is Newcombe's interval. n is that of both.

    Source: Zou and Donner 2008; Newcombe 1998 (shares, his method 10).

    >>> from iaside.estimate.accuracy import accuracy_interval
    >>> shares = [accuracy_interval([1] * k + [0] * (n - k)) for k, n in ((56, 70), (48, 80))]
    >>> print(f"{unpaired_difference(*shares):.3f}")
    0.200 [0.052, 0.334], n = 150 photographs
    """
    value = first.value - second.value
    low = value - np.hypot(first.value - first.low, second.high - second.value)
    high = value + np.hypot(first.high - first.value, second.value - second.low)
    se = np.hypot(first.se, second.se)
    return Estimate(value, se, low, high, first.n + second.n, first.unit)
