"""Verdicts on whether band profiles predict the loss under a perturbation, and rank networks.

Losses of K networks under C corruptions are (K, C, 1 + R): on the photographs as they are, and on
R resamples of them. `families` says of what design each network is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import scipy
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from iaside.estimate.coefficients import coefficient, orders, ranks
from iaside.estimate.correlation import MIN_MODELS, jackknifed, over_networks
from iaside.estimate.crossed import crossed_mean
from iaside.estimate.estimate import Estimate
from iaside.estimate.families import several
from iaside.estimate.resampling import Levels
from iaside.verdicts.correlation import Families
from iaside.verdicts.rules import decide


def profile_predicts_loss(
    predicted: ArrayLike,
    measured: ArrayLike,
    families: Families,
    n_images: int,
    note: str = "",
    data: str = "",
) -> dict:
    """Judge whether predicted losses order the measured ones, over networks and corruptions.

    Limits allow for other networks (those of independent networks by permutation; else a family is
    left out at a time), corruptions and photographs.
    """
    predicted, measured = _losses(predicted, measured)
    alone = several(families) is None
    over = (
        _permuted(predicted[..., 0], measured[..., 0])
        if alone
        else _counted(
            over_networks(
                lambda index: pooled(predicted[index], measured[index]), families, n_images
            ),
            families,
        )
    )

    def whole(index: np.ndarray) -> np.ndarray:
        return pooled(predicted[:, index], measured[:, index])

    parts = in_quadrature(over, _of_corruptions(whole, predicted.shape[1], n_images, np.inf))
    return decide(
        "profile_predicts_loss",
        parts if alone else _at_least_of(len(set(families)), parts),
        note=_joined(_words(families), note),
        data=data,
        short=_short(families),
    )


def _permuted(predicted: np.ndarray, measured: np.ndarray) -> Levels:
    """Limits of `pooled` over independent networks: (K, C) twice.

    The reach, on Fisher's scale, is how far the coefficient moves from its mean where the measured
    losses of a network are given to another one, all corruptions together: however much these
    have in common, networks stay the draws.
    """
    value = float(pooled(predicted[..., None], measured[..., None])[0])
    k = len(predicted)
    ranks = (scipy.stats.rankdata(v).reshape(v.shape) for v in (predicted, measured))
    x, y = (v - v.mean() for v in ranks)
    if not np.isfinite(value):
        return lambda level: Estimate.unsure(value, k, "networks")
    reach_at, se = _exchanged(x @ y.T / np.sqrt((x**2).sum() * (y**2).sum()))

    def limits(level: float) -> Estimate:
        middle, reach = np.arctanh(np.clip([value, reach_at(level)], -1 + 1e-12, 1 - 1e-12))
        low, high = np.tanh(middle - reach), np.tanh(middle + reach)
        return Estimate(value, se, low, high, k, "networks")

    return limits


def _permuted_lead(own: np.ndarray, rival: np.ndarray, measured: np.ndarray) -> Levels:
    """Limits of the lead of a guess over a rival, over independent networks: (K, C) each.

    The reach is how far the mean lead moves from 0 where the measured losses of a network are given
    to another one. That is exact where neither guess goes with the losses, and the hardest case: of
    two guesses that go with them alike, the difference varies the less the better they do (Steiger
    1980).
    """
    own, rival, measured = (_unit_ranks(v.T) for v in (own, rival, measured))
    known = np.isfinite(own + rival + measured).all(1)
    k = own.shape[1]
    if not known.any():
        return lambda level: Estimate.unsure(np.nan, k, "networks")
    pairs = (own - rival)[known].T @ measured[known] / known.sum()
    value, (reach_at, se) = np.trace(pairs), _exchanged(pairs)

    def limits(level: float) -> Estimate:
        reach = reach_at(level)
        return Estimate(value, se, value - reach, value + reach, k, "networks")

    return limits


def _exchanged(pairs: np.ndarray) -> tuple[Callable[[float], float], float]:
    """The reach of a sum over networks as a function of the level, and its spread, where the losses
    of a network are given to another one; pairs (K, K): what its guess adds with whose losses."""
    k = len(pairs)
    moved = np.append(pairs[np.arange(k), orders(k, None)].sum(1), np.trace(pairs))
    far = np.sort(np.abs(moved - moved.mean()))[::-1]
    # as many as the level allows reach further; what reaches as far does not count as less
    return lambda level: far[int((1 - level) * len(far) + 1e-9)] + 1e-12, float(moved.std())


def _unit_ranks(rows: np.ndarray) -> np.ndarray:
    """Ranks of each row less their mean, of length 1: NaN of a constant row."""
    deviations = ranks(rows) - (rows.shape[1] + 1) / 2
    with np.errstate(invalid="ignore"):
        return deviations / np.linalg.norm(deviations, axis=1, keepdims=True)


def _at_least_of(n: int, found: Levels) -> Levels:
    """Limits of a coefficient, no narrower than those of one over n independent networks.

    Corruptions of a network are no further draws where one quality of the network decides them
    all: leaving out one of 5 to 7 networks then tells a coefficient of 0 from 0 in 10 to 13 % of
    cases.
    """

    def limits(level: float) -> Estimate:
        e = found(level)
        if n < MIN_MODELS or not np.isfinite(e.value):
            return e
        t = stdtrit(n - 2, (1 + level) / 2)
        reach = np.arctanh(t / np.sqrt(n - 2 + t**2))
        middle = np.arctanh(np.clip(e.value, -1 + 1e-12, 1 - 1e-12))
        low, high = np.tanh(middle - reach), np.tanh(middle + reach)
        return replace(e, low=min(e.low, low), high=max(e.high, high))

    return limits


def profile_beats_score(
    predicted: ArrayLike,
    measured: ArrayLike,
    score: ArrayLike,
    families: Families,
    n_images: int,
    data: str = "",
) -> dict:
    """Judge whether the profile orders networks by their losses better than the signed score does.

    score (K, 1 + R): a high one predicts a small loss. Limits as in `profile_predicts_loss`.
    Source: docs/methods.md, Verdicts.
    """
    return _over_rival(
        "profile_beats_score", predicted, measured, -np.asarray(score), families, n_images, data
    )


def profile_over_accuracy(
    predicted: ArrayLike,
    measured: ArrayLike,
    clean_error: ArrayLike,
    families: Families,
    n_images: int,
    data: str = "",
) -> dict:
    """Judge whether the profile orders networks by their losses better than clean error does.

    clean_error (K, 1 + R): a high one predicts a large loss. Limits as in `profile_predicts_loss`.
    """
    return _over_rival(
        "profile_over_accuracy",
        predicted,
        measured,
        np.asarray(clean_error),
        families,
        n_images,
        data,
    )


def pooled(predicted: ArrayLike, measured: ArrayLike) -> np.ndarray:
    """Spearman's coefficient over networks and corruptions together: (K, C, R) twice -> (R,).

    >>> losses = np.arange(6.0).reshape(2, 3, 1)
    >>> pooled(losses, -losses).tolist()
    [-1.0]
    """
    predicted, measured = _losses(predicted, measured)
    n = predicted.shape[0] * predicted.shape[1]
    return coefficient(predicted.reshape(n, -1).T, measured.reshape(n, -1).T)


def over_corruptions(guess: ArrayLike, measured: ArrayLike) -> np.ndarray:
    """Spearman's coefficient over networks within each corruption: (K, C, R) twice -> (C, R).

    NaN where all networks are alike.

    >>> losses = np.arange(6.0).reshape(3, 2, 1)
    >>> over_corruptions(losses, losses).ravel().tolist()
    [1.0, 1.0]
    """
    guess, measured = _losses(guess, measured)
    n, c, _ = guess.shape  # a row for each corruption and resample, all at once
    return coefficient(*(v.reshape(n, -1).T for v in (guess, measured))).reshape(c, -1)


def order_at_levels(
    predicted: ArrayLike, measured: ArrayLike, n_images: int, rival: ArrayLike | None = None
) -> Levels:
    """Return how a prediction orders losses, over other corruptions and photographs, by level.

    `pooled` (with a rival: less that of the rival), the networks as given.
    Shapes: (K, C, 1 + R) each.

    >>> losses = np.arange(30.0).reshape(3, 10, 1) + np.zeros((3, 10, 101))
    >>> print(order_at_levels(losses, losses, n_images=9)(0.95))
    1.00 [1.00, 1.00], n = 10 corruptions
    """
    predicted, measured = _losses(predicted, measured)
    rival = None if rival is None else np.asarray(rival, dtype=float)

    def statistic(index: np.ndarray) -> np.ndarray:
        own = pooled(predicted[:, index], measured[:, index])
        return own if rival is None else own - pooled(rival[:, index], measured[:, index])

    most = 1.0 if rival is None else 2.0
    return _of_corruptions(statistic, predicted.shape[1], n_images, most)


def choice_at_levels(guess: ArrayLike, reached: ArrayLike, n_images: int) -> Levels:
    """Return how a guess orders these networks within a corruption, on average, by level.

    Limits are over other corruptions and photographs, the networks as given: what a choice among
    them rests on.
    Shapes: (K, C, 1 + R) each.

    >>> order = np.arange(30.0).reshape(3, 10, 1) + np.zeros((3, 10, 101))
    >>> print(choice_at_levels(order, -order, n_images=9)(0.95))
    -1.00 [-1.00, -1.00], n = 10 corruptions
    """
    each = over_corruptions(guess, reached)
    return _of_corruptions(lambda index: _mean(each[index]), len(each), n_images, 1.0)


def in_quadrature(first: Levels, second: Levels) -> Levels:
    """Return the first estimate with a reach that holds both, for two kinds of draws.

    >>> part = lambda level: Estimate(0.0, 1.0, -3.0, 3.0, 9, "networks")
    >>> other = lambda level: Estimate(0.0, 1.0, -4.0, 4.0, 15, "corruptions")
    >>> in_quadrature(part, other)(0.95).limits(".0f")
    '0 [-5, 5]'
    """

    def both(level: float) -> Estimate:
        a, b = first(level), second(level)
        low, high = (
            np.hypot(a.value - a.low, b.value - b.low),
            np.hypot(a.high - a.value, b.high - b.value),
        )
        return replace(a, se=np.hypot(a.se, b.se), low=a.value - low, high=a.value + high)

    return both


def _over_rival(claim_id, predicted, measured, rival, families, n_images, data) -> dict:
    predicted, measured = _losses(predicted, measured)
    rival = np.broadcast_to(rival[:, None], predicted.shape)

    def each(index: np.ndarray) -> np.ndarray:
        own, other = (over_corruptions(g[index], measured[index]) for g in (predicted, rival))
        return own - other

    whole = each(np.arange(len(predicted)))
    of_images = _mean(whole)[1:]
    if several(families) is None:
        over = _permuted_lead(predicted[..., 0], rival[..., 0], measured[..., 0])
        own, other, truth = (_apart(losses) for losses in (predicted, rival, measured))
        apart = _mean(over_corruptions(own, truth) - over_corruptions(other, truth))
        of_images = _in_common(of_images, apart[1:])
    else:
        limits = over_networks(lambda index: _mean(each(index)), families, n_images)
        over = _counted(limits, families)
    other = _of_corruptions(
        lambda index: np.append(_mean(whole[index, :1]), of_images), len(whole), n_images, np.inf
    )
    return decide(
        claim_id,
        in_quadrature(over, other),
        note=_words(families),
        data=data,
        short=_short(families),
    )


def _apart(losses: np.ndarray) -> np.ndarray:
    """Losses (K, C, 1 + R) less what moves all networks alike, with the resamples of each network
    in an order of its own: photographs then move no two networks together."""
    k, _, columns = losses.shape
    shuffled = np.tile(np.arange(1, columns), (k, 1))
    shuffled = np.random.default_rng(0).permuted(shuffled, axis=1)
    alike = losses.mean(0) - losses[..., :1].mean(0)
    return np.take_along_axis(losses - alike, np.insert(shuffled, 0, 0, axis=1)[:, None], axis=2)


def _in_common(together: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Resamples (R,) with so much of their variance as resamples that move networks apart have not.

    How photographs move each network by itself is a part of how networks differ, and counted there
    (two ways of clustering, less what both hold: Cameron, Gelbach and Miller 2011).
    """
    variance = together.var()
    share = max(0.0, 1 - apart.var() / variance) if variance > 0 else 0.0
    return together.mean() + np.sqrt(share) * (together - together.mean())


