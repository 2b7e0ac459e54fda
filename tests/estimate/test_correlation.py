"""Coefficients over networks: independent oracles, limits that hold, planted families."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from iaside.estimate.coefficients import METHODS, coefficient, without_group_means
from iaside.estimate.correlation import (
    between_families,
    coefficients,
    correlation,
    correlation_at_levels,
    correlation_row,
    independent,
    jackknifed,
    networks_needed,
    no_correlation,
    over_networks,
    without_a_family,
)
from iaside.estimate.crossed import crossed_mean, resampled_scores
from iaside.estimate.families import family, family_means, several
from iaside.estimate.reliability import reliability, without_error


def pair(n=12, seed=0, rho=0.6):
    return np.random.default_rng(seed).multivariate_normal([0, 0], [[1, rho], [rho, 1]], n).T


@pytest.mark.parametrize(
    ("method", "oracle"),
    [("pearson", stats.pearsonr), ("spearman", stats.spearmanr), ("kendall", stats.kendalltau)],
)
def test_coefficients_are_those_of_scipy(method, oracle):
    x, y = pair()
    y[3] = y[5]  # a tie
    c = correlation(x, y, method)
    assert c.estimate == pytest.approx(oracle(x, y).statistic)
    assert c.low < c.value < c.high and c.n == len(x) and c.unit == "networks"
    row = correlation_row(x, y, method)
    assert row["loo_low"] <= row["value"] <= row["loo_high"] and row["low"] == c.low
    without = [oracle(np.delete(x, k), np.delete(y, k)).statistic for k in range(len(x))]
    assert (row["loo_low"], row["loo_high"]) == pytest.approx((min(without), max(without)))


def test_partial_correlation_is_that_of_residuals():
    rng = np.random.default_rng(2)
    z = rng.normal(size=15)
    x, y = z + rng.normal(size=15), z + rng.normal(size=15)

    def residual(v):
        design = np.stack([np.ones(15), z], 1)
        return v - design @ np.linalg.lstsq(design, v, rcond=None)[0]

    expected = stats.pearsonr(residual(x), residual(y)).statistic
    assert correlation(x, y, "pearson", given=z).estimate == pytest.approx(expected)
    only_through_z = correlation(z, y, given=z)
    assert math.isnan(only_through_z.estimate), "nothing is left of z given z"


def test_the_permutation_p_is_exact_for_few_models():
    x, y = pair(6, seed=4)
    all_of_them = [
        abs(over_its_error(stats.rankdata(x), stats.rankdata(p))) for p in itertools.permutations(y)
    ]
    expected = np.mean(np.array(all_of_them) >= all_of_them[0] - 1e-9)
    assert correlation_row(x, y)["p"] == pytest.approx(expected)
    taus = [abs(stats.kendalltau(x, p).statistic) for p in itertools.permutations(y)]
    expected = np.mean(np.array(taus) >= taus[0] - 1e-9)
    assert correlation_row(x, y, "kendall")["p"] == pytest.approx(expected)


def over_its_error(x, y):
    """Pearson's coefficient over the standard error that the networks' influences on it have."""
    x, y = ((v - np.mean(v)) / np.std(v) for v in (x, y))
    r = np.mean(x * y)
    return r / max(np.sqrt(np.mean((x * y - r * (x**2 + y**2) / 2) ** 2) / len(x)), 1e-9)


def test_the_partial_p_exchanges_what_is_left_without_the_third_number():
    x, y, z = np.random.default_rng(3).normal(size=(3, 6))

    def left(v):
        v, third = v - v.mean(), z - z.mean()
        return v - third * (v @ third) / (third @ third)

    rest = [left(np.array(p)) for p in itertools.permutations(left(y + z))]
    all_of_them = [abs(over_its_error(left(x), v)) for v in rest]
    expected = np.mean(np.array(all_of_them) >= all_of_them[0] - 1e-9)
    assert correlation_row(x, y + z, "pearson", given=z)["p"] == pytest.approx(expected)


@pytest.mark.slow
def test_scatter_that_grows_with_the_score_is_seldom_taken_for_a_coefficient():
    """Of 21 networks: a plain permutation test rejects 0 in 10 % of cases."""
    wrong = found = 0
    for seed in range(400):
        x, e = np.random.default_rng(seed).normal(size=(2, 21))
        wrong += correlation_row(x, x * e)["p"] <= 0.05
        found += correlation_row(x, x + e)["p"] <= 0.05
    assert wrong <= 0.08 * 400 and found > 0.9 * 400, (wrong, found)


def test_few_models_prove_nothing():
    four = correlation([1, 2, 3, 4], [1, 2, 3, 4])
    assert four.estimate == 1 and math.isnan(four.low) and math.isnan(four.high)
    perfect = correlation_at_levels(range(5), range(5))
    assert 0 < perfect(0.95).low, "a perfect order of five is one of 120: 2 / 120 < .05"
    assert perfect(0.99).low <= 0, "and not below .01"
    assert correlation(range(20), range(20)).low > 0.5
    constant = correlation([1, 1, 1, 1, 1, 1], range(6))
    assert math.isnan(constant.estimate) and math.isnan(constant.low)
    assert math.isnan(correlation([1.0], [2.0]).estimate)


@pytest.mark.parametrize("n", [6, 15])
def test_limits_hold_the_true_coefficient_often_enough(n):
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # Spearman's rho of a normal pair with r = 0.6
    drawn = [correlation(*pair(n, seed)) for seed in range(200)]
    assert np.mean([c.low <= truth <= c.high for c in drawn]) > 0.92


def test_correlation_within_groups_is_that_of_residuals():
    rng = np.random.default_rng(3)
    groups = np.repeat(list("abcd"), 6)
    shift = np.repeat([0.0, 9.0, 18.0, 27.0], 6)  # between groups: a perfect rise
    inner = rng.normal(size=24)
    x, y, z = shift + inner, shift - inner + 0.3 * rng.normal(size=24), rng.normal(size=24)
    design = np.equal.outer(groups, np.unique(groups)).astype(float)

    def residual(v, design=design):
        return v - design @ np.linalg.lstsq(design, v, rcond=None)[0]

    found = correlation(x, y, "pearson", groups=groups)
    assert correlation(x, y, "pearson").low > 0.8
    assert found.estimate == pytest.approx(stats.pearsonr(residual(x), residual(y)).statistic)
    assert found.high < 0 and correlation_row(x, y, "pearson", groups=groups)["p"] < 0.01
    t = stats.t.ppf(0.975, 24 - 2 - 3)  # three means less
    reach = math.atanh(t / math.sqrt(24 - 2 - 3 + t**2))
    assert found.high == pytest.approx(math.tanh(math.atanh(found.value) + reach))
    ranks = correlation(x, y, groups=groups)
    expected = stats.pearsonr(*(residual(stats.rankdata(v)) for v in (x, y))).statistic
    assert ranks.estimate == pytest.approx(expected) and ranks.high < 0
    both = np.column_stack([design, z])
    left = stats.pearsonr(*(residual(v, both) for v in (x, y))).statistic
    assert correlation(x, y, "pearson", given=z, groups=groups).estimate == pytest.approx(left)
    apart = correlation(rng.normal(size=24), shift, groups=groups)
    assert math.isnan(apart.estimate), "nothing is left within groups that are constant"
    assert math.isnan(correlation(x[:7], y[:7], groups=list("aabbccd")).low), "3 models for 7 - 3"
    with pytest.raises(ValueError, match="and 2 groups"):
        correlation(x, y, groups=["a", "b"])


def test_p_within_groups_is_that_of_permutations_within_them():
    x, y = pair(6, seed=1)
    groups = [0, 1, 0, 1, 0, 1]  # 3! * 3! orders
    x[1::2], y[1::2] = x[1::2] / 50, y[1::2] / 50  # whoever leaves his group is seen
    within = np.array([[0, 2, 4], [1, 3, 5]])
    others = []
    for a, b in itertools.product(*(itertools.permutations(w) for w in within)):
        order = np.arange(6)
        order[within[0]], order[within[1]] = a, b
        left = without_group_means(np.stack([x, y[order]]), np.array([groups]))
        others.append(abs(over_its_error(*left)))
    expected = np.mean(np.array(others) >= others[0] - 1e-9)
    found = correlation_row(x, y, "pearson", groups=groups)["p"]
    assert found == pytest.approx(expected, abs=0.02)


def test_kendall_of_many_rows_is_that_of_each():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 250, 6))
    each = [stats.kendalltau(a, b).statistic for a, b in zip(x, y, strict=True)]
    assert coefficient(x, y, method="kendall") == pytest.approx(np.array(each))


def test_every_predictor_meets_every_measure():
    x, y = pair(9)
    rows = coefficients({"SRC": x, "clean error": y}, {("mPE", "pgd"): y, ("error", "fog"): x}, -y)
    assert len(rows) == 2 * (2 + 1), "clean error says nothing given clean accuracy"
    [row] = [r for r in rows if (r["measure"], r["predictor"], r["given"]) == ("mPE", "SRC", "")]
    assert row["value"] == pytest.approx(stats.spearmanr(x, y).statistic)
    assert {r["given"] for r in rows} == {"", "clean accuracy"}


def test_correlation_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="one number per network"):
        correlation([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="choose one of pearson, spearman, kendall"):
        correlation([1, 2, 3], [1, 2, 3], "tau")
    with pytest.raises(ValueError, match="with given= or groups="):
        correlation([1, 2, 3], [1, 2, 3], "kendall", given=[1, 2, 3])


CONSTANTS = [0.3, 0.576, 1 / 3, 0.1 + 0.2, 0.7, 1e-9, 1e9, -0.3, 0.0, 2 / 7, 1e-300, 1e300, math.pi]


A_FEW = [0.1, 0.4, 0.2, 0.9, 0.5, 0.3]


@pytest.mark.parametrize(
    "held",
    [
        tuple(A_FEW),
        np.array(A_FEW),
        torch.tensor(A_FEW, dtype=torch.float64, requires_grad=True),
        pd.Series(A_FEW, index=range(7, 13)),
        pd.Series(A_FEW, dtype="Float64"),
        np.ma.masked_array(A_FEW, False),
    ],
)
def test_numbers_of_models_are_taken_from_whatever_holds_them(held):
    assert correlation(held, [1, 2, 3, 4, 6, 5]) == correlation(A_FEW, [1, 2, 3, 4, 6, 5])


def test_a_missing_number_is_missing_in_whatever_holds_it():
    for held in ([None, *A_FEW[1:]], pd.Series([None, *A_FEW[1:]], dtype="Float64")):
        assert no_correlation(held, range(6)) == "x is nan for 1 of 6"


@pytest.mark.parametrize(
    ("error", "match", "how"),
    [
        (ValueError, "x is masked in places", {"x": np.ma.masked_less(A_FEW, 0.2)}),
        (TypeError, "y is .*; give real numbers", {"y": ["a"] * 6}),
        (TypeError, "x is .*; give real numbers", {"x": np.array(A_FEW) + 1j}),
        (TypeError, "x is .*; give real numbers", {"x": (a for a in A_FEW)}),
        (TypeError, "given is .*; give real", {"given": np.array(["2026-01-01"] * 6, "M8[D]")}),
        (ValueError, "one number per network is needed", {"x": 0.3}),
        (ValueError, "level must lie between 0 and 1, both excluded; got 95", {"level": 95}),
        (ValueError, "level must lie between", {"level": 0}),
    ],
)
def test_correlation_refuses_what_are_no_numbers_and_settings(error, match, how):
    with pytest.raises(error, match=match):
        correlation(**{"x": A_FEW, "y": A_FEW[::-1]} | how)


@pytest.mark.parametrize("method", METHODS)
def test_constants_have_no_correlation(method):
    vary = np.random.default_rng(0).normal(size=11)
    for a, n in itertools.product(CONSTANTS, (2, 3, 7, 10, 11)):
        for b in CONSTANTS:
            found = correlation([a] * n, [b] * n, method)
            assert np.isnan([*found]).all()
            assert no_correlation([a] * n, [b] * n, method) == "x and y are constant"
        for x, y, name in (([a] * n, vary[:n], "x"), (vary[:n], [a] * n, "y")):
            found = correlation(x, y, method)
            assert np.isnan([*found]).all() and found.n == n
            assert found.limits() == "none"
            assert correlation_row(x, y, method)["why"] == f"{name} is constant"


@pytest.mark.parametrize("method", METHODS)
def test_rounding_is_no_spread_and_small_differences_are(method):
    rng = np.random.default_rng(1)
    y = rng.normal(size=10)
    for value in (0.3, 1 / 3, 1e9, -7e-5):
        noise = value + rng.integers(-3, 4, 10) * np.spacing(abs(value))
        assert np.ptp(noise) > 0 and no_correlation(noise, y, method) == "x is constant"
        assert no_correlation(y, noise, method) == "y is constant"
    sums = [sum(rng.permutation([0.1, 0.2, 0.3, 0.7, 1e-3])) for _ in range(10)]
    assert no_correlation(sums, y, method) == "x is constant"
    right = correlation(y, y**3, method)
    for offset, unit in ((1e8, 1e-3), (1e8, 1.0), (-1e-3, 1e-12), (0, 1e-200), (0, 1e200)):
        found = correlation(offset + unit * y, y**3, method)
        assert np.allclose([*found], [*right], atol=1e-3)
        row = correlation_row(offset + unit * y, y**3, method)
        assert row["why"] == "" and row["p"] < 0.01


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_what_is_constant_within_groups_or_given_all_has_no_correlation(method):
    rng = np.random.default_rng(2)
    x, y, z = rng.normal(size=(3, 12))
    groups = ["a"] * 5 + ["b"] * 4 + ["c"] * 3
    still = np.repeat([0.3, 0.7, 1 / 3], [5, 4, 3])
    still = still + rng.integers(-1, 2, 12) * np.spacing(0.3)
    assert no_correlation(still, y, method, groups=groups) == "x is constant within groups"
    assert no_correlation(x, still, method, groups=groups) == "y is constant within groups"
    assert no_correlation(x, y, method, still, groups) == "given is constant within groups"
    assert no_correlation(x, y, method, given=[0.3] * 12) == "given is constant"
    assert no_correlation(x, y, method, given=2 * x + 0.1) == "given leaves nothing of x or y"
    assert no_correlation(x, y, method, z, groups) == ""


def test_resamples_and_leaving_one_out_that_are_constant_take_no_part():
    """Of 0.3 nine times and one other, every third resample has 0.3 only: no coefficient."""
    x, y = np.array([0.3] * 9 + [0.7]), np.random.default_rng(3).normal(size=10)
    index = np.random.default_rng(0).integers(0, 10, (2000, 10))
    rows = coefficient(x[index], y[index], method="pearson")
    assert np.array_equal(np.isnan(rows), np.ptp(x[index], axis=1) == 0)
    others = np.array([np.delete(np.arange(10), k) for k in range(10)])
    assert np.isnan(coefficient(x[others], y[others], method="pearson")).tolist() == [0] * 9 + [1]
    a, b = correlation(x, y, "pearson"), correlation(x > 0.5, y, "pearson")
    assert np.allclose([*a], [*b]), "only which of the ten is the other counts"


def test_numbers_that_are_too_few_or_infinite():
    y = np.arange(6.0) ** 2
    for method, n in itertools.product(METHODS, (0, 1)):
        assert no_correlation(y[:n], y[:n], method) == f"it takes 2 networks, not {n}"
        assert correlation(y[:n], y[:n], method).n == n
    assert correlation([1, 2], [5, 3]).estimate == -1
    x = np.array([0.0, 1, 2, 4, 3, np.inf])
    assert no_correlation(x, y, "pearson") == "x is infinite for 1 of 6; take ranks"
    for method in ("spearman", "kendall"):
        ranks = correlation(stats.rankdata(x), y, method)
        assert correlation(x, y, method) == ranks
    assert no_correlation([np.inf] * 6, y) == "x is constant"
    assert no_correlation([1, np.nan, 2], [1, 2, 3]) == "x is nan for 1 of 3"


# -- limits as functions of the level --------------------------------------------------------------


def test_a_test_of_0_is_students_with_families_less_2():
    """docs/methods.md, Verdicts: five families need |r| > .88, seven > .75, twelve > .58."""
    for n, needed in ((5, 0.88), (7, 0.75), (12, 0.58)):
        x = np.arange(n) - (n - 1) / 2
        e = np.random.default_rng(n).normal(size=n)
        e -= e.mean() + x * (e @ x) / (x @ x)
        for r in (needed - 0.01, needed + 0.01):
            y = r * x / np.linalg.norm(x) + math.sqrt(1 - r**2) * e / np.linalg.norm(e)
            t = r * math.sqrt((n - 2) / (1 - r**2))
            p = 2 * stats.t.sf(t, n - 2)
            for level in (0.9, 1 - p - 1e-6, 1 - p + 1e-6):
                low = correlation_at_levels(x, y, "pearson")(level).low
                ranks_say_no = correlation_row(x, y, "pearson")["p"] > 1 - level
                assert (low > 0) == (level < 1 - p and not ranks_say_no)
            assert (p < 0.05) == (r > needed)


def test_no_verdict_is_made_of_an_order_that_permutations_often_have():
    """Two families of three: 2 of 36 orders are as extreme as the perfect one, p = .056."""
    x, groups = np.arange(6.0), list("aaabbb")
    found = correlation_at_levels(x, x, groups=groups)(0.9)
    assert independent(6, groups) == 5 and found.low > 0
    assert correlation_at_levels(x, x, groups=groups)(0.95).low == 0
    assert correlation_row(x, x, groups=groups)["p"] == pytest.approx(2 / 36, abs=0.01)


def test_limits_widen_with_the_level_and_hold_other_photographs():
    rng = np.random.default_rng(1)
    x = np.arange(12.0)
    y = x + rng.normal(size=12)
    levels = (0.5, 0.9, 0.95, 0.999, 1 - 1e-6)
    found = [correlation_at_levels(x, y)(level) for level in levels]
    assert all(a.low > b.low and a.high < b.high for a, b in itertools.pairwise(found))
    shaken = y[:, None] + np.concatenate([np.zeros((12, 1)), 2 * rng.normal(size=(12, 200))], 1)
    both, alone = correlation(x, shaken, n_images=20), correlation(x, y)
    assert both.value == alone.value and both.low < alone.low and both.se > alone.se
    still = y[:, None] + np.zeros((12, 200))
    assert np.allclose([*correlation(x, still, n_images=20)], [*alone])
    assert math.isnan(correlation(x, shaken, n_images=4).low), "too few photographs"


# -- designs ---------------------------------------------------------------------------------------


def test_families_are_those_of_the_zoo_where_names_tell_them():
    """As an independent list has them: the ImageNet networks of the zoo, and torchvision's."""
    known = {
        "mobilenetv1_025_128": "mobilenetv1",
        "keras_mobilenetv1_025_224": "mobilenetv1",
        "mcu_mobilenetv2_035": "mobilenetv2",
        "mobilenetv3_small_100": "mobilenetv3",
        "mobilenet_edgetpu_100": "mobilenet_edgetpu",
        "hardnet39ds": "hardnet",
        "regnetx_200mf": "regnet",
        "shufflenet_g8": "shufflenet",
        "mcunet_5fps": "mcunet",
        "mcu_proxyless_03": "proxyless",
        "tf_efficientnet_lite2": "efficientnet_lite",
        "squeezenet1_0": "squeezenet",
        "vit_tiny_patch16_224": "vit",
        "resnet50": "resnet",
        "vgg19_bn": "vgg",
        "alexnet": "alexnet",
        "inception_v3": "inceptionv3",
        "regnet_y_400mf": "regnet",
        "mnasnet1_0": "mnasnet",
        "efficientnet_b0": "efficientnet",
        "efficientnet_v2_s": "efficientnetv2",
        "mobilenet_v3_large": "mobilenetv3",
        "shufflenet_v2_x0_5": "shufflenetv2",
        "swin_b": "swin",
        "maxvit_t": "maxvit",
        "resnet18.a1_in1k": "resnet",
        "wide_resnet50_2": "wide_resnet",
        "resnext50_32x4d": "resnext",
        "ResNet18": "resnet",
        "googlenet": "googlenet",
        "densenet121": "densenet",
    }
    assert {name: family(name) for name in known} == known


