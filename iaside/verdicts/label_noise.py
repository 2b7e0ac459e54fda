"""Verdicts on networks whose training labels are partly random.

found: family (an architecture) -> noise level -> networks, as `trends.families` gives them; data:
what they were trained on, in words. None where no family has three levels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from iaside.estimate import Estimate
from iaside.intervals import Levels
from iaside.trends import ACCURACY, ENTROPY, HIGH, Cells, Score, readable, unclear
from iaside.verdicts.rules import decide, withheld

LEVELS = 3  # of noise: two have a difference, and no trend
Families = Mapping[str, Cells]


def noise_lowers_accuracy(found: Families, data: str = "") -> dict | None:
    """Judge whether held-out accuracy falls with label noise, in every family."""
    return _trend("noise_lowers_accuracy", found, ACCURACY, data)


def noise_more_uniform(found: Families, data: str = "") -> dict | None:
    """Judge whether the entropy of the SID rises with label noise, where a SID can be read."""
    return _trend("noise_more_uniform", found, ENTROPY, data, of_bands=True)


def noise_less_robust_features(found: Families, data: str = "") -> dict | None:
    """Judge whether the high bands' part of sum |psi| rises with label noise, where bands can be
    read."""
    return _trend("noise_less_robust_features", found, HIGH, data, of_bands=True)


def trend(cells: Cells, score: Score, of_bands: bool) -> Levels:
    """The slope of a score against the noise level, from no noise to all labels at random.

    of_bands: only levels count whose distribution over bands can be read. Of fewer than three
    levels there is none.
    """
    cells = readable(cells) if of_bands else cells
    if len(cells) < LEVELS:
        return lambda level: Estimate.unsure(np.nan, 0, "trainings")
    return score.slope(cells)


def _trend(claim: str, found: Families, score: Score, data: str, of_bands: bool = False):
    judged = {name: cells for name, cells in found.items() if len(cells) >= LEVELS}
    if not judged:
        return None
    few = [name for name, cells in judged.items() if of_bands and len(readable(cells)) < LEVELS]
    note = f"fewer than {LEVELS} levels can be read: {', '.join(few)}" if few else ""
    parts = {name: trend(cells, score, of_bands) for name, cells in judged.items()}
    read = [readable(cells) for cells in judged.values()] if score is ENTROPY else []
    why = unclear(p for cells in read for networks in cells.values() for p in networks)
    parts = {name: withheld(part, why) for name, part in parts.items()}
    return decide(claim, parts, note="; ".join(w for w in (note, why) if w), data=data)
