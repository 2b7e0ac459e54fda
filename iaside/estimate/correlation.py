"""What goes with what over networks: coefficients within and between designs, with limits.

Networks of one design (a family) are no independent draws. Where families have several members the
coefficient within families is the one to decide by, and that of the family means stands beside it
(methods 9.2). Scores of K networks are (K,), or (K, 1 + R) as `intervals.resampled_scores` gives
them: then the limits allow for other photographs too.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import stdtrit

from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import LEAST, Levels, crossed_mean
from iaside.estimate.rounding import flat

METHODS = ("pearson", "spearman", "kendall")
MIN_MODELS = 5  # independent networks: with fewer no order of them is unlikely enough
PERMUTATIONS = 10_000
EXACT = 7  # networks up to which all orders are tried
MOST_NETWORKS = 200  # more than anybody will measure
DRAWS = 400  # of networks and photographs, for what is shown only


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
    Source: methods 1.11 (Pearson, Spearman, Kendall), 9.2.

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
    hold 0 wherever a permutation test (within groups) does not reject it.

    Arguments and errors as in `correlation`.
    Source: methods 9.2; Bonett and Wright 2000 (variance of Spearman's coefficient).

    >>> limits = correlation_at_levels(range(9), [1, 0, 2, 4, 3, 5, 7, 6, 8])
    >>> bool(limits(0.95).low > 0), bool(limits(0.9999).low < 0)
    (True, True)
    """
    x, y, z, g = _asked(x, y, method, given, groups)
    n = len(x)
    unit = "networks"
    if _undefined(x, y, z, g, method):
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
    p = _permutation_p(x[:, 0], y[:, 0], None if z is None else z[:, 0], method, g, r)
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
    return _undefined(*_asked(x, y, method, given, groups), method)


def correlation_row(
    x: ArrayLike,
    y: ArrayLike,
    method: str = "spearman",
    given: ArrayLike | None = None,
    groups: Sequence[Hashable] | None = None,
    n_images: int | None = None,
) -> dict:
    """Return what a table says of a coefficient: the fields of its `Estimate`, and how it stands.

    p: two-sided permutation test (within groups, where there are any), exact up to 7 networks;
    loo_low, loo_high: the range of the estimate when one network is left out; independent: the
    effective number of networks; why: where there is no coefficient, the reason in words.
    Arguments and errors as in `correlation`. Source: methods 1.11.

    >>> row = correlation_row(range(5), [0, 1, 2, 4, 3])
    >>> round(row["p"], 3), round(row["loo_low"], 1), row["independent"], row["why"]
    (0.083, 0.8, 5, '')
    """
    found = correlation(x, y, method, given, groups, n_images=n_images)
    x, y, z, g = _asked(x, y, method, given, groups)
    n, why = len(x), _undefined(x, y, z, g, method)
    p = loo_low = loo_high = np.nan
    if not why:
        columns = [None if v is None else v[:, 0] for v in (x, y, z)]
        if n > 2:
            p = _permutation_p(*columns, method, g, float(found.value))
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
    Source: methods 4 (harness warning), 9.2.

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


# -- designs ---------------------------------------------------------------------------------------


def family(architecture: str) -> str:
    """Return the design that an architecture's name says it is of, in small letters.

    A library's prefix (``tf_``), a tag (``.a1_in1k``), sizes and widths are left out; versions
    (``_v2``) are designs of their own, as are ``lite`` and ``edgetpu``. Names that say nothing of a
    design (``cnn_a``) are to be grouped by hand.

    >>> [family(name) for name in ("tf_efficientnet_lite0", "resnet18.a1_in1k", "mobilenet_v2")]
    ['efficientnet_lite', 'resnet', 'mobilenetv2']
    """
    name = re.sub(r"^((tf|keras|mcu|timm)_)+", "", architecture.lower().partition(".")[0])
    name = re.sub(r"_v(?=\d)", "v", name)
    found = re.match(r"(?:wide_)?[a-z]+?(?:v\d+|(?=\d|_|$))(?:_(?:lite|edgetpu)(?![a-z]))?", name)
    return re.sub(r"^regnet[xyz]$", "regnet", found[0]) if found and found[0] else name


