"""Limits of what was drawn: resamples of photographs, Student's t of a few trainings, and both.

Means of values lie on the first axis, photographs (or what else was drawn) on the last. Every limit
is a function of its level: `interval` gives one, `at_levels` the function, as verdicts on several
parts at once need it.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtrc, gammaln, ndtr, ndtri, stdtrit, xlogy

from iaside.backend.content import by_content
from iaside.backend.outside import outside
from iaside.estimate.clean import may_be_zero, wilson
from iaside.estimate.estimate import Estimate
from iaside.estimate.rounding import total_worth

Levels = Callable[[float], Estimate]  # a level, such as .95 -> the estimate with these limits
# With fewer of them limits are NaN, and nothing is decided (methods 9.2).
LEAST = {"photographs": 5, "trainings": 3, "initialisations": 5, "networks": 4}
STUDENT = 15  # with fewer, percentiles reach at least as far as Student's (methods 9.2)
RESOLVED = 20  # resamples that a tail must hold to be read off them
SHARES = 201  # of images that differ, of which a test takes the worst
AT_ONCE = 2000  # resamples: more take no less time, and memory


def standard_errors(psi: ArrayLike) -> np.ndarray:
    """Return the standard error of each band's mean over images: (M, N) -> (M,).

    One image has no standard error: NaN, with a RuntimeWarning. Errors as in `interval`.

    >>> standard_errors([[1.0, 3.0], [2.0, 2.0]])
    array([1., 0.])
    """
    psi = per_image(psi, least=1)
    if psi.shape[1] == 1:
        warnings.warn("one image has no standard error", RuntimeWarning, stacklevel=outside())
        return np.full(len(psi), np.nan)
    return psi.std(1, ddof=1) / np.sqrt(psi.shape[1])


def mean_interval(values: ArrayLike, level: float = 0.95, unit: str = "photographs") -> Estimate:
    """Return the mean of each row of `values` (K, n), with Student's t limits, (K,).

    For curves of many points, and for a few initialisations or trainings, of which resamples know
    too little; `interval`, which allows for skew, is for the numbers that are concluded from many
    photographs. Fewer than `LEAST` of the unit have no limits (NaN). Errors as in `interval`.

    >>> mean_interval([[1.0, 3.0, 2.0, 4.0, 5.0], [2.0, 2.0, 2.0, 2.0, 2.0]]).high.round(2)
    array([4.96, 2.  ])
    """
    values = per_image(values, least=1)
    n, mean, se = values.shape[1], values.mean(1), standard_errors(values)
    few = n < least(unit)
    reach = np.nan * se if few else stdtrit(n - 1, (1 + level) / 2) * se
    return Estimate(mean, se, mean - reach, mean + reach, n, unit)


def least(unit: str) -> int:
    """How many of a unit it takes for limits. Errors: ValueError for a unit that has no rule.

    >>> least("trainings")
    3
    """
    if unit not in LEAST:
        raise ValueError(f"unit={unit!r} is not known; choose one of {', '.join(LEAST)}")
    return LEAST[unit]


def accuracy_interval(correct: ArrayLike, level: float = 0.95) -> Estimate:
    """Return the share of correct answers, (...), with its Wilson interval; `correct` is (..., N).

    Resampling would find no spread at all where every answer is right, or none.

    Raises ValueError for anything but zeros and ones.

    >>> accuracy_interval([1, 1, 1, 1]).low.round(2)
    np.float64(0.51)
    """
    correct = np.asarray(correct, dtype=float)
    if not np.isin(correct, (0, 1)).all():
        raise ValueError("correct must hold zeros and ones only, one per image")
    p, n = correct.mean(-1), correct.shape[-1]
    return Estimate(p, np.sqrt(p * (1 - p) / n), *wilson(p, n, level), n, "photographs")


def accuracy_difference(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Estimate:
    """Return accuracy of `first` minus accuracy of `second` on the same images, each (N,).

    Agresti and Min's interval for paired zeros and ones, which adds half an image to each of the
    four outcomes: resampling would find no spread where all images agree. The limits hold 0
    wherever the exact test of as many images lost as won does not reject it: at high levels a
    normal tail believes too few of them (five of five are one in 16). The test allows for every
    share of images that differ, and finds more than the sign test, which takes it as given.
    Source: Agresti and Min 2005; Suissa and Shuster 1991 (the test).

    Of no images everything is nan.
    Raises ValueError for anything but zeros and ones, or unequal lengths.

    >>> d = accuracy_difference([1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0])
    >>> float(d.estimate), bool(0.2 < d.low < d.high <= 1)
    (1.0, True)
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"both need one number per image, got {first.shape} and {second.shape}")
    if not (np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all()):
        raise ValueError("both must hold zeros and ones only, one per image")
    n, d = len(first), first - second
    if not n:
        return Estimate.unsure(np.nan, 0, "photographs")
    lost, won = (d > 0).sum() + 0.5, (d < 0).sum() + 0.5
    centre = (lost - won) / (n + 2)
    se = np.sqrt((lost + won) - (lost - won) ** 2 / (n + 2)) / (n + 2)
    reach = ndtri((1 + level) / 2) * se
    own = d.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    low, high = max(-1.0, centre - reach), min(1.0, centre + reach)
    told = low > 0 or high < 0
    if told and _lost_as_won(int((d > 0).sum()), int((d < 0).sum()), n) > 1 - level:
        low, high = min(low, 0.0), max(high, 0.0)
    return Estimate(d.mean(), own, low, high, n, "photographs")


