"""Scores of images in general: small bias where they are given, and not given where it is large."""

import numpy as np
import pytest
from scipy import stats

import iaside as ia
from iaside.estimate.intervals import standard_errors
from iaside.estimate.shares import noise_distance
from iaside.game.surrogate import resampled_table
from iaside.score import CLEAR, SCORES, no_score, no_sid, score_range, weakest_gap
from iaside.shapley import coalitions

FALLING = np.array([1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, -0.4])  # the weakest 3.7 errors apart
TIED = np.array([1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.0, 0.0])
KINDS = sorted(SCORES)


def samples(mean, draws, n=24, skewed=False, sd=0.8, seed=0):
    """Values (draws, M, n) of a population with these means; bands are correlated by a half."""
    rng = np.random.default_rng(seed)
    shape = draws, len(mean) + 1, n
    noise = rng.exponential(size=shape) - 1 if skewed else rng.normal(size=shape)
    return mean[:, None] + sd * (noise[:, :1] + noise[:, 1:]) / 2**0.5


def true_score(mean, kind="paper"):
    return ia.robustness_score(ia.spectral_importance(mean), **SCORES[kind])


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.slow
def test_where_the_weakest_band_is_clear_the_bias_is_small_and_the_interval_holds(skewed):
    found = [ia.score_estimate(psi) for psi in samples(FALLING, 150, skewed=skewed)]
    given = [e for e in found if e is not None]
    assert len(given) > 0.8 * len(found)
    value, _, low, high = np.array([[*e] for e in given]).T
    truth = true_score(FALLING)
    assert abs(value.mean() - truth) < value.std() / 4
    assert np.mean((low <= truth) & (truth <= high)) > 0.9
    assert given[0].n == 24 and given[0].unit == "photographs"


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("sd", [0.3, 0.8, 1.6])
def test_where_two_bands_are_equally_weak_there_is_no_score(skewed, sd):
    psi = samples(TIED, 300, skewed=skewed, sd=sd)
    said = [no_score(each, kind="signed") for each in psi]
    assert np.mean([why != "" for why in said]) > 0.9
    assert "the two weakest bands are" in said[0]
    first = said.index("")
    refused = next(k for k, why in enumerate(said) if why)
    assert ia.score_estimate(psi[refused]) is None and ia.sid_estimate(psi[refused]) is None
    assert ia.score_estimate(psi[first], kind="signed") is not None
    # For good reason: the plain estimate's bias is far beyond a quarter of its spread.
    plain = true_score(psi.mean(2).T, "signed")
    assert abs(plain.mean() - true_score(TIED, "signed")) > plain.std() / 2


@pytest.mark.parametrize("kind", ["signed", "tight"])
def test_where_it_is_told_by_chance_its_limits_still_hold_the_truth(kind):
    psi = samples(TIED, 1500)
    told = [each for each in psi if no_score(each, kind=kind) == ""]
    assert 40 < len(told) < 150
    truth, held = true_score(TIED, kind), {}
    for bias in ("corrected", "none"):
        found = [ia.score_estimate(v, kind=kind, bias=bias, n_resamples=200) for v in told]
        held[bias] = np.mean([e.low <= truth <= e.high for e in found])
    assert held["corrected"] > 0.88 and held["none"] < 0.7, held


def test_where_it_is_told_by_chance_the_limits_of_shares_still_hold_the_truth():
    told = [each for each in samples(TIED, 1500) if no_sid(each) == ""]
    found = [ia.sid_estimate(each, n_resamples=200) for each in told]
    truth = ia.spectral_importance(TIED)
    held = np.mean([(e.low <= truth) & (truth <= e.high) for e in found], axis=0)
    assert (held[:6] > 0.88).all(), held
    assert all((e.low >= 0).all() and (e.high <= 1).all() for e in found)


