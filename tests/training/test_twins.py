"""Twins are found, differences allow for images and seeds, corruptions fall into their thirds."""

import numpy as np
import pytest
from scipy import stats

from iaside.shapley import coalitions
from iaside.tables import CLEAN, CORRUPTIONS, TABLES, Condition, Responses, Worths
from iaside.training.pairs import (
    Treatments,
    accuracy,
    accuracy_gain,
    bias_difference,
    change_centroid,
    clean_accuracy,
    frequency_groups,
    gradient_bias,
    importances,
    intervention,
    matched_pairs,
    radial_profile,
    score_difference,
    share_of_wins,
    share_right,
    signed_score,
)
from iaside.training.plans import FACTORS, Profile, networks

FOG, NOISE, PGD = Condition("fog", 1.0), Condition("shot_noise", 1.0), Condition("pgd", 0.1)
N = 30


def profile(name, correct, psi=(2.0, 1.0, 0.0), bias=5.0, seed=0, **factors):
    """A network that is right as said (condition -> (N,)) and lives on bands worth psi."""
    conditions = list(correct)
    right = np.stack([np.broadcast_to(row, N) for row in correct.values()]).astype(float)
    table = coalitions(3).astype(float) @ np.repeat(np.array(psi)[:, None], N, 1)
    energies = np.ones((3, N)), np.ones((len(conditions), 3, N))
    r = Responses(conditions, dict.fromkeys(TABLES, right), *energies, {})
    worths = {1: Worths({"log_likelihood": table}, {})}
    answers = {"bias": np.full(N, float(bias)), "correct": right[:1] > 0}
    settings = FACTORS | {"architecture": "x", "seed": seed} | factors
    return Profile(name, settings, [1], worths, answers, r)


def seeds(make, n=3):
    """The same of n seeds: networks, or couples of them."""
    return [make(seed) for seed in range(n)]


# -- who is compared with whom ---------------------------------------------------------------------


def test_twins_share_all_that_is_not_named():
    made = networks(
        {
            "a": {"architecture": ["x", "y"], "seed": [0, 1]},
            "b": {"architecture": "x", "penalty": "jafr", "strength": 0.1, "seed": [0, 1, 2]},
            "c": {"architecture": "x", "adversary": "pgd", "seed": 1},
        }
    )
    profiles = {name: Profile(name, settings) for name, settings in made.items()}
    jafr, plain = ({"penalty": "jafr", "strength": 0.1}, {"penalty": "none", "strength": 0.0})
    pairs = [(a.name, b.name) for a, b in matched_pairs(profiles, jafr, plain)]
    assert pairs == [("x-jafr0.1-seed0", "x-seed0"), ("x-jafr0.1-seed1", "x-seed1")]
    other = matched_pairs(profiles, jafr | {"adversary": "none"}, plain | {"adversary": "pgd"})
    assert [(a.name, b.name) for a, b in other] == [("x-jafr0.1-seed1", "x-pgd-seed1")]
    assert matched_pairs(profiles, {"augment": True}, {"augment": False}) == []
    with pytest.raises(ValueError, match="first names .'noise'. and second .'seed'."):
        matched_pairs(profiles, {"noise": 0}, {"seed": 0})
    assert intervention(FACTORS | {"noise": 0.2, "augment": True}) == "label noise + augmentation"


# -- images and seeds ------------------------------------------------------------------------------


def pairs(values):
    """Couples whose gains under fog are values, (S, N)."""
    return [
        (profile("a", {FOG: row}, seed=k), profile("b", {FOG: np.zeros(N)}, seed=k))
        for k, row in enumerate(values)
    ]


@pytest.mark.parametrize("training", [0.0, 0.5, 2.0, 10.0])
def test_a_gain_at_its_threshold_is_called_wrong_in_at_most_one_of_twenty(training):
    """Three pairs; trainings vary by so many times the variance of a mean over photographs."""
    rng, wrong, n = np.random.default_rng(0), 0, 400
    for _ in range(n):
        values = 0.1 * rng.normal(size=N) + 0.02 * rng.normal(size=(3, N))
        values = values + 0.1 * np.sqrt(3 * training / N) * rng.normal(size=(3, 1))
        found = accuracy_gain(pairs(values), [FOG])
        wrong += found.low > 0 or found.high < 0
    assert wrong / n <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)