def test_independent_networks_are_what_is_left_of_them():
    assert independent(9) == 9 and independent(9, given=[1]) == 8
    assert independent(4, list("aaab")) == 3 and independent(19, list("aaaabbbccddefghijkl")) == 8
    assert math.isnan(correlation(range(7), range(7), groups=list("abcdeef")).low)


def test_what_is_between_families_is_a_coefficient_of_their_means():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 14))
    families = list("aabbccddeeffgg")
    means = [pd.Series(v).groupby(families).mean() for v in (x, y)]
    found = between_families(x, y, families)
    assert found.value == pytest.approx(stats.spearmanr(*means).statistic)
    assert (found.n, found.unit) == (7, "families")
    assert np.allclose(family_means(x, families), means[0])
    two = between_families([1, 2, 3, 4], [4, 3, 2, 1], list("aabb"))
    assert math.isnan(two.value), "two points are always on a line"
    assert several(list("abc")) is None


def test_rows_within_families_are_those_within_families():
    x, y = pair(12)
    families = list("aaabbbcccddd")
    rows = coefficients({"SRC": x}, {("mPE", "pgd"): y}, -x * y, families)
    assert [(row["over"], row["given"]) for row in rows] == [
        ("networks", ""),
        ("networks", "clean accuracy"),
        ("within families", ""),
        ("within families", "clean accuracy"),
    ]
    assert rows[2]["value"] == correlation(x, y, groups=families).value
    assert rows[3]["independent"] == 12 - 3 - 1
    alone = coefficients({"SRC": x}, {("mPE", "pgd"): y}, -x * y, range(12))
    assert {row["over"] for row in alone} == {"networks"}


