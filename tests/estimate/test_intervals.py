"""Limits against textbooks, and against what they promise: coverage."""

import itertools
import warnings

import numpy as np
import pytest
from populations import MEANS, skewed_population
from scipy import stats

from iaside.estimate import intervals
from iaside.estimate.accuracy import accuracy_difference, accuracy_interval
from iaside.estimate.crossed import crossed_difference, crossed_mean, resampled_scores
from iaside.estimate.intervals import (
    at_levels,
    contrast_interval,
    distance_at_levels,
    interval,
    mean_interval,
    nonuniformity,
    paired_distance,
    paired_interval,
    standard_errors,
)
from iaside.estimate.resampling import LEAST, bootstrap, draws, of_resamples
from iaside.score import robustness_score, spectral_importance
from iaside.shapley import coalitions, shapley_values


def all_scores(mean):
    sid = spectral_importance(mean)
    return np.vstack([sid, robustness_score(sid), robustness_score(sid, signed=True)])


def robustness_of(mean):
    return robustness_score(spectral_importance(mean), signed=True)


def test_standard_error_is_that_of_the_linear_map():
    """Noise of variance 1 per worth, independent over coalitions, gives sqrt(0.0762 / N)."""
    worths = np.random.default_rng(0).normal(size=(256, 4000))
    expected = np.sqrt(0.0761905 / 4000)
    np.testing.assert_allclose(standard_errors(shapley_values(worths)), expected, rtol=0.05)


def test_the_same_images_for_all_coalitions_beat_other_images_for_each():
    rng, n_images, n_drawn = np.random.default_rng(0), 400, 40
    members = coalitions(5).astype(float)
    difficulty = rng.normal(size=n_images)  # shifts all worths of an image: should cancel
    worths = members @ rng.gamma(2, 0.2, size=(5, n_images)) + difficulty
    truth = shapley_values(worths).mean(1)
    paired, unpaired = [], []
    for _ in range(100):
        same = rng.choice(n_images, n_drawn)
        paired.append(shapley_values(worths[:, same]).mean(1) - truth)
        other = rng.choice(n_images, (32, n_drawn))
        unpaired.append(shapley_values(np.take_along_axis(worths, other, 1).mean(1)) - truth)
    assert np.std(paired) < 0.8 * np.std(unpaired)


def test_interval_of_the_mean_has_the_textbook_standard_error():
    psi = skewed_population(24, np.random.default_rng(0))
    result = interval(psi, lambda mean: mean)
    np.testing.assert_allclose(result.value, psi.mean(1))
    np.testing.assert_allclose(result.se, standard_errors(psi))


def test_interval_of_normal_means_is_students():
    psi = np.random.default_rng(0).normal(size=(2, 1000)) + 5
    found = interval(psi, lambda mean: mean, n_resamples=5000)
    low, high = found.low[0], found.high[0]
    center, half = psi[0].mean(), 1.96 * standard_errors(psi)[0]
    assert [low, high] == pytest.approx([center - half, center + half], abs=0.05 * half)


def test_delta_standard_error_of_the_sid_agrees_with_the_jackknife():
    psi = skewed_population(200, np.random.default_rng(2), means=MEANS - 3 * (MEANS < 0.15))
    leave_one = (psi.sum(1, keepdims=True) - psi) / 199
    jackknife = np.sqrt(199 * all_scores(leave_one).var(1))
    result = interval(psi, all_scores)
    np.testing.assert_allclose(result.se[jackknife > 0], jackknife[jackknife > 0], rtol=0.05)


@pytest.mark.slow
def test_coverage_at_24_images():
    """95 % intervals hold the truth about 95 % of the time, where plain percentiles do not."""
    rng, repeats = np.random.default_rng(0), 250
    truth = all_scores(MEANS[:, None])[:, 0]
    held, held_by_percentiles = [], []
    for repeat in range(repeats):
        psi = skewed_population(24, rng)
        result = interval(psi, all_scores, n_resamples=500, seed=repeat)
        held.append((result.low <= truth + 1e-12) & (truth <= result.high))
        drawn = draws(24, 500, repeat)
        low, high = np.quantile(all_scores(psi @ drawn), [0.025, 0.975], axis=1)
        held_by_percentiles.append((low <= truth) & (truth <= high))
    held, by_percentiles = np.mean(held, 0), np.mean(held_by_percentiles, 0)
    assert held.min() > 0.87 and 0.92 < held.mean() < 0.985
    assert by_percentiles[8:].max() < 0.83  # SRC, paper and signed
    assert by_percentiles.mean() < 0.90