@functools.lru_cache(maxsize=1000)
def _lost_as_won(lost: int, won: int, n: int) -> float:
    """The two-sided p value of so many of n images lost and won where either is as likely, at the
    share of images that differ which makes it largest."""
    if lost == won:
        return 1.0
    differ = np.arange(1, n + 1)  # of which at least so many have to be on one side
    least = np.ceil((differ + abs(lost - won) / np.sqrt(lost + won) * np.sqrt(differ)) / 2 - 1e-9)
    tail = np.where(least <= differ, bdtrc(np.minimum(least, differ) - 1, differ, 0.5), 0.0)
    ways = gammaln(n + 1) - gammaln(differ + 1) - gammaln(n - differ + 1)

    def p(share: float) -> float:
        return np.exp(ways + xlogy(differ, share) + xlogy(n - differ, 1 - share)) @ tail

    return min(1.0, 2 * float(max(map(p, np.linspace(0, 1, SHARES)[1:]))))


def nonuniformity(psi: ArrayLike, level: float = 0.95) -> Estimate:
    """Return how far the most unusual band lies from the mean band, over v(all) - v(none).

    `psi` is (M, N). Unlike the distance of a min-max SID from uniform it is 0 for bands that are
    all worth the same, and its interval says so. It reaches down to the largest lower limit of a
    band, of intervals at 1 - (1 - level)/M, since any of the M may be the one; and up to the
    largest upper limit at `level` itself, since the band that is truly the farthest is among them.

    Raises ValueError for fewer than two bands, or if v(all) - v(none) is zero; where it only may be
    (`may_be_zero`), a RuntimeWarning. With fewer than 5 images the limits are NaN.

    >>> round(float(nonuniformity([[3.0, 4.0, 5.0], [1.0, 0.0, 1.0]]).value), 3)
    0.357
    """
    psi = per_image(psi)
    n_bands, n = psi.shape
    gain = total_worth(psi)
    whole = gain.mean()
    if whole == 0:
        raise ValueError(
            "v(all) - v(none) is 0: the whole image is worth no more than the empty one"
        )
    if may_be_zero(gain, level):
        warnings.warn(
            f"v(all) - v(none) = {whole:.3g} may be 0: no share of it can be told",
            RuntimeWarning,
            stacklevel=outside(),
        )
    apart = psi - psi.mean(0)
    share = apart.mean(1) / whole
    far = np.abs(share)
    if n < LEAST["photographs"]:
        return Estimate.unsure(far.max(), n, "photographs")
    se = standard_errors((apart - share[:, None] * gain) / whole)  # of a ratio: both parts vary
    of_any, of_all = stdtrit(n - 1, 1 - _tail_of(level) / np.array([n_bands, 1]))
    low, high = max(0.0, (far - of_any * se).max()), (far + of_all * se).max()
    return Estimate(far.max(), se[far.argmax()], low, high, n, "photographs")


