"""Untrained controls: calibrated batch norms, bounds of their logits, initialisations as units."""

import warnings

import numpy as np
import pytest
import torch
from made_up import report
from scipy import stats
from torch import nn

from iaside.game.controls import (
    Control,
    UnusableControl,
    calibrated,
    measured_controls,
    untrained_control,
)
from iaside.game.samples import Controls, SampledWorths
from iaside.game.surrogate import draw_pairs, members
from iaside.inputs.classifier import Classifier, load_model
from iaside.inputs.images import load_images
from iaside.shapley import coalitions
from iaside.tables import Worths

RECIPE = {
    "library": "iaside",
    "architecture": "planted",
    "num_classes": 4,
    "input_size": [3, 8, 8],
    "mean": [0.0] * 3,
    "std": [1.0] * 3,
    "crop_pct": 1.0,
    "interpolation": "bilinear",
}


@pytest.mark.slow
def test_lite0_has_the_measured_spread_of_logits(data):
    """docs/methods.md, Controls: 3.0 without and .59 with statistics of 16 photographs."""
    name = "tf_efficientnet_lite0"
    plain = load_model(name, pretrained=False)
    x, _ = load_images(data / "images/photographs", like=plain, n=16, seed=0)
    with torch.no_grad():
        assert plain(x).std().item() == pytest.approx(3.0, rel=0.1)
    control, again = (untrained_control(name, x, seed=0) for _ in range(2))
    assert control.logit_sd == again.logit_sd == pytest.approx(0.59, rel=0.05)
    assert not any(module.training for module in control.model.modules())


def two_norms():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Dropout(0.9),
        nn.Conv2d(5, 4, 3),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return Classifier(net, RECIPE, "planted")


def test_the_statistics_are_those_of_all_images_and_hold_what_differs_between_them():
    """Flat images: all variance is between them, and none within a batch of one of them."""
    level = torch.linspace(0.1, 0.9, 12)
    x = level.view(-1, 1, 1, 1).expand(12, 3, 8, 8).contiguous()
    model = two_norms()
    model.net[1].running_var.fill_(77.0)  # forgotten, not averaged with
    done = calibrated(model, x)
    assert model.net[1].running_var.eq(77).all(), "the model itself stays as it was"
    first, second = done.net[1], done.net[5]
    shown = model.net[0](x).transpose(0, 1).flatten(1)
    assert torch.allclose(first.running_mean, shown.mean(1), atol=1e-6)
    assert torch.allclose(first.running_var, shown.var(1), rtol=1e-4)
    # The second norm sees what the first one, calibrated, lets through: dropout stays off.
    shown = model.net[4](torch.relu(first(model.net[0](x)))).transpose(0, 1).flatten(1)
    assert torch.allclose(second.running_var, shown.var(1), rtol=0.02)
    assert first.momentum == model.net[1].momentum
    assert not any(module.training for module in done.modules())
    turned = calibrated(model, x.flip(0))
    assert torch.allclose(first.running_var, turned.net[1].running_var, rtol=1e-5)


def test_a_network_without_batch_norms_is_only_copied():
    model = load_model("squeezenet1_1", pretrained=False)
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(calibrated(model, x)(x), model(x))


def test_many_images_are_thinned_evenly(monkeypatch):
    monkeypatch.setattr("iaside.game.controls.ONE_BATCH", 3)
    x = torch.rand(9, 3, 8, 8)
    few, all_of_few = calibrated(two_norms(), x), calibrated(two_norms(), x[[0, 4, 8]])
    assert torch.equal(few.net[5].running_var, all_of_few.net[5].running_var)


