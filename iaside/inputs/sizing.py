"""Decoded images -> float32 pixels of the right size: resize, crop, RGB."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from iaside.backend.checks import ROUNDED, told_apart
from iaside.inputs.image_files import in_eight_bits
from iaside.inputs.labels import plain
from iaside.inputs.recipes import channels_of

_WHITE = {torch.uint8: 255, torch.uint16: 65535}  # of other numbers 1
_LUMA = (0.299, 0.587, 0.114)  # as Pillow makes grey of colours
# Of damaged files: read_image's error, and those of data sets that decode with Pillow themselves.
UNREADABLE = (OSError, SyntaxError, Image.DecompressionBombError)


def is_count(value) -> bool:
    """Whether it is a whole number, as 2 and 2.0 are."""
    whole = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    return whole and math.isfinite(value) and value == int(value)


def decoded(fit, read, what, name: str) -> Tensor:
    try:
        return fit(read(what))
    except UNREADABLE as error:
        raise ValueError(f"{name} cannot be read ({error}). Repair or remove it.") from error


# --- from what was read to pixels of the right size ----------------------------------------------


def fitter(
    recipe: dict | None, input_size, channels: int = 3
) -> Callable[[Image.Image | Tensor], Tensor]:
    """A function from an image to float32 (C, H, W) in [0, 1], sized by the recipe.

    C are the recipe's channels, ``channels`` without one.
    """
    channels = channels if recipe is None else channels_of(recipe)
    if recipe is None and input_size is None:
        return lambda image: _pixels(_of_channels(image, channels))
    if input_size is None:
        size = recipe["input_size"][-2:]
    else:
        size = [input_size] * 2 if isinstance(input_size, Real) else input_size
        if (
            not isinstance(size, Sequence | np.ndarray)
            or len(size) != 2
            or not all(is_count(side) and side >= 1 for side in size)
        ):
            raise ValueError(
                f"input_size={input_size!r:.60} is not possible; it must be (H, W) or one side, in "
                "whole pixels"
            )
    size = [int(side) for side in size]
    recipe = recipe or {"crop_pct": 1.0, "interpolation": "bicubic"}
    mode = recipe.get("crop_mode", "center")
    if mode not in ("center", "squash"):
        raise ValueError(f"crop_mode {mode!r} of the recipe must be 'center' or 'squash'.")
    # 1e-6: a quotient such as 299 / (299 / 342) must not fall below the whole number it stands for
    scaled = [math.floor(side / recipe["crop_pct"] + 1e-6) for side in size]

    def fit(image):
        image = _of_channels(image, channels)
        width, height = image.size if isinstance(image, Image.Image) else image.shape[:-3:-1]
        if [height, width] == scaled == size:
            return _pixels(image)
        import torchvision.transforms.functional as F

        how = F.InterpolationMode(recipe["interpolation"])
        if mode == "squash":
            target = scaled
        elif (
            scaled[0] == scaled[1]
        ):  # timm and torchvision: the shorter side, the longer in proportion
            target = scaled[0]
        else:
            ratio = max(scaled[0] / height, scaled[1] / width)
            target = [round(height * ratio), round(width * ratio)]
        # Antialiased, as both libraries' evaluation; cropped before conversion, so that a PIL image
        # is resized in 8 bits as they do it.
        return _pixels(F.center_crop(F.resize(image, target, how, antialias=True), size))

    return fit


def _of_channels(image, channels: int):
    """A picture, PIL's or an array, in so many channels; in three, 28-pixel grey squares padded."""
    if isinstance(image, Image.Image) and min(image.size) > 0:
        return _of_pil(image, channels)
    image = _channels_first(image, channels)
    if image.ndim != 3 or len(image) not in {1, 3, channels} or image.numel() == 0:
        more = "" if channels in (1, 3) else f"({channels}, H, W), "
        raise ValueError(
            f"an image must be {more}(3, H, W), (1, H, W), (H, W, 3) or (H, W), got "
            f"{tuple(image.shape)}."
        )
    if len(image) != channels and channels not in (1, 3):
        raise ValueError(_too_few(len(image), channels))
    low, high = image.min().item(), image.max().item()
    if not (low >= -ROUNDED and high <= 1 + ROUNDED):
        raise ValueError(
            "an image must be uint8, uint16 or have pixels in [0, 1], got "
            f"{tuple(image.shape)} from {told_apart(low, 0)} to {told_apart(high, 1)}: divide by "
            "255, and leave normalisation to the model."
        )
    digit = len(image) == 1 and channels == 3 and image.shape[-2:] == (28, 28)
    image = image.clamp(0, 1)
    if channels == 1 and len(image) == 3:
        image = (image * torch.tensor(_LUMA).view(3, 1, 1)).sum(0, keepdim=True)
    image = image.expand(channels, -1, -1)
    return torch.nn.functional.pad(image, [2] * 4) if digit else image


def _of_pil(image: Image.Image, channels: int) -> Image.Image:
    image = in_eight_bits(image)
    if channels not in (1, 3):
        raise ValueError(_too_few(len(image.getbands()), channels))
    digit = channels == 3 and image.mode == "L" and image.size == (28, 28)
    mode = "L" if channels == 1 else "RGB"
    try:
        image = image.convert(mode)
    except ValueError as error:
        raise OSError(f"{image.mode} pixels are none that Pillow turns into {mode}") from error
    return ImageOps.expand(image, 2) if digit else image


def _too_few(given: int, channels: int) -> str:
    return (
        f"the network takes images of {channels} channels, and this one has {given}: give arrays "
        f"({channels}, H, W) in a data set or a list, or an .npz with images (N, H, W, {channels})"
    )


def _channels_first(image, channels: int) -> Tensor:
    """A tensor or array as a plain float32 tensor, (C, H, W) where it is (H, W) or (H, W, C)."""
    image = plain(image, "the pixels of an image").cpu()
    image = image.float() / _WHITE.get(image.dtype, 1)
    if image.ndim == 2:
        return image[None]
    known = {1, 3, channels}
    last = image.ndim == 3 and len(image) not in known and image.shape[-1] in known
    return image.permute(2, 0, 1) if last else image


def _pixels(image) -> Tensor:
    if isinstance(image, Image.Image):
        pixels = torch.as_tensor(np.array(image)).float() / 255
        return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    return image.clamp(0, 1)  # bicubic overshoots; PIL cuts that off in the same way
