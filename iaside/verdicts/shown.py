"""How verdicts are shown in the report that makes them, and what their data are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from iaside.estimate import Estimate
from iaside.verdicts.rules import NUMBERS

COLUMNS = ["verdict", "statement", "claimed", "measured", "data", "note", "source"]
DATA_SETS = {  # stem of `images` -> the data set in words
    "photographs": "ImageNet photographs", "imagenet": "ImageNet photographs",
    "mnist_5k": "MNIST digits", "mnist": "MNIST digits", "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN", "stl10": "STL-10",
    "tiny_imagenet": "Tiny ImageNet", "caltech101": "Caltech-101",
}  # fmt: skip


def verdict_table(records: Iterable[Mapping]) -> pd.DataFrame:
    """A line for each record of `rules.decide`: its worst part's number with limits, n and unit.

    >>> from iaside.verdicts.rules import decide
    >>> one = Estimate(-0.6, 0.1, -0.8, -0.3, 19, "networks")
    >>> verdict_table([decide("src_mce", lambda level: one)]).at[0, "measured"]
    '-0.6 [-0.8, -0.3], n = 19 networks'
    """
    rows = [{**record, "measured": measured(record, record["unit"])} for record in records]
    return pd.DataFrame(rows, columns=COLUMNS)


def parts_table(records: Iterable[Mapping]) -> pd.DataFrame:
    """A line for each part of the records that have several.

    >>> from iaside.verdicts.rules import decide
    >>> one = Estimate(-0.6, 0.1, -0.8, -0.3, 19, "networks")
    >>> parts_table([decide("src_mce", {k: lambda level: one for k in "ab"})])["part"].tolist()
    ['a', 'b']
    """
    rows = [
        {"claim": record["id"], **part, "measured": measured(part, record["unit"])}
        for record in records for part in record["parts"]
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["claim", "part", "verdict", "measured"])


def measured(row: Mapping, unit: str) -> str:
    """The numbers of a record, or of a part of it, as text.

    >>> measured({"value": 0.25, "se": 0.1, "low": None, "high": None, "n": 2}, "trainings")
    '0.25 (no interval), n = 2 trainings'
    """
    value, se, low, high, n = (np.nan if row.get(name) is None else row[name] for name in NUMBERS)
    return f"{Estimate(value, se, low, high, n, unit):.3g}"


def data_words(*images: str | None, classes: int | None = None) -> str:
    """Data sets in words, from what a study calls its images, or from how many classes they have.

    images: packaged or downloaded sets, or one's own folders, which are called by their name;
    those with ImageNet's 1,000 labels are ImageNet photographs.

    >>> data_words("data/images/mnist_5k.npz", "data/images/cifar10", "../mine/birds")
    'MNIST digits, CIFAR-10, images of birds'
    >>> data_words("/my/cats", classes=1000), data_words(classes=7)
    ('ImageNet photographs', 'images of 7 classes')
    """
    found = dict.fromkeys(_words(each, classes) for each in images or (None,))
    return ", ".join(found)


def _words(images: str | None, classes: int | None) -> str:
    stem = Path(images).stem if images else ""
    if stem in DATA_SETS:
        return DATA_SETS[stem]
    if classes == 1000:
        return DATA_SETS["imagenet"]
    return f"images of {stem}" if stem else f"images of {classes} classes"
