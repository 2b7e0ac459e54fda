"""How a statistic of mean values changes with the number of images."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from iaside.estimate.resampling import evaluate, per_image


def random_orders(n: int, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return `n_draws` random orders of n images, (n_draws, n): the first K are a sample of K.

    >>> random_orders(5, 3, np.random.default_rng(0)).shape
    (3, 5)
    """
    return rng.permuted(np.tile(np.arange(n), (n_draws, 1)), axis=1)


def consecutive_differences(
    psi: ArrayLike, orders: ArrayLike, sizes: ArrayLike, statistic: Callable
) -> np.ndarray:
    """Return how much one more image changes a statistic of mean values (Luo et al. 2024, Fig. 15).

    statistic(mean of the first K + 1 images) - statistic(mean of the first K), for every K of
    `sizes` (S,) and every order (D, N) of the images of `psi` (M, N); `statistic` maps (M, R) to
    (..., R), the result is (..., S, D). It is no error: a mean over K changes by about 1/K of
    what one image differs from it, whether or not the mean converges.

    Raises ValueError for orders not of shape (D, N) or a K outside 1 ... N - 1.

    >>> psi = [[0.0, 2.0, 4.0], [0.0, 0.0, 0.0]]
    >>> consecutive_differences(psi, [[0, 1, 2]], [1, 2], lambda mean: mean[0]).tolist()
    [[1.0], [1.0]]
    """
    psi, orders, sizes = _splits(psi, orders, sizes)
    before, after = (_first_means(psi, orders, k) for k in (sizes, sizes + 1))
    return _over_draws(statistic, after) - _over_draws(statistic, before)


def split_differences(
    psi: ArrayLike, orders: ArrayLike, sizes: ArrayLike, statistic: Callable
) -> np.ndarray:
    """Return how far a statistic of K images lies from that of all the other images.

    statistic(mean of the first K images) - statistic(mean of the other N - K); shapes and errors
    as in `consecutive_differences`. The others are a noisy reference, at K = N/2 as noisy as the
    sample. Times sqrt(1 - K/N), the spread of a mean is exactly what K images have around the mean
    of an unlimited population, sigma / sqrt(K), and that of a smooth statistic nearly so.

    >>> psi = [[0.0, 2.0, 4.0], [0.0, 0.0, 0.0]]
    >>> split_differences(psi, [[0, 1, 2]], [1, 2], lambda mean: mean[0]).tolist()
    [[-3.0], [-3.0]]
    """
    psi, orders, sizes = _splits(psi, orders, sizes)
    first, k = _first_means(psi, orders, sizes), sizes[:, None]
    others = (psi.sum(1)[:, None, None] - k * first) / (psi.shape[1] - k)
    return _over_draws(statistic, first) - _over_draws(statistic, others)


def loglog_slope(sizes: ArrayLike, errors: ArrayLike) -> np.ndarray:
    """Return the least-squares slope of log(errors) against log(sizes): (..., S) -> (...).

    -1/2 for the error of a mean of independent images. Raises ValueError for fewer than two sizes.

    >>> loglog_slope([1, 10, 100], [5.0, 0.5, 0.05]).round(6)
    np.float64(-1.0)
    """
    x = np.log(np.asarray(sizes, dtype=float))
    if len(np.unique(x)) < 2:
        raise ValueError(f"a slope needs at least two different sizes, got {sizes!r}")
    x = x - x.mean()
    return np.log(errors) @ x / (x @ x)


def _splits(psi, orders, sizes):
    psi, orders, sizes = per_image(psi, least=1), np.asarray(orders), np.atleast_1d(sizes)
    n = psi.shape[1]
    if orders.ndim != 2 or orders.shape[1] != n:
        raise ValueError(f"orders must be (D, N) with N = {n} images, got {orders.shape}")
    if sizes.min() < 1 or sizes.max() >= n:
        raise ValueError(
            f"sizes must leave images over: from 1 to {n - 1} of {n} images, got {sizes.tolist()}"
        )
    return psi, orders, sizes


def _first_means(psi, orders, sizes):
    """Means (M, S, D) of the first K images of every order."""
    sums = psi[:, orders[:, : sizes.max()]].cumsum(2)
    return np.moveaxis(sums[:, :, sizes - 1] / sizes, 1, 2)


def _over_draws(statistic, mean):
    values = evaluate(statistic, mean.reshape(len(mean), -1))
    return values.reshape(*values.shape[:-1], *mean.shape[1:])
