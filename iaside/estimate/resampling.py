"""The resampling core of all intervals: bootstrap weights, quantiles, minimum sample sizes."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri, stdtrit

from iaside.backend.outside import outside
from iaside.estimate.estimate import Estimate

Levels = Callable[[float], Estimate]  # a level, such as .95 -> the estimate with these limits
# With fewer of them limits are NaN, and nothing is decided (docs/methods.md, Verdicts).
LEAST = {"photographs": 5, "trainings": 3, "initialisations": 5, "networks": 4}
STUDENT = 15  # with fewer, percentiles reach at least as far as Student's
RESOLVED = 20  # resamples that a tail must hold to be read off them


def least(unit: str) -> int:
    """How many of a unit it takes for limits. Errors: ValueError for a unit that has no rule.

    >>> least("trainings")
    3
    """
    if unit not in LEAST:
        raise ValueError(f"unit={unit!r} is not known; choose one of {', '.join(LEAST)}")
    return LEAST[unit]


def bootstrap(procedure: Callable, n: int, n_resamples: int = 400, seed: int = 0) -> np.ndarray:
    """Return what a procedure finds on n images, and on resamples of them: (1 + n_resamples, ...).

    For what is no function of mean values (those: `interval`), such as a slope fitted to the
    errors of many draws. procedure(index, rng) gets indices of images (n,) and a random generator
    and returns an array, always of one shape. Row 0 is that of the images as they are. Each
    resample has random numbers of its own, so that the rows also spread by the procedure's noise.

    With fewer than 5 images all rows but the first are NaN, with a RuntimeWarning.
    Raises ValueError for fewer than 100 resamples.

    >>> rows = bootstrap(lambda index, rng: index.mean(), n=9)
    >>> rows.shape, float(rows[0])
    ((401,), 4.0)
    """
    if n_resamples < 100:
        raise ValueError(f"n_resamples must be at least 100, got {n_resamples!r}")
    generators = [np.random.default_rng([seed, k]) for k in range(1 + n_resamples)]
    found = np.asarray(procedure(np.arange(n), generators[0]), dtype=float)
    if n < LEAST["photographs"]:
        warn_too_few(n, "photographs")
        return np.stack([found, *[np.full_like(found, np.nan)] * n_resamples])
    return np.stack([found, *(procedure(rng.integers(n, size=n), rng) for rng in generators[1:])])


def of_resamples(rows: ArrayLike, n: int, unit: str = "photographs") -> Levels:
    """Return what a procedure found on n images, with percentiles of its resamples, by the level.

    rows: (1 + R, ...), as `bootstrap` gives them: first on the images as they are. Percentiles are
    those of `interval`: at a level widened for small n, and where a tail holds fewer than 20
    resamples moved out, from the middle of them, beyond the last that does. Below 15 images limits
    reach at least as far as Student's. They always hold the estimate: the noise of a procedure may
    put it anywhere. With fewer images than the unit needs they are NaN.
    Errors: ValueError for fewer than 40 resamples.
    Source: docs/methods.md, Verdicts.

    >>> rows = np.r_[0.0, np.random.default_rng(0).normal(size=2000)]
    >>> of_resamples(rows, n=500)(0.95).limits(".0f"), of_resamples(rows, n=4)(0.95).limits(".0f")
    ('0 [-2, 2]', '0 (no interval)')
    """
    rows = np.asarray(rows, dtype=float)
    if rows.ndim == 0 or len(rows) < 1 + 2 * RESOLVED:
        raise ValueError(
            f"rows must be the estimate and at least {2 * RESOLVED} resamples of it, (1 + R, ...); "
            f"got {rows.shape}"
        )
    if n < least(unit):
        return lambda level: Estimate.unsure(rows[0], n, unit)
    shape = rows.shape[1:]
    value, resampled = rows[0].ravel(), np.sort(rows[1:].reshape(len(rows) - 1, -1).T)
    # Tails move out from the middle of the resamples, off which a noisy procedure's estimate lies.
    middle = np.median(resampled, axis=1)
    moved, off = resampled - middle[:, None], middle - value
    se = moved.std(1, ddof=1)

    def limits(level: float) -> Estimate:
        tail = tail_of(level)
        low, high = (off + end[:, 0] for end in quantiles(moved, widened(tail, n), ndtri))
        if n < STUDENT:
            reach = -stdtrit(n - 1, tail) * se
            low, high = np.minimum(low, -reach), np.maximum(high, reach)
        fields = value, se, value + np.minimum(low, 0), value + np.maximum(high, 0)
        return Estimate(*(field.reshape(shape)[()] for field in fields), n, unit)

    return limits


def warn_too_few(n, unit):
    warnings.warn(
        f"an interval needs at least {least(unit)} {unit}, got {n}: its limits are NaN",
        RuntimeWarning,
        stacklevel=outside(),
    )


@functools.lru_cache(maxsize=8)  # the same for every interval of a report
def draws(n: int, n_resamples: int, seed: int = 0) -> np.ndarray:
    """How often each resample draws each of n images, over n: (n, n_resamples), columns sum to 1.

    The one matrix of every resampling: values (M, n) @ draws are the means of all resamples.

    >>> draws(4, 100).shape, bool(np.allclose(draws(4, 100).sum(0), 1))
    ((4, 100), True)
    """
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples).T / n
    drawn.flags.writeable = False
    return drawn


@functools.lru_cache(maxsize=8)
def normal_draws(n: int, n_draws: int, seed: int = 0) -> np.ndarray:
    """Independent normal numbers (n, n_draws): deviations (M, n) @ them, over sqrt(n (n - 1)), vary
    together as the means do.

    >>> normal_draws(4, 100).shape
    (4, 100)
    """
    drawn = np.random.default_rng(seed).normal(size=(n, n_draws))
    drawn.flags.writeable = False
    return drawn


def check_level(level: float) -> None:
    """Refuse what is no level. Errors: ValueError.

    >>> check_level(0.95)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, both excluded; got {level!r}")