@pytest.mark.slow
def test_a_coefficient_is_corrected_for_the_error_that_was_put_in():
    """True numbers that are one and the same, each measured with half of its variance as noise."""
    rng = np.random.default_rng(0)
    truth, n, images = rng.normal(size=150), 150, 100
    scores = []
    for _ in range(2):
        noise = rng.normal(size=(n, images)) * math.sqrt(images)
        draws = rng.multinomial(images, np.full(images, 1 / images), 100).T / images
        weights = np.concatenate([np.full((images, 1), 1 / images), draws], axis=1)
        scores.append(truth[:, None] + noise @ weights)
    assert correlation(*(s[:, 0] for s in scores)).value < 0.7
    found = without_error(*scores, images)
    assert found.value == pytest.approx(1, abs=0.2) and found.low < 1 < found.high
    assert found.high - found.low < 0.8 and found.n == n
    told = reliability(scores[0], images)
    assert told.value == pytest.approx(0.5, abs=0.15) and told.low < 0.5 < told.high
    # an error that all share, as of photographs that are hard for all, moves no order
    shared = truth[:200, None] + np.concatenate([[0], rng.normal(size=100)])
    assert without_error(shared, shared, images).value == pytest.approx(1)
    assert reliability(shared, images).value == pytest.approx(1)