@pytest.mark.slow
def test_coverage_of_a_paired_difference_and_its_gain():
    rng, repeats = np.random.default_rng(0), 150
    means = MEANS - 0.5 * (np.arange(8) == 0)
    truth = all_scores(MEANS[:, None])[:, 0] - all_scores(means[:, None])[:, 0]
    held, gain = [], []
    for repeat in range(repeats):
        psi_a = skewed_population(24, rng)
        psi_b = psi_a + (means - MEANS)[:, None] + 0.1 * rng.normal(size=psi_a.shape)
        result = paired_interval(psi_a, psi_b, all_scores, n_resamples=300, seed=repeat)
        held.append((result.low <= truth + 1e-12) & (truth <= result.high + 1e-12))
        apart = [interval(psi, all_scores, n_resamples=100).se[0] for psi in (psi_a, psi_b)]
        gain.append(np.hypot(*apart) / result.se[0])
    assert np.mean(held, 0)[[0, 1, 8, 9]].min() > 0.88
    assert np.median(gain) > 2


def test_paired_interval_of_a_model_with_itself_is_zero():
    psi = skewed_population(24, np.random.default_rng(0))
    for field in paired_interval(psi, psi, all_scores):
        np.testing.assert_allclose(field, 0, atol=1e-8)


def test_paired_interval_keeps_the_order_of_its_models():
    psi = skewed_population(24, np.random.default_rng(0))
    there = paired_interval(psi, psi[::-1], robustness_of)
    back = paired_interval(psi[::-1], psi, robustness_of)
    assert there.value == robustness_of(psi.mean(1)) - robustness_of(psi[::-1].mean(1))
    assert there.low == pytest.approx(-back.high) and there.low <= there.value <= there.high


def distance_of(mean):
    return np.abs(spectral_importance(mean[:8]) - spectral_importance(mean[8:])).sum(0)


@pytest.mark.parametrize(("n_images", "noise"), [(12, 1.0), (24, 0.3)])
@pytest.mark.slow
def test_a_distance_of_equal_sids_is_not_mistaken_for_one(n_images, noise):
    """Noise alone: the plain interval lies wholly above the true 0 time and again."""
    rng, repeats = np.random.default_rng(0), 120
    above, plainly_above, estimates = 0, 0, []
    for repeat in range(repeats):
        psi_a = skewed_population(n_images, rng)
        psi_b = psi_a + noise * rng.normal(size=psi_a.shape)
        found = paired_distance(psi_a, psi_b, spectral_importance, n_resamples=300, seed=repeat)
        plain = interval(np.concatenate([psi_a, psi_b]), distance_of, n_resamples=300, seed=repeat)
        assert found.value == pytest.approx(plain.value) and found.low >= 0
        above += found.low > 0
        plainly_above += plain.low > 0
        estimates.append(found.value)
    assert above <= 0.05 * repeats < 0.1 * repeats < plainly_above
    assert np.mean(estimates) > 0.02, "the estimate is biased upwards, and not corrected"


@pytest.mark.parametrize("shift", [0.1, 0.5, 1.5])
def test_coverage_of_a_distance(shift):
    rng, repeats = np.random.default_rng(0), 150
    means = MEANS + shift * (np.arange(8) == 3) - shift * (np.arange(8) == 0)
    truth = np.abs(spectral_importance(means) - spectral_importance(MEANS)).sum()
    held, missed_below = 0, 0
    for repeat in range(repeats):
        psi_a = skewed_population(24, rng)
        psi_b = psi_a + (means - MEANS)[:, None] + 0.5 * rng.normal(size=psi_a.shape)
        found = paired_distance(psi_a, psi_b, spectral_importance, n_resamples=300, seed=repeat)
        held += found.low <= truth <= found.high
        missed_below += truth < found.low
    assert held >= 0.93 * repeats and missed_below <= 0.03 * repeats


def test_the_upper_limit_of_a_distance_is_the_largest_of_all_sums_with_signs():
    rng = np.random.default_rng(0)
    for k in (2, 5, 8):
        every = np.array(list(itertools.product((-1.0, 1.0), repeat=k)))
        for _ in range(50):
            value, root = rng.normal(size=(k, 1)), rng.normal(size=(k, k)) * rng.gamma(1, size=k)
            covariance = root @ root.T

            def reach(signs, value=value, covariance=covariance):
                errors = np.sqrt(((signs @ covariance) * signs).sum(1))
                return (signs @ value[:, 0] + 3 * errors).max()

            found = reach(intervals._farthest_signs(value, covariance))
            assert found == pytest.approx(reach(every), rel=0.02)


