"""The best of many: that equals are not mistaken for better, and that a best one is found."""

import numpy as np
import pytest
from scipy import stats

from iaside.estimate import best
from iaside.estimate.best import best_interval
from iaside.estimate.intervals import interval


def test_the_best_of_many_equals_is_not_mistaken_for_better():
    rng, wrong, naive, repeats = np.random.default_rng(0), 0, 0, 100
    for _ in range(repeats):  # 12 cells of a grid that differ by nothing, 8 photographs
        rows = rng.normal(size=(12, 8)) + rng.normal(size=8)
        found, score, above = best_interval(rows)
        (cell,) = found
        assert cell == rows.mean(1).argmax() and score.value == rows[cell].mean()
        alone = interval(np.stack([rows[cell], rows.mean(0)]), lambda mean: mean[0] - mean[1])
        wrong, naive = wrong + (above.low > 0), naive + (alone.low > 0)
        assert above.value == pytest.approx(alone.value)
    assert naive > 0.15 * repeats and wrong <= 0.07 * repeats, (naive, wrong)


@pytest.mark.parametrize("scatter", [1.0, np.repeat([2.0, 1.0], [10, 20])[:, None]])
def test_equals_that_are_skewed_or_scatter_unequally_are_not_mistaken_for_better(scatter):
    """Student's limits, though Bonferroni's, trust the cell that scatters least by chance."""
    rng, wrong, students, repeats = np.random.default_rng(0), 0, 0, 200
    for _ in range(repeats):
        rows = -scatter * rng.exponential(size=(30, 8)) + scatter
        above = best_interval(rows, n_resamples=1000).above
        wrong += above.low > 0
        students += above.value > stats.t.ppf(1 - 0.025 / 30, 7) * above.se
    assert wrong <= 0.05 * repeats < 0.1 * repeats < students, (wrong, students)


def test_a_planted_best_is_found_and_its_interval_holds():
    rows = np.random.default_rng(1).normal(size=(12, 8)) / 10
    rows[7] += 1
    found, score, above = best_interval(rows)
    assert found == [7] and score.low < 1 < score.high and above.low > 0.8
    with pytest.warns(RuntimeWarning, match="at least 5 photographs"):
        assert np.isnan(best_interval(rows[:, :4]).score.low)


@pytest.mark.parametrize("n_images", [5, 8, 24])
def test_the_farthest_of_one_is_students_and_of_many_independent_ones_nearly_bonferronis(n_images):
    rng = np.random.default_rng(0)
    row = rng.normal(size=(1, n_images))
    for copies in (1, 12):  # what is one and the same is one
        found = best._farthest_of_all(np.repeat(row, copies, 0), 20_000, 0)
        assert np.quantile(found, 0.95) == pytest.approx(stats.t.ppf(0.95, n_images - 1), rel=0.03)
    many = np.quantile(best._farthest_of_all(rng.normal(size=(12, 300)), 8000, 0), 0.95)
    normal = stats.norm.ppf(0.95 ** (1 / 12))
    assert 0.9 * normal < many < normal, "most standard errors count for more than their own"


@pytest.mark.filterwarnings("error")
def test_scale_level_and_what_does_not_vary():
    rows = np.random.default_rng(2).normal(size=(6, 9)) + 3
    one, wide, scaled = (best_interval(*a) for a in ((rows,), (rows, 0.99), (1000 * rows,)))
    for narrow, wider, larger in zip(one[1:], wide[1:], scaled[1:], strict=True):
        assert wider.low < narrow.low < narrow.value < narrow.high < wider.high
        np.testing.assert_allclose([*larger], [1000 * x for x in narrow])
    fixed = best_interval(np.tile([[1.0], [2.0], [2.0]], 9))
    assert fixed.rows == [1, 2] and fixed.score.low == fixed.score.high == 2
    for bad in ((rows, 1.0), (rows, 0.95, 99)):
        with pytest.raises(ValueError, match="level must|at least 100"):
            best_interval(*bad)
