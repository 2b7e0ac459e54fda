"""The verdict on data size, of planted trainings."""

import numpy as np

from iaside.shapley import coalitions
from iaside.tables import Worths
from iaside.training.plans import Profile
from iaside.verdicts.data_size import more_data_more_robust

M, N = 4, 40


def network(steep, seed):
    values = np.exp(-steep * np.arange(M))[:, None]
    values = values + 0.05 * np.random.default_rng(99).normal(size=(M, N))
    worths = Worths({"log_likelihood": coalitions(M).astype(float) @ values}, {})
    return Profile(str(seed), {"seed": seed}, [1], {1: worths})


def family(least, most, seeds=3, scatter=0.05):
    """steep with the smallest and the largest set; what a seed does it does to both."""
    own = scatter * np.random.default_rng(0).normal(size=seeds)
    return {
        share: [network(steep + own[seed], seed) for seed in range(seeds)]
        for share, steep in ((0.1, least), (0.5, 3.0), (1.0, most))
    }


def test_the_largest_set_is_compared_with_the_smallest():
    row = more_data_more_robust({"a": family(0.3, 0.8)}, data="CIFAR-10")
    assert (row["verdict"], row["n"], row["unit"]) == ("supported", 3, "trainings")
    assert row["data"] == "CIFAR-10" and row["value"] > 0
    assert more_data_more_robust({"a": family(0.8, 0.3)})["verdict"] == "contradicted"
    assert more_data_more_robust({"a": family(0.5, 0.5)})["verdict"] == "undecided"
    assert more_data_more_robust({}) is None


def test_one_architecture_against_the_claim_suffices_and_two_seeds_do_not():
    row = more_data_more_robust({"a": family(0.3, 0.8), "b": family(0.8, 0.3)})
    assert row["verdict"] == "contradicted" and row["note"].startswith("worst of 2: b")
    row = more_data_more_robust({"a": family(0.3, 0.8), "b": family(0.3, 0.8, seeds=2)})
    assert row["verdict"] == "undecided" and "n = 2 trainings, 3 are needed" in row["note"]


def test_what_a_seed_does_to_all_sizes_cancels():
    assert more_data_more_robust({"a": family(0.5, 0.6, scatter=0.2)})["verdict"] == "supported"
    alone = family(0.5, 0.6, scatter=0.2)
    for k, p in enumerate(alone[1.0]):
        p.settings["seed"] = (k + 1) % 3  # paired with another seed's
    assert more_data_more_robust({"a": alone})["verdict"] == "undecided"
