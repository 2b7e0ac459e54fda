"""Training and held-out halves of a data set: its own split, or one stratified by label."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from iaside.backend.checks import check_values
from iaside.backend.precision import undisturbed
from iaside.inputs.downloads import SIZES, fetch_images
from iaside.inputs.listing import find_source, layout_of, listed, source_name
from iaside.inputs.numbering import Numbering
from iaside.inputs.sizing import decoded, fitter


@undisturbed
def load_split(
    source: str | Path,
    held_out: float = 0.2,
    seed: int = 0,
    input_size: int | tuple[int, int] | None = None,
    classes: int | Sequence[str] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both halves of a data set: training images and labels, held-out images and labels.

    source: what ``load_images`` takes, a folder in Tiny ImageNet's layout, one that holds train/
        and test/ with a folder per class each, or one of the names
        "stl10", "cifar10", "cifar100", "svhn", "tiny_imagenet" and "caltech101", which lie in
        data/images/<name> and are downloaded when they do not.
    held_out: the share that is held out, stratified by label and drawn by `seed`; sets that come
        with a split of their own (all of these but Caltech101, and MNIST) keep theirs.
    classes: only the first so many classes, or those of these names; labels are then 0, 1, ... in
        the order of the names (of the numbers where all folders are named by numbers)
    Returns uint8 (N, 3, H, W), int64 (N,), uint8 (K, 3, H, W), int64 (K,). An image that is in both
    halves, byte for byte, is left out of the training half.

    Raises FileNotFoundError (no such source, and no download), ValueError (nothing in it, unknown
    classes, held_out outside (0, 1), a damaged image, images of different sizes).

    >>> source = [(torch.full((3, 8, 8), k / 255), k % 2) for k in range(20)]
    >>> x, y, held_out, labels = load_split(source, held_out=0.2)
    >>> x.shape, x.dtype, labels.bincount().tolist()
    (torch.Size([16, 3, 8, 8]), torch.uint8, [2, 2])
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out={held_out} must be a share between 0 and 1, such as 0.2.")
    fetch_images(source)
    halves = _halves(source, held_out, seed, classes)
    fit = fitter(None, input_size)
    (x, y), (held_x, held_y) = (_half(*half, fit, source) for half in halves)
    seen = {_content(image) for image in held_x}
    own = torch.tensor([_content(image) not in seen for image in x])
    return x[own], y[own], held_x, held_y


def split_size(
    source: str | Path, held_out: float = 0.2, classes: int | Sequence[str] | None = None
) -> tuple[int, int, int]:
    """How many training images, held-out images and classes ``load_split`` finds; decodes none.

    Of the sets that it would download, what is known of them, classes taken to be of one size.
    Duplicates, which the training half goes without, are counted.

    Raises FileNotFoundError for any other source that is not there.

    >>> split_size([(torch.zeros(3, 8, 8), k % 2) for k in range(20)])
    (16, 4, 2)
    """
    try:
        halves = _halves(source, held_out, 0, classes)
    except FileNotFoundError:
        if (name := Path(source).name) not in SIZES:
            raise
        n, held, all_classes = SIZES[name]
        kinds = classes if isinstance(classes, Integral) else len(classes or range(all_classes))
        if not held:
            held = round(held_out * n)
            n -= held
        return round(n * kinds / all_classes), round(held * kinds / all_classes), kinds
    (_, train, _), (_, held, _) = halves
    return len(train), len(held), 1 + max(label for _, label in train + held)


def _halves(source, held_out: float, seed: int, classes) -> list[tuple]:
    """(reader, [(index, label)], names) of both halves."""
    only = None if classes is None or isinstance(classes, Integral) else list(classes)
    if parts := _parts(source):
        official, listings = True, [listed(part, Numbering(own=True), only=only) for part in parts]
        if (named := [sorted(part.classes) for part in listings])[0] != named[1]:
            raise ValueError(
                f"{parts[0]} and {parts[1]} hold different classes, and are no halves of one set: "
                f"{', '.join(sorted(set(named[0]) ^ set(named[1])))} in one of them."
            )
    else:
        official = not only and layout_of(source) is not None
        splits = ("train", "test") if official else ("all",)
        listings = [listed(source, Numbering(own=True), split, only) for split in splits]
    kinds = sorted(set().union(*(listing.labels for listing in listings)))
    if isinstance(classes, Integral):
        if not 2 <= classes <= len(kinds):
            raise ValueError(
                f"classes={classes}: {source_name(source)} has {len(kinds)}; take 2 or more of "
                "them."
            )
        kinds = kinds[:classes]
    number = {label: k for k, label in enumerate(kinds)}
    halves = [
        (read, [(k, number[label]) for k, label in enumerate(labels) if label in number], names)
        for read, labels, names, _ in listings
    ]
    if not official:
        read, items, names = halves[0]
        order = stratified_order([label for _, label in items], seed)
        n = round(held_out * len(items))
        halves = [
            (read, [items[k] for k in sorted(part)], names) for part in (order[n:], order[:n])
        ]
    return halves


def _parts(source) -> list[Path]:
    """The folders train/ and test/ in a folder that holds both, of a folder per class each."""
    if not isinstance(source, str | Path) or not (path := find_source(source)).is_dir():
        return []
    parts = [path / "train", path / "test"]
    return parts if all(part.is_dir() for part in parts) and not layout_of(path) else []


def stratified_order(labels: Sequence[int], seed: int) -> list[int]:
    """All indices in a seeded order of which every prefix is stratified by label.

    >>> labels = [0] * 80 + [1] * 20
    >>> sum(labels[k] for k in stratified_order(labels, seed=0)[:10])
    2
    """
    labels = np.asarray(labels)
    check_values({"seed": seed})
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(place[shuffled], kind="stable")].tolist()


def _half(read, items: list[tuple[int, int]], names, fit, source) -> tuple[Tensor, Tensor]:
    """The images of these (index, label) as bytes, (N, 3, H, W), and the labels."""
    if not items:
        raise ValueError(f"{source_name(source)} leaves a half without images: change held_out.")
    pixels = []
    for k, _ in items:
        pixels.append((decoded(fit, read, k, names(k)) * 255).round().to(torch.uint8))
    if len(sizes := {tuple(image.shape) for image in pixels}) > 1:
        raise ValueError(
            f"{source_name(source)} has images of {len(sizes)} sizes: give input_size=(H, W)."
        )
    return torch.stack(pixels), torch.tensor([label for _, label in items])


def _content(image: Tensor) -> bytes:
    return hashlib.sha256(image.contiguous().numpy()).digest()