def test_the_limits_of_a_corrected_coefficient_hold_what_is_true():
    """25 networks of 5 families, -.6 is true within them, a fifth of a spread is noise."""
    groups, images, held, widths = np.repeat(range(5), 5), 30, [], []
    pearson = -2 * math.sin(math.pi / 6 * 0.6)
    for seed in range(25):
        rng = np.random.default_rng(seed)
        own = rng.multivariate_normal([0, 0], [[1, pearson], [pearson, 1]], 25).T
        photographs = 0.5 * math.sqrt(images) * rng.normal(size=(2, 25, images))
        values = (own + 3 * groups)[..., None] + photographs
        x, y = (resampled_scores(list(v[:, None]), lambda mean: mean[0], 100) for v in values)
        found = without_error(x, y, images, groups)
        told = reliability(x, images, groups)
        held.append([found.low <= -0.6 <= found.high, told.low <= 1 / 1.25 <= told.high])
        widths.append(found.high - found.low)
    assert np.mean(held, axis=0).min() >= 0.84 and np.median(widths) < 1.6


def test_a_spread_that_is_all_error_has_no_corrected_coefficient():
    rng = np.random.default_rng(1)
    noise = [
        resampled_scores(list(rng.normal(size=(9, 1, 20))), lambda mean: mean[0], 100)
        for _ in range(2)
    ]
    assert reliability(noise[0], 20).value < 0.6
    few = resampled_scores(list(rng.normal(size=(9, 1, 3))), lambda mean: mean[0], 100)
    assert np.isnan(reliability(few, 3).value) and np.isnan(without_error(few, few, 3).value)
    found = without_error(*noise, 20)
    assert np.isnan(found.value) or not np.isfinite(found.low) or found.low < 0 < found.high


