"""Trends over trainings: independent oracles for the limits, planted answers along the epochs."""

import numpy as np
import pytest
from scipy import stats

from iaside.score import mean_score
from iaside.shapley import coalitions
from iaside.tables import Worths
from iaside.training.plans import Profile, networks
from iaside.training.trends import (
    ACCURACY,
    families,
    half_epochs,
    high_part,
    learning,
    order_learnt,
    over_groups,
    over_seeds,
    peak,
    readable,
    second_stage,
    seed_rows,
    worth_of_all,
)


def with_values(cells, values):
    """Networks of cells (cell -> seeds), whose answers are values(cell, seed), (N,)."""
    return {
        cell: [
            Profile(f"{cell}-{seed}", {"seed": seed}, answers={"correct": values(cell, seed)[None]})
            for seed in seeds
        ]
        for cell, seeds in cells.items()
    }


def planted(rng, cells, slope=1.0, training=0.2, own=0.0, n=30):
    """Answers of networks whose mean rises by `slope`, photographs and trainings scattering."""
    response = rng.normal(slope, 1, size=n)  # of each photograph to x, the same for all networks

    def of(x, seed):
        return x * response + training * rng.normal() + own * rng.normal(size=n)

    return with_values(cells, of)


# -- seed by seed ----------------------------------------------------------------------------------


def test_networks_of_one_seed_are_compared_with_each_other():
    seeds, cells = [3, 0, 1, 1, 3, 0, 9], ["a", "a", "a", "b", "b", "b", "b"]
    assert seed_rows(seeds, cells).tolist() == [[0, 4], [1, 5], [2, 3]], "9 is in one cell only"
    assert seed_rows([0, 1], ["a", "b"]).shape == (0, 2)
    with pytest.raises(ValueError, match="two networks have seed 1 in cell 'a'"):
        seed_rows([1, 1], ["a", "a"])