def tail_of(level: float) -> float:
    check_level(level)
    return (1 - level) / 2


def widened(tail: float, n: int) -> float:
    """The normal tail that matches Student's t: resamples scatter less than samples."""
    return ndtr(np.sqrt(n / (n - 1)) * stdtrit(n - 1, tail))


def quantiles(ordered: np.ndarray, tail: float, theory: Callable) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper quantile of sorted rows (K, R), each (K, 1), moved out as those of `theory`
    (tail -> quantile) where the rows do not hold enough for the tail."""
    held = min(0.5, max(tail, RESOLVED / ordered.shape[1]))
    low, high = (_between(ordered, share) for share in (held, 1 - held))
    if held > tail:
        out = theory(tail) / theory(held)
        with np.errstate(invalid="ignore"):  # 0 times infinity, where a tail underflows
            low, high = (
                np.where(x * sign > 0, x * out, x / out) for x, sign in ((low, -1), (high, 1))
            )
    return low, high


def _between(ordered: np.ndarray, share: float) -> np.ndarray:
    """The quantile of sorted rows (K, R) as (K, 1), straight between two of them."""
    place = share * (ordered.shape[1] - 1)
    k = min(int(place), ordered.shape[1] - 2)
    return ordered[:, k, None] + (place - k) * (ordered[:, k + 1, None] - ordered[:, k, None])


def delta_se(statistic, mean, covariance, step):
    """Standard errors (K, R) from the covariance (M, M, R) of the means (M, R).

    The slope is taken over one standard error (`step` to either side): a kink of the statistic
    within reach of the sampling error counts, and a point of zero slope does not hide the spread.
    """
    n_bands, n_columns = mean.shape
    step = np.where(step > 0, step, 1.0)  # a band without spread has no covariance either
    moves = (np.eye(n_bands) * step)[:, :, None]  # (M, M, 1): band i moves column i
    points = np.stack([mean[:, None] + moves, mean[:, None] - moves])
    values = evaluate(statistic, np.moveaxis(points, 1, 0).reshape(n_bands, -1))
    up, down = np.moveaxis(values.reshape(-1, 2, n_bands, n_columns), 1, 0)
    slope = np.moveaxis((up - down) / (2 * step[:, None]), -1, 0)  # (R, K, M)
    variance = (slope @ np.moveaxis(covariance, -1, 0) * slope).sum(-1).T
    return np.sqrt(np.maximum(variance, 0))


def evaluate(statistic: Callable, mean: np.ndarray) -> np.ndarray:
    """A statistic of mean values (M, R) as (..., R). Errors: ValueError for another shape.

    >>> evaluate(lambda mean: mean.sum(0), np.ones((2, 3))).tolist()
    [2.0, 2.0, 2.0]
    """
    values = np.asarray(statistic(mean), dtype=float)
    if values.ndim == 0 or values.shape[-1] != mean.shape[1]:
        raise ValueError(
            f"the statistic must map mean values (M, R) to (..., R); "
            f"it turned {mean.shape} into {values.shape}"
        )
    return values


def per_image(psi: ArrayLike, least: int = 2) -> np.ndarray:
    """Values (M, N) as float64, one column per image. Errors: as `finite`, and another shape.

    >>> per_image([[1, 2, 3]], least=1).shape
    (1, 3)
    """
    psi = finite(psi, "psi", least)
    if psi.ndim != 2 or psi.shape[1] == 0:
        raise ValueError(f"psi must be (M, N), one column per image, got {psi.shape}")
    return psi


def finite(values: ArrayLike, name: str, least: int = 2) -> np.ndarray:
    """Values as float64, of at least so many bands on the first axis. Errors: ValueError, also for
    NaN and infinity.

    >>> finite([1, 2], "psi")
    array([1., 2.])
    """
    values = np.asarray(values, dtype=float)
    if values.ndim == 0 or len(values) < least:
        raise ValueError(
            f"{name} needs at least {least} bands on its first axis, got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return values
