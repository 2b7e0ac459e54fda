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
nothing to choose: one design is ahead on every table.

`tables` is a folder with <model>-trained.npz, or one npz. Prints the coverage of the 95 % intervals
that `explain` gives, on a population of games whose values are known (over all bands, and of the
bands with the lowest and the highest): images visited once, four times, and until a tolerance is
reached, so that the data say where to stop. Then one JSON line per model and estimator; the
last line holds the speed-ups of the root mean square error.
"""

import argparse
import json
import os
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from shapiq.approximator import SVARM, KernelSHAP, PermutationSamplingSV

from iaside.estimator import draw_pairs, members, pairs_per_image, resampled_table
from iaside.explain import Explanation
from iaside.sampling import sampled_worths
from iaside.shapley import coalitions, shapley_values
from iaside.tables import Worths


def iaside(table, rng, n_pairs):
    """Complementary pairs, each foreseen from other images and from the other pairs."""
    estimates, passes = resampled_table(table, n_pairs, rng)
    return estimates.values.mean(1), passes


def permutations(table, rng, n_pairs, antithetic=False, control=False):
    """Whole permutations (SAGE's scheme), their reverses too, less the game the others share."""
    n_bands, n = bands(table), table.shape[1]
    psi, passes, rest, known = np.zeros(n_bands), 0, table - table[0], 0.0
    if control:  # as if the mean game of all other images were known for nothing
        mean = (rest.sum(1, keepdims=True) - rest) / (n - 1)
        rest, known = rest - mean, shapley_values(mean).mean(1)
    for image in range(n):
        met = {0, 2**n_bands - 1}
        for _ in range(n_pairs):
            order = rng.permutation(n_bands)
            for bands_in_turn in [order, order[::-1]][: 1 + antithetic]:
                rows = np.r_[0, (1 << bands_in_turn).cumsum()]
                gains = np.diff(rest[rows, image])
                psi[bands_in_turn] += gains / (n * n_pairs * (1 + antithetic))
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
    return np.r_[fit, gain[-1].mean() - fit.sum()], passes


def of_shapiq(kind):
    def estimate(table, rng, budget):
        n_bands, n = bands(table), table.shape[1]
        psi, passes, code = np.zeros(n_bands), 0, 1 << np.arange(n_bands)
        for image in range(n):
            met = {0, 2**n_bands - 1}

            def game(rows, image=image, met=met):
                rows = np.atleast_2d(rows) @ code
                met.update(rows.tolist())
                return table[rows, image] - table[0, image]

            found = kind(n=n_bands, random_state=int(rng.integers(2**31))).approximate(budget, game)
            psi += [found[(i,)] / n for i in range(n_bands)]
            passes += len(met)
        return psi, passes / n

    return estimate


def bands(table):
    return len(table).bit_length() - 1


def budgets(m):
    return [m + 2, 2 * m, 3 * m, 4 * m, 8 * m]


# name -> estimate(table, rng, size), and the sizes to choose from, given the number of bands
ESTIMATORS = {
    "iaside": (iaside, lambda m: [pairs_per_image(m)]),
    "shapiq KernelSHAP": (of_shapiq(KernelSHAP), budgets),
    "shapiq permutation sampling": (of_shapiq(PermutationSamplingSV), budgets),
    "shapiq SVARM": (of_shapiq(SVARM), budgets),
    "single permutations (SAGE)": (permutations, lambda m: [1, 2]),
    "antithetic pairs": (partial(permutations, antithetic=True), lambda m: [1, 2]),
    "single permutations, pooled control": (partial(permutations, control=True), lambda m: [1]),
    "antithetic pairs, pooled control": (
        partial(permutations, antithetic=True, control=True), lambda m: [1]
    ),
    "pooled kernel regression": (kernel_regression, lambda m: [3, 5, 8]),
}  # fmt: skip


def estimates(table, name, size, seeds):
    """Estimates of the mean values of a table and the passes each took, one per seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapiq's about budgets it cannot use up
        return [ESTIMATORS[name][0](table, np.random.default_rng(seed), size) for seed in seeds]


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
    """`speedup` of the size that is ahead after a fifth of the repeats."""
    runs = {
        size: shared(partial(estimates, table, name, size), range(repeats // 5))
        for size in ESTIMATORS[name][1](bands(table))
    }
    best = max(runs, key=lambda size: speedup(table, runs[size]))
    rest = shared(partial(estimates, table, name, best), range(len(runs[best]), repeats))
    return speedup(table, runs[best] + rest)


def population(rng, n_bands, n):
    """Exact tables (2**M, n) of images whose common game is known, and its values (M,)."""
    x = coalitions(n_bands).astype(float)
    share = 2.0 ** -np.arange(n_bands)
    common = 4 * (1 - np.exp(-x @ share))  # low bands matter most, and the worth saturates
    own = (x[:, :, None] * x[:, None] * share[:, None] * share).reshape(len(x), -1)
    strength = rng.exponential(size=(own.shape[1], n)) - 1  # mean 0, skewed
    table = common[:, None] + own @ strength + 0.1 * rng.normal(size=(len(x), n))
    return table - table[0], shapley_values(common)


def measured(table, seed, **how):
    """What ``sampled_worths`` makes of an exact table: image i is grey, band k its row k."""
    n_bands, n = bands(table), table.shape[1]
    images = (torch.arange(1, n + 1) / (n + 1)).expand(3, n_bands, n_bands, n).permute(3, 0, 1, 2)
    rows = torch.eye(n_bands)[:, None, None, :, None]
    known = torch.from_numpy(table)

    def look_up(x):
        code = (x[:, 0, :, 0] > 0).long() @ (1 << torch.arange(n_bands))
        worth = known[code, (x.amax((1, 2, 3)) * (n + 1)).round().long() - 1]
        return torch.stack([worth, 0 * worth], 1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where a tolerance is not reached
        return sampled_worths(
            look_up, images, torch.zeros(n).long(), lambda x: x * rows, seed=seed,
            value=lambda outputs, labels: outputs[:, 0], batch_size=60, progress=False, **how,
        )  # fmt: skip


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
        e = Explanation(measured(table, seed, **how))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="?", type=Path, default=Path("results/worths/tables"))
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--repeats", type=int, default=100, help="at least 10")
    parser.add_argument("--coverage", type=int, default=1000, metavar="REPEATS")
    a = parser.parse_args()
    found = [a.tables] if a.tables.is_file() else sorted(a.tables.glob("*-trained.npz"))
    tables = {p.stem.removesuffix("-trained"): Worths.load(p).table for p in found}
    tables = {m: t for m, t in tables.items() if a.models is None or m in a.models}
    if a.repeats < 10:
        parser.error(f"--repeats {a.repeats}: give at least 10, of which a fifth choose a budget")
    if not tables:
        parser.error(f"no tables of worths in {a.tables}; run the stage `worths` first")
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started now
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:

        def shared(task, seeds):
            parts = [seeds[i : i + 10] for i in range(0, len(seeds), 10)]
            return [run for part in pool.map(task, parts) for run in part]

        for case, (n, how) in CASES.items():
            held = coverage(shared(partial(intervals, case), range(a.coverage)))
            found = {"coverage": case, "n": n} | how | held | {"repeats": a.coverage}
            print(json.dumps(found), flush=True)
        speedups = {"exact": dict.fromkeys(tables, 1.0)}
        for model, table in tables.items():
            for name in ESTIMATORS:
                best, low, high, worst, passes = best_of(table, name, a.repeats, shared)
                speedups.setdefault(name, {})[model] = best
                print(json.dumps({
                    "model": model, "n": table.shape[1], "estimator": name, "repeats": a.repeats,
                    "passes_per_image": round(passes, 1), "speedup": best, "interval": [low, high],
                    "speedup_worst_band": round(worst, 2),
                }), flush=True)
    print(json.dumps({"speedup_vs_exact": speedups}))


if __name__ == "__main__":
    main()