def test_limits_are_students_with_the_degrees_of_freedom_of_trainings_and_of_images():
    gains = np.array([0.1, 0.2, 0.4, 0.5])  # on all images alike: what is left is Student's t
    found = accuracy_gain(pairs(np.repeat(gains[:, None], N, 1)), [FOG])
    low, high = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert (found.low, found.high, found.n) == (pytest.approx(low), pytest.approx(high), 4)
    images = 0.5 + 0.2 * np.random.default_rng(1).normal(size=N)  # seeds agree: that of the images
    found = accuracy_gain(pairs(np.repeat(images[None], 3, 0)), [FOG], level=0.99)
    low, high = stats.ttest_1samp(images, 0).confidence_interval(0.99)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)


def test_photographs_are_no_trainings():
    images = np.ones((2, N)) * (0.5 + 0.01 * np.random.default_rng(0).normal(size=N))
    for few in (1, 2):
        found = accuracy_gain(pairs(images[:few]), [FOG])
        assert found.n == few and np.isnan([found.low, found.high]).all()
    assert found.value == pytest.approx(0.5, abs=0.01)


def test_architectures_count_the_same_seed_by_seed():
    def build(architecture, seed, right):
        return profile(f"{architecture}{seed}", {FOG: right}, seed=seed, architecture=architecture)

    networks = [build("x", seed, 0) for seed in range(5)] + [build("y", seed, 1) for seed in (1, 2)]
    found = accuracy(networks, [FOG])
    assert (found.value, found.n) == (pytest.approx(0.5), 2), "two seeds have both"


def test_unanimous_images_are_not_certainty():
    found = accuracy(seeds(lambda k: profile("a", {CLEAN: 0}, seed=k)), [CLEAN])
    assert found.low == 0 and found.high == pytest.approx(
        stats.norm.ppf(0.975) ** 2 / (N + stats.norm.ppf(0.975) ** 2)
    )  # Wilson's for 0 of 30
    right = seeds(lambda k: profile("a", {CLEAN: 1}, seed=k))
    equal = accuracy_gain(list(zip(right, right, strict=True)), [CLEAN])
    assert equal.low == -equal.high and 0.1 < equal.high < 0.13
    assert accuracy_gain(list(zip(right, right, strict=True)), [CLEAN], level=0.999).high > 0.2
    wins = share_of_wins([(a, b) for a, b in zip(right, right, strict=True)], [[CLEAN]])
    assert wins.low == pytest.approx(0.5 - equal.high)
    assert clean_accuracy(right).value == pytest.approx(1)
    asked = np.ones(N)
    asked[:4], asked[9] = np.nan, 0  # the first were not asked
    some = accuracy(seeds(lambda k: profile("a", {PGD: asked}, seed=k)), [PGD])
    assert some.value == pytest.approx((N - 5) / (N - 4))
    none = accuracy(seeds(lambda k: profile("a", {PGD: np.nan}, seed=k)), [PGD])
    assert np.isnan(list(none)).all() and none.n == 3


# -- what parts twins ------------------------------------------------------------------------------


def test_gains_are_paired_differences_of_accuracy():
    half, most = np.arange(N) % 2, (np.arange(N) % 5 > 0)
    asked = np.where(np.arange(N) < 9, 1, np.nan)
    first = seeds(lambda k: profile("a", {CLEAN: 1, FOG: half, NOISE: most, PGD: asked}, seed=k))
    second = seeds(lambda k: profile("b", {CLEAN: 1, FOG: 1, NOISE: half, PGD: 0 * asked}, seed=k))
    couples = list(zip(first, second, strict=True))
    assert share_right(first[0].responses, [CLEAN, FOG]).mean() == 0.75
    gain = accuracy_gain(couples, [FOG])
    assert gain.value == pytest.approx(-0.5) and gain.high < 0
    assert (gain.n, gain.unit) == (3, "trainings")
    both = accuracy_gain(couples, [CLEAN, FOG], [NOISE])  # groups count the same
    assert both.value == pytest.approx((-0.25 + 0.3) / 2)
    attack = accuracy_gain(couples, [PGD])  # of nine images, all of which agree
    assert attack.value == pytest.approx(1) and 0.5 < attack.low < 0.9 and attack.high == 1


