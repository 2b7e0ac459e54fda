"""The verdict on networks that were trained on shares of a training set."""

from __future__ import annotations

from collections.abc import Mapping

from iaside.training.trends import Cells, signed_src, unclear
from iaside.verdicts.rules import decide, withheld


def more_data_more_robust(
    found: Mapping[str, Cells], beta: float = 0.75, data: str = ""
) -> dict | None:
    """Judge whether the signed SRC is higher with the largest training set than with the smallest.

    found: family -> share of the training set -> networks, as `trends.families` gives them; None
    without any.
    """
    parts = {family: signed_src(beta).rise(cells) for family, cells in found.items()}
    ends = [p for cells in found.values() for k in (min(cells), max(cells)) for p in cells[k]]
    parts = {family: withheld(part, unclear(ends)) for family, part in parts.items()}
    note = unclear(ends)
    return decide("more_data_more_robust", parts, note=note, data=data) if parts else None
