"""Verdicts on matching profiles to deployments, in planted populations whose answer is known."""

import itertools

import numpy as np
import pytest
from scipy import stats

from iaside.estimate.estimate import Estimate
from iaside.robustness.measures import predicted_loss, predicted_losses
from iaside.verdicts import match as verdicts

K, C, R = 8, 15, 60


def losses(seed=0, k=K, c=C, noise=0.2, shift=1.0):
    """Losses of networks under corruptions, on resamples; each has an effect of its own."""
    rng = np.random.default_rng(seed)
    truth = shift * rng.normal(size=(k, 1)) + rng.normal(size=(1, c)) + rng.normal(size=(k, c))
    images = noise * rng.normal(size=(k, c, R))
    return truth[..., None] + np.concatenate([np.zeros((k, c, 1)), images], axis=2)


def some(values, noise=0.3, seed=9):
    return values + noise * np.random.default_rng(seed).normal(size=(*values.shape[:2], 1))


def test_a_prediction_of_the_losses_is_supported_and_its_opposite_contradicted():
    truth = losses()
    record = verdicts.profile_predicts_loss(some(truth), truth, range(K), 24, "so planted", "toys")
    assert record["verdict"] == "supported" and (record["n"], record["unit"]) == (K, "networks")
    assert record["data"] == "toys" and record["note"].endswith("one draw; so planted")
    expected = stats.spearmanr(some(truth)[..., 0].ravel(), truth[..., 0].ravel()).statistic
    assert record["value"] == pytest.approx(expected)
    turned = verdicts.profile_predicts_loss(-some(truth), truth, range(K), 24)
    assert turned["verdict"] == "contradicted"


@pytest.mark.parametrize("seed", range(6))
def test_orders_of_independent_networks_are_told_as_permutations_tell_them(seed):
    """Every order of 5 networks by hand: 0 is left out where at most 5 % move as far from the
    mean of all."""
    rng = np.random.default_rng(seed)
    quality = np.sort(rng.normal(size=(5, 1)), axis=0)
    guess, truth = (quality + scale * rng.normal(size=(5, 7)) for scale in (0.5 * seed, 0.1))
    moved = np.array(
        [
            stats.spearmanr(guess.ravel(), truth[list(order)].ravel()).statistic
            for order in itertools.permutations(range(5))
        ]
    )
    value = moved[0]
    as_far = np.mean(np.abs(moved - moved.mean()) >= abs(value) - 1e-9)
    found = verdicts._permuted(guess, truth)(0.95)
    assert found.value == pytest.approx(value)
    assert (found.low > 0 or found.high < 0) == (as_far <= 0.05)
    assert verdicts._permuted(guess, truth)(1 - 1e-6).low < 0, "5 networks have 120 orders"


@pytest.mark.parametrize("tail", ["normal", "heavy"])
def test_networks_are_the_draws_however_many_corruptions_agree(tail):
    """One quality of six networks decides all corruptions: false verdicts and power."""
    wrong, found, worlds = 0, 0, 80
    for seed in range(worlds):
        rng = np.random.default_rng(seed)
        quality = rng.normal(size=(2, 6)) if tail == "normal" else rng.standard_t(2, size=(2, 6))
        for rho in (0.0, 0.9):
            second = rho * quality[0] + np.sqrt(1 - rho**2) * quality[1]
            both = np.stack([quality[0], second])[:, :, None, None]
            guess, truth = both + 0.3 * rng.normal(size=(2, 6, 4, 3))
            record = verdicts.profile_predicts_loss(guess, truth, range(6), 24)
            wrong += rho == 0 and record["verdict"] != "undecided"
            found += rho > 0 and record["verdict"] == "supported"
    assert wrong <= 0.05 * worlds + 3 * np.sqrt(0.05 * worlds)
    assert found > 0.4 * worlds