def interval(
    psi: ArrayLike,
    statistic: Callable,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    unit: str = "photographs",
) -> Estimate:
    """Return a statistic of the mean values with its standard error and an interval over images.

    `psi` is (M, N), one column per image (or whatever `unit` names). `statistic` maps mean values
    (M, R), one column per resample, to (..., R); the numbers of the result have its shape without
    R.

    Each limit is that of the studentised bootstrap or, where it reaches further, the percentile of
    the resamples at a level widened for small N. Each covers for the other. Percentiles ignore bias
    and skew: in nine synthetic populations at N = 24 they hold the true SRC in 85 % of cases where
    95 % are asked (both together: 94 %). The studentised bootstrap fails for bands close to the
    weakest one, whose share the min-max SID pins to 0. Both together miss the mean of 24 normal
    values in 6 % of samples, so that limits reach at least as far as Student's, too. The standard
    error is the delta method's. Limits can leave the range of the statistic: a share may get a
    limit below 0.

    With fewer than 5 images the limits (with one, the standard error too) are NaN, with a
    RuntimeWarning.

    Raises ValueError for psi not (M >= 1, N >= 1) or not finite, a level outside (0, 1), fewer
    than 100 resamples, or a statistic of the wrong shape.

    >>> psi = np.random.default_rng(0).normal(size=(2, 50)) + [[1.0], [0.0]]
    >>> result = interval(psi, lambda mean: mean)
    >>> result.low.round(1), result.high.round(1)
    (array([ 0.9, -0.3]), array([1.4, 0.3]))
    """
    return at_levels(psi, statistic, n_resamples, seed, unit)(level)


