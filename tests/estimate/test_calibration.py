"""What is said of limits, where what they do is known."""

import numpy as np
import pytest
from populations import MEANS, skewed_population
from scipy import stats

from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import mean_interval
from iaside.score import score_estimate, sid_estimate, spectral_importance
from iaside.shapley import coalitions, shapley_values
from iaside.verdicts.calibration import (
    calibration,
    find_differences,
    find_sampled_scores,
    find_scores,
    find_values,
    same_photographs,
    scores,
    values_and_scores,
    values_and_shares,
)


def test_standard_errors_of_means_are_found_calibrated():
    """Variances of means are estimated without bias, whatever the population and the size."""
    psi = skewed_population(70, np.random.default_rng(0))

    def find(index, seed):
        return mean_interval(psi[:, index])

    found = calibration(find, psi.mean(1), n=70, size=12, n_samples=3000)
    truth = psi.std(1) / np.sqrt(12)
    np.testing.assert_allclose(found["estimated"], truth, rtol=0.05)
    np.testing.assert_allclose(found["observed"], truth, rtol=0.06)
    np.testing.assert_allclose(found["bias"], 0, atol=5 * truth.max() / 55)
    assert (found["told"] == 1).all() and (found["estimated_low"] < found["estimated"]).all()
    assert (found["estimated"] < found["estimated_high"]).all()


@pytest.mark.parametrize(("factor", "coverage"), [(1.0, 0.95), (0.5, 0.67), (0.0, 0.0)])
def test_limits_that_are_too_narrow_are_found_out(factor, coverage):
    """Of normal means: half as wide as they should be, they hold the truth in 67 %."""
    values = np.random.default_rng(0).normal(size=(1, 4000))

    def find(index, seed):
        mean, se, *_ = mean_interval(values[:, index])
        reach = factor * stats.t.ppf(0.975, len(index) - 1) * se
        return Estimate(mean, factor * se, mean - reach, mean + reach, len(index), "photographs")

    found = calibration(find, values.mean(1), n=4000, size=30, n_samples=1500)
    assert found["coverage"][0] == pytest.approx(coverage, abs=0.025)
    assert found["coverage_low"][0] <= found["coverage"][0] <= found["coverage_high"][0]
    assert found["estimated"][0] / found["observed"][0] == pytest.approx(factor, abs=0.05)


def test_a_bias_is_found_and_samples_without_limits_do_not_count():
    values = np.random.default_rng(0).normal(size=(1, 500))

    def find(index, seed):
        found = mean_interval(values[:, index]) + 0.5
        return found if seed % 4 else Estimate.unsure(found.value, len(index), "photographs")

    found = calibration(find, values.mean(1), n=500, size=40, n_samples=400)
    assert found["told"][0] == 0.75
    assert found["bias"][0] == pytest.approx(0.5, abs=0.03) and found["coverage"][0] < 0.2

    def never(index, seed):
        return Estimate.unsure(np.zeros(1), len(index), "photographs")

    none = calibration(never, [0.0], n=500, size=40, n_samples=5)
    assert none["told"] == 0 and np.isnan(none["coverage"]).all() and np.isnan(none["bias"]).all()


def test_samples_are_drawn_with_replacement_and_are_those_of_the_seed():
    seen = []

    def find(index, seed):
        seen.append((index, seed))
        return mean_interval(np.ones((1, len(index))))

    calibration(find, [1.0], n=9, size=30, n_samples=40, seed=3)
    assert [seed for _, seed in seen] == list(range(40))
    assert all(len(index) == 30 and index.max() < 9 for index, _ in seen)
    counts = np.bincount(np.concatenate([index for index, _ in seen]), minlength=9)
    assert stats.chisquare(counts).pvalue > 0.001
    first, seen[:] = [index for index, _ in seen], []
    calibration(find, [1.0], n=9, size=30, n_samples=40, seed=3)
    np.testing.assert_array_equal(first, [index for index, _ in seen])


def test_what_is_found_is_what_a_user_is_told():
    psi = skewed_population(30, np.random.default_rng(0))
    index = np.arange(24)
    unclear = find_values(psi, 200)(index, 5)
    assert np.isnan(unclear.value[8:16]).all(), "which band is the weakest is not clear"
    assert np.isnan(find_scores(psi, 0.5, 200)(index, 5).value).all()
    psi[7] -= 3
    values = find_values(psi, 200)(index, 5)
    sid = sid_estimate(psi[:, :24], n_resamples=200, seed=5)
    np.testing.assert_allclose([*values[8:16]], [*sid], atol=1e-12)
    np.testing.assert_allclose(values.value[16:].sum(), 1)
    score = find_scores(psi, 0.5, 200)(index, 5)
    alone = score_estimate(psi[:, :24], 0.5, "signed", n_resamples=200, seed=5)
    np.testing.assert_allclose([*score[2]], [*alone])
    other = psi + 1
    pair = find_differences(psi, other, n_resamples=200)(index, 5)
    np.testing.assert_allclose(pair.value[:8], -1)
    # The root of a variance that is 0 but for rounding, which differs from machine to machine.
    np.testing.assert_allclose([pair.low[8:], pair.high[8:]], 0, atol=1e-7)


def test_shares_of_what_may_be_nothing_are_not_told():
    psi = np.outer(MEANS, np.r_[np.ones(10), -np.ones(10)]) + 1e-3 * np.arange(20)
    nothing = find_values(psi, 100)(np.arange(20), 0)
    assert np.isnan(nothing.value[16:]).all() and np.isfinite(nothing.value[:8]).all()
    psi[7] -= 1
    clear = find_values(psi + 5, 100)(np.arange(20), 0)
    assert np.isfinite([clear.value, clear.low, clear.high]).all()


def test_numbers_are_stacked_in_the_order_in_which_they_are_named():
    mean = MEANS[:, None]
    sid = spectral_importance(mean)
    np.testing.assert_allclose(values_and_shares(mean), np.concatenate([mean, sid, mean / 7.6]))
    np.testing.assert_allclose(values_and_scores(mean), np.concatenate([mean, sid, scores(mean)]))
    paper, tight, signed = scores(np.eye(8)[:, -1:])[:, 0]
    assert signed == -tight and paper == pytest.approx(0.3002, abs=1e-4)


@pytest.mark.slow
def test_scores_of_drawn_coalitions_are_told_where_the_weakest_band_stays_clear():
    """The noise of a sample hides which band is the weakest, unless it is far below the others."""
    rng = np.random.default_rng(0)
    table = coalitions(8).astype(float) @ skewed_population(24, rng)
    table += 3 * rng.normal(size=24) * coalitions(8)[:, [0, 3, 5]].all(1)[:, None]

    def told(table):
        psi = shapley_values(table)
        truth = scores(psi.mean(1)[:, None])[:, 0]
        finds = find_scores(psi, n_resamples=100), find_sampled_scores(table, n_resamples=100)
        return [calibration(f, truth, n=24, size=12, n_samples=30)["told"][2] for f in finds]

    exact, sampled = told(table)
    assert sampled <= exact < 0.5
    clear = table - 4 * coalitions(8)[:, [7]]
    assert min(told(clear)) > 0.9


def test_photographs_are_the_same_by_labels_and_looks():
    about = {"images": "a", "labels": "b", "look": 16 * "00ff"}
    assert same_photographs(about, {"images": "a", "labels": "b"})
    assert not same_photographs(about, about | {"labels": "c"})
    assert not same_photographs(about, about | {"images": "d", "look": 16 * "ff00"})
    assert not same_photographs({}, {}), "nothing is known of either"
