"""Correlation over networks: coefficients within and between families, with intervals.

Networks of one design (a family) are no independent samples. With several members a family the
coefficient within families is the one to decide by, and that of the family means stands beside it
(docs/methods.md, Correlations). Scores of K networks are (K,), or (K, 1 + R) as
`crossed.resampled_scores` gives
them: then the limits allow for other photographs too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from iaside.estimate.coefficients import (
    coefficient,
    measured_together,
    permutation_p,
    why_undefined,
)
from iaside.estimate.crossed import crossed_mean
from iaside.estimate.estimate import Estimate
from iaside.estimate.families import family_means, numbered
from iaside.estimate.resampling import LEAST, Levels

MIN_MODELS = 5  # independent networks: with fewer no order of them is unlikely enough
MOST_NETWORKS = 200  # more than anybody will measure


def correlation(
    x: ArrayLike,
    y: ArrayLike,
    method: str = "spearman",
    given: ArrayLike | None = None,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    n_images: int | None = None,
) -> Estimate:
    """Correlate two numbers over networks, with limits that few networks cannot fool.

    method: ``pearson``, ``spearman`` (ranks) or ``kendall`` (tau-b). given: a third number whose
    linear share (of ranks for ``spearman``) is taken out of both first: the partial correlation.
    groups: the group of each network, whose means (of ranks for ``spearman``) are taken out of all
    first: the correlation within groups. n_images: how many photographs the numbers rest on, where
    they come with resamples of them.

    The limits are Student's on Fisher's scale (`correlation_at_levels`). Below 5 independent
    networks (`independent`) they are NaN. What has no coefficient is NaN, and `no_correlation` says
    why; `correlation_row` adds the permutation p and the range when one network is left out.

    Shapes: x, y, given (n,) or (n, 1 + R), groups (n,), one per network.
    Errors: ValueError for unequal lengths, an unknown method, given or groups with ``kendall``,
    masked numbers or a level outside (0, 1); TypeError for what are no real numbers.
    Source: docs/methods.md, Correlations (Pearson, Spearman, Kendall).

    >>> print(correlation([1, 2, 3, 4, 5, 6, 7, 8], [2, 1, 4, 3, 6, 5, 8, 7]))
    0.90 [0.47, 0.99], n = 8 networks
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, both excluded; got {level!r}")
    return correlation_at_levels(x, y, method, given, groups, n_images)(level)


