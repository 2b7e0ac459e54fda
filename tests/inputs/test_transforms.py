"""Recipes read from what people have: pixels are the same, or the difference is told."""

import json
import types

import pytest
import timm
import torch
from PIL import Image
from torchvision import models
from torchvision import transforms as T
from torchvision.transforms import v2

import iaside as ia
from iaside.inputs.sizing import fitter
from iaside.inputs.transforms import _tried

NORM = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HOW = T.InterpolationMode


def composed(*steps, kind=T):
    last = [kind.ToTensor()] if kind is T else [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    return kind.Compose([*steps, *last, kind.Normalize(*NORM)])


KINDS = {
    "squash": composed(T.Resize((64, 64))),
    "squash to another shape": composed(T.Resize((48, 80), HOW.BICUBIC)),
    "shorter side and crop": composed(T.Resize(72), T.CenterCrop(64)),
    "bicubic": composed(T.Resize(64, HOW.BICUBIC), T.CenterCrop(64)),
    "v2": composed(v2.Resize(72), v2.CenterCrop(64), kind=v2),
    "torchvision's own": models.get_model_weights("resnet18").DEFAULT.transforms(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_prepares_images_as_the_transform_does(kind, capsys):
    recipe = ia.recipe_of(transform=KINDS[kind])
    assert "at most 0.0000" in capsys.readouterr().err
    assert ("crop_mode" in recipe) == ("squash" in kind)


def test_squashing_is_told_from_cropping_by_pixels():
    wrong = ia.recipe_of(transform=KINDS["squash"]) | {"crop_mode": "center"}
    with pytest.raises(ValueError, match="differ from the transform's by up to [1-9]"):
        _tried(KINDS["squash"], wrong)


def test_what_a_recipe_cannot_say_is_named():
    for steps, said in (
        ([T.Resize(64)], "one size for all"),
        ([T.Resize((64, 64)), T.RandomHorizontalFlip()], "RandomHorizontalFlip"),
        ([T.Resize((64, 64)), T.Grayscale(3)], "Grayscale"),
    ):
        with pytest.raises(ValueError, match=said):
            ia.recipe_of(transform=composed(*steps))
    with pytest.raises(ValueError, match="Linear does not say how it wants its images"):
        ia.recipe_of(torch.nn.Linear(2, 2))


def test_a_timm_network_says_it_itself():
    net = timm.create_model("resnet18", pretrained=False, num_classes=7)
    recipe = ia.recipe_of(net)
    assert recipe["library"] == "timm" and recipe["num_classes"] == 7
    assert recipe["input_size"] == [3, 224, 224] and 0.8 < recipe["crop_pct"] <= 1


@pytest.mark.parametrize("crop", [True, False])
def test_a_processor_of_transformers_is_read(crop):
    """A stand-in with the attributes of its image processors."""
    size = {"shortest_edge": 72} if crop else {"height": 64, "width": 64}
    about = dict(size=size, do_center_crop=crop, crop_size={"height": 64, "width": 64})
    about |= dict(image_mean=NORM[0], image_std=NORM[1], resample=Image.Resampling.BICUBIC)

    class Processor(types.SimpleNamespace):
        def __call__(self, picture, return_tensors):
            resize = T.Resize(72 if crop else (64, 64), HOW.BICUBIC)
            steps = composed(resize, *([T.CenterCrop(64)] * crop))
            return {"pixel_values": steps(picture)[None]}

    recipe = ia.recipe_of(transform=Processor(**about))
    assert recipe["interpolation"] == "bicubic" and ("crop_mode" in recipe) != crop


def test_the_file_beside_the_weights_loads_them(tmp_path):
    net = models.resnet18(num_classes=5)
    torch.save(net.state_dict(), tmp_path / "mine.pth")
    named = {"library": "torchvision", "architecture": "resnet18", "num_classes": 5}
    ia.recipe_of(transform=KINDS["squash"], path=tmp_path / "mine.json", **named)
    assert json.loads((tmp_path / "mine.json").read_text())["crop_mode"] == "squash"
    model = ia.load_model("mine", weights=tmp_path / "mine.pth")
    picture = Image.new("RGB", (90, 70), (200, 30, 90))
    own = KINDS["squash"](picture)
    with torch.no_grad():
        assert torch.allclose(
            model(fitter(model.recipe, None)(picture)[None]), net.eval()(own[None])
        )
