"""Which summary of a profile predicts robustness: chosen on one zoo of networks, tested on another.

The best of many candidates is overfitted to the networks it was chosen on. Hence candidates are
compared on one recorded run, and only the chosen one is tested, on networks that took no part in
the choice. Candidates are made of shares (SID), which have no unit: networks of 32 and of
224 pixels compare.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iaside.backend.files import reading
from iaside.estimate.coefficients import coefficient
from iaside.estimate.correlation import correlation
from iaside.estimate.estimate import Estimate
from iaside.estimate.families import several
from iaside.estimate.intervals import standard_errors
from iaside.estimate.shares import centroid
from iaside.score import robustness_score, spectral_importance

BETAS = tuple(np.linspace(0.5, 0.95, 10).round(2))
PENALTIES = tuple(np.geomspace(1e-3, 1e3, 13))  # of the ridge, in mean variances of a share
RIDGE = "ridge on shares"
# What is predicted: columns of a table of networks, of each of which more is more robust.
OUTCOMES = ("relative accuracy, all corruptions", "relative accuracy, pgd, all strengths")

Summary = Callable[[np.ndarray], np.ndarray]  # shares (K, M) -> a number of each network, (K,)


# -- tables of networks ----------------------------------------------------------------------------


def network_row(key: str, values: ArrayLike, about: Mapping[str, object]) -> dict:
    """A row of a table of networks: its key, what is said about it, and its values of bands.

    Shapes: values (M, N) of N photographs; their means are psi_0 ... and standard errors psi_se_0
    ...

    >>> row = network_row("a", [[1.0, 3.0], [0.0, 0.0]], {"family": "resnet"})
    >>> row["network"], row["family"], row["psi_0"], row["psi_se_0"], row["n_photographs"]
    ('a', 'resnet', 2.0, 1.0, 2)
    """
    values = np.asarray(values, dtype=float)
    psi, errors = values.mean(1), standard_errors(values)
    named = {f"psi_{i}": float(x) for i, x in enumerate(psi)}
    named |= {f"psi_se_{i}": float(x) for i, x in enumerate(errors)}
    return {"network": key, **about, "n_photographs": values.shape[1], **named}


@dataclass(frozen=True)
class Zoo:
    """The networks of a recorded run with their profiles and robustness.

    psi (K, M) mean values of bands; families (K,); outcomes: name -> (K,).
    """

    psi: np.ndarray
    families: Sequence[Hashable]
    outcomes: Mapping[str, np.ndarray]


def recorded_zoo(root: Path, name: str) -> Zoo | str:
    """The networks of a recorded run, or in words why there are none (yet).

    root: the project. What is read is ``results/recorded/<name>/correlation.networks.csv``.
    Errors: DamagedError for a table that is none.

    >>> recorded_zoo(Path("nowhere"), "cifar10_zoo")
    "no table of networks is recorded as 'cifar10_zoo': it comes with a recorded run of correlation"
    """
    path = root / "results" / "recorded" / name / "correlation.networks.csv"
    if not path.is_file():
        return (
            f"no table of networks is recorded as {name!r}: it comes with a recorded run of "
            "correlation"
        )
    with reading(path, "a table of networks", f"get it back with `git checkout {path}`"):
        frame = pd.read_csv(path)
        bands = [f"psi_{i}" for i in range(sum(c.startswith("psi_se_") for c in frame))]
        psi = frame[bands].to_numpy(dtype=float)
        outcomes = {o: frame[o].to_numpy(dtype=float) for o in OUTCOMES if o in frame}
        return Zoo(psi, frame["family"].tolist(), outcomes)


# -- candidates ------------------------------------------------------------------------------------


def candidates(n_bands: int) -> dict[str, Summary]:
    """Name -> summary of shares, of those that are fixed before any network is seen.

    >>> sid = np.array([[0.75, 0.25, 0.0, 0.0]])
    >>> of = candidates(4)
    >>> [float(of[name](sid)[0]) for name in ("share of the low half", "band 1", "centroid")]
    [1.0, 0.25, 0.08333333333333333]
    """
    found: dict[str, Summary] = {
        f"signed SRC, beta {beta:g}": lambda sid, beta=float(beta): robustness_score(
            sid.T, beta, signed=True, norm="tight"
        )
        for beta in BETAS
    }
    found["SRC as printed"] = lambda sid: robustness_score(sid.T)
    found["share of the low half"] = lambda sid: sid[:, : n_bands // 2].sum(1)
    found["centroid"] = lambda sid: centroid(sid.T)
    return found | {f"band {i}": lambda sid, i=i: sid[:, i] for i in range(n_bands)}


def shares(psi: ArrayLike) -> np.ndarray:
    """The SID of each network: (K, M) -> (K, M)."""
    return spectral_importance(np.asarray(psi, dtype=float).T).T


def deviations(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Numbers (K, ...) less the mean of their group, (K,) whole numbers.

    >>> deviations(np.array([1.0, 3.0, 7.0]), np.array([0, 0, 1])).tolist()
    [-1.0, 1.0, 0.0]
    """
    found = np.array(values, dtype=float)
    for group in np.unique(groups):
        found[groups == group] -= found[groups == group].mean(0)
    return found