def _counted(limits: Levels, families: Families) -> Levels:
    """The same with n = networks, as of a correlation: how many are independent the note says."""
    return lambda level: replace(limits(level), n=len(families))


def _of_corruptions(statistic, n: int, n_images: int, most: float) -> Levels:
    """Limits over corruptions and photographs, up to what the statistic can be at most."""
    pseudo = jackknifed(statistic, range(n))

    def limits(level: float) -> Estimate:
        # `crossed_mean` counts networks; here corruptions are what was drawn.
        found = crossed_mean(pseudo, n_images, level, "networks")
        return replace(found, unit="corruptions").within(-most, most)

    return limits


def _losses(predicted: ArrayLike, measured: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    predicted, measured = (np.asarray(v, dtype=float) for v in (predicted, measured))
    if predicted.ndim != 3 or predicted.shape != measured.shape:
        raise ValueError(
            f"losses are (networks, corruptions, 1 + resamples), got {predicted.shape} and "
            f"{measured.shape}; give both on the same resamples"
        )
    return predicted, measured


def _mean(rows: np.ndarray) -> np.ndarray:
    """Mean of rows (C, R) without those that are NaN, (R,); NaN where all are."""
    known = np.isfinite(rows)
    with np.errstate(invalid="ignore"):
        return np.where(known, rows, 0).sum(0) / known.sum(0)


def _words(families: Families) -> str:
    return f"{len(families)} networks of {len(set(families))} families, each family one draw"


def _short(families: Families) -> str:
    n = len(set(families))
    return f"{n} independent networks, {MIN_MODELS} are needed" * (n < MIN_MODELS)


def _joined(*words: str) -> str:
    return "; ".join(filter(None, words))
