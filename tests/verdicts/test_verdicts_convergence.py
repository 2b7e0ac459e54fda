"""Verdicts on convergence: resamples of a known spread, errors of a known size."""

import itertools

import numpy as np
import pytest
from populations import MEANS, skewed_population
from scipy import stats

from iaside.estimate.convergence import loglog_slope, random_orders
from iaside.estimate.resampling import of_resamples
from iaside.score import spectral_importance
from iaside.verdicts import convergence as v


def rows(mean, spread=0.05, n=400, seed=0):
    noise = np.random.default_rng(seed).normal(size=n)
    return np.r_[mean, mean + spread * (noise - noise.mean()) / noise.std()]


@pytest.mark.parametrize(
    ("slope", "verdict"), [(-0.5, "supported"), (0.5, "contradicted"), (-0.05, "undecided")]
)
def test_slopes(slope, verdict):
    row = v.errors_converge({"a": rows(-0.5), "b": rows(slope)}, {"a": 70, "b": 2400}, "these")
    assert row["verdict"] == verdict and row["data"] == "these"
    assert {p["part"]: p["n"] for p in row["parts"]} == {"a": 70, "b": 2400}
    assert row["unit"] == "photographs"
    few = v.errors_converge({"a": np.r_[-0.5, np.full(400, np.nan)]}, {"a": 4})
    assert few["verdict"] == "undecided" and "5 are needed" in few["note"]


def test_the_bound_of_every_size():
    reached = {"a": np.stack([rows(0.02, 0.001), rows(1.5, 0.1)], axis=1)}
    row = v.error_bound_holds(reached, {"a": [5, 12]}, {"a": 70})
    assert row["verdict"] == "contradicted" and row["note"].startswith("worst of 2: a, K = 12")
    row = v.error_bound_holds({"a": reached["a"][:, :1]}, {"a": [5]}, {"a": 70})
    assert row["verdict"] == "supported"


def test_two_hundred_photographs():
    near, far, n = rows(0.03, 0.005), rows(0.3, 0.005), {"a": 2400, "b": 2400}
    assert v.k200_representative({"a": near, "b": near}, n)["verdict"] == "supported"
    assert v.k200_representative({"a": near, "b": far}, n)["verdict"] == "contradicted"
    assert v.k200_l1(near, 2400)["verdict"] == "contradicted"
    assert v.k200_l1(rows(0.003, 0.0005), 2400)["verdict"] == "supported"


# --- limits of resamples -------------------------------------------------------------------------


def test_limits_of_normal_resamples_are_the_textbooks():
    limits = of_resamples(rows(3.0, 0.5, n=20_000), n=10_000)
    for level in (0.8, 0.95, 0.99, 0.9999):
        reach = 0.5 * stats.norm.ppf((1 + level) / 2)
        found = limits(level)
        assert [found.low, found.high] == pytest.approx([3 - reach, 3 + reach], abs=0.04 * reach)
    assert found.se == pytest.approx(0.5, rel=0.01) and (found.n, found.value) == (10_000, 3.0)


@pytest.mark.parametrize("n", [6, 24, 70])
def test_limits_of_resamples_are_nested_and_wider_for_few_images(n):
    skewed = np.r_[1.0, np.random.default_rng(0).exponential(size=400)]
    limits = of_resamples(skewed, n)
    found = [limits(level) for level in (0.5, 0.9, 0.95, 0.99, 0.999, 0.99999)]
    for narrow, wide in itertools.pairwise(found):
        assert wide.low <= narrow.low <= 1 <= narrow.high <= wide.high
    many = of_resamples(skewed, 10**6)(0.95)
    assert many.high < found[2].high and found[2].low < many.low
    if n < 15:
        reach = stats.t.ppf(0.975, n - 1) * (skewed[1:]).std(ddof=1)
        assert found[2].high - 1 >= reach * 0.999 and 1 - found[2].low >= reach * 0.999


def test_resamples_that_all_lie_on_one_side_still_hold_the_estimate():
    limits = of_resamples(np.r_[0.0, np.linspace(1, 2, 400)], 50)
    assert limits(0.95).low == 0 and limits(0.95).high > 1.9


def test_tails_move_out_from_the_middle_of_the_resamples_wherever_the_estimate_lies():
    """A noisy procedure's estimate lies anywhere among them."""
    many = rows(3.0, 0.5, n=20_000)[1:]
    for estimate in (2.6, 3.0, 3.4):
        found = of_resamples(np.r_[estimate, many[:400]], 10_000)(0.9999)
        reach = 0.5 * stats.norm.ppf(0.99995)
        assert [found.low, found.high] == pytest.approx([3 - reach, 3 + reach], abs=0.15 * reach)


def test_rows_that_are_no_resamples_are_refused():
    both = of_resamples(np.stack([rows(3.0, 0.5), rows(1.0, 0.5)], axis=1), 9)(0.95)
    assert [*both[1]] == pytest.approx([*of_resamples(rows(1.0, 0.5), 9)(0.95)])
    for wrong in (np.zeros(40), np.zeros((40, 2)), 3.0):
        with pytest.raises(ValueError, match="at least 40 resamples"):
            of_resamples(wrong, 9)


# --- what they are made from ---------------------------------------------------------------------


def test_distances_of_one_order_by_hand():
    psi = skewed_population(9, np.random.default_rng(0))
    order = np.array([[3, 1, 4, 0, 5, 2, 6, 8, 7]])
    step, gap = v.sid_distances(psi, order, [2, 4])
    for k, size in enumerate((2, 4)):
        first, more, others = (
            spectral_importance(psi[:, i].mean(1))
            for i in (order[0, :size], order[0, : size + 1], order[0, size:])
        )
        assert step[k] == pytest.approx(np.abs(more - first).mean())
        fair = np.sqrt(1 - size / 9)
        assert gap[k] == pytest.approx(fair * np.abs(first - others).mean())


def test_corrected_distances_are_those_to_the_whole_population():
    """Without replacement against the others, corrected: as with replacement against all, where it
    is clear which band is the weakest."""
    rng = np.random.default_rng(0)
    psi, sizes = skewed_population(200, rng, MEANS - 3 * (MEANS < 0.15)), [10, 80]
    gap = v.sid_distances(psi, random_orders(200, 2000, rng), sizes)[1]
    drawn = [v.distance_with_replacement(psi, size, 2000, rng) for size in sizes]
    np.testing.assert_allclose(gap, drawn, rtol=0.06)


def test_errors_of_values_fall_with_the_root():
    rng = np.random.default_rng(0)
    values, sizes = rng.normal(size=(3, 400)), [10, 40, 160]
    errors = v.value_errors(values, sizes, 1500, rng)
    assert errors.shape == (3, 3, 1500) and (errors >= 0).all()
    assert loglog_slope(sizes, errors.mean((0, 2))) == pytest.approx(-0.5, abs=0.03)
    expected = values.std(1, ddof=1)[:, None] / np.sqrt(sizes)
    np.testing.assert_allclose(np.sqrt((errors**2).mean(2)), expected, rtol=0.06)
    worst = v.worst_in_most(errors)
    bands_together = v.every_band_within(3) * expected.max(0)
    np.testing.assert_allclose(worst, bands_together, rtol=0.12)
    below = (errors.max(0) <= worst[:, None]).mean(1)
    np.testing.assert_allclose(below, 0.95, atol=0.01)


def test_standard_errors_for_all_bands_together_are_bonferronis():
    assert v.every_band_within(1) == pytest.approx(1.96, abs=0.001)
    assert v.every_band_within(8) == pytest.approx(stats.norm.ppf(1 - 0.05 / 16))