def test_a_range_without_a_family_is_that_of_every_family_left_out():
    rng = np.random.default_rng(0)
    x, y, z = rng.normal(size=(3, 12))
    families = np.repeat(list("abcd"), 3)
    keep = [families != f for f in "abcd"]
    plain = [stats.spearmanr(x[k], y[k]).statistic for k in keep]
    assert without_a_family(x, y, families) == pytest.approx((min(plain), max(plain)))
    own = [correlation(x[k], y[k], groups=families[k].tolist()).value for k in keep]
    assert without_a_family(x, y, families, within=True) == pytest.approx((min(own), max(own)))
    left = [correlation(x[k], y[k], given=z[k]).value for k in keep]
    assert without_a_family(x, y, families, given=z) == pytest.approx((min(left), max(left)))
    assert np.isnan(without_a_family([1, 2, 3], [1, 2, 3], list("aaa"))).all()


@pytest.mark.parametrize("r", [0.3, -0.45, 0.5, 0.62, -0.8, 0.95])
@pytest.mark.slow
def test_so_many_networks_and_no_fewer_leave_zero_out(r):
    n = int(networks_needed(r))

    def p(m):  # Student's test of a coefficient half a step of ranks closer to 0
        moved = abs(r) - 6 / (m**3 - m)
        return 2 * stats.t.sf(moved * math.sqrt((m - 2) / (1 - moved**2)), m - 2)

    assert p(n) < 0.05 and (n == 5 or p(n - 1) >= 0.05)
    assert networks_needed(r, taken=3) == n + 3
    # and as the limits of networks do: ranks of as near a coefficient as there is
    rng = np.random.default_rng(0)
    for m, told in ((n + 2, True), (n - 2, False)):
        if m < 5:
            continue
        pairs = (np.arange(m) + s * rng.normal(size=m) for s in np.geomspace(0.1, 99, 1000))
        best = min(pairs, key=lambda y: abs(stats.spearmanr(range(m), y).statistic - abs(r)))
        found = correlation(range(m), best)
        if abs(found.value - abs(r)) < 0.005:
            agreed = correlation_row(range(m), best)["p"] <= 0.05
            assert (found.low > 0) == (told and agreed), (m, found)


