"""How a network holds up, from its answers: mPE and mCE, losses with intervals, and what goes with
what over networks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from numbers import Integral
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from iaside.content import by_content
from iaside.estimate import Estimate
from iaside.intervals import accuracy_difference, interval
from iaside.rounding import flat
from iaside.tables import CLEAN, CORRUPTIONS, FOURIER, Condition, Responses

# Mean top-1 error of AlexNet over the five severities, in the order of CORRUPTIONS.
ALEXNET = (
    0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816,
    0.826572, 0.819324, 0.564592, 0.853204, 0.646056, 0.717840, 0.606500,
)  # fmt: skip
MIN_MODELS = 5  # with fewer models no order of them is unlikely enough: limits are NaN


# -- the two means of the papers -------------------------------------------------------------------


def mean_prediction_error(p_clean: ArrayLike, p_perturbed: ArrayLike) -> np.ndarray:
    """Return the mean prediction error mPE, the mean change of the true class's probability.

    Shapes: both (..., N), probabilities of the true class of N images; returns (...).
    Errors: ValueError for different shapes or numbers outside [0, 1].
    Source: seed 002 Eq. 12, E |Q(y|x) - Q(y|x*)|.

    >>> float(mean_prediction_error([0.9, 0.5], [0.4, 0.5]))
    0.25
    """
    p, q = np.asarray(p_clean, dtype=float), np.asarray(p_perturbed, dtype=float)
    if p.shape[-1:] != q.shape[-1:] or p.ndim == 0:
        raise ValueError(f"p_clean {p.shape} and p_perturbed {q.shape} must be of the same images")
    for name, value in (("p_clean", p), ("p_perturbed", q)):
        if not ((value >= 0) & (value <= 1)).all():
            wrong = value[~((value >= 0) & (value <= 1))][0].item()
            raise ValueError(f"{name} must hold probabilities, from 0 to 1, got {wrong!r}")
    return np.abs(p - q).mean(-1)


def mean_corruption_error(errors: Mapping[str, ArrayLike]) -> float:
    """Return the mean corruption error mCE of ImageNet-C, in percent of AlexNet's.

    errors: name of each of the 15 corruptions -> top-1 errors from 0 to 1 at the five severities,
    (5,), or their mean, ().
    Errors: ValueError for corruptions that are missing or unknown, or errors outside [0, 1].
    Source: seed 002 Fig. 7; Hendrycks and Dietterich 2019, methods 1.11.

    >>> round(mean_corruption_error(dict(zip(CORRUPTIONS, ALEXNET))), 6)
    100.0
    """
    if set(errors) != set(CORRUPTIONS):
        missing, unknown = set(CORRUPTIONS) - set(errors), set(errors) - set(CORRUPTIONS)
        raise ValueError(
            f"mCE needs the errors of exactly the 15 corruptions; missing: "
            f"{', '.join(sorted(missing)) or 'none'}; "
            f"unknown: {', '.join(sorted(unknown)) or 'none'}"
        )
    ratios = []
    for name, reference in zip(CORRUPTIONS, ALEXNET, strict=True):
        error = np.asarray(errors[name], dtype=float)
        if not ((error >= 0) & (error <= 1)).all():
            raise ValueError(
                f"the errors under {name} must lie between 0 and 1, got {error.tolist()}"
            )
        ratios.append(error.mean() / reference)
    return float(100 * np.mean(ratios))


# -- what a table says, with intervals over images -------------------------------------------------

MEASURES = ("accuracy drop", "mPE", "mPE at T = 2", "relative mPE", "loss in nats")


def measure(r: Responses, kind: str, conditions: Condition | Sequence[Condition]) -> Estimate:
    """What some conditions do to a network, averaged over them, with its interval over images.

    kind: ``accuracy drop`` share of correct answers lost; ``mPE`` mean change of the true class's
    probability; ``mPE at T = 2`` the same at softmax temperature 2; ``relative mPE`` mPE over the
    clean probability, which a network cannot lower by being unsure; ``loss in nats`` of
    log-likelihood. All compare every image with itself, a corrupted one with its clean partner
    (``Responses.partner``), and leave out those that an attack had no usable gradient for
    (``tables.without_gradient``); where none is left the numbers are NaN.
    Errors: ValueError for an unknown kind or a condition that was not measured.
    Source: seed 002 Eq. 12; temperature: seed 001 A4; relative: methods 1.12.
    """
    conditions = [conditions] if isinstance(conditions, Condition) else conditions
    rows, partners = ([of(c) for c in conditions] for of in (r.row, r.partner))
    images = r.asked([*partners, *rows])
    table = {"accuracy drop": "correct", "mPE at T = 2": "probability_t2"}.get(
        kind, "log_likelihood"
    )
    clean, changed = (r.tables[table][k][:, images] for k in (partners, rows))
    if kind not in MEASURES:
        raise ValueError(f"kind={kind!r} is not known; choose one of {', '.join(MEASURES)}")
    if not len(images):
        return Estimate.unsure(np.nan, 0, "photographs")
    if kind == "accuracy drop" and len(rows) == 1:
        return accuracy_difference(clean[0], changed[0])
    if kind in ("mPE", "relative mPE"):
        clean, changed = np.exp(clean), np.exp(changed)
    if kind in ("accuracy drop", "loss in nats"):
        found = interval((clean - changed).mean(0)[None], lambda mean: mean[0])
        return found.within(-1, 1) if kind == "accuracy drop" else found
    change = np.abs(clean - changed).mean(0)
    if kind == "relative mPE":
        return interval(np.stack([change, clean.mean(0)]), lambda mean: mean[0] / mean[1])
    return interval(change[None], lambda mean: mean[0]).within(0, 1)


def corruption_error(r: Responses, names: Sequence[str] = CORRUPTIONS) -> Estimate:
    """The mean corruption error in percent of AlexNet's, with its interval over images.

    names: corruptions to average over; all 15 give the mCE (``mean_corruption_error``). AlexNet's
    errors are of the whole ImageNet validation set, these of the images at hand.
    Errors: ValueError for a corruption that was not measured.
    """
    rows = {name: r.rows(name) for name in names}
    if missing := [name for name in names if not rows[name]]:
        raise ValueError(f"{', '.join(missing)} were not measured")
    images = r.asked(sum(rows.values(), []))
    wrong = 1 - r.tables["correct"][:, images]
    reference = dict(zip(CORRUPTIONS, ALEXNET, strict=True))
    relative = [wrong[rows[name]].mean(0) / reference[name] for name in names]
    return interval(100 * np.mean(relative, axis=0)[None], lambda mean: mean[0])


def trivial_predictors(r: Responses, accuracies: ArrayLike) -> dict[str, float]:
    """What a network says about its robustness without a game: the predictors to beat.

    Clean error, mean confidence on the clean images, and accuracy with the lowest quarter of the
    bands (one at least) only.

    Shapes: accuracies (2**M, N), the table ``accuracy`` of a network's worths.
    Source: methods 4 (harness warning).
    """
    n_bands = len(accuracies).bit_length() - 1
    clean = r.row(CLEAN)
    return {
        "clean error": float(1 - r.tables["correct"][clean].mean()),
        "confidence": float(r.tables["confidence"][clean].mean()),
        "low-pass accuracy": float(np.mean(accuracies[2 ** max(1, round(n_bands / 4)) - 1])),
    }


def heat_map(r: Responses, table: str = "correct") -> np.ndarray:
    """Error (or mean of another table) of each cell of the heat map, (G, G), DC in the middle.

    Errors: ValueError when no heat map was measured.
    """
    rows = r.rows(FOURIER)
    if not rows:
        raise ValueError("no heat map was measured; add conditions of the source 'fourier'")
    means = np.nanmean(r.tables[table][rows], axis=1)
    half = 1 - means if table == "correct" else means
    grid = r.provenance["heat_grid"]
    return np.concatenate([half, half[-2::-1]]).reshape(grid, grid)


# -- what goes with what, over models --------------------------------------------------------------


class _Coefficient(NamedTuple):
    estimate: float
    low: float
    high: float
    p: float
    loo_low: float
    loo_high: float
    n: int


@by_content
class Correlation(_Coefficient):
    """A coefficient over models, its limits, its permutation p and its leave-one-out range.

    ``why``: where there is none, the reason in words; "" where there is one.

    >>> f"{Correlation(0.5, 0.1, 0.8, 0.02, 0.4, 0.6, 20):+.1f}"
    '+0.5 [+0.1, +0.8]'
    >>> f"{correlation([1, 2, 3], [0.3, 0.3, 0.3]):+.1f}"
    'none (y is constant)'
    """

    why = ""

    @classmethod
    def none(cls, n: int, why: str) -> Correlation:
        found = cls(*[np.nan] * 6, n)
        found.why = why
        return found

    def _asdict(self) -> dict:
        return super()._asdict() | ({"why": self.why} if self.why else {})

    def __format__(self, spec: str) -> str:
        if not math.isfinite(self.estimate):
            return f"none ({self.why})"
        limits = f" [{self.low:{spec}}, {self.high:{spec}}]"
        return f"{self.estimate:{spec}}{limits if math.isfinite(self.low) else ' (no interval)'}"


METHODS = ("pearson", "spearman", "kendall")


def correlation(
    x: ArrayLike,
    y: ArrayLike,
    method: str = "spearman",
    given: ArrayLike | None = None,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Correlation:
    """Correlate two numbers over models, with limits that few models cannot fool.

    method: ``pearson``, ``spearman`` (ranks) or ``kendall`` (tau-b). given: a third number whose
    linear share (of ranks for ``spearman``) is taken out of both first: the partial correlation.
    groups: the group of each model, whose means (of ranks for ``spearman``) are taken out of all
    first: the correlation within groups; what is said below of n is then said of n less the number
    of groups but one, and p is of permutations within groups.
    The limits are the wider on either side of the percentile bootstrap over models and of Fisher's
    transformation of the estimate shrunk by (n - 1) / n: a perfect order of a few models is no
    proof. Below 5 models (6 with ``given``) they are NaN. p: two-sided permutation test, exact up
    to 7 models. loo: the range of the estimate when one model is left out.

    Shapes: x, y, given, groups (n,), one per model.
    Errors: ValueError for unequal lengths, an unknown method, given or groups with ``kendall``,
    masked numbers, a level outside (0, 1), no resamples or a seed below 0; TypeError for what are
    no real numbers.
    What is constant but for rounding, of all models or within every group, has no correlation, nor
    have NaN, an infinity (but for its rank), and what ``given`` says everything about: NaN
    throughout, and ``why`` says which.
    Source: methods 1.11 (Pearson, Spearman, Kendall, permutation p, leave-one-out range), 4.

    >>> r = correlation([1, 2, 3, 4, 5, 6, 7, 8], [2, 1, 4, 3, 6, 5, 8, 7])
    >>> round(r.estimate, 3), r.low > 0, r.p < 0.01
    (0.905, True, True)
    """
    x, y = _numbers(x, "x"), _numbers(y, "y")
    z = None if given is None else _numbers(given, "given")
    _check_resampling(level, n_resamples, seed)
    n = x.size
    g = np.zeros(n, int) if groups is None else _numbered(groups)
    if x.ndim != 1 or any(v.shape != x.shape for v in (y, g, x if z is None else z)):
        raise ValueError(
            f"one number per model is needed, got shapes {x.shape}, {y.shape}"
            + ("" if z is None else f" and {z.shape}")
            + ("" if groups is None else f", and {len(g)} groups")
        )
    plain = z is None and groups is None
    if method not in METHODS or (method == "kendall" and not plain):
        raise ValueError(
            f"method={method!r} is not known{'' if plain else ' with given= or groups='}; "
            f"choose one of {', '.join(METHODS if plain else METHODS[:2])}"
        )

    def at(index: np.ndarray) -> np.ndarray:
        third = None if z is None else z[index]
        return coefficient(x[index], y[index], third, method, None if groups is None else g[index])

    named = {"x": x, "y": y} | ({} if z is None else {"given": z})
    if why := _undefined(named, method, None if groups is None else g):
        return Correlation.none(n, why)
    everyone = np.arange(n)
    estimate = float(at(everyone[None])[0])
    if np.isnan(estimate):  # all else has been asked
        return Correlation.none(n, "given leaves nothing of x or y")
    without = np.array([np.delete(everyone, k) for k in everyone]) if n > 3 else everyone[None]
    loo = at(without)
    loo_low, loo_high = (
        (float(np.nanmin(loo)), float(np.nanmax(loo))) if np.isfinite(loo).any() else (np.nan,) * 2
    )
    low = high = p = np.nan
    taken = (z is not None) + len(np.unique(g)) - 1  # numbers that were fitted first
    if n >= MIN_MODELS + taken:
        rng = np.random.default_rng(seed)
        resampled = at(rng.integers(0, n, (n_resamples, n)))
        tail = (1 - level) / 2
        low, high = np.nanquantile(resampled, [tail, 1 - tail])
        # Fisher's: variance 1 / (n - 3), for ranks by 1.06 (Spearman) or 0.437 / (n - 4) (Kendall)
        free = n - 3 - taken
        variance = {"pearson": 1 / free, "spearman": 1.06**2 / free,
                    "kendall": 0.437 / max(n - 4, 1)}[method]  # fmt: skip
        reach = stats.norm.ppf(1 - tail) * math.sqrt(variance)
        centre = math.atanh(estimate * (n - 1) / n)
        low = float(min(low, math.tanh(centre - reach)))
        high = float(max(high, math.tanh(centre + reach)))
    if n > 2:
        p = _permutation_p(x, y, z, method, g, estimate, seed)
    return Correlation(estimate, low, high, p, loo_low, loo_high, n)


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
    raise TypeError(f"{name} is {text!r}; give real numbers, one per model")


def _check_resampling(level: float, n_resamples: int, seed: int) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, both excluded; got {level!r}")
    for name, value, least in (("n_resamples", n_resamples, 1), ("seed", seed, 0)):
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(
                f"{name}={value!r} is not possible; it must be an integer from {least}"
            )


def coefficients(
    predictors: Mapping[str, ArrayLike],
    measures: Mapping[tuple[str, str], ArrayLike],
    accuracy: ArrayLike,
    n_resamples: int = 1000,
) -> list[dict]:
    """Spearman's coefficient of every predictor with every measure, plain and given clean accuracy.

    predictors: name -> (n,), one number per model; measures: (what, under what) -> (n,);
    accuracy (n,) on clean images, of which ``clean error`` is no predictor any more.
    Returns a dict per coefficient: predictor, measure, under, given and the fields of a
    ``Correlation``.
    Source: methods 4 (harness warning).

    >>> rows = coefficients({"SRC": [1, 2, 4]}, {("mPE", "pgd 0.1"): [3, 2, 1]}, [0.5, 0.7, 0.6])
    >>> [(row["given"], round(row["estimate"], 2)) for row in rows]
    [('', -1.0), ('clean accuracy', -1.0)]
    """
    rows = []
    for kind, under in measures:
        for name in predictors:
            for given in ("", "clean accuracy"):
                if given and name == "clean error":
                    continue
                third = accuracy if given else None
                found = correlation(predictors[name], measures[kind, under], given=third,
                                    n_resamples=n_resamples)  # fmt: skip
                row = {"predictor": name, "measure": kind, "under": under, "given": given}
                rows.append(row | found._asdict())
    return rows


def over_models(
    statistic: Callable[[np.ndarray], np.ndarray], n: int, level: float = 0.95,
    n_resamples: int = 2000, seed: int = 0,
) -> Estimate:
    """Return a statistic of n models with its percentile bootstrap interval over models.

    statistic: indices of models (R, n) -> (R,). Below 5 models the limits are NaN; resamples
    for which the statistic is NaN (two models only, say) take no part.

    >>> robust = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> float(over_models(lambda index: robust[index].mean(1), 5).estimate)
    3.0
    """
    estimate = float(statistic(np.arange(n)[None])[0])
    if n < MIN_MODELS:
        return Estimate.unsure(estimate, n, "networks")
    index = np.random.default_rng(seed).integers(0, n, (n_resamples, n))
    resampled = np.asarray(statistic(index), dtype=float)
    if not np.isfinite(resampled).any():
        return Estimate.unsure(estimate, n, "networks")
    tail = (1 - level) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    se = float(np.nanstd(resampled, ddof=1))
    return Estimate(estimate, se, float(low), float(high), n, "networks")


def groups_apart(
    first: np.ndarray, second: np.ndarray, level: float = 0.95, n_draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Limits of mean(first) - mean(second) when both models and photographs are drawn anew.

    Shapes: first (A, R), second (B, R), a score of each model of a group on R resamples of the
    same photographs: a draw takes one resample and, with replacement, models of each group.

    >>> low, high = groups_apart(np.ones((4, 50)), np.zeros((5, 50)))
    >>> float(low), float(high)
    (1.0, 1.0)
    """
    rng = np.random.default_rng(seed)
    photographs = rng.integers(0, first.shape[1], (n_draws, 1))
    means = [
        group[rng.integers(0, len(group), (n_draws, len(group))), photographs].mean(1)
        for group in (first, second)
    ]
    tail = (1 - level) / 2
    low, high = np.quantile(means[0] - means[1], [tail, 1 - tail])
    return low, high


