"""Predictors of robustness side by side: planted filters, measures by hand, words for every end."""

import numpy as np
import pytest

from iaside.robustness.masking import filters, masking_filter, seen, thresholds, without_filter
from iaside.robustness.predictors import (
    CHEAP,
    KINDS,
    SCORE,
    Predictor,
    conditions_asked,
    measured,
    predictors,
    robustness_rows,
)
from iaside.tables import CLEAN, CLEAN_CUT, CORRUPTIONS, Condition, Responses, Rivals
from iaside.verdicts.rivals import answer, increments, side_by_side, verdict

OCTAVES = 1.75 * 2.0 ** np.arange(7)


def staircase(steps, levels=5, clean=0.9, chance=0.1):
    """Answers that cross the threshold after so many steps, on a straight line."""
    level = np.arange(levels)
    half = (clean + chance) / 2
    slope = (clean - half) / np.maximum(np.asarray(steps, dtype=float)[:, None], 1e-9)
    return np.clip(clean - slope * level, 0, 1)


# -- the filter ------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1.0, 1.7, 2.5, 3.99])
def test_a_threshold_is_where_half_of_what_is_above_chance_is_lost(steps):
    assert thresholds(staircase([steps]), 0.1)[0] == pytest.approx(steps)


def test_thresholds_that_are_not_reached_and_answers_that_are_nothing():
    flat, gone = np.full(5, 0.9), np.full(5, 0.1)
    found = thresholds([flat, gone], 0.1)
    assert found[0] == 4 and np.isnan(found[1])
    assert thresholds([[0.9, 0.5, 0.9, 0.9, 0.9]], 0.1)[0] == 1, "the first time it is lost"


@pytest.mark.parametrize(("mu", "sigma", "height"), [(3, 1, 3), (1.5, 0.8, 2), (5.2, 2, 3.5)])
def test_a_planted_filter_is_found(mu, sigma, height):
    """By the published formulas: 2.355 sigma octaves, 1.75 * 2**mu, 2**(A - 4)."""
    heard = height * np.exp(-0.5 * ((np.arange(7) - mu) / sigma) ** 2)
    found = masking_filter(staircase(4 - heard), OCTAVES, 0.1)
    assert found.bandwidth == pytest.approx(2.355 * sigma, rel=0.03)
    assert found.centre == pytest.approx(1.75 * 2**mu, rel=0.02)
    assert found.peak == pytest.approx(2 ** (height - 4), rel=0.02) and found.why == ""


def test_the_best_filter_is_that_of_another_optimiser():
    from scipy.optimize import curve_fit

    def gauss(k, a, mu, sigma):
        return a * np.exp(-0.5 * ((k - mu) / sigma) ** 2)

    rng = np.random.default_rng(0)
    for _ in range(5):
        heard = np.clip(
            gauss(np.arange(7), 3, rng.uniform(2, 4), 1.2) + 0.2 * rng.normal(size=7), 0, 4
        )
        (a, mu, sigma), _ = curve_fit(gauss, np.arange(7), heard, p0=[3, 3, 1])
        found = masking_filter(staircase(4 - heard), OCTAVES, 0.1)
        ours = [found.bandwidth, np.log2(found.centre / 1.75), np.log2(found.peak) + 4]
        assert np.allclose(ours, [2.355 * abs(sigma), mu, a], atol=0.06)


def test_where_there_is_no_filter_it_is_said_why():
    assert masking_filter(np.full((7, 5), 0.9), OCTAVES, 0.1).why.startswith("no noise is enough")
    assert "chance" in masking_filter(np.full((7, 5), 0.1), OCTAVES, 0.1).why
    assert "not asked" in masking_filter(np.full((7, 5), np.nan), OCTAVES, 0.1).why


def test_a_network_that_is_blind_without_noise_has_no_filter_by_chance():
    """Of 300 at 11 % where chance is 10 % a fit would be one of what chance did."""
    right = (np.random.default_rng(0).random((7, 5, 300)) < 0.11).astype(float)
    right[:, 0] = np.arange(300) < 33
    levels, shares = np.arange(5) / 10, np.ones((4, 300))
    blind = Rivals(OCTAVES, levels, {"correct": right}, shares, {})
    sees = np.where(np.arange(5)[:, None] < 2, np.arange(300) < 200, 0.0) + np.zeros((7, 1, 1))
    sighted = Rivals(OCTAVES, levels, {"correct": sees}, shares, {})
    assert np.isfinite(masking_filter(right.mean(2), OCTAVES, 0.1).centre)
    found = without_filter({"a": blind, "b": sighted}, 10)
    assert set(found) == {"a"} and found["a"].startswith("in grey not clearly better than chance")
    assert np.isnan(seen(blind, 10)).all() and seen(sighted, 10) is sighted.tables["correct"]


