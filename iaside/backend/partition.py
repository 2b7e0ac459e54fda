"""What bands must do to be players: share out every frequency, and add up to what they are of.

`spectral.check_masks` asks for both. Messages say where it is worst.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from iaside.backend.checks import not_finite

WHOLE = 1e-4  # bands may miss what they add up to by so much of its largest value
WORDS = {  # number of axes -> what has them, their unit, and the half spectrum of a mask
    1: ("signal", "samples", "T//2 + 1"),
    2: ("image", "pixels", "H, W//2 + 1"),
}


def check_partition(masks: Tensor, size: Sequence[int] | int) -> Tensor:
    """Masks as numbers, refused where the bands that they cut do not add up to the image.

    size: of the images or signals, or their last side alone.
    """
    if np.ma.is_masked(masks):
        raise ValueError("masks are a masked array, with no number in places; fill it")
    if isinstance(masks, np.ndarray) and masks.dtype.kind in "biuf":
        masks = torch.from_numpy(masks.astype(float if masks.dtype == float else np.float32))
    if not isinstance(masks, Tensor):
        raise TypeError(
            f"masks are a {type(masks).__name__}; give a tensor (M, H, W//2 + 1) as band_masks "
            "makes it (torch.stack makes one of a list)"
        )
    if isinstance(size, int):
        size = (*masks.shape[1:-1], size)
    kind, _, layout = WORDS.get(len(size), WORDS[2])
    if len(size) not in WORDS or masks.ndim != len(size) + 1:
        raise ValueError(
            f"masks of shape {tuple(masks.shape)} are not (M, {layout}), one for each band of "
            f"{kind}s; make them with band_masks"
        )
    if masks.shape[1:] != (*size[:-1], size[-1] // 2 + 1):
        raise ValueError(
            f"masks of shape {tuple(masks.shape)} do not fit {kind}s of {in_units(size)}; "
            f"make them with band_masks(n_bands, {tuple(size)})"
        )
    if masks.is_complex() or masks.is_meta:
        raise TypeError(f"masks are {masks.dtype} on {masks.device}; give real numbers")
    masks = masks.detach().to_dense()
    masks = masks if masks.dtype in (torch.float32, torch.float64) else masks.float()
    sums = masks.sum(0, dtype=torch.float64)
    if not sums.isfinite().all():  # one such share makes the sum so
        raise ValueError("masks hold nan or infinity; give every frequency shares that sum to 1")
    off = (sums - 1).abs()
    if off.max() > WHOLE:
        at = int(off.argmax())
        raise ValueError(
            f"masks do not share out every frequency: they sum to "
            f"{sums.flatten()[at].item():.6g} at {_named(at, size)} and must sum to 1, or "
            f"the bands do not add up to the {kind}; is a band missing, or there twice?"
        )
    # Of these columns of images the inverse transform takes the mean of ky and -ky.
    width = size[-1]
    for column in ({0, width // 2} if width % 2 == 0 else {0}) if masks.ndim > 2 else ():
        edge = masks[:, :, column]
        off = (edge - edge.roll(-1, 1).flip(1)).abs()
        if off.max() > WHOLE:
            band, row = divmod(int(off.argmax()), size[0])
            raise ValueError(
                f"mask {band} is {edge[band, row].item():.6g} at "
                f"{_named(row * (width // 2 + 1) + column, size)} and "
                f"{edge[band, -row].item():.6g} at the opposite ky, which are one frequency of a "
                "real image; give both the same"
            )
    return masks


def _named(cell: int, size: Sequence[int]) -> str:
    """A frequency of the half spectrum in words."""
    at = np.unravel_index(cell, (*size[:-1], size[-1] // 2 + 1))
    names = ("ky", "kx") if len(size) > 1 else ("k",)
    signed = zip(names, at, size, strict=True)
    said = ", ".join(f"{name} = {k - n * (2 * k > n)}" for name, k, n in signed)
    return f"{said} (cycles per {WORDS[len(size)][0]})"


def bands_made(masks: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The bands that a callable makes of images, refused where they do not add up to them."""
    bands = masks(x.clone())  # it may write to what it is given
    shape = "B, C, H, W" if x.ndim == 4 else "B, C, T"
    wanted = f"it must return (M, {shape}) bands that sum to x"
    if not isinstance(bands, Tensor) or bands.is_complex() or bands.is_meta:
        kind = f"{bands.dtype} on {bands.device}" if isinstance(bands, Tensor) else type(bands)
        raise TypeError(f"the callable given as masks returned {kind}; {wanted}, of real numbers")
    if bands.shape[1:] != x.shape:
        raise ValueError(
            f"the callable given as masks returned shape {tuple(bands.shape)} for images of "
            f"shape {tuple(x.shape)}; {wanted}"
        )
    bands = bands.to(x)
    if broken := not_finite(bands):
        raise ValueError(f"the callable masks made nan or infinity in bands {broken}; {wanted}")
    off = (bands.sum(0) - x).abs()
    if (off > WHOLE * x.abs().amax() + 1e-6).any():
        at = int(off.argmax())
        image, channel, *place = map(int, np.unravel_index(at, x.shape))
        names = ("row", "column") if x.ndim == 4 else ("sample",)
        place = ", ".join(f"{name} {k}" for name, k in zip(names, place, strict=True))
        raise ValueError(
            f"the callable given as masks returned bands that sum to "
            f"{bands.sum(0).flatten()[at].item():.4g} where image {image} is "
            f"{x.flatten()[at].item():.4g} (channel {channel}, {place}, "
            f"{off.max().item():.2g} apart); {wanted}"
        )
    return bands


def in_units(size: Sequence[int]) -> str:
    return f"{'x'.join(map(str, size))} {WORDS[len(size)][1]}"
