"""The recipe of one's own preprocessing, read from what prepares images for a network today."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from iaside.backend.files import write_text
from iaside.backend.log import log
from iaside.inputs.recipes import RECIPE_FIELDS, WHAT_IT_IS, checked_recipe
from iaside.inputs.sizing import fitter

CLOSE = 0.01  # of a pixel in [0, 1]: two of 255 steps, as resizing tensors or pictures differs by
_SHAPES = ((97, 61), (64, 64), (70, 140))  # of the pictures that a recipe is tried on, times size
_HARMLESS = ("ToTensor", "PILToTensor", "ToImage", "ConvertImageDtype", "ToDtype", "ToPureTensor")
_OF_PILLOW = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by their numbers


def recipe_of(
    model: nn.Module | None = None,
    transform: object = None,
    path: str | os.PathLike | None = None,
    **fields,
) -> dict:
    """Read how a network wants its images from torchvision transforms, timm or transformers.

    model: a network of timm, whose configuration is read where there is no transform;  transform:
    torchvision's ``Compose`` of Resize, CenterCrop, ToTensor and Normalize, or of Grayscale and
    these (also v2, and what ``weights.transforms()`` gives) or a transformers image processor;
    path: where to write the recipe (mine.json, beside mine.pth);  fields: of the recipe that these
    do not say, such as library, architecture and num_classes, or what is to stand in their place.

    The recipe is tried on three pictures of different shapes: stderr says the largest difference of
    a pixel in [0, 1] between the transform and the recipe.
    Errors: ValueError for a step that a recipe cannot say, or a difference above 0.01, unless it is
    a crop that lies one pixel further, as transformers round halves.

    >>> from torchvision import transforms as T
    >>> steps = [T.Resize((64, 64)), T.ToTensor(), T.Normalize([0.5] * 3, [0.5] * 3)]
    >>> recipe_of(transform=T.Compose(steps))["crop_mode"]
    'squash'
    """
    if transform is None:
        found = _of_timm(model)
    elif hasattr(transform, "image_mean"):
        found = _of_processor(transform)
    else:
        found = _of_steps(transform)
    found = found | fields
    if transform is not None:
        _tried(transform, found)
    complete = all(field in found for field in RECIPE_FIELDS)
    needed = {field: "any" for field in WHAT_IT_IS} | {"num_classes": 1}
    checked = checked_recipe(needed | found, "the recipe that was read", given=not complete)
    recipe = {field: value for field, value in checked.items() if field in found}
    if path is not None:
        write_text(path, json.dumps(recipe, indent=1) + "\n")
    return recipe


def _of_timm(model: object) -> dict:
    import timm

    config = getattr(model, "pretrained_cfg", None)
    if not config:
        raise ValueError(
            f"a {type(model).__name__} does not say how it wants its images: give transform=, what "
            "prepares them for it now"
        )
    config = config if isinstance(config, Mapping) else config.to_dict()
    how = timm.data.resolve_data_config(pretrained_cfg=config)
    found = {"library": "timm", "architecture": config["architecture"]}
    found |= {field: how[field] for field in RECIPE_FIELDS[3:]} | {"num_classes": model.num_classes}
    return _plain(found | ({"crop_mode": "squash"} if how["crop_mode"] == "squash" else {}))


def _of_processor(processor) -> dict:
    size, crop = dict(processor.size), dict(getattr(processor, "crop_size", None) or {})
    if not getattr(processor, "do_center_crop", False):
        crop = {}
    if crop:
        side = [crop["height"], crop["width"]]
        resized = size.get("shortest_edge") or size["height"]
        found = {"input_size": [3, *side], "crop_pct": min(side) / resized}
        if not size.get("shortest_edge"):
            found["crop_mode"] = "squash"
    elif "shortest_edge" in size and getattr(processor, "crop_pct", None):  # ConvNeXT's
        side = size["shortest_edge"]
        found = {"input_size": [3, side, side], "crop_pct": processor.crop_pct}
        if side >= 384:
            found |= {"crop_pct": 1.0, "crop_mode": "squash"}
    elif "height" in size:
        found = {"input_size": [3, size["height"], size["width"]], "crop_pct": 1.0}
        found["crop_mode"] = "squash"
    else:
        raise ValueError(
            f"{type(processor).__name__} resizes to size {size} without a crop, so that pictures "
            "differ in size: a recipe needs one"
        )
    how = _OF_PILLOW[int(getattr(processor, "resample", 2))]
    mean, std = list(processor.image_mean), list(processor.image_std)
    return _plain(found | {"mean": mean, "std": std, "interpolation": how})


def _of_steps(transform) -> dict:
    """Of a Compose, or of a preset such as ``weights.transforms()``."""
    if hasattr(transform, "crop_size") and hasattr(transform, "resize_size"):
        side, resized = transform.crop_size[0], transform.resize_size[0]
        how = transform.interpolation.value
        found = {"input_size": [3, side, side], "crop_pct": side / resized, "interpolation": how}
        return _plain(found | {"mean": list(transform.mean), "std": list(transform.std)})
    found, resized, crop, channels = {}, None, None, 3
    for step in getattr(transform, "transforms", [transform]):
        name = type(step).__name__
        if name == "Resize" and resized is None:
            resized, how = step.size, getattr(step.interpolation, "value", step.interpolation)
            found["interpolation"] = how
        elif name == "CenterCrop" and resized is not None:
            crop = step.size
        elif name == "Grayscale" and step.num_output_channels == 1:
            channels = 1
        elif name == "Normalize":
            found |= {"mean": step.mean, "std": step.std}
        elif name not in _HARMLESS:
            raise ValueError(
                f"a recipe has no word for the step {name}: it can say Resize, then CenterCrop, "
                "then Normalize, as in evaluation"
            )
    for field, none in (("mean", 0.0), ("std", 1.0)):  # one number is that of each channel
        found[field] = np.broadcast_to(found.get(field, none), channels).tolist()
    return _plain(found | _cropped(resized, crop, channels))


def _cropped(resized, crop, channels: int) -> dict:
    """Size, share and way of the crop of a Resize (an int, or a pair) and a CenterCrop."""
    pair = list(resized) if isinstance(resized, tuple | list) else [resized]
    if resized is None or (len(pair) == 1 and crop is None):
        raise ValueError(
            "a recipe needs one size for all pictures: Resize((H, W)), or Resize and CenterCrop"
        )
    if crop is None:
        return {"input_size": [channels, *pair], "crop_pct": 1.0, "crop_mode": "squash"}
    crop = list(crop) if isinstance(crop, tuple | list) else [crop] * 2
    squashed = {"crop_mode": "squash"} if len(pair) == 2 else {}
    return {"input_size": [channels, *crop], "crop_pct": min(crop) / min(pair)} | squashed


def _plain(found: dict) -> dict:
    """Numbers and lists as JSON has them."""
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in lists.items()}


def _tried(transform, recipe: dict) -> None:
    """Say how far recipe and transform are apart. Errors: ValueError where that is visible."""
    fit, far, shifted = fitter(recipe, None), 0.0, 0
    mean, std = (torch.tensor(recipe[field]).view(-1, 1, 1) for field in ("mean", "std"))
    side = max(recipe["input_size"][1:])
    draw = np.random.default_rng(0)
    for height, width in _SHAPES:
        small = draw.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        size = (width * side // 48, height * side // 48)
        picture = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
        theirs, ours = _asked(transform, picture) * std + mean, fit(picture)
        if theirs.shape != ours.shape:
            raise ValueError(f"the transform gives {tuple(theirs.shape)}, not {tuple(ours.shape)}")
        apart = (theirs - ours).abs().max().item()
        if apart > CLOSE >= (moved := _moved_apart(theirs, ours)):
            apart, shifted = moved, shifted + 1
        far = max(far, apart)
    if far > CLOSE:
        raise ValueError(
            f"the recipe that was read, {recipe}, gives pixels in [0, 1] that differ from the "
            f"transform's by up to {far:.2g}: give the field that is wrong, such as crop_mode=, or "
            "load images with the transform itself and give ia.explain tensors"
        )
    further = f" ({shifted} of 3 crops lie a pixel further)" if shifted else ""
    log.info(f"recipe and transform: pixels differ by at most {far:.4f}{further}")


def _moved_apart(theirs: Tensor, ours: Tensor) -> float:
    """The difference of two pictures where one is moved by a pixel, whichever way fits best."""
    h, w = (n - 2 for n in ours.shape[1:])
    inner = ours[:, 1:-1, 1:-1]
    moved = (theirs[:, i : i + h, j : j + w] for i in range(3) for j in range(3))
    return min((one - inner).abs().max().item() for one in moved)


def _asked(transform, picture: Image.Image) -> Tensor:
    if hasattr(transform, "image_mean"):
        found = transform(picture, return_tensors="pt")["pixel_values"][0]
    else:
        found = transform(picture)
    return torch.as_tensor(found).float()
