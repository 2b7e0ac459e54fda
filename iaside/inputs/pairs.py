"""Images and labels as people have them -> pairs (image, label) with a length and an order."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from iaside.inputs.image_files import read_image

IMAGE, LABEL = ("image", "img", "pixel_values"), ("label", "labels", "fine_label", "class")


def as_pairs(source, labelled: bool = True):
    """What has pairs as items, of a DataLoader, of two lists or arrays, or of rows with names.

    A DataLoader gives the data set it loads, in that one's order. Two lists or arrays of one length
    are images (paths, PIL's, arrays, uint8 (H, W, 3) as NumPy has them, or tensors) and labels.
    Rows are mappings with an image and a label, as Hugging Face's ``datasets`` have them. All else
    is given back as it is.
    labelled: False where no labels are wanted: images alone will do, in all these forms.
    Errors: TypeError for a stream, which has neither a length nor an order.

    >>> as_pairs((np.zeros((2, 4, 4, 3), np.uint8), ["cat", "dog"]))[1][1]
    'dog'
    """
    if isinstance(source, DataLoader):
        source = source.dataset
    if hasattr(source, "__iter__") and not hasattr(source, "__len__"):
        raise TypeError(
            f"the source is a {type(source).__name__}, which is read once and has no length: give "
            "a part of it that has one, `list(itertools.islice(source, 100))`"
        )
    if isinstance(source, tuple) and len(source) == 2 and _are_labels(source[1]):
        return Zipped(*source)
    if not labelled and hasattr(source, "__getitem__") and len(source):
        return source if _is_pair(source[0]) else Alone(source)
    # Not of other data sets, whose first item would be decoded for it
    if isinstance(source, list) or (
        hasattr(source, "column_names") and not isinstance(source, Mapping)
    ):
        row = source[0] if len(source) else None
        if isinstance(row, Mapping):
            image, label = (_named(row, names) for names in (IMAGE, LABEL))
            if image is not None and label is not None:
                return Rows(source, image, label)
    return source


class Zipped:
    """Images and their labels, as pairs. Errors: ValueError for lengths that differ."""

    def __init__(self, images: Sequence, labels: Sequence) -> None:
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images and {len(labels)} labels: give one for each")
        self.images = images
        self.labels = labels.tolist() if hasattr(labels, "tolist") else labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> tuple:
        return opened(self.images[k]), self.labels[k]


class Rows:
    """Rows with names, as pairs of two of their entries."""

    def __init__(self, rows, image: str, label: str) -> None:
        self.rows, self.image, self.label = rows, image, label
        self.labels = [row[label] for row in rows] if isinstance(rows, list) else rows[label]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, k: int) -> tuple:
        row = self.rows[k]
        return opened(row[self.image]), row[self.label]


class Alone:
    """Images without labels, as pairs whose label is 0."""

    def __init__(self, images: Sequence) -> None:
        self.images, self.labels = images, [0] * len(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> tuple:
        return opened(image_of(self.images[k])), 0


def image_of(item):
    """The image in an item of a data set: of a pair or a row, or the item itself.

    >>> image_of(("a.png", 3)), image_of({"img": "b.png", "label": 3}), image_of("c.png")
    ('a.png', 'b.png', 'c.png')
    """
    if isinstance(item, Mapping) and (name := _named(item, IMAGE)) is not None:
        return item[name]
    return item[0] if isinstance(item, tuple | list) and len(item) else item


def label_of(item):
    """The label in an item of a data set, None where it is neither a pair nor a row with one."""
    if isinstance(item, Mapping) and _named(item, IMAGE) is not None:
        name = _named(item, LABEL)
        return None if name is None else item[name]
    return item[1] if _is_pair(item) else None


def _is_pair(item) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2


def opened(image):
    """An image of a pair: read where it is a path, or bytes as Hugging Face's rows have them; PIL's
    where it is 8-bit colours of NumPy."""
    if isinstance(image, Mapping) and ("bytes" in image or "path" in image):
        content = image.get("bytes")
        return read_image(Path(image["path"]) if content is None else io.BytesIO(content))
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[-1:] == (3,):
        return Image.fromarray(image)
    return image


def _are_labels(values) -> bool:
    """Whether this is a list or an array of numbers or names, one for each image."""
    if hasattr(values, "ndim") and hasattr(values, "__len__"):  # of NumPy, torch, pandas
        return values.ndim in (1, 2)
    plain = isinstance(values, list | tuple) and len(values) > 0
    kinds = (str, (int, np.integer))
    return plain and any(all(isinstance(v, kind) for v in values) for kind in kinds)


def _named(row: Mapping, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in row), None)
