"""The reports about training, on made-up networks with a planted answer."""

import numpy as np
import pytest
from made_up import report, write_profiles

M, EPOCHS = 8, 6
PLANS = {
    "clean": {"architecture": ["a", "b"], "seed": [0, 1, 2], "every": 1},
    "noise": {"architecture": ["a", "b"], "noise": [0.2, 0.5, 0.8, 1.0], "seed": [0, 1, 2]},
    "small": {"architecture": "a", "fraction": [0.05, 0.25], "seed": [0, 1, 2]},
}


def values(settings, epoch):
    """Low bands first; label noise flattens and shrinks; more images lean to low bands."""
    steep = 0.6 * settings["fraction"] ** 0.2 * (1 - settings["noise"])
    final = 4 * np.exp(-steep * np.arange(M)) * (1 - settings["noise"])
    final[-1] -= 0.6 * (1 - settings["noise"])  # clearly the weakest: else there is no score
    progress = 1 / (1 + np.exp(np.arange(M) * 0.8 + 0.5 - epoch))
    return final * (progress if settings["every"] else 1)


def accuracy(settings, epoch):
    return 0.95 - 0.6 * settings["noise"] - 0.2 / epoch - 0.1 * (1 - settings["fraction"])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("training")
    write_profiles(root, PLANS, values, accuracy, EPOCHS)
    (root / "params.yaml").write_text("seed: 0\n")
    return root


@pytest.mark.slow
def test_label_noise_is_judged_where_a_distribution_can_be_read(project):
    found, metrics = report(project, "70_label_noise", plans=PLANS)
    for claim in ("noise_lowers_accuracy", "noise_more_uniform", "noise_less_robust_features"):
        assert found[claim]["verdict"] == "supported", claim
        assert {p["part"].rpartition(", ")[2] for p in found[claim]["parts"]} == {"a", "b"}
        assert (found[claim]["n"], found[claim]["unit"]) == (3, "trainings")
        assert found[claim]["data"] == "MNIST digits"
    assert found["noise_lowers_accuracy"]["low"] < -0.6 < found["noise_lowers_accuracy"]["high"]
    blank = {row["noise"] for row in metrics["levels"] if not row["legible"]}
    assert blank == {1.0}, "random labels leave nothing to distribute"


@pytest.mark.slow
def test_low_bands_first_and_a_fall_after_the_peak(project):
    found, metrics = report(project, "72_dynamics", plans=PLANS)
    assert found["low_bands_learnt_first"]["verdict"] == "supported"
    assert found["low_bands_learnt_first"]["value"] > 0.9
    assert found["second_stage_tradeoff"]["verdict"] == "supported"
    assert len(found["second_stage_tradeoff"]["parts"]) == 2
    assert metrics["networks"] == 6
    for row in found.values():  # seeds that both architectures have
        assert (row["n"], row["unit"], row["data"]) == (3, "trainings", "MNIST digits")


def test_more_data_is_judged_by_largest_and_smallest(project):
    found, metrics = report(project, "73_data_size", plans=PLANS, images="data/images/cifar10")
    row = found["more_data_more_robust"]
    assert row["verdict"] == "supported" and row["n"] == 3 and row["data"] == "CIFAR-10"
    assert metrics["difference"]["a"]["unit"] == "trainings"
    assert [r["fraction"] for r in metrics["sizes"][:3]] == [0.05, 0.25, 1.0]


@pytest.mark.parametrize("notebook", ["70_label_noise", "72_dynamics", "73_data_size"])
def test_a_study_without_such_networks_has_no_verdict(tmp_path, notebook):
    plans = {"one": {"architecture": "a"}}
    write_profiles(tmp_path, plans, values, accuracy, EPOCHS, n=6)
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    assert report(tmp_path, notebook, plans=plans)[0] == {}


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
@pytest.mark.slow
def test_fewer_than_three_seeds_decide_nothing(tmp_path, seeds):
    plans = {
        "two": {"architecture": "a", "noise": [0, 0.2, 0.5], "every": 1, "seed": seeds},
        "few": {"architecture": "a", "fraction": 0.05, "seed": seeds},
    }
    write_profiles(tmp_path, plans, values, accuracy, EPOCHS, n=6)
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    for notebook in ("70_label_noise", "72_dynamics", "73_data_size"):
        found, _ = report(tmp_path, notebook, plans=plans)
        for row in found.values():
            assert row["verdict"] == "undecided" and row["low"] is None, notebook
            assert f"n = {len(seeds)} trainings, 3 are needed" in row["note"]
        assert found
