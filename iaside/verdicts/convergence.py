"""Verdicts on the convergence of estimates with the number of photographs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy
from numpy.typing import ArrayLike

from iaside.estimate.convergence import consecutive_differences, random_orders, split_differences
from iaside.estimate.resampling import of_resamples
from iaside.score import spectral_importance
from iaside.verdicts.rules import decide

Found = Mapping[str, ArrayLike]  # part -> (1 + resamples,), as `resampling.bootstrap` gives them


def errors_converge(slopes: Found, n_images: Mapping[str, int], data: str = "") -> dict:
    """Judge whether errors of the SID fall as photographs are added: slopes against log K.

    n_images: how many photographs each network has.

    >>> rows = np.random.default_rng(0).normal(-0.5, 0.05, size=401)
    >>> errors_converge({"net": rows}, {"net": 70})["verdict"]
    'supported'
    """
    parts = {name: of_resamples(rows, n_images[name]) for name, rows in slopes.items()}
    note = "limits: other photographs and other samples of them"
    return decide("errors_converge", parts, note, data)


def error_bound_holds(
    reached: Mapping[str, ArrayLike],
    sizes: Mapping[str, ArrayLike],
    n_images: Mapping[str, int],
    data: str = "",
) -> dict:
    """Judge whether the largest error of a value stays below the bound of Luo et al. 2024.

    Shapes: reached maps networks to the error in 95 % of samples over the bound (1 + R, S), for
    each of the sizes (S,): a part for each network and size.

    >>> rows = np.random.default_rng(0).normal(0.02, 0.001, size=(401, 1))
    >>> error_bound_holds({"net": rows}, {"net": [12]}, {"net": 70})["verdict"]
    'supported'
    """
    parts = {
        f"{name}, K = {size}": of_resamples(np.asarray(rows)[:, k], n_images[name])
        for name, rows in reached.items()
        for k, size in enumerate(sizes[name])
    }
    return decide("error_bound_holds", parts, data=data)


def k200_representative(distances: Found, n_images: Mapping[str, int], data: str = "") -> dict:
    """Judge whether 200 photographs give the SID of all: L1 distances, the noise of all corrected.

    >>> rows = np.random.default_rng(0).normal(0.02, 0.001, size=401)
    >>> k200_representative({"net": rows}, {"net": 2400})["verdict"]
    'supported'
    """
    parts = {name: of_resamples(rows, n_images[name]) for name, rows in distances.items()}
    return decide("k200_representative", parts, data=data)


def k200_l1(distance: ArrayLike, n_images: int, data: str = "") -> dict:
    """Judge whether the SID of 200 photographs is exact to less than 0.007, the number of Luo et
    al. 2023.

    Shapes: distance (1 + R,), in L1.

    >>> k200_l1(np.random.default_rng(0).normal(0.02, 0.001, size=401), 2400)["verdict"]
    'contradicted'
    """
    return decide("k200_l1", of_resamples(distance, n_images), data=data)


# -- what they are made from ----------------------------------------------------------------------


def sid_distances(psi: ArrayLike, orders: ArrayLike, sizes: ArrayLike) -> np.ndarray:
    """Return how far SIDs of K photographs lie (a) from those of K + 1, (b) from all others'.

    Means over bands and orders, (2, S); (b) times sqrt(1 - K/N), for the noise of the others.
    Shapes: psi (M, N), orders (D, N) as `random_orders` gives them, sizes (S,).
    Source: Luo et al. 2024, App. C.3 (a); docs/methods.md, Score (b).

    >>> psi = np.array([[3.0], [2.0], [0.0]]) + np.random.default_rng(0).normal(size=(3, 40))
    >>> orders = random_orders(40, 50, np.random.default_rng(0))
    >>> step, gap = sid_distances(psi, orders, [5, 20])
    >>> bool((step < gap).all())
    True
    """
    sizes, n = np.asarray(sizes), np.shape(psi)[1]
    step, gap = (
        np.abs(differences(psi, orders, sizes, spectral_importance)).mean((0, 2))
        for differences in (consecutive_differences, split_differences)
    )
    return np.stack([step, gap * np.sqrt(1 - sizes / n)])


def distance_with_replacement(
    psi: ArrayLike, size: int, n_draws: int, rng: np.random.Generator
) -> float:
    """Return how far SIDs of samples drawn with replacement lie from that of all photographs,
    which are then the whole population: the mean over bands and samples.

    >>> psi = np.array([[3.0], [2.0], [0.0]]) + np.zeros(9)
    >>> distance_with_replacement(psi, 5, 20, np.random.default_rng(0)) < 1e-9
    np.True_
    """
    psi = np.asarray(psi, dtype=float)
    drawn = psi[:, rng.integers(psi.shape[1], size=(n_draws, size))].mean(2)
    return np.abs(spectral_importance(drawn) - spectral_importance(psi.mean(1))[:, None]).mean()


def value_errors(
    values: ArrayLike, sizes: ArrayLike, n_draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the error of every mean value in random samples of each size: (M, S, n_draws).

    Shapes: values (M, N), sizes (S,). Against all other photographs, times sqrt(1 - K/N).

    >>> value_errors([[1.0] * 9, [2.0] * 9], [2, 4], 3, np.random.default_rng(0)).shape
    (2, 2, 3)
    """
    sizes, n = np.asarray(sizes), np.shape(values)[1]
    orders = random_orders(n, n_draws, rng)
    differences = split_differences(values, orders, sizes, lambda mean: mean)
    return np.abs(differences) * np.sqrt(1 - sizes / n)[:, None]


def worst_in_most(errors: ArrayLike, share: float = 0.95) -> np.ndarray:
    """The error of the worst band that so many of the samples stay below: (M, S, D) -> (S,).

    >>> worst_in_most(np.arange(101.0)[None, None], share=0.95).tolist()
    [95.0]
    """
    return np.quantile(np.max(errors, axis=0), share, axis=1)


def standard_errors_of(values: ArrayLike, sizes: ArrayLike) -> np.ndarray:
    """Standard errors of means over samples of several sizes: values (M, N), sizes (S,) -> (M, S).

    >>> standard_errors_of([[1.0, 3.0, 5.0]], [1, 4]).tolist()
    [[2.0, 1.0]]
    """
    return np.std(values, axis=1, ddof=1)[:, None] / np.sqrt(sizes)


def largest_error(values: ArrayLike, index: ArrayLike, sizes: ArrayLike) -> np.ndarray:
    """The largest standard error of mean values (..., N) over samples of several sizes, as the
    images that `index` names (perhaps more than once) tell it: sizes (S,) -> (S,).

    >>> largest_error([[1.0, 3.0, 5.0], [0.0, 0.0, 0.0]], [0, 1, 2], [1, 4]).tolist()
    [2.0, 1.0]
    """
    values, n = np.asarray(values, dtype=float), len(index)
    share = np.bincount(index, minlength=values.shape[-1]) / n
    squares = (values - (values @ share)[..., None]) ** 2 @ share
    return np.sqrt(squares.max() * n / (n - 1) / np.asarray(sizes))


def every_band_within(n_bands: int, share: float = 0.95) -> float:
    """How many standard errors hold the errors of all bands together in so many samples.

    >>> every_band_within(8).round(2)
    np.float64(2.73)
    """
    return scipy.stats.norm.ppf(1 - (1 - share) / (2 * n_bands))