def test_wins_are_counted_per_corruption_and_draws_by_half():
    half = np.arange(N) % 2
    couples = seeds(
        lambda k: (
            profile("a", {CLEAN: 1, FOG: 1, NOISE: half, PGD: half}, seed=k),
            profile("b", {CLEAN: 1, FOG: half, NOISE: 1, PGD: half}, seed=k),
        )
    )
    found = share_of_wins(couples, [[FOG], [NOISE], [PGD], [CLEAN]])
    assert found.value == 0.5 and found.low >= 0 and found.n == 3
    assert share_of_wins(couples, [[FOG], [CLEAN]]).value == 0.75


@pytest.mark.parametrize("trainings, decided", [(3, False), (5, False), (6, True)])
def test_trainings_that_win_everything_are_as_many_answers_as_there_are(trainings, decided):
    """Of five fair coins all agree in 1 of 16 cases, of six in 1 of 32."""
    couples = [
        (
            profile("a", {CLEAN: 1, FOG: 1, NOISE: 1, PGD: 1}, seed=k),
            profile("b", {CLEAN: 0, FOG: 0, NOISE: 0, PGD: 0}, seed=k),
        )
        for k in range(trainings)
    ]
    found = share_of_wins(couples, [[FOG], [NOISE], [PGD], [CLEAN]])
    assert found.value == 1 and (found.low > 0.5) == decided


def test_scores_and_biases_of_twins_differ_by_what_was_planted():
    low = seeds(lambda k: profile("a", {CLEAN: 1}, (3, 0, 0), bias=7, seed=k))
    flat = seeds(lambda k: profile("b", {CLEAN: 1}, (1, 1, 0), seed=k))
    couples = list(zip(low, flat, strict=True))
    score = score_difference(couples)
    # min-max shares (1, 0, 0) and (1/2, 1/2, 0) at beta = 3/4: ((1 - 7/8) / (1 - mean(b)))
    expected = (1 - 0.875) / (1 - np.mean([1, 0.75, 0.75**2]))
    assert score.value == pytest.approx(expected) and score.n == 3
    assert signed_score(low).value == pytest.approx(1)
    assert [i.value for i in importances(flat)] == pytest.approx([0.5, 0.5, 0])
    low[0].answers["bias"][:3] = np.nan  # images without a gradient
    assert bias_difference(couples).value == pytest.approx(2)
    assert gradient_bias(low).value == pytest.approx(7)


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


# -- a study ---------------------------------------------------------------------------------------


def test_a_study_is_sorted_into_cells_and_compares_what_was_trained_with_jafr():
    made = networks(
        {
            "a": {
                "architecture": ["x", "y"],
                "adversary": ["none", "pgd"],
                "augment": [True, False],
            },
            "b": {"architecture": "x", "penalty": "jafr", "strength": [-0.1, 0.1], "augment": True},
        }
    )
    profiles = {}
    for name, settings in made.items():
        profiles[name] = profile(name, {CLEAN: 1, FOG: 1, PGD: 1}, **settings)
    study = Treatments(profiles, "data/images/mnist_5k.npz")
    assert study.data_sets == [None] and study.title(None) == "mnist_5k"
    assert study.strengths == [-0.1, 0, 0.1]
    names = {key[1:]: [p.name for p in found] for key, found in study.cells.items()}
    assert names == {
        ("none", -0.1): ["x-jafr-0.1-augment-seed0"],
        ("none", 0.0): ["x-augment-seed0"],
        ("none", 0.1): ["x-jafr0.1-augment-seed0"],
        ("pgd", 0.0): ["x-pgd-augment-seed0"],
    }
    [(a, b)] = study.couples(None, ("none", 0.1), ("none", 0.0))
    assert (a.name, b.name) == ("x-jafr0.1-augment-seed0", "x-augment-seed0")
    assert len(study.couples(None, ("none", 0.0, True), ("none", 0.0, False))) == 2
    assert study.best(None, [0.1, 0.2]) == {"none": 0.1} and study.best(None, [0.2]) == {}
    assert set(study.conditions[None]) >= {"clean", "low corruptions", "all corruptions", "PGD"}
    assert "FGSM" not in study.conditions[None], "nobody was asked that"