def test_the_cross_fitted_sum_is_that_of_signs_from_thirds_and_sizes_from_the_rest():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 24)) + np.array([[0.0], [0.1], [-0.3], [1.0]])
    sums = []
    for _ in range(20_000):
        order = rng.permutation(24)
        third, rest = values[:, order[:8]].mean(1), values[:, order[8:]].mean(1)
        sums.append(np.sign(third) @ rest)
    se = standard_errors(values) * np.sqrt(23 / 24)  # of what photographs at hand scatter
    found, weights = intervals._cross_fitted(values.mean(1), se)
    assert found == pytest.approx(np.mean(sums), abs=0.02)
    assert found < np.abs(values.mean(1)).sum() - 0.1, "what noise adds is left out"
    assert np.sign(weights[0]) @ values.mean(1) == np.abs(values.mean(1)).sum()


@pytest.mark.parametrize("true", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_the_cross_fitted_sum_is_on_average_at_most_the_distance(true):
    value, one = np.random.default_rng(1).normal(size=100_000) + true, np.ones(1)
    mean = intervals._cross_fitted(value, np.ones(1))[0] / len(value)
    assert true - 0.6 < mean < true + 0.02
    assert mean == pytest.approx(0, abs=0.02) if true == 0 else mean < np.abs(value).mean() - 0.005
    assert intervals._cross_fitted(0 * one, 0 * one)[0] == 0
    assert intervals._cross_fitted(one, 0 * one)[0] == 1, "a band that is sure counts whole"


@pytest.mark.parametrize("planted", [0.0, 3.0])
@pytest.mark.parametrize("n_images", [12, 24])
def test_the_lower_limit_of_a_distance_of_independent_bands_holds(planted, n_images):
    """At a true distance of 0, and of one band; with signs at their mean it misses in 7 %."""
    rng, missed, repeats = np.random.default_rng(2), 0, 800
    for seed in range(repeats):
        psi = rng.normal(size=(8, n_images))
        psi[0] += planted
        found = paired_distance(psi, 0 * psi, lambda mean: mean, n_resamples=300, seed=seed)
        missed += found.low > planted
    assert missed <= (0.025 + 2.6 * np.sqrt(0.025 / repeats)) * repeats, missed


def test_the_upper_limit_of_a_distance_is_students_of_the_sum_that_reaches_farthest():
    every, farther = np.array(list(itertools.product((-1.0, 1.0), repeat=5))), 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        psi = rng.normal(size=(5, 5)) @ rng.normal(size=(5, 24)) + 0.4 * rng.normal(size=(5, 1))
        found = paired_distance(psi, 0 * psi, lambda mean: mean, n_resamples=400)
        errors = (every @ psi @ draws(24, 400)).std(1, ddof=1) * np.sqrt(24 / 23)
        high = every @ psi.mean(1) + stats.t.ppf(0.975, 23) * errors
        assert found.high == pytest.approx(high.max(), rel=0.02)
        farther += high.max() > 1.05 * high[(every @ psi.mean(1)).argmax()]
    assert farther > 3, "the signs of the differences themselves are not the farthest"


def test_limits_of_a_distance_hold_though_most_bands_are_equal():
    """Signs taken from the data would count noise as differences: such limits miss in 17 %."""
    rng, missed, above, norms = np.random.default_rng(0), np.zeros(2), [], []
    for seed in range(100):
        first, second = rng.normal(size=(2, 8, 24))
        first[:2] += [[3.0], [-3.0]]
        found = paired_distance(first, second, lambda mean: mean, n_resamples=300, seed=seed)
        missed += found.low > 6, found.high < 6
        error = (first - second) @ draws(24, 300, seed) - (first - second).mean(1, keepdims=True)
        norms.append(np.quantile(np.abs(error).sum(0), 0.95))
        above.append(found.high - found.value)
    assert missed.max() <= 0.025 * 100 + 3 * np.sqrt(0.025 * 100), missed
    assert np.mean(above) < 0.75 * np.mean(norms), "which is the reach of all sums at once"


def test_distance_by_hand_symmetric_and_without_limits_for_few_images():
    psi = skewed_population(24, np.random.default_rng(0))
    there, back = (
        paired_distance(a, b, spectral_importance) for a, b in ((psi, psi[::-1]), (psi[::-1], psi))
    )
    sid = spectral_importance(psi.mean(1))
    assert there.value == pytest.approx(np.abs(sid - sid[::-1]).sum())
    np.testing.assert_allclose([*there], [*back])
    assert there.low > 0, "far apart"
    for field in paired_distance(psi, psi + 1, spectral_importance):
        np.testing.assert_allclose(field, 0, atol=1e-8)  # one constant more for all bands
    with pytest.warns(RuntimeWarning, match="at least 5 photographs, got 4"):
        few = paired_distance(psi[:, :4], psi[::-1, :4], spectral_importance)
    assert few.value > 0 and np.isnan(few.low) and np.isnan(few.high)


def test_limits_of_the_negative_are_the_negative_limits():
    psi = skewed_population(24, np.random.default_rng(0))
    there, back = interval(psi, all_scores), interval(psi, lambda mean: -all_scores(mean))
    np.testing.assert_allclose(back.low, -there.high, atol=1e-10)
    np.testing.assert_allclose(back.high, -there.low, atol=1e-10)
    assert (there.low <= there.value).all() and (there.value <= there.high).all()


def test_shapes_levels_and_seeds():
    psi = skewed_population(30, np.random.default_rng(0))
    sweep = interval(
        psi,
        lambda mean: np.stack(
            [
                [
                    robustness_score(spectral_importance(mean), beta, norm=norm)
                    for beta in (0.5, 0.75, 0.9)
                ]
                for norm in ("paper", "tight")
            ]
        ),
    )
    assert sweep.low.shape == (2, 3)
    one = interval(psi, robustness_of)
    assert np.ndim(one.value) == 0
    assert interval(
        psi, lambda mean: robustness_score(spectral_importance(mean))
    ).low == pytest.approx(sweep.low[0, 1])
    assert one == interval(psi, robustness_of)
    assert one.low != interval(psi, robustness_of, seed=1).low
    narrow = interval(psi, robustness_of, level=0.5)
    assert one.low < narrow.low < narrow.high < one.high
    scaled = interval(psi * 1000, lambda mean: mean)  # the unit of the worths does not matter
    np.testing.assert_allclose([*scaled], [*(1000 * interval(psi, lambda mean: mean))])


@pytest.mark.filterwarnings("error")
def test_identical_images_leave_no_doubt_and_no_warning():
    psi = np.repeat(MEANS[:, None], 10, axis=1)
    result = interval(psi, all_scores)
    for limit in (result.low, result.high):
        np.testing.assert_allclose(limit, result.value, atol=1e-12)


def test_a_constant_classifier_warns_once_and_ends_in_uniform():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = interval(np.zeros((8, 10)), spectral_importance)
    assert len(caught) == 1
    np.testing.assert_array_equal([result.low, result.high], 1 / 8)


@pytest.mark.parametrize("n_images", [1, 2, 4])
def test_too_few_images_have_an_estimate_but_no_limits(n_images):
    psi = skewed_population(n_images, np.random.default_rng(0))
    with pytest.warns(RuntimeWarning, match=f"at least 5 photographs, got {n_images}"):
        result = interval(psi, spectral_importance)
    np.testing.assert_allclose(result.value, spectral_importance(psi.mean(1)))
    assert np.isnan(result.low).all() and np.isnan(result.high).all()
    assert np.isnan(result.se).all() == (n_images == 1)


def test_one_image_has_no_standard_error():
    with pytest.warns(RuntimeWarning, match="one image"):
        assert np.isnan(standard_errors(np.ones((3, 1)))).all()


def mean_of(values):
    return values


def test_bootstrap_of_a_mean_is_the_textbook_interval():
    psi = np.random.default_rng(0).normal(size=400) + 3
    rows = bootstrap(lambda index, rng: psi[index].mean(), 400, n_resamples=2000)
    result = of_resamples(rows, n=400)(0.95)
    se = psi.std(ddof=1) / 20
    assert result.value == psi.mean() and result.se == pytest.approx(se, rel=0.05)
    assert result.low == pytest.approx(psi.mean() - 1.96 * se, abs=0.1 * se)
    assert result.high == pytest.approx(psi.mean() + 1.96 * se, abs=0.1 * se)


def test_bootstrap_holds_the_noise_of_the_procedure_itself():
    """A procedure that ignores the images and draws: its spread is all that there is."""
    rows = bootstrap(lambda index, rng: rng.normal(size=2), 50, n_resamples=2000)
    assert rows.shape == (2001, 2) and rows[1:].std(0) == pytest.approx([1, 1], rel=0.05)
    again = bootstrap(lambda index, rng: rng.normal(size=2), 50, n_resamples=100)
    np.testing.assert_array_equal(again, rows[:101])  # more resamples change none before
    assert (bootstrap(lambda index, rng: rng.normal(size=2), 50, 100, seed=1) != again).all()


def test_percentiles_always_hold_the_estimate():
    rows = np.tile(np.linspace(0, 100, 2001)[:, None], 3)
    result = of_resamples(np.vstack([[-7, 50, 200], rows]), n=10**6, unit="trainings")(0.95)
    assert result.low == pytest.approx([-7, 2.5, 2.5], abs=1e-3)
    assert result.high == pytest.approx([97.5, 97.5, 200], abs=1e-3)
    assert (result.n, result.unit) == (10**6, "trainings")


@pytest.mark.parametrize("n", [1, 4])
def test_bootstrap_of_too_few_images_has_no_limits(n):
    with pytest.warns(RuntimeWarning, match=f"at least 5 photographs, got {n}"):
        rows = bootstrap(lambda index, rng: [index.sum(), 1], n)
    result = of_resamples(rows, n)(0.95)
    assert result.value.tolist() == [n * (n - 1) / 2, 1]
    assert np.isnan([result.low, result.high]).all() and result.n == n


def errors_of(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_errors_name_the_value():
    psi = np.random.default_rng(0).normal(size=(8, 10))
    errors_of(lambda: standard_errors(psi[:, 0]), r"one column per image, got \(8,\)")
    errors_of(lambda: interval(psi[:, :0], robustness_of), r"got \(8, 0\)")
    for level in (0, 1, 95):
        errors_of(lambda x=level: interval(psi, robustness_of, x), f"level .* got {level}")
    errors_of(lambda: interval(psi, robustness_of, n_resamples=50), "at least 100, got 50")
    errors_of(lambda: interval(psi, lambda mean: mean.T), r"\(8, 1\) into \(1, 8\)")
    errors_of(lambda: interval(psi, np.sum), r"into \(\)")
    errors_of(lambda: bootstrap(mean_of, 9, n_resamples=99), "at least 100, got 99")
    for function in (paired_interval, paired_distance):
        errors_of(
            lambda f=function: f(psi, psi[:, :9], spectral_importance), r"\(8, 10\) and \(8, 9\)"
        )
        errors_of(lambda f=function: f(psi, psi, mean_of, n_resamples=99), "at least 100, got 99")
    for function in (interval, at_levels):
        errors_of(lambda f=function: f(psi, mean_of, unit="cats"), "unit='cats' is not known;")
    errors_of(lambda: mean_interval(psi, unit="cats"), "unit='cats' is not known; choose one of")
    errors_of(lambda: resampled_scores([psi, psi[:, :9]], mean_of), r"photographs, got \[9, 10\]")
    errors_of(lambda: resampled_scores([], mean_of), r"same photographs, got \[\]")


def test_nonuniformity_is_held_by_its_interval_and_zero_for_equal_bands():
    rng = np.random.default_rng(0)
    mean = np.array([3.0, 1.0, 1.0, 1.0])
    truth = (3 - 1.5) / 6
    inside = equal = 0
    for _ in range(200):
        noise = rng.standard_t(4, size=(4, 24))
        found = nonuniformity(mean[:, None] + noise)
        inside += found.low <= truth <= found.high
        equal += nonuniformity(1.5 + noise).low == 0
    assert inside >= 185 and equal >= 185
    far = nonuniformity(10 * mean[:, None] + rng.normal(size=(4, 24)))
    assert far.low > 0.2 and abs(far.value - truth) < 0.03
    assert np.isnan(nonuniformity(noise[:, :4]).low), "four images decide nothing"


def test_nonuniformity_of_what_may_be_worth_nothing_is_warned_of():
    psi = np.array([[1.0], [0.5]]) * [1.0, -1.0, 1.0, -1.0, 1.0, -0.9]
    with pytest.warns(RuntimeWarning, match=r"v\(all\) - v\(none\) = .* may be 0"):
        nonuniformity(psi)


def test_accuracy_interval_is_wilsons():
    for right in (0, 1, 20, 40):
        correct = np.arange(40) < right
        expected = stats.binomtest(right, 40).proportion_ci(method="wilson")
        found = accuracy_interval(np.stack([correct, ~correct]))
        assert np.allclose([found.low[0], found.high[0]], [expected.low, expected.high])
        assert np.allclose(found.low[1], 1 - expected.high) and found.value[0] == right / 40
    with pytest.raises(ValueError, match="zeros and ones only"):
        accuracy_interval([0.5])


def test_accuracy_difference_covers_and_stays_possible():
    rng = np.random.default_rng(0)
    for chance in (0.05, 0.5, 0.95):
        held = 0
        for _ in range(400):
            first, u = rng.random(12) < 0.8, rng.random(12)
            second = np.where(u < chance, first, rng.random(12) < 0.3)
            found = accuracy_difference(first, second)
            held += found.low <= (1 - chance) * 0.5 <= found.high
            assert -1 <= found.low <= found.value <= found.high <= 1
        assert held >= 0.93 * 400, chance
    assert np.isnan([*accuracy_difference([], [])]).all(), "no image, no limits"
    assert f"{accuracy_difference([], []):+.2f}" == "none, n = 0 photographs"
    with pytest.raises(ValueError, match="one number per image"):
        accuracy_difference([1, 0], [1])
    with pytest.raises(ValueError, match="zeros and ones only"):
        accuracy_difference([1, 0], [1, 0.5])


@pytest.mark.parametrize(("n", "risk"), [(10, 0.05), (10, 0.05 / 12), (24, 0.05), (24, 0.0125)])
def test_paired_answers_are_told_apart_no_more_often_than_asked_at_any_share_that_differs(n, risk):
    """By the sum over all outcomes: a difference of 0 is told at that risk, or more rarely."""
    told = np.zeros((n + 1, n + 1))  # images that differ, and how many of them are won
    for m in range(n + 1):
        for won in range(m + 1):
            first = np.r_[np.zeros(won), np.ones(n - won)]
            second = np.r_[np.ones(won), np.zeros(m - won), np.ones(n - m)]
            found = accuracy_difference(first, second, 1 - risk)
            told[m, won] = found.low > 0 or found.high < 0
    given = [stats.binom.pmf(range(n + 1), m, 0.5) @ told[m] for m in range(n + 1)]
    rates = [stats.binom.pmf(range(n + 1), n, share) @ given for share in np.linspace(0, 1, 373)]
    assert 0.3 * risk < max(rates) <= risk * (1 + 1e-3)


def test_a_few_lost_of_many_alike_are_told_where_the_sign_test_is_not_sure():
    lost = np.r_[np.zeros(6), np.ones(18)]
    assert stats.binomtest(6, 6).pvalue > 0.025
    assert accuracy_difference(np.ones(24), lost, 0.975).low > 0
    assert accuracy_difference(np.ones(24), lost, 0.98).low <= 0


def test_a_lead_over_one_other_is_the_paired_difference_and_over_two_their_mean():
    rng = np.random.default_rng(0)
    psi, other, third = rng.normal(size=(3, 4, 20))
    statistic = lambda mean: mean.max(0)  # noqa: E731
    one = contrast_interval(psi, [other], statistic)
    assert one == paired_interval(psi, other, statistic)
    two = contrast_interval(psi, [other, third], statistic)
    mean = [p.mean(1).max() for p in (psi, other, third)]
    assert np.isclose(two.value, mean[0] - (mean[1] + mean[2]) / 2)
    with pytest.raises(ValueError, match="same bands and images"):
        contrast_interval(psi, [other, third[:, :5]], statistic)


def test_mean_interval_is_students():
    values = np.random.default_rng(0).exponential(size=(3, 7))
    found = mean_interval(values)
    for row, low, high in zip(values, found.low, found.high, strict=True):
        theirs = stats.ttest_1samp(row, 0).confidence_interval(0.95)
        np.testing.assert_allclose([low, high], theirs)
    few = mean_interval(values[:, :4])
    assert np.isnan([few.low, few.high]).all() and np.isfinite([few.value, few.se]).all()


# --- limits as functions of the level ------------------------------------------------------------


LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99, 0.998, 0.9995, 0.99999, 0.9999999)


@pytest.mark.parametrize("n_images", [6, 12, 24, 70])
@pytest.mark.parametrize(
    "make", [at_levels, lambda psi, s, n: distance_at_levels(psi, psi[::-1], s, n)]
)
def test_limits_are_nested_in_the_level(n_images, make):
    psi = skewed_population(n_images, np.random.default_rng(n_images))
    limits = make(psi, spectral_importance, 500)
    found = [limits(level) for level in LEVELS]
    for narrow, wide in zip(found, found[1:], strict=False):
        assert narrow.value is wide.value or np.array_equal(narrow.value, wide.value)
        assert np.all(wide.low <= narrow.low) and np.all(narrow.high <= wide.high)
    assert np.all(found[-1].high - found[-1].value > found[3].high - found[3].value)


def test_one_level_is_the_interval_of_that_level():
    psi = skewed_population(24, np.random.default_rng(0))
    for level in (0.8, 0.95, 0.99):
        assert at_levels(psi, all_scores, 2000)(level) == interval(psi, all_scores, level)
        pair = psi, psi[::-1], spectral_importance
        assert distance_at_levels(*pair, 2000)(level) == paired_distance(*pair, level)


@pytest.mark.parametrize("n_images", [6, 24])
def test_tails_that_resamples_do_not_hold_move_out_no_less_than_students(n_images):
    """From the last level that 20 of 500 resamples hold (92 %), reach grows by Student's ratio."""
    psi = skewed_population(n_images, np.random.default_rng(3))
    limits, held = at_levels(psi, robustness_of, 500), 1 - 2 * 20 / 500
    last = limits(held)
    for level in LEVELS[3:]:
        ratio = np.divide(*stats.t.ppf([(1 + level) / 2, (1 + held) / 2], n_images - 1))
        here = limits(level)
        for far, near in (
            (here.high - here.value, last.high - last.value),
            (here.value - here.low, last.value - last.low),
        ):
            assert ratio > 1 and far >= ratio * near * (1 - 1e-9)


def test_extended_tails_agree_with_those_that_more_resamples_hold():
    """99.8 % limits of 500 resamples (extended) beside those of 40,000 (read off): alike."""
    psi = skewed_population(70, np.random.default_rng(1))
    few, many = (at_levels(psi, robustness_of, n)(0.998) for n in (500, 40_000))
    assert few.high - few.low == pytest.approx(many.high - many.low, rel=0.2)


@pytest.mark.parametrize("n_images", [5, 14, 40])
def test_limits_of_means_are_at_least_students(n_images):
    psi = skewed_population(n_images, np.random.default_rng(5))
    limits = at_levels(psi, lambda mean: mean, 500)
    for level in LEVELS:
        found = limits(level)
        reach = stats.t.ppf((1 + level) / 2, n_images - 1) * standard_errors(psi)
        assert (found.value - found.low >= reach * (1 - 1e-9)).all()
        assert (found.high - found.value >= reach * (1 - 1e-9)).all()


@pytest.mark.parametrize("unit", LEAST)
def test_every_unit_has_its_least_number_and_says_it(unit):
    values, least = np.random.default_rng(0).normal(size=(2, 9)), LEAST[unit]
    for few in (least - 1, least):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            both = [
                mean_interval(values[:, :few], unit=unit),
                at_levels(values[:, :few], lambda mean: mean, 100, unit=unit)(0.95),
                crossed_mean(np.repeat(values[0, :few, None], 9, 1), 9, unit=unit),
            ]
        for found in both:
            assert np.isfinite(found.low).all() == np.isfinite(found.high).all() == (few == least)
            assert (found.n, found.unit) == (few, unit)
    with pytest.warns(RuntimeWarning, match=f"at least {least} {unit}, got {least - 1}"):
        interval(values[:, : least - 1], lambda mean: mean, unit=unit)


# --- networks that all saw the same photographs --------------------------------------------------


def planted(rng, n_networks, n_images, networks, images, both, mean=0.0):
    """One band whose value is a network's part + a photograph's part + one of their own: every
    score is its mean over photographs."""
    own = np.broadcast_to(mean, n_networks)[:, None] + networks * rng.normal(size=(n_networks, 1))
    shared = images * (rng.standard_exponential(size=n_images) - 1)
    cells = own + shared + both * rng.normal(size=(n_networks, n_images))
    return resampled_scores(cells[:, None], lambda mean: mean[0], n_resamples=200)


def covered(find, truth, repeats=400):
    found = [find(np.random.default_rng(k)) for k in range(repeats)]
    return np.mean([e.low <= truth <= e.high for e in found])


WORLDS = {  # spread of networks, photographs, and both
    "networks alone": (1.0, 0.0, 0.0),
    "photographs alone": (0.0, 3.0, 0.0),
    "both": (1.0, 3.0, 2.0),
}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("n_networks", [3, 8])
def test_coverage_of_a_crossed_mean(world, n_networks):
    share = covered(
        lambda rng: crossed_mean(planted(rng, n_networks, 24, *WORLDS[world], mean=1.0), 24), 1.0
    )
    assert share > 0.9, "skewed photographs cost some of the 95 %"


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("sizes", [(4, 4), (4, 15)])
def test_coverage_of_a_crossed_difference(world, sizes):
    """The photographs' part is common to both groups and cancels."""

    def find(rng):
        mean = [1.0] * sizes[0] + [0.0] * sizes[1]
        scores = planted(rng, sum(sizes), 24, *WORLDS[world], mean=mean)
        return crossed_difference(scores[: sizes[0]], scores[sizes[0] :], 24)

    assert covered(find, 1.0) > 0.92 or world == "photographs alone"
    if world == "photographs alone":
        assert find(np.random.default_rng(0)).low == pytest.approx(1)


def test_networks_of_one_photograph_more_do_not_count_as_more_photographs():
    """Limits over networks do not shrink with photographs, nor those over these with networks."""
    reach = {}
    for k, n in ((4, 24), (40, 24), (4, 240)):
        found = [
            crossed_mean(planted(np.random.default_rng(r), k, n, *world, mean=1.0), n)
            for r in range(40)
            for world in (WORLDS["networks alone"], WORLDS["photographs alone"])
        ]
        both = np.array([e.high - e.low for e in found]).reshape(40, 2).mean(0)
        reach[k, n] = both
    assert reach[4, 240][0] == pytest.approx(reach[4, 24][0], rel=0.01)
    assert reach[40, 24][1] == pytest.approx(reach[4, 24][1], rel=0.2)
    assert (reach[40, 24][0] < reach[4, 24][0] / 3) and (reach[4, 240][1] < reach[4, 24][1] / 2)


def test_crossed_limits_of_networks_alone_are_the_textbooks():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=6), 3 + 2 * rng.normal(size=9)
    as_scores = [np.repeat(g[:, None], 9, axis=1) for g in (first, second)]
    for level in (0.9, 0.95, 0.999):
        one = crossed_mean(as_scores[0], 24, level, "networks")
        assert [one.low, one.high] == pytest.approx(
            list(stats.ttest_1samp(first, 0).confidence_interval(level))
        )
        other = crossed_mean(as_scores[1], 24, level, "networks")
        two = crossed_difference(*as_scores, 24, level)
        # each group has its own reach, and both add up in quadrature
        reach = np.hypot(one.high - one.value, other.high - other.value)
        gap = one.value - other.value
        assert [two.low, two.high] == pytest.approx([gap - reach, gap + reach]) and two.n == 6