def test_filters_of_many_are_those_of_each_and_one_that_is_none_spoils_no_other():
    rng = np.random.default_rng(1)
    values = np.sort(rng.random((7, 5, 150)), axis=1)[:, ::-1]
    values[:, 0] = 0.9
    values[:, :, 3] = 0.9
    found = filters(values, OCTAVES, 0.1)
    assert np.isnan(found[:, 3]).all() and np.isfinite(np.delete(found, 3, 1)).all()
    for k in (0, 77, 149):
        assert np.allclose(found[:, k], masking_filter(values[:, :, k], OCTAVES, 0.1)[:3])


# -- measures --------------------------------------------------------------------------------------


def responses(extra=(), n=6, seed=0):
    rng = np.random.default_rng(seed)
    conditions = [CLEAN, CLEAN_CUT, *(Condition(c, s) for c in CORRUPTIONS for s in (1.0, 2.0))]
    conditions += [
        Condition("white_noise", 0.1),
        Condition("white_noise", 0.2),
        Condition("white_noise", 0.9, 1),
        Condition("pgd", 0.1),
        *extra,
    ]
    log_p = -rng.random((len(conditions), n))
    tables = {"log_likelihood": log_p, "correct": (rng.random(log_p.shape) < 0.6).astype(float)}
    tables |= {"confidence": np.exp(log_p), "probability_t2": np.exp(log_p / 2)}
    tables["no_gradient"] = 0 * log_p
    shape = len(conditions), 2, n
    return Responses(conditions, tables, np.ones((2, n)), np.ones(shape), {"n_images": n})


def test_measures_are_as_by_hand_and_more_is_better():
    r = responses()
    noise = [Condition("white_noise", 0.2)]
    right, clean = r.tables["correct"][r.row(noise[0])], r.tables["correct"][0]
    assert np.array_equal(robustness_rows(r, "accuracy left", noise), right[None])
    relative = robustness_rows(r, "accuracy left, relative", noise)
    assert np.array_equal(relative, np.stack([right, clean]))
    nats = r.tables["log_likelihood"][r.row(noise[0])] - r.tables["log_likelihood"][0]
    assert np.allclose(robustness_rows(r, "loss in nats", noise), nats[None])
    assert (robustness_rows(r, "mPE", noise) <= 0).all()
    assert (robustness_rows(r, "mCE", []) <= 0).all()
    every = [c for c in r.conditions if c.source in CORRUPTIONS]
    against = robustness_rows(r, "accuracy left, relative", every)
    assert np.array_equal(against[1], r.tables["correct"][1]), "of the same cut"
    with pytest.raises(ValueError, match="kind='mce' is not known; choose one of accuracy left"):
        robustness_rows(r, "mce", noise)


@pytest.mark.slow
def test_networks_of_other_image_sizes_have_filters_of_their_own_octaves():
    """Larger pictures have one octave more: each filter is as if its network stood alone."""
    n, m, rng = 60, 4, np.random.default_rng(0)
    values = [rng.random((m, n)) for _ in range(2)]
    games = [dict.fromkeys(("log_likelihood", "accuracy"), rng.random((2**m, n)))] * 2
    answers, rivals = [responses(n=n)] * 2, []
    for octaves in (OCTAVES[:6], OCTAVES):
        steps = 2 - np.abs(np.arange(len(octaves)) - 2.0) / 3
        shares = staircase(steps)[:, :, None]
        right = (np.linspace(0, 1, n) < shares).astype(float)
        noise_sd = np.arange(5) / 10
        rivals.append(Rivals(octaves, noise_sd, {"correct": right}, np.ones((m, n)), {}))
    both = predictors(values, games, answers, rivals, 10)
    for k in range(2):
        alone = predictors(values[k:][:1], games[:1], answers[:1], rivals[k:][:1], 10)
        for name in ("masking, bandwidth", "masking, centre", "masking, peak"):
            assert np.isfinite(alone[name].on_resamples()[0, 0])
            found = both[name].on_resamples()[k], alone[name].on_resamples()[0]
            assert np.array_equal(*found, equal_nan=True)


def test_images_that_an_attack_left_out_are_left_out_of_both_numbers():
    r = responses()
    attack = [Condition("pgd", 0.1)]
    for t in ("correct", "log_likelihood"):
        r.tables[t][r.row(attack[0]), :2] = np.nan
    for kind in KINDS[:4]:
        rows = robustness_rows(r, kind, attack)
        assert np.isnan(rows[:, :2]).all() and np.isfinite(rows[:, 2:]).all(), kind


def test_robustness_is_asked_under_the_strongest_and_the_pgd_that_restarts_are_compared_with():
    strong = [Condition("pgd", 0.02), Condition("pgd_restarts", 0.02)]
    asked = conditions_asked(responses(strong))
    assert list(asked) == [
        "all corruptions",
        "white_noise 0.2",
        "pgd 0.1",
        "pgd_restarts 0.02",
        "pgd 0.02",
    ]
    assert len(asked["all corruptions"]) == 30
    assert "pgd 0.02" not in conditions_asked(responses(strong[1:])), "not measured"
    found = measured([responses(strong, seed=k) for k in range(3)])
    assert len(found) == 4 * 5 + 1 and ("mCE", "pgd 0.1") not in found


# -- side by side ----------------------------------------------------------------------------------