def test_four_families_decide_nothing_and_say_so():
    truth, families = losses(), list("aabbccdd")
    for record in (
        verdicts.profile_predicts_loss(truth, truth, families, 24),
        verdicts.profile_beats_score(truth, truth, truth[:, 0], families, 24),
        verdicts.profile_over_accuracy(truth[:2], truth[:2], truth[:2, 0], ["a", "b"], 24),
    ):
        assert record["verdict"] == "undecided"
        assert "independent networks, 5 are needed" in record["note"]
        assert record["value"] is not None, "it is shown"


def test_n_counts_networks_and_the_note_the_independent_ones():
    truth = losses()
    for families, n in ((list("aabbccdd"), 4), (list("aabbcdef"), 6)):
        record = verdicts.profile_beats_score(truth, truth, truth[:, 0], families, 24)
        assert record["n"] == K and f"{K} networks of {n} families" in record["note"]
        assert verdicts.profile_predicts_loss(truth, truth, families, 24)["n"] == K


def test_what_all_networks_share_by_chance_of_the_corruptions_is_no_support():
    """Every network has the losses of the first: more of them say nothing new of corruptions.

    A prediction that has nothing to do with them orders 15 corruptions by chance, all networks in
    the same way: over networks alone limits would have no width.
    """
    wrong = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth, guess = (np.tile(rng.normal(size=(1, C, 1)), (K, 1, 3)) for _ in range(2))
        tiny = 1e-3 * rng.normal(size=(K, C, 1))
        record = verdicts.profile_predicts_loss(guess + tiny, truth + tiny[::-1], range(K), 24)
        wrong += record["verdict"] != "undecided"
    assert wrong <= 7, "5 % of 60, and two standard deviations"


def test_the_profile_beats_a_score_that_says_nothing_and_loses_to_one_that_says_all():
    truth = losses(c=9, k=10)
    score = -truth[..., :].mean(1)  # high where the losses are small
    blind = np.random.default_rng(1).normal(size=(10, 1)) + np.zeros((1, R + 1))
    record = verdicts.profile_beats_score(some(truth), truth, blind, range(10), 24)
    assert record["verdict"] == "supported"
    noise = np.random.default_rng(2).normal(size=truth.shape[:2])[..., None] + np.zeros(R + 1)
    record = verdicts.profile_beats_score(-truth + noise, truth, score, range(10), 24)
    assert record["verdict"] == "contradicted" and record["value"] < -0.5
    own = [stats.spearmanr((-truth + noise)[:, c, 0], truth[:, c, 0]).statistic for c in range(9)]
    rival = [stats.spearmanr(-score[:, 0], truth[:, c, 0]).statistic for c in range(9)]
    assert record["value"] == pytest.approx(np.mean(own) - np.mean(rival))


