"""Tables of 66_convergence_report: errors against K, and the kit's intervals put to the test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iaside.estimate.convergence import loglog_slope, random_orders
from iaside.shapley import coalitions, least_squares_values
from iaside.study.pages.common import span
from iaside.verdicts import calibration
from iaside.verdicts import convergence as verdicts


def biased_orders(psi: ArrayLike, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Orders of photographs: the half that a network knows best at random, the others behind it.

    Shapes: psi (M, N); returns (n_draws, N).

    >>> biased_orders([[1.0, 5.0, 4.0, 2.0]], 1, np.random.default_rng(0))[0, 3:].tolist()
    [0]
    """
    best = np.asarray(psi).sum(0).argsort()[::-1]
    half = len(best) // 2 + 1
    behind = np.tile(best[half:], (n_draws, 1))
    return np.hstack([best[random_orders(half, n_draws, rng)], behind])


def line(sizes: ArrayLike, what: str, *distance: ArrayLike, name: str = "distance") -> pd.DataFrame:
    """A line over the number of photographs, with its limits where it has them."""
    names = [name, f"{name}_low", f"{name}_high"]
    return pd.DataFrame({"images": sizes, "what": what} | dict(zip(names, distance, strict=False)))


def at(rows: np.ndarray, sizes: np.ndarray, K: float) -> np.ndarray:
    """The fitted power law of rows (..., sizes) at K, continued where K is beyond the sizes.

    >>> at(np.array([0.5, 0.25]), np.array([2, 4]), 8).round(6)
    np.float64(0.125)
    """
    middle = np.log(K) - np.log(sizes).mean()
    return np.exp(np.log(rows).mean(-1) + loglog_slope(sizes, rows) * middle)


def reaches(rows: np.ndarray, sizes: np.ndarray, target: float) -> np.ndarray:
    """The K at which the fitted power law of rows (..., sizes) falls to a target.

    >>> reaches(np.array([0.5, 0.25]), np.array([2, 4]), 0.125).round(6)
    np.float64(8.0)
    """
    log_ratio = np.log(target) - np.log(rows).mean(-1)
    return np.exp(np.log(sizes).mean() + log_ratio / loglog_slope(sizes, rows))