def planted(n=30, gain=1.0, photographs=40, seed=0):
    """Robustness is clean error's doing, and by ``gain`` the score's."""
    rng = np.random.default_rng(seed)
    error, score = rng.normal(size=(2, n))
    y = -2 * error + gain * score + 0.2 * rng.normal(size=n)

    def rows(values):
        return [v + 0.05 * rng.normal(size=(1, photographs)) for v in values]

    found = {
        SCORE: Predictor(256, rows(score)),
        "gradient, low share": Predictor(3, rows(rng.normal(size=n))),
        "mean confidence": Predictor(1, rows(rng.normal(size=n))),
        CHEAP: Predictor(1, rows(error)),
    }
    return found, {("mPE", "pgd 0.1"): (Predictor(0, rows(y)).on_resamples(), photographs)}


def said(found, measures, families):
    rows, added = side_by_side(found, measures, families), increments(found, measures, families)
    return rows, added, answer(rows, added, {name: p.passes for name, p in found.items()})


def test_what_the_score_adds_is_found_and_told():
    families = list(range(30))
    rows, added, words = said(*planted(gain=2.0), families)
    (score,) = (r for r in rows if r["predictor"] == SCORE and not r["given"])
    (over,) = (r for r in added if r["given"] == CHEAP)
    assert 0.4 < score["value"] < 0.95 < over["value"] and over["level_low"] == over["low"] > 0
    assert words.startswith("**Yes**") and "costs 256 forward passes" in words
    assert "largest of what is cheaper, picked afterwards, is that of" in words
    assert "not shown to add" not in words, "the others are noise"
    assert {r["given"] for r in added} == {"gradient, low share", "mean confidence", CHEAP}
    assert not [r for r in rows if r["predictor"] == CHEAP and r["given"]]


def test_what_tells_the_same_for_less_is_named():
    found, measures = planted(gain=2.0)
    found["leave one band out"] = found[SCORE]._replace(passes=9)
    found["masking, peak"] = found[SCORE]._replace(passes=999)
    *_, words = said(found, measures, list(range(30)))
    assert words.startswith("**Yes**") and words.endswith(
        "It is not shown to add to what these tell, with their passes: leave one band out (9)."
    )


@pytest.mark.slow
def test_a_score_that_adds_nothing_is_no_or_not_told_by_how_many_networks_there_are():
    *_, words = said(*planted(n=300, gain=0.0), list(range(300)))
    assert words.startswith("**No**")
    *_, words = said(*planted(n=12, gain=0.0), list(range(12)))
    assert words.startswith("**It cannot be told**") and "An interval takes" not in words
    *_, words = said(*planted(n=4, gain=0.0), list(range(4)))
    assert words.startswith("**It cannot be told**")
    assert "An interval takes 5 independent networks: here it is 3." in words
    *_, words = said(*planted(n=1), ["a"])
    assert words.startswith("**It cannot be told**") and "in the median" not in words


def test_within_families_decides_and_family_means_stand_beside():
    """Between families the score goes the other way: rows say so, and decide within."""
    found, measures = planted(n=30, gain=3.0)
    families = [k // 6 for k in range(30)]
    (key,) = measures
    y, photographs = measures[key]
    y = y - 40 * np.array(families)[:, None]
    shifted = [row + 9 * f for row, f in zip(found[SCORE].rows, families, strict=True)]
    found[SCORE] = found[SCORE]._replace(rows=shifted)
    rows = side_by_side(found, {key: (y, photographs)}, families)
    row = rows[0]
    assert row["over"] == "within families" and row["low"] > 0 and row["between"] == -1
    assert row["independent"] == 26


def test_a_predictor_that_says_nothing_of_a_network_leaves_that_one_out():
    found, measures = planted()
    rows = found["gradient, low share"].rows
    rows[3], rows[7] = rows[3] * np.nan, rows[7] * np.nan
    table = side_by_side(found, measures, list(range(30)))
    n = {row["predictor"]: row["n"] for row in table}
    assert n["gradient, low share"] == 28 and n[SCORE] == 30
    added = increments(found, measures, list(range(30)))
    assert {row["given"]: row["n"] for row in added}["gradient, low share"] == 28


def test_verdicts_of_many_pairs():
    up = {"value": 0.8, "low": 0.5, "high": 0.9, "level_low": 0.4, "level_high": 0.95}
    open_ = {"value": 0.2, "low": -0.3, "high": 0.6, "level_low": -0.5, "level_high": 0.8}
    none = {"value": np.nan, "low": np.nan, "high": np.nan, "level_low": np.nan}
    small = {"value": 0.0, "low": -0.2, "high": 0.2, "level_low": -0.3, "level_high": 0.3}
    assert verdict([up, up, none]) == "yes" and verdict([up, open_]) == "in part"
    assert verdict([small, small]) == "no" and verdict([small, open_]) == "cannot be told"
    assert verdict([up | {"level_low": -0.1}, open_]) == "cannot be told"
    assert verdict([]) == verdict([none]) == "cannot be told"
    assert verdict([up, up | {"low": np.nan}]) == "cannot be told"
