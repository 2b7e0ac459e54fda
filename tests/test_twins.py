"""Twins are found, differences allow for images and seeds, corruptions fall into their thirds."""

import numpy as np
import pytest
from scipy import stats

from iaside.shapley import coalitions
from iaside.tables import CLEAN, CORRUPTIONS, TABLES, Condition, Responses, Worths
from iaside.twins import (
    accuracy_gain,
    accuracy_over_seeds,
    bias_difference,
    cause,
    change_centroid,
    frequency_groups,
    gradient_bias,
    importances,
    over_seeds,
    radial_profile,
    score_difference,
    share_of_wins,
    share_right,
    signed_score,
    twins,
)
from iaside.zoo import FACTORS, Profile, networks

FOG, NOISE, PGD = Condition("fog", 1.0), Condition("shot_noise", 1.0), Condition("pgd", 0.1)
N = 30


def profile(name, correct, psi=(2.0, 1.0, 0.0), bias=5.0):
    """A network that is right as said (condition -> (N,)) and lives on bands worth psi."""
    conditions = list(correct)
    right = np.stack([np.broadcast_to(row, N) for row in correct.values()]).astype(float)
    table = coalitions(3).astype(float) @ np.repeat(np.array(psi)[:, None], N, 1)
    energies = np.ones((3, N)), np.ones((len(conditions), 3, N))
    r = Responses(conditions, dict.fromkeys(TABLES, right), *energies, {})
    worths = {1: Worths({"log_likelihood": table}, {})}
    return Profile(name, FACTORS, [1], worths, {"bias": np.full(N, float(bias))}, r)


# -- who is compared with whom ---------------------------------------------------------------------


def test_twins_share_all_that_is_not_named():
    made = networks({
        "a": {"architecture": ["x", "y"], "seed": [0, 1]},
        "b": {"architecture": "x", "penalty": "jafr", "strength": 0.1, "seed": [0, 1, 2]},
        "c": {"architecture": "x", "adversary": "pgd", "seed": 1},
    })  # fmt: skip
    profiles = {name: Profile(name, settings) for name, settings in made.items()}
    jafr, plain = ({"penalty": "jafr", "strength": 0.1}, {"penalty": "none", "strength": 0.0})
    pairs = [(a.name, b.name) for a, b in twins(profiles, jafr, plain)]
    assert pairs == [("x-jafr0.1-seed0", "x-seed0"), ("x-jafr0.1-seed1", "x-seed1")]
    other = twins(profiles, jafr | {"adversary": "none"}, plain | {"adversary": "pgd"})
    assert [(a.name, b.name) for a, b in other] == [("x-jafr0.1-seed1", "x-pgd-seed1")]
    assert twins(profiles, {"augment": True}, {"augment": False}) == []
    with pytest.raises(ValueError, match="first names .'noise'. and second .'seed'."):
        twins(profiles, {"noise": 0}, {"seed": 0})
    assert cause(FACTORS | {"noise": 0.2, "augment": True}) == "label noise + augmentation"


# -- images and seeds ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "spread", "least"), [(2, 0.0, 0.94), (2, 0.1, 0.92), (3, 0.5, 0.89), (4, 0.2, 0.92)]
)
def test_limits_allow_for_images_and_for_seeds(seeds, spread, least):
    """How often the truth, 0, is held where seeds scatter by `spread` and images by 1 (n = 60)."""
    rng, held = np.random.default_rng(0), 0
    for k in range(300):
        values = rng.normal(size=(1, 60)) + rng.normal(size=(seeds, 60))
        values = values + spread * rng.normal(size=(seeds, 1))
        found = over_seeds(lambda w, v=values: v @ w, 60, n_resamples=100, seed=k)
        held += found.low <= 0 <= found.high
    assert held / 300 >= least


def test_one_seed_has_the_interval_of_its_images_and_agreeing_ones_no_wider():
    values = np.random.default_rng(1).normal(size=(1, 200))
    one = over_seeds(lambda w: values @ w, 200, n_resamples=4000)
    t = stats.t.interval(0.95, 199, values.mean(), values.std(ddof=1) / np.sqrt(200))
    assert (one.low, one.high) == pytest.approx(t, abs=0.005)
    same = over_seeds(lambda w: np.repeat(values, 2, 0) @ w, 200, n_resamples=4000)
    assert same == pytest.approx(one)
    apart = over_seeds(lambda w: (values + [[-0.5], [0.5]]) @ w, 200)
    assert apart.high - apart.low > 10, "two seeds that disagree have one degree of freedom"
    seeds = np.array([1.0, 2.0, 4.0, 5.0])  # on all images alike: what is left is Student's t
    found = over_seeds(lambda w: np.repeat(seeds[:, None], 60, 1) @ w, 60)
    t = stats.t.interval(0.95, 3, 3, seeds.std(ddof=1) / 2)
    assert (found.low, found.high) == pytest.approx(t)
    few = over_seeds(lambda w: values[:, :4] @ w, 4)
    assert np.isnan([few.low, few.high]).all() and few.estimate == values[:, :4].mean()


def test_unanimous_images_are_not_certainty():
    none = accuracy_over_seeds(np.zeros((2, 50)))
    assert none.low == 0 and none.high == pytest.approx(0.0714, abs=1e-3)  # Wilson's for 0 of 50
    equal = accuracy_over_seeds(np.ones((2, 50)), np.ones((2, 50)))
    assert equal.low == -equal.high and 0.05 < equal.high < 0.1
    some = np.ones((1, 10))
    some[0, :4] = np.nan  # not asked
    some[0, 9] = 0
    assert accuracy_over_seeds(some).estimate == pytest.approx(5 / 6)


