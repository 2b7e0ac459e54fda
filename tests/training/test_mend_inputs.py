"""Mending takes images and deployments as people have them: in every form the same diagnosis."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import iaside as ia
from iaside.inputs.classifier import Classifier
from iaside.training.answers import answers

SIDE, BAND, N = 16, 6, 60
HOW = {"epochs": 1, "lr": 0.01, "batch": 20, "progress": False}


def wave(size):
    """A wave of the band, (3, SIDE, SIDE), of that amplitude."""
    ramp = torch.arange(SIDE) / SIDE
    return (size * torch.sin(2 * torch.pi * BAND * ramp)).expand(3, SIDE, SIDE)


def pictures(seed=0, n=N):
    """Whole bytes, as files have them, in which the sign of the wave tells the class."""
    y = torch.arange(n) % 2
    x = 0.5 + 0.02 * torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    x = x + (2.0 * y - 1)[:, None, None, None] * wave(0.1)
    return (x * 255).round() / 255, y


def blurred(x):
    """The wave is gone, and nothing else that matters."""
    masks = ia.band_masks(8, (SIDE, SIDE))
    kept = ia.split_bands(x, masks)
    return ((x - kept[BAND]).clamp(0, 1) * 255).round() / 255


@pytest.fixture(scope="module")
def net():
    """It looks at the wave alone, and at its mean where there is none: class 0 then."""
    made = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    with torch.no_grad():
        made[1].weight[:] = torch.stack([-wave(0.5), wave(0.5)]).flatten(1)
        made[1].bias[:] = torch.tensor([0.3, -0.3])
    return made.eval()


def written(folder, x, labels=None):
    """Pictures as files, in class folders where there are labels."""
    for k, picture in enumerate(x):
        place = folder if labels is None else folder / str(int(labels[k]))
        place.mkdir(parents=True, exist_ok=True)
        pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(place / f"{k:03d}.png")
    return folder


X, Y = pictures()
PIXELS = (X * 255).round().byte().permute(0, 2, 3, 1).numpy()
FORMS = {
    "loader": lambda _: (DataLoader(TensorDataset(X, Y), batch_size=7),),
    "data set": lambda _: (TensorDataset(X, Y),),
    "arrays": lambda _: (PIXELS, Y.numpy()),
    "floats": lambda _: (X.numpy(), Y.tolist()),
    "PIL": lambda _: ([Image.fromarray(p) for p in PIXELS], Y.tolist()),
    "names": lambda _: (PIXELS, ["dog" if k else "cat" for k in Y.tolist()]),
    "pair": lambda _: ((PIXELS, Y.tolist()),),
}


@pytest.fixture(scope="module")
def expected(net):
    return ia.mend(net, X, Y, deployment=blurred, **HOW)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_images_is_mended_alike(net, expected, form, tmp_path):
    found = ia.mend(net, *FORMS[form](tmp_path), deployment=blurred, **HOW)
    assert found.diagnosis.damage == pytest.approx(expected.diagnosis.damage, abs=1e-5)
    assert found.changes == expected.changes
    for one, other in zip(found.model.parameters(), expected.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_folder_of_classes_is_read_by_the_recipe(net, tmp_path):
    """In the order of the folders, so that others are held out: the diagnosis is of these."""
    big = nn.functional.interpolate(X, scale_factor=2, mode="nearest")
    folder = written(tmp_path, big, Y)
    size = {"input_size": [3, SIDE, SIDE], "num_classes": 2}
    recipe = {"library": "iaside", "architecture": "none", "mean": [0.0] * 3, "std": [1.0] * 3}
    recipe |= size | {"crop_pct": 1.0, "interpolation": "bilinear"}
    model = Classifier(net, recipe, "mine")
    found = ia.mend(model, folder, deployment=blurred, **HOW)
    assert isinstance(found.model, Classifier) and found.diagnosis.band == BAND
    assert found.changes["clean"].gain.n == 12
    with pytest.raises(ValueError, match="labels of its own: leave labels out"):
        ia.mend(model, folder, Y, deployment=blurred, **HOW)
    named = ia.mend(model, folder, deployment=blurred, classes={"0": 1, "1": 0}, **HOW)
    assert named.changes["clean"].before.value == 0 and found.changes["clean"].before.value == 1


OTHERS, THEIRS = pictures(seed=1, n=40)


def deployed(net, folder):
    return ia.mend(net, X, Y, deployment=folder, **HOW)


def test_pairs_are_judged_by_the_class_of_the_clean_picture(net, tmp_path):
    """The right answers are known, so that what it says of pairs is what labels would say."""
    written(tmp_path / "clean", OTHERS)
    written(tmp_path / "degraded", blurred(OTHERS))
    found = deployed(net, tmp_path)
    assert found.diagnosis.band == BAND
    assert found.diagnosis.survival[BAND] == pytest.approx(0.5, abs=0.05)  # gone: s / (1 + s)
    change = found.changes["deployment"]
    assert change.before.n == change.gain.n == 20 and change.before.value == 0.5
    there = answers(found.model, blurred(OTHERS), THEIRS)[0]
    assert abs(change.after.value - there.mean()) < 0.2


def test_of_pairs_it_is_known_what_became_of_each_picture(net, tmp_path):
    """The wave is turned over: its energy is as before, and nothing of it is left."""
    turned = OTHERS - 2 * ia.split_bands(OTHERS, ia.band_masks(8, (SIDE, SIDE)))[BAND]
    written(tmp_path / "clean", OTHERS)
    written(tmp_path / "degraded", turned)
    found = deployed(net, tmp_path)
    assert found.diagnosis.survival[BAND] == pytest.approx(0.2, abs=0.02)  # s / (s + 4 s)
    assert found.changes["deployment"].before.value == 0


def test_degraded_pictures_alone_are_judged_by_their_labels(net, tmp_path):
    found = deployed(net, written(tmp_path, blurred(OTHERS), THEIRS))
    assert found.diagnosis.band == BAND and found.diagnosis.survival[BAND] == pytest.approx(
        0.5, abs=0.05
    )
    assert found.changes["deployment"].before.value == 0.5
    assert found.changes["deployment"].before.n == 20
    wrong = deployed(net, written(tmp_path / "turned", blurred(OTHERS), 0 * THEIRS))
    assert wrong.changes["deployment"].before.value == 1


def test_each_picture_is_judged_by_its_own_label(net, tmp_path):
    weaker = OTHERS - 0.8 * ia.split_bands(OTHERS, ia.band_masks(8, (SIDE, SIDE)))[BAND]
    found = deployed(net, written(tmp_path, weaker, THEIRS))
    assert found.changes["deployment"].before.value == 1 and found.diagnosis.band == BAND


def test_without_labels_it_is_mended_and_no_gain_is_claimed(net, tmp_path):
    found = deployed(net, written(tmp_path, blurred(OTHERS)))
    assert found.diagnosis.band == BAND and list(found.changes) == ["clean"]
    assert "no labels, so what it gains there is not known" in str(found)
    assert list(found.to_frame().index) == ["clean"]


def test_pictures_of_the_folder_are_held_out_by_halves(net, tmp_path, monkeypatch):
    """What is diagnosed is not what is judged, and neither is trained on."""
    from iaside.training import answers as module

    seen = []
    real = module.survival_of_spectra
    monkeypatch.setattr(
        module, "survival_of_spectra", lambda c, d: seen.append(np.array(d)) or real(c, d)
    )
    marked = blurred(OTHERS)
    folder = written(tmp_path, marked, THEIRS)
    deployed(net, folder)
    order = torch.tensor(module.stratified_order(sorted(THEIRS.tolist()), 0))
    ordered = torch.cat([marked[THEIRS == 0], marked[THEIRS == 1]])
    half = ia.band_energy(ordered[order[:20]], ia.band_masks(8, (SIDE, SIDE))).mean(1)
    assert seen[0] == pytest.approx(half.numpy(), rel=1e-4)


def test_too_few_or_unchanged_pictures_are_refused_before(net, tmp_path):
    with pytest.raises(ValueError, match="the deployment few has 9 pictures; 5 to diagnose"):
        deployed(net, written(tmp_path / "few", OTHERS[:9], THEIRS[:9]))
    with pytest.raises(ValueError, match="the deployment four has 4 pictures"):
        deployed(net, written(tmp_path / "four", OTHERS[:4]))
    for kind in ("clean", "degraded"):
        written(tmp_path / "same" / kind, OTHERS)
    with pytest.raises(ValueError, match="the deployment same changes no image"):
        deployed(net, tmp_path / "same")
    with pytest.raises(FileNotFoundError, match="no images at 'nowhere'"):
        deployed(net, "nowhere")