@dataclass(frozen=True)
class Tests:
    """How often the kit's intervals hold what is true of a population of photographs.

    psi: network -> values (M, N), the population;  n_samples: of K photographs each;
    n_resamples: of the bootstrap of each interval.
    """

    psi: Mapping[str, np.ndarray]
    n_samples: int
    n_resamples: int
    seed: int

    @property
    def n_sampled(self) -> int:
        """Samples whose games are sampled again, which takes longer."""
        return max(self.n_samples // 5, 2)

    def of(self, find: Callable, truth: ArrayLike, N: int, K: int, n_samples: int) -> pd.DataFrame:
        """One row for each number, with the sample size and in how many samples it was told."""
        found = calibration.calibration(find, truth, N, K, n_samples, self.seed)
        n = np.rint(n_samples * found["told"])
        return pd.DataFrame(found).assign(K=K, samples=f"K = {K}", n=n)

    def whole(self, m: str) -> np.ndarray:
        """The true values (M, 1) of a network."""
        return self.psi[m].mean(1, keepdims=True)

    def network(self, m: str, table: np.ndarray, K: int) -> list[pd.DataFrame]:
        """Values, SID, shares, and scores of one network: of the exact game and of sampled ones.

        Shapes: table (2**M, N), the log-likelihood of every coalition.
        """
        psi, whole, how = self.psi[m], self.whole(m), {"n_resamples": self.n_resamples}
        (M, N), n = psi.shape, self.n_samples
        find = calibration.find_values(psi, self.n_resamples)
        values = self.of(find, calibration.values_and_shares(whole)[:, 0], N, K, n)
        names = ("Shapley values (nats)", "SID", "shares of v(all) - v(none)")
        rows = [_named(name, values[k * M : (k + 1) * M]) for k, name in enumerate(names)]
        games = (
            (calibration.find_scores(psi, **how), "", n),
            (calibration.find_sampled_scores(table, **how), ", sampled game", self.n_sampled),
        )
        for find, said, n_samples in games:
            scores = self.of(find, calibration.scores(whole)[:, 0], N, K, n_samples)
            kinds = enumerate(calibration.SCORES)
            rows += [_named(f"SRC {kind}{said}", scores[k : k + 1]) for k, kind in kinds]
        return [row.assign(model=m) for row in rows]

    def pair(self, a: str, b: str, K: int) -> list[pd.DataFrame]:
        """Differences of two networks on the same photographs."""
        M, N = self.psi[a].shape
        find = calibration.find_differences(self.psi[a], self.psi[b], n_resamples=self.n_resamples)
        truth = [calibration.values_and_scores(self.whole(m))[:, 0] for m in (a, b)]
        found = self.of(find, np.subtract(*truth), N, K, self.n_samples)
        parts = {"Shapley values (nats)": slice(0, M), "SID": slice(M, 2 * M)}
        for k, kind in enumerate(calibration.SCORES, start=2 * M):
            parts[f"SRC {kind}"] = slice(k, k + 1)
        rows = [_named(f"{what}, paired", found[part]) for what, part in parts.items()]
        return [row.assign(model=f"{a} minus {b}") for row in rows]


def _named(quantity: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of one quantity: bands of values are counted, other numbers have their names."""
    return frame.assign(quantity=quantity, band=range(len(frame)))


def same_pairs(worths: Mapping) -> list[tuple[str, str]]:
    """The pairs of networks that saw the same photographs."""
    pairs = itertools.combinations(worths, 2)
    return [
        (a, b)
        for a, b in pairs
        if calibration.same_photographs(worths[a].provenance, worths[b].provenance)
    ]


def listed(rows: pd.DataFrame, column: str, spec: str, n_bands: int) -> str:
    """The quantities of some rows, in how many bands each, with the range of a column and n."""
    text = []
    for q, some in rows.groupby("quantity", sort=False):
        where = "" if q.startswith("SRC") else f" in {len(some)} of {n_bands} bands"
        text.append(f"{q}{where} ({span(some[column], spec)}; n = {span(some['n'], ',.0f')})")
    return ", ".join(text) or "none"


def scores_told(rows: pd.DataFrame, tests: Tests) -> str:
    """In which share of the samples scores are told."""

    def told_in(some: pd.DataFrame, n: int) -> str:
        return f"{span(some['told'], '.0%')} of {n} samples"

    scores = rows[rows["quantity"].str.startswith("SRC")]
    sampled = scores["quantity"].str.endswith("sampled game")
    text = f"Scores are told in {told_in(scores[~sampled], tests.n_samples)}"
    if sampled.any():
        text += f", those of sampled games in {told_in(scores[sampled], tests.n_sampled)}"
    return f"{text}."


def value_bounds(
    psi: np.ndarray,
    contributions: np.ndarray,
    sizes: np.ndarray,
    reached: Sequence[ArrayLike],
    n_draws: int,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The bound of Luo et al. (2024, Eqs. 37-42) on Shapley values: lines, and samples beyond it.

    Shapes: psi (M, N), contributions (M, 2**(M-1), N), sizes (K,); reached, three of (K,): what
    95 % of samples stay below, as a multiple of the bound without its factor, and its limits.
    """
    M, N = psi.shape
    unit = verdicts.largest_error(contributions, np.arange(N), sizes)
    level = verdicts.every_band_within(M)
    exact = level * verdicts.standard_errors_of(psi, sizes)
    bounds = {
        "bound of Luo et al. (2024)": unit * 2 ** (M - 1),
        "the same without the factor": unit,
    }
    lines = {name: [bound] for name, bound in bounds.items()}
    lines[f"{level:.2f} exact standard errors, worst band"] = [exact.max(0)]
    lines["what happens: 95 % of samples lie below"] = [f * unit for f in reached]
    frame = pd.concat([line(sizes, what, *rows, name="error") for what, rows in lines.items()])
    errors = verdicts.value_errors(psi, sizes, n_draws, np.random.default_rng(seed))
    limits = bounds | {"exact standard errors": exact}
    beyond = {name: (errors > of[..., None]).any(0).mean(1) for name, of in limits.items()}
    return frame, pd.DataFrame(beyond, index=pd.Index(sizes, name="K"))


def corrected_bound(table: np.ndarray, sizes: np.ndarray, n_draws: int, seed: int) -> pd.DataFrame:
    """Mean L1 error of least-squares values, beside a bound that holds, at every sample size.

    Shapes: table (2**M, N), worths.  Source: the first version of Luo et al., section 3.8, with the
    solution of the least-squares problem in place of a matrix that has no inverse.
    """
    M = len(table).bit_length() - 1
    norm = np.abs(np.linalg.pinv(coalitions(M)[1:].astype(float))).sum(1).max()
    gain = table - table[0]
    fit = least_squares_values(gain)
    errors = verdicts.value_errors(fit, sizes, n_draws, np.random.default_rng(seed))
    bounds = {
        "mean L1 error": errors.sum(0).mean(1),
        "sum of exact standard errors": verdicts.standard_errors_of(fit, sizes).sum(0),
        "corrected bound": norm * M * verdicts.standard_errors_of(gain, sizes).max(0),
    }
    return pd.DataFrame(bounds, index=pd.Index(sizes, name="K"))