def test_a_value_that_is_cut_off_at_0_must_be_told_from_it():
    even = np.r_[1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.3, 0.0]
    psi = samples(even, 300, sd=0.3)
    said = [no_sid(each, "positive") for each in psi]
    assert np.mean(["band 7" in why and "where it is cut off" in why for why in said]) > 0.9
    at = [k for k, why in enumerate(said) if why]
    assert all(ia.sid_estimate(psi[k], normalise="positive") is None for k in at[:5])
    assert ia.score_estimate(psi[at[0]], normalise="positive") is None
    plain = ia.score_estimate(psi[at[0]], normalise="positive", bias="none")
    shares = ia.spectral_importance(psi[at[0]].mean(1), "positive")
    assert plain.value == ia.robustness_score(shares)
    # For good reason: the share that is cut off is biased by more than half of its spread.
    share = ia.spectral_importance(psi.mean(2).T, "positive")[7]
    assert share.mean() > share.std() / 2
    clear = samples(np.r_[even[:-1], -0.5], 1, sd=0.3)[0]
    told = ia.sid_estimate(clear, normalise="positive")
    assert told.value[7] == told.low[7] == told.high[7] == 0


@pytest.mark.parametrize("normalise", ["share", "positive"])
def test_a_sign_that_is_not_known_is_not_dropped_of_other_shares(normalise):
    level = np.full(8, 1.0)
    psi = samples(level, 50, sd=0.3)
    said = [no_score(each, kind="paper", normalise=normalise) for each in psi]
    assert np.mean(["before the sign is dropped" in why for why in said]) > 0.8
    assert all(no_score(each, kind="signed", normalise=normalise) == "" for each in psi)
    assert all(no_score(each, normalise="softmax") == "" for each in psi)


def test_the_noise_of_a_sid_is_the_mean_size_of_its_error():
    psi = samples(FALLING, 400, sd=0.3)
    distances = np.abs(ia.spectral_importance(psi.mean(2).T).T - ia.spectral_importance(FALLING))
    said = noise_distance(ia.sid_estimate(psi[0], n_resamples=100))
    assert said == pytest.approx(distances.sum(1).mean(), rel=0.25)


@pytest.mark.parametrize("kind", ["paper", "tight"])
def test_a_sign_is_dropped_only_where_it_is_known(kind):
    mean = np.array([0.0, 0.4, 0.4, 0.4, 0.5, 0.5, 0.5, -0.5])
    weight = 0.75 ** np.arange(8) - (0.75 ** np.arange(8)).mean()
    mean[0] = -weight @ mean / weight[0]
    assert abs(true_score(mean, "signed")) < 1e-12
    psi = samples(mean, 200, sd=0.4)
    values = true_score(psi.mean(2).T, kind)
    assert values.mean() > values.std() / 4, "an absolute value is biased here"
    said = [no_score(each, kind=kind) for each in psi]
    assert np.mean(["before the sign is dropped" in why for why in said]) > 0.9
    assert all(no_score(each, kind="signed") == "" for each in psi)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mean", [FALLING, FALLING[::-1]], ids=["low", "high"])
def test_of_many_images_it_is_the_score_of_the_population(kind, mean):
    psi = samples(mean, 1, n=3000)[0]
    e = ia.score_estimate(psi, kind=kind)
    assert e.value == pytest.approx(true_score(psi.mean(1), kind), abs=1e-12)
    assert e.low < true_score(mean, kind) < e.high and e.high - e.low < 0.05
    assert np.sign(e.value) == (-1 if kind == "signed" and mean[0] < 0 else 1)
    low, high = score_range(8, 0.75, kind)
    assert low <= e.low and e.high <= high
    sid = ia.sid_estimate(psi)
    assert np.allclose(sid.value, ia.spectral_importance(psi.mean(1)))
    assert np.allclose(sid.value, ia.spectral_importance(mean), atol=0.04)


def test_paper_and_tight_are_one_number_in_two_units():
    psi = samples(FALLING, 1)[0]
    paper, tight, signed = (ia.score_estimate(psi, kind=k) for k in ("paper", "tight", "signed"))
    top = ia.robustness_score(np.eye(8)[0])
    assert np.allclose([*paper], np.array([*tight]) * top) and np.allclose([*tight], [*signed])


def test_the_distance_of_the_two_weakest_is_that_of_pairs():
    psi = samples(TIED, 1, sd=0.5)[0]
    order = psi.mean(1).argsort()
    expected = stats.ttest_rel(psi[order[1]], psi[order[0]]).statistic
    assert weakest_gap(psi) == pytest.approx(expected)
    assert weakest_gap(psi[::-1] * 7 + 3) == pytest.approx(expected)


