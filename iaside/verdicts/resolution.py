"""Verdicts on the number of bands, and on sampled against enumerated coalitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import distance_at_levels, mean_interval
from iaside.estimate.resampling import LEAST
from iaside.score import spectral_importance
from iaside.verdicts.rules import decide


def m8_suffices(
    summed: Mapping[str, ArrayLike], exact: Mapping[str, ArrayLike], data: str = ""
) -> dict:
    """Judge whether finer values, summed within eight bands, make the SID of these eight bands.

    Shapes: summed and exact map parts (a network and a number of bands) to values (8, N) of the
    same photographs.

    >>> values = {"net, M = 16": np.array([[3.0], [2.0], [0.0]]) + np.zeros(9)}
    >>> m8_suffices(values, values)["verdict"]
    'supported'
    """
    parts = {
        name: distance_at_levels(values, exact[name], spectral_importance)
        for name, values in summed.items()
    }
    return decide("m8_suffices", parts, data=data)


def sampling_inaccurate(errors: Mapping[str, ArrayLike], n_images: int, data: str = "") -> dict:
    """Judge whether the SID from sampled coalitions lies far from the exact one, on average over
    draws of coalitions, which are the unit.

    Shapes: errors maps networks to the L1 distance in each draw (D,), on the n_images photographs
    at hand.

    >>> sampling_inaccurate({"net": [0.01, 0.02, 0.01, 0.02, 0.01]}, n_images=24)["verdict"]
    'contradicted'
    """
    parts = {name: partial(mean_of_draws, found) for name, found in errors.items()}
    few = n_images < LEAST["photographs"]
    short = f"n = {n_images} photographs, {LEAST['photographs']} are needed" if few else ""
    note = f"of the same {n_images} photographs"
    return decide("sampling_inaccurate", parts, note, data, short)


def mean_of_draws(errors: ArrayLike, level: float = 0.95) -> Estimate:
    """The mean over draws (D,), with Student's limits; none of fewer than 5 draws.

    >>> print(mean_of_draws([0.1, 0.2, 0.3, 0.2, 0.2]))
    0.20 [0.11, 0.29], n = 5 draws
    """
    found = mean_interval(np.asarray(errors, dtype=float)[None], level)[0]
    return replace(found, unit="draws")
