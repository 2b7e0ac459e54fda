"""Differences of scores, in populations whose scores are known."""

import numpy as np
import pytest
from scipy import stats

from iaside.estimate.weakest import _above_the_least, flat, score_lead_at_levels

ROW = np.array([0.5, 0.2, -0.3, -0.4])  # of sum 0
CLEAR = np.array([3.0, 1.5, 1.0, -9.0])  # its weakest band is far from the others


def drawn(mean, n=24, size=1.0, seed=0):
    return np.asarray(mean)[:, None] + size * np.random.default_rng(seed).normal(size=(4, n))


def score(mean):
    return ROW @ mean / (mean - mean.min()).sum()


def ratio(psi, weakest):
    """The score as a ratio of two means, and what each image adds to its deviation."""
    above = psi.sum(0) - 4 * psi[weakest]
    value = (ROW @ psi).mean() / above.mean()
    return value, (ROW @ psi - value * above) / above.mean()


def test_where_the_weakest_bands_are_clear_limits_are_students_of_two_ratios():
    own, other = drawn(CLEAR), drawn(CLEAR * [1, 2, 1, 1], seed=1)
    (first, a), (second, b) = ratio(own, 3), ratio(other, 3)
    se = (a - b).std(ddof=1) / np.sqrt(24)
    for level in (0.5, 0.95, 0.999):
        found = score_lead_at_levels(own, [other], ROW)(level)
        reach = stats.t.ppf((1 + level) / 2, 23) * se
        value = first - second
        np.testing.assert_allclose([*found], [value, se, value - reach, value + reach], rtol=0.02)
    assert found.value == pytest.approx(score(own.mean(1)) - score(other.mean(1)))


def test_what_moves_or_scales_all_bands_of_a_network_changes_nothing():
    own, other = drawn([3, 2, 0.2, 0.1]), drawn([2, 1, 0, 0], seed=1)
    moved = 7 * own + 3 * np.random.default_rng(2).normal(size=24)
    limits = [[*score_lead_at_levels(psi, [other], ROW)(0.95)] for psi in (own, moved)]
    np.testing.assert_allclose(*limits)


def test_the_lead_of_the_other_is_minus_that_of_the_one():
    own, other = drawn([3, 2, 0.2, 0.1]), drawn([2, 1, 0, 0], seed=1)
    found = (-score_lead_at_levels(other, [own], ROW)(0.95)).limits(".9f")
    assert score_lead_at_levels(own, [other], ROW)(0.95).limits(".9f") == found
    three = score_lead_at_levels(own, [other, other], ROW)(0.95)
    np.testing.assert_allclose([*three], [*score_lead_at_levels(own, [other], ROW)(0.95)])


def test_the_least_of_equal_values_is_found_without_bias():
    """The least of what was found is .56 standard errors too low, and the sum above it too large
    by four times that."""
    worlds = [drawn([9, 9, 0, 0], n=16, seed=seed) for seed in range(800)]
    found = np.array([_above_the_least(psi)[1] for psi in worlds])
    means = np.array([psi.mean(1) for psi in worlds])
    plain = means.sum(1) - 4 * means.min(1)
    assert found.mean() == pytest.approx(18, abs=4 * found.std() / np.sqrt(800))
    assert plain.mean() == pytest.approx(18 + 4 * 0.56 / 4, abs=0.1)


def test_equal_scores_are_seldom_told_apart_where_the_weakest_bands_are_equal():
    """With the plain scores on both sides they are in 9 %."""
    own, other = np.array([1.525 / 0.15, 1.5, 1.0, -1.0]), np.array([2.0, 2.0, 0.0, 0.0])
    assert score(own) == pytest.approx(score(other))
    told = 0
    for seed in range(600):
        first, second = drawn(own, size=1.5, seed=seed), drawn(other, size=1.5, seed=9000 + seed)
        found = score_lead_at_levels(first, [second], ROW)(0.95)
        told += found.low > 0 or found.high < 0
    assert told / 600 < 0.06


def test_a_noisy_band_may_be_the_weakest_though_it_does_not_look_so():
    """It looks no weaker than the next one, a standard error above it, in 16 % of samples."""
    gap, told = 24**-0.5, 0
    own = np.array([(0.5 * gap + 0.6) / 0.3, 0.0, gap, 1.0])  # a score of the noisy band's weight
    other = np.array([1.1 / 0.3, 0.0, 1.0, 1.0])
    assert score(own) == pytest.approx(0.2) and score(other) == pytest.approx(0.2)
    own, other = own[:, None], other[:, None] + np.zeros(24)
    for seed in range(400):
        psi = own + np.eye(4)[1][:, None] * drawn(np.zeros(4), seed=seed)
        told += score_lead_at_levels(psi, [other], ROW)(0.95).low > 0
    assert told / 400 < 0.05


def test_nothing_is_told_of_bands_that_may_be_worth_the_same():
    level, none = drawn([1, 1, 1, 1]), drawn([3, 2, 1, 0])
    assert flat(level) and not flat(none)
    for own, other in ((level, none), (none, level)):
        found = score_lead_at_levels(own, [other], ROW)(0.95)
        assert np.isfinite([found.value, found.se]).all()
        assert np.isnan([found.low, found.high]).all()
    alike = np.ones((4, 9))
    assert score_lead_at_levels(alike, [alike], ROW)(0.95).value == 0
    with pytest.warns(RuntimeWarning, match="at least 5 photographs"):
        few = score_lead_at_levels(none[:, :4], [none[:, 4:8]], ROW)(0.95)
    assert np.isnan(few.low) and few.n == 4
    with pytest.raises(ValueError, match=r"\(4, 24\) and \(4, 9\)"):
        score_lead_at_levels(none, [alike], ROW)
