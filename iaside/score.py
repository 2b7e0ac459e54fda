"""From values to scores: the spectral importance distribution (SID) and the spectral robustness
score (SRC).

Band 0 holds the lowest frequencies. Bands lie on the first axis, further axes are independent
columns: a profile is (M,), a profile per image or per resample (M, R).
"""

import functools
import operator
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from iaside.backend.outside import outside
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval, paired_interval
from iaside.estimate.resampling import check_level, finite, least, per_image
from iaside.estimate.rounding import ROUNDING
from iaside.estimate.selective import (
    Shown,
    Told,
    allowing_for,
    allowing_in_difference,
    clearly_above_0,
)
from iaside.estimate.shares import check_shares, distance_from_0

SCORES = {  # kind -> how robustness_score is asked for it
    "paper": {"signed": False, "norm": "paper"},
    "tight": {"signed": False, "norm": "tight"},
    "signed": {"signed": True, "norm": "tight"},
}
# Standard errors between the two weakest values, and between a score and 0 before its sign is
# dropped, from which on scores are given. Of 1, 1.5, 2, 2.5 and 3 the least that gives them in at
# most a tenth of the samples where these are equal, and where it gives most of them keeps the bias
# within a quarter of the spread (`benchmarks/estimators.py --scores`). What passes narrowly is told
# with limits that allow for it: what a stricter threshold tells is farther off.
CLEAR = 2.0
CUT = ("minmax", "positive")  # normalisations that cut values off


def spectral_importance(psi: ArrayLike, normalise: str = "minmax", tau: float = 1.0) -> np.ndarray:
    """Turn values of bands (M, ...) into shares of the same shape (Luo et al. 2024, SID).

    normalise:
      "minmax"    (psi - min) / sum(psi - min), the papers' SID. The weakest band gets exactly 0,
                  and every share depends on it. Bands that are all equal get 1/M, with a warning.
      "share"     psi / sum(psi): signed and additive. ValueError if the sum is zero.
      "positive"  harmful bands count as 0. No useful band at all gives 1/M, with a warning.
      "softmax"   exp(psi / tau) / sum(exp(psi / tau)), with `tau` in the unit of psi.
      "none"      psi itself, checked only.

    Raises ValueError for fewer than two bands, NaN or infinity, an unknown name or tau <= 0.

    >>> spectral_importance([4.0, 2.0, 1.0])
    array([0.75, 0.25, 0.  ])
    """
    psi = finite(psi, "psi")
    if normalise == "none":
        return psi
    if normalise == "softmax":
        if not tau > 0:
            raise ValueError(f"tau must be above 0, got {tau!r}")
        weight = np.exp((psi - psi.max(0)) / tau)
        return weight / weight.sum(0)
    rounding = ROUNDING * np.abs(psi).max(0)
    if normalise == "share":
        if (np.abs(psi.sum(0)) <= rounding).any():
            raise ValueError(
                "normalise='share' needs values that do not add up to 0: the whole image is worth "
                "no more than the empty one; use another normalise, or the raw values"
            )
        return psi / psi.sum(0)
    if normalise == "minmax":
        weight = psi - psi.min(0)
    elif normalise == "positive":
        weight = np.maximum(psi, 0)
    else:
        raise ValueError(
            f"normalise must be minmax, share, positive, softmax or none, got {normalise!r}"
        )
    empty = weight.max(0) <= rounding
    if empty.any():
        warnings.warn(
            f"normalise={normalise!r} finds no difference between the bands to divide by; "
            f"their shares are set to 1/{len(psi)}",
            RuntimeWarning,
            stacklevel=outside(),
        )
    weight = np.where(empty, 1.0, weight)
    return weight / weight.sum(0)


def robustness_score(
    sid: ArrayLike, beta: float = 0.75, signed: bool = False, norm: str = "paper"
) -> np.ndarray:
    """Score how far a SID (M, ...) leans to low frequencies; the result drops the first axis.

    |b'p - mean(b)| / (||b||_2 - mean(b)) with b = (1, beta, beta^2, ...) (Luo et al. 2024, Eq. 11).
    That divisor is never reached: all mass in band 0 scores 0.5217 for M = 8. norm="tight" divides
    by 1 - mean(b) instead, so that it scores 1. The absolute value hides direction, a profile and
    one leaning as far to high frequencies score alike; signed=True keeps it (above 0: low).

    Raises ValueError for beta outside (0, 1), an unknown norm or shares that do not sum to 1.

    >>> round(float(robustness_score([1, 0, 0, 0, 0, 0, 0, 0])), 4)
    0.5217
    """
    sid = check_shares(sid)
    if not 0 < beta < 1:
        raise ValueError(f"beta must lie between 0 and 1, both excluded; got {beta!r}")
    weight = beta ** np.arange(len(sid))
    top = {"paper": np.linalg.norm(weight), "tight": 1.0}
    if norm not in top:
        raise ValueError(f"norm must be 'paper' or 'tight', got {norm!r}")
    score = (np.tensordot(weight, sid, 1) - weight.mean()) / (top[norm] - weight.mean())
    return score if signed else np.abs(score)


