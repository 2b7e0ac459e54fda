"""How many forward passes an estimate of the mean Shapley values costs, against other estimators.

On exact tables of worths, where every estimator can look up what it would have measured. The error
of an estimate of the mean values of n images in general has two parts: the images are a sample
(variance V / n, V that of the exact values over images), and so are the coalitions (mean squared
error of the mean over the images of the table, in repeated draws; a bias counts). The exact game
has the first part only, but spends 2^M passes on each image. A speed-up is how many times fewer
passes reach the same standard error, root mean square over bands; for the worst band alone it is
printed too, since that is what `tolerance=` bounds. The empty and the full coalition are measured
once per image for everyone, a coalition that is drawn again costs nothing, and each peer has that
budget per image, of several, that suits it best on that table in the first fifth of the repeats
(which count in what is reported, too).

    python benchmarks/estimators.py [tables] [--repeats 100] [--models squeezenet1_1 ...]

Repeats are shared among processes, one per core; each repeat has its own seed, so that the number
of processes changes nothing.

What was tried and does not pay is in the run, too: permutations less the game that all other images
have in common, given for nothing (balancing permutations over images could remove no more than
that), and one regression over the pooled draws of all images. A pilot that chooses the design has
nothing to choose: one design is ahead on every table. No pair twice in an image gains
nothing beyond the passes that it costs; all worths at once, with a mean game as free as is likely,
err less and do not know how much: 95 % intervals over images hold the planted values in 56 % of
cases. Leverage SHAP and regression MSR (with a linear game) are written here, as shapiq has them
for Python 3.12 only.

`tables` is a folder with <model>-trained.npz, or one npz. With --scores only the first part is
run, in a few minutes: what is made of the values (below). Then prints the coverage of the 95 %
intervals that `explain` gives, on a population of games whose values are known (over all bands, and
of the bands with the lowest and the highest): images visited once, four times, and until a
tolerance is reached, so that the data say where to stop. Then one JSON line per model and
estimator; the last line holds the speed-ups of the root mean square error. Each has the signed
score, too, of 24 images drawn from the table: bias, with its error, spread, and how often 95 %
limits hold the score of the table (none for values that are pooled). A sampled score lies too low
where an exact one does not: the minimum of noisy values does.

The first part: mean values have no bias, but the SID subtracts the smallest of them. In each world
photographs are drawn with replacement from a population whose score is known: the tables of
`--populations`, their values exact or each time sampled anew (12 passes a photograph at 8 bands),
and planted ones, Gaussian and skewed, some with two bands or seven that are equally weak. One JSON
line for each world and estimator: of psi, the signed score and the SID (of bands the one that is
worst off) bias, spread, bias over spread, root mean square error over that of the plain estimate,
and coverage of the plain 95 % interval moved by the correction. "paper" and "tight" are the signed
score without its sign, times 0.522 and 1: away from 0 the ratios are those of the signed score.
Then what a threshold of `score.CLEAR` does, for every kind: a score is given in a share of the
samples only, and the rest of the line is of these. The last of these lines says which thresholds
do both: give a score in at most a tenth of the samples where the two weakest bands are tied (or the
signed score is 0, where the sign is dropped), and keep the bias within a quarter of the spread in
all worlds where most samples get a score. Last what a user is told (`score_estimate`,
`sid_estimate`): in which share of the samples, and how often its limits, and plain ones, hold the
truth in these, in up to 250 of them.
"""

import argparse
import json
import math
import os
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from shapiq.approximator import SVARM, KernelSHAP, PermutationSamplingSV

from iaside.estimate.intervals import interval
from iaside.estimate.resampling import draws
from iaside.explanation import Explanation
from iaside.game.game import Game
from iaside.game.sampling import sample
from iaside.game.surrogate import (
    _fit,
    _kernel,
    _kernel_values,
    draw_pairs,
    members,
    pairs_per_image,
    resampled_table,
    sampled_values,
    whole,
)
from iaside.score import (
    CLEAR,
    no_score,
    no_sid,
    robustness_score,
    score_estimate,
    sid_estimate,
    spectral_importance,
    weakest_gap,
)
from iaside.shapley import coalitions, shapley_values
from iaside.tables import Worths


def iaside(table, rng, n_pairs):
    """Complementary pairs, each foreseen from other images and from the other pairs."""
    estimates, passes = resampled_table(table, n_pairs, rng)
    return estimates.values, passes


