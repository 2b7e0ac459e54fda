"""Shapley values from a sample of coalitions: unbiased for any game, precise where it is smooth.

Coalitions are drawn in complementary pairs, sizes as in KernelSHAP, and each draw alone gives an
unbiased estimate of all values. Its noise is the size of the worths, so what is drawn is only what
other draws could not foresee: the worths are predicted by a Gaussian process over coalitions whose
kernel has one rate per band, first from other images (the game they have in common), then from the
other draws of the same image. This surrogate, whose Shapley values are known in closed form, is a
control variate: each pair of draws is left out of its own prediction, which keeps the estimate
unbiased.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg, optimize

from iaside.backend.content import by_content

FOLDS = 4  # parts of the images; each is predicted from the others
FIT_IMAGES = 64  # that the rates are fitted to: more change nothing
FIT_ROWS = 136  # of each of them: two rounds of 64 bands; every step inverts matrices of this side
ENTRIES = 64 * FIT_ROWS**2  # of matrices that are inverted together: memory stays small
POOL_ROWS = 1000  # worths that the common game is interpolated from
COMMON = 1.0  # variance of an image's own game over that of the common one, as a prior
NUGGET = 0.1  # least share of the variance that no kernel foresees
RATE, SPREAD = -1.0, 1.0  # mean and precision of the log-rates, as a prior


@by_content
class Estimates(NamedTuple):
    """Shapley values of n images and the variances that come from the draws, both (M, n)."""

    values: np.ndarray
    draw_variance: np.ndarray


def pairs_per_image(n_bands: int) -> int:
    """How many pairs of coalitions are drawn at a time: with the ends, about M + 4 passes."""
    return max(2, n_bands // 2 + 1)


def passes_per_image(n_bands: int) -> int:
    """Forward passes that one round of pairs takes an image, the ends included.

    >>> passes_per_image(8), passes_per_image(64)
    (12, 68)
    """
    return 2 + 2 * pairs_per_image(n_bands)


def draw_pairs(n_bands: int, n_pairs: int, rng: np.random.Generator) -> np.ndarray:
    """Draw coalitions and their complements as uint64 codes, (2 * n_pairs,).

    Bit i of a code says whether band i is present; a complement follows its coalition. Sizes s
    have probability proportional to 1 / (s (M - s)), coalitions of a size are equally likely.

    >>> codes = draw_pairs(3, 2, np.random.default_rng(0))
    >>> (codes[::2] + codes[1::2]).tolist()
    [7, 7]
    """
    sizes, probability, _ = _sizes(n_bands)
    size = rng.choice(sizes, n_pairs, p=probability)
    rank = rng.random((n_pairs, n_bands)).argsort(1).argsort(1)
    code = ((rank < size[:, None]).astype(np.uint64) << _bits(n_bands)).sum(1, dtype=np.uint64)
    return np.stack([code, whole(n_bands) - code], 1).ravel()


def whole(n_bands: int) -> np.uint64:
    """The code of the coalition of all bands.

    >>> int(whole(64)) == 2**64 - 1
    True
    """
    return np.uint64(2**n_bands - 1)


def members(codes: np.ndarray, n_bands: int) -> np.ndarray:
    """The bands that are present, as booleans: (...) codes -> (..., M).

    >>> members(np.array([5], np.uint64), 3).tolist()
    [[True, False, True]]
    """
    return (codes[..., None] >> _bits(n_bands)) & np.uint64(1) == 1


def sampled_values(codes: ArrayLike, worths: ArrayLike, n_bands: int) -> Estimates:
    """Estimate the Shapley values of n images from worths of sampled coalitions.

    codes, worths: (n, 2 + 2 K); the first two columns are the empty and the full coalition, then K
    pairs as `draw_pairs` makes them, at least 2 of them. Pairs whose worths are NaN (at the end of
    a row) were not measured. The values of an image add up to v(all) - v(none) exactly, and their
    expectation over the draws is the exact Shapley value, whatever the game.

    Raises ValueError for an image with fewer than two pairs.
    Source: Luo et al. 2024, Eq. 3; sizes as in Lundberg and Lee (2017), pairs as in Covert and Lee
    (2021).

    >>> rng = np.random.default_rng(0)
    >>> codes = np.stack([np.r_[np.uint64([0, 7]), draw_pairs(3, 2, rng)] for _ in range(40)])
    >>> additive = members(codes, 3) @ [3.0, 2.0, 1.0]
    >>> sampled_values(codes, additive, 3).values.mean(1).round(1)
    array([3., 2., 1.])
    """
    codes, worths = np.asarray(codes, np.uint64), np.asarray(worths, float)
    measured = np.isfinite(worths).sum(1)
    if measured.min() < 6:
        raise ValueError(
            f"image {measured.argmin()} has {measured.min()} measured coalitions; "
            "an estimate needs the empty one, the full one and at least two pairs"
        )
    gain = worths - worths[:, :1]
    fold = np.arange(len(codes)) % FOLDS
    values = np.empty((n_bands, len(codes)))
    variance = np.empty_like(values)
    for k in np.unique(fold):
        others = np.flatnonzero(fold != k)
        game = _learn(codes[others], gain[others], measured[others], n_bands)
        for rows in np.unique(measured[fold == k]):
            here = np.flatnonzero((fold == k) & (measured == rows))
            at_once = max(1, min(64, ENTRIES // rows**2))
            for part in np.array_split(here, -(-len(here) // at_once)):
                e = game.correct(members(codes[part, :rows], n_bands), gain[part, :rows])
                values[:, part] = e.mean(1).T
                # Draws that foresee each other err a little alike, hence K - 1 (the coverage that
                # this gives is measured in benchmarks/estimators.py).
                variance[:, part] = e.var(1, ddof=1).T / (e.shape[1] - 1)
    return Estimates(values, variance)


def resampled_table(
    table: ArrayLike, n_pairs: int, rng: np.random.Generator
) -> tuple[Estimates, float]:
    """Estimate the values of an exact table (2**M, N) from pairs drawn anew for each image.

    As if only these coalitions had been measured, so that the error can be seen. Returns the
    estimates and the forward passes per image that would have been made: a coalition that is drawn
    again costs nothing.

    >>> table = members(np.arange(8, dtype=np.uint64), 3)[:, [0] * 9].astype(float)
    >>> e, passes = resampled_table(table, 2, np.random.default_rng(0))
    >>> e.values.shape, passes <= 6
    ((3, 9), True)
    """
    table = np.asarray(table, float)
    n_bands, n = len(table).bit_length() - 1, table.shape[1]
    ends = np.array([0, whole(n_bands)], np.uint64)
    codes = np.stack([np.r_[ends, draw_pairs(n_bands, n_pairs, rng)] for _ in range(n)])
    worths = table[codes.astype(int), np.arange(n)[:, None]]
    passes = float(np.mean([len(np.unique(row)) for row in codes]))
    return sampled_values(codes, worths, n_bands), passes


# -- the game that images have in common --------------------------------------------------------


class _Game(NamedTuple):
    """A sum of kernels at sampled coalitions `at` (rows, M), to be added to an image's own."""

    rates: np.ndarray
    nugget: float
    at: np.ndarray
    weight: np.ndarray

    def correct(self, x: np.ndarray, gain: np.ndarray) -> np.ndarray:
        """Unbiased values from each draw, (n, K, M), of images x (n, 2 + 2 K, M), gain (n, ...)."""
        n, rows, n_bands = x.shape
        x = x.astype(float)
        foreseen = _kernel(x.reshape(-1, n_bands), self.at, self.rates) @ self.weight
        common = self.weight @ _kernel_values(self.at, self.rates)
        rest = gain - foreseen.reshape(n, rows)
        inverse = np.linalg.inv(_kernel(x, x, self.rates) + self.nugget * np.eye(rows))
        weight = np.einsum("nab,nb->na", inverse, rest)
        each = _kernel_values(x, self.rates)  # (n, rows, M)
        own = np.einsum("nam,na->nm", each, weight)
        size, scale = x.sum(2, keepdims=True), _sizes(n_bands)[2]
        horvitz = np.where(x == 1, n_bands - size, -size) * scale / 2  # of one draw, both halves
        e = np.empty((n, rows // 2 - 1, n_bands))
        for k in range(e.shape[1]):
            pair = slice(2 + 2 * k, 4 + 2 * k)
            # Leaving a block out of a Gaussian process needs no second inverse.
            surprise = np.linalg.solve(inverse[:, pair, pair], weight[:, pair, None])
            lost = inverse[:, :, pair] @ surprise  # weight that the pair had
            ends = self.nugget * (weight - lost[..., 0])[:, :2]  # what is left over at the ends
            e[:, k] = (
                own
                - np.einsum("nam,na->nm", each, lost[..., 0])
                + np.einsum("nam,na->nm", horvitz[:, pair], surprise[..., 0])
                + (ends[:, 1:] - ends[:, :1]) / n_bands
            )
        return e + common


def _learn(codes, gain, measured, n_bands) -> _Game:
    """Rates per band and the common game of some images; of none, the game that is zero."""
    if len(codes) == 0:
        rates = np.full(n_bands, np.exp(RATE))
        return _Game(rates, NUGGET, np.zeros((1, n_bands)), np.zeros(1))
    x = members(codes[:, : measured.min()], n_bands).astype(float)
    y = gain[:, : measured.min()]
    rates, nugget = _fit(x[:FIT_IMAGES, :FIT_ROWS], y[:FIT_IMAGES, :FIT_ROWS])
    at, target = x.reshape(-1, n_bands)[:POOL_ROWS], y.ravel()[:POOL_ROWS]
    gram = _kernel(at, at, rates) + COMMON * np.eye(len(at))
    return _Game(rates, nugget, at, linalg.cho_solve(linalg.cho_factor(gram), target))


def _fit(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Rates and nugget that make the worths of the images most likely (scale profiled out)."""
    n, rows, n_bands = x.shape
    count = y.size
    if not y.any():
        return np.full(n_bands, np.exp(RATE)), NUGGET

    def loss(t):
        rates, nugget = np.exp(t[:-1]), np.exp(t[-1])
        smooth = _kernel(x, x, rates)
        gram = smooth + nugget * np.eye(rows)
        inverse = np.linalg.inv(gram)
        weight = np.einsum("nab,nb->na", inverse, y)
        scale = (y * weight).sum() / count
        outer = weight[:, :, None] * weight[:, None, :] / scale
        slope = (inverse - outer) / count
        by_kernel = slope * smooth
        touched = by_kernel.sum(2)[..., None] - by_kernel @ x  # sums of |x_a - x_b|, band by band
        by_rate = -2 * np.einsum("nam,nam->m", x, touched) * rates
        by_nugget = np.trace(slope, axis1=1, axis2=2).sum() * nugget
        value = np.linalg.slogdet(gram)[1].sum() / count + np.log(scale)
        value += SPREAD * ((t[:-1] - RATE) ** 2).sum() / 2 / count
        return value, np.r_[by_rate + SPREAD * (t[:-1] - RATE) / count, by_nugget]

    start = np.r_[np.full(n_bands, RATE), np.log(2 * NUGGET)]
    bounds = [(-6, 1.5)] * n_bands + [(np.log(NUGGET), 0)]
    best = optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40}
    )
    return np.exp(best.x[:-1]), float(np.exp(best.x[-1]))


def _kernel(a: np.ndarray, b: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """exp(-sum of the rates of the bands in which two coalitions differ)."""
    only_a, only_b = (a @ rates)[..., :, None], (b @ rates)[..., None, :]
    return np.exp(2 * (a * rates) @ np.swapaxes(b, -1, -2) - only_a - only_b)


def _kernel_values(at: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Exact Shapley values of the games S -> kernel(S, at): (..., M) -> (..., M).

    A kernel is a product over bands, so its multilinear extension along the diagonal is a
    polynomial of degree M, and M / 2 Gauss points integrate its slope (Owen 1972) exactly.
    """
    nodes, weights = np.polynomial.legendre.leggauss((len(rates) + 1) // 2)
    nodes, weights = (nodes + 1) / 2, weights / 2
    present, absent = np.where(at > 0, 1, np.exp(-rates)), np.where(at > 0, np.exp(-rates), 1)
    values = np.zeros(at.shape)
    for u, w in zip(nodes, weights, strict=True):
        mixed = u * present + (1 - u) * absent
        values += w * np.prod(mixed, -1, keepdims=True) / mixed
    return values * (present - absent)


def _sizes(n_bands: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Sizes 1 ... M - 1, their probabilities, and the sum that these were divided by."""
    size = np.arange(1, n_bands)
    weight = 1 / (size * (n_bands - size))
    return size, weight / weight.sum(), weight.sum()


def _bits(n_bands: int) -> np.ndarray:
    return np.arange(n_bands, dtype=np.uint64)