# -- from a profile to a deployment ---------------------------------------------------------------


def band_survival(clean_energy: ArrayLike, change_energy: ArrayLike) -> np.ndarray:
    """Return how much of each band survives a perturbation: the Wiener weight s / (1 + s).

    s is the signal-to-noise ratio of the band, its energy over that of the perturbation in it.

    Shapes: both (..., M, N), energies of N images; returns (..., M), the mean over images.
    Errors: ValueError for negative energies. A band without any energy survives.
    Source: methods 5.2 (seed 000: profiles matched to a deployment).

    >>> band_survival([[3.0], [1.0]], [[1.0], [0.0]])
    array([0.75, 1.  ])
    """
    clean, change = np.asarray(clean_energy, dtype=float), np.asarray(change_energy, dtype=float)
    if (clean < 0).any() or (change < 0).any():
        raise ValueError("energies must be 0 or more")
    total = clean + change
    return np.divide(clean, total, out=np.ones(total.shape), where=total > 0).mean(-1)


def predicted_loss(psi: ArrayLike, survival: ArrayLike) -> np.ndarray:
    """Return the loss that a profile predicts: sum over bands of (1 - survival) * value.

    Shapes: psi (M, ...) mean values of bands, survival (K, M); returns (K, ...) in the unit of psi.
    Source: methods 5.2.

    >>> predicted_loss([4.0, 1.0], [[0.75, 0.0]])
    array([2.])
    """
    return np.tensordot(1 - np.asarray(survival, dtype=float), np.asarray(psi, dtype=float), 1)


