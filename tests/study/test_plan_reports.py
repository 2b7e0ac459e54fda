"""The reports about the trained networks, on made-up tables with a planted answer."""

import shutil

import numpy as np
import pytest
from made_up import report
from made_up_plans import PITCH, N, make_project

from iaside.tables import TABLES, Responses
from iaside.training.plans import networks

STANDARD = {"architecture": "small_cnn", "seed": [0, 1]}
PLANS = {
    "plain": STANDARD | {"adversary": ["none", "fgsm", "pgd"]},
    "jafr": STANDARD
    | {"adversary": ["none", "fgsm", "pgd"], "penalty": "jafr", "strength": [-0.001, 0.001]},
    "strong": STANDARD | {"penalty": "jafr", "strength": 0.004},
    "augmented": STANDARD | {"augment": True},
    "noise": STANDARD | {"noise": [0.4, 0.8]},
}
THREE = {name: plan | {"seed": [0, 1, 2]} for name, plan in PLANS.items()}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("plans"), THREE)


@pytest.mark.slow
def test_jafr_is_judged_by_what_was_planted(project):
    found, metrics = report(project, "75_jafr", plans=THREE, recommended=[0.001])
    verdicts = {name: row["verdict"] for name, row in found.items()}
    for claim in (
        "jafr_shifts_spectrum",
        "jafr_high_gain",
        "jafr_low_loss",
        "jafr_mirrored",
        "jafr_adversarial",
        "jafr_large_lambda",
        "adversarial_training_tradeoff",
        "jafr_less_low_than_pgd",
        "augmentation_low_reliance",
    ):
        assert verdicts.pop(claim) == "supported", found[claim]
    # Gains and losses cancel over all corruptions, and half of them are those of PGD training.
    assert verdicts == {"jafr_corruptions": "undecided", "jafr_over_pgd": "undecided"}
    assert abs(found["jafr_over_pgd"]["value"] - 0.5) < 0.1
    for row in found.values():
        assert (row["n"], row["unit"], row["data"]) == (3, "trainings", "MNIST digits"), row["id"]
    assert next(iter(metrics["gain"].values()))["unit"] == "trainings"
    parts = {p["part"] for p in found["jafr_high_gain"]["parts"]}
    assert parts == {"standard training", "FGSM training", "PGD training"}
    [groups] = metrics["groups"].values()
    order = sorted(PITCH, key=PITCH.get)
    assert {groups[c] for c in order[:5]} == {"low"} and {groups[c] for c in order[-5:]} == {"high"}


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
@pytest.mark.slow
def test_two_seeds_decide_nothing_and_missing_networks_leave_claims_untested(project, seeds):
    few = {name: PLANS[name] | {"seed": seeds} for name in ("plain", "jafr")}
    found, _ = report(project, "75_jafr", plans=few, recommended=[0.001])
    for row in found.values():
        assert (row["verdict"], row["n"], row["low"]) == ("undecided", len(seeds), None)
        assert f"n = {len(seeds)} trainings, 3 are needed" in row["note"]
    assert "augmentation_low_reliance" not in found and "jafr_large_lambda" not in found


@pytest.mark.slow
def test_a_network_that_pgd_has_no_gradient_of_is_not_called_robust(project, tmp_path, capsys):
    """Its answers under PGD are those to the clean images: no accuracy lost, the best of all."""
    root = shutil.copytree(project, tmp_path / "project")
    plans = {"plain": PLANS["plain"]}
    name = next(n for n, s in networks(plans).items() if s["adversary"] == "none")
    path = root / f"results/profiles/tables/plain/{name}/responses.npz"
    r = Responses.load(path)
    for t in TABLES:
        r.tables[t][r.rows("pgd")] = 1.0 if t == "no_gradient" else np.nan
    r.save(path)
    _, metrics = report(root, "78_plans", plans=plans)
    assert np.isnan(float(metrics["signed_src"]["error, PGD"]["all networks"]["rho"] or "nan"))
    found, _ = report(root, "75_jafr", plans={"plain": THREE["plain"]}, recommended=[0.001])
    row = found["adversarial_training_tradeoff"]
    assert row["verdict"] == "undecided" and row["note"].startswith("worst of 2: gain under PGD")
    said = capsys.readouterr().out
    assert said.count(f"{name}: {N} of {N} images gave no usable gradient under pgd 0.1:") == 2


@pytest.mark.slow
def test_trained_networks_show_the_planted_correlation_and_its_trivial_part(project):
    some = {name: PLANS[name] for name in ("noise", "augmented", "strong")}
    some["plain"] = STANDARD | {"adversary": ["none", "pgd"]}
    some["jafr"] = STANDARD | {"penalty": "jafr", "strength": [-0.001, 0.001]}
    found, metrics = report(project, "78_plans", plans=some)
    assert found == {} and metrics["n"] == 16
    assert metrics["causes"]["label noise"] == 4
    drop = metrics["signed_src"]["error, PGD"]
    assert drop["all networks"]["rho_high"] < -0.5
    assert drop["recipes"]["n"] == 8 and drop["without label noise"]["n"] == 12
    assert drop["given accuracy, without label noise"]["rho_high"] < 0
    assert drop["between causes"]["n"] == len(metrics["causes"])
    table = (project / "results/plans/correlations.csv").read_text()
    assert "clean accuracy" in table and "low-pass accuracy" in table
    assert np.isfinite(metrics["trivial"]["confidence"])