def sample_of(table, codes):
    """Codes (n, K) uint64 with both ends before them, what the table has there, passes an image."""
    n_bands, n = bands(table), table.shape[1]
    ends = np.broadcast_to(np.array([0, whole(n_bands)], np.uint64), (n, 2))
    codes = np.concatenate([ends, codes], 1)
    worths = table[codes.astype(int), np.arange(n)[:, None]]
    return codes, worths, np.mean([len(np.unique(row)) for row in codes])


def distinct_pairs(table, rng, n_pairs):
    """The same with no pair twice in an image: systematic sampling, all as likely as before."""
    n_bands, n = bands(table), table.shape[1]
    code = np.arange(1, 2 ** (n_bands - 1), dtype=np.uint64)  # one of each pair
    size = members(code, n_bands).sum(1)
    share = 1 / np.array([math.comb(n_bands, s) * s * (n_bands - s) for s in size])
    rows = []
    for _ in range(n):
        order = rng.permutation(len(code))
        at = (rng.random() + np.arange(n_pairs)) / n_pairs
        chosen = order[np.searchsorted((share[order] / share.sum()).cumsum(), at)]
        first = rng.permutation(code[chosen])
        rows.append(np.stack([first, whole(n_bands) - first], 1).ravel())
    codes, worths, passes = sample_of(table, np.stack(rows))
    return sampled_values(codes, worths, n_bands).values, passes


def pooled_least_squares(table, rng, n_pairs):
    """All worths at once, of a game that images share and of games of their own (two Gaussian
    processes of the same rates): the share of the first is as likely as can be. Not unbiased."""
    n_bands, n = bands(table), table.shape[1]
    codes, worths, passes = sample_of(
        table, np.stack([draw_pairs(n_bands, n_pairs, rng) for _ in range(n)])
    )
    gain, x = worths - worths[:, :1], members(codes, n_bands).astype(float)
    rates, nugget = _fit(x, gain)
    at, y, image = x.reshape(-1, n_bands), gain.ravel(), np.repeat(np.arange(n), x.shape[1])
    smooth, same = _kernel(at, at, rates), image[:, None] == image

    def solved(common):
        root = np.linalg.cholesky(smooth * (common + same) + nugget * np.eye(len(y)))
        weight = np.linalg.solve(root.T, np.linalg.solve(root, y))
        return len(y) / 2 * np.log(y @ weight) + np.log(np.diag(root)).sum(), weight

    found = {common: solved(common) for common in (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)}
    common = min(found, key=lambda common: found[common][0])
    weight = found[common][1]
    each = _kernel_values(at, rates) * weight[:, None]
    own = np.stack([each[image == i].sum(0) for i in range(n)], 1)
    values = own + common * each.sum(0)[:, None]
    return values + (gain[:, 1] - values.sum(0)) / n_bands, passes


def leverage_sample(n_bands, n_pairs, rng):
    """Pairs without replacement, one of each: all sizes alike (leverage scores); and the weight of
    each in the regression, Shapley's over the chance to be drawn."""
    code = np.arange(1, 2 ** (n_bands - 1))
    size = np.array([int(c).bit_count() for c in code])
    score = 1 / np.array([math.comb(n_bands, s) for s in size])
    low, high = 0.0, 1 / score.min() * n_pairs
    for _ in range(60):  # scaled so that so many pairs are expected
        scale = (low + high) / 2
        low, high = (scale, high) if np.minimum(1, scale * score).sum() < n_pairs else (low, scale)
    chance = np.minimum(1, high * score)
    drawn = rng.random(len(code)) < chance
    weight = score / (size * (n_bands - size)) / chance
    return code[drawn], weight[drawn], chance[drawn]


def leverage_shap(table, rng, n_pairs):
    """Leverage SHAP (Musco and Witter 2025): weighted least squares, sampled by leverage."""
    n_bands, n = bands(table), table.shape[1]
    values, passes = np.empty((n_bands, n)), 0
    for i in range(n):
        code, weight, _ = leverage_sample(n_bands, n_pairs, rng)
        x = members(np.r_[code, len(table) - 1 - code].astype(np.uint64), n_bands).astype(float)
        y = np.r_[table[code, i], table[len(table) - 1 - code, i]] - table[0, i]
        whole_gain, root = table[-1, i] - table[0, i], np.sqrt(np.r_[weight, weight])[:, None]
        centred = (x - x.mean(1, keepdims=True)) * root
        target = (y - x.mean(1) * whole_gain)[:, None] * root
        values[:, i] = np.linalg.lstsq(centred, target[:, 0], rcond=None)[0] + whole_gain / n_bands
        passes += len(y) + 2
    return values, passes / n


