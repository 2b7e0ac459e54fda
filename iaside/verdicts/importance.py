"""Verdicts on Shapley values of bands, and on their normalisation to shares and scores.

psi maps networks to their Shapley values (M, N), tables to their worths (2**M, N), a column per
photograph. Networks are the parts: a statement about each network of the study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from iaside.estimate.accuracy import accuracy_difference
from iaside.estimate.clean import may_be_zero
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import at_levels, distance_at_levels, mean_interval, nonuniformity
from iaside.estimate.resampling import Levels, draws, of_resamples, per_image, tail_of
from iaside.estimate.rounding import ROUNDING, total_worth
from iaside.score import robustness_score, spectral_importance
from iaside.shapley import least_squares_values, non_additivity
from iaside.verdicts.rules import decide

Networks = Mapping[str, ArrayLike]
N_RESAMPLES = 20_000
SPREADS = np.geomspace(1, 10, 25)  # of photographs, times what they have


def trained_nonuniform(psi: Networks, data: str = "") -> dict:
    """Judge whether the importance of trained networks is uneven over the bands.

    >>> psi = {"net": 1 + np.arange(3.0)[:, None] + np.zeros(9)}
    >>> trained_nonuniform(psi)["verdict"]
    'supported'
    """
    return _of_shares(
        "trained_nonuniform", psi, lambda values: partial(nonuniformity, values), data
    )


def low_bands_preferred(psi: Networks, data: str = "") -> dict:
    """Judge whether low bands are worth more than high ones, as a share of v(all) - v(none).

    >>> psi = {"net": [[3.0] * 9, [2.0] * 9, [1.0] * 9]}
    >>> low_bands_preferred(psi)["verdict"]
    'supported'
    """

    def lean(mean: np.ndarray) -> np.ndarray:
        half = len(mean) // 2
        return (mean[:half].mean(0) - mean[-half:].mean(0)) / mean.sum(0)

    return _of_shares("low_bands_preferred", psi, lambda values: at_levels(values, lean), data)


def untrained_uniform(
    untrained: Networks, trained: Networks, without: Mapping[str, str] | None = None, data: str = ""
) -> dict:
    """Judge whether no band is worth anything to untrained networks, one part for every band.

    Shapes: untrained (M, K), mean values over the photographs of each of K initialisations, which
    are the unit; trained (M, N), values of trained networks on these photographs, whose v(all) -
    v(none) is the measure. without: networks that have no usable control, and why.

    >>> trained = {"net": np.full((2, 9), 5.0)}
    >>> untrained_uniform({"net": np.full((2, 5), 0.01)}, trained)["verdict"]
    'supported'
    """
    parts, told = {}, []
    for name, values in untrained.items():
        values, gain = per_image(values), total_worth(trained[name])
        shares = cache(partial(_shares_of_gain, values, gain))
        for band, row in enumerate(values):
            parts[f"{name}, band {band}"] = (
                _unsure(len(row), "initialisations")
                if may_be_zero(gain)
                else lambda level, shares=shares, band=band: shares(level)[band]
            )
        told += [] if may_be_zero(gain) else [name]
    because: dict[str, list[str]] = {}
    for name, why in (without or {}).items():
        because.setdefault(why, []).append(name)
    refused = [f"no usable control of {', '.join(some)}: {why}" for why, some in because.items()]
    notes = [*refused, *_untold(untrained, told)]
    return decide("untrained_uniform", parts, "; ".join(notes), data)


def low_frequencies_not_enough(correct: Networks, kept: Mapping[str, int], data: str = "") -> dict:
    """Judge whether networks lose accuracy when only the bands that hold most energy are kept.

    Shapes: correct (2**M, N), whether each network answers a photograph right on each coalition;
    kept: how many bands, from the lowest on, hold the majority of the energy.

    >>> correct = {"net": np.outer([0, 0, 0, 1], np.ones(30))}
    >>> low_frequencies_not_enough(correct, {"net": 1})["verdict"]
    'supported'
    """
    parts = {
        name: partial(accuracy_difference, table[-1], table[2 ** kept[name] - 1])
        for name, table in correct.items()
    }
    same = ", ".join(f"{name} {k}" for name, k in kept.items())
    return decide("low_frequencies_not_enough", parts, f"bands kept: {same}", data)


def value_is_information(empty: Networks, classes: Mapping[str, int], data: str = "") -> dict:
    """Judge whether networks answer the empty image with the prior of equally frequent classes.

    Shapes: empty (N,), the log-likelihood of each photograph's label on the empty image.

    >>> honest = {"net": np.log(0.1) + 0.001 * np.arange(9.0)}
    >>> value_is_information(honest, {"net": 10})["verdict"]
    'supported'
    """
    parts = {}
    for name, answers in empty.items():
        prior = np.log(classes[name])
        excess = (np.asarray(answers, dtype=float) + prior) / prior
        parts[name] = at_levels(excess[None], lambda mean: mean[0])
    return decide("value_is_information", parts, data=data)


def efficiency(psi: Networks, tables: Networks, data: str = "") -> dict:
    """Judge whether values add up to v(all) - v(none), in the worst photograph; exact.

    >>> efficiency({"net": [[1.0], [2.0]]}, {"net": [[0.0], [1.5], [2.5], [3.0]]})["verdict"]
    'supported'
    """
    parts = {}
    for name, values in psi.items():
        values, table = (np.asarray(x, dtype=float) for x in (values, tables[name]))
        rest = (values.sum(0) - (table[-1] - table[0])) / np.abs(table).max()
        worst = Estimate.exact(rest[np.abs(rest).argmax()], len(rest), "photographs")
        parts[name] = lambda level, worst=worst: worst
    return decide("efficiency", parts, data=data, exact=True)


def least_squares_additive(tables: Networks, data: str = "") -> dict:
    """Judge whether a sum of values of single bands describes the worths of all coalitions.

    Shapes: tables (2**M, N), probabilities. Percentiles of resamples.

    >>> table = np.array([0.0, 0.25, 0.5, 0.75])[:, None] + np.zeros(9)
    >>> least_squares_additive({"net": table})["verdict"]
    'supported'
    """
    parts = {}
    for name, table in tables.items():
        game = _gains(table)
        n = game.shape[1]
        rows = [
            non_additivity(game.mean(1, keepdims=True)),
            non_additivity(game @ draws(n, N_RESAMPLES)),
        ]
        limits = of_resamples(np.concatenate(rows), n)
        parts[name] = lambda level, limits=limits: limits(level).within(0, 1)
    return decide("least_squares_additive", parts, "percentiles of resamples", data)


def least_squares_efficient(tables: Networks, data: str = "") -> dict:
    """Judge whether least-squares values add up to the worth of all bands, of which the
    difference is a share.

    Shapes: tables (2**M, N), probabilities.

    >>> table = np.array([0.0, 0.25, 0.5, 0.75])[:, None] + np.zeros(9)
    >>> least_squares_efficient({"net": table})["verdict"]
    'supported'
    """
    games = {name: _gains(table) for name, table in tables.items()}
    parts = {
        name: _unsure(game.shape[1])
        if may_be_zero(game[-1])
        else at_levels(
            np.stack([least_squares_values(game).sum(0), game[-1]]),
            lambda mean: (mean[0] - mean[1]) / mean[1],
        )
        for name, game in games.items()
    }
    told = [name for name, game in games.items() if not may_be_zero(game[-1])]
    note = "; ".join(_untold(games, told))
    return decide("least_squares_efficient", parts, note, data)


def sid_linear(psi: Networks, data: str = "") -> dict:
    """Judge whether the SID of mean values is the mean of the SIDs of single photographs.

    >>> psi = {"net": [[3.0] * 9, [2.0] * 9, [1.0] * 9]}
    >>> sid_linear(psi)["verdict"]
    'supported'
    """
    return decide(
        "sid_linear", {name: _linearity(values) for name, values in psi.items()}, data=data
    )


def src_range(n_bands: int, beta: float = 0.75) -> dict:
    """Judge whether some SID has a score of 1: all importance in one band; exact.

    >>> src_range(8)["verdict"]
    'contradicted'
    """
    missing = 1 - _corners(n_bands, beta).max()
    found = Estimate.exact(missing, n_bands, "bands")
    return decide("src_range", lambda level: found, exact=True)


def src_prefers_low(n_bands: int, beta: float = 0.75) -> dict:
    """Judge whether the score falls as all importance moves up a band; exact.

    >>> src_prefers_low(8)["verdict"]
    'contradicted'
    """
    falls = -np.diff(_corners(n_bands, beta))
    found = Estimate.exact(falls.min(), n_bands - 1, "bands")
    return decide("src_prefers_low", lambda level: found, exact=True)


def majority(energy: ArrayLike) -> int:
    """How many bands, from the lowest on, hold most of the energy: energy (M,), of each band.

    >>> majority([0.4, 0.3, 0.2, 0.1])
    2
    """
    energy = np.asarray(energy, dtype=float)
    return int(np.searchsorted(np.cumsum(energy), energy.sum() / 2)) + 1


def errors_of_95(n: int) -> float:
    """How many standard errors of a mean over n photographs 95 % limits reach (Student's).

    >>> errors_of_95(5).round(2)
    np.float64(2.78)
    """
    return stdtrit(max(n - 1, 1), 0.975)


def _of_shares(claim_id: str, psi: Networks, levels: Callable, data: str) -> dict:
    """Judge shares of v(all) - v(none): of a network for which that may be 0 there are none."""
    gains = {name: total_worth(values) for name, values in psi.items()}
    told = [name for name, gain in gains.items() if not may_be_zero(gain)]
    parts = {
        name: levels(np.asarray(values, dtype=float)) if name in told else _unsure(len(gains[name]))
        for name, values in psi.items()
    }
    return decide(claim_id, parts, "; ".join(_untold(psi, told)), data)


def _untold(networks: Mapping, told: list[str]) -> list[str]:
    rest = [name for name in networks if name not in told]
    return [f"v(all) - v(none) may be 0: {', '.join(rest)}"] if rest else []


def _unsure(n: int, unit: str = "photographs") -> Levels:
    return lambda level: Estimate.unsure(np.nan, n, unit)


def _shares_of_gain(values: np.ndarray, gain: np.ndarray, level: float) -> list[Estimate]:
    """The mean of initialisations of each band over that of the gain of photographs, both with
    their errors.

    A limit x is where the mean of row - x * gain is just told from 0 (Fieller 1954), the reach of
    both parts, Student's each, in quadrature. NaN where the gain may be 0 at this level.

    Five that lie close together by chance do not show a small spread, and of skewed numbers they
    often do: a band's reach is at least that of the root mean square of the errors of all bands,
    Student's with the degrees of freedom of this mean square.
    """
    whole = mean_interval(gain[None], level)[0]
    every = mean_interval(values, level, "initialisations")
    shared = stdtrit(_pooled_df(values), 1 - tail_of(level)) * np.sqrt(np.mean(every.se**2))
    reach = np.maximum(every.high - every.value, shared)
    every = replace(every, low=every.value - reach, high=every.value + reach)
    return [_over_gain(every[band], whole) for band in range(len(values))]


def _pooled_df(values: np.ndarray) -> float:
    """Degrees of freedom of the mean variance of rows (M, n) that may go together (Box 1954).

    From n - 1, where all are one but for their size, up to M (n - 1), where none go together.
    """
    covariance = np.atleast_2d(np.cov(values))
    squares = (covariance**2).sum()
    alike = np.trace(covariance) ** 2 / squares if squares > 0 else 1.0
    return (values.shape[1] - 1) * alike


def _over_gain(own: Estimate, whole: Estimate) -> Estimate:
    share, se = own.value / whole.value, own.se / whole.value
    a, b = ((e.high - e.value) / whole.value for e in (own, whole))
    if not b < 1:
        return Estimate.unsure(share, own.n, "initialisations", se)
    # x = share +- hypot(a, b x), as a quadratic in x
    middle, reach = share / (1 - b**2), np.sqrt((b * share) ** 2 + a**2 * (1 - b**2)) / (1 - b**2)
    return Estimate(share, se, middle - reach, middle + reach, own.n, "initialisations")


def _linearity(values: ArrayLike) -> Levels:
    """The distance of the SID of mean values from the mean SID, as of two sets of mean values of
    which a last row says whether they are shares already."""
    values = np.asarray(values, dtype=float)
    raw = np.vstack([values, np.zeros(values.shape[1])])
    shares = np.vstack([spectral_importance(values), np.ones(values.shape[1])])

    def sid(mean: np.ndarray) -> np.ndarray:
        return mean[:-1] if mean[-1, 0] > 0.5 else spectral_importance(mean[:-1])

    return _as_of_a_spread(distance_at_levels(raw, shares, sid), values)


def _as_of_a_spread(limits: Levels, values: np.ndarray) -> Levels:
    """The limits of a distance that photographs' spread makes, upwards at least those of its
    logarithm: Student's, allowing for skew (Johnson 1978), from the jackknife.

    A sample without its rare photographs shows a small distance and a small error of it at once:
    without this a distance exactly at the margin is put inside it in 11 % of cases. The error is
    that of the same photographs with so much spread that their distance is the limit itself, as
    Wilson's limit of a share has it: the smaller a distance, the larger that of its logarithm.
    """
    n, mean = values.shape[1], values.mean(1, keepdims=True)
    found = np.array([_log_distance(mean + by * (values - mean)) for by in SPREADS])
    if not np.isfinite(found).all():  # photographs that are alike
        return limits
    log, error, skewness = found.T

    def wider(level: float) -> Estimate:
        e, t = limits(level), stdtrit(n - 1, (1 + level) / 2)
        reach = np.maximum(t, t + skewness * (1 + 2 * t**2) / (6 * np.sqrt(n))) * error
        beyond = log - log[0] - reach
        k = max(1, np.argmax(beyond >= 0))
        if beyond[k] < 0:  # no spread makes it so large
            return replace(e, high=np.maximum(e.high, np.exp(log[0] + reach[0])))
        high = log[k] - beyond[k] / (beyond[k] - beyond[k - 1]) * (log[k] - log[k - 1])
        return replace(e, high=np.maximum(e.high, np.exp(high)))

    return wider


def _log_distance(values: np.ndarray) -> tuple[float, float, float]:
    """The logarithm of how far the mean SID lies from the SID of mean values (M, N), its error and
    its skewness, from the jackknife; nan where there is no distance."""
    n, shares = values.shape[1], spectral_importance(values)
    apart = np.abs(spectral_importance(values.mean(1)) - shares.mean(1)).sum()
    without = [(v.sum(1, keepdims=True) - v) / max(n - 1, 1) for v in (values, shares)]
    left = np.abs(spectral_importance(without[0]) - without[1]).sum(0)
    if n < 3 or not (left > ROUNDING).all():
        return np.nan, np.nan, np.nan
    off = np.log(left).mean() - np.log(left)
    skewness = (off**3).mean() / np.maximum(off.std(), np.finfo(float).tiny) ** 3
    return np.log(apart), off.std() * np.sqrt(n - 1), skewness * np.sqrt(n * (n - 1)) / (n - 2)


def _gains(table: ArrayLike) -> np.ndarray:
    table = np.asarray(table, dtype=float)
    return table - table[0]


def _corners(n_bands: int, beta: float) -> np.ndarray:
    """The score (M,) of all importance in one band."""
    return robustness_score(np.eye(n_bands), beta)