@pytest.mark.parametrize(
    ("gain", "usable"), [(1e-3, False), (0.02, True), (2.9, True), (3.1, False)]
)
def test_a_control_outside_the_bounds_is_refused_in_one_line(monkeypatch, gain, usable):
    x = torch.rand(8, 3, 8, 8)
    model = two_norms()
    model.net.append(nn.Linear(4, 4))
    model = calibrated(model.eval(), x)
    with torch.no_grad():
        scale = gain / model(x).double().std().item()
        model.net[-1].weight *= scale
        model.net[-1].bias *= scale
    monkeypatch.setattr("iaside.game.controls.load_model", lambda *a, **k: model)
    if usable:
        assert untrained_control("planted", x).logit_sd == pytest.approx(gain, rel=1e-4)
        return
    with pytest.raises(UnusableControl, match=rf"logit sd {gain:.3g} .*seed 5") as error:
        untrained_control("planted", x, seed=5)
    assert "\n" not in str(error.value) and isinstance(error.value, ValueError)


def test_one_image_cannot_calibrate():
    with pytest.raises(ValueError, match="at least 2"):
        calibrated(two_norms(), torch.rand(1, 3, 8, 8))


def test_without_batch_norms_one_image_is_enough():
    plain = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), RECIPE, "planted")
    x = torch.rand(1, 3, 8, 8)
    assert calibrated(plain, x)(x).equal(plain(x))


def sampled(psi, n=40, seed=0):
    """A sample of the additive game with these values, the same for n photographs."""
    rng, M = np.random.default_rng(seed), len(psi)
    codes = np.stack([np.r_[np.uint64([0, 2**M - 1]), draw_pairs(M, 3, rng)] for _ in range(n)])
    image, column = np.indices(codes.shape).reshape(2, -1)
    worths = members(codes, M).astype(float) @ psi
    return SampledWorths(
        image,
        column // 2,
        codes.ravel(),
        {"log_likelihood": worths.ravel()},
        {"values": ["log_likelihood"], "n_bands": M},
    )


def test_controls_come_back_from_disk_with_a_column_per_initialisation(tmp_path):
    planted = np.random.default_rng(1).normal(size=(3, 5))
    controls = Controls([sampled(psi, seed=k) for k, psi in enumerate(planted.T)], [0.5] * 5)
    controls.save(tmp_path / "net-untrained.npz")
    back = Controls.load(tmp_path / "net-untrained.npz")
    assert back.values.shape == (3, 5) and back.logit_sd == [0.5] * 5 and not back.refused
    assert np.array_equal(back.values, controls.values)
    assert np.allclose(back.values, planted, atol=0.05)


def test_one_refused_initialisation_refuses_the_network(monkeypatch):
    def control(name, images, seed, **network):
        assert network == {"weights": "w"}
        if seed == 12:
            raise UnusableControl("no usable control: logit sd 5 (seed 12)")
        return Control(f"net{seed}", 0.1 * seed)

    monkeypatch.setattr("iaside.game.controls.untrained_control", control)
    made = []

    def game(model, seed):
        made.append((model, seed))
        return sampled(np.ones(3), seed=seed)

    good = measured_controls(game, "net", None, range(7, 12), weights="w")
    assert made == [(f"net{k}", k) for k in range(7, 12)]
    assert len(good.samples) == 5 and good.logit_sd == pytest.approx([0.7, 0.8, 0.9, 1.0, 1.1])
    refused = measured_controls(game, "net", None, range(9, 14), weights="w")
    assert refused.samples == [] and refused.refused == "no usable control: logit sd 5 (seed 12)"


def test_chance_is_not_warned_of_once_for_each_initialisation(monkeypatch):
    monkeypatch.setattr(
        "iaside.game.controls.untrained_control",
        lambda name, images, seed, **network: Control("net", 1.0),
    )

    def game(model, seed):
        warnings.warn("not clearly better than chance: 4 classes", RuntimeWarning, stacklevel=2)
        warnings.warn(f"something else {seed}", RuntimeWarning, stacklevel=2)
        return sampled(np.ones(3), seed=seed)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        measured_controls(game, "net", None, range(2))
    assert [str(w.message) for w in told] == ["something else 0", "something else 1"]


def test_a_refusal_comes_back_from_disk_and_other_files_do_not(tmp_path):
    Controls([], [], "no usable control: logit sd 7").save(tmp_path / "a.npz")
    back = Controls.load(tmp_path / "a.npz")
    assert back.samples == [] and back.refused == "no usable control: logit sd 7"
    sampled(np.ones(3)).save(tmp_path / "b.npz")  # as one initialisation used to be kept
    with pytest.raises(ValueError, match="b.npz cannot be read as untrained controls"):
        Controls.load(tmp_path / "b.npz")
    with pytest.raises(FileNotFoundError, match="measure them"):
        Controls.load(tmp_path / "c.npz")
    with pytest.raises(ValueError, match="or refused"):
        Controls([], [])


