"""Differences of scores on the same images, whichever band is the weakest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from iaside.estimate.clean import may_be_zero
from iaside.estimate.estimate import Estimate
from iaside.estimate.resampling import LEAST, Levels, normal_draws, per_image, tail_of, warn_too_few

N_DRAWS = 4000


class _Side(NamedTuple):
    """A score of one network: its value, and what each photograph (N,) adds to its deviation, or
    one row for each band that may be the weakest (J, N), with how far each is from it (J,)."""

    value: float
    deviations: np.ndarray
    apart: np.ndarray


def score_lead_at_levels(own: ArrayLike, others: Sequence[ArrayLike], row: ArrayLike) -> Levels:
    """Return the score of a network minus its mean over others, on the same images, by the level.

    own and others are (M, N); a score is row @ means over the sum of the means above their least
    one, row (M,) of sum 0, as the signed score of the min-max SID is.

    Noise never cancels in a least value: that of two equal bands is found too low, the sum above it
    too large and the score too close to 0. So each limit takes every score from its safe side. If
    that is towards 0, the weakest band is the one that looks weakest, and the spread is the largest
    with any band that is not told from it. If it is away from 0, the band is chosen by a third of
    the images and measured by the others, over all such thirds (cross-fitting, as in
    `intervals.paired_distance`): a band that knows nothing of its own value is on average no lower
    than the least. Limits are Student's, of what each image adds to a ratio. The value is that of
    the plain scores.

    Limits are NaN for fewer than 5 images, with a RuntimeWarning, and where a network's bands may
    all be worth the same (`flat`). Raises ValueError for values of different shapes.
    Source: docs/methods.md, Uncertainty.

    >>> psi = np.random.default_rng(0).normal(size=(3, 50)) + [[4.0], [2.0], [0.0]]
    >>> score_lead_at_levels(psi, [psi[::-1]], [0.5, 0.0, -0.5])(0.95).limits(".1f")
    '0.7 [0.6, 0.7]'
    """
    networks = [per_image(values) for values in (own, *others)]
    row, n = np.asarray(row, dtype=float), networks[0].shape[1]
    for values in networks[1:]:
        if values.shape != networks[0].shape:
            raise ValueError(
                "a paired comparison needs the same bands and images for both models, "
                f"got {networks[0].shape} and {values.shape}"
            )
    weights = [1.0, *[-1 / len(others)] * len(others)]
    plain = [_as_it_looks(values, row) for values in networks]
    value = sum(w * side.value for w, side in zip(weights, plain, strict=True))
    if n < LEAST["photographs"]:
        warn_too_few(n, "photographs")
        return lambda level: Estimate.unsure(value, n, "photographs")
    looks = sum(w * side.deviations[0] for w, side in zip(weights, plain, strict=True))
    se = _se(looks)
    if any(map(flat, networks)):
        return lambda level: Estimate.unsure(value, n, "photographs", se)
    fitted = [_cross_fitted(values, row) for values in networks]

    def lower(side: int, errors: float) -> float:
        """The lower limit of the lead (side 1), or minus the upper one (side -1)."""
        lead, options = 0.0, []
        for w, near, off in zip(weights, plain, fitted, strict=True):
            one = near if side * w * near.value >= 0 else off
            lead += side * w * one.value
            options.append(w * one.deviations[one.apart <= errors])
        return lead - errors * _largest_se(options)

    def limits(level: float) -> Estimate:
        errors = -stdtrit(n - 1, tail_of(level))
        low, high = min(value, lower(1, errors)), max(value, -lower(-1, errors))
        return Estimate(value, se, low, high, n, "photographs")

    return limits


def flat(psi: ArrayLike, level: float = 0.95) -> bool:
    """Whether the bands of values (M, N) may all be worth the same, so that no score can be told.

    >>> flat([[3.0, 3.1, 2.9], [1.0, 1.1, 0.9]]), flat([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    (False, True)
    """
    above, mean = _above_the_least(per_image(psi))
    return may_be_zero(above - above.mean() + mean, level)


def _as_it_looks(psi: np.ndarray, row: np.ndarray) -> _Side:
    mean = psi.mean(1)
    weakest = mean.argmin()
    size = (mean - mean[weakest]).sum()
    score = row @ mean / size if size > 0 else 0.0
    each = psi.sum(0) - len(psi) * np.roll(psi, -weakest, axis=0)  # the weakest first
    gaps = np.roll(psi, -weakest, axis=0) - psi[weakest]
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.nan_to_num(gaps.mean(1) / _se(gaps))
        deviations = (row @ psi - score * each) / size if size > 0 else 0 * each
    return _Side(score, deviations - deviations.mean(1, keepdims=True), apart)


def _cross_fitted(psi: np.ndarray, row: np.ndarray) -> _Side:
    above, size = _above_the_least(psi)
    score = row @ psi.mean(1) / size
    deviations = (row @ psi - score * above) / size
    return _Side(score, (deviations - deviations.mean())[None], np.zeros(1))


def _above_the_least(psi: np.ndarray) -> tuple[np.ndarray, float]:
    """The sum of values above the least of them, whose band a third of the images chooses and the
    others measure, over all such thirds: of each image (N,), by how sure each band is, and in the
    mean.

    A third lies off the whole as far as sqrt(2) times a normal draw with the covariance of the
    means, and the rest -1 / sqrt(2) times: both know nothing of each other. The least also varies
    with the choice, as bands of twice that sureness do.
    """
    n_bands, n = psi.shape
    mean = psi.mean(1)
    off = (psi - mean[:, None]) @ normal_draws(n, N_DRAWS) / np.sqrt(n * max(n - 1, 1))
    off -= off.mean(1, keepdims=True)
    chosen, surer = ((mean[:, None] + by * off).argmin(0) for by in (np.sqrt(2), np.sqrt(0.5)))
    share, sure = (np.bincount(bands, minlength=n_bands) / N_DRAWS for bands in (chosen, surer))
    least = share @ mean - off[chosen, np.arange(N_DRAWS)].mean() / np.sqrt(2)
    return psi.sum(0) - n_bands * (sure @ psi), mean.sum() - n_bands * least


def _largest_se(options: Sequence[np.ndarray]) -> float:
    """The largest standard error of a sum of one row (N,) from each of several arrays (J, N).

    From each of a few choices on, a better row in one place at a time: enough, as most places
    leave no choice.
    """
    found = []
    for start in range(max(map(len, options))):
        rows = [each[min(start, len(each) - 1)] for each in options]
        for place, each in [*enumerate(options)] * 2:
            rest = sum(rows) - rows[place]
            rows[place] = each[_se(rest + each).argmax()]
        found.append(_se(sum(rows)))
    return max(found)


def _se(values: np.ndarray) -> np.ndarray:
    return values.std(-1, ddof=1) / np.sqrt(values.shape[-1])
