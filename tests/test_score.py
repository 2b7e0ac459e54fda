"""Scores against closed forms, and intervals against what they promise: coverage."""

import itertools
import warnings

import numpy as np
import pytest
from scipy import stats

from iaside.rounding import total_worth
from iaside.intervals import accuracy_difference, accuracy_interval, best_interval, bootstrap, interval, lead_interval, mean_interval, nonuniformity, paired_distance, paired_interval, percentile_interval, repeated_intervals, standard_errors
from iaside.score import (
    centroid,
    consecutive_differences,
    entropy,
    loglog_slope,
    normalisation_noise,
    random_orders,
    robustness_score,
    share_of_worth,
    spectral_importance,
    split_differences,
)
from iaside.shapley import coalitions, shapley_values

VERTICES = np.eye(8)  # column k: all mass in band k
RAMP = np.arange(7.0, -1, -1) / 28
MEANS = np.array([3, 2, 1, 0.6, 0.4, 0.3, 0.2, 0.1])


def skewed_population(n_images, rng, means=MEANS, spread=1.5):
    """Per-image values with the given means: log-normal, correlated between near bands."""
    bands = np.arange(len(means))
    correlation = 0.5 ** np.abs(bands[:, None] - bands)
    z = np.linalg.cholesky(correlation) @ rng.normal(size=(len(means), n_images))
    noise = (np.exp(0.8 * z) - np.exp(0.32)) / np.sqrt((np.exp(0.64) - 1) * np.exp(0.64))
    return means[:, None] + spread * noise


def all_scores(mean):
    sid = spectral_importance(mean)
    return np.vstack([sid, robustness_score(sid), robustness_score(sid, signed=True)])


# --- normalisations ------------------------------------------------------------------------------


def test_sums_and_divisors_that_are_rounding_are_zero():
    """Values 0.1, 0.2 and -0.3 add up to 0: no share of that, whatever the last digit says."""
    values = np.repeat([[0.1], [0.2], [-0.3]], 9, axis=1)
    assert values.sum(0).all(), "or there is nothing to test"
    assert not total_worth(values).any()
    assert share_of_worth(values, 0).startswith("no share that can be told")
    with pytest.raises(ValueError, match="worth no more than the empty one"):
        nonuniformity(values)
    flat = 0.3 + np.random.default_rng(0).integers(0, 2, (8, 20)) * np.spacing(0.3)
    with pytest.warns(RuntimeWarning, match="dominated by noise"):
        assert normalisation_noise(flat) == 0
    with pytest.warns(RuntimeWarning, match="no difference between the bands"):
        assert np.allclose(spectral_importance(flat.mean(1)), 1 / 8)


def test_normalisations_by_hand():
    psi = np.array([3.0, 1.0, -1.0])
    np.testing.assert_allclose(spectral_importance(psi), [4 / 6, 2 / 6, 0])
    np.testing.assert_allclose(spectral_importance(psi, "share"), psi / 3)
    np.testing.assert_allclose(spectral_importance(psi, "positive"), [0.75, 0.25, 0])
    weight = np.exp(psi / 2)
    np.testing.assert_allclose(spectral_importance(psi, "softmax", 2), weight / weight.sum())
    np.testing.assert_array_equal(spectral_importance(psi, "none"), psi)


@pytest.mark.parametrize("normalise", ["minmax", "share", "positive", "softmax"])
def test_shares_sum_to_one_column_by_column(normalise):
    psi = np.random.default_rng(0).normal(size=(8, 5, 3))
    sid = spectral_importance(psi, normalise)
    np.testing.assert_allclose(sid.sum(0), 1)
    np.testing.assert_allclose(sid[:, 4, 2], spectral_importance(psi[:, 4, 2], normalise))


def test_softmax_survives_large_values():
    np.testing.assert_allclose(spectral_importance([1e4, 0.0], "softmax"), [1, 0])


@pytest.mark.parametrize(("psi", "normalise"), [
    (np.zeros(8), "minmax"), (np.full(8, 0.3), "minmax"), (-np.ones(8), "positive"),
])
def test_nothing_to_tell_bands_apart_warns_and_is_uniform(psi, normalise):
    with pytest.warns(RuntimeWarning, match="no difference between the bands"):
        sid = spectral_importance(psi, normalise)
    np.testing.assert_array_equal(sid, 1 / 8)