def test_a_slope_is_the_mean_of_the_slopes_of_seeds_with_students_limits():
    rng = np.random.default_rng(0)
    x, y = [0.0, 0.2, 0.6, 1.0], rng.normal(size=(4, 5))
    at = {(level, seed): y[k, seed] for k, level in enumerate(x) for seed in range(5)}
    cells = with_values(dict.fromkeys(x, range(5)), lambda *key: np.full(9, at[key]))
    found = ACCURACY.slope(cells)(0.95)
    each = [np.polyfit(x, y[:, seed], 1)[0] for seed in range(5)]
    assert (found.n, found.unit) == (5, "trainings")
    assert found.value == pytest.approx(np.mean(each))
    assert found.value == pytest.approx(np.polyfit(np.repeat(x, 5), y.ravel(), 1)[0])
    low, high = stats.ttest_1samp(each, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    rise = ACCURACY.rise(cells)(0.99)
    low, high = stats.ttest_rel(y[3], y[0]).confidence_interval(0.99)
    assert (rise.low, rise.high) == pytest.approx((low, high))


def test_photographs_count_where_trainings_agree():
    values = np.random.default_rng(0).normal(size=200)
    cells = with_values({0: range(3), 1: range(3)}, lambda x, seed: 5 + (1 + values) * x)
    found = ACCURACY.slope(cells)(0.95)
    low, high = stats.ttest_1samp(1 + values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
    same = with_values({0: range(3), 1: range(3)}, lambda x, seed: values + x)
    assert ACCURACY.rise(same)(0.95).se < 1e-12, "what both cells share cancels"


def test_fewer_than_three_seeds_that_all_cells_have_give_no_limits():
    rng = np.random.default_rng(0)
    two = planted(rng, {0.0: [0, 1, 2], 0.5: [0, 1, 2], 1.0: [1, 2, 3]})
    found = ACCURACY.slope(two)(0.95)
    assert found.n == 2 and np.isfinite(found.value) and np.isnan([found.low, found.high]).all()
    none = planted(rng, {0.0: [0, 1, 2], 1.0: [3, 4, 5]})
    assert ACCURACY.rise(none)(0.95).n == 0
    three = planted(rng, {0.0: range(3), 1.0: range(3)})
    assert np.isfinite(ACCURACY.rise(three)(0.95).low)
    assert np.isnan(ACCURACY.mean(three[0.0][:2])(0.95).low)
    with pytest.raises(ValueError, match="a slope needs at least two different x, got .0.0."):
        ACCURACY.slope({0.0: three[0.0]})
    with pytest.raises(ValueError, match="a difference needs two cells"):
        ACCURACY.rise({0.0: three[0.0]})


@pytest.mark.parametrize(
    ("training", "at_the_end"), [(0.0, False), (0.1, False), (0.5, False), (0.5, True)]
)
def test_a_slope_at_its_threshold_is_called_wrong_in_at_most_one_of_twenty(training, at_the_end):
    """Seeds that scatter at one end only have no more degrees of freedom than that end has."""
    rng, wrong, n = np.random.default_rng(0), 0, 400
    for _ in range(n):
        response = rng.normal(size=30)
        sd = {0.0: 0.0 if at_the_end else training, 0.5: 0.0 if at_the_end else training}

        def of(x, seed, response=response, sd=sd):
            return x * response + sd.get(x, training) * rng.normal()

        cells = with_values(dict.fromkeys((0.0, 0.5, 1.0), range(3)), of)
        found = ACCURACY.slope(cells)(0.95)
        wrong += found.low > 0 or found.high < 0
    assert wrong / n <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)


def test_a_cell_is_read_where_the_whole_image_is_worth_something():
    rng = np.random.default_rng(0)

    def networks_of(mean):
        psi = mean + rng.normal(size=(3, 40))
        table = coalitions(3).astype(float) @ psi
        return [Profile("a", {"seed": 0}, [1], {1: Worths({"log_likelihood": table}, {})})]

    cells = {0.0: networks_of(1.0), 0.5: networks_of(0.0), 1.0: networks_of(-1.0)}
    assert list(readable(cells)) == [0.0]
    assert worth_of_all(cells[0.0]).value == pytest.approx(3, abs=1)


def test_groups_count_the_same_however_they_scatter():
    groups = with_values({"a": [0, 1, 2, 7], "b": [2, 1, 0]}, lambda *key: np.zeros(5))
    scores = np.arange(7.0)[:, None] * np.ones(9)  # a: 0 1 2 3, b: 4 5 6
    assert over_groups(groups, scores)[:, 0].tolist() == [3, 3, 3], "seeds 0, 1, 2 of both"


# -- families, and along the epochs ----------------------------------------------------------------


def test_families_differ_in_one_factor_only():
    plans = {
        "clean": {"architecture": ["a", "b"], "seed": [0, 1], "every": 2},
        "noise": {"architecture": "a", "noise": [0.8, 0.4]},
        "long": {"architecture": "a", "noise": [0.1, 0.2], "epochs": 9},
        "other": {"architecture": "a", "noise": [0.5, 0.6], "images": "x/stl.npz"},
        "attacked": {"architecture": "a", "noise": 0.3, "adversary": "pgd"},
    }
    profiles = {name: Profile(name, settings) for name, settings in networks(plans).items()}
    found = families(profiles, "noise")
    sizes = {f: {x: len(some) for x, some in levels.items()} for f, levels in found.items()}
    assert sizes == {
        "a": {0.0: 2, 0.4: 1, 0.8: 1},
        "a, epochs 9": {0.1: 1, 0.2: 1},
        "a, stl": {0.5: 1, 0.6: 1},
    }
    assert families(profiles, "fraction") == {}
    with pytest.raises(ValueError, match="'nois' is no factor"):
        families(profiles, "nois")


def test_half_of_the_final_value_is_found_between_checkpoints():
    final, start = np.array([4.0, 2.0, 1.0, 3.0]), np.array([0.0, 1.5, 4.2, 7.9])
    epochs = np.arange(1, 11)
    values = final * np.clip(epochs[:, None] - start, 0, 2) / 2  # half of it one epoch later
    assert half_epochs(epochs, values)[[0, 1]] == pytest.approx([1.0, 2.5])
    assert half_epochs(epochs, values)[2:] == pytest.approx(start[2:] + 1, abs=0.35)
    assert half_epochs(epochs, 7 * values) == pytest.approx(half_epochs(epochs, values))
    assert np.isnan(half_epochs([1, 2], [[1.0, 1.0], [-1.0, 0.0]])).all()
    early = half_epochs([4, 8], [[3.0, 1.0, 2.2], [4.0, 4.0, 4.0]])
    assert early == pytest.approx([4 * 2 / 3, 4 + 4 / 3, 4 * 2 / 2.2]), "from 0 at epoch 0"
    for wrong in ([3], [0, 1], [2, 2]):
        with pytest.raises(ValueError, match="two or more epochs that increase from above 0"):
            half_epochs(wrong, np.ones((len(wrong), 2)))


def test_the_order_of_learning_counts_bands_that_were_learnt():
    epochs = np.arange(1, 9)
    values = np.clip(epochs[:, None] - np.arange(6), 0, 1)[:, :, None] * np.ones((1, 1, 2))
    everyone = np.ones(6, bool)
    assert order_learnt(epochs, values, everyone) == pytest.approx(1)
    assert order_learnt(epochs, values[:, ::-1], everyone) == pytest.approx(-1)
    noise = np.concatenate([values, values[:, :1]], axis=1)  # a last band that came first
    assert order_learnt(epochs, noise, np.append(everyone, False)) == pytest.approx(1)
    assert (order_learnt(epochs, noise, np.append(everyone, True)) < 1).all()
    assert np.isnan(order_learnt(epochs, values, [True] * 3 + [False] * 3)).all()
    sunk = values.copy()
    sunk[-1, 0, 1] = -1  # in one resample the first band ends worthless: the last one then
    assert order_learnt(epochs, sunk, everyone)[1] < order_learnt(epochs, sunk, everyone)[0]


def test_a_peak_is_no_noise_of_a_network_that_knows_nothing():
    rng = np.random.default_rng(0)
    psi = np.stack([[[-1.0], [0.9]], [[2.0], [1.0]], [[1.0], [1.0]]]) + rng.normal(
        0, 0.1, size=(3, 2, 20)
    )

    def lead(mean):
        return np.abs(mean[0] - mean[1])

    assert lead(psi.mean(2).T).argmax() == 0 and peak(psi, lead) == 1
    assert peak(-np.abs(psi), lead) == 2, "the last one where nothing is known"


def test_the_second_stage_sees_a_fall_and_does_not_make_one():
    rng = np.random.default_rng(0)
    chosen = rng.permutation(400)[:80]
    correct = [np.arange(400) < 300 + np.array([[-90], [0], [20], [40], [60]]) for _ in range(8)]
    flat = [1 + rng.normal(size=(5, 2, 80)) for _ in range(8)]

    def first(mean):
        return mean[0]

    naive = np.mean([v[:, 0].mean(1).max() - v[-1, 0].mean() for v in flat])
    found = second_stage(flat, correct, chosen, first)
    limits = over_seeds(found.fall, found.n[0])(0.95)
    assert naive > 0.1 and limits.low < 0 < limits.high
    assert found.picked.shape == (2, 8) and found.rise.shape == found.fall.shape

    height = np.array([1.0, 3.0, 2.5, 2.0, 1.5])[:, None, None]
    falling = [height + 0.3 * rng.normal(size=(5, 2, 80)) for _ in range(8)]
    found = second_stage(falling, correct, chosen, first)
    assert (found.picked == 1).all()
    assert found.n[1] == 200 and 20 < found.n[0] <= 40
    assert over_seeds(found.fall, found.n[0])(0.95).value == pytest.approx(1.5, abs=0.1)
    rise = over_seeds(found.rise, found.n[1])(0.95)
    assert rise.low > 0.1 and rise.value == pytest.approx(60 / 400, abs=0.01)


def test_a_course_of_learning_says_what_was_planted():
    rng = np.random.default_rng(0)
    epochs, noise = [1, 2, 3, 4, 5, 6], 0.01 * rng.normal(size=(5, 40))
    progress = np.clip(np.array(epochs)[:, None] - np.arange(5) + 0.4, 0, 1)
    progress[:, 3] = -0.1  # band 3 does harm throughout
    worths = {
        e: Worths({"log_likelihood": coalitions(5).astype(float) @ (row[:, None] + noise)}, {})
        for e, row in zip(epochs, progress, strict=True)
    }
    found = learning(Profile("a", {"seed": 0}, epochs, worths))
    assert found.learnt.tolist() == [True, True, True, False, True]
    assert found.order[0] == pytest.approx(1) and found.order.shape == (401,)
    assert found.early == 1, "the first band alone has its half at the first checkpoint"
    assert np.isnan(found.half[3]).all() and found.half[1, 0] == pytest.approx(1.1, abs=0.15)
    assert found.psi.shape == (6, 5, 40)


def test_scores_know_low_from_high():
    assert mean_score()([3.0, 0, 0, 0]) == pytest.approx(1) and mean_score()([0, 0, 0, 3.0]) < 0
    assert high_part([[1.0], [0], [0], [-3.0]]) == pytest.approx(0.75)
