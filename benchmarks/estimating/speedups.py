"""The passes that an estimator takes for a standard error, and the signed score made of it."""

import warnings
from functools import partial

import numpy as np

from estimating.corrections import TILT
from estimating.games import bands
from estimating.peers import ESTIMATORS
from iaside.estimate.intervals import interval
from iaside.score import spectral_importance
from iaside.shapley import shapley_values


def estimates(table, name, size, seeds):
    """Estimates of the mean values of a table and the passes each took, one per seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapiq's about budgets it cannot use up
        runs = [ESTIMATORS[name][0](table, np.random.default_rng(seed), size) for seed in seeds]
    return [(values.mean(1), passes) for values, passes in runs]


def speedup(table, runs):
    """Speed-up (root mean square over bands), its 95 % limits over the repeats, that for the worst
    band, and passes per image."""
    exact = shapley_values(table)
    n, spread = table.shape[1], exact.var(1, ddof=1)
    squared = (np.array([psi for psi, _ in runs]) - exact.mean(1)) ** 2
    error, passes = spread / n + squared.mean(0), np.mean([p for _, p in runs])
    price = len(table) / (n * passes)
    reach = 1.96 * squared.sum(1).std(ddof=1) / len(runs) ** 0.5
    found = price * spread.sum() / (error.sum() + np.array([0, reach, -reach]))
    return (*found.round(2).tolist(), price * spread.max() / error.max(), passes)


def best_of(table, name, repeats, shared):
    """The size that is ahead after a fifth of the repeats, and its `speedup`."""
    runs = {
        size: shared(partial(estimates, table, name, size), range(repeats // 5))
        for size in ESTIMATORS[name][1](bands(table))
    }
    best = max(runs, key=lambda size: speedup(table, runs[size]))
    rest = shared(partial(estimates, table, name, best), range(len(runs[best]), repeats))
    return best, speedup(table, runs[best] + rest)


def src(table, name, size, seeds, n=24):
    """For each seed, of n images drawn from a table's: the signed score by an estimator, its 95 %
    limits, which need values of every image (nan where all are pooled), and passes an image."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 19])
        drawn = table[:, rng.integers(table.shape[1], size=n)]
        if name == "exact":
            values, passes = shapley_values(drawn), len(table)
        else:
            values, passes = ESTIMATORS[name][0](drawn, rng, size)
        e = interval(values, signed_src, n_resamples=400) if values.shape[1] == n else None
        low, high = (e.low, e.high) if e else (np.nan, np.nan)
        found.append((float(signed_src(values.mean(1))), float(low), float(high), passes))
    return found


def signed_src(means):
    """The signed score of mean values (M, ...)."""
    return TILT @ spectral_importance(means)


def bias_and_coverage(table, runs):
    """What `src` makes of a table whose score is known: bias, spread and coverage of the score."""
    truth = signed_src(shapley_values(table).mean(1))
    score, low, high, _ = np.array(runs).T
    held = (low <= truth) & (truth <= high)
    error = score.std(ddof=1) / len(score) ** 0.5
    return {
        "src": round(float(truth), 4),
        "src_bias": round(float(score.mean() - truth), 4),
        "src_bias_se": round(float(error), 4),
        "src_spread": round(float(score.std(ddof=1)), 4),
        "src_coverage": round(float(held.mean()), 3) if np.isfinite(low).all() else None,
    }