@pytest.mark.parametrize("seed", range(6))
def test_a_lead_over_a_rival_is_told_as_permutations_tell_it(seed):
    """Every order of 5 networks by hand, the losses of one given to another: 0 is left out where at
    most 5 % lead as far, of either guess."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(5, 1)) + 0.3 * rng.normal(size=(5, 7))
    own, rival = truth + 0.2 * seed * rng.normal(size=(5, 7)), rng.normal(size=(5, 7))

    def lead(order):
        given = truth[list(order)]
        return np.mean(
            [
                stats.spearmanr(own[:, c], given[:, c]).statistic
                - stats.spearmanr(rival[:, c], given[:, c]).statistic
                for c in range(7)
            ]
        )

    moved = np.array([lead(order) for order in itertools.permutations(range(5))])
    found = verdicts._permuted_lead(own, rival, truth)(0.95)
    assert found.value == pytest.approx(moved[0])
    assert found.se == pytest.approx(np.append(moved, moved[0]).std())
    as_far = np.mean(np.abs(moved - moved.mean()) >= abs(moved[0]) - 1e-9)
    assert (found.low > 0 or found.high < 0) == (as_far <= 0.05)


def test_guesses_of_equal_merit_lead_by_chance_however_photographs_move_them():
    """Two guesses and the losses of six networks: of nothing in common, of the same merit, or all
    moved by photographs in proportion to a quality of each network, which goes with nothing."""
    wrong, worlds = {"neither": 0, "alike": 0, "moved": 0}, 120
    for seed in range(worlds):
        rng = np.random.default_rng(seed)
        own, rival, truth, quality = rng.normal(size=(4, 6))
        noise = 0.3 * rng.normal(size=(3, 6, 4, 61))
        of_images = rng.normal(size=(3, 1)) + rng.normal(size=(3, 61)) * (np.arange(61) > 0)
        moved = 3 * quality[:, None] * of_images[:, None]
        for name in wrong:
            own_, rival_ = ((0.7 * truth + 0.7 * v if name == "alike" else v) for v in (own, rival))
            guess, other, losses = (
                v[:, None, None] + e + (m[:, None] if name == "moved" else 0)
                for v, e, m in zip((own_, rival_, truth), noise, moved, strict=True)
            )
            score = -other[:, 0]
            record = verdicts.profile_beats_score(guess, losses, score, range(6), 24)
            wrong[name] += record["verdict"] != "undecided"
    assert max(wrong.values()) <= 0.05 * worlds + 2 * np.sqrt(0.05 * worlds), wrong


def test_photographs_count_as_far_as_they_move_networks_together():
    """What moves all alike changes no order, and what moves each by itself is among networks."""
    rng = np.random.default_rng(0)
    alone, alike = rng.normal(size=(6, 3, 2001)), rng.normal(size=(1, 3, 2001))
    apart = verdicts._apart(alone + 9 * alike)
    order = alone[..., 0].argsort(0)
    assert (apart[..., 0].argsort(0) == order).all(), "photographs as they are stay"
    spread = (apart.mean(1) - apart[..., :1].mean(1))[:, 1:]
    assert np.abs(np.corrcoef(spread) - np.eye(6)).max() < 0.1, "no two networks move together"
    assert spread.std() < 1, "what moves all alike is out"
    together = rng.normal(size=2000)
    left = verdicts._in_common(together, 0.6 * rng.normal(size=2000))
    assert left.std() == pytest.approx(0.8, abs=0.05)
    assert verdicts._in_common(together, 2 * together).std() == 0


def test_a_choice_among_networks_is_tested_within_corruptions():
    """What differs between corruptions alone orders losses, and no networks."""
    truth = losses()
    easy = truth.mean(0, keepdims=True) + 0.01 * losses(5)
    assert verdicts.order_at_levels(easy, truth, 24)(0.95).low > 0
    found = verdicts.choice_at_levels(easy, truth, 24)(0.95)
    assert found.low < 0 < found.high and found.unit == "corruptions" and found.n == C
    told = verdicts.choice_at_levels(some(truth), truth, 24)(0.95)
    assert 0 < told.low < told.value < told.high <= 1
    rival = verdicts.order_at_levels(easy, truth, 24, rival=truth)(0.95)
    assert rival.high < 0
    alike = np.ones((3, C, 5))
    assert np.isnan(verdicts.choice_at_levels(alike, truth[:3, :, :5], 24)(0.95).low)


def test_two_draws_add_up_in_quadrature():
    one = Estimate(1.0, 3.0, -2.0, 5.0, 9, "networks")
    other = Estimate(1.0, 4.0, -3.0, 4.0, 15, "corruptions")
    both = verdicts.in_quadrature(lambda level: one, lambda level: other)(0.95)
    assert (both.se, both.low, both.high) == (5.0, -4.0, 6.0) and both.n == 9


def test_losses_are_refused_where_they_are_of_different_resamples():
    with pytest.raises(ValueError, match="give both on the same resamples"):
        verdicts.pooled(np.ones((3, 4, 5)), np.ones((3, 4, 6)))


def test_predicted_losses_are_those_of_the_mean_profile():
    rng = np.random.default_rng(0)
    values, survival = rng.normal(size=(4, 20)), rng.random((3, 4, 20))
    found = predicted_losses(values, survival)
    expected = predicted_loss(values.mean(1), survival.mean(2))
    assert found[:, 0] == pytest.approx(expected)
    again = predicted_losses(values, survival[:2])
    assert found[:2] == pytest.approx(again), "the same resamples"
    spread = found[:, 1:].std(1)
    assert (spread > 0.1 * np.abs(expected)).any() and spread.max() < 2
