"""Pictures as a deployment has them, from a folder: beside clean ones, with labels, or alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from iaside.backend.content import by_content
from iaside.inputs.asked import recipe_of
from iaside.inputs.image_files import find_images
from iaside.inputs.images import count_images, load_images, load_pairs
from iaside.inputs.listing import find_source

N_PICTURES = 200  # of degraded ones that have no clean counterpart: a pass each


@by_content
class Degraded(NamedTuple):
    """Pictures of a deployment: with clean ones row by row, or with labels, or alone."""

    name: str
    pictures: Tensor
    clean: Tensor | None = None
    labels: Tensor | None = None


def read_deployment(
    folder: str | os.PathLike,
    model: Callable,
    shape: tuple[int, int, int],
    classes: object = None,
    labelled: bool = True,
    seed: int = 0,
) -> Degraded:
    """The pictures of a folder: of clean/ and degraded/, or degraded ones alone, up to 200.

    shape: (C, H, W) of what the model takes;  classes: which label a named class has, as in
    ``load_images``;  labelled: whether labels are wanted. A folder of pictures with nothing else
    has none.
    Errors: those of ``load_images``; ValueError for a model of other channels than one or three.
    """
    channels, *size = shape
    if channels not in (1, 3):
        raise ValueError(
            f"deployment={str(folder)!r}: pictures are read in one or three channels, and the "
            f"model takes {channels}; leave the folder out, and give arrays"
        )
    path = find_source(folder)
    if (path / "clean").is_dir() and (path / "degraded").is_dir():
        clean, degraded = (_channels(x, channels) for x in load_pairs(path, tuple(size)))
        return Degraded(path.name, degraded, clean)
    fits = list(recipe_of(model).get("input_size", ()))[-2:] == size
    how = {"like": model} if fits else {"input_size": tuple(size)}
    source = pictures_alone(path) or path
    how |= {"n": min(N_PICTURES, count_images(source)), "seed": seed}
    if source is not path or not labelled:
        return Degraded(path.name, _channels(load_images(source, labels=False, **how), channels))
    pictures, labels = load_images(path, classes=classes, **how)
    return Degraded(path.name, _channels(pictures, channels), labels=labels)


def pictures_alone(path: Path) -> tuple[list[Path], list[int]] | None:
    """The pictures of a folder that holds nothing else, in the form of a source of ``load_images``
    whose labels mean nothing; None for any other folder."""
    if not path.is_dir():
        return None
    pictures, others = find_images(path)
    if others or not pictures or any(picture.parent != path for picture in pictures):
        return None
    return pictures, [0] * len(pictures)


def _channels(pictures: Tensor, channels: int) -> Tensor:
    same = pictures.shape[1] == channels
    return pictures if same else pictures.mean(1, keepdim=True)
