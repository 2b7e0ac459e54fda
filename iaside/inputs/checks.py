"""Checks of images, of pixels shown to a model, and of its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from iaside.backend.answers import NARROW
from iaside.backend.checks import ROUNDED, not_finite, told_apart
from iaside.inputs.photographs import Photographs

WIDE = torch.float32, torch.float64
WHITE = dict.fromkeys((torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64), 255)
WHITE[torch.uint16] = 65535


def check_images(
    images: Tensor, wide: bool = False, on_disk: bool = False, signals: bool = False
) -> Tensor:
    """Pixels (N, C, H, W) in [0, 1], as they are given; refuse what are none.

    What rounding has put just outside, as resizing does, is clipped.
    wide: only float32 or float64, as what is returned to the caller shall be.
    on_disk: whether ``Photographs`` will do, as they do where a batch is looked at at a time.
    signals: whether (N, C, T) will do, any finite numbers.

    >>> check_images(torch.tensor([0.5, 1.0000002]).view(2, 1, 1, 1)).flatten()
    tensor([0.5000, 1.0000])
    """
    if isinstance(images, Photographs):
        if on_disk:
            return images
        raise TypeError("images are on the disk, and all are needed here; give some, images[:64]")
    if not isinstance(images, Tensor) or images.ndim not in ((3, 4) if signals else (4,)):
        shape = tuple(images.shape) if hasattr(images, "shape") else type(images).__name__
        also = ", or signals (N, C, T)" if signals else ""
        raise TypeError(f"images must be a tensor (N, C, H, W){also}, got {shape}")
    if images.numel() == 0:
        raise ValueError(f"images is empty, {tuple(images.shape)}; give at least one image")
    check_here(images, "images are")
    if images.layout != torch.strided:
        raise TypeError("images are sparse; give images.to_dense()")
    if not images.is_floating_point():
        white = WHITE.get(images.dtype)
        real = f"divide by {white}" if white else "give real numbers"
        raise TypeError(f"images are {images.dtype}; {real} to get pixels in [0, 1]")
    if wide and images.dtype not in WIDE:
        raise TypeError(f"images are {images.dtype}; give float32 or float64 pixels in [0, 1]")
    if images.ndim == 3:
        if broken := not_finite(images):
            raise ValueError(f"nan or inf in signals {broken}; leave them out, or mend them")
        return images
    low, high = images.min().item(), images.max().item()
    if low >= 0 and high <= 1:
        return images
    if not (low >= -ROUNDED and high <= 1 + ROUNDED):
        raise ValueError(
            f"images range from {told_apart(low, 0)} to {told_apart(high, 1)}; pixels must be in "
            "[0, 1], with any normalisation inside the model"
        )
    return images.clamp(0, 1)


def widened(images: Tensor) -> Tensor:
    """Images in float32, or float64 where they are that, which spectra are computed in."""
    if isinstance(images, Photographs):
        return images
    return (images if images.dtype == torch.float64 else images.float()).detach()


def check_shown(x: Tensor) -> None:
    """Refuse pixels (B, ...) that are not finite, of which a network might make finite answers.

    >>> check_shown(torch.tensor([[0.5], [torch.nan]]))
    Traceback (most recent call last):
    ValueError: nan or inf in pictures [1] of the 2 that the model was to be shown; what made them \
has no number there: check masks, and take smaller strengths
    """
    # One sum sees nan and inf; where it is too large itself, the pixels are looked at one by one.
    if x.sum().isfinite() or x.isfinite().all():
        return
    raise ValueError(
        f"nan or inf in pictures {not_finite(x)} of the {len(x)} that the model was to be shown; "
        "what made them has no number there: check masks, and take smaller strengths"
    )


def check_range(labels: Tensor | None, classes: int | None) -> None:
    if labels is None or classes is None:
        return
    if labels.ndim == 2 and labels.shape[1] != classes:
        raise ValueError(
            f"soft labels have {labels.shape[1]} classes and the model {classes}; they must agree"
        )
    if labels.ndim == 1 and not (0 <= labels.min() and labels.max() < classes):
        raise ValueError(
            f"labels range from {labels.min().item()} to {labels.max().item()}, but the model has "
            f"{classes} classes, 0 to {classes - 1}; give the labels this model was trained with"
        )


def finite_logits(logits: Tensor) -> Tensor:
    """Logits in float32. Errors: ValueError for nan or infinity.

    >>> finite_logits(torch.ones(1, 2, dtype=torch.bfloat16))
    tensor([[1., 1.]])
    """
    logits = logits.float()
    if not logits.isfinite().all():
        raise ValueError(
            "the model returned nan or infinite logits; check its weights, and try "
            "precision='float32'"
        )
    return logits


def check_here(tensor: Tensor, what: str) -> None:
    """Refuse a tensor that has no values."""
    if tensor.is_meta:
        raise ValueError(
            f"{what} on the meta device, where numbers are not kept; make them on the CPU"
        )


@torch.no_grad()
def check_weights(network: nn.Module) -> None:
    """Refuse weights that have no values, hold nan, or are infinite parameters, by their name.

    A buffer may hold infinities: masks of attention do.

    >>> net = nn.Linear(2, 1).requires_grad_(False)
    >>> check_weights(net)
    >>> net.bias[0] = torch.nan
    >>> check_weights(net)
    Traceback (most recent call last):
    ValueError: the weights of the model hold nan: bias; load them again, or train it anew
    """
    parameters = dict(network.named_parameters())
    for name, tensor in (*parameters.items(), *network.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                "the model has layers without weights yet (Lazy...); call it once on a batch of "
                "the right size, or load its weights"
            )
        check_here(tensor, "the weights of the model are")
        if tensor.dtype not in (*WIDE, *NARROW) or tensor.is_sparse:
            continue
        if tensor.sum().isfinite() or tensor.isfinite().all():
            continue
        holds = "nan" if tensor.isnan().any() else "inf"
        if holds == "nan" or name in parameters:
            raise ValueError(
                f"the weights of the model hold {holds}: {name}; load them again, or train it anew"
            )