def test_a_coefficient_of_nothing_needs_networks_without_end():
    assert networks_needed(0.0) == math.inf == networks_needed(0.5, taken=190)
    assert math.isnan(networks_needed(float("nan")))


# -- other statistics ------------------------------------------------------------------------------


def test_the_jackknife_of_a_mean_is_its_standard_error():
    scores = np.random.default_rng(0).normal(size=(7, 51))
    found = over_networks(lambda index: scores[index].mean(0), range(7), 20)(0.95)
    assert np.allclose([*found], [*crossed_mean(scores, 20, unit="networks")])
    assert (found.n, found.unit) == (7, "networks")
    alone = over_networks(lambda index: scores[index, :1].mean(0), range(7))(0.95)
    reach = stats.t.ppf(0.975, 6) * scores[:, 0].std(ddof=1) / math.sqrt(7)
    assert alone.high - alone.value == pytest.approx(reach)


def test_a_family_is_left_out_as_one():
    """Copies of a network are no further draws: the limits are those without them."""
    x = np.random.default_rng(0).normal(size=6)
    copies, of = np.repeat(x, 3), np.repeat(np.arange(6), 3).tolist()
    found = over_networks(lambda index: copies[index].mean(keepdims=True), of)(0.95)
    once = over_networks(lambda index: x[index].mean(keepdims=True), range(6))(0.95)
    assert np.allclose([*found], [*once]) and found.n == 6
    as_if = over_networks(lambda index: copies[index].mean(keepdims=True), range(18))(0.95)
    assert as_if.high - as_if.value < 0.6 * (found.high - found.value)
    resamples = np.array([1.0, 2.0, np.nan, 3.0])  # one of which has no such statistic
    assert jackknifed(lambda index: resamples, range(4)).shape == (4, 3)
    three = over_networks(lambda index: x[index].mean(keepdims=True), range(3))(0.95)
    assert math.isnan(three.low), "4 networks are needed"
    assert jackknifed(lambda index: x[index].mean(keepdims=True), ["a"] * 6).shape == (1, 1)
