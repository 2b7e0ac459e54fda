"""Rules on what a whole procedure finds: errors of random samples, bootstrapped over photographs.

Reports run the procedure on one resample after the other (`intervals.bootstrap`); here all
resamples of a world are one array, (R, M, N), and share the places of their samples: what stands
in these places each resample has drawn for itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from iaside.estimate.convergence import loglog_slope, random_orders, split_differences
from iaside.score import spectral_importance
from iaside.verdicts import convergence
from iaside.verdicts.rules import CONTRADICTED, SUPPORTED, find
from verdict_rules.profiles import MEANS, profiles
from verdict_rules.worlds import AT, effect_of, of_draws

BANDS = MEANS[[0, 1, 2, 4, 7]]  # eight would take too long
N_DRAWS = 10  # samples of each size; reports take 200
N_RESAMPLES = 400  # of the photographs, as in reports: tails are moved out from them


def population(rng, n: int) -> np.ndarray:
    return BANDS[:, None] + 0.5 * profiles(rng, n, 1, bands=len(BANDS))[0]


def resamples(psi: np.ndarray, rng) -> np.ndarray:
    """Values (M, N) as they are, and of resamples of the photographs: (1 + R, M, N)."""
    n = psi.shape[1]
    index = np.concatenate([np.arange(n)[None], rng.integers(n, size=(N_RESAMPLES, n))])
    return psi[:, index].transpose(1, 0, 2)


def sid_errors(psi: np.ndarray, orders: ArrayLike, sizes: ArrayLike) -> np.ndarray:
    """The error (b) of `convergence.sid_distances` of every resample: (R, M, N) -> (R, S)."""
    r, n_bands, n = psi.shape

    def sids(mean: np.ndarray) -> np.ndarray:  # (R * M, columns) -> (R, M, columns)
        each = mean.reshape(r, n_bands, -1).transpose(1, 0, 2)
        return spectral_importance(each.reshape(n_bands, -1)).reshape(each.shape)

    gaps = split_differences(psi.reshape(r * n_bands, n), orders, sizes, sids)  # (M, R, S, D)
    return np.abs(gaps).mean((0, 3)) * np.sqrt(1 - np.asarray(sizes) / n)


def slopes_of_errors(n: int = 70, sizes=(5, 12, 35)):
    """The slope of the error of the SID against the number of photographs, moved to 0."""

    def slopes(psi, rng):
        return loglog_slope(sizes, sid_errors(psi, random_orders(n, N_DRAWS, rng), sizes))

    def verdict(rows):
        return convergence.errors_converge({"net": rows}, {"net": n})

    return _worlds("errors_converge", slopes, n, verdict, scaled=False)


def distances_of_samples(n: int = 220, size: int = 20):
    """The distance of the SID of a tenth of the photographs from that of the others, which is the
    threshold: the ratio of 200 to 2,200, a tenth as many of each."""

    def apart(psi, rng):
        return len(BANDS) * sid_errors(psi, random_orders(n, N_DRAWS, rng), [size])[:, 0]

    return _worlds("k200_l1", apart, n, lambda rows: convergence.k200_l1(rows, n), scaled=True)


def errors_over_a_bound(n: int = 70, sizes=(12, 24)):
    """What the worst band's error stays below in most samples, over a bound of its standard
    errors, which is 1; a part for each size."""

    def reached(psi, rng):
        r, n_bands, _ = psi.shape
        errors = convergence.value_errors(psi.reshape(-1, n), sizes, N_DRAWS, rng)
        errors = errors.reshape(r, n_bands, -1, errors.shape[-1]).swapaxes(0, 1)
        worst = convergence.worst_in_most(errors.reshape(n_bands, -1, errors.shape[-1]))
        return worst.reshape(r, -1) / np.sqrt(psi.var(2, ddof=1).max(1)[:, None] / sizes)

    def verdict(rows):
        return convergence.error_bound_holds({"net": rows}, {"net": sizes}, {"net": n})

    return _worlds("error_bound_holds", reached, n, verdict, scaled=True)


def _worlds(claim_id: str, procedure: Callable, n: int, verdict: Callable, scaled: bool):
    """What a procedure finds, moved (or scaled) so that its mean is where it shall be."""
    claim, rng = find(claim_id), np.random.default_rng(0)
    found = np.array([procedure(population(rng, n)[None], rng)[0] for _ in range(2000)])
    true = found.mean(0)
    spread = (found / true if scaled else found).std(0).max() * (claim.threshold if scaled else 1)

    def world(by):
        def draw(rng):
            rows = procedure(resamples(population(rng, n), rng), rng)
            goal = claim.threshold + by * spread
            return verdict(rows / true * goal if scaled else rows - true + goal)

        return draw

    effect = effect_of(np.size(true))
    return of_draws(
        claim_id,
        {
            ("all parts", truth): world(by)
            for truth, by in ((AT, 0.0), (SUPPORTED, -effect), (CONTRADICTED, effect))
        },
    )
