"""Verdicts on networks whose training labels are partly random.

found: family (an architecture) -> noise level -> networks, as `trends.families` gives them; data:
what they were trained on, in words. None where no family has three levels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import standard_errors
from iaside.estimate.resampling import Levels
from iaside.score import CLEAR
from iaside.training.trends import (
    ACCURACY,
    ENTROPY,
    HIGH,
    Cells,
    Score,
    game,
    high_part,
    readable,
    unclear,
)
from iaside.verdicts.rules import decide, every_reading, withheld

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
    read: of all bands, and of those alone that are told from 0.

    Without its sign an error only adds, and the more, the less a network knows: bands worth nothing
    would seem to gain (false in 14 % of worlds). Without the bands that are not told from 0 the
    part is rather too small. A verdict needs both.
    """
    records = {
        name: _trend("noise_less_robust_features", found, score, data, of_bands=True)
        for name, score in (("all bands", HIGH), ("bands told from 0", HIGH_TOLD))
    }
    return None if None in records.values() else every_reading(records)


def told(values: ArrayLike) -> np.ndarray:
    """Values (M, N) of the bands whose mean is two standard errors from 0; 0 of all others.

    >>> told([[1.0, 2.0, 3.0], [1.0, 0.0, -1.0]]).tolist()
    [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]
    """
    values = np.asarray(values, dtype=float)
    clear = np.abs(values.mean(1)) >= CLEAR * standard_errors(values)
    return np.where(clear[:, None], values, 0.0)


HIGH_TOLD = Score(lambda p: told(game(p)), high_part)


def trend(cells: Cells, score: Score, of_bands: bool) -> Levels:
    """The slope of a score against the noise level, from no noise to all labels at random.

    of_bands: only levels count whose distribution over bands can be read. Of fewer than three
    levels there is none.
    """
    return _slope(readable(cells) if of_bands else cells, score)


def _trend(claim: str, found: Families, score: Score, data: str, of_bands: bool = False):
    judged = {name: cells for name, cells in found.items() if len(cells) >= LEVELS}
    if not judged:
        return None
    if of_bands:
        judged = {name: readable(cells) for name, cells in judged.items()}
    few = [name for name, cells in judged.items() if len(cells) < LEVELS]
    note = f"fewer than {LEVELS} levels can be read: {', '.join(few)}" if few else ""
    parts = {name: _slope(cells, score) for name, cells in judged.items()}
    read = judged.values() if score is ENTROPY else []
    why = unclear(p for cells in read for networks in cells.values() for p in networks)
    parts = {name: withheld(part, why) for name, part in parts.items()}
    return decide(claim, parts, note="; ".join(w for w in (note, why) if w), data=data)


def _slope(cells: Cells, score: Score) -> Levels:
    if len(cells) < LEVELS:
        return lambda level: Estimate.unsure(np.nan, 0, "trainings")
    return score.slope(cells)
