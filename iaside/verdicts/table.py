"""The verdicts of a report as the table that it shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from iaside.estimate import Estimate
from iaside.verdicts.rules import NUMBERS

COLUMNS = ("verdict", "statement", "claimed", "estimate", "data", "note", "source")


def as_table(records: Iterable[Mapping]) -> pd.DataFrame:
    """Return a line for each record of `rules.decide`, its estimate with limits, n and unit.

    >>> from iaside.verdicts.rules import decide
    >>> one = decide("src_mce", lambda _: Estimate(-0.6, 0.1, -0.8, -0.3, 19, "networks"))
    >>> as_table([one])["estimate"][0]
    '-0.600 [-0.800, -0.300], n = 19 networks'
    """
    lines = []
    for record in records:
        value, se, low, high, n = (np.nan if record[k] is None else record[k] for k in NUMBERS)
        found = Estimate(value, se, low, high, n, record["unit"])
        lines.append({**record, "estimate": f"{found:.3f}"})
    return pd.DataFrame(lines, columns=COLUMNS)