def score_estimate(
    psi: ArrayLike,
    beta: float = 0.75,
    kind: str = "paper",
    bias: str = "corrected",
    level: float = 0.95,
    normalise: str = "minmax",
    n_resamples: int = 2000,
    seed: int = 0,
) -> Estimate | None:
    """Estimate the score of images in general from the values of a sample (M, N), or say None.

    kind: "paper" as printed in the papers, "tight" with the reachable maximum 1, "signed" also with
    the sign kept; normalise: as in `spectral_importance`. Of a sampled game give
    `estimates.values`: their spread over images holds both, how images differ and the noise of the
    coalitions that were drawn.

    bias="corrected" gives the score where its bias is small, else None (`no_score` says why). Mean
    values have no bias, but the smallest of several does: where two bands are about equally weak,
    the minimum that the SID subtracts comes out too low, and the score too close to 0, by .8 to 1.1
    of its spread for two equal ones and 24 photographs. Near 0 an absolute value comes out too
    high, and so does a value that "positive" cuts off at 0. Of the corrections that were tried
    (jackknives, the bootstrap once, twice and from a normal law, a weakest value less its bias,
    smoothed, or weighted by how likely each band is the weakest) none keeps the bias within a
    quarter of the spread in all worlds with two equally weak bands without a larger error than the
    plain score has, and each adds error in others. Where the two are clearly apart (`CLEAR`) the
    plain score does, and that is what is given (`benchmarks/estimators.py --scores`).
    bias="none" is the plain score of every sample with plain limits, as published.

    A score that passes narrowly is told, too, with limits that allow for the choice by the sample
    at hand (`selective`): the less clear the sample, the farther they reach, to the ends of
    the scale where it shows next to nothing. Of 24 photographs they hold the score in 93 to 99 % of
    the samples in which it is told, be that most of them or one in fifty (plain limits: down to 13
    %), but in 73 % where seven of eight skewed bands are equally weak and one sample in 150 gets a
    score. The value is a chosen one: bands that are in truth one error apart look clear in one
    sample of six, and then too far apart, and the score is too close to 0 there.

    "share" and "softmax" cut nothing off; of "share" only a sign that is not known is not dropped,
    of "softmax", no ratio of means, not even that is judged: take kind="signed".

    Raises ValueError for an unknown kind or bias, beta outside (0, 1), and as `interval` and
    `spectral_importance`.
    Source: Luo et al. 2024, Eq. 11; docs/methods.md, Score.

    >>> psi = np.random.default_rng(0).normal(size=(3, 50)) + [[3.0], [1.0], [0.0]]
    >>> print(score_estimate(psi, kind="tight"))
    0.73 [0.66, 0.81], n = 50 photographs
    >>> score_estimate(psi - [[0.0], [1.0], [0.0]]) is None
    True
    """
    check_bias(bias)
    check_level(level)
    if bias == "corrected" and no_score(psi, beta, kind, normalise):
        return None
    found = interval(psi, mean_score(beta, kind, normalise), level, n_resamples, seed)
    ends = _ends(normalise, *score_range(len(psi), beta, kind))
    if bias == "corrected" and normalise != "softmax":
        found = allowing_for(found, _told_score(psi, beta, kind, normalise), ends, level)
    return found.within(*ends)


def sid_estimate(
    psi: ArrayLike,
    bias: str = "corrected",
    level: float = 0.95,
    normalise: str = "minmax",
    n_resamples: int = 2000,
    seed: int = 0,
) -> Estimate | None:
    """Estimate the SID (M,) of images in general from the values of a sample (M, N).

    None where what it cuts off is not clear: of "minmax" which band is the weakest, on which every
    share depends, of "positive" which values lie above 0; bias="none" gives it all the same.
    Arguments, limits, errors and sources as in `score_estimate` (Luo et al. 2024, Eq. 10).

    >>> psi = np.random.default_rng(0).normal(size=(3, 50)) + [[3.0], [1.0], [0.0]]
    >>> print(sid_estimate(psi).limits(".1f"))
    0.8 [0.7, 0.8], 0.2 [0.2, 0.3], 0.0 [0.0, 0.0]
    """
    check_bias(bias)
    check_level(level)
    if bias == "corrected" and no_sid(psi, normalise):
        return None
    shares = partial(spectral_importance, normalise=normalise)
    found, ends = interval(psi, shares, level, n_resamples, seed), _ends(normalise, 0.0, 1.0)
    if bias == "corrected" and normalise != "softmax":
        found = allowing_for(found, _told_sid(psi, normalise), ends, level)
    return found.within(*ends)