def regression_msr(table, rng, n_pairs, folds=5):
    """Regression MSR (Witter, Liu and Musco 2025): what a linear game leaves, fitted to the other
    folds, is estimated from all coalitions at once, each by its chance; never by its own fit."""
    n_bands, n = bands(table), table.shape[1]
    values, passes = np.empty((n_bands, n)), 0
    rank = [
        math.factorial(s) * math.factorial(n_bands - s - 1) / math.factorial(n_bands)
        for s in range(n_bands)
    ]
    for i in range(n):
        code, _, chance = leverage_sample(n_bands, n_pairs, rng)
        pairs = np.stack([code, len(table) - 1 - code])
        x = members(pairs.astype(np.uint64), n_bands).astype(float)
        y, gain = table[pairs, i] - table[0, i], table[-1, i] - table[0, i]
        fold, found = rng.integers(folds, size=len(code)), np.zeros(n_bands)
        passes += 2 * len(code) + 2
        for k in range(folds):
            train, test = fold != k, fold == k
            a = np.concatenate([x[:, train].reshape(-1, n_bands), np.ones((1, n_bands))])
            fit = np.linalg.lstsq(a, np.r_[y[:, train].ravel(), gain], rcond=None)[0]
            left = (y - x @ fit)[:, test] * folds / chance[test]
            size = x[:, test].sum(2).astype(int)
            inside = np.array(rank)[size - 1][..., None] * x[:, test]
            outside = np.array(rank)[size][..., None] * (1 - x[:, test])
            ends = (gain - fit.sum()) / n_bands
            found += (fit + ends + (left[..., None] * (inside - outside)).sum((0, 1))) / folds
        values[:, i] = found
    return values, passes / n


def permutations(table, rng, n_pairs, antithetic=False, control=False):
    """Whole permutations (SAGE's scheme), their reverses too, less the game the others share."""
    n_bands, n = bands(table), table.shape[1]
    psi, passes, rest, known = np.zeros((n_bands, n)), 0, table - table[0], 0.0
    if control:  # as if the mean game of all other images were known for nothing
        mean = (rest.sum(1, keepdims=True) - rest) / (n - 1)
        rest, known = rest - mean, shapley_values(mean)
    for image in range(n):
        met = {0, 2**n_bands - 1}
        for _ in range(n_pairs):
            order = rng.permutation(n_bands)
            for bands_in_turn in [order, order[::-1]][: 1 + antithetic]:
                rows = np.r_[0, (1 << bands_in_turn).cumsum()]
                gains = np.diff(rest[rows, image])
                psi[bands_in_turn, image] += gains / (n_pairs * (1 + antithetic))
                met |= set(rows)
        passes += len(met)
    return psi + known, passes / n


def kernel_regression(table, rng, n_pairs):
    """One weighted regression over the pairs of all images together (KernelSHAP, pooled)."""
    n_bands, n = bands(table), table.shape[1]
    codes = np.stack([draw_pairs(n_bands, n_pairs, rng) for _ in range(n)])
    rows = codes.astype(int)
    gain = table - table[0]
    x = members(codes.ravel(), n_bands).astype(float)
    y = gain[rows, np.arange(n)[:, None]].ravel()
    every = np.repeat(gain[-1], 2 * n_pairs)
    fit = np.linalg.lstsq(x[:, :-1] - x[:, -1:], y - x[:, -1] * every, rcond=None)[0]
    passes = np.mean([len(set(row)) for row in rows]) + 2
    return np.r_[fit, gain[-1].mean() - fit.sum()][:, None], passes


