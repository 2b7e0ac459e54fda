"""Every network of the papers' studies, from the file that torchvision downloads to its results."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from iaside.attribution.maps import attribute
from iaside.game.controls import LOGIT_SD, UnusableControl, calibrated, untrained_control
from iaside.game.exact import coalition_worths
from iaside.inputs import libraries
from iaside.inputs.classifier import Classifier, load_model, save_weights
from iaside.inputs.folding import folded
from iaside.inputs.images import load_images
from iaside.robustness.responses import responses
from iaside.spectral import band_masks
from iaside.study.overlays import read_study
from iaside.tables import Condition

STUDIES = sorted((Path(__file__).resolve().parents[2] / "studies").glob("paper*.yaml"))
NAMES = sorted(
    {
        entry["name"]
        for study in STUDIES
        for entry in read_study(study)["models"].values()
        if entry["name"] in torchvision.models.list_models()
    }
)
NO_SCALE = {"alexnet", "vgg11", "vgg16", "vgg19"}  # without norms: some initialisations are refused


def test_they_are_twenty_and_one_more():
    """Without the transformer of timm, whose weights lie in another cache."""
    assert len(NAMES) == 21


def put_into_the_hubs_cache(name, folder, random, images):
    """Random weights that answer, batch norms fit to the images, in torchvision's whole network."""
    own = calibrated(Classifier(random.net, libraries.recipe_of(name), name), images)
    state = own.net.state_dict()
    if name in libraries._AUXILIARY:  # their published files have the heads for training too
        net = torchvision.models.get_model(name, weights=None, init_weights=False)
        state = net.state_dict() | state
    url = torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
    path = folder / "hub" / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    return own


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*not clearly better than chance:RuntimeWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_network_goes_all_the_way(data, name, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    random = load_model(name, pretrained=False)
    images, labels = load_images("photographs", like=random, n=2)
    made = put_into_the_hubs_cache(name, tmp_path, random, images)
    save_weights(load_model(name, packaged=False), tmp_path / f"{name}.safetensors")
    own = load_model(name, weights=tmp_path / f"{name}.safetensors")
    with torch.no_grad():
        logits = made(images)
        assert torch.equal(own(images), logits) and logits.isfinite().all()
    model = folded(own)

    with contextlib.suppress(UnusableControl) if name in NO_SCALE else contextlib.nullcontext():
        assert untrained_control(name, images, seed=1, packaged=False).logit_sd > LOGIT_SD[0]

    images, labels, logits = images[:1], labels[:1], logits[:1]  # two were for the batch norms
    masks = band_masks(2, images.shape[-2:])
    how = {"batch_size": 2, "progress": False}
    game = coalition_worths(model, images, labels, masks, ["log_likelihood", "accuracy"], **how)
    expected = logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
    np.testing.assert_allclose(game.table[-1], expected, atol=1e-3)
    assert game.table.shape == (4, 1) and np.ptp(game.table, axis=0).min() > 0

    # So small a step that the slope decides, as random networks are anything but straight.
    attacked = responses(
        model, images, labels, [Condition("fgsm", 1e-4, -1)], masks, workers=1, **how
    )
    clean, fgsm = attacked.tables["log_likelihood"]
    assert not attacked.tables["no_gradient"].any() and (fgsm < clean).all()

    heat = attribute(model, images, labels, "fampe", steps=2, samples=1, batch_size=2)
    assert heat.isfinite().all() and (heat.flatten(1).abs().amax(1) > 0).all()
