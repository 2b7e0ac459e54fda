"""How verdicts are shown in the report that makes them, and what their data are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from iaside.estimate import Estimate
from iaside.verdicts.rules import NUMBERS

COLUMNS = ["verdict", "statement", "claimed", "measured", "data", "note", "source"]
SETS = {"photographs": "ImageNet photographs", "mnist_5k": "MNIST digits"}  # that are packaged


def verdict_table(records: Iterable[Mapping]) -> pd.DataFrame:
    """A line for each record of `rules.decide`: its worst part's number with limits, n and unit.

    >>> from iaside.verdicts.rules import decide
    >>> one = Estimate(-0.6, 0.1, -0.8, -0.3, 19, "networks")
    >>> verdict_table([decide("src_mce", lambda level: one)]).at[0, "measured"]
    '-0.6 [-0.8, -0.3], n = 19 networks'
    """
    rows = [{**record, "measured": f"{_worst(record):.3g}"} for record in records]
    return pd.DataFrame(rows, columns=COLUMNS)


def parts_table(record: Mapping) -> pd.DataFrame:
    """A line for each part of a record: its verdict, and its number with limits, n and unit.

    >>> from iaside.verdicts.rules import decide
    >>> one = Estimate(-0.6, 0.1, -0.8, -0.3, 19, "networks")
    >>> parts_table(decide("src_mce", {k: lambda level: one for k in "ab"}))["part"].tolist()
    ['a', 'b']
    """
    rows = [{**part, "measured": f"{_worst(part | {'unit': record['unit']}):.3g}"}
            for part in record["parts"]]  # fmt: skip
    return pd.DataFrame(rows, columns=["part", "verdict", "measured"])


def data_named(images: str | None = None, classes: int | None = None) -> str:
    """What images are called in verdicts: those of a packaged set, a folder, or of so many classes.

    >>> data_named("data/images/mnist_5k.npz"), data_named(classes=1000), data_named("/my/cats")
    ('MNIST digits', 'ImageNet photographs', 'images of cats')
    """
    name = Path(images).stem if images else ""
    if name in SETS:
        return SETS[name]
    if classes == 1000:
        return SETS["photographs"]
    return f"images of {name}" if name else f"images of {classes} classes"


def _worst(record: Mapping) -> Estimate:
    value, se, low, high = (np.nan if record[k] is None else record[k] for k in NUMBERS[:4])
    return Estimate(value, se, low, high, record["n"], record["unit"])