class Counted(Game):
    """A game that remembers what it was asked, beside the empty and the full coalition."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.met = {bytes(self.n_players), bytes([1] * self.n_players)}

    def per_image(self, coalitions):
        self.met |= {row.tobytes() for row in np.atleast_2d(coalitions)}
        return super().per_image(coalitions)


def of_shapiq(kind):
    """What an approximator makes of the game of each image."""

    def estimate(table, rng, budget):
        n_bands, n = bands(table), table.shape[1]
        psi, passes, rest = np.zeros((n_bands, n)), 0, table - table[0]
        for image in range(n):
            game = game_of(rest[:, [image]], kind=Counted)
            found = kind(n=n_bands, random_state=int(rng.integers(2**31))).approximate(budget, game)
            psi[:, image] = [found[(i,)] for i in range(n_bands)]
            passes += len(game.met)
        return psi, passes / n

    return estimate


def bands(table):
    return len(table).bit_length() - 1


def budgets(m):
    return [m + 2, 2 * m, 3 * m, 4 * m, 8 * m]


# name -> estimate(table, rng, size), which gives values (M, n), or (M, 1) of all images together,
# and passes; and the sizes to choose from, given the number of bands
ESTIMATORS = {
    "iaside": (iaside, lambda m: [pairs_per_image(m)]),
    "iaside, distinct pairs": (distinct_pairs, lambda m: [pairs_per_image(m)]),
    "pooled least squares, free mean game": (pooled_least_squares, lambda m: [pairs_per_image(m)]),
    "Leverage SHAP": (leverage_shap, lambda m: [m // 2 + 2, m, 2 * m]),
    "regression MSR, linear": (regression_msr, lambda m: [m // 2 + 2, m, 2 * m]),
    "shapiq KernelSHAP": (of_shapiq(KernelSHAP), budgets),
    "shapiq permutation sampling": (of_shapiq(PermutationSamplingSV), budgets),
    "shapiq SVARM": (of_shapiq(SVARM), budgets),
    "single permutations (SAGE)": (permutations, lambda m: [1, 2]),
    "antithetic pairs": (partial(permutations, antithetic=True), lambda m: [1, 2]),
    "single permutations, pooled control": (partial(permutations, control=True), lambda m: [1]),
    "antithetic pairs, pooled control": (
        partial(permutations, antithetic=True, control=True),
        lambda m: [1],
    ),
    "pooled kernel regression": (kernel_regression, lambda m: [3, 5, 8]),
}


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


def population(rng, n_bands, n):
    """Exact tables (2**M, n) of images whose common game is known, and its values (M,)."""
    x = coalitions(n_bands).astype(float)
    share = 2.0 ** -np.arange(n_bands)
    common = 4 * (1 - np.exp(-x @ share))  # low bands matter most, and the worth saturates
    own = (x[:, :, None] * x[:, None] * share[:, None] * share).reshape(len(x), -1)
    strength = rng.exponential(size=(own.shape[1], n)) - 1  # mean 0, skewed
    table = common[:, None] + own @ strength + 0.1 * rng.normal(size=(len(x), n))
    return table - table[0], shapley_values(common)


def game_of(table, seed=0, kind=Game):
    """The game whose worths are an exact table: image i is grey, band k its row k."""
    n_bands, n = bands(table), table.shape[1]
    images = (torch.arange(1, n + 1) / (n + 1)).expand(3, n_bands, n_bands, n).permute(3, 0, 1, 2)
    rows = torch.eye(n_bands)[:, None, None, :, None]
    known = torch.from_numpy(table)

    def look_up(x):
        code = (x[:, 0, :, 0] > 0).long() @ (1 << torch.arange(n_bands))
        worth = known[code, (x.amax((1, 2, 3)) * (n + 1)).round().long() - 1]
        return torch.stack([worth, 0 * worth], 1)

    return kind(
        look_up,
        images,
        torch.zeros(n).long(),
        lambda x: x * rows,
        seed=seed,
        value=lambda outputs, labels: outputs[:, 0],
        batch_size=60,
    )


CASES = {  # how a measurement ends: what it is asked for, of how many images
    "images once": (24, {"budget": 24 * 12}),
    "images four times": (24, {"budget": 24 * 42}),
    "at a tolerance": (60, {"tolerance": 0.18}),
}


def intervals(case, seeds, n_bands=8):
    """For each seed: which 95 % intervals hold the true mean values, of images in general and of
    these (2, M), and the number of images visited."""
    n, how = CASES[case]
    found = []
    for seed in seeds:
        # Not the numbers that coalitions are drawn from, which begin with the seed alone.
        table, truth = population(np.random.default_rng([seed, 0, 0, 1]), n_bands, n)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where a tolerance is not reached
            e = Explanation(sample(game_of(table, seed), progress=False, **how))
        exact = shapley_values(table[:, e.worths.images]).mean(1)
        each = (e.psi, truth), (e.these_images(), exact)
        found.append(([(i.low <= t) & (t <= i.high) for i, t in each], len(e.worths.images)))
    return found


def coverage(found):
    """How often `intervals` hold the true values: over all bands, and of the extreme ones."""
    held, seen = (np.array(part) for part in zip(*found, strict=True))
    shares = {
        name: {"all bands": round(b.mean(), 4), "lowest": b.min(), "highest": b.max()}
        for name, b in zip(["images in general", "these images"], held.mean(0), strict=True)
    }
    return shares | {"images": [int(seen.min()), float(np.median(seen)), int(seen.max())]}


# -- scores of mean values ---------------------------------------------------------------------

BANDS = 8
TILT = robustness_score(np.eye(BANDS), signed=True, norm="tight")  # its sum over bands cancels
THRESHOLDS = (0.0, 1.0, 1.5, 2.0, 2.5, 3.0)
COVERED = 250  # samples whose intervals are made: what they show is known to 3 % or so
HALVES, RESAMPLES, INNER = 30, 300, 30
REAL = 60  # photographs that a table must have to stand for a population


def profile(mean, weakest):
    """The signed score and the SID (..., 1 + M) of means (..., M), given their smallest (...)."""
    lowest = np.asarray(weakest)[..., None]
    share = (mean - lowest) / (mean - lowest).sum(-1, keepdims=True)
    return np.concatenate([share @ TILT[:, None], share], -1)


def plain(mean):
    return profile(mean, mean.min(-1))


def as_likely(mean, noise):
    """The weakest value, each band weighted by how often it is the weakest of noisy means."""
    weakest = (mean[:, None] + noise).argmin(-1)
    often = (weakest[..., None] == np.arange(BANDS)).mean(1)
    return (often * mean).sum(-1)


def to_a_line(mean, covariance):
    """Means drawn to the straight line through them as far as their noise allows (James, Stein)."""
    x = np.vander(np.arange(BANDS), 2)
    line = mean @ (x @ np.linalg.pinv(x)).T
    off = ((mean - line) ** 2).sum(-1, keepdims=True)
    noise = np.trace(covariance, axis1=1, axis2=2)[:, None] / BANDS
    return line + np.maximum(0, 1 - (BANDS - 4) * noise / off) * (mean - line)


def every_estimate(psi):
    """Name -> the signed score and the SID, (R, 1 + M), that each makes of samples (R, M, n)."""
    n, mean = psi.shape[2], psi.mean(2)
    deviation = psi - mean[:, :, None]
    covariance = deviation @ deviation.transpose(0, 2, 1) / (n - 1) / n
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(RESAMPLES // 2, BANDS))
    root = np.linalg.cholesky(covariance + 1e-12 * covariance.max() * np.eye(BANDS))
    noise = np.concatenate([noise, -noise]) @ root.transpose(0, 2, 1)  # (R, resamples, M)
    noisy = mean[:, None] + noise

    def of_weighted(weight):  # images (n, resamples) -> mean over the resamples
        return plain((psi @ weight).transpose(0, 2, 1)).mean(1)

    half = rng.permuted(np.tile(np.arange(n) < n // 2, (HALVES, 1)), axis=1)
    half = np.concatenate([half, ~half])
    first = draws(n, RESAMPLES)
    second = np.concatenate([rng.multinomial(n, p, INNER) / n for p in first.T[:HALVES]])
    left_out = (1 - np.eye(n)) / (n - 1)
    found, weakest = plain(mean), mean.min(-1)
    resampled, parametric = of_weighted(first), plain(noisy).mean(1)
    likely = as_likely(mean, noise)
    weighted = profile(mean, likely)
    error = plain(noisy).std(1)
    size = np.abs(weighted - found) / np.where(error > 0, error, np.inf)
    soft = np.exp((weakest[:, None] - mean) / noise.std((1, 2))[:, None])
    return {
        "plain": found,
        "jackknife": n * found - (n - 1) * of_weighted(left_out),
        "half-samples": 2 * found - of_weighted((half / half.sum(1, keepdims=True)).T),
        "bootstrap": 2 * found - resampled,
        "double bootstrap": 3 * found - 3 * resampled + of_weighted(second.T),
        "Gaussian bootstrap": 2 * found - parametric,
        "half of the Gaussian bootstrap": 1.5 * found - 0.5 * parametric,
        "weakest less its bias": profile(mean, 2 * weakest - noisy.min(-1).mean(1)),
        "weakest as likely": weighted,
        "weakest as likely, noise / 1.4": profile(mean, as_likely(mean, noise / 2**0.5)),
        "weakest as likely, noise * 1.4": profile(mean, as_likely(mean, noise * 2**0.5)),
        "weakest half as likely": profile(mean, (weakest + likely) / 2),
        "weakest as likely, where it matters": (
            found + (weighted - found) * np.clip((size - 0.3) / 0.4, 0, 1)
        ),
        "smooth minimum": profile(mean, (soft * mean).sum(-1) / soft.sum(-1)),
        "drawn to a line": plain(to_a_line(mean, covariance)),
    }


def worlds(populations):
    """Name -> (kind, what samples are drawn from), and whether the two weakest bands are tied."""
    found = {}
    for path in populations:
        table = Worths.load(path).table
        if table.shape[1] >= REAL and bands(table) == BANDS:
            name = f"{path.stem.removesuffix('-trained')}, {table.shape[1]} photographs"
            found[f"{name}, exact"] = "exact", table, False
            found[f"{name}, sampled"] = "sampled", table, False
    falling = np.array([1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.0])
    tied, one = np.r_[falling[:-2], 0, 0], np.eye(BANDS)[0]
    apart, steep = np.r_[falling[:-1], -0.4], 4 * 2.0 ** -np.arange(BANDS)
    level = np.r_[0.5, 0.4, 0.4, 0.4, 0.5, 0.5, 0.5, 0]
    level[4] -= TILT @ level / TILT[4]
    for name, mean, sd, alike, is_tied in (
        ("weakest 1.2 errors apart", falling, 0.8, 0.5, False),
        ("weakest 1.2 errors apart, high bands count", falling[::-1], 0.8, 0.5, False),
        ("weakest 3.7 errors apart", apart, 0.8, 0.5, False),
        ("falling steeply", steep, steep, 0.3, False),
        ("signed score 0", level, 0.4, 0.5, False),
        ("two tied", tied, 0.8, 0.5, True),
        ("two tied, noisy", tied, 1.6, 0.2, True),
        ("two tied, clear otherwise", tied, 0.3, 0.5, True),
        ("seven tied", one, 0.8, 0.2, True),
    ):
        covariance = np.outer(sd * np.ones(BANDS), sd * np.ones(BANDS))
        covariance *= alike + (1 - alike) * np.eye(BANDS)
        for how in ("Gaussian", "skewed"):
            found[f"{name}, {how}"] = how, (mean, np.linalg.cholesky(covariance)), is_tied
    return found


def drawn(how, source, n, repeats):
    """Samples of values (R, M, n) from a population, and its mean values (M,)."""
    rng = np.random.default_rng([n, 18])
    if how in ("Gaussian", "skewed"):
        mean, root = source
        shape = repeats, BANDS, n
        each = rng.normal(size=shape) if how == "Gaussian" else rng.exponential(size=shape) - 1
        return mean[:, None] + root @ each, mean
    chosen = rng.integers(source.shape[1], size=(repeats, n))
    values = shapley_values(source)
    if how == "exact":
        return values[:, chosen].transpose(1, 0, 2), values.mean(1)
    size = pairs_per_image(BANDS)
    psi = [resampled_table(source[:, c], size, rng)[0].values for c in chosen]
    return np.stack(psi), values.mean(1)


def judged(estimate, truth, other, low, high):
    """Of estimates (R, K), the one of the K that is worst off, and the error of all K together;
    limits (C, K) are of the first samples.

    One without spread is left aside: the weakest band's share, 0 in every sample.
    """
    bias, spread = estimate.mean(0) - truth, estimate.std(0)
    moves = np.flatnonzero(spread > 1e-9)
    worst = moves[np.argmax(np.abs(bias[moves]) / spread[moves])]
    error, others = (((x - truth) ** 2).mean() ** 0.5 for x in (estimate, other))
    held = ((low <= truth + 1e-9) & (truth - 1e-9 <= high)).mean(0)[moves]
    found = {
        "bias": bias[worst],
        "spread": spread[worst],
        "bias/spread": bias[worst] / spread[worst],
        "rmse/plain": error / others,
        "coverage": held[np.argmax(np.abs(held - 0.95))],
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def in_a_world(name, how, source, tied, n, repeats):
    """All lines about one world."""
    psi, mean = drawn(how, source, n, repeats)
    truth, values = plain(mean), psi.mean(2)
    parts = [every_estimate(psi[k : k + 200]) for k in range(0, repeats, 200)]
    estimates = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    found = estimates["plain"]

    def statistic(means):  # of (M, R): psi, the signed score, the SID, the score without its sign
        sid = spectral_importance(means)
        return np.concatenate([means, (TILT @ sid)[None], sid, np.abs(TILT @ sid)[None]])

    made = [interval(each, statistic, n_resamples=500) for each in psi[:COVERED]]
    of_psi, of_profile, of_score = np.s_[:, :BANDS], np.s_[:, BANDS:-1], np.s_[:, -1:]
    limits = [np.stack([getattr(e, end) for e in made]) for end in ("low", "high")]
    head = {"world": name, "n": n, "repeats": repeats, "score": round(float(truth[0]), 4)}
    lines = [head | {"psi": judged(values, mean, values, *(x[of_psi] for x in limits))}]
    for key, estimate in estimates.items():
        moved = [x[of_profile] + (estimate - found)[:COVERED] for x in limits]
        lines.append(
            head
            | {"estimator": key}
            | {
                what: judged(estimate[part], truth[part[1]], found[part], *(x[part] for x in moved))
                for what, part in (("signed", np.s_[:, :1]), ("sid", np.s_[:, 1:]))
            }
        )
    gaps = np.array([weakest_gap(each) for each in psi])
    numerator = TILT @ psi  # of the signed score, per image
    far = np.abs(numerator.mean(1)) / numerator.std(1, ddof=1) * n**0.5
    shrunk = robustness_score(np.eye(BANDS)[0])  # "paper" over "tight"
    for threshold in THRESHOLDS:
        clear = gaps >= threshold
        sure = clear & (far >= threshold)
        for kind, estimate, goal, given, ends in (
            ("signed", found[:, :1], truth[:1], clear, [x[of_profile][:, :1] for x in limits]),
            ("sid", found[:, 1:], truth[1:], clear, [x[of_profile][:, 1:] for x in limits]),
            ("tight", np.abs(found[:, :1]), np.abs(truth[:1]), sure, [x[of_score] for x in limits]),
        ):
            line = head | {"threshold": threshold, "kind": kind, "tied": tied}
            line["given"] = round(float(given.mean()), 4)
            if given[:COVERED].sum() >= 20:
                some, first = estimate[given], [x[given[:COVERED]] for x in ends]
                line |= judged(some, goal, some, *first)
            lines.append(line)
            if kind == "tight":
                paper = {k: round(line[k] * shrunk, 4) for k in ("bias", "spread") if k in line}
                lines.append(line | paper | {"kind": "paper"})
    return lines + [head | line for line in told(psi, truth)]


def told(psi, truth):
    """What a user is told of samples (R, M, n), one line for each kind: of bands the worst held."""
    lines = []
    for kind, goal in (("signed", truth[0]), ("tight", abs(truth[0])), ("sid", truth[1:])):
        of = sid_estimate if kind == "sid" else partial(score_estimate, kind=kind)
        why = no_sid if kind == "sid" else partial(no_score, kind=kind)
        given = [each for each in psi if why(each) == ""]
        line = {"told": kind, "given": round(len(given) / len(psi), 4)}
        if len(given) >= 20:
            line["of"] = min(COVERED, len(given))
            widths = []
            for bias, name in (("corrected", "coverage"), ("none", "plain_coverage")):
                found = [of(each, bias=bias, n_resamples=500) for each in given[:COVERED]]
                low, high = (
                    np.stack([np.ravel(getattr(e, end)) for e in found]) for end in ("low", "high")
                )
                moves = (high - low).min(0) > 1e-9  # not the share of a band that is the weakest
                held = ((low <= goal + 1e-9) & (goal - 1e-9 <= high)).mean(0)
                line[name] = round(float(held[moves].min()), 4)
                widths.append(np.median(high - low, 0)[moves])
            line["width/plain"] = round(float((widths[0] / widths[1]).max()), 2)
        lines.append(line)
    return lines


def thresholds(lines):
    """What each threshold does: how often a score is given where it must not be, and how good it is
    where most samples are given one."""
    found = {}
    for threshold in THRESHOLDS:
        for kind in ("signed", "tight"):
            rows = [r for r in lines if r.get("threshold") == threshold and r["kind"] == kind]
            flat = [r["given"] for r in rows if r["tied"] or (kind == "tight" and not r["score"])]
            most = [r for r in rows if r["given"] > 0.5]
            bias = max((abs(r["bias/spread"]) for r in most), default=0.0)
            covered = [r["coverage"] for r in most]
            found.setdefault(str(threshold), {})[kind] = {
                "given_where_not_to_be": max(flat),
                "worlds_mostly_given": len(most),
                "worst_bias/spread": bias,
                "coverage": [min(covered), max(covered)],
                "does": max(flat) <= 0.1 and bias <= 0.25 and len(most) > 0,
            }
    return found


def scores(pool, populations, repeats, n=24):
    tasks = worlds(populations)
    runs = [pool.submit(in_a_world, name, *task, n, repeats) for name, task in tasks.items()]
    lines = []
    for run in runs:
        for line in run.result():
            print(json.dumps(line), flush=True)
            lines.append(line)
    print(json.dumps({"score_thresholds": thresholds(lines), "chosen": CLEAR}))
    held = {
        kind: [r["coverage"] for r in lines if r.get("told") == kind and "coverage" in r]
        for kind in ("signed", "tight", "sid")
    }
    print(json.dumps({"coverage_where_told": {k: [min(v), max(v)] for k, v in held.items() if v}}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="?", type=Path, default=Path("results/worths/tables"))
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--repeats", type=int, default=100, help="at least 10")
    parser.add_argument("--drawn", type=int, default=400, metavar="REPEATS", help="for the score")
    parser.add_argument("--coverage", type=int, default=1000, metavar="REPEATS")
    parser.add_argument("--scores", action="store_true", help="only what is made of the values")
    parser.add_argument("--populations", type=Path, default=Path("results/convergence/tables"))
    parser.add_argument("--samples", type=int, default=1000, metavar="REPEATS")
    a = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started now
    found = [a.tables] if a.tables.is_file() else sorted(a.tables.glob("*-trained.npz"))
    tables = {p.stem.removesuffix("-trained"): Worths.load(p).table for p in found}
    tables = {m: t for m, t in tables.items() if a.models is None or m in a.models}
    if a.repeats < 10:
        parser.error(f"--repeats {a.repeats}: give at least 10, of which a fifth choose a budget")
    if not tables and not a.scores:
        parser.error(f"no tables of worths in {a.tables}; run the stage `worths` first")
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        scores(pool, sorted(a.populations.glob("*.npz")), a.samples)
        if a.scores:
            return

        def shared(task, seeds):
            parts = [seeds[i : i + 10] for i in range(0, len(seeds), 10)]
            return [run for part in pool.map(task, parts) for run in part]

        for case, (n, how) in CASES.items():
            held = coverage(shared(partial(intervals, case), range(a.coverage)))
            found = {"coverage": case, "n": n} | how | held | {"repeats": a.coverage}
            print(json.dumps(found), flush=True)

        def of_scores(table, name, size=None):
            return bias_and_coverage(table, shared(partial(src, table, name, size), range(a.drawn)))

        speedups = {"exact": dict.fromkeys(tables, 1.0)}
        for model, table in tables.items():
            print(json.dumps({"model": model, "estimator": "exact"} | of_scores(table, "exact")))
            for name in ESTIMATORS:
                size, of_size = best_of(table, name, a.repeats, shared)
                best, low, high, worst, passes = of_size
                speedups.setdefault(name, {})[model] = best
                print(
                    json.dumps(
                        {
                            "model": model,
                            "n": table.shape[1],
                            "estimator": name,
                            "repeats": a.repeats,
                            "passes_per_image": round(passes, 1),
                            "speedup": best,
                            "interval": [low, high],
                            "speedup_worst_band": round(worst, 2),
                        }
                        | of_scores(table, name, size)
                    ),
                    flush=True,
                )
    print(json.dumps({"speedup_vs_exact": speedups}))


if __name__ == "__main__":
    main()
