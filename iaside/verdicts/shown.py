"""What a report says of its verdicts: on which data, and in tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

DATA_SETS = {  # stem of `images` -> the data set in words
    "mnist_5k": "MNIST digits", "mnist": "MNIST digits", "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN", "stl10": "STL-10",
    "tiny_imagenet": "Tiny ImageNet", "caltech101": "Caltech-101", "imagenet": "ImageNet",
}  # fmt: skip


def data_words(*images: str) -> str:
    """Data sets in words, from what a study calls its images; one's own folder by its name.

    >>> data_words("data/images/mnist_5k.npz", "data/images/cifar10", "../mine/birds")
    'MNIST digits, CIFAR-10, birds'
    """
    stems = dict.fromkeys(Path(each).stem for each in images)
    return ", ".join(dict.fromkeys(DATA_SETS.get(stem, stem) for stem in stems))


def table_of_verdicts(records: Iterable[Mapping]) -> pd.DataFrame:
    """A line per record of `rules.decide`: verdict, statement, what was claimed and measured."""
    columns = ["verdict", "statement", "claimed", "measured", "data", "note", "source"]
    rows = [{**record, "measured": measured(record, record["unit"])} for record in records]
    return pd.DataFrame(rows, columns=columns)


def table_of_parts(records: Iterable[Mapping]) -> pd.DataFrame:
    """A line per part of the records that have several."""
    rows = [
        {"claim": record["id"], **part, "measured": measured(part, record["unit"])}
        for record in records for part in record["parts"]
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["claim", "part", "verdict", "measured"])


def measured(row: Mapping, unit: str) -> str:
    """The numbers of a record, or of a part of it, as text.

    >>> measured({"value": 0.25, "low": 0.125, "high": 0.5, "n": 3}, "trainings")
    '0.25 [0.125, 0.5], n = 3 trainings'
    >>> measured({"value": 0.25, "low": None, "high": None, "n": 2}, "trainings")
    '0.25 (no interval), n = 2 trainings'
    """
    counted = f"n = {row['n']:,} {unit}"
    if row["value"] is None:
        return f"none, {counted}"
    none = row["low"] is None or row["high"] is None
    limits = "(no interval)" if none else f"[{row['low']:.3g}, {row['high']:.3g}]"
    return f"{row['value']:.3g} {limits}, {counted}"
