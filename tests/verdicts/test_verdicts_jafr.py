"""Verdicts on JaFR, adversarial training and augmentation, of planted twins."""

from functools import partial

import numpy as np
import pytest
from made_up_plans import write

from iaside.training.pairs import Treatments
from iaside.training.plans import load_profiles, networks
from iaside.verdicts import jafr

BASE = {"architecture": "small_cnn", "seed": [0, 1, 2]}
PLANS = {
    "plain": BASE | {"adversary": ["none", "fgsm", "pgd"]},
    "jafr": BASE
    | {"adversary": ["none", "fgsm", "pgd"], "penalty": "jafr", "strength": [-0.001, 0.001]},
    "strong": BASE | {"penalty": "jafr", "strength": 0.004},
    "augmented": BASE | {"augment": True},
}
BEST = [0.001]
OF_JAFR = (
    "jafr_high_gain",
    "jafr_low_loss",
    "jafr_mirrored",
    "jafr_shifts_spectrum",
    "jafr_corruptions",
    "jafr_adversarial",
    "jafr_over_pgd",
    "jafr_less_low_than_pgd",
    "jafr_large_lambda",
)
VERDICTS = {name: partial(getattr(jafr, name), recommended=BEST) for name in OF_JAFR} | {
    name: getattr(jafr, name)
    for name in ("adversarial_training_tradeoff", "augmentation_low_reliance")
}


@pytest.fixture
def study(tmp_path):
    for name, settings in networks(PLANS).items():
        write(tmp_path, name, settings)
    folders = (tmp_path / "results/profiles/tables", tmp_path / "results/training/networks")
    return lambda **plans: Treatments(
        load_profiles(plans or PLANS, *folders), "data/images/mnist_5k.npz"
    )


def tell(r, corruptions, right):
    """Let a network answer `right` (N,) under some corruptions."""
    for k, c in enumerate(r.conditions):
        if c.source in corruptions:
            r.tables["correct"][k] = right


@pytest.mark.slow
def test_each_claim_is_decided_as_planted_and_names_its_claim(study):
    for name, verdict in VERDICTS.items():
        row = verdict(study())
        # Gains and losses cancel over all corruptions, and half of them are those of PGD training.
        cancel = name in ("jafr_corruptions", "jafr_over_pgd")
        assert row["verdict"] == ("undecided" if cancel else "supported"), row
        assert (row["id"], row["n"], row["unit"]) == (name, 3, "trainings")
        assert row["data"] == "MNIST digits"


def test_what_is_not_trained_is_not_tested(study):
    plain = study(plain=PLANS["plain"])
    assert [name for name, verdict in VERDICTS.items() if verdict(plain)] == [
        "adversarial_training_tradeoff"
    ]
    without_pgd = study(plain=PLANS["plain"] | {"adversary": "none"}, strong=PLANS["strong"])
    assert all(verdict(without_pgd) is None for verdict in VERDICTS.values())


@pytest.mark.slow
def test_one_kind_of_training_against_the_claim_suffices_but_not_two_of_its_seeds(study):
    planted = study()
    low = [c for c, group in planted.groups[None].items() if group == "low"]
    for p in planted.cells[None, "fgsm", 0.001]:
        tell(p.responses, low, np.ones(len(p.responses.tables["correct"][0])))
    row = jafr.jafr_low_loss(planted, BEST)
    assert row["verdict"] == "contradicted" and "FGSM training" in row["note"]
    few = {name: plan | {"seed": [0, 1]} for name, plan in PLANS.items()}
    for name, verdict in VERDICTS.items():
        row = verdict(study(**few))
        assert row["verdict"] == "undecided" and row["low"] is None, name


def test_one_training_that_goes_the_other_way_leaves_a_claim_undecided(study):
    planted = study()
    high = [c for c, group in planted.groups[None].items() if group == "high"]
    other = planted.cells[None, "none", 0.001][2]
    tell(other.responses, high, np.zeros(len(other.responses.tables["correct"][0])))
    assert jafr.jafr_high_gain(planted, BEST)["verdict"] == "undecided"


@pytest.mark.parametrize("trainings, verdict", [(3, "undecided"), (6, "supported")])
def test_a_majority_of_corruptions_is_counted_corruption_by_corruption(
    tmp_path, trainings, verdict
):
    seeds = {"architecture": "small_cnn", "seed": list(range(trainings))}
    plans = {
        "plain": seeds | {"adversary": ["none", "pgd"]},
        "jafr": seeds | {"penalty": "jafr", "strength": 0.001},
    }
    for name, settings in networks(plans).items():
        write(tmp_path, name, settings)
    folders = (tmp_path / "results/profiles/tables", tmp_path / "results/training/networks")
    planted = Treatments(load_profiles(plans, *folders), "data/images/mnist_5k.npz")
    for p in planted.cells[None, "none", 0.001]:
        tell(p.responses, list(planted.groups[None])[:12], np.ones(40))
    row = jafr.jafr_over_pgd(planted, BEST)
    assert row["verdict"] == verdict and row["value"] >= 12 / 15 - 0.05
