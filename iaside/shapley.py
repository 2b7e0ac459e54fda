"""From worths to values: how much each frequency band is worth to the model, image by image.

A table of worths has one row per coalition and one column per image. Row k belongs to the coalition
whose binary code is k (bit i set: band i is present); row 0 is the empty coalition and the last row
the whole image. Every function here is exact and works on all images at once. Worths need not
start at zero: only differences from row 0 enter the result.
"""

from math import comb

import numpy as np
from numpy.typing import ArrayLike

_MAX_BANDS = 20  # 2**20 rows of float64 are 8 MiB per image; exact enumeration ends about here


def coalitions(n_bands: int) -> np.ndarray:
    """List all coalitions of `n_bands` bands as a boolean matrix (2**M, M).

    Row k is the binary code of k, and column i says whether band i is present.

    Raises ValueError unless 1 <= n_bands <= 20.

    >>> coalitions(2).astype(int).tolist()
    [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    if not isinstance(n_bands, (int, np.integer)) or not 1 <= n_bands <= _MAX_BANDS:
        raise ValueError(f"n_bands must be a whole number from 1 to {_MAX_BANDS}, got {n_bands!r}")
    return (np.arange(2**n_bands)[:, None] >> np.arange(n_bands)) & 1 == 1


def check_coalitions(coalitions: ArrayLike, n_bands: int) -> np.ndarray:
    """Coalitions as (K, M) bool; one alone, (M,), is a row.

    Raises TypeError for what is not boolean, ValueError for another number of bands.

    >>> check_coalitions([1, 0, 1], 3)
    Traceback (most recent call last):
    TypeError: coalitions are int64; give booleans (K, 3): which of the bands are present
    """
    found = np.asarray(coalitions.cpu() if hasattr(coalitions, "cpu") else coalitions)
    found = found[None] if found.ndim == 1 else found
    if found.dtype != bool:
        raise TypeError(
            f"coalitions are {found.dtype}; give booleans (K, {n_bands}): which of the bands are "
            "present"
        )
    if found.ndim != 2 or found.shape[1] != n_bands:
        raise ValueError(
            f"coalitions are {found.shape}, and there are {n_bands} bands: give (K, {n_bands}), a "
            "row for each coalition"
        )
    return found


def shapley_values(table: ArrayLike) -> np.ndarray:
    """Return the exact Shapley value of each band (Luo et al. 2024, Eq. 3).

    `table` is (2**M, N) or (2**M,); the result is (M, N) or (M,), in the unit of the worths. The
    values of an image add up to table[-1] - table[0].

    Raises ValueError for a row count that is no power of two, for NaN or infinite worths and for
    tables without images; TypeError for anything but real numbers.

    >>> shapley_values([0.0, 1.0, 2.0, 5.0])
    array([2., 3.])
    """
    table, n_bands = _checked(table)
    weight = _weights(n_bands)
    return np.stack([np.tensordot(weight, _gains(table, i), 1) for i in range(n_bands)])


def owen_values(table: ArrayLike, unions: ArrayLike) -> np.ndarray:
    """Return the Owen value of each band: its Shapley value when unions of bands stay together.

    Unions bargain first, each as one player, then the bands of each for what it gets (Owen 1977):
    the values of a union's bands add up to its Shapley value in the game of unions. Bands that are
    each a union of their own, or all in one, have their Shapley values.

    `table` is (2**M, N) or (2**M,), `unions` (M,) a number or name for the union of each band.
    Shapes and errors as in `shapley_values`, and ValueError unless each band has its union.

    >>> owen_values([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 6.0], [0, 0, 1])
    array([1.5, 1.5, 3. ])
    """
    table, n_bands = _checked(table)
    unions, code = np.asarray(unions), 2 ** np.arange(n_bands)
    if unions.shape != (n_bands,):
        raise ValueError(
            f"unions must name the union of each of the {n_bands} bands, got {unions.shape}"
        )
    names = np.unique(unions)
    whole = np.array([code[unions == name].sum() for name in names])
    values = np.empty((n_bands, *table.shape[1:]))
    for k, name in enumerate(names):
        inside = unions == name
        rows = _subset_sums(np.delete(whole, k))[:, None] + _subset_sums(code[inside])
        # Values are linear in the game: mean over the coalitions of the other unions first.
        values[inside] = shapley_values(np.tensordot(_weights(len(names)), table[rows], 1))
    return values


def marginal_contributions(table: ArrayLike) -> np.ndarray:
    """Return what each band adds to every coalition of the other bands (Luo et al. 2024, Eq. 33).

    `table` is (2**M, N) or (2**M,); the result is (M, 2**(M-1), N) or (M, 2**(M-1)), coalitions
    of the other M - 1 bands in the order of `coalitions`. Shapley and Banzhaf values are means over
    the second axis. Errors as in `shapley_values`.

    >>> marginal_contributions([0.0, 1.0, 2.0, 5.0])
    array([[1., 3.],
           [2., 4.]])
    """
    table, n_bands = _checked(table)
    return np.stack([_gains(table, i) for i in range(n_bands)])


def banzhaf_values(table: ArrayLike) -> np.ndarray:
    """Return the Banzhaf value of each band: its mean gain over all coalitions of the others.

    Shapes and errors as in `shapley_values`.

    >>> banzhaf_values([0.0, 1.0, 2.0, 5.0])
    array([2., 3.])
    """
    table, n_bands = _checked(table)
    return np.stack([_gains(table, i).mean(0) for i in range(n_bands)])


def least_squares_values(table: ArrayLike) -> np.ndarray:
    """Return the additive game closest to the table in least squares (Luo et al. 2023, Eq. 5-7).

    The fit regresses g(S) = v(S) - v(empty) on membership, without an intercept, over all non-empty
    coalitions. It equals the Banzhaf value plus one constant for all bands, so after the min-max
    normalisation both give the same distribution. The values do not add up to
    v(all) - v(none).

    Shapes and errors as in `shapley_values`.

    >>> least_squares_values([0.0, 1.0, 2.0, 3.0])
    array([1., 2.])
    """
    table, n_bands = _checked(table)
    gain = table - table[0]
    # The normal matrix is 2**(M-2) * (I + 11'), whose inverse is known in closed form.
    with_band = np.stack([_split(gain, i)[:, 1].sum((0, 1)) for i in range(n_bands)])
    return 2.0 ** (2 - n_bands) * (with_band - with_band.sum(0) / (n_bands + 1))


def non_additivity(table: ArrayLike) -> np.ndarray:
    """Return the share of each image's worths that no additive game explains, from 0 to 1.

    ||C V - g||^2 / ||g||^2 with V from `least_squares_values`, C the coalitions and g the worths
    less that of the empty coalition: 0 where bands do not interact. A game that is zero everywhere
    is additive, so its index is 0.

    `table` is (2**M, N) or (2**M,); the result is (N,) or a scalar. Errors as in `shapley_values`.

    >>> round(float(non_additivity([0.0, 0.0, 0.0, 1.0])), 4)  # a pure interaction
    0.3333
    """
    table, n_bands = _checked(table)
    gain = table - table[0]
    fit = np.tensordot(coalitions(n_bands).astype(float), least_squares_values(table), 1)
    total = (gain**2).sum(0)
    return ((fit - gain) ** 2).sum(0) / np.where(total == 0, 1, total)


def interaction_values(table: ArrayLike) -> np.ndarray:
    """Return the Shapley interaction index of each pair of bands (Grabisch and Roubens 1999).

    How much the gain from one band grows when the other joins it, v(S+ij) - v(S+i) - v(S+j) + v(S),
    meaned over coalitions of the others like a Shapley value: above 0 for complements, bands that
    need each other, below 0 for substitutes, bands that can stand in for each other. The sum over
    pairs is not v(all) - v(none).

    `table` is (2**M, N) or (2**M,) with M >= 2; the result is (M, M, N) or (M, M), symmetric, with
    zeros on the diagonal. Errors as in `shapley_values`, and ValueError for one band.

    >>> interaction_values([0.0, 1.0, 2.0, 5.0])
    array([[0., 2.],
           [2., 0.]])
    """
    table, n_bands = _checked(table)
    if n_bands < 2:
        raise ValueError("an interaction takes two bands, but the table has the coalitions of one")
    size = coalitions(n_bands - 2).sum(1) if n_bands > 2 else np.zeros(1, dtype=int)
    weight = 1 / ((n_bands - 1) * np.array([comb(n_bands - 2, s) for s in size]))
    pairs = np.zeros((n_bands, n_bands, *table.shape[1:]))
    for j in range(1, n_bands):
        with_j = _gains(table, j)  # band i < j keeps its place among the others
        for i in range(j):
            pairs[i, j] = pairs[j, i] = np.tensordot(weight, _gains(with_j, i), 1)
    return pairs


def leave_one_out(table: ArrayLike) -> np.ndarray:
    """Return what the whole image loses without each band: v(all) - v(all but i).

    Shapes and errors as in `shapley_values`.

    >>> leave_one_out([0.0, 1.0, 2.0, 5.0])
    array([3., 4.])
    """
    table, n_bands = _checked(table)
    return table[-1] - table[2**n_bands - 1 - 2 ** np.arange(n_bands)]


def only_one_in(table: ArrayLike) -> np.ndarray:
    """Return what each band is worth alone: v({i}) - v(empty).

    Shapes and errors as in `shapley_values`.

    >>> only_one_in([0.0, 1.0, 2.0, 5.0])
    array([1., 2.])
    """
    table, n_bands = _checked(table)
    return table[2 ** np.arange(n_bands)] - table[0]


def _weights(n_players):
    """Shapley's weight of each coalition of a player's others, in the order of `coalitions`."""
    n_others = n_players - 1
    size = coalitions(n_others).sum(1) if n_others else np.zeros(1, dtype=int)
    return np.array([1 / (n_players * comb(n_others, s)) for s in range(n_players)])[size]


def _subset_sums(codes):
    """Sums of all subsets of some codes, in the order of `coalitions`; of none: 0."""
    return coalitions(len(codes)) @ codes if len(codes) else np.zeros(1, dtype=int)


def _split(table, band):
    """View the rows as (higher bands, `band` absent or present, lower bands)."""
    return table.reshape(-1, 2, 2**band, *table.shape[1:])


def _gains(table, band):
    """Gain from adding `band` to each coalition of the others, in the order of `coalitions`."""
    split = _split(table, band)
    return (split[:, 1] - split[:, 0]).reshape(-1, *table.shape[1:])


def _checked(table):
    table = np.asarray(table)
    if table.dtype.kind not in "fiub":
        raise TypeError(f"worths must be real numbers, got dtype {table.dtype}")
    if table.ndim not in (1, 2) or 0 in table.shape[1:]:
        raise ValueError(
            f"a table of worths has shape (2**M, N) or (2**M,) with N >= 1, got {table.shape}"
        )
    rows = len(table)
    if not 2 <= rows <= 2**_MAX_BANDS or rows & (rows - 1):
        raise ValueError(
            f"a table of worths has one row for each of the 2**M coalitions, a power of two "
            f"from 2 to 2**{_MAX_BANDS}; got {rows} rows"
        )
    table = table.astype(np.float64)
    if not np.isfinite(table).all():
        row = int(np.argwhere(~np.isfinite(table))[0][0])
        raise ValueError(
            f"worths must be finite, but coalition {row} holds NaN or infinity; "
            f"check the model's outputs for this coalition"
        )
    return table, rows.bit_length() - 1