def correlation_at_levels(
    x: ArrayLike,
    y: ArrayLike,
    method: str = "spearman",
    given: ArrayLike | None = None,
    groups: Sequence[Hashable] | None = None,
    n_images: int | None = None,
) -> Levels:
    """Return `correlation` as a function of the level, for verdicts on several parts at once.

    On Fisher's scale the reach has two parts, which add up in quadrature: over networks what makes
    the test of 0 Student's with `independent` - 2 degrees of freedom (for ranks times
    (1 + rho^2 / 2)^(1/2) with rho at the limit), and over photographs Student's times the spread
    over resamples. Ranks jump: the estimate is first moved by half a step to either side. Limits
    hold 0 wherever a studentised permutation test (within groups) does not reject it.

    Arguments and errors as in `correlation`.
    Source: docs/methods.md, Correlations; Bonett and Wright 2000 (variance of Spearman's
    coefficient); DiCiccio and Romano 2017 (permutation test).

    >>> limits = correlation_at_levels(range(9), [1, 0, 2, 4, 3, 5, 7, 6, 8])
    >>> bool(limits(0.95).low > 0), bool(limits(0.9999).low < 0)
    (True, True)
    """
    x, y, z, g = measured_together(x, y, method, given, groups)
    n = len(x)
    unit = "networks"
    if why_undefined(x, y, z, g, method):
        return lambda level: Estimate.unsure(np.nan, n, unit)
    drawn = np.broadcast_arrays(*(v for v in (x, y, z) if v is not None))
    within = None if g is None else g[None]
    rows = coefficient(*(v.T for v in drawn), *[None] * (z is None), method, within)
    r, m = float(rows[0]), independent(n, groups, given)
    if m < MIN_MODELS:
        return lambda level: Estimate.unsure(r, n, unit)
    # half of the smallest step between two values that ranks can have
    step = {"pearson": 1e-12, "spearman": 6 / (m**3 - m), "kendall": 2 / (m**2 - m)}[method]
    over_images = 0.0
    if len(rows) > 1:
        if n_images is None or n_images < LEAST["photographs"]:
            return lambda level: Estimate.unsure(r, n, unit)
        ends = 1 - max(step, 1e-6)
        spread = np.nanstd(np.arctanh(np.clip(rows[1:], -ends, ends)), ddof=1)
        over_images = spread * math.sqrt(n_images / (n_images - 1))
    p = permutation_p(x[:, 0], y[:, 0], None if z is None else z[:, 0], method, g)
    # of tau: 0.437 / (m - 4), Fieller et al. 1957
    factor = math.sqrt(0.437 * (m - 3) / (m - 4)) if method == "kendall" else 1.0
    se = (1 - r**2) * math.hypot(factor / math.sqrt(m - 3), over_images)

    def limits(level: float) -> Estimate:
        t = stdtrit(m - 2, (1 + level) / 2)
        reach = factor * math.atanh(t / math.sqrt(m - 2 + t**2))
        images = over_images and stdtrit(n_images - 1, (1 + level) / 2) * over_images

        def limit(sign: int) -> float:
            moved = r + sign * step
            if abs(moved) >= 1:
                return math.copysign(1.0, moved)
            start = z = math.atanh(moved)
            for _ in range(50):  # the reach is that of the limit itself
                skew = math.sqrt(1 + math.tanh(z) ** 2 / 2) if method == "spearman" else 1.0
                z = start + sign * math.hypot(reach * skew, images)
            return math.tanh(z)

        low, high = limit(-1), limit(1)
        if p > 1 - level:
            low, high = min(low, 0.0), max(high, 0.0)
        return Estimate(r, se, low, high, n, unit)

    return limits


def independent(
    n: int, groups: Sequence[Hashable] | None = None, given: ArrayLike | None = None
) -> int:
    """Return how many independent networks a coefficient rests on: n less what was fitted first.

    Each group but one takes a network (its mean), ``given`` takes one. Two more are what the
    coefficient itself takes: the degrees of freedom are this number less 2.

    >>> independent(4, ["lite", "lite", "lite", "squeezenet"])
    3
    """
    return n - (given is not None) - (0 if groups is None else len(set(groups)) - 1)


def no_correlation(
    x: ArrayLike,
    y: ArrayLike,
    method: str = "spearman",
    given: ArrayLike | None = None,
    groups: Sequence[Hashable] | None = None,
) -> str:
    """Say why two numbers have no coefficient, "" where they have one. Errors: as `correlation`.

    What is constant but for rounding, of all networks or within every group, has none, nor have
    NaN, an infinity (but for its rank), and what ``given`` says everything about.

    >>> no_correlation([1, 2, 3], [0.3, 0.3, 0.3])
    'y is constant'
    """
    return why_undefined(*measured_together(x, y, method, given, groups), method)


