"""Trends over networks: independent oracles for the limits, planted answers along the epochs."""

import numpy as np
import pytest
from scipy import stats

from iaside.trends import (
    apart,
    average,
    families,
    half_epochs,
    network_scores,
    order_learnt,
    over_photographs,
    peak,
    second_stage,
    slope,
)
from iaside.zoo import Profile, networks


def mean_of(mean):
    return mean[0]


def fixed(scores, columns=9):
    """Scores on which the photographs have no influence."""
    return np.repeat(np.asarray(scores, dtype=float)[:, None], columns, axis=1)


def test_an_x_that_varies_by_rounding_only_has_no_slope():
    x = 0.3 + np.array([0, 1, 0, -1, 0, 1]) * np.spacing(0.3)
    with pytest.raises(ValueError, match="at least two different x"):
        slope(x, np.random.default_rng(0).normal(size=(6, 9)))


def test_slope_and_its_error_over_networks_are_least_squares_and_the_jackknife():
    rng = np.random.default_rng(0)
    x, y = np.array([0, 0, 0, 0.2, 0.2, 0.6, 1.0, 1.0]), rng.normal(size=8)
    found = slope(x, fixed(y))
    full = np.polyfit(x, y, 1)[0]
    left_out = [np.polyfit(np.delete(x, k), np.delete(y, k), 1)[0] for k in range(8)]
    assert found.estimate == pytest.approx(full)
    assert found.se == pytest.approx(np.sqrt(((np.array(left_out) - full) ** 2).sum()))
    reach = stats.t.ppf(0.975, 6) * found.se
    assert (found.low, found.high) == pytest.approx((full - reach, full + reach))


def test_groups_and_means_are_the_textbooks_on_one_network_less():
    first, second = np.array([1.0, 2.0, 4.0]), np.array([0.0, 0.5, 0.7])
    found = apart(fixed(first), fixed(second))
    assert found.estimate == pytest.approx(first.mean() - second.mean())
    assert found.se == pytest.approx(np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2))
    values = np.arange(6.0)
    assert average(fixed(values)).se == pytest.approx(values.std(ddof=1) / np.sqrt(5))


def test_photographs_count_where_networks_agree():
    values = np.random.default_rng(0).normal(size=(1, 50))
    scores = network_scores([values] * 6, mean_of, n_resamples=4000)
    assert average(scores).se == pytest.approx(stats.sem(values[0]), rel=0.05)
    assert over_photographs(scores).se == pytest.approx(average(scores).se)
    assert apart(scores[:3], scores[3:]).se < 1e-12, "what all share cancels in a difference"


def test_limits_hold_the_truth_when_networks_and_photographs_are_drawn_anew():
    rng, held = np.random.default_rng(0), 0
    x = np.repeat([0.0, 0.5, 1.0], 3)
    for seed in range(200):
        response = rng.normal(1, 1, size=30)  # of each photograph to x, the same for all networks
        nets = rng.normal(0, 0.2, size=9)[:, None] + x[:, None] * response
        values = nets + rng.normal(0, 0.5, size=(9, 30))
        scores = network_scores(values[:, None], mean_of, n_resamples=100, seed=seed)
        held += slope(x, scores).low <= 1 <= slope(x, scores).high
    assert 184 <= held <= 199, "95 % are asked of 200"


def test_few_networks_have_no_limits():
    assert np.isnan(average(fixed([1, 2, 3, 4])).low)
    assert np.isnan(apart(fixed([1]), fixed([1, 2, 3, 4])).high), "one network has no scatter"
    assert slope([0, 1], fixed([0, 3])).estimate == pytest.approx(3)
    with pytest.raises(ValueError, match="at least two different x"):
        slope([1, 1], fixed([0, 3]))
    with pytest.raises(ValueError, match="3 values of x for 2 networks"):
        slope([0, 1, 2], fixed([0, 3]))
    with pytest.raises(ValueError, match="the same photographs, got \\[4, 5\\]"):
        network_scores([np.ones((2, 4)), np.ones((2, 5))], mean_of)
    assert np.isnan(over_photographs(network_scores([np.ones((2, 4))], mean_of)).se)


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
        "a": {0.0: 2, 0.4: 1, 0.8: 1}, "a, epochs 9": {0.1: 1, 0.2: 1},
        "a, stl": {0.5: 1, 0.6: 1},
    }  # fmt: skip
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
    limits = average(found.fall)
    assert naive > 0.1 and limits.low < 0 < limits.high
    assert found.picked.shape == (2, 8) and found.rise.shape == found.fall.shape

    height = np.array([1.0, 3.0, 2.5, 2.0, 1.5])[:, None, None]
    falling = [height + 0.3 * rng.normal(size=(5, 2, 80)) for _ in range(8)]
    found = second_stage(falling, correct, chosen, first)
    assert (found.picked == 1).all()
    assert average(found.fall).estimate == pytest.approx(1.5, abs=0.1)
    assert average(found.rise).low > 0.1
    assert average(found.rise).estimate == pytest.approx(60 / 400, abs=0.01)
