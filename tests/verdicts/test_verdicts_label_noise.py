"""Verdicts on label noise, of planted trainings."""

import numpy as np
import pytest

from iaside.shapley import coalitions
from iaside.tables import Worths
from iaside.training.plans import Profile
from iaside.verdicts.label_noise import (
    noise_less_robust_features,
    noise_lowers_accuracy,
    noise_more_uniform,
)

M, N, LEVELS = 4, 40, (0.0, 0.4, 0.8)


def network(psi, right, seed):
    """A network whose bands are worth psi on average, and which gives `right` of the answers."""
    rng = np.random.default_rng(seed)
    values = (np.asarray(psi) * (1 + 0.02 * rng.normal()))[:, None]
    values = values + 0.05 * np.random.default_rng(99).normal(size=(M, N))
    worths = Worths({"log_likelihood": coalitions(M).astype(float) @ values}, {})
    correct = np.random.default_rng(98).random((1, 200)) < right + 0.01 * rng.normal()
    return Profile(str(seed), {"seed": seed}, [1], {1: worths}, {"correct": correct})


def family(psi, right=lambda x: 0.9 - 0.5 * x, seeds=3):
    return {x: [network(psi(x), right(x), seed) for seed in range(seeds)] for x in LEVELS}


def flatter(x):
    """Middle bands catch up, one of the upper half among them."""
    return np.array([2.0, 0.2 + 1.6 * x, 0.2 + 1.6 * x, 0.1])


def steeper(x):
    return flatter(0.8 - x)


VERDICTS = (noise_lowers_accuracy, noise_more_uniform, noise_less_robust_features)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_family_has_to_agree_and_one_can_contradict(verdict):
    row = verdict({"a": family(flatter), "b": family(flatter)}, data="MNIST digits")
    assert (row["verdict"], row["n"], row["unit"]) == ("supported", 3, "trainings")
    assert row["data"] == "MNIST digits"
    assert [p["part"][-1] for p in row["parts"]] == (
        list("abab") if verdict is noise_less_robust_features else list("ab")
    )
    other = family(steeper, right=lambda x: 0.4 + 0.5 * x)
    row = verdict({"a": family(flatter), "b": other})
    assert row["verdict"] == "contradicted" and "worst of 2: b" in row["note"]
    assert verdict({"a": family(flatter), "b": family(flatter, seeds=2)})["verdict"] == "undecided"


@pytest.mark.parametrize("verdict", VERDICTS)
def test_two_levels_are_no_trend(verdict):
    two = {x: some for x, some in family(flatter).items() if x < 0.8}
    assert verdict({"a": two}) is None and verdict({}) is None
    readings = 2 if verdict is noise_less_robust_features else 0
    assert len(verdict({"a": two, "b": family(flatter)})["parts"]) == readings


def test_a_distribution_over_nothing_takes_no_part():
    blank = family(lambda x: 0 * flatter(x) if x == 0.8 else flatter(x))
    for verdict in VERDICTS[1:]:
        row = verdict({"a": blank})
        assert row["verdict"] == "undecided" and row["value"] is None
        assert "fewer than 3 levels can be read: a" in row["note"]
    assert noise_lowers_accuracy({"a": blank})["verdict"] == "supported"


def test_moving_to_high_bands_is_no_spreading():
    cells = {"a": family(lambda x: np.array([2.0, 1.0 - x, 0.2 + x, 0.1]))}
    assert noise_less_robust_features(cells)["verdict"] == "supported"
    assert noise_more_uniform(cells)["verdict"] == "undecided"


def test_trainings_that_disagree_decide_nothing_whatever_their_photographs_say():
    cells = family(flatter)
    for x, some in cells.items():
        psi = [flatter(x), flatter(x), steeper(x)]
        cells[x] = [network(psi[k], 0.5, p.settings["seed"]) for k, p in enumerate(some)]
    assert noise_more_uniform({"a": cells})["verdict"] == "undecided"


def test_bands_worth_nothing_do_not_gain_where_a_network_knows_less():
    """The same profile, ever smaller, with errors that do not shrink: those of bands worth nothing,
    without their sign, have a growing part. Without the guard *supported* here."""

    rng = np.random.default_rng(0)

    def shrunk(x, seed):
        values = (1 - x) * np.array([[3.0], [1.0], [0.0], [0.0]]) + rng.normal(size=(M, N))
        worths = Worths({"log_likelihood": coalitions(M).astype(float) @ values}, {})
        return Profile(str(seed), {"seed": seed}, [1], {1: worths})

    cells = {x: [shrunk(x, seed) for seed in range(8)] for x in LEVELS}
    row = noise_less_robust_features({"a": cells})
    readings = {part["part"]: part["verdict"] for part in row["parts"]}
    assert readings == {"all bands": "supported", "bands told from 0": "undecided"}
    assert row["verdict"] == "undecided"
