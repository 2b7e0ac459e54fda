"""Content hashes of images and models, which identify what was measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor


def fingerprint(tensor: Tensor) -> str:
    """Content hash of a tensor, or of photographs as one: shape, dtype and bytes.

    >>> fingerprint(torch.zeros(3)) == fingerprint(torch.zeros(3))
    True
    """
    digest = hashlib.sha256(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
    for part in [tensor] if isinstance(tensor, Tensor) else tensor.split(16):
        data = part.detach().cpu().contiguous()
        digest.update(data.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def look(images: Tensor) -> str:
    """A coarse thumbnail of each picture, nearly independent of a network's recipe.

    The grey of a 4 x 4 grid of each, as bytes in hexadecimal (32 digits a picture), for
    ``tables.check_same_pictures``: crops for two networks have different fingerprints.

    Shapes: images (N, C, H, W) in [0, 1]. Signals (N, C, T) are not cropped: their fingerprint, as
    long as the look of one picture, is told apart as that is.

    >>> look(torch.ones(1, 3, 8, 8))
    'ffffffffffffffffffffffffffffffff'
    """
    if images.ndim == 3:
        return 2 * fingerprint(images)
    grids, done = torch.empty(len(images), 4, 4), 0  # a list of small ones would scatter memory
    for piece in images.split(16):  # in pieces: no copy of a large set
        grey = piece.detach().cpu().float().mean(1)
        grids[done : done + len(piece)] = torch.nn.functional.adaptive_avg_pool2d(grey, 4)
        done += len(piece)
    return (grids * 255).round().clamp(0, 255).to(torch.uint8).numpy().tobytes().hex()


def fingerprint_model(model: Callable, outputs: Tensor) -> str:
    """Content hash of a model: its outputs for an image and, of a module, structure and weights."""
    digest = hashlib.sha256(fingerprint(outputs).encode())
    if not isinstance(model, torch.nn.Module):
        return digest.hexdigest()[:16]
    digest.update(str(model).encode())
    # Not the state dict: it leaves out buffers such as a normalisation's mean.
    for name, tensor in sorted([*model.named_parameters(), *model.named_buffers()]):
        digest.update(f"{name} {fingerprint(tensor)}".encode())
    return digest.hexdigest()[:16]
