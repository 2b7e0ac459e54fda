"""Profiles: what is measured of a network, against direct computation; the notebooks' functions."""

import json

import pytest
import torch
import torch.nn.functional as F

from iaside.inputs.classifier import load_model
from iaside.tables import CORRUPTIONS, Condition
from iaside.training import plans, profiles
from iaside.training.data import Data, complete
from iaside.training.profiles import (
    ATTACKS,
    answers,
    bias_of,
    checkpoints,
    conditions_of,
    gradient_spectra,
)
from iaside.training.training import train_network

NETWORKS = "results/training/networks/p"
SETTINGS = dict(
    seed=0,
    n_images=8,
    n_attack=4,
    n_bands=2,
    metric="linf",
    severities=[1],
    noise_sigma=[0.1],
    attack_eps=[0.05],
    strong_eps=[0.05],
    band_noise=0.1,
    band_eps=0.05,
    precision="float32",
    engine="torch",
    batch_size=None,
)
SHARED = dict(
    images="set",
    classes=None,
    side=32,
    held_out=0.5,
    epochs=3,
    batch=10,
    lr=0.05,
    schedule="cosine",
    momentum=0.9,
    weight_decay=0,
    flip=False,
    eps=8,
    steps=2,
    warm_up=0,
    precision="float32",
)


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 120, (40, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.arange(40) % 2
    images[labels == 1, 0] += 100
    return Data(images[:20], labels[:20], images[20:], labels[20:])


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    for name, settings in plans.networks({"p": {"architecture": "small_cnn", "every": 1}}).items():
        of = complete(settings, SHARED)
        folder = root / NETWORKS / name
        train_network(name, of, data, folder, root / "partial")
        (folder / "settings.json").write_text(json.dumps(of))
    return root


@pytest.fixture(scope="module")
def measured(trained, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        patch.setattr(profiles, "load_data", lambda settings, seed: data)
        # the library of corruptions takes seconds to start: noise stands for all of them
        patch.setattr(profiles, "CORRUPTIONS", ())
        places = NETWORKS, "results/profiles/tables/p", ".partial/profiles-p"
        profiles.measure_plan(["small_cnn-seed0"], *places, SETTINGS, "cpu", 1, False)
        own = {"p": {"architecture": "small_cnn", "every": 1}}
        return plans.load_profiles(own)["small_cnn-seed0"]


def test_every_checkpoint_is_measured_and_the_last_is_the_final_one(trained, measured, data):
    folder = trained / NETWORKS / "small_cnn-seed0"
    found = checkpoints(folder)
    assert list(found) == measured.epochs == [1, 2, 3] and found[3].stem == "final"
    accuracy = [row["held_out_accuracy"] for row in measured.log]
    assert measured.answers["correct"].mean(1) == pytest.approx(accuracy)
    assert (-measured.answers["log_likelihood"]).mean(1) == pytest.approx(
        [row["held_out_loss"] for row in measured.log], rel=1e-5
    )
    for k, epoch in enumerate(measured.epochs):  # the full coalition is the image itself
        shown = measured.answers["log_likelihood"][k, measured.answers["chosen"]]
        assert measured.worths[epoch].table[-1] == pytest.approx(shown, abs=1e-3)
    clean = measured.responses.tables["correct"][0]
    assert (clean == measured.answers["correct"][-1, measured.answers["chosen"]]).all()
    assert len(measured.responses.measured_images(measured.responses.rows("pgd"))) == 4


def test_what_is_attacked_is_stratified(measured, data):
    labels = data.held_labels[measured.answers["chosen"]]
    assert labels.bincount().tolist() == [4, 4] and labels[:4].bincount().tolist() == [2, 2]


@pytest.mark.slow
def test_measuring_again_gives_equal_bytes(trained, measured, data, monkeypatch):
    monkeypatch.chdir(trained)
    monkeypatch.setattr(profiles, "load_data", lambda settings, seed: data)
    monkeypatch.setattr(profiles, "CORRUPTIONS", ())
    places = NETWORKS, "again", "other"
    profiles.measure_plan(["small_cnn-seed0"], *places, SETTINGS, "cpu", 1, False)
    first = trained / "results/profiles/tables/p/small_cnn-seed0"
    assert {p.name for p in first.iterdir()} == {
        "answers.npz",
        "responses.npz",
        "final.npz",
        "epoch-001.npz",
        "epoch-002.npz",
    }
    for path in first.iterdir():
        assert (trained / "again/small_cnn-seed0" / path.name).read_bytes() == path.read_bytes()


def test_gradient_spectra_are_those_of_each_image(trained, measured, data):
    model = load_model("m", trained / NETWORKS / "small_cnn-seed0/final.safetensors")
    spectra = gradient_spectra(model, data.held_images, data.held_labels)
    x = (data.held_images[7:8].float() / 255).requires_grad_()
    F.cross_entropy(model(x), data.held_labels[7:8]).backward()
    one = torch.fft.rfft2(x.grad[0]).abs().mean(0).double()
    assert torch.allclose(spectra[7], one, rtol=1e-3, atol=1e-8)
    assert measured.answers["gradient"] == pytest.approx(spectra.mean(0).numpy(), rel=1e-5)
    correct, log_p = answers(model, data.held_images, data.held_labels, "float32")
    assert (correct == measured.answers["correct"][-1]).all() and (log_p <= 0).all()


def test_bias_knows_no_scale_and_says_where_there_is_no_gradient():
    white = torch.ones(2, 32, 17, dtype=torch.float64)
    assert bias_of(white) == pytest.approx(3.52, abs=0.05)  # docs/methods.md, Penalties
    assert bias_of(1e-12 * white).tolist() == pytest.approx(bias_of(white).tolist())
    assert bias_of(torch.stack([white[0], 0 * white[0]])).isnan().tolist() == [False, True]


def test_conditions_are_all_kinds_once():
    found = conditions_of(SETTINGS | {"severities": [1, 5], "n_bands": 3})
    assert len(found) == len(set(found)) == 15 * 2 + 1 + 3 + 2 + 3 + 1
    assert {c.source for c in found} == {*CORRUPTIONS, "white_noise", *ATTACKS}
    assert Condition("pgd", 0.05, 2) in found


def test_what_cannot_be_measured_is_said(trained, data, monkeypatch):
    monkeypatch.chdir(trained)
    monkeypatch.setattr(profiles, "load_data", lambda settings, seed: data)
    places = NETWORKS, "out", "partial"
    with pytest.raises(FileNotFoundError, match="no finished network in .*68_training"):
        profiles.measure_plan(["other"], *places, SETTINGS, "cpu", 1, False)
    with pytest.raises(ValueError, match="n_attack=4 of n_images=50 of 20 held-out images"):
        profiles.measure_plan(
            ["small_cnn-seed0"], *places, SETTINGS | {"n_images": 50}, "cpu", 1, False
        )