def families_of(
    models: Mapping[str, Mapping], designs: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Return the family of each network: the one that ``designs`` says, or that its name tells.

    models, designs: the sections of a study, key of a network -> its entry.

    >>> models = {"a": {"name": "cnn_a"}, "b": {"name": "resnet18"}}
    >>> families_of(models, {"a": {"family": "challenge"}})
    ['challenge', 'resnet']
    """
    return [
        designs.get(key, {}).get("family") or family(model.get("name", key))
        for key, model in models.items()
    ]


def trainings_of(
    models: Mapping[str, Mapping], designs: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Return how each network was trained: as ``designs`` says, or ``standard``.

    Arguments as of `families_of`.

    >>> trainings_of({"a": {}, "b": {}}, {"b": {"training": "adversarial"}})
    ['standard', 'adversarial']
    """
    return [designs.get(key, {}).get("training") or "standard" for key in models]


def family_means(scores: ArrayLike, families: Sequence[Hashable]) -> np.ndarray:
    """Return the mean of each family in the order of appearance: (K, ...) -> (families, ...).

    >>> family_means([1.0, 3.0, 5.0], ["a", "a", "b"]).tolist()
    [2.0, 5.0]
    """
    scores, g = np.asarray(scores, dtype=float), _numbered(families)
    return np.stack([scores[g == k].mean(0) for k in range(g.max() + 1)])


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


def several(families: Sequence[Hashable]) -> Sequence[Hashable] | None:
    """The families, or None where each has one network: then nothing is to be taken out.

    >>> several(["resnet", "vgg"]), several(["vgg", "vgg"])
    (None, ['vgg', 'vgg'])
    """
    return None if len(set(families)) == len(families) else families


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
    x, y, z, g = _asked(x, y, "spearman", given, families)
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
    networks and photographs without end; taken: what families and a third number take
    (`independent`). Infinite beyond 200, NaN of no coefficient.

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


# -- errors of measurement -------------------------------------------------------------------------


def reliability(
    x: ArrayLike, n_images: int, groups: Sequence[Hashable] | None = None, level: float = 0.95
) -> Estimate:
    """Return the share of a score's spread over networks that other photographs would not move.

    1 less the variance over photographs over that over networks (within groups); at most 1, below
    0 where the errors are over-estimated. Limits: Student's times the spread of the logarithm of
    the share of errors when networks are drawn again, and the variance over photographs is as
    uncertain as that of normal numbers; none of a score without errors.

    Shapes: x (K, 1 + R) as `intervals.resampled_scores` gives it of n_images photographs; groups
    (K,).
    Source: methods 9.2, zoo/README (precision).

    >>> scores = np.arange(6.0)[:, None] + np.zeros((6, 101))
    >>> print(reliability(scores, n_images=9))
    1.00 (no interval), n = 6 networks
    """
    x, _, _, g = _asked(x, x, "spearman", None, groups)
    value, *drawn = 1 - _reliable(x, n_images, g, *_drawn_again(len(x), n_images, g))
    if not value > 0 or (df := independent(len(x), groups) - 1) < 1:
        return Estimate.unsure(1 - value, len(x), "networks")
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.log(drawn)
    se = np.std(apart[np.isfinite(apart)], ddof=1)
    low, high = (1 - value * math.exp(s * stdtrit(df, (1 + level) / 2) * se) for s in (1, -1))
    return Estimate(1 - value, value * se, low, high, len(x), "networks")


def without_error(
    x: ArrayLike,
    y: ArrayLike,
    n_images: int,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Estimate:
    """Return Spearman's coefficient corrected for measurement error, for show: it decides nothing.

    The coefficient over the root of both reliabilities (`reliability`). NaN where an error
    explains all of a spread; beyond 1 in size where the errors are over-estimated. Limits:
    percentiles over networks, drawn again, and with them coefficient and reliabilities, these as
    uncertain as photographs leave them; a draw in which an error explains all may be anything, and
    counts at both ends.

    Shapes: x, y (K, 1 + R) as `intervals.resampled_scores` gives them of n_images photographs;
    groups (K,).
    Source: Spearman 1904; methods 9.2 (shown, never decides).

    >>> scores = np.arange(6.0)[:, None] + np.zeros((6, 101))
    >>> print(without_error(scores, -scores, n_images=9))
    -1.00 [-1.00, -1.00], n = 6 networks
    """
    x, y, _, g = _asked(x, y, "spearman", None, groups)
    index, off = _drawn_again(len(x), n_images, g)
    r = coefficient(x[index, 0], y[index, 0], groups=None if g is None else g[index])
    shares = [_reliable(v, n_images, g, index, off) for v in (x, y)]
    both = np.where((shares[0] > 0) & (shares[1] > 0), shares[0] * shares[1], np.nan)
    found, tail = r / np.sqrt(both), (1 - level) / 2
    if not np.isfinite(found[0]):
        return Estimate.unsure(np.nan, len(x), "networks")
    low, high = (
        np.quantile(np.where(np.isnan(found[1:]), end, found[1:]), q, method="nearest")
        for q, end in ((tail, -np.inf), (1 - tail, np.inf))
    )
    return Estimate(found[0], np.nanstd(found[1:]), low, high, len(x), "networks")


def _drawn_again(n: int, n_images: int, g: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Networks, (1 + D, n), each in the place of one of its group, and by what the variance over
    photographs is off, (1 + D,), of every draw: as of so many normal numbers. The first are the
    networks and the variance at hand."""
    rng, df = np.random.default_rng(0), max(n_images - 1, 1)
    index = np.tile(np.arange(n), (1 + DRAWS, 1))
    for own in [index[0]] if g is None else [np.flatnonzero(g == k) for k in np.unique(g)]:
        index[1:, own] = rng.choice(own, (DRAWS, len(own)))
    return index, np.concatenate([[1.0], rng.chisquare(df, DRAWS) / df])


def _reliable(
    v: np.ndarray, n_images: int, g: np.ndarray | None, index: np.ndarray, off: np.ndarray
) -> np.ndarray:
    """The reliability of a score, (n, 1 + R), in every draw of `_drawn_again`, (1 + D,)."""
    groups = np.zeros(index.shape, int) if g is None else g[index]
    spread = (_within(v[index, 0], groups) ** 2).sum(1)
    known = v[:, 1:][:, np.isfinite(v[:, 1:]).all(0)]
    # Without resamples there is no error; of too few photographs none is known.
    error = np.full(len(index), 0.0 if v.shape[1] == 1 else np.nan)
    if known.shape[1] > 1:
        cov = np.atleast_2d(np.cov(known))[index[:, :, None], index[:, None]]  # (1 + D, n, n)
        alike = groups[:, :, None] == groups[:, None]
        lost = (cov * alike / alike.sum(2, keepdims=True)).sum((1, 2))  # with means of groups
        error = np.diagonal(cov, axis1=1, axis2=2).sum(1) - lost
    # Resamples vary by less than new photographs.
    error *= n_images / max(n_images - 1, 1) * off
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, 1 - error / spread, np.nan)


# -- other statistics of networks ------------------------------------------------------------------


def over_networks(
    statistic: Callable[[np.ndarray], np.ndarray],
    draws: Sequence[Hashable],
    n_images: int | None = None,
) -> Levels:
    """Return a statistic of networks as a function of the level, for other networks, photographs.

    Over networks the limits are the jackknife's with Student's quantile: all networks of one draw
    (a family, or a network that stands alone) are left out at a time. Over photographs they are
    the resamples'; both add up as in `intervals.crossed_mean`. n is the number of draws.

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
    g = _numbered(draws)
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


# -- coefficients of many rows ---------------------------------------------------------------------


def coefficient(x, y, z=None, method: str = "spearman", groups=None) -> np.ndarray:
    """The coefficient of each row: x, y (and z, groups) (R, n) -> (R,); NaN where one is
    constant but for rounding (`rounding.flat`).

    groups: whole numbers, the group of each network, whose means are taken out of all first.
    """
    none = flat(x, groups) | flat(y, groups) | (False if z is None else flat(z, groups))
    return np.where(none, np.nan, _of_rows(x, y, z, method, groups))


def ranks(values: ArrayLike) -> np.ndarray:
    """The ranks of each row (R, n), from 1 on, of equal numbers their mean; NaN in a row with NaN.

    >>> ranks([[3.0, 1.0, 2.0], [1.0, 2.0, 1.0]]).tolist()
    [[3.0, 1.0, 2.0], [1.5, 3.0, 1.5]]
    """
    values = np.asarray(values, dtype=float)
    order = values.argsort(axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    if not (ordered[:, 1:] > ordered[:, :-1]).all():  # equal ones, or NaN
        return stats.rankdata(values, axis=1)
    found = np.empty(values.shape)
    np.put_along_axis(found, order, np.arange(1.0, 1 + values.shape[1])[None], axis=1)
    return found


def _asked(x, y, method: str, given, groups) -> tuple:
    """The numbers as (n, 1 + R), columns but the first being resamples, and groups as (n,)."""
    x, y = _numbers(x, "x"), _numbers(y, "y")
    z = None if given is None else _numbers(given, "given")
    g = None if groups is None else _numbered(groups)
    all_of_them = [v for v in (x, y, z, g) if v is not None]
    if any(v.ndim not in (1, 2) or len(v) != len(all_of_them[0]) for v in all_of_them):
        raise ValueError(
            "one number per network is needed, got shapes "
            + ", ".join(str(v.shape) for v in (x, y, z) if v is not None)
            + ("" if g is None else f", and {len(g)} groups")
        )
    plain = z is None and g is None
    if method not in METHODS or (method == "kendall" and not plain):
        raise ValueError(
            f"method={method!r} is not known{'' if plain else ' with given= or groups='}; "
            f"choose one of {', '.join(METHODS if plain else METHODS[:2])}"
        )
    return *(None if v is None else v.reshape(len(v), *v.shape[1:] or (1,)) for v in (x, y, z)), g


def _numbers(values: ArrayLike, name: str) -> np.ndarray:
    """Real numbers as float64: of a tensor, a column, a list in which None is a missing one."""
    if np.ma.is_masked(values):
        raise ValueError(f"{name} is masked in places, where there is no number; leave these out")
    values = values.detach().cpu() if hasattr(values, "detach") else values
    try:
        if np.asarray(values).dtype.kind in "biufO":
            return np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError):  # words in it, rows of different lengths
        pass
    text = " ".join(str(values).split())[:40]
    raise TypeError(f"{name} is {text!r}; give real numbers, one per network")


def _undefined(x, y, z, g, method: str) -> str:
    """Why some numbers of each network have no correlation, in words; "" if they have one."""
    named = {"x": x[:, 0], "y": y[:, 0]} | ({} if z is None else {"given": z[:, 0]})
    n = len(x)
    if n < 2:
        return f"it takes 2 networks, not {n}"
    for name, values in named.items():
        if np.isnan(values).any():
            return f"{name} is nan for {np.isnan(values).sum()} of {n}"
        if method == "pearson" and np.isinf(values).any():
            return f"{name} is infinite for {np.isinf(values).sum()} of {n}; take ranks"
    within = None if g is None else g[None]
    rows = {name: values[None] for name, values in named.items()}
    still = [name for name, row in rows.items() if flat(row, within)[0]]
    if still:
        where = "" if g is None else " within groups"
        return f"{' and '.join(still)} {'is' if len(still) == 1 else 'are'} constant{where}"
    if z is not None and np.isnan(coefficient(*rows.values(), method, within)[0]):
        return "given leaves nothing of x or y"  # all else has been asked
    return ""


def _of_rows(x, y, z, method: str, groups) -> np.ndarray:
    if method == "kendall":
        x, y = ranks(x), ranks(y)
        return np.concatenate(
            [  # a few rows at a time: each takes n * n numbers
                _kendall(*part)
                for part in zip(
                    *(np.array_split(v, 1 + len(v) // 100) for v in (x, y)), strict=True
                )
            ]
        )
    if method == "spearman":
        x, y, z = ranks(x), ranks(y), None if z is None else ranks(z)
    if groups is not None:
        x, y, z = (None if v is None else _within(v, groups) for v in (x, y, z))
    xy = _pearson(x, y)
    if z is None:
        return xy
    xz, yz = _pearson(x, z), _pearson(y, z)
    room = (1 - xz**2) * (1 - yz**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Where the third number says everything about one of the two, nothing is left to correlate.
        return np.where(room > 1e-9, (xy - xz * yz) / np.sqrt(room), np.nan)


def _kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    dx, dy = (np.sign(v[:, :, None] - v[:, None, :]) for v in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (dx * dy).sum((1, 2)) / np.sqrt((dx**2).sum((1, 2)) * (dy**2).sum((1, 2)))


def _numbered(groups: Sequence[Hashable]) -> np.ndarray:
    """Groups as whole numbers, in the order in which they appear."""
    names = list(dict.fromkeys(groups))
    return np.array([names.index(group) for group in groups])


def _within(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Each row (R, n) without the means of its groups."""
    left = np.array(values, dtype=float)
    for group in np.unique(groups):
        inside = groups == group
        mean = (values * inside).sum(1) / np.maximum(inside.sum(1), 1)
        left -= inside * mean[:, None]
    return left


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # By powers of two, which round nothing: squares of very large or small numbers are none.
    x, y = (np.ldexp(v, -np.frexp(np.abs(v).max(1, keepdims=True))[1]) for v in (x, y))
    dx, dy = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    spread = (dx**2).sum(1) * (dy**2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, (dx * dy).sum(1) / np.sqrt(spread), np.nan)


def _permutation_p(x, y, z, method: str, g: np.ndarray | None, estimate: float) -> float:
    """Two-sided, within groups where there are any, with the numbers of each network (n,)."""
    n = len(x)
    exact = n <= EXACT and g is None
    shuffled = orders(n, None if g is None else tuple(g.tolist()))
    if method == "spearman":
        method, x, y = "pearson", ranks(x[None])[0], ranks(y[None])[0]
        z = None if z is None else ranks(z[None])[0]
    if g is not None:
        x, y, z = (None if v is None else _within(v[None], g[None])[0] for v in (x, y, z))
    if method == "kendall":
        others = coefficient(np.broadcast_to(x, shuffled.shape), y[shuffled], method=method)
    else:
        x, y = (_scaled(v - v.mean()) for v in (x, y))
        lost = 0.0
        if z is not None:  # what is left of y without z is what may be exchanged
            z = _scaled(z - z.mean())
            x, y = (v - (v @ z) * z for v in (x, y))
            lost = (y[shuffled] @ z) ** 2
        room = (y @ y - lost) * (x @ x)
        with np.errstate(invalid="ignore", divide="ignore"):
            others = np.where(room > 0, y[shuffled] @ x / np.sqrt(room), 0.0)
    extreme = np.abs(others) >= abs(estimate) - 1e-12
    return float((extreme.sum() + (not exact)) / (len(shuffled) + (not exact)))


def _scaled(v: np.ndarray) -> np.ndarray:
    """A vector of length 1, by way of its largest number: squares of very large ones are none."""
    v = v / np.abs(v).max()
    return v / np.linalg.norm(v)


@functools.lru_cache(maxsize=8)  # the same for every coefficient over the same networks
def orders(n: int, groups: tuple | None) -> np.ndarray:
    """Orders of n networks, all of them or random ones, within groups where there are any.

    >>> orders(3, None).tolist()[:2]
    [[0, 1, 2], [0, 2, 1]]
    """
    if n <= EXACT and groups is None:
        return np.array(list(itertools.permutations(range(n))))
    found = np.tile(np.arange(n), (PERMUTATIONS, 1))
    found = np.random.default_rng(0).permuted(found, axis=1)
    if groups is None:
        return found
    # The shuffled members of each group go to the places of its members.
    g = np.array(groups)
    order = np.argsort(g[found], axis=1, kind="stable")
    within = np.empty_like(found)
    within[:, np.argsort(g, kind="stable")] = np.take_along_axis(found, order, axis=1)
    return within