def test_one_flat_column_leaves_the_others_alone():
    with pytest.warns(RuntimeWarning):
        sid = spectral_importance(np.array([[1.0, 3.0], [1.0, 1.0]]))
    np.testing.assert_array_equal(sid, [[0.5, 1], [0.5, 0]])


# --- scores --------------------------------------------------------------------------------------


def test_score_of_all_mass_in_one_band():
    paper = [0.5217, 0.2846, 0.1068, 0.0266, 0.1267, 0.2017, 0.2580, 0.3002]
    tight = [1, 0.5455, 0.2046, -0.0510, -0.2428, -0.3866, -0.4944, -0.5753]
    np.testing.assert_allclose(robustness_score(VERTICES), paper, atol=5e-5)
    signed = robustness_score(VERTICES, signed=True, norm="tight")
    np.testing.assert_allclose(signed, tight, atol=5e-5)
    np.testing.assert_allclose(robustness_score(VERTICES, norm="tight"), np.abs(signed))
    np.testing.assert_allclose(np.abs(signed) / paper, 1.0543189 / 0.5500565, rtol=2e-3)


def test_paper_score_is_the_printed_formula():
    sid = np.random.default_rng(0).dirichlet(np.ones(8))
    beta = 0.75 ** np.arange(8)
    eta = beta.sum() / (8 * np.linalg.norm(beta))
    assert beta.mean() == pytest.approx(0.4499435, abs=1e-7)
    assert eta == pytest.approx(0.2991124, abs=1e-7)
    printed = abs((beta @ sid / np.linalg.norm(beta) - eta) / (1 - eta))
    assert robustness_score(sid) == pytest.approx(printed, abs=1e-14)


def test_uniform_scores_zero_and_the_sign_is_lost_unless_asked_for():
    assert robustness_score(np.full(8, 1 / 8)) == pytest.approx(0, abs=1e-15)
    assert robustness_score(RAMP) == pytest.approx(0.16949, abs=5e-6)
    assert robustness_score(RAMP[::-1]) == pytest.approx(0.16949, abs=5e-6)
    assert robustness_score(RAMP, signed=True) == pytest.approx(0.16949, abs=5e-6)
    assert robustness_score(RAMP[::-1], signed=True) == pytest.approx(-0.16949, abs=5e-6)


def test_scores_of_pure_noise_are_those_of_the_specification():
    sid = spectral_importance(np.random.default_rng(0).normal(size=(8, 100_000)))
    score = robustness_score(sid)
    assert np.abs(sid - 1 / 8).sum(0).mean() == pytest.approx(0.55, abs=0.01)
    assert score.mean() == pytest.approx(0.056, abs=0.001)
    assert np.quantile(score, [0.5, 0.95]) == pytest.approx([0.048, 0.134], abs=0.002)


def test_beta_decides_how_far_low_bands_count():
    betas = [0.5, 0.75, 0.95]
    tight = [robustness_score(VERTICES[0], beta, signed=True, norm="tight") for beta in betas]
    assert tight == pytest.approx([1, 1, 1])
    second = [robustness_score(VERTICES[1], beta, signed=True, norm="tight") for beta in betas]
    assert second == sorted(second)


def test_centroid_and_entropy():
    np.testing.assert_allclose(centroid(VERTICES), np.arange(8) / 7)
    np.testing.assert_allclose(entropy(VERTICES), 0)
    assert entropy(np.full(5, 0.2)) == pytest.approx(1)
    assert entropy([0.5, 0.5, 0, 0]) == pytest.approx(0.5)


# --- sampling ------------------------------------------------------------------------------------


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


