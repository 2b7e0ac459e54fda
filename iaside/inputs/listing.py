"""Sources of images: a reader for the k-th image, all labels, and a name for errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from iaside.backend.files import read_npz, reading
from iaside.inputs import project
from iaside.inputs.downloads import DOWNLOADS, datasets
from iaside.inputs.folders import class_folders
from iaside.inputs.image_files import find_images, read_image, warn_left_out
from iaside.inputs.imagenet import flat_val, is_flat_val
from iaside.inputs.imagenet import tiny_imagenet as tiny_imagenet_files
from iaside.inputs.labels import class_labels
from iaside.inputs.labels_csv import labelled_files
from iaside.inputs.numbering import Labelled, Numbering
from iaside.inputs.pairs import Alone, Rows, Zipped, as_pairs, image_of, label_of, opened

PACKAGED = {"photographs": "data/images/photographs", "mnist_5k": "data/images/mnist_5k.npz"}
# The torchvision data sets that are recognised by what lies in their folder: root, split -> data.
_TORCHVISION = {
    "cifar-10-batches-py": lambda root, split: datasets().CIFAR10(root, train=split == "train"),
    "cifar-100-python": lambda root, split: datasets().CIFAR100(root, train=split == "train"),
    "stl10_binary": lambda root, split: datasets().STL10(root, split=split),
    "MNIST/raw": lambda root, split: datasets().MNIST(root, train=split == "train"),
    "test_32x32.mat": lambda root, split: datasets().SVHN(root, split=split),
}


def source_name(source) -> str:
    return repr(str(source)) if isinstance(source, str | Path) else f"this {type(source).__name__}"


# --- what a source holds: a reader of the k-th image, all labels, a name for the k-th ------------


class Listing(NamedTuple):
    read: Callable[[int], Image.Image | Tensor]
    labels: list[int]
    name: Callable[[int], str]
    classes: dict[str, int] | None = None  # of classes that have names, their labels


def listed(
    source,
    numbering: Numbering,
    split: str = "test",
    only: list[str] | None = None,
    labelled: bool = True,
) -> Listing:
    """split: of a set that comes with one; only: the classes of a folder per class; labelled: False
    takes pictures that have no labels, too."""
    if not isinstance(source, str | Path):
        source = as_pairs(source, labelled)
        if not (hasattr(source, "__getitem__") and hasattr(source, "__len__")):
            raise TypeError(
                "source must be a name, a path or a Dataset with a length and items, "
                f"got {type(source).__name__}."
            )
        if isinstance(source, Mapping) or hasattr(source, "iloc"):
            raise TypeError(
                f"source is a {type(source).__name__} of {', '.join(map(str, source))!s:.60}: give "
                "a Dataset or list of pairs (image, label), such as one of its parts or "
                "list(zip(images, labels))."
            )
        return _from_dataset(source, source_name(source))
    path = find_source(source)
    if path.is_file():
        if only:
            raise ValueError(f"classes={only}: {path} names none; give a number of classes.")
        if path.suffix != ".npz":
            raise ValueError(
                f"{path} is a file, but not .npz: give the folder of images, or an .npz with "
                "`images` and `labels`."
            )
        return _from_npz(path)
    if (path / "labels.csv").is_file() and not only:
        return _from_files(labelled_files(path, numbering))
    if (of := layout_of(path)) is not None:
        return of(split, numbering)
    if is_flat_val(path) and not only:
        return _from_files(flat_val(path, numbering))
    if not labelled and find_images(path, deep=False)[0]:
        pictures, others = find_images(path)
        warn_left_out(path, others)
        return _from_files(Labelled(pictures, [0] * len(pictures), None))
    for folder in (path / "101_ObjectCategories", path / "caltech101" / "101_ObjectCategories"):
        path = folder if folder.is_dir() else path
    return _from_files(class_folders(path, numbering, only))


def layout_of(source) -> Callable[[str, Numbering], Listing] | None:
    """A function (split, numbering) -> listing where a set comes with a split, else None."""
    if not isinstance(source, str | Path) or not (path := find_source(source)).is_dir():
        return None
    for marker, dataset in _TORCHVISION.items():
        first = Path(marker).parts[0]
        root = path if (path / marker).exists() else path.parent if path.name == first else None
        if root is not None and (root / marker).exists():
            return lambda split, _, of=dataset, root=root, marker=marker: _torchvision(
                of, root, split, marker
            )
    for root in (path, path / "tiny-imagenet-200"):
        if (root / "val" / "val_annotations.txt").is_file():
            return lambda split, numbering, root=root: _from_files(
                tiny_imagenet_files(root, split, numbering)
            )
    return None


def _torchvision(dataset, root: Path, split: str, marker: str) -> Listing:
    try:
        return _from_dataset(dataset(root, split), str(root))
    except RuntimeError as error:
        raise ValueError(f"torchvision cannot read {root / marker}: {error}") from error


def find_source(source: str | Path) -> Path:
    if isinstance(source, str) and not source.strip():  # to Path that is the current folder
        raise ValueError(
            f"the images are to be found at {source!r}, which names nothing: give the path of a "
            "folder or .npz ('.' for this one)."
        )
    path = Path(PACKAGED.get(str(source), source))
    if not path.exists():
        path = Path(os.path.expanduser(path))
    if str(source) in DOWNLOADS and not path.exists():
        path = Path("data/images") / path
    for candidate in project.places(path):
        if candidate.exists():
            return candidate
    if str(source) in PACKAGED and project.CLONE:
        raise FileNotFoundError(
            f"the packaged images {source!r} are not there yet (looked for "
            f"{project.PROJECT / path}): run `python data/fetch.py`."
        )
    packaged = f", or a packaged set: {', '.join(PACKAGED)}" if project.CLONE else ""
    raise FileNotFoundError(
        f"no images at {str(source)!r} ({project.looked()}). Give the path of a folder or "
        f".npz{packaged}."
    )


def _from_files(found: Labelled) -> Listing:
    return Listing(
        lambda k: read_image(found.files[k]),
        found.labels,
        lambda k: str(found.files[k]),
        found.classes,
    )


def _from_npz(path: Path) -> Listing:
    with reading(path, "images", "write it again: np.savez(path, images=..., labels=...)"):
        arrays = read_npz(path)
    if missing := {"images", "labels"} - set(arrays):
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}; it has {', '.join(arrays)}.")
    images, labels = arrays["images"], arrays["labels"]
    if images.ndim not in (3, 4):
        raise ValueError(f"{path}: images must be (N, H, W) or (N, H, W, C), got {images.shape}.")
    try:
        indices = class_labels(labels, len(images)).tolist()
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: labels must be {len(images)} whole numbers, got {labels.dtype} "
            f"{labels.shape} ({error})."
        ) from error
    if not indices:
        raise ValueError(f"{path} holds no images.")

    def read(k):
        if images.dtype == np.uint8 and images.shape[3:] in ((), (3,)):
            return Image.fromarray(images[k])
        return images[k][None] if images.ndim == 3 else images[k].transpose(2, 0, 1)

    return Listing(read, indices, lambda k: f"image {k} of {path}")


# Where torchvision's own data sets keep what their items' labels are made from: class that defines
# __getitem__ -> attribute. Of any other type an attribute of such a name may hold anything.
_KEPT_LABELS = {
    "torchvision.datasets.cifar.CIFAR10": "targets",
    "torchvision.datasets.mnist.MNIST": "targets",
    "torchvision.datasets.stl10.STL10": "labels",
    "torchvision.datasets.svhn.SVHN": "labels",
    "torchvision.datasets.folder.DatasetFolder": "samples",
}


def _from_dataset(dataset, called: str) -> Listing:
    labels, classes = _item_labels(dataset), None
    if len(labels) and all(isinstance(label, str) for label in labels):
        classes = {name: k for k, name in enumerate(sorted(set(labels)))}
        labels = [classes[label] for label in labels]
    if not (labels := _indices(labels, called)):
        raise ValueError(f"{called} holds no images.")
    return Listing(
        lambda k: opened(image_of(dataset[k])), labels, lambda k: f"item {k} of {called}", classes
    )


def _item_labels(dataset) -> Sequence:
    """``dataset[k][1]`` of all items; where it is known what that returns, without decoding."""
    kind = next((c for c in type(dataset).__mro__ if "__getitem__" in vars(c)), type(dataset))
    if kind in (Alone, Zipped, Rows):
        return list(dataset.labels)
    if kind is torch.utils.data.Subset:
        labels = _item_labels(dataset.dataset)
        return [labels[k] for k in dataset.indices]
    if kind is torch.utils.data.ConcatDataset:
        return [label for part in dataset.datasets for label in _item_labels(part)]
    kept = getattr(dataset, _KEPT_LABELS.get(f"{kind.__module__}.{kind.__name__}", ""), None)
    if kept is None:
        return [_label_of(dataset[k], k) for k in range(len(dataset))]
    if kind.__name__ == "DatasetFolder":
        kept = [label for _, label in kept]
    transform = dataset.target_transform or (lambda label: label)
    return [transform(int(label)) for label in kept]


def _label_of(item, k: int):
    if (isinstance(item, tuple | list) and len(item) == 2) or label_of(item) is not None:
        return label_of(item)
    kind, pairs = type(item).__name__, "list(zip(images, labels))"
    if isinstance(item, Mapping) and len(item) > 1:
        label = next((key for key in item if "label" in str(key).lower()), [*item][1])
        image = next(key for key in item if key != label)
        kind = f"{kind} with {', '.join(map(repr, item))}"
        pairs = f"[(item[{image!r}], item[{label!r}]) for item in data]"
    elif isinstance(item, tuple | list):
        kind = f"{kind} of {len(item)}"
        pairs = "[(item[0], item[1]) for item in data]" if len(item) > 2 else pairs
    raise TypeError(
        f"item {k} of the source is a {kind:.99}: it must be a pair (image, label); make a list "
        f"of such, {pairs}."
    )


def _indices(labels: Sequence, called: str) -> list[int]:
    """The class of every item, of whole numbers or one-hot rows."""
    if all(isinstance(label, Integral) and -(2**63) <= label < 2**63 for label in labels):
        return [int(label) for label in labels]
    try:
        return class_labels(labels, len(labels)).tolist()
    except (TypeError, ValueError) as error:
        k = next((k for k, label in enumerate(labels) if not _names_class(label)), 0)
        raise ValueError(
            f"the label of item {k} of {called} is {' '.join(repr(labels[k]).split()):.60}; it "
            "must be a class index (0, 1, ...), one for a picture, or all labels be one-hot."
        ) from error


def _names_class(label) -> bool:
    try:
        return class_labels([label], 1).ndim == 1
    except (TypeError, ValueError):
        return False