def test_resamples_are_the_same_for_all_networks_and_too_few_photographs_say_nothing():
    psi = skewed_population(12, np.random.default_rng(0))
    scores = resampled_scores([psi, psi + 1, psi], lambda mean: mean[0], n_resamples=100)
    np.testing.assert_array_equal(scores[0], scores[2])
    np.testing.assert_allclose(scores[1] - scores[0], 1)
    np.testing.assert_allclose(scores[0, 1:], psi[0] @ draws(12, 100))
    assert scores[0, 0] == pytest.approx(psi[0].mean())
    few = resampled_scores([psi[:, :4]] * 3, lambda mean: mean[0])
    assert np.isnan(few[:, 1:]).all() and np.isfinite(few[:, 0]).all()
    assert np.isnan(crossed_mean(few, 4).low)


def test_draws_are_counts_of_every_resample_over_n():
    drawn = draws(7, 300, seed=2)
    assert drawn.shape == (7, 300) and np.allclose(drawn.sum(0), 1)
    assert np.allclose(drawn * 7, np.round(drawn * 7))
    assert (drawn.std(1) * 7).mean() == pytest.approx(np.sqrt(6 / 7), rel=0.1), "multinomial"
    assert draws(7, 300, seed=2) is drawn and (draws(7, 300, seed=3) != drawn).any()
    with pytest.raises(ValueError, match="read-only"):
        drawn[0, 0] = 1