def correlation_row(
    x: ArrayLike,
    y: ArrayLike,
    method: str = "spearman",
    given: ArrayLike | None = None,
    groups: Sequence[Hashable] | None = None,
    n_images: int | None = None,
) -> dict:
    """Return what a table says of a coefficient: the fields of its `Estimate`, and how it stands.

    p: two-sided permutation test (within groups, where there are any; of Pearson's and Spearman's
    coefficients studentised), exact up to 7 networks;
    loo_low, loo_high: the range of the estimate when one network is left out; independent: the
    effective number of networks; why: where there is no coefficient, the reason in words.
    Arguments and errors as in `correlation`. Source: docs/methods.md, Robustness measures.

    >>> row = correlation_row(range(5), [0, 1, 2, 4, 3])
    >>> round(row["p"], 3), round(row["loo_low"], 1), row["independent"], row["why"]
    (0.067, 0.8, 5, '')
    """
    found = correlation(x, y, method, given, groups, n_images=n_images)
    x, y, z, g = measured_together(x, y, method, given, groups)
    n, why = len(x), why_undefined(x, y, z, g, method)
    p = loo_low = loo_high = np.nan
    if not why:
        columns = [None if v is None else v[:, 0] for v in (x, y, z)]
        if n > 2:
            p = permutation_p(*columns, method, g)
        everyone = np.arange(n)
        index = np.array([np.delete(everyone, k) for k in everyone]) if n > 3 else everyone[None]
        without = coefficient(
            *(None if v is None else v[index] for v in columns),
            method,
            None if g is None else g[index],
        )
        if np.isfinite(without).any():
            loo_low, loo_high = float(np.nanmin(without)), float(np.nanmax(without))
    return found.as_dict() | {
        "p": p,
        "loo_low": loo_low,
        "loo_high": loo_high,
        "independent": independent(n, groups, given),
        "why": why,
    }


def coefficients(
    predictors: Mapping[str, ArrayLike],
    measures: Mapping[tuple[str, str], ArrayLike],
    accuracy: ArrayLike,
    families: Sequence[Hashable] | None = None,
) -> list[dict]:
    """Spearman's coefficient of every predictor with every measure: plain, within, given accuracy.

    predictors: name -> (n,), one number per network; measures: (what, under what) -> (n,);
    accuracy (n,) on clean images, of which ``clean error`` is no predictor any more; families (n,):
    the rows within families are added where some family has several members.
    Returns a dict per coefficient: predictor, measure, under, given, over and the columns of
    `correlation_row`.
    Source: docs/methods.md, Correlations.

    >>> rows = coefficients({"SRC": [1, 2, 4]}, {("mPE", "pgd 0.1"): [3, 2, 1]}, [0.5, 0.7, 0.6])
    >>> [(row["given"], round(row["value"], 2)) for row in rows]
    [('', -1.0), ('clean accuracy', -1.0)]
    """
    over = {"networks": None}
    if families is not None and len(set(families)) < len(families):
        over["within families"] = families
    return [
        {"predictor": name, "measure": kind, "under": under, "given": given, "over": which}
        | correlation_row(
            predictors[name],
            measures[kind, under],
            given=accuracy if given else None,
            groups=groups,
        )
        for kind, under in measures
        for name in predictors
        for which, groups in over.items()
        for given in ("", "clean accuracy")
        if not (given and name == "clean error")
    ]


def between_families(
    x: ArrayLike,
    y: ArrayLike,
    families: Sequence[Hashable],
    given: ArrayLike | None = None,
    n_images: int | None = None,
) -> Estimate:
    """Return Spearman's coefficient of the family means, n = families - 2 degrees of freedom and 2.

    Of two families any two numbers go together perfectly: none.

    >>> print(between_families([1, 2, 3, 4, 5, 6], [6, 5, 3, 4, 2, 1], list("aabbcc")))
    -1.00 (no interval), n = 3 families
    """
    means = [None if v is None else family_means(v, families) for v in (x, y, given)]
    if len(means[0]) < 3:
        return Estimate.unsure(np.nan, len(means[0]), "families")
    return replace(correlation(*means[:2], given=means[2], n_images=n_images), unit="families")


