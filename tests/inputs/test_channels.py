"""Networks of one channel, of five, and of other image sizes, from weights to an explanation."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision import models

import iaside as ia
from iaside.inputs.fitting import recipe_for
from iaside.inputs.libraries import recipe_of
from iaside.inputs.sizing import fitter

GREY = {"input_size": [1, 28, 28], "mean": [0.1], "std": [0.3], "num_classes": 2}
GREY |= {"crop_pct": 1.0, "interpolation": "bilinear"}


def linear(channels, side=28):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(channels * side * side, 2))
    return net.eval()


def of_torchvision(channels):
    net = models.resnet18(num_classes=4)
    net.conv1 = torch.nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    return net


def vit(name, **how):
    return lambda: timm.create_model(name, num_classes=4, **how)


FITTED = {  # kind -> the name that is given, the network, its channels and side
    "torchvision, grey": ("resnet18", lambda: of_torchvision(1), 1, 224),
    "timm, five channels": ("test_resnet", lambda: vit("test_resnet", in_chans=5)(), 5, 160),
    "ViT": ("vit_tiny_patch16_224", vit("vit_tiny_patch16_224", img_size=96), 3, 96),
    "distilled, two tokens": (
        "deit_tiny_distilled_patch16_224",
        vit("deit_tiny_distilled_patch16_224", img_size=64),
        3,
        64,
    ),
    "torchvision's name, timm's network": ("efficientnet_b0", vit("efficientnet_b0"), 3, 224),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FITTED)
def test_weights_say_their_classes_channels_and_size(kind, tmp_path):
    name, make, channels, side = FITTED[kind]
    net = make().eval()
    wrapped = {f"module.{key}": value for key, value in net.state_dict().items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "mine.pth")
    model = ia.load_model("mine", weights=tmp_path / "mine.pth", architecture=name)
    assert model.recipe["input_size"] == [channels, side, side]
    assert model.recipe["num_classes"] == 4
    x = torch.rand(1, channels, side, side)
    assert torch.allclose(model(x), net((x - model.mean) / model.std), atol=1e-5)


def test_what_differs_from_the_library_is_said(capsys):
    net = timm.create_model("test_resnet", num_classes=4, in_chans=1)
    recipe = recipe_for("test_resnet", net.state_dict(), "mine.pth")
    said = capsys.readouterr().err
    assert "num_classes 4" in said and "input_size [1, 160, 160]" in said
    assert recipe["mean"] == [pytest.approx(np.mean(recipe_of("test_resnet")["mean"]), abs=1e-6)]


def test_an_architecture_is_for_weights_alone():
    with pytest.raises(ValueError, match="give it with weights= alone"):
        ia.load_model("mine", architecture="resnet18")


def test_a_grey_network_sees_grey_pictures_as_pillow_makes_them(tmp_path):
    draw = np.random.default_rng(0)
    colour = draw.integers(0, 256, (28, 28, 3), dtype=np.uint8)
    fit = fitter(GREY, None)
    as_grey = np.asarray(Image.fromarray(colour).convert("L")) / 255
    for given, apart in ((Image.fromarray(colour), 1e-6), (colour, 0.003), (colour / 255, 0.003)):
        found = fit(given)
        assert found.shape == (1, 28, 28)
        assert np.abs(found[0].numpy() - as_grey).max() < apart
    digit = Image.fromarray(colour[..., 0])
    assert fit(digit).shape == (1, 28, 28)  # no frame: the network is for digits
    assert torch.equal(fit(digit)[0], torch.as_tensor(colour[..., 0]) / 255)


def test_a_grey_network_is_explained_and_reported(tmp_path):
    model = ia.Classifier(linear(1), GREY, "grey")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "digits.npz", images=pixels, labels=np.arange(12) % 2)
    images, labels = ia.load_images(tmp_path / "digits.npz", like=model)
    assert images.shape == (12, 1, 28, 28)
    ia.save_weights(model, tmp_path / "grey.safetensors")
    again = ia.load_model(
        "grey", weights=tmp_path / "grey.safetensors", factory=lambda recipe: linear(1)
    )
    found = ia.explain(again, images, labels, n_bands=3, progress=False)
    np.testing.assert_allclose(found.gain, found.values.sum(0))


def test_five_channels_come_from_arrays():
    recipe = GREY | {"input_size": [5, 28, 28], "mean": [0.5] * 5, "std": [0.5] * 5}
    model = ia.Classifier(linear(5), recipe, "five")
    draw = np.random.default_rng(0)
    pictures = draw.random((6, 28, 28, 5), dtype=np.float32)
    images, labels = ia.load_images((pictures, [0, 1] * 3), like=model)
    assert torch.equal(images, torch.as_tensor(pictures).permute(0, 3, 1, 2))
    assert ia.explain(model, images, labels, n_bands=3, progress=False).psi.n == 6
    with pytest.raises(ValueError, match="takes images of 5 channels, and this one has 3: give ar"):
        ia.load_images([(Image.new("RGB", (28, 28)), 0)], like=model)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mean": [0.5] * 3}, "mean must be one number .*one for each channel"),
        ({"input_size": [5, 28, 28]}, "mean must be 5 numbers"),
        ({"input_size": [0, 28, 28]}, "input_size must be"),
    ],
)
def test_a_recipe_has_a_mean_and_a_std_for_each_channel(wrong, said):
    with pytest.raises(ValueError, match=said):
        ia.Classifier(linear(1), GREY | wrong, "grey")
