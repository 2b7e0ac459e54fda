"""Coefficients over networks: plain, partial or within groups, with permutation tests."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import scipy
from numpy.typing import ArrayLike

from iaside.estimate.families import numbered
from iaside.estimate.rounding import flat

METHODS = ("pearson", "spearman", "kendall")
PERMUTATIONS = 10_000
EXACT = 7  # networks up to which all orders are tried


def coefficient(x, y, z=None, method: str = "spearman", groups=None) -> np.ndarray:
    """The coefficient of each row: x, y (and z, groups) (R, n) -> (R,); NaN where one is
    constant but for rounding (`rounding.flat`).

    groups: whole numbers, the group of each network, whose means are taken out of all first.
    """
    none = flat(x, groups) | flat(y, groups) | (False if z is None else flat(z, groups))
    return np.where(none, np.nan, _of_rows(x, y, z, method, groups))


def ranks(values: ArrayLike) -> np.ndarray:
    """The ranks of each row (R, n), from 1 on, of equal numbers their mean; NaN in a row with NaN.

    >>> ranks([[3.0, 1.0, 2.0], [1.0, 2.0, 1.0]]).tolist()
    [[3.0, 1.0, 2.0], [1.5, 3.0, 1.5]]
    """
    values = np.asarray(values, dtype=float)
    order = values.argsort(axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    if not (ordered[:, 1:] > ordered[:, :-1]).all():  # equal ones, or NaN
        return scipy.stats.rankdata(values, axis=1)
    found = np.empty(values.shape)
    np.put_along_axis(found, order, np.arange(1.0, 1 + values.shape[1])[None], axis=1)
    return found


def measured_together(x, y, method: str, given, groups) -> tuple:
    """The numbers as (n, 1 + R), columns but the first being resamples, and groups as (n,)."""
    x, y = _numbers(x, "x"), _numbers(y, "y")
    z = None if given is None else _numbers(given, "given")
    g = None if groups is None else numbered(groups)
    all_of_them = [v for v in (x, y, z, g) if v is not None]
    if any(v.ndim not in (1, 2) or len(v) != len(all_of_them[0]) for v in all_of_them):
        raise ValueError(
            "one number per network is needed, got shapes "
            + ", ".join(str(v.shape) for v in (x, y, z) if v is not None)
            + ("" if g is None else f", and {len(g)} groups")
        )
    plain = z is None and g is None
    if method not in METHODS or (method == "kendall" and not plain):
        raise ValueError(
            f"method={method!r} is not known{'' if plain else ' with given= or groups='}; "
            f"choose one of {', '.join(METHODS if plain else METHODS[:2])}"
        )
    return *(None if v is None else v.reshape(len(v), *v.shape[1:] or (1,)) for v in (x, y, z)), g


def _numbers(values: ArrayLike, name: str) -> np.ndarray:
    """Real numbers as float64: of a tensor, a column, a list in which None is a missing one."""
    if np.ma.is_masked(values):
        raise ValueError(f"{name} is masked in places, where there is no number; leave these out")
    values = values.detach().cpu() if hasattr(values, "detach") else values
    try:
        if np.asarray(values).dtype.kind in "biufO":
            return np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError):  # words in it, rows of different lengths
        pass
    text = " ".join(str(values).split())[:40]
    raise TypeError(f"{name} is {text!r}; give real numbers, one per network")


def why_undefined(x, y, z, g, method: str) -> str:
    """Why some numbers of each network have no correlation, in words; "" if they have one."""
    named = {"x": x[:, 0], "y": y[:, 0]} | ({} if z is None else {"given": z[:, 0]})
    n = len(x)
    if n < 2:
        return f"it takes 2 networks, not {n}"
    for name, values in named.items():
        if np.isnan(values).any():
            return f"{name} is nan for {np.isnan(values).sum()} of {n}"
        if method == "pearson" and np.isinf(values).any():
            return f"{name} is infinite for {np.isinf(values).sum()} of {n}; take ranks"
    within = None if g is None else g[None]
    rows = {name: values[None] for name, values in named.items()}
    still = [name for name, row in rows.items() if flat(row, within)[0]]
    if still:
        where = "" if g is None else " within groups"
        return f"{' and '.join(still)} {'is' if len(still) == 1 else 'are'} constant{where}"
    if z is not None and np.isnan(coefficient(*rows.values(), method, within)[0]):
        return "given leaves nothing of x or y"  # all else has been asked
    return ""


def _of_rows(x, y, z, method: str, groups) -> np.ndarray:
    if method == "kendall":
        x, y = ranks(x), ranks(y)
        return np.concatenate(
            [  # a few rows at a time: each takes n * n numbers
                _kendall(*part)
                for part in zip(
                    *(np.array_split(v, 1 + len(v) // 100) for v in (x, y)), strict=True
                )
            ]
        )
    if method == "spearman":
        x, y, z = ranks(x), ranks(y), None if z is None else ranks(z)
    if groups is not None:
        x, y, z = (None if v is None else without_group_means(v, groups) for v in (x, y, z))
    xy = _pearson(x, y)
    if z is None:
        return xy
    xz, yz = _pearson(x, z), _pearson(y, z)
    room = (1 - xz**2) * (1 - yz**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Where the third number says everything about one of the two, nothing is left to correlate.
        return np.where(room > 1e-9, (xy - xz * yz) / np.sqrt(room), np.nan)


def _kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    dx, dy = (np.sign(v[:, :, None] - v[:, None, :]) for v in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (dx * dy).sum((1, 2)) / np.sqrt((dx**2).sum((1, 2)) * (dy**2).sum((1, 2)))


def without_group_means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Each row (R, n) without the means of its groups."""
    left = np.array(values, dtype=float)
    for group in np.unique(groups):
        inside = groups == group
        mean = (values * inside).sum(1) / np.maximum(inside.sum(1), 1)
        left -= inside * mean[:, None]
    return left


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # By powers of two, which round nothing: squares of very large or small numbers are none.
    x, y = (np.ldexp(v, -np.frexp(np.abs(v).max(1, keepdims=True))[1]) for v in (x, y))
    dx, dy = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    spread = (dx**2).sum(1) * (dy**2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, (dx * dy).sum(1) / np.sqrt(spread), np.nan)


