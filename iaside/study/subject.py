"""The network and the photographs that a measuring notebook is about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from iaside.backend.device import pick_device
from iaside.inputs.classifier import Classifier, load_model
from iaside.inputs.folding import folded
from iaside.inputs.images import load_images


def load_subject(
    model: Mapping, images: str, n: int, seed: int, device: str, on_disk: Path | None = None
) -> tuple[Classifier, Tensor, Tensor]:
    """A network for inference on its device, and n photographs in its size with their labels.

    model: what `load_model` is given;  on_disk: a folder for the pixels, where they are many.
    """
    net = folded(load_model(**model, seed=seed)).to(pick_device(device))
    return net, *load_images(images, like=net, n=n, seed=seed, on_disk=on_disk)
