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

CLOSE = 0.02  # of a normalised pixel: 1/255 over a standard deviation of 0.2
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
    torchvision's ``Compose`` of Resize, CenterCrop, ToTensor and Normalize (also v2 and what
    ``weights.transforms()`` gives) or a transformers image processor;  path: where to write the
    recipe (mine.json, beside mine.pth);  fields: of the recipe that these do not say, such as
    library, architecture and num_classes, or what is to stand in their place.

    The recipe is tried on three pictures of different shapes: stderr says the largest difference of
    a normalised pixel between the transform and the recipe.
    Errors: ValueError for a step that a recipe cannot say, or a difference above 0.02.

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
    found, resized, crop = {"mean": [0.0] * 3, "std": [1.0] * 3}, None, None
    for step in getattr(transform, "transforms", [transform]):
        name = type(step).__name__
        if name == "Resize" and resized is None:
            resized, how = step.size, getattr(step.interpolation, "value", step.interpolation)
            found["interpolation"] = how
        elif name == "CenterCrop" and resized is not None:
            crop = step.size
        elif name == "Normalize":
            found |= {"mean": list(step.mean), "std": list(step.std)}
        elif name not in _HARMLESS:
            raise ValueError(
                f"a recipe has no word for the step {name}: it can say Resize, then CenterCrop, "
                "then Normalize, as in evaluation"
            )
    return _plain(found | _cropped(resized, crop))


def _cropped(resized, crop) -> dict:
    """Size, share and way of the crop of a Resize (an int, or a pair) and a CenterCrop."""
    pair = list(resized) if isinstance(resized, tuple | list) else [resized]
    if resized is None or (len(pair) == 1 and crop is None):
        raise ValueError(
            "a recipe needs one size for all pictures: Resize((H, W)), or Resize and CenterCrop"
        )
    if crop is None:
        return {"input_size": [3, *pair], "crop_pct": 1.0, "crop_mode": "squash"}
    crop = list(crop) if isinstance(crop, tuple | list) else [crop] * 2
    squashed = {"crop_mode": "squash"} if len(pair) == 2 else {}
    return {"input_size": [3, *crop], "crop_pct": min(crop) / min(pair)} | squashed


def _plain(found: dict) -> dict:
    """Numbers and lists as JSON has them."""
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in lists.items()}


def _tried(transform, recipe: dict) -> None:
    """Say how far recipe and transform are apart. Errors: ValueError where that is visible."""
    fit, far = fitter(recipe, None), 0.0
    mean, std = (torch.tensor(recipe[field]).view(3, 1, 1) for field in ("mean", "std"))
    side = max(recipe["input_size"][1:])
    draw = np.random.default_rng(0)
    for height, width in _SHAPES:
        small = draw.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        size = (width * side // 48, height * side // 48)
        picture = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
        theirs, ours = _asked(transform, picture), (fit(picture) - mean) / std
        if theirs.shape != ours.shape:
            raise ValueError(f"the transform gives {tuple(theirs.shape)}, not {tuple(ours.shape)}")
        far = max(far, (theirs - ours).abs().max().item())
    if far > CLOSE:
        raise ValueError(
            f"the recipe that was read, {recipe}, gives pixels that differ from the transform's by "
            f"up to {far:.2g} (normalised): give the field that is wrong, such as crop_mode=, or "
            "load images with the transform itself and give ia.explain tensors"
        )
    log.info("recipe and transform: pixels differ by at most %.4f", far)


def _asked(transform, picture: Image.Image) -> Tensor:
    if hasattr(transform, "image_mean"):
        found = transform(picture, return_tensors="pt")["pixel_values"][0]
    else:
        found = transform(picture)
    return torch.as_tensor(found).float()