def without_a_family(
    x: ArrayLike,
    y: ArrayLike,
    families: Sequence[Hashable],
    given: ArrayLike | None = None,
    within: bool = False,
) -> tuple[float, float]:
    """The range of Spearman's coefficient when all networks of one family are left out.

    within: the coefficient within families. NaN where no family can be spared.

    >>> without_a_family([1, 2, 3, 4, 9], [1, 2, 3, 4, 0], list("aabbc"))
    (-0.5, 1.0)
    """
    x, y, z, g = measured_together(x, y, "spearman", given, families)
    found = []
    for left_out in np.unique(g):
        keep = g != left_out
        if keep.sum() < 2:
            continue
        rows = [v[keep, 0][None] for v in (x, y, z) if v is not None]
        groups = g[keep][None] if within else None
        found += coefficient(*rows, *[None] * (z is None), groups=groups).tolist()
    found = [round(r, 12) for r in found if np.isfinite(r)]
    return (min(found), max(found)) if found else (np.nan, np.nan)


def networks_needed(r: float, taken: int = 0, level: float = 0.95) -> float:
    """How many networks it takes until the limits around a coefficient leave 0 out.

    By the rule of `correlation_at_levels` for Spearman's, were the same coefficient found over n
    networks and photographs without end, and its permutation test agreed; taken: what families and
    a third number take (`independent`). Infinite beyond 200, NaN of no coefficient.

    >>> networks_needed(-0.5), networks_needed(0.5, taken=6), networks_needed(0.1)
    (16.0, 22.0, inf)
    """
    if not np.isfinite(r):
        return np.nan
    for m in range(MIN_MODELS, MOST_NETWORKS - taken + 1):
        t = stdtrit(m - 2, (1 + level) / 2)
        if abs(r) - 6 / (m**3 - m) > t / math.sqrt(m - 2 + t**2):
            return float(m + taken)
    return math.inf


def over_networks(
    statistic: Callable[[np.ndarray], np.ndarray],
    draws: Sequence[Hashable],
    n_images: int | None = None,
) -> Levels:
    """Return a statistic of networks as a function of the level, for other networks, photographs.

    Over networks the limits are the jackknife's with Student's quantile: all networks of one draw
    (a family, or a network that stands alone) are left out at a time. Over photographs they are
    the resamples'; both add up as in `crossed.crossed_mean`. n is the number of draws.

    draws: what each network is of, (K,); statistic: indices of networks (k,) -> (1 + R,), on the
    photographs as they are and on resamples of them; n_images: how many photographs, None where
    the numbers come without resamples (R = 0).

    >>> scores = np.arange(6.0)[:, None] + np.zeros((6, 101))
    >>> print(over_networks(lambda index: scores[index].mean(0), range(6), n_images=9)(0.95))
    2.50 [0.54, 4.46], n = 6 networks
    """
    pseudo = jackknifed(statistic, draws)
    if n_images is None:  # resamples that move nothing
        still = np.full((len(pseudo), 2), pseudo[:, 0].mean())
        pseudo, n_images = np.concatenate([pseudo[:, :1], still], axis=1), 2
    return lambda level: crossed_mean(pseudo, n_images, level, "networks")


def jackknifed(
    statistic: Callable[[np.ndarray], np.ndarray], draws: Sequence[Hashable]
) -> np.ndarray:
    """Return pseudo-values, (draws, 1 + R): scores whose mean is the statistic, as its limits need.

    Column 0 is k times the statistic less k - 1 times that without one draw, moved so that the mean
    is the statistic itself; the other columns are the statistic on resamples of the photographs.
    Arguments as in `over_networks`.

    >>> jackknifed(lambda index: np.array([index.mean()] * 3), range(4))[:, 0].round(6).tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    g = numbered(draws)
    whole, k = np.asarray(statistic(np.arange(len(g))), dtype=float), g.max() + 1
    known = np.isfinite(whole)
    if known.mean() > 0.5:  # resamples that have no such statistic take no part
        whole = whole[known | (np.arange(len(whole)) == 0)]
    if k < LEAST["networks"]:  # too few for limits, and perhaps for the statistic without one
        return np.tile(whole, (k, 1))
    left = np.array([np.asarray(statistic(np.flatnonzero(g != i)))[0] for i in range(k)])
    pseudo = np.tile(whole, (k, 1))
    pseudo[:, 0] += (k - 1) * (left.mean() - left)
    return pseudo
