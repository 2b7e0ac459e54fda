"""Differences of independent samples: published limits, and how often they hold the truth."""

import numpy as np
import pytest

from iaside.estimate.accuracy import accuracy_interval
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import mean_interval
from iaside.estimate.unpaired import unpaired_difference


@pytest.mark.parametrize(
    ("first", "second", "limits"),
    [  # Newcombe 1998, Table II, method 10
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
    ],
)
def test_of_shares_it_is_newcombes_interval(first, second, limits):
    shares = [accuracy_interval([1] * k + [0] * (n - k)) for k, n in (first, second)]
    found = unpaired_difference(*shares)
    assert (found.low, found.high) == pytest.approx(limits, abs=6e-5)


def test_it_holds_the_true_difference_as_often_as_it_says():
    rng, n_worlds = np.random.default_rng(0), 4000
    first = mean_interval(rng.normal(1, 1, (n_worlds, 12)))
    second = mean_interval(rng.normal(0, 3, (n_worlds, 30)))
    found = unpaired_difference(first, second)
    holds = ((found.low <= 1) & (1 <= found.high)).mean()
    assert 0.94 < holds < 0.97


def test_without_limits_of_one_there_are_none():
    known = Estimate(1.0, 0.1, 0.8, 1.2, 9, "photographs")
    found = unpaired_difference(known, Estimate.unsure(0.5, 1, "photographs"))
    assert found.value == 0.5 and np.isnan(found.low) and np.isnan(found.high)