@pytest.mark.filterwarnings("error")
def test_noise_in_the_normalisation_is_named():
    rng = np.random.default_rng(0)
    psi = skewed_population(70, rng)
    assert normalisation_noise(psi) > 3
    with pytest.warns(RuntimeWarning, match=r"standard errors from 0 \(n = 24\): .* noise"):
        ratio = normalisation_noise(rng.normal(size=(8, 24)) + 0.1)
    assert 0 < ratio < 3
    with pytest.warns(RuntimeWarning):
        assert normalisation_noise(np.zeros((8, 6))) == 0
    assert normalisation_noise(np.arange(16.0).reshape(8, 2) // 2) == np.inf
    assert np.isnan(normalisation_noise(psi[:, :1]))
    values = psi.sum(0) - 8 * psi[psi.mean(1).argmin()]
    expected = values.mean() / (values.std(ddof=1) / np.sqrt(70))
    assert normalisation_noise(psi) == pytest.approx(expected)


# --- intervals -----------------------------------------------------------------------------------


def test_interval_of_the_mean_has_the_textbook_standard_error():
    psi = skewed_population(24, np.random.default_rng(0))
    result = interval(psi, lambda mean: mean)
    np.testing.assert_allclose(result.estimate, psi.mean(1))
    np.testing.assert_allclose(result.se, standard_errors(psi))


def test_interval_of_normal_means_is_students():
    psi = np.random.default_rng(0).normal(size=(2, 1000)) + 5
    low, high = np.transpose(interval(psi, lambda mean: mean, n_resamples=5000)[2:])[0]
    center, half = psi[0].mean(), 1.96 * standard_errors(psi)[0]
    assert [low, high] == pytest.approx([center - half, center + half], abs=0.05 * half)


def test_delta_standard_error_of_the_sid_agrees_with_the_jackknife():
    psi = skewed_population(200, np.random.default_rng(2), means=MEANS - 3 * (MEANS < 0.15))
    leave_one = (psi.sum(1, keepdims=True) - psi) / 199
    jackknife = np.sqrt(199 * all_scores(leave_one).var(1))
    result = interval(psi, all_scores)
    np.testing.assert_allclose(result.se[jackknife > 0], jackknife[jackknife > 0], rtol=0.05)


def test_coverage_at_24_images():
    """95 % intervals hold the truth about 95 % of the time, where plain percentiles do not."""
    rng, repeats = np.random.default_rng(0), 250
    truth = all_scores(MEANS[:, None])[:, 0]
    held, held_by_percentiles = [], []
    for repeat in range(repeats):
        psi = skewed_population(24, rng)
        result = interval(psi, all_scores, n_resamples=500, seed=repeat)
        held.append((result.low <= truth + 1e-12) & (truth <= result.high))
        drawn = rng.multinomial(24, np.full(24, 1 / 24), 500).T / 24
        low, high = np.quantile(all_scores(psi @ drawn), [0.025, 0.975], axis=1)
        held_by_percentiles.append((low <= truth) & (truth <= high))
    held, by_percentiles = np.mean(held, 0), np.mean(held_by_percentiles, 0)
    assert held.min() > 0.87 and 0.92 < held.mean() < 0.985
    assert by_percentiles[8:].max() < 0.83  # SRC, paper and signed
    assert by_percentiles.mean() < 0.90


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
    assert there.estimate == robustness_of(psi.mean(1)) - robustness_of(psi[::-1].mean(1))
    assert there.low == pytest.approx(-back.high) and there.low <= there.estimate <= there.high


def distance_of(mean):
    return np.abs(spectral_importance(mean[:8]) - spectral_importance(mean[8:])).sum(0)


def test_the_best_of_many_equals_is_not_mistaken_for_better():
    rng, wrong, naive, repeats = np.random.default_rng(0), 0, 0, 100
    for _ in range(repeats):  # 12 cells of a grid that differ by nothing, 8 photographs
        rows = rng.normal(size=(12, 8)) + rng.normal(size=8)
        best, score, above = best_interval(rows, n_resamples=4000)
        assert best == rows.mean(1).argmax() and score.estimate == rows[best].mean()
        alone = interval(np.stack([rows[best], rows.mean(0)]), lambda mean: mean[0] - mean[1])
        wrong, naive = wrong + (above.low > 0), naive + (alone.low > 0)
        assert above.estimate == alone.estimate
    assert naive > 0.15 * repeats and wrong <= 0.1 * repeats, (naive, wrong)


def test_a_planted_best_is_found_and_its_interval_holds():
    rows = np.random.default_rng(1).normal(size=(12, 8)) / 10
    rows[7] += 1
    best, score, above = best_interval(rows)
    assert best == 7 and score.low < 1 < score.high and above.low > 0.5
    with pytest.warns(RuntimeWarning, match="at least 5 images"):
        assert np.isnan(best_interval(rows[:, :4])[1].low)


@pytest.mark.parametrize(("n_images", "noise"), [(12, 1.0), (24, 0.3)])
def test_a_distance_of_equal_sids_is_not_mistaken_for_one(n_images, noise):
    """Noise alone: the plain interval lies wholly above the true 0 time and again."""
    rng, repeats = np.random.default_rng(0), 120
    above, plainly_above, estimates = 0, 0, []
    for repeat in range(repeats):
        psi_a = skewed_population(n_images, rng)
        psi_b = psi_a + noise * rng.normal(size=psi_a.shape)
        found = paired_distance(psi_a, psi_b, spectral_importance, n_resamples=300, seed=repeat)
        plain = interval(np.concatenate([psi_a, psi_b]), distance_of, n_resamples=300, seed=repeat)
        assert found.estimate == pytest.approx(plain.estimate) and found.low >= 0
        above += found.low > 0
        plainly_above += plain.low > 0
        estimates.append(found.estimate)
    assert above <= 0.05 * repeats < 0.15 * repeats < plainly_above
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


def test_distance_by_hand_symmetric_and_without_limits_for_few_images():
    psi = skewed_population(24, np.random.default_rng(0))
    there, back = (paired_distance(a, b, spectral_importance) for a, b in (
        (psi, psi[::-1]), (psi[::-1], psi)))
    sid = spectral_importance(psi.mean(1))
    assert there.estimate == pytest.approx(np.abs(sid - sid[::-1]).sum())
    np.testing.assert_allclose(there, back)
    assert there.low > 0, "far apart"
    for field in paired_distance(psi, psi + 1, spectral_importance):
        np.testing.assert_allclose(field, 0, atol=1e-8)  # one constant more for all bands
    with pytest.warns(RuntimeWarning, match="at least 5 images, got 4"):
        few = paired_distance(psi[:, :4], psi[::-1, :4], spectral_importance)
    assert few.estimate > 0 and np.isnan(few.low) and np.isnan(few.high)


def test_intervals_format_as_estimate_and_limits():
    found = interval(np.ones((2, 10)), lambda mean: mean.sum(0))
    assert f"{found:.1f}" == "2.0 [2.0, 2.0]" and f"{found:+.2f}" == "+2.00 [+2.00, +2.00]"


def robustness_of(mean):
    return robustness_score(spectral_importance(mean), signed=True)


def test_limits_of_the_negative_are_the_negative_limits():
    psi = skewed_population(24, np.random.default_rng(0))
    there, back = interval(psi, all_scores), interval(psi, lambda mean: -all_scores(mean))
    np.testing.assert_allclose(back.low, -there.high, atol=1e-10)
    np.testing.assert_allclose(back.high, -there.low, atol=1e-10)
    assert (there.low <= there.estimate).all() and (there.estimate <= there.high).all()


def test_shapes_levels_and_seeds():
    psi = skewed_population(30, np.random.default_rng(0))
    sweep = interval(psi, lambda mean: np.stack([
        [robustness_score(spectral_importance(mean), beta, norm=norm) for beta in (0.5, 0.75, 0.9)]
        for norm in ("paper", "tight")
    ]))
    assert sweep.low.shape == (2, 3)
    one = interval(psi, robustness_of)
    assert np.ndim(one.estimate) == 0
    assert interval(psi, lambda mean: robustness_score(spectral_importance(mean))).low \
        == pytest.approx(sweep.low[0, 1])
    assert one == interval(psi, robustness_of)
    assert one.low != interval(psi, robustness_of, seed=1).low
    narrow = interval(psi, robustness_of, level=0.5)
    assert one.low < narrow.low < narrow.high < one.high
    scaled = interval(psi * 1000, lambda mean: mean)  # the unit of the worths does not matter
    np.testing.assert_allclose(scaled, 1000 * np.array(interval(psi, lambda mean: mean)))


@pytest.mark.filterwarnings("error")
def test_identical_images_leave_no_doubt_and_no_warning():
    psi = np.repeat(MEANS[:, None], 10, axis=1)
    result = interval(psi, all_scores)
    for limit in (result.low, result.high):
        np.testing.assert_allclose(limit, result.estimate, atol=1e-12)


def test_a_constant_classifier_warns_once_and_ends_in_uniform():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = interval(np.zeros((8, 10)), spectral_importance)
    assert len(caught) == 1
    np.testing.assert_array_equal(np.stack(result[2:]), 1 / 8)


@pytest.mark.parametrize("n_images", [1, 2, 4])
def test_too_few_images_have_an_estimate_but_no_limits(n_images):
    psi = skewed_population(n_images, np.random.default_rng(0))
    with pytest.warns(RuntimeWarning, match=f"at least 5 images, got {n_images}"):
        result = interval(psi, spectral_importance)
    np.testing.assert_allclose(result.estimate, spectral_importance(psi.mean(1)))
    assert np.isnan(result.low).all() and np.isnan(result.high).all()
    assert np.isnan(result.se).all() == (n_images == 1)


def test_one_image_has_no_standard_error():
    with pytest.warns(RuntimeWarning, match="one image"):
        assert np.isnan(standard_errors(np.ones((3, 1)))).all()


# --- errors against the number of images ---------------------------------------------------------


def mean_of(values):
    return values


def test_differences_are_those_of_the_samples_one_by_one():
    rng = np.random.default_rng(0)
    psi, orders, sizes = skewed_population(9, rng), random_orders(9, 4, rng), [2, 5, 8]
    steps = consecutive_differences(psi, orders, sizes, all_scores)
    gaps = split_differences(psi, orders, sizes, all_scores)
    assert steps.shape == gaps.shape == (10, 3, 4)
    for (s, k), (d, order) in itertools.product(enumerate(sizes), enumerate(orders)):
        first, more, others = (psi[:, i].mean(1) for i in (order[:k], order[: k + 1], order[k:]))
        sid = [spectral_importance(mean) for mean in (first, more, others)]
        np.testing.assert_allclose(steps[:8, s, d], sid[1] - sid[0], atol=1e-12)
        np.testing.assert_allclose(gaps[:8, s, d], sid[0] - sid[2], atol=1e-12)
        signed = [robustness_score(p, signed=True) for p in sid]
        assert gaps[9, s, d] == pytest.approx(signed[0] - signed[2])


def test_orders_are_permutations_and_all_equally_likely():
    orders = random_orders(4, 24_000, np.random.default_rng(0))
    assert (np.sort(orders, 1) == np.arange(4)).all()
    seen = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(seen) == 24 and stats.chisquare(seen).pvalue > 0.001


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_corrected_for_the_others_the_spread_is_exactly_sigma_over_root_k(size):
    """Over all samples there are, not over some: an identity, whatever the population."""
    psi = skewed_population(6, np.random.default_rng(0))
    chosen = [list(c) for c in itertools.combinations(range(6), size)]
    orders = np.array([c + [i for i in range(6) if i not in c] for c in chosen])
    gaps = split_differences(psi, orders, [size], mean_of)[:, 0] * np.sqrt(1 - size / 6)
    np.testing.assert_allclose(gaps.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose((gaps**2).mean(1), psi.var(1, ddof=1) / size)


def test_consecutive_differences_shrink_where_nothing_converges():
    """The running mean is planted as log K: it grows without end, by 1/K a step."""
    n, sizes = 4000, np.array([10, 20, 50, 100, 200, 500, 1000])
    running = np.log(np.arange(1, n + 1))
    values = np.diff(np.arange(1, n + 1) * running, prepend=0)
    step = consecutive_differences([values], [range(n)], sizes, mean_of)[0, :, 0]
    np.testing.assert_allclose(step, np.log1p(1 / sizes))
    assert loglog_slope(sizes, step) == pytest.approx(-1, abs=0.01)
    gap = np.abs(split_differences([values], [range(n)], sizes, mean_of))[0, :, 0]
    assert gap.min() > 100 * step[-1], "the reference sees what the difference does not"


def test_errors_of_independent_means_fall_with_the_root_of_k_and_steps_with_k():
    rng, sizes = np.random.default_rng(0), np.array([10, 20, 40, 80, 160])
    psi = rng.normal(size=(3, 400))
    orders = random_orders(400, 3000, rng)
    gaps = np.abs(split_differences(psi, orders, sizes, mean_of)).mean((0, 2))
    steps = np.abs(consecutive_differences(psi, orders, sizes, mean_of)).mean((0, 2))
    assert loglog_slope(sizes, gaps * np.sqrt(1 - sizes / 400)) == pytest.approx(-0.5, abs=0.02)
    assert loglog_slope(sizes, steps) == pytest.approx(-1, abs=0.05)


def test_slope_of_planted_powers_along_the_last_axis():
    sizes, power = np.array([2, 3, 7, 50]), np.array([[-0.5, 0.0], [1.0, -2.0]])
    np.testing.assert_allclose(loglog_slope(sizes, 3 * sizes ** power[..., None]), power)
    errors_of(lambda: loglog_slope([5, 5], [1, 2]), r"two different sizes, got \[5, 5\]")


def test_bootstrap_of_a_mean_is_the_textbook_interval():
    psi = np.random.default_rng(0).normal(size=400) + 3
    rows = bootstrap(lambda index, rng: psi[index].mean(), 400, n_resamples=2000)
    result = percentile_interval(rows)
    se = psi.std(ddof=1) / 20
    assert result.estimate == psi.mean() and result.se == pytest.approx(se, rel=0.05)
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
    rows = np.tile(np.arange(101.0)[:, None], 3)
    result = percentile_interval(np.vstack([[-7, 50, 200], rows]))
    assert result.low == pytest.approx([-7, 2.5, 2.5])
    assert result.high == pytest.approx([97.5, 97.5, 200])


@pytest.mark.parametrize("n", [1, 4])
def test_bootstrap_of_too_few_images_has_no_limits(n):
    with pytest.warns(RuntimeWarning, match=f"at least 5 images, got {n}"):
        rows = bootstrap(lambda index, rng: [index.sum(), 1], n)
    result = percentile_interval(rows)
    assert result.estimate.tolist() == [n * (n - 1) / 2, 1] and np.isnan(result[2:]).all()


# --- calibration ---------------------------------------------------------------------------------


def test_repeated_intervals_are_intervals_of_samples_with_replacement():
    psi = skewed_population(12, np.random.default_rng(0))
    found = repeated_intervals(psi, all_scores, size=6, n_draws=40, n_resamples=100, seed=3)
    assert all(field.shape == (10, 40) for field in found)
    drawn = np.random.default_rng([3, 6]).integers(12, size=(40, 6))
    one = interval(psi[:, drawn[7]], all_scores, n_resamples=100, seed=7)
    for many, single in zip(found, one, strict=True):
        np.testing.assert_array_equal(many[:, 7], single)


def test_standard_errors_are_calibrated_against_a_known_population():
    """Variances of means are estimated without bias, whatever the population and the size."""
    psi = skewed_population(70, np.random.default_rng(0))
    found = repeated_intervals(psi, mean_of, size=12, n_draws=3000, n_resamples=100)
    truth = psi.std(1) / np.sqrt(12)
    np.testing.assert_allclose(np.sqrt((found.se**2).mean(1)), truth, rtol=0.05)
    np.testing.assert_allclose(found.estimate.std(1), truth, rtol=0.06)
    np.testing.assert_allclose(found.estimate.mean(1), psi.mean(1), atol=5 * truth.max() / 55)


# --- errors --------------------------------------------------------------------------------------


def errors_of(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_errors_name_the_value():
    sid, psi = np.full(8, 1 / 8), np.random.default_rng(0).normal(size=(8, 10))
    errors_of(lambda: spectral_importance([1.0]), r"at least 2 bands .* got \(1,\)")
    errors_of(lambda: spectral_importance([1.0, np.nan]), "psi must be finite")
    errors_of(lambda: spectral_importance(psi, "max"), "minmax, share, .* got 'max'")
    errors_of(lambda: spectral_importance(psi, "softmax", 0), "tau must be above 0, got 0")
    errors_of(lambda: spectral_importance([1.0, -1.0], "share"), "do not add up to 0")
    errors_of(lambda: spectral_importance(np.zeros(8), "share"), "do not add up to 0")
    for beta in (0, 1, -0.5, np.nan):
        errors_of(lambda b=beta: robustness_score(sid, b), f"beta must lie .* got {beta}")
    errors_of(lambda: robustness_score(sid, norm="loose"), "'paper' or 'tight', got 'loose'")
    for score in (robustness_score, centroid, entropy):
        errors_of(lambda s=score: s(2 * sid), "sum to 1, but these are off by 1;")
    errors_of(lambda: entropy([1.5, -0.5]), "at least 0, got -0.5")
    for function in (standard_errors, normalisation_noise):
        errors_of(lambda f=function: f(psi[:, 0]), r"one column per image, got \(8,\)")
    errors_of(lambda: interval(psi[:, :0], robustness_of), r"got \(8, 0\)")
    for level in (0, 1, 95):
        errors_of(lambda x=level: interval(psi, robustness_of, x), f"level .* got {level}")
    errors_of(lambda: interval(psi, robustness_of, n_resamples=50), "at least 100, got 50")
    errors_of(lambda: interval(psi, lambda mean: mean.T), r"\(8, 1\) into \(1, 8\)")
    errors_of(lambda: interval(psi, np.sum), r"into \(\)")
    for function in (consecutive_differences, split_differences):
        errors_of(lambda f=function: f(psi, [[0, 1]], [1], mean_of), r"N = 10 images, got \(1, 2\)")
        for size in (0, 10):
            errors_of(lambda f=function, k=size: f(psi, [range(10)], [5, k], mean_of),
                      rf"from 1 to 9 of 10 images, got \[5, {size}\]")
    errors_of(lambda: bootstrap(mean_of, 9, n_resamples=99), "at least 100, got 99")
    errors_of(lambda: repeated_intervals(psi, mean_of, size=4), "at least 5 images .* size=4")
    errors_of(lambda: repeated_intervals(psi, mean_of, 5, n_draws=0), "n_draws=0")
    for function in (paired_interval, paired_distance):
        errors_of(lambda f=function: f(psi, psi[:, :9], spectral_importance),
                  r"\(8, 10\) and \(8, 9\)")


def test_nonuniformity_is_held_by_its_interval_and_zero_for_equal_bands():
    rng = np.random.default_rng(0)
    mean = np.array([3.0, 1.0, 1.0, 1.0])
    truth = (3 - 1.5) / 6
    inside = equal = 0
    for _ in range(200):
        noise = rng.standard_t(4, size=(4, 24))
        low, high = nonuniformity(mean[:, None] + noise)[2:]
        inside += low <= truth <= high
        equal += nonuniformity(1.5 + noise).low == 0
    assert inside >= 185 and equal >= 185
    far = nonuniformity(10 * mean[:, None] + rng.normal(size=(4, 24)))
    assert far.low > 0.2 and abs(far.estimate - truth) < 0.03
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
        assert np.allclose(found.low[1], 1 - expected.high) and found.estimate[0] == right / 40
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
            assert -1 <= found.low <= found.estimate <= found.high <= 1
        assert held >= 0.93 * 400, chance
    assert np.isnan(accuracy_difference([], [])).all(), "no image, no limits"
    assert f"{accuracy_difference([], []):+.2f}" == "none"
    with pytest.raises(ValueError, match="one number per image"):
        accuracy_difference([1, 0], [1])
    with pytest.raises(ValueError, match="zeros and ones only"):
        accuracy_difference([1, 0], [1, 0.5])


def test_a_lead_over_one_other_is_the_paired_difference_and_over_two_their_mean():
    rng = np.random.default_rng(0)
    psi, other, third = rng.normal(size=(3, 4, 20))
    statistic = lambda mean: mean.max(0)  # noqa: E731
    one = lead_interval(psi, [other], statistic)
    assert np.array_equal(one, paired_interval(psi, other, statistic))
    two = lead_interval(psi, [other, third], statistic)
    mean = [p.mean(1).max() for p in (psi, other, third)]
    assert np.isclose(two.estimate, mean[0] - (mean[1] + mean[2]) / 2)
    with pytest.raises(ValueError, match="same bands and images"):
        lead_interval(psi, [other, third[:, :5]], statistic)


def test_mean_interval_is_students():
    values = np.random.default_rng(0).exponential(size=(3, 7))
    found = mean_interval(values)
    for row, low, high in zip(values, found.low, found.high, strict=True):
        theirs = stats.ttest_1samp(row, 0).confidence_interval(0.95)
        np.testing.assert_allclose([low, high], theirs)
    few = mean_interval(values[:, :4])
    assert np.isnan([few.low, few.high]).all() and np.isfinite([few.estimate, few.se]).all()
