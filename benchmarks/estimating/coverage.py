"""How often the 95 % intervals that `explain` gives hold values that are known."""

import warnings

import numpy as np

from estimating.games import game_of, population
from iaside.explanation import Explanation
from iaside.game.sampling import sample
from iaside.shapley import shapley_values

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