def coefficient(x, y, z=None, method: str = "spearman", groups=None) -> np.ndarray:
    """The coefficient of each row: x, y (and z, groups) (R, n) -> (R,); NaN where one is
    constant but for rounding (`rounding.flat`).

    groups: whole numbers, the group of each model, whose means are taken out of all first.
    """
    none = flat(x, groups) | flat(y, groups) | (False if z is None else flat(z, groups))
    return np.where(none, np.nan, _of_rows(x, y, z, method, groups))


def _undefined(named: Mapping[str, np.ndarray], method: str, groups: np.ndarray | None) -> str:
    """Why some numbers of each model, by name, have no correlation, in words; "" if they may."""
    n = len(named["x"])
    if n < 2:
        return f"it takes 2 models, not {n}"
    for name, values in named.items():
        if np.isnan(values).any():
            return f"{name} is nan for {np.isnan(values).sum()} of {n}"
        if method == "pearson" and np.isinf(values).any():
            return f"{name} is infinite for {np.isinf(values).sum()} of {n}; take ranks"
    within = None if groups is None else groups[None]
    still = [name for name, values in named.items() if flat(values[None], within)[0]]
    if not still:
        return ""
    where = "" if groups is None else " within groups"
    return f"{' and '.join(still)} {'is' if len(still) == 1 else 'are'} constant{where}"