# -- what is said of them: the initialisation is the unit ------------------------------------------

M, N, V_ALL = 3, 12, 6.0
MODELS = {name: {"name": name} for name in ("flat", "steep", "exploded", "blind")}
NOTHING = {"blind"}  # v(all) - v(none) may be 0
UNIFORM = np.array([[0.05], [-0.02], [0.0]])  # within 5 % of v(all), which is 0.3
STEEP = np.array([[1.0], [0.0], [-0.4]])


def write_worths(root, name, controls):
    rng = np.random.default_rng(len(name))
    values = np.array([[4.0], [1.5], [0.5]]) + 0.3 * rng.normal(size=(M, N))
    values *= V_ALL / values.mean(1).sum()
    if name in NOTHING:  # every photograph has an opposite, all but exactly
        values = np.c_[values[:, ::2], -values[:, ::2]] + 1e-3
    table = -7 + coalitions(M).astype(float) @ values
    about = {
        "values": ["log_likelihood", "accuracy", "probability"],
        "n_bands": M,
        "classes": 1000,
        "parameters": 1e6,
        "precision": "float32",
        "engine": "openvino 1",
        "device": "cpu",
        "chosen": list(range(N)),
        "band_energy": [0.6, 0.3, 0.1],
        "labels": "the same",
        "absence": "zero",
    }
    tables = {
        "log_likelihood": table,
        "accuracy": (table > -3).astype(float),
        "probability": np.exp(table),
    }
    if name in NOTHING:  # nor probability
        tables["probability"] = 0.5 + (table + 7) / 100
    folder = root / "results/worths/tables"
    Worths(tables, about).save(folder / f"{name}-trained.npz")
    published = about | {"values": ["log_likelihood"]}
    Worths({"log_likelihood": table}, published).save(folder / f"{name}-published.npz")
    sample = sampled(np.ones(M), n=N)
    sample.tables = {"log_likelihood": table[sample.coalition.astype(int), sample.image]}
    sample.provenance |= {"engine": "torch"}
    sample.save(folder / f"{name}-other_engine.npz")
    controls.save(folder / f"{name}-untrained.npz")


def drawn(psi, n, scatter=0.02):
    """Controls of n initialisations around these values; their exact values, (M, n)."""
    exact = psi + scatter * np.random.default_rng(7).normal(size=(M, n))
    return Controls([sampled(p, n=N, seed=k) for k, p in enumerate(exact.T)], [0.6] * n)


def importance(tmp_path, normalise="minmax", **controls):
    (tmp_path / "params.yaml").write_text("")
    for name, control in controls.items():
        write_worths(tmp_path, name, control)
    models = {m: MODELS[m] for m in controls}
    return report(tmp_path, "30_importance", models=models, n_beta=2, normalise=normalise)


REFUSED = Controls([], [], "no usable control: logit sd 7.1 of untrained exploded (seed 0)")