def at_levels(
    psi: ArrayLike,
    statistic: Callable,
    n_resamples: int = 20_000,
    seed: int = 0,
    unit: str = "photographs",
) -> Levels:
    """Return `interval` as a function of the level, for verdicts on several parts at once.

    A tail with fewer than 20 resamples is not read off them: from the last that has them on, limits
    move out as Student's do. Arguments and errors as in `interval`.

    >>> psi = np.random.default_rng(0).normal(size=(1, 50))
    >>> limits = at_levels(psi, lambda mean: mean[0])
    >>> bool(limits(0.9999).low < limits(0.95).low)
    True
    """
    psi = per_image(psi, least=1)
    n = psi.shape[1]
    if n_resamples < 100:
        raise ValueError(f"n_resamples must be at least 100, got {n_resamples!r}")
    mean = psi.mean(1, keepdims=True)
    value = evaluate(statistic, mean)
    shape, value = value.shape[:-1], value.reshape(-1, 1)
    few = n < least(unit)
    if few:
        _too_few(n, unit)
    if n == 1:
        return lambda level: Estimate.unsure(value.reshape(shape), n, unit)
    deviation = psi - mean
    products = (deviation[:, None] * deviation).reshape(-1, n)
    step = psi.std(1, ddof=1) / np.sqrt(n) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # heard already, for the value
        own = products.mean(1).reshape(len(psi), len(psi), 1) / (n - 1)
        se = _delta_se(statistic, mean, own, step)
        if few:
            return lambda level: Estimate.unsure(
                value.reshape(shape)[()], n, unit, se.reshape(shape)[()]
            )
        resampled, resampled_se = [], []
        every = draws(n, n_resamples, seed)
        for drawn in np.array_split(every, -(-n_resamples // AT_ONCE), axis=1):
            shift = deviation @ drawn  # one matrix product gives the means of all resamples
            covariance = (products @ drawn).reshape(len(psi), len(psi), -1)
            covariance = (covariance - shift[:, None] * shift) / (n - 1)
            resampled.append(evaluate(statistic, mean + shift).reshape(len(value), -1))
            resampled_se.append(_delta_se(statistic, mean + shift, covariance, step))
    resampled, resampled_se = (np.concatenate(parts, 1) for parts in (resampled, resampled_se))
    # A resample of few distinct images has next to no spread: the floor keeps its t finite.
    floor = np.where(se > 0, 0.1 * se, 1.0)
    t = np.sort((resampled - value) / np.maximum(resampled_se, floor), axis=1)
    resampled = np.sort(resampled - value, axis=1)

    def limits(level: float) -> Estimate:
        tail = _tail_of(level)
        t_low, t_high = _quantiles(t, tail, functools.partial(stdtrit, n - 1))
        low, high = _quantiles(resampled, _widened(tail, n), ndtri)
        low, high = np.minimum(low, -t_high * se), np.maximum(high, -t_low * se)
        reach = -stdtrit(n - 1, tail) * se
        low, high = np.minimum(low, -reach), np.maximum(high, reach)
        fields = (value, se, value + low, value + high)
        return Estimate(*(field.reshape(shape)[()] for field in fields), n, unit)

    return limits


def paired_interval(
    psi_a: ArrayLike,
    psi_b: ArrayLike,
    statistic: Callable,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Return statistic(a) - statistic(b) for two models on the same images, with its interval.

    `psi_a` and `psi_b` are (M, N) with the same images in the same order; each resample draws the
    same images for both, so what the images have in common cancels. The rest as in `interval`.

    Raises ValueError if the shapes differ.

    >>> psi = np.random.default_rng(0).normal(size=(2, 50))
    >>> paired_interval(psi + 1, psi, lambda mean: mean).low.round(6)
    array([1., 1.])
    """
    return lead_interval(psi_a, [psi_b], statistic, level, n_resamples, seed)


def lead_interval(
    psi: ArrayLike,
    others: Sequence[ArrayLike],
    statistic: Callable,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Return statistic(one model) minus its mean over other models, paired over the images.

    The rest as in `paired_interval`, which is the case of one other model.

    >>> psi = np.random.default_rng(0).normal(size=(2, 50))
    >>> lead_interval(psi + 1, [psi, psi + 2], lambda mean: mean).low.round(6)
    array([-0., -0.])
    """
    stacked, lead = lead_of(psi, others, statistic)
    return interval(stacked, lead, level, n_resamples, seed)


def lead_of(
    psi: ArrayLike, others: Sequence[ArrayLike], statistic: Callable
) -> tuple[np.ndarray, Callable]:
    """Return the values of all models in one array, and the lead of the first in a statistic on it.

    What `interval` and `at_levels` take. Raises ValueError if the shapes differ.

    >>> stacked, lead = lead_of([[3.0, 5.0]], [[[1.0, 1.0]], [[2.0, 2.0]]], lambda mean: mean[0])
    >>> stacked.shape, float(lead(stacked.mean(1)))
    ((3, 2), 2.5)
    """
    psi, others = per_image(psi, 1), [per_image(other, 1) for other in others]
    for other in others:
        if other.shape != psi.shape:
            raise ValueError(
                f"a paired comparison needs the same bands and images for both models, "
                f"got {psi.shape} and {other.shape}"
            )
    n_bands = len(psi)

    def lead(mean):
        own, *theirs = (
            np.asarray(statistic(mean[k : k + n_bands])) for k in range(0, len(mean), n_bands)
        )
        return own - sum(theirs) / len(theirs)

    return np.concatenate([psi, *others]), lead


@by_content
class Best(NamedTuple):
    """The best of some variants on the same images: which they are, their mean, and how far it is
    above the mean of all."""

    rows: list[int]
    score: Estimate
    above: Estimate


def best_interval(
    rows: ArrayLike, level: float = 0.95, n_resamples: int = 20_000, seed: int = 0
) -> Best:
    """Return which of K variants is the best on the same images, and how good it is.

    `rows` is (K, N), one column per image; several are the best where they are equal. What was the
    best of K in these images looks better than it is: the limits of its mean, and of how far that
    is above the mean of all rows, in pairs, are widened so that all K hold at once (Bonferroni),
    hence those of whichever is the best. The rest as in `interval`.

    >>> rows = np.random.default_rng(0).normal(size=(3, 40)) + [[0.0], [2.0], [0.0]]
    >>> best = best_interval(rows)
    >>> best.rows, bool(best.above.low > 0)
    ([1], True)
    """
    rows = per_image(rows, least=1)
    means = rows.mean(1)
    pair = np.stack([rows[means.argmax()], rows.mean(0)])
    every = 1 - (1 - level) / len(rows)
    score, above = (
        interval(pair, statistic, every, n_resamples, seed)
        for statistic in (lambda mean: mean[0], lambda mean: mean[0] - mean[1])
    )
    return Best(np.flatnonzero(means == means.max()).tolist(), score, above)


def paired_distance(
    psi_a: ArrayLike,
    psi_b: ArrayLike,
    statistic: Callable,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Return the L1 distance of statistic(a) from statistic(b) on the same images, with interval.

    `psi_a` and `psi_b` are (M, N); `statistic` maps mean values (M, R) to (K, R), such as a SID.

    Noise never cancels in a distance: that of two equal SIDs is estimated above 0, and `interval`
    believes it, because resamples add noise to noise. But a distance is the largest of all sums of
    the differences with signs, and resamples do show how far each is off. The upper limit is the
    largest upper limit of a sum: the true distance is one of them, which that limit holds. The
    lower limit goes down by what the errors of resamples add to the differences if those within two
    standard errors of 0 are 0, and the others two nearer to it than they seem (Andrews and Soares
    2010). It is 0 unless the distance exceeds the L1 norm of these errors, as noise alone does not.
    Each reach is that of either percentile, widened for small N, or Student's.

    In synthetic worlds at N = 12 and 24 a limit of 97.5 % missed the true distance in at most 2.5 %
    of cases, 4 % where two weakest bands change places (N = 24); the lower one of `interval` does
    in up to 31 % (true distance 0). The estimate is not corrected for its bias. The standard error
    is the resamples'.

    Raises ValueError if the shapes differ. The rest as in `interval`.

    >>> psi = np.random.default_rng(0).normal(size=(3, 50)) + [[2.0], [1.0], [0.0]]
    >>> paired_distance(psi, psi[::-1], lambda mean: mean / mean.sum(0)).limits(".1f")
    '1.3 [1.0, 1.7]'
    """
    return distance_at_levels(psi_a, psi_b, statistic, n_resamples, seed)(level)


def distance_at_levels(
    psi_a: ArrayLike,
    psi_b: ArrayLike,
    statistic: Callable,
    n_resamples: int = 20_000,
    seed: int = 0,
) -> Levels:
    """Return `paired_distance` as a function of the level, for verdicts on several parts at once.

    >>> psi = np.random.default_rng(0).normal(size=(3, 50)) + [[2.0], [1.0], [0.0]]
    >>> limits = distance_at_levels(psi, psi[::-1], lambda mean: mean)
    >>> bool(limits(0.9999).low < limits(0.95).low)
    True
    """
    both, difference = lead_of(psi_a, [psi_b], statistic)
    n = both.shape[1]
    if n_resamples < 100:
        raise ValueError(f"n_resamples must be at least 100, got {n_resamples!r}")
    value = evaluate(difference, both.mean(1, keepdims=True))
    distance = np.abs(value).sum(0)[0]
    if n < LEAST["photographs"]:
        _too_few(n, "photographs")
        return lambda level: Estimate.unsure(distance, n, "photographs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # heard already, for the value
        resampled = evaluate(difference, both @ draws(n, n_resamples, seed))
    se, error = np.abs(resampled).sum(0).std(ddof=1), resampled - value
    noise = np.sort(np.abs(error).sum(0))[None]
    # What may be 0 counts as 0, which noise raises most, and the rest as less than it seems.
    sure = np.maximum(np.abs(value) - 2 * error.std(1, ddof=1)[:, None], 0)
    excess = np.sort((np.abs(sure + np.copysign(1, value) * error) - sure).sum(0))[None]
    signs = _farthest_signs(value, np.atleast_2d(np.cov(error)))
    sums = np.sort(signs @ error, axis=1)

    def limits(level: float) -> Estimate:
        tail = _tail_of(level)

        def reach(rows):
            low, high = _quantiles(rows, _widened(tail, n), ndtri)
            student = -stdtrit(n - 1, tail) * rows.std(1, ddof=1, keepdims=True)
            return np.maximum(np.maximum(high, -low), student)

        told = distance > _quantiles(noise, _widened(tail, n), ndtri)[1].item()
        low = max(distance - reach(excess).item(), 0.0) if told else 0.0
        return Estimate(distance, se, low, (signs @ value + reach(sums)).max(), n, "photographs")

    return limits


def _farthest_signs(value: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Signs (_, K) for which s' value (K, 1) and some standard errors of it add up to most.

    Both are convex in s: s <- the signs of their gradient never lowers the sum.
    """
    found = [np.where(value >= 0, 1.0, -1.0).T]
    for errors in (2, 4):
        starts = np.linalg.eigh(covariance)[1]
        signs = np.where(np.concatenate([starts, -starts], axis=1) >= 0, 1.0, -1.0)
        for _ in range(len(value) + 9):
            ahead = covariance @ signs
            se = np.sqrt(np.maximum((signs * ahead).sum(0), 1e-300))
            signs = np.where(value + errors * ahead / se >= 0, 1.0, -1.0)
        found.append(signs.T)
    return np.unique(np.concatenate(found), axis=0)


# -- networks or trainings that all saw the same photographs ---------------------------------------


def resampled_scores(
    values: Sequence[ArrayLike], statistic: Callable, n_resamples: int = 400, seed: int = 0
) -> np.ndarray:
    """Return a statistic of each of K networks on the photographs and on resamples of them.

    Shapes: values K arrays (M, N) of the same N photographs; statistic maps mean values (M, R),
    one column per resample, to (..., R). Returns (K, ..., 1 + n_resamples): column 0 is on the
    photographs as they are, each further one on the same resample for all networks. With fewer
    than 5 photographs resamples say nothing: NaN.
    Errors: ValueError for no network or for different photographs.

    >>> scores = resampled_scores([np.ones((2, 9)), np.eye(2, 9)], lambda mean: mean[0])
    >>> scores.shape, scores[:, 0].round(2).tolist()
    ((2, 401), [1.0, 0.11])
    """
    values = [np.asarray(v, dtype=float) for v in values]
    counts = {v.shape[-1] for v in values}
    if len(counts) != 1:
        raise ValueError(f"networks are compared on the same photographs, got {sorted(counts)}")
    n = counts.pop()
    weights = np.concatenate([np.full((n, 1), 1 / n), draws(n, n_resamples, seed)], axis=1)
    scores = np.stack([np.asarray(statistic(v @ weights), dtype=float) for v in values])
    if n < LEAST["photographs"]:
        scores[..., 1:] = np.nan
    return scores


def crossed_mean(
    scores: ArrayLike, n_images: int, level: float = 0.95, unit: str = "trainings"
) -> Estimate:
    """Return the mean of a score over K networks, allowing for other networks and photographs.

    Shapes: scores (K, 1 + R) as `resampled_scores` gives them; n_images is N. Two parts add up, in
    quadrature, to the reach of the limits: Student's with K - 1 degrees of freedom over what was
    drawn, and Student's with N - 1 over the photographs that all have in common. Below `LEAST` of
    the unit the limits are NaN.
    Source: methods 9.2 (networks and photographs crossed; the unit's own degrees of freedom).

    >>> f"{crossed_mean([[1.0] * 9, [2.0] * 9, [3.0] * 9], 9):.2f}"
    '2.00 [-0.48, 4.48], n = 3 trainings'
    """
    scores = np.asarray(scores, dtype=float)
    k = len(scores)
    variance = scores[:, 0].var(ddof=1) / k if k > 1 else np.nan
    return _crossed(scores.mean(0), variance, k - 1, k, n_images, level, unit)


def crossed_difference(
    first: ArrayLike, second: ArrayLike, n_images: int, level: float = 0.95, unit: str = "networks"
) -> Estimate:
    """Return the mean score of some networks minus that of others, limits as in `crossed_mean`.

    Each group is a part of its own, with its own degrees of freedom. (Welch's, of both together,
    are too many where the smaller group scatters more: of normal scores of 3 against 5 networks
    95 % limits missed the truth in up to 6.7 % of cases, 99.95 % limits in .5 %; these never in
    more than 5 and .05 %.) n is the size of the smaller group, which must hold `LEAST` of the unit.

    Shapes: first (A, 1 + R), second (B, 1 + R), on the same photographs and resamples of them.

    >>> high, low = [[4.0] * 9, [5.0] * 9, [6.0] * 9, [7.0] * 9], [[1.0] * 9] * 4
    >>> f"{crossed_difference(high, low, 9):.2f}"
    '4.50 [2.45, 6.55], n = 4 networks'
    """
    groups = [np.asarray(group, dtype=float) for group in (first, second)]
    sizes = np.array([len(group) for group in groups])
    difference = groups[0].mean(0) - groups[1].mean(0)
    if sizes.min() < 2:
        return _crossed(difference, np.nan, 1, sizes.min(), n_images, level, unit)
    variances = [group[:, 0].var(ddof=1) / len(group) for group in groups]
    return _crossed(difference, variances, sizes - 1, sizes.min(), n_images, level, unit)


def _crossed(found, variance, df, n, n_images, level, unit):
    """The value found on the photographs and on resamples of them, (1 + R,), with its limits.

    variance, df: over networks, of the whole or of each group of them.
    """
    # A resample varies by (n - 1) / n of what a new set of images does.
    over_images = found[1:].var(ddof=1) * n_images / max(n_images - 1, 1)
    variances = np.append(variance, over_images)
    if n < least(unit) or not np.isfinite(variances).all():
        return Estimate.unsure(found[0], n, unit)
    t = stdtrit(np.append(df, n_images - 1), _tail_of(level))
    reach, se = np.sqrt((t**2 * variances).sum()), np.sqrt(variances.sum())
    return Estimate(found[0], se, found[0] - reach, found[0] + reach, n, unit)


# -- resampling of whole procedures ----------------------------------------------------------------


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
        _too_few(n, "photographs")
        return np.stack([found, *[np.full_like(found, np.nan)] * n_resamples])
    return np.stack([found, *(procedure(rng.integers(n, size=n), rng) for rng in generators[1:])])


def of_resamples(rows: ArrayLike, n: int, unit: str = "photographs") -> Levels:
    """Return what a procedure found on n images, with percentiles of its resamples, by the level.

    rows: (1 + R, ...), as `bootstrap` gives them: first on the images as they are. Percentiles are
    those of `interval`: at a level widened for small n, and where a tail holds fewer than 20
    resamples moved out from the last that does. Below 15 images limits reach at least as far as
    Student's. They always hold the estimate: the noise of a procedure may put it anywhere. With
    fewer images than the unit needs they are NaN.
    Errors: ValueError for fewer than 40 resamples.
    Source: methods 9.2.

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
    value, moved = rows[0].ravel(), np.sort((rows[1:] - rows[0]).reshape(len(rows) - 1, -1).T)
    se = moved.std(1, ddof=1)

    def limits(level: float) -> Estimate:
        tail = _tail_of(level)
        low, high = (end[:, 0] for end in _quantiles(moved, _widened(tail, n), ndtri))
        if n < STUDENT:
            reach = -stdtrit(n - 1, tail) * se
            low, high = np.minimum(low, -reach), np.maximum(high, reach)
        fields = value, se, value + np.minimum(low, 0), value + np.maximum(high, 0)
        return Estimate(*(field.reshape(shape)[()] for field in fields), n, unit)

    return limits


def _too_few(n, unit):
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


def check_level(level: float) -> None:
    """Refuse what is no level. Errors: ValueError.

    >>> check_level(0.95)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, both excluded; got {level!r}")


def _tail_of(level: float) -> float:
    check_level(level)
    return (1 - level) / 2


def _widened(tail: float, n: int) -> float:
    """Resamples spread less than samples do: the normal tail that matches Student's t."""
    return ndtr(np.sqrt(n / (n - 1)) * stdtrit(n - 1, tail))


def _quantiles(ordered: np.ndarray, tail: float, theory: Callable) -> tuple[np.ndarray, np.ndarray]:
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


def _delta_se(statistic, mean, covariance, step):
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