# -- what parts twins ------------------------------------------------------------------------------


def test_gains_are_paired_differences_of_accuracy():
    half, most = np.arange(N) % 2, (np.arange(N) % 5 > 0)
    asked = np.where(np.arange(N) < 9, 1, np.nan)
    first = profile("a", {CLEAN: 1, FOG: half, NOISE: most, PGD: asked})
    second = profile("b", {CLEAN: 1, FOG: 1, NOISE: half, PGD: 0 * asked})
    assert share_right(first.responses, [CLEAN, FOG]).mean() == 0.75
    gain = accuracy_gain([(first, second)], [FOG])
    assert gain.estimate == pytest.approx(-0.5) and gain.high < 0 and (gain.n, gain.pairs) == (N, 1)
    assert (-gain).low == -gain.high and (-gain).estimate == -gain.estimate
    assert gain.judged[3] == 1, "a single pair is one case"
    twice = accuracy_gain([(first, second)] * 2, [FOG])
    assert twice.judged == (twice.estimate, twice.low, twice.high, N)
    both = accuracy_gain([(first, second)], [CLEAN, FOG], [NOISE])  # groups count the same
    assert both.estimate == pytest.approx((-0.25 + 0.3) / 2)
    attack = accuracy_gain([(first, second)], [PGD])
    assert attack.n == 9 and attack.estimate == pytest.approx(1)
    assert 0.5 < attack.low < 0.9 and attack.high == 1


def test_wins_are_counted_per_corruption_and_draws_by_half():
    half = np.arange(N) % 2
    first = profile("a", {CLEAN: 1, FOG: 1, NOISE: half, PGD: half})
    second = profile("b", {CLEAN: 1, FOG: half, NOISE: 1, PGD: half})
    found = share_of_wins([(first, second)] * 2, [[FOG], [NOISE], [PGD], [CLEAN]])
    assert found.estimate == 0.5 and found.low >= 0 and found.n == N
    assert share_of_wins([(first, second)] * 2, [[FOG], [CLEAN]]).estimate == 0.75


def test_scores_and_biases_of_twins_differ_by_what_was_planted():
    low, flat = profile("a", {CLEAN: 1}, (3, 0, 0), bias=7), profile("b", {CLEAN: 1}, (1, 1, 0))
    score = score_difference([(low, flat)] * 2)
    # min-max shares (1, 0, 0) and (1/2, 1/2, 0) at beta = 3/4: ((1 - 7/8) / (1 - mean(b)))
    expected = (1 - 0.875) / (1 - np.mean([1, 0.75, 0.75**2]))
    assert score.estimate == pytest.approx(expected) and score.n == N
    assert signed_score([low]).estimate == pytest.approx(1)
    assert [i.estimate for i in importances([flat])] == pytest.approx([0.5, 0.5, 0])
    assert bias_difference([(low, flat)]).estimate == pytest.approx(2)
    low.answers["bias"][:3] = np.nan  # images without a gradient
    assert bias_difference([(low, flat)]).n == N - 3
    assert gradient_bias([low]).estimate == pytest.approx(7)


# -- where corruptions are -------------------------------------------------------------------------


def test_corruptions_are_parted_by_where_they_change_images():
    rng = np.random.default_rng(0)
    conditions = [CLEAN, *(Condition(c, float(s)) for c in CORRUPTIONS for s in (1, 5))]
    energy = np.zeros((len(conditions), 5, 20))
    for k, c in enumerate(conditions[1:], 1):
        band = CORRUPTIONS.index(c.source) // 3
        energy[k, band] = c.strength * (1 + rng.random(20))
    tables = {t: np.ones((len(conditions), 20)) for t in TABLES}
    r = Responses(conditions, tables, np.ones((5, 20)), energy, {})
    centroids = {c: float(change_centroid(r, c).estimate) for c in CORRUPTIONS}
    assert [centroids[c] for c in CORRUPTIONS[::3]] == [0, 0.25, 0.5, 0.75, 1]
    groups = frequency_groups(centroids)
    assert [groups[c] for c in CORRUPTIONS] == ["low"] * 5 + ["middle"] * 5 + ["high"] * 5
    r.change_energy[:] = 0
    with pytest.raises(ValueError, match="fog changed no image"):
        change_centroid(r, "fog")
    with pytest.raises(ValueError, match="pgd was not measured"):
        change_centroid(r, "pgd")


def test_pooled_energies_weigh_severities_by_what_they_change():
    conditions = [CLEAN, Condition("fog", 1.0), Condition("fog", 5.0)]
    energy = np.zeros((3, 2, 8))
    energy[1, 0], energy[2, 1] = 1, 3
    tables = {t: np.ones((3, 8)) for t in TABLES}
    found = change_centroid(Responses(conditions, tables, np.ones((2, 8)), energy, {}), "fog")
    assert found.estimate == pytest.approx(0.75)


def test_a_radial_profile_is_that_of_the_whole_plane():
    x = np.random.default_rng(0).normal(size=(12, 12))
    half, whole = np.abs(np.fft.rfft2(x)), np.abs(np.fft.fft2(x))
    k = 12 * np.fft.fftfreq(12)
    radius = np.hypot(k[:, None], k).round()
    expected = [whole[radius == r].mean() / whole.mean() for r in range(7)]
    assert radial_profile(half) == pytest.approx(expected)