def ridge(x: np.ndarray, y: np.ndarray, penalty: ArrayLike) -> np.ndarray:
    """Weights (..., M) that predict y (K,) from x (K, M), both deviations, under penalties (...).

    penalty: in mean variances of a column.

    >>> x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> ridge(x, x @ [2.0, 1.0], 1e-9).round(3)
    array([2., 1.])
    """
    gram = x.T @ x
    size, axes = np.linalg.eigh(gram)
    room = size + np.multiply.outer(penalty, np.full(len(size), size.mean()))
    return (axes.T @ (x.T @ y) / room) @ axes.T


def left_out(x: np.ndarray, y: np.ndarray, groups: np.ndarray, penalty: ArrayLike) -> np.ndarray:
    """Leave-one-out predictions of a ridge regression within each group: (..., K).

    x (K, M), y (K,) as they are, groups (K,) whole numbers: means of groups are taken out, of the
    networks that are left; penalty (...). NaN of a network that is alone in its group.
    """
    found = np.full((*np.shape(penalty), len(y)), np.nan)
    for k in range(len(y)):
        rest = np.arange(len(y)) != k
        own = rest & (groups == groups[k])
        if own.any():
            deviating = deviations(x[rest], groups[rest]), deviations(y[rest], groups[rest])
            found[..., k] = ridge(*deviating, penalty) @ (x[k] - x[own].mean(0))
    return found


# -- choosing and testing --------------------------------------------------------------------------


@dataclass(frozen=True)
class Chosen:
    """The summary that predicted best where it was chosen.

    sign: 1 or -1, the direction in which it did; of: the summary; table: every candidate's
    coefficient on the choosing side, and the best penalty of the ridge, all chosen in hindsight.
    """

    name: str
    sign: float
    of: Summary
    table: pd.DataFrame


def choose(zoo: Zoo, outcome: str) -> Chosen:
    """Choose the summary whose coefficient with an outcome is the largest in size.

    Spearman's over networks, within families where some have several: as claims are decided. That
    of the ridge is of networks it was not fitted to, at the penalty that serves best then: what was
    fitted would win by its number of weights.

    Errors: ValueError where no candidate has a coefficient.
    """
    sid, y, groups = shares(zoo.psi), zoo.outcomes[outcome], _groups(zoo.families)
    of = candidates(sid.shape[1])
    guesses = {name: summary(sid) for name, summary in of.items()}
    guessed = dict(zip(PENALTIES, left_out(sid, y, groups, PENALTIES), strict=True))
    penalty = max(PENALTIES, key=lambda p: _size(_rho(guessed[p], y, groups)))
    weights = ridge(deviations(sid, groups), deviations(y, groups), penalty)
    of[RIDGE] = lambda sid: sid @ weights
    guesses[RIDGE] = guessed[penalty]
    rho = {name: _rho(guess, y, groups) for name, guess in guesses.items()}
    if not np.isfinite(list(rho.values())).any():
        raise ValueError(f"no summary has a coefficient with {outcome!r} over {len(y)} networks")
    best = max(rho, key=lambda name: _size(rho[name]))
    table = pd.DataFrame({"summary": rho.keys(), "rho": rho.values()})
    table["detail"] = [f"penalty {penalty:.3g}" if name == RIDGE else "" for name in rho]
    order = table["rho"].abs().sort_values(ascending=False, kind="stable").index
    # What a ridge was fitted to has its direction; what it was not fitted to may seem to have none.
    return Chosen(
        best,
        1.0 if best == RIDGE else float(np.sign(rho[best])),
        of[best],
        table.loc[order].reset_index(drop=True),
    )


def put_to_test(chosen: Chosen, zoo: Zoo, outcome: str) -> Estimate:
    """The coefficient of a chosen summary on networks that had no part in the choice.

    Above 0: in the direction in which it was chosen. Spearman's over networks, within families
    where some have several, with limits as of `correlation.correlation`: for other networks, not
    for other photographs, of which a table of means knows nothing.
    """
    guess = chosen.sign * chosen.of(shares(zoo.psi))
    return correlation(guess, zoo.outcomes[outcome], groups=several(zoo.families))


def why_not(train: Zoo | str, test: Zoo | str, outcome: str) -> str:
    """Why a summary cannot be chosen on one zoo and tested on the other; "" if it can.

    >>> why_not("no table", "no table either", "mCE")
    'no table'
    """
    for zoo in (train, test):
        if isinstance(zoo, str):
            return zoo
        if outcome not in zoo.outcomes:
            return f"a recorded table of networks has no {outcome!r}: it was not measured"
    if train.psi.shape[1] != test.psi.shape[1]:
        bands = f"{train.psi.shape[1]} and {test.psi.shape[1]}"
        return f"the runs have {bands} bands: measure both with the same n_bands"
    return ""


def _groups(families: Sequence[Hashable]) -> np.ndarray:
    """Families as whole numbers; one for all where each network has its own."""
    names = list(dict.fromkeys(families))
    if several(families) is None:
        return np.zeros(len(families), dtype=int)
    return np.array([names.index(f) for f in families])


def _rho(guess: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    told = np.isfinite(guess) & np.isfinite(y)
    if told.sum() < 3:
        return np.nan
    return float(coefficient(guess[None, told], y[None, told], groups=groups[None, told])[0])


def _size(rho: float) -> float:
    return abs(rho) if np.isfinite(rho) else -1.0