def score_difference(
    first: ArrayLike,
    second: ArrayLike,
    beta: float = 0.75,
    kind: str = "paper",
    bias: str = "corrected",
    level: float = 0.95,
    normalise: str = "minmax",
    n_resamples: int = 2000,
    seed: int = 0,
) -> Estimate | None:
    """Estimate the score of one model minus that of another on the same images, values (M, N) each.

    None where one of the two has none; limits allow for the choice. The rest as in
    `score_estimate`.

    >>> psi = np.random.default_rng(0).normal(size=(3, 50)) + [[3.0], [1.0], [0.0]]
    >>> print(score_difference(psi, psi[::-1], kind="signed"))
    1.44 [1.32, 1.57], n = 50 photographs
    """
    check_bias(bias)
    if bias == "corrected" and any(no_score(v, beta, kind, normalise) for v in (first, second)):
        return None
    score = mean_score(beta, kind, normalise)
    found = paired_interval(first, second, score, level, n_resamples, seed)
    if bias == "none" or normalise == "softmax":
        return found
    told = (_told_score(v, beta, kind, normalise) for v in (first, second))
    return allowing_in_difference(found, *told, level)


def sid_difference(
    first: ArrayLike,
    second: ArrayLike,
    bias: str = "corrected",
    level: float = 0.95,
    normalise: str = "minmax",
    n_resamples: int = 2000,
    seed: int = 0,
) -> Estimate | None:
    """Estimate the SID (M,) of one model minus that of another, as `score_difference` does.

    >>> psi = np.random.default_rng(0).normal(size=(3, 50)) + [[3.0], [1.0], [0.0]]
    >>> print(sid_difference(psi, psi[[1, 0, 2]]).limits(".1f"))
    0.5 [0.4, 0.6], -0.5 [-0.6, -0.4], 0.0 [0.0, 0.0]
    """
    check_bias(bias)
    if bias == "corrected" and any(no_sid(v, normalise) for v in (first, second)):
        return None
    shares = partial(spectral_importance, normalise=normalise)
    found = paired_interval(first, second, shares, level, n_resamples, seed)
    if bias == "none" or normalise == "softmax":
        return found
    told = (_told_sid(v, normalise) for v in (first, second))
    return allowing_in_difference(found, *told, level)


def check_bias(bias: str) -> None:
    """Refuse what no estimate of a score knows. Errors: ValueError.

    >>> check_bias("none")
    """
    if bias not in ("corrected", "none"):
        raise ValueError(
            f"bias={bias!r} is not known; choose 'corrected', which gives no score where none "
            "can be trusted, or 'none', the plain score"
        )


def weakest_gap(psi: ArrayLike) -> float:
    """Return how many standard errors lie between the two weakest bands of values (M, N).

    The images are the same for both bands, so it is the error of the difference in pairs. One image
    gives NaN. Errors as in `interval`.

    >>> round(weakest_gap([[2.0, 3.0, 4.0], [0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]), 3)
    5.196
    """
    psi = per_image(psi)
    weakest, second = psi.mean(1).argsort(kind="stable")[:2]
    return distance_from_0(psi[second] - psi[weakest], ROUNDING * np.abs(psi).max())


def no_sid(psi: ArrayLike, normalise: str = "minmax") -> str:
    """Why values (M, N) give no SID without bias, in words; "" where they do.

    >>> no_sid([[1.0, 0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0, 0.0]])
    'the two weakest bands are 0.4 standard errors apart (2 are needed)'
    >>> no_sid([[9.0, 9.0, 8.0, 8.0, 7.0], [0.0, 1.0, 0.0, -2.0, 0.0]], "positive")
    'band 1 is 0.4 standard errors from 0, where it is cut off (2 are needed)'
    """
    psi = per_image(psi)
    if normalise not in CUT:
        return ""
    n, needed = psi.shape[1], least("photographs")
    if n < needed:
        return f"of {n} photographs no bias can be told ({needed} are needed)"
    if normalise == "positive":
        rounding = ROUNDING * np.abs(psi).max()
        far = [distance_from_0(values, rounding) for values in psi]
        band = int(np.argmin(far))
        return (
            ""
            if far[band] >= CLEAR
            else (
                f"band {band} is {far[band]:.1f} standard errors from 0, where it is cut off "
                f"({CLEAR:g} are needed)"
            )
        )
    gap = weakest_gap(psi)
    if gap < CLEAR:
        return f"the two weakest bands are {gap:.1f} standard errors apart ({CLEAR:g} are needed)"
    return ""