def test_the_threshold_is_where_it_says():
    psi = samples(TIED, 1)[0]
    order = psi.mean(1).argsort()
    error = np.std(psi[order[1]] - psi[order[0]], ddof=1) / 24**0.5
    gap = psi[order[1]].mean() - psi[order[0]].mean()
    for apart, given in ((CLEAR - 0.01, False), (CLEAR + 0.01, True)):
        moved = psi.copy()
        moved[order[0]] -= apart * error - gap
        assert (no_sid(moved) == "") == given
        assert (ia.sid_estimate(moved) is not None) == given


def test_values_without_spread_are_known():
    known = np.repeat([[3.0], [1.0], [0.0]], 6, axis=1)
    assert ia.score_estimate(known).value == pytest.approx(true_score(known[:, 0]))
    assert ia.score_estimate(known[[0, 1, 1]]) is None
    assert ia.score_estimate(np.zeros((3, 6))) is None


@pytest.mark.parametrize("n", [1, 4])
def test_too_few_photographs_give_no_score(n):
    psi = samples(FALLING, 1, n=n)[0] * 0.01 + FALLING[:, None]
    assert ia.score_estimate(psi) is None and ia.sid_estimate(psi) is None
    assert no_sid(psi) == f"of {n} photographs no bias can be told (5 are needed)"


def interacting(rng, n):
    """Tables (256, n): every image has interactions of its own, which coalitions sample badly."""
    x = coalitions(8).astype(float)
    additive = x @ (FALLING[:, None] + 0.1 * rng.normal(size=(8, n)))
    return additive + 1.5 * rng.normal(size=(256, n)) * (x.sum(1, keepdims=True) > 0)


@pytest.mark.slow
def test_of_sampled_games_the_errors_of_photographs_and_of_draws_add_up():
    """So the spread of their values over images is all that an interval needs."""
    rng = np.random.default_rng(0)
    means, errors, exact = [], [], []
    for _ in range(80):
        table = interacting(rng, 24)
        psi = resampled_table(table, 5, rng)[0].values
        means.append(psi.mean(1))
        errors.append(standard_errors(psi) ** 2)
        exact.append(standard_errors(ia.shapley_values(table)) ** 2)
    true = np.var(means, axis=0, ddof=1).mean()
    assert np.mean(errors) == pytest.approx(true, rel=0.2)
    assert np.mean(exact) < 0.7 * true


@pytest.mark.slow
def test_the_more_coalitions_are_drawn_the_clearer_is_the_weakest_band():
    rng = np.random.default_rng(1)
    tables = [interacting(rng, 24) for _ in range(10)]
    gaps = [
        np.mean([weakest_gap(resampled_table(table, pairs, rng)[0].values) for table in tables])
        for pairs in (3, 16)
    ]
    exact = [ia.shapley_values(table) for table in tables]
    assert 1.3 * gaps[0] < gaps[1] < np.mean([weakest_gap(psi) for psi in exact]) / 1.3
    assert all(ia.score_estimate(psi) is not None for psi in exact)


def test_the_plain_score_is_always_given():
    psi = samples(TIED, 1)[0]
    for kind in KINDS:
        plain = ia.score_estimate(psi, kind=kind, bias="none")
        assert plain.value == pytest.approx(true_score(psi.mean(1), kind))
    assert np.allclose(ia.sid_estimate(psi, bias="none").value, ia.spectral_importance(psi.mean(1)))
    clear = samples(FALLING, 1)[0]
    told, plain = (ia.score_estimate(clear, bias=bias) for bias in ("corrected", "none"))
    assert told.value == plain.value and told.low <= plain.low and plain.high <= told.high


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (dict(kind="best"), "kind='best' of score is not known; choose one of paper, tight"),
        (dict(bias="some"), "bias='some' is not known; choose 'corrected'"),
        (dict(beta=1.5), "beta must lie between 0 and 1"),
        (dict(level=95), "level must lie between 0 and 1"),
        (dict(psi=[1.0, 2.0, 3.0]), r"psi must be \(M, N\)"),
        (dict(psi=[[1.0, np.nan], [0.0, 1.0]]), "psi must be finite"),
        (dict(psi=[[1.0, 2.0]]), "at least 2 bands"),
    ],
)
def test_bad_arguments_are_refused(how, message):
    psi = how.pop("psi", samples(FALLING, 1)[0])
    with pytest.raises(ValueError, match=message):
        ia.score_estimate(psi, **how)
    shared = {name: value for name, value in how.items() if name in ("bias", "level")}
    if shared or not how:
        with pytest.raises(ValueError, match=message):
            ia.sid_estimate(psi, **shared)