def permutation_p(x, y, z, method: str, g: np.ndarray | None) -> float:
    """Two-sided, within groups where there are any, with the numbers of each network (n,).

    But of Kendall's, coefficients are compared over their own standard errors: without them a test
    of 0 finds numbers too often that depend on each other and have none, as where scatter grows
    with the score (of 21 networks in 10 % of cases for 5 %; studentised, in 6 %).
    Source: DiCiccio and Romano 2017; for ranks Yu and Hutson 2024.
    """
    n = len(x)
    exact = n <= EXACT and g is None
    shuffled = np.vstack([np.arange(n), orders(n, None if g is None else tuple(g.tolist()))])
    if method == "spearman":
        method, x, y = "pearson", ranks(x[None])[0], ranks(y[None])[0]
        z = None if z is None else ranks(z[None])[0]
    if g is not None:
        x, y, z = (
            None if v is None else without_group_means(v[None], g[None])[0] for v in (x, y, z)
        )
    if method == "kendall":
        found = coefficient(np.broadcast_to(x, shuffled.shape), y[shuffled], method=method)
    else:
        x, y = (_scaled(v - v.mean()) for v in (x, y))
        given = y
        if z is not None:  # what is left of y without z is what may be exchanged
            z = _scaled(z - z.mean())
            x, given = (v - (v @ z) * z for v in (x, y))
        given = given[shuffled]
        if z is not None:
            given -= (given @ z)[:, None] * z
        found = _studentised(x, given)
    return share_as_far(found[1:], found[0], exact)


def _studentised(x: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Pearson's coefficient of x (n,) with each row of ys (R, n), all of mean 0, over the root of
    its square and variance: as one over its standard error, but within -1 and 1.

    The variance is that of the influences of the networks (Devlin, Gnanadesikan and Kettenring
    1975), and 0 where x and y are proportional.
    """
    room = np.linalg.norm(ys, axis=1, keepdims=True) * np.linalg.norm(x)
    with np.errstate(invalid="ignore", divide="ignore"):
        x, ys = x / np.linalg.norm(x), ys / np.linalg.norm(ys, axis=1, keepdims=True)
        r = ys @ x
        moves = x * ys - r[:, None] / 2 * (x**2 + ys**2)
        found = r / np.sqrt(r**2 + (moves**2).sum(1))
    return np.where(room[:, 0] > 1e-12, found, 0.0)


def share_as_far(others: np.ndarray, estimate: float, exact: bool) -> float:
    """The two-sided p of an estimate among those of other orders, (P,), all of them or random ones.

    exact: all orders were tried, its own among them.

    >>> share_as_far(np.array([1.0, 0.5, -0.5, -1.0]), 1.0, exact=True)
    0.5
    """
    extreme = np.abs(others) >= abs(estimate) - 1e-12
    return float((extreme.sum() + (not exact)) / (len(others) + (not exact)))


def _scaled(v: np.ndarray) -> np.ndarray:
    """A vector of length 1, by way of its largest number: squares of very large ones are none."""
    v = v / np.abs(v).max()
    return v / np.linalg.norm(v)


@functools.lru_cache(maxsize=8)  # the same for every coefficient over the same networks
def orders(n: int, groups: tuple | None) -> np.ndarray:
    """Orders of n networks, all of them or random ones, within groups where there are any.

    >>> orders(3, None).tolist()[:2]
    [[0, 1, 2], [0, 2, 1]]
    """
    if n <= EXACT and groups is None:
        return np.array(list(itertools.permutations(range(n))))
    found = np.tile(np.arange(n), (PERMUTATIONS, 1))
    found = np.random.default_rng(0).permuted(found, axis=1)
    if groups is None:
        return found
    # The shuffled members of each group go to the places of its members.
    g = np.array(groups)
    order = np.argsort(g[found], axis=1, kind="stable")
    within = np.empty_like(found)
    within[:, np.argsort(g, kind="stable")] = np.take_along_axis(found, order, axis=1)
    return within
