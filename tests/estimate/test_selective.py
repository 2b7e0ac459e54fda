"""Limits that allow for a choice hold the truth in the samples that were chosen."""

import numpy as np
import pytest
from scipy import stats

from iaside.estimate.estimate import Estimate
from iaside.estimate.selective import (
    Shown,
    Told,
    _log_between,
    allowing_for,
    allowing_in_difference,
    clearly_above_0,
)

ENDS = (-5.0, 5.0)
PART, WHOLE = np.array([[0.0, 1.0]]), np.array([1.0, 0.0])


def sample(rng, above, n=60):
    """Values (2, n): a whole worth 2, and a part so many standard errors above 0."""
    return rng.normal(size=(2, n)) + np.array([[2.0], [above / n**0.5]])


def ratio(psi):
    """The part over the whole, with limits that know of no choice."""
    (whole, part), n = psi.mean(1), psi.shape[1]
    value = part / whole
    se = np.std(psi[1] - value * psi[0], ddof=1) / n**0.5 / whole
    reach = stats.t.ppf(0.975, n - 1) * se
    numbers = (value, se, value - reach, value + reach)
    return Estimate(*(np.array([x]) for x in numbers), n, "photographs")


def told(psi):
    return clearly_above_0(psi, PART[0], 2.0)


@pytest.mark.parametrize("above", [0.0, 1.0, 2.5])
@pytest.mark.slow
def test_the_truth_is_held_however_rarely_a_number_is_told(above):
    rng, truth = np.random.default_rng(0), above / 60**0.5 / 2
    plain, allowed = [], []
    while len(allowed) < 300:
        psi = sample(rng, above)
        if (told(psi).rows @ psi.mean(1) < told(psi).least).any():
            continue
        found = ratio(psi)
        limits = allowing_for(found, Told(psi, PART, WHOLE, told(psi)), ENDS)
        plain.append(found.low[0] <= truth <= found.high[0])
        allowed.append(limits.low[0] <= truth <= limits.high[0])
        assert limits.low <= found.low and found.high <= limits.high
        assert limits.value == found.value and limits.se == found.se
    assert 0.92 <= np.mean(allowed) <= 0.99
    assert np.mean(plain) < {0.0: 0.1, 1.0: 0.9, 2.5: 0.98}[above]


def test_the_closer_to_the_threshold_the_farther_they_reach():
    psi = sample(np.random.default_rng(1), 0.0)
    error = psi[1].std(ddof=1) / 60**0.5
    reaches = []
    for above in (2.01, 2.5, 3.0, 4.0, 8.0):
        moved = psi + np.array([[0.0], [above * error - psi[1].mean()]])
        found = ratio(moved)
        limits = allowing_for(found, Told(moved, PART, WHOLE, told(moved)), ENDS)
        reaches.append((found.low - limits.low)[0] / found.se[0])
    assert (np.diff(reaches) < 0).all() and reaches[0] > 5
    assert reaches[-1] < 0.2, "far from the threshold there is nothing to allow for"


def test_conditions_on_other_things_change_little():
    """That the whole is clearly above 0 says next to nothing of a part that is independent."""
    psi = sample(np.random.default_rng(2), 3.0)
    found = ratio(psi)
    for shown in (Shown(np.zeros((0, 2)), np.zeros(0)), clearly_above_0(psi, WHOLE, 2.0)):
        limits = allowing_for(found, Told(psi, PART, WHOLE, shown), ENDS)
        np.testing.assert_allclose([limits.low, limits.high], [found.low, found.high], rtol=0.15)


def test_what_is_known_stays_and_shapes_are_kept():
    psi = sample(np.random.default_rng(3), 2.2)
    parts = np.array([[0.0, 1.0], [0.0, 0.0]])
    one = ratio(psi)
    both = Estimate(*(np.append(x, 0.0) for x in one), one.n, one.unit)
    limits = allowing_for(both, Told(psi, parts, WHOLE, told(psi)), ENDS)
    assert limits[1] == both[1] and limits.low[0] < one.low[0]
    alone = allowing_for(one[0], Told(psi, PART[0], WHOLE, told(psi)), ENDS)
    assert np.ndim(alone.low) == 0 and alone == limits[0]
    still = np.repeat([[2.0], [1.0]], 9, axis=1)
    known = Estimate.exact(0.5, 9, "photographs")
    assert allowing_for(known, Told(still, PART[0], WHOLE, told(still)), ENDS) == known


@pytest.mark.parametrize(("near", "far"), [(1.0, 2.0), (9.0, 9.5), (37.5, 38.0), (3.0, np.inf)])
def test_probabilities_far_out_are_exact(near, far):
    tail, beyond = stats.norm.logsf([near, far])
    expected = tail + np.log1p(-np.exp(beyond - tail))
    for low, high in ((near, far), (-far, -near)):
        assert _log_between(np.array(low), np.array(high)) == pytest.approx(expected, rel=1e-9)
    across = np.log(stats.norm.cdf(near) - stats.norm.cdf(-2.0))
    assert _log_between(np.array(-2.0), np.array(near)) == pytest.approx(across, rel=1e-9)


def test_differences_of_what_is_told_by_chance_hold_the_truth():
    rng, held = np.random.default_rng(4), []
    while len(held) < 200:
        both = [sample(rng, 1.0), sample(rng, 4.0)]
        if any((told(psi).rows @ psi.mean(1) < told(psi).least).any() for psi in both):
            continue
        one, other = map(ratio, both)
        se = np.hypot(one.se, other.se)
        value, reach = one.value - other.value, 2 * se
        plain = Estimate(value, se, value - reach, value + reach, 60, "photographs")
        sides = [Told(psi, PART, WHOLE, told(psi)) for psi in both]
        limits = allowing_in_difference(plain, *sides)
        held.append([e.low[0] <= -3 / 60**0.5 / 2 <= e.high[0] for e in (limits, plain)])
        turned = allowing_in_difference(-1 * plain, *sides[::-1])
        assert np.allclose([turned.low, turned.high], [-limits.high, -limits.low])
    allowed, naive = np.mean(held, axis=0)
    assert allowed > 0.91 and naive < allowed - 0.03, (allowed, naive)