def _of_rows(x, y, z, method: str, groups) -> np.ndarray:
    if method == "kendall":
        x, y = stats.rankdata(x, axis=1), stats.rankdata(y, axis=1)
        return np.concatenate([  # a few rows at a time: each takes n * n numbers
            _kendall(*part) for part in zip(*(np.array_split(v, 1 + len(v) // 100) for v in (x, y)),
                                            strict=True)
        ])  # fmt: skip
    if method == "spearman":
        x, y = stats.rankdata(x, axis=1), stats.rankdata(y, axis=1)
        z = None if z is None else stats.rankdata(z, axis=1)
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


def _permutation_p(x, y, z, method: str, g: np.ndarray, estimate: float, seed: int) -> float:
    n, alone = len(x), not g.any()
    exact = n <= 7 and alone
    if exact:
        orders = np.array(list(itertools.permutations(range(n))))
    else:
        rng = np.random.default_rng(seed)
        orders = rng.permuted(np.tile(np.arange(n), (10_000, 1)), axis=1)
    if not alone:  # within groups: the shuffled members of each go to the places of its members
        order = np.argsort(g[orders], axis=1, kind="stable")
        members = np.take_along_axis(orders, order, axis=1)
        orders = np.empty_like(orders)
        orders[:, np.argsort(g, kind="stable")] = members
    if method == "spearman":
        method, x, y = "pearson", stats.rankdata(x), stats.rankdata(y)
        z = None if z is None else stats.rankdata(z)
    if not alone:
        x, y, z = (None if v is None else _within(v[None], g[None])[0] for v in (x, y, z))
    # What is left of y without z is what may be exchanged.
    fit = 0 if z is None else np.polynomial.Polynomial.fit(z, y, 1)(z)
    shuffled = fit + (y - fit)[orders]
    rows = len(orders)
    tiled = None if z is None else np.broadcast_to(z, (rows, n))
    others = coefficient(np.broadcast_to(x, (rows, n)), shuffled, tiled, method)
    extreme = np.abs(others) >= abs(estimate) - 1e-12
    return float((extreme.sum() + (not exact)) / (rows + (not exact)))