def no_score(
    psi: ArrayLike, beta: float = 0.75, kind: str = "paper", normalise: str = "minmax"
) -> str:
    """Why values (M, N) give no score of a kind without bias, in words; "" where they do.

    >>> psi = np.random.default_rng(0).normal(size=(3, 50)) + [[1.0], [0.0], [1.0]]
    >>> no_score(psi - [[0.5], [3.0], [0.0]]).partition(";")[0]
    'before the sign is dropped it is 0.2 standard errors from 0 (2 are needed)'
    """
    _check_kind(kind)
    psi = per_image(psi)
    part, reason = _tilt(len(psi), beta), no_sid(psi, normalise)
    if reason or kind == "signed" or normalise == "softmax":
        return reason
    each = part @ _weights(psi, normalise) @ psi
    far = distance_from_0(each, ROUNDING * np.abs(psi).max())
    if far < CLEAR:
        return (
            f"before the sign is dropped it is {far:.1f} standard errors from 0 "
            f"({CLEAR:g} are needed); the signed score is given"
        )
    return ""


def check_settings(normalise: str, beta: float, score_kind: str, level: float, bias: str) -> None:
    """Refuse what the scores would refuse, before anything is measured."""
    check_bias(bias)
    if score_kind not in SCORES:
        raise ValueError(
            f"score_kind={score_kind!r} is not known; choose one of {', '.join(SCORES)}"
        )
    if normalise == "none":
        raise ValueError("normalise='none' gives no distribution; the raw values are always in psi")
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1, both excluded")
    robustness_score(spectral_importance(np.array([2.0, 1.0]), normalise), beta)


def mean_score(
    beta: float = 0.75, kind: str = "signed", normalise: str = "minmax"
) -> Callable[[np.ndarray], np.ndarray]:
    """The score of a kind as a function of mean values (M, ...) -> (...), without intervals.

    Raises ValueError for an unknown kind; the function, as `spectral_importance` and
    `robustness_score`.

    >>> mean_score()([2.0, 0.0, 0.0])
    np.float64(1.0)
    """
    _check_kind(kind)
    return lambda mean: robustness_score(spectral_importance(mean, normalise), beta, **SCORES[kind])


def score_range(n_bands: int, beta: float, kind: str) -> tuple[float, float]:
    """Between which scores every distribution over the bands lies: those of one band alone.

    Raises ValueError as `robustness_score`, and for an unknown kind.

    >>> tuple(round(float(end), 4) for end in score_range(8, 0.75, "signed"))
    (-0.5753, 1.0)
    """
    _check_kind(kind)
    corners = robustness_score(np.eye(n_bands), beta, **SCORES[kind])
    return (corners.min() if kind == "signed" else 0.0), corners.max()


def _check_kind(kind):
    if kind not in SCORES:
        raise ValueError(f"kind={kind!r} of score is not known; choose one of {', '.join(SCORES)}")


def _tilt(n_bands, beta, norm="tight"):
    """What each band adds to the numerator of the signed score; the values' sum cancels in it."""
    return robustness_score(np.eye(n_bands), beta, signed=True, norm=norm)


def _weights(psi, normalise):
    """The matrix (M, M) that turns the mean values of psi into what is divided by its sum."""
    mean = np.mean(psi, axis=1)
    if normalise == "positive":
        return np.diag((mean > 0).astype(float))
    weights = np.eye(len(mean))
    if normalise == "minmax":
        weights[:, mean.argmin()] -= 1
    return weights


def _shown(psi, normalise):
    """What a sample shows that gives a SID: which values lie above 0, or which is the weakest."""
    psi = per_image(psi)
    mean = psi.mean(1)
    if normalise == "share":
        return Shown(np.zeros((0, len(psi))), np.zeros(0))
    if normalise == "positive":
        signs = np.diag(np.sign(mean))
        return functools.reduce(operator.and_, (clearly_above_0(psi, s, CLEAR) for s in signs))
    weakest, second, *others = np.eye(len(psi))[mean.argsort(kind="stable")]
    order = [other - second for other in others]
    gap = clearly_above_0(psi, second - weakest, CLEAR)
    return Shown(np.array([*gap.rows, *order]), np.append(gap.least, np.zeros(len(order))))


def _told_sid(psi, normalise):
    psi = per_image(psi)
    weights = _weights(psi, normalise)
    return Told(psi, weights, weights.sum(0), _shown(psi, normalise))


def _told_score(psi, beta, kind, normalise):
    sid = _told_sid(psi, normalise)
    part, shown = _tilt(len(sid.parts), beta, SCORES[kind]["norm"]) @ sid.parts, sid.shown
    if kind != "signed":
        part = part * np.sign(part @ sid.psi.mean(1))
        shown &= clearly_above_0(sid.psi, part, CLEAR)
    return Told(sid.psi, part, sid.whole, shown)


def _ends(normalise, lowest, highest):
    """Signed shares can lead anywhere."""
    return (-np.inf, np.inf) if normalise == "share" else (lowest, highest)
