"""The estimators of mean Shapley values that are compared, on exact tables of worths.

What was tried and does not pay is among them, too: permutations less the game that all other images
have in common, given for nothing (balancing permutations over images could remove no more than
that), and one regression over the pooled draws of all images. A pilot that chooses the design has
nothing to choose: one design is ahead on every table. No pair twice in an image gains
nothing beyond the passes that it costs; all worths at once, with a mean game as free as is likely,
err less and do not know how much: 95 % intervals over images hold the planted values in 56 % of
cases. Leverage SHAP and regression MSR (with a linear game) are written here, as shapiq has them
for Python 3.12 only.
"""

import math
from functools import partial

import numpy as np
from shapiq.approximator import SVARM, KernelSHAP, PermutationSamplingSV

from estimating.games import bands, game_of
from iaside.game.game import Game
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
from iaside.shapley import shapley_values


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
