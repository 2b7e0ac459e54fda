"""The presentation of verdicts in the report that makes them, and names of data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from iaside.estimate.estimate import Estimate
from iaside.verdicts.rules import NUMBERS

COLUMNS = ["verdict", "statement", "measured", "note", "claimed", "data", "source"]
DATA_SETS = {  # stem of `images` -> the data set in words
    "photographs": "ImageNet photographs",
    "imagenet": "ImageNet photographs",
    "mnist_5k": "MNIST digits",
    "mnist": "MNIST digits",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar10_exact": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "stl10": "STL-10",
    "tiny_imagenet": "Tiny ImageNet",
    "caltech101": "Caltech-101",
}


def verdict_table(records: Iterable[Mapping]) -> pd.DataFrame:
    """A line for each record of `rules.decide`: its worst part's number with limits, n and unit.

    >>> from iaside.verdicts.rules import decide
    >>> one = Estimate(-0.6, 0.1, -0.8, -0.3, 19, "networks")
    >>> verdict_table([decide("src_mce", lambda level: one)]).at[0, "measured"]
    '-0.6 [-0.8, -0.3], n = 19 networks'
    """
    rows = [{**record, "measured": measured(record), "data": data_of(record)} for record in records]
    return pd.DataFrame(rows, columns=COLUMNS)


def parts_table(records: Iterable[Mapping]) -> pd.DataFrame | None:
    """A line for each part of the records that have several; None, of which a notebook shows
    nothing, where no record has.

    >>> from iaside.verdicts.rules import decide
    >>> one = Estimate(-0.6, 0.1, -0.8, -0.3, 19, "networks")
    >>> parts_table([decide("src_mce", {k: lambda level: one for k in "ab"})])["part"].tolist()
    ['a', 'b']
    """
    rows = [
        {
            "claim": record["id"],
            **part,
            "measured": measured({"exact": is_exact(record), **part}, record["unit"]),
        }
        for record in records
        for part in record["parts"]
    ]
    columns = ["claim", "part", "verdict", "measured"]
    return pd.DataFrame(rows, columns=columns) if rows else None


def measured(row: Mapping, unit: str = "") -> str:
    """The numbers of a record, or of a part of it, as text; a part counts the unit given.

    Of a contradiction by one of several parts, the limits that decided follow.

    >>> measured({"value": 0.25, "se": 0.1, "low": None, "high": None, "n": 2}, "trainings")
    '0.25 (no interval), n = 2 trainings'
    >>> one = {"value": 0.25, "se": 0.0, "low": 0.25, "high": 0.25, "n": 8, "exact": True}
    >>> measured(one, "bands")
    '0.25 (exact), n = 8 bands'
    """
    value, se, low, high, n = (np.nan if row.get(name) is None else row[name] for name in NUMBERS)
    unit = unit or row["unit"]
    if is_exact(row):
        return f"{value:.3g} (exact), n = {int(n):,} {unit}"
    words = f"{Estimate(value, se, low, high, int(n), unit):.3g}"
    if row.get("joint_low") is None:
        return words
    ends = f"[{row['joint_low']:.3g}, {row['joint_high']:.3g}]"
    return f"{words}; {ends} for all {len(row['parts'])} parts together"


def is_exact(row: Mapping) -> bool:
    """Whether the number of a record has no error: a count or a formula.

    >>> is_exact({"exact": True, "low": 1.0}), is_exact({"low": None})
    (True, False)
    """
    return bool(row.get("exact"))


def data_of(row: Mapping) -> str:
    """The data of a record in words, or a formula, which needs none.

    >>> data_of({"data": "", "exact": True})
    'formula'
    """
    return row["data"] or ("formula" if is_exact(row) else "")


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
