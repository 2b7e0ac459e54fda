"""Coverage of intervals: samples from a population of images whose true value is known.

The images at hand are the population, samples are drawn from them with replacement, and each sample
gets the estimates and intervals that a user gets from such images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from iaside.estimate.accuracy import accuracy_interval
from iaside.estimate.clean import may_be_zero
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval, paired_interval
from iaside.estimate.rounding import total_worth
from iaside.game.surrogate import pairs_per_image, resampled_table
from iaside.score import (
    SCORES,
    robustness_score,
    score_difference,
    score_estimate,
    sid_difference,
    sid_estimate,
    spectral_importance,
)
from iaside.tables import check_same_pictures

# What is found in a sample of images: their indices and the sample's own seed -> an estimate of Q
# numbers, nan where a user is told none.
Find = Callable[[np.ndarray, int], Estimate]


def calibration(
    find: Find, truth: ArrayLike, n: int, size: int, n_samples: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return how estimates and limits of samples of the images go with the truth of all of them.

    Shapes: truth (Q,), the numbers of all n images, which are the population. Every entry of the
    result is (Q,): ``observed``, the standard deviation of the estimates; ``estimated``, the root
    mean square of their standard errors, with ``estimated_low`` and ``estimated_high``, between
    which lie 95 % of these; ``coverage``, the share of samples whose limits hold the truth, with
    its Wilson limits; ``bias``, the mean estimate less the truth; ``told``, the share of samples in
    which the number is told at all: all others are of these samples.
    Source: docs/methods.md, Score.

    >>> psi = np.random.default_rng(0).normal(size=(2, 40))
    >>> find = lambda index, seed: interval(psi[:, index], lambda mean: mean, n_resamples=100)
    >>> found = calibration(find, psi.mean(1), n=40, size=20, n_samples=50)
    >>> bool((found["coverage"] > 0.8).all())
    True
    """
    truth = np.asarray(truth, dtype=float)
    drawn = np.random.default_rng([seed, size]).integers(n, size=(n_samples, size))
    each = zip(*(find(index, k) for k, index in enumerate(drawn)), strict=True)
    found = [np.stack(field, axis=1) for field in each]  # value, se, low, high: (Q, samples)
    rows = [_of_told(*numbers) for numbers in zip(truth, *found, strict=True)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _of_told(truth, value, se, low, high) -> dict[str, float]:
    told = np.isfinite(low) & np.isfinite(high)
    value, se, low, high = (field[told] for field in (value, se, low, high))
    row = {"told": told.mean()}
    if told.sum() < 2:
        names = ("observed", "estimated", "coverage")
        limits = [f"{name}_{end}" for name in names[1:] for end in ("low", "high")]
        return row | dict.fromkeys([*names, "bias", *limits], np.nan)
    held = accuracy_interval((low <= truth + 1e-12) & (truth <= high + 1e-12))
    return row | {
        "observed": value.std(ddof=1),
        "bias": value.mean() - truth,
        "estimated": np.sqrt((se**2).mean()),
        "estimated_low": np.quantile(se, 0.025),
        "estimated_high": np.quantile(se, 0.975),
        "coverage": held.value,
        "coverage_low": held.low,
        "coverage_high": held.high,
    }


# -- what a user is told --------------------------------------------------------------------------


def values_and_shares(mean: ArrayLike, shares: bool = True) -> np.ndarray:
    """Mean values (M, R), their SID, and their shares of v(all) - v(none) (nan where these are not
    told), (3 M, R).

    >>> values_and_shares(np.array([[3.0], [1.0]]))[:, 0].tolist()
    [3.0, 1.0, 1.0, 0.0, 0.75, 0.25]
    """
    mean = np.asarray(mean, dtype=float)
    share = mean / mean.sum(0) if shares else np.full_like(mean, np.nan)
    return np.concatenate([mean, spectral_importance(mean), share])


def find_values(psi: ArrayLike, n_resamples: int = 2000) -> Find:
    """`values_and_shares` of a sample, with limits; the SID only where its weakest band is clear
    (`score.no_sid`), shares only where v(all) - v(none) is clearly above 0.

    >>> find_values(np.eye(3) + np.ones(3), 100)(np.arange(3).repeat(3), 0).value.shape
    (9,)
    """
    psi = np.asarray(psi, dtype=float)

    def find(index: np.ndarray, seed: int) -> Estimate:
        values = psi[:, index]
        told = not may_be_zero(total_worth(values))
        found = interval(
            values, lambda mean: values_and_shares(mean, told), n_resamples=n_resamples, seed=seed
        )
        sid = sid_estimate(values, n_resamples=n_resamples, seed=seed)
        return _with(found, np.repeat([False, True, False], len(values)), sid)

    return find


def scores(mean: ArrayLike, beta: float = 0.75) -> np.ndarray:
    """The score of mean values (M, R) as printed, tight, and signed: (3, R).

    >>> scores(np.eye(8)[:, :1])[:, 0].round(2).tolist()
    [0.52, 1.0, 1.0]
    """
    sid = spectral_importance(mean)
    return np.stack([robustness_score(sid, beta, **how) for how in SCORES.values()])


def find_scores(psi: ArrayLike, beta: float = 0.75, n_resamples: int = 2000) -> Find:
    """The `scores` of a sample, with the limits that a user is told.

    >>> find_scores(np.eye(3), n_resamples=100)(np.arange(3).repeat(3), 0).value.shape
    (3,)
    """
    psi = np.asarray(psi, dtype=float)
    return lambda index, seed: told_scores(psi[:, index], beta, n_resamples, seed)


def find_sampled_scores(table: ArrayLike, beta: float = 0.75, n_resamples: int = 2000) -> Find:
    """The `scores` of a sample of images of which only some coalitions are measured, as many as the
    estimator first draws (12 passes an image at M = 8).

    Shapes: table (2**M, N), all worths.

    >>> table = np.arange(8.0)[:, None] + np.random.default_rng(0).normal(size=(8, 9))
    >>> find_sampled_scores(table, n_resamples=100)(np.arange(9), 0).value.shape
    (3,)
    """
    table = np.asarray(table, dtype=float)
    n_pairs = pairs_per_image(len(table).bit_length() - 1)

    def find(index: np.ndarray, seed: int) -> Estimate:
        rng = np.random.default_rng([seed, len(index)])
        measured, _ = resampled_table(table[:, index], n_pairs, rng)
        return told_scores(measured.values, beta, n_resamples, seed)

    return find


def find_differences(
    first: ArrayLike, second: ArrayLike, beta: float = 0.75, n_resamples: int = 2000
) -> Find:
    """The values, SID, and `scores` of one network minus those of another on the same images.

    >>> find = find_differences(np.eye(3), np.eye(3)[::-1], n_resamples=100)
    >>> find(np.arange(3).repeat(3), 0).value.shape
    (9,)
    """
    first, second = (np.asarray(psi, dtype=float) for psi in (first, second))

    def find(index: np.ndarray, seed: int) -> Estimate:
        pair = first[:, index], second[:, index]
        how = {"n_resamples": n_resamples, "seed": seed}
        found = paired_interval(*pair, lambda mean: values_and_scores(mean, beta), **how)
        n_bands = len(first)
        rows = np.repeat(np.arange(2 + len(SCORES)), [n_bands, n_bands, *[1] * len(SCORES)])
        asked = [sid_difference]
        asked += [partial(score_difference, beta=beta, kind=kind) for kind in SCORES]
        for row, of in enumerate(asked, start=1):
            found = _with(found, rows == row, of(*pair, **how))
        return found

    return find


def same_photographs(first: Mapping, second: Mapping) -> bool:
    """Whether two tables are of the same photographs in the same order, by their provenances.

    >>> same_photographs({"images": "a", "labels": "b"}, {"images": "a", "labels": "b"})
    True
    """
    if first.get("labels") is None or first.get("labels") != second.get("labels"):
        return False
    try:
        check_same_pictures(first, second)
    except ValueError:
        return False
    return True


def values_and_scores(mean: ArrayLike, beta: float = 0.75) -> np.ndarray:
    """Mean values (M, R), their SID and their `scores`: (2 M + 3, R).

    >>> values_and_scores(np.eye(8)[:, :1]).shape
    (19, 1)
    """
    mean = np.asarray(mean, dtype=float)
    return np.concatenate([mean, spectral_importance(mean), scores(mean, beta)])


def told_scores(psi: np.ndarray, beta: float, n_resamples: int, seed: int) -> Estimate:
    """The scores of values (M, N) of some images, (3,), as a user is told them.

    >>> told_scores(np.eye(3) + np.ones(3), 0.75, 100, 0).limits(".1f")
    'none, none, none'
    """
    found = interval(psi, lambda mean: scores(mean, beta), n_resamples=n_resamples, seed=seed)
    for row, kind in enumerate(SCORES):
        told = score_estimate(psi, beta, kind, n_resamples=n_resamples, seed=seed)
        found = _with(found, np.arange(len(SCORES)) == row, told)
    return found


def _with(found: Estimate, rows: np.ndarray, told: Estimate | None) -> Estimate:
    """An estimate of Q numbers with what a user is told of some of them, (Q,) bool."""
    if told is None:
        return _without(found, rows)
    numbers = [np.array(field) for field in found]
    for field, part in zip(numbers, told, strict=True):
        field[rows] = part
    return Estimate(*numbers, found.n, found.unit)


def _without(found: Estimate, rows: np.ndarray) -> Estimate:
    """An estimate of Q numbers without those, (Q,) bool, that a user is not told."""
    numbers = (np.where(rows, np.nan, field) for field in found)
    return Estimate(*numbers, found.n, found.unit)
