"""Scores against closed forms, and how they change with the number of images."""

import itertools

import numpy as np
import pytest
from populations import skewed_population
from scipy import stats

import iaside as ia
from iaside.estimate.convergence import (
    consecutive_differences,
    loglog_slope,
    random_orders,
    split_differences,
)
from iaside.estimate.intervals import interval, paired_interval, standard_errors
from iaside.estimate.resampling import bootstrap
from iaside.estimate.rounding import total_worth
from iaside.estimate.shares import centroid, entropy, normalisation_noise, share_of_worth
from iaside.score import robustness_score, spectral_importance

VERTICES = np.eye(8)  # column k: all mass in band k
RAMP = np.arange(7.0, -1, -1) / 28


def all_scores(mean):
    sid = spectral_importance(mean)
    return np.vstack([sid, robustness_score(sid), robustness_score(sid, signed=True)])


def test_sums_and_divisors_that_are_rounding_are_zero():
    """Values 0.1, 0.2 and -0.3 add up to 0: no share of that, whatever the last digit says."""
    values = np.repeat([[0.1], [0.2], [-0.3]], 9, axis=1)
    assert values.sum(0).all(), "or there is nothing to test"
    assert not total_worth(values).any()
    assert share_of_worth(values, 0).startswith("no share that can be told")
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


@pytest.mark.parametrize(
    ("psi", "normalise"),
    [(np.zeros(8), "minmax"), (np.full(8, 0.3), "minmax"), (-np.ones(8), "positive")],
)
def test_nothing_to_tell_bands_apart_warns_and_is_uniform(psi, normalise):
    with pytest.warns(RuntimeWarning, match="no difference between the bands"):
        sid = spectral_importance(psi, normalise)
    np.testing.assert_array_equal(sid, 1 / 8)


def test_one_flat_column_leaves_the_others_alone():
    with pytest.warns(RuntimeWarning):
        sid = spectral_importance(np.array([[1.0, 3.0], [1.0, 1.0]]))
    np.testing.assert_array_equal(sid, [[0.5, 1], [0.5, 0]])


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
    errors_of(lambda: normalisation_noise(psi[:, 0]), r"one column per image, got \(8,\)")
    for function in (consecutive_differences, split_differences):
        errors_of(lambda f=function: f(psi, [[0, 1]], [1], mean_of), r"N = 10 images, got \(1, 2\)")
        for size in (0, 10):
            errors_of(
                lambda f=function, k=size: f(psi, [range(10)], [5, k], mean_of),
                rf"from 1 to 9 of 10 images, got \[5, {size}\]",
            )


@pytest.mark.parametrize(
    "call",
    [
        normalisation_noise,
        lambda psi: spectral_importance(0 * psi),
        lambda psi: standard_errors(psi[:, :1]),
        lambda psi: interval(psi[:, :4], lambda mean: mean),
        lambda psi: interval(psi, lambda mean: spectral_importance(0 * mean)),
        lambda psi: paired_interval(psi[:, :4], psi[:, :4], lambda mean: mean),
        lambda psi: bootstrap(lambda index, rng: 1.0, 4),
        lambda psi: ia.Explanation(ia.Worths({"v": psi[:4]}, {}), bias="none"),
        lambda psi: ia.score_estimate(0 * psi, bias="none"),
    ],
)
def test_a_warning_is_about_the_line_that_called(call):
    psi = np.random.default_rng(0).normal(size=(8, 24))
    with pytest.warns(RuntimeWarning) as heard:
        call(psi)
    assert {w.filename for w in heard} == {__file__}
