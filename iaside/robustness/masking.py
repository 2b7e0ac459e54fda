"""Critical-band masking: the filter through which a network sees, from noise thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from iaside.estimate.accuracy import accuracy_interval
from iaside.tables import Rivals


class Filter(NamedTuple):
    """Where a network can be disturbed.  bandwidth: octaves at half height; centre: cycles an
    image; peak: inverse of the noise that is enough there, 1 at a sd of half the lowest; why: what
    is missing."""

    bandwidth: float
    centre: float
    peak: float
    why: str = ""


def thresholds(values: ArrayLike, chance: float) -> np.ndarray:
    """How many steps of noise it takes in each octave until half of what is above chance is lost.

    Steps are those of the levels, interpolated between them; the last one where it is not lost;
    nan where nothing is above chance without noise.

    Shapes: values (K, S, ...) at S levels, the first without noise; returns (K, ...).
    Source: docs/methods.md, Predictors (half-way from clean to chance in the place of 50 % of 16
    classes).

    >>> thresholds([[0.9, 0.9, 0.3, 0.1], [0.9, 0.8, 0.7, 0.6]], chance=0.1).round(3).tolist()
    [1.667, 3.0]
    """
    v = np.asarray(values, dtype=float)
    level = (v[:, :1] + chance) / 2
    below = v <= level
    first = np.where(below.any(1), below.argmax(1), 0)[:, None]  # 0 is none: the clean is above
    before, after = (np.take_along_axis(v, k, 1) for k in (np.maximum(first - 1, 0), first))
    with np.errstate(invalid="ignore", divide="ignore"):
        steps = first - 1 + (before - level) / (before - after)
    steps = np.where(first > 0, steps, v.shape[1] - 1)
    return np.where(v[:, :1] > chance, steps, np.nan)[:, 0]


def masking_filter(values: ArrayLike, octaves: ArrayLike, chance: float) -> Filter:
    """The filter through which a network sees, of its answers under octaves of noise.

    A Gaussian over octaves of the steps that a threshold (`thresholds`) is below the last level:
    its width at half height, its centre, and two to the power of its height less the levels of
    noise. The best centre within half an octave of those measured, in steps of 1/40 octave, and
    width, of 128 from 1/4 to twice all octaves.

    Shapes: values (K, S), the mean at each level (share correct, say), the first without noise;
    octaves (K,) centres.
    Source: Subramanian et al. 2023; theirs counts whole steps.

    >>> steps = 3 * np.exp(-0.5 * (np.arange(7) - 4.0) ** 2)  # of 4 that there are
    >>> values = [np.clip(4.5 - step - np.arange(5), 0, 1) for step in steps]
    >>> found = masking_filter(values, 1.75 * 2.0 ** np.arange(7), chance=0.0)
    >>> round(found.bandwidth, 1), round(found.centre, 1), round(found.peak, 1)
    (2.4, 28.0, 0.5)
    """
    values = np.asarray(values, dtype=float)
    if np.isnan(values).any():
        return Filter(
            np.nan, np.nan, np.nan, "in grey not clearly better than chance, or not asked"
        )
    if not values[0, 0] > chance:
        return Filter(np.nan, np.nan, np.nan, "no better than chance without noise")
    found = filters(values[:, :, None], octaves, chance)[:, 0]
    if np.isnan(found).any():
        return Filter(np.nan, np.nan, np.nan, "no noise is enough, in any octave")
    return Filter(*map(float, found))


def filters(values: ArrayLike, octaves: ArrayLike, chance: float) -> np.ndarray:
    """`masking_filter` of many: values (K, S, R) -> bandwidth, centre and peak (3, R).

    nan where there is no filter.
    """
    values, octaves = np.asarray(values, dtype=float), np.asarray(octaves, dtype=float)
    k, steps = len(octaves), values.shape[1] - 1
    heard = steps - thresholds(values, chance)
    centres = np.arange(-0.5, k - 0.5 + 1e-9, 1 / 40)
    widths = np.geomspace(0.25, 2 * k, 128) / 2.355
    shapes = np.exp(-0.5 * ((np.arange(k) - centres[:, None, None]) / widths[:, None]) ** 2)
    shapes = shapes.reshape(-1, k)
    norms = (shapes**2).sum(1)
    found = np.full((3, values.shape[2]), np.nan)
    usable = np.flatnonzero(np.isfinite(heard).all(0) & (heard > 0).any(0))
    for part in np.array_split(usable, -(-len(usable) // 64) or 1):
        height = np.clip(shapes @ heard[:, part] / norms[:, None], 0, steps)
        gain = height * (2 * (shapes @ heard[:, part]) - height * norms[:, None])
        best = gain.argmax(0)
        centre, width = np.unravel_index(best, (len(centres), len(widths)))
        found[0, part] = 2.355 * widths[width]
        found[1, part] = octaves[0] * 2 ** centres[centre]
        found[2, part] = 2.0 ** (height[best, np.arange(len(part))] - steps)
    return found


def seen(r: Rivals, classes: int) -> np.ndarray:
    """Whether answers are right at each octave and level, (K, S, N); nan of a network that is not
    clearly better than chance without noise: noise has nothing to take from it.

    Clearly: the 95 % interval of its accuracy over photographs lies above.
    """
    right = r.tables["correct"]
    clearly = accuracy_interval(right[0, 0]).low > 1 / classes
    return right if clearly else np.full_like(right, np.nan)


def without_filter(rivals: Mapping[str, Rivals], classes: int) -> dict[str, str]:
    """The networks that masking finds no filter of, and why."""
    found = {
        name: masking_filter(seen(r, classes).mean(2), r.octaves, 1 / classes).why
        for name, r in rivals.items()
    }
    return {name: why for name, why in found.items() if why}
