"""Verdicts on the course of a training, of planted ones."""

import numpy as np
import pytest

from iaside.score import mean_score
from iaside.shapley import coalitions
from iaside.tables import Worths
from iaside.training.plans import Profile
from iaside.training.trends import learning, second_stage
from iaside.verdicts.dynamics import low_bands_learnt_first, second_stage_tradeoff

M, N, EPOCHS = 6, 40, range(1, 9)


def network(name, seed, start, harm=0.0):
    """Bands that begin to be learnt at `start` (M,), and end at 1, less `harm` for low ones."""
    rng = np.random.default_rng([seed, ord(name[0])])
    own, common = 0.02 * rng.normal(size=M), np.random.default_rng(99).normal(size=(M, N))
    worths = {}
    for e in EPOCHS:
        psi = np.clip((e - np.asarray(start)) / 2, 0, 1) * (1 - harm * (e / 8) * (np.arange(M) < 3))
        psi[-1] *= 0.3  # clearly the weakest: else there is no score
        values = (psi * (1 + own))[:, None] + 0.02 * common
        worths[e] = Worths({"log_likelihood": coalitions(M).astype(float) @ values}, {})
    return Profile(f"{name}{seed}", {"seed": seed}, list(EPOCHS), worths)


def judge(groups, data=""):
    return low_bands_learnt_first(
        groups, {p.name: learning(p) for some in groups.values() for p in some}, data
    )


RISING = np.arange(M) * 0.9


def trained(name, start, seeds=3):
    return [network(name, seed, start) for seed in range(seeds)]


def test_the_order_of_learning_is_judged_over_seeds():
    row = judge({"a": trained("a", RISING), "b": trained("b", RISING)}, "MNIST digits")
    assert (row["verdict"], row["n"], row["unit"]) == ("supported", 3, "trainings")
    assert row["value"] > 0.9 and row["high"] <= 1 and row["data"] == "MNIST digits"
    assert "of 36 halves lie before the first checkpoint" in row["note"]
    assert judge({"a": trained("a", RISING[::-1])})["verdict"] == "contradicted"
    mixed = judge({"a": trained("a", RISING), "b": trained("b", RISING[::-1])})
    assert mixed["verdict"] == "undecided" and abs(mixed["value"]) < 0.1
    assert judge({}) is None
    late = network("a", 2, RISING[[1, 0, 2, 3, 4, 5]])  # limits end where a coefficient does
    assert judge({"a": [*trained("a", RISING, seeds=2), late]})["high"] == 1


def test_trainings_alike_in_an_order_that_bands_have_by_chance_decide_nothing():
    """Three that agree to the digit have no scatter, and six bands many orders."""
    row = judge({"a": trained("a", RISING[[0, 2, 1, 5, 3, 4]])})
    assert (row["verdict"], row["low"]) == ("undecided", 0)
    assert row["value"] == pytest.approx(1 - 6 * 8 / 210)  # as far from 0 as 1 in 17 orders
    assert judge({"a": trained("a", RISING[[1, 0, 2, 3, 5, 4]])})["verdict"] == "supported"


def test_two_seeds_or_an_order_that_nobody_can_tell_decide_nothing():
    row = judge({"a": trained("a", RISING), "b": trained("b", RISING, seeds=2)})
    assert row["verdict"] == "undecided" and row["n"] == 2
    never = trained("a", [0, 1, 2, 99, 99, 99])  # three bands are learnt, and four are needed
    row = judge({"a": never})
    assert row["verdict"] == "undecided" and row["value"] is None
    assert "3 of 3 networks learnt too few bands to order them" in row["note"]
    assert "band 3 left out in 3 of 3 networks" in row["note"] and "band 2" not in row["note"]


@pytest.mark.parametrize(
    ("fall", "rise", "expected"),
    [
        (2.0, 0.3, "supported"),
        (-2.0, 0.3, "undecided"),
        (2.0, -0.3, "contradicted"),
        (2.0, 0.0, "undecided"),
    ],
)
def test_both_halves_of_the_tradeoff_are_needed(fall, rise, expected):
    """A score that rises to the end has its peak there, and nothing after it to fall."""
    rng, ease = np.random.default_rng(0), np.random.default_rng(1).random(200)
    groups = {"a": trained("a", RISING)}
    psi, correct = [], []
    for _ in range(3):
        low = 1 + np.array([0, 2.0, 1, 0.5, 0]) * fall if fall > 0 else np.arange(5.0)
        values = np.stack([low, np.full(5, 1.0), np.full(5, 0.5)], axis=1)[:, :, None]
        psi.append(values + 0.05 * rng.normal(size=(5, 3, N)))
        share = 0.5 + rise * np.arange(5) / 4 + 0.01 * rng.normal()
        correct.append(ease < share[:, None])
    stage = second_stage(psi, correct, np.arange(N) * 5, mean_score())
    row = second_stage_tradeoff(groups, stage, "MNIST digits")
    assert row["verdict"] == expected
    assert row["n"] == 3 and row["data"] == "MNIST digits"
    assert {p["part"] for p in row["parts"]} == {"fall of signed SRC", "rise of held-out accuracy"}
    assert second_stage_tradeoff({}, None) is None