@pytest.mark.slow
def test_untrained_networks_are_judged_over_initialisations(tmp_path):
    controls = drawn(UNIFORM, 5)
    found, metrics = importance(tmp_path, exploded=REFUSED, flat=controls)
    claim = found["untrained_uniform"]
    assert claim["verdict"] == "supported" and claim["n"] == 5
    assert claim["unit"] == "initialisations" and "no usable control of exploded" in claim["note"]
    assert [p["part"] for p in claim["parts"]] == [f"flat, band {i}" for i in range(M)]
    shares = controls.values / V_ALL
    errors, spread = shares.std(axis=1, ddof=1) / 5**0.5, np.linalg.eigvalsh(np.cov(shares))
    of_all = 4 * spread.sum() ** 2 / (spread**2).sum()  # degrees of freedom of the mean variance
    pooled = stats.t.ppf(0.975, of_all) * (errors**2).mean() ** 0.5
    for part, each, error in zip(claim["parts"], shares, errors, strict=True):
        # 5 initialisations, not 12 photographs: Student's t with 4 degrees of freedom, at least as
        # far as the bands reach on the whole, and what the worth of the trained network is not
        # known to adds a little
        reach = max(stats.t.ppf(0.975, 4) * error, pooled)
        assert part["value"] == pytest.approx(each.mean(), rel=1e-4)
        assert reach * 0.999 < part["high"] - part["value"] < 1.1 * reach
        assert part["n"] == 5
    assert metrics["flat"]["untrained"]["initialisations"] == 5
    assert metrics["flat"]["untrained"]["logit_sd"] == [0.6] * 5
    assert metrics["exploded"]["untrained"]["refused"].startswith("no usable control: logit sd 7.1")


@pytest.mark.slow
def test_one_untrained_network_with_a_preference_contradicts(tmp_path):
    found, _ = importance(tmp_path, flat=drawn(UNIFORM, 5), steep=drawn(STEEP, 5))
    assert found["untrained_uniform"]["verdict"] == "contradicted"
    assert "steep, band 0" in found["untrained_uniform"]["note"]


@pytest.mark.slow
def test_initialisations_that_disagree_or_are_few_decide_nothing(tmp_path):
    found, _ = importance(tmp_path, flat=drawn(UNIFORM, 5, scatter=1.0))
    assert found["untrained_uniform"]["verdict"] == "undecided"
    found, metrics = importance(tmp_path, flat=drawn(UNIFORM, 2))
    assert found["untrained_uniform"]["verdict"] == "undecided", "two, on however many photographs"
    assert metrics["flat"]["untrained"]["psi"]["low"] == [None] * M


def test_a_study_without_any_usable_control_has_its_report(tmp_path):
    found, metrics = importance(tmp_path, exploded=REFUSED)
    assert "untrained_uniform" not in found and "trained_nonuniform" in found
    assert metrics["exploded"]["untrained"]["initialisations"] == 0


SHARES = ["trained_nonuniform", "low_bands_preferred", "least_squares_efficient"]


def test_a_study_of_networks_that_see_nothing_has_its_report_and_decides_no_share(tmp_path):
    found, metrics = importance(tmp_path, blind=drawn(UNIFORM, 5))
    for claim in [*SHARES, "untrained_uniform"]:
        row = found[claim]
        assert row["verdict"] == "undecided" and row["value"] is None, claim
        assert "v(all) - v(none) may be 0: blind" in row["note"], claim
    assert found["efficiency"]["verdict"] == "supported", "it is a matter of rounding, not of worth"
    assert abs(metrics["blind"]["gain"]) < 0.01


@pytest.mark.slow
def test_a_network_that_sees_nothing_is_not_dropped_from_the_claims_about_all(tmp_path):
    found, _ = importance(tmp_path, flat=drawn(UNIFORM, 5), blind=drawn(UNIFORM, 5))
    for claim in SHARES:
        parts = {p["part"]: p["verdict"] for p in found[claim]["parts"]}
        assert set(parts) == {"flat", "blind"} and parts["blind"] == "undecided", claim
        assert "v(all) - v(none) may be 0: blind" in found[claim]["note"], claim
    assert found["trained_nonuniform"]["verdict"] == "undecided"
    assert found["trained_nonuniform"]["parts"][0]["verdict"] == "supported"
    twins = found["untrained_uniform"]
    assert twins["verdict"] == "undecided" and len(twins["parts"]) == 2 * M
    assert {p["value"] for p in twins["parts"] if "blind" in p["part"]} == {None}


@pytest.mark.slow
def test_claims_about_the_papers_sid_do_not_depend_on_the_one_that_is_drawn(tmp_path):
    rows = []
    for normalise in ("minmax", "positive"):
        root = tmp_path / normalise
        root.mkdir()
        rows.append(importance(root, flat=drawn(UNIFORM, 5), normalise=normalise)[0])
    assert rows[0]["sid_linear"] == rows[1]["sid_linear"]
