"""Tables and sentences of 67_resolution_report: the same photographs with more, narrower bands."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iaside.estimate.clean import may_be_zero
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval, mean_interval, paired_interval, standard_errors
from iaside.game.resolution import pooled_values
from iaside.game.samples import SampledWorths
from iaside.game.surrogate import draw_pairs, resampled_table
from iaside.score import mean_score, score_estimate, spectral_importance
from iaside.study.pages.common import columns, listed
from iaside.tables import Worths, check_same_pictures
from iaside.verdicts.rules import CONTRADICTED, SUPPORTED, UNDECIDED

WORDS = {SUPPORTED: "inside", CONTRADICTED: "beyond", UNDECIDED: "undecided"}
KINDS = {  # normalisation, whether weights over frequency stay, which score
    "SRC as printed": ("minmax", False, "paper"),
    "signed SRC": ("minmax", False, "signed"),
    "signed SRC, same weights over frequency": ("minmax", True, "signed"),
    "the same, of plain shares": ("share", True, "signed"),
}
SHARES = list(KINDS)[-1]
Game = tuple[str, int]  # a network and a number of bands


def load_games(models: Sequence[str], bands: Sequence[int]) -> tuple[dict, dict]:
    """The exact worths of each network, and the sampled ones of each network and number of bands.

    Errors: ValueError where they are not of the same photographs.
    """
    exact = {m: Worths.load(f"results/worths/tables/{m}-trained.npz") for m in models}
    fine = {}
    for m, M in itertools.product(models, sorted(bands)):
        w = fine[m, M] = SampledWorths.load(f"results/resolution/tables/{m}/{M}.npz")
        check_same_pictures(exact[m].provenance, w.provenance)
        if len(w.images) < (n := exact[m].table.shape[1]):
            raise ValueError(
                f"{m}, M = {M}: the budget reached {len(w.images)} of {n} photographs; "
                "raise `budget` of the section `resolution`"
            )
    return exact, fine


def profile(name: str, m: str, i: Estimate) -> pd.DataFrame:
    """Values of bands divided by their width, over the frequency in their middle.

    >>> i = mean_interval(np.ones((2, 5)) + np.arange(5) * 0)
    >>> profile("density", "net", i)[["frequency", "density"]].values.tolist()
    [[0.25, 2.0], [0.75, 2.0]]
    """
    M = len(i.value)
    about = {"frequency": (np.arange(M) + 0.5) / M, "bands": M, "model": m}
    return pd.DataFrame(about | columns(name, i, unit=1 / M))


def clear_signs(values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Which bands lie above 0 and which below it, in 95 % of samples none of them wrongly."""
    i = mean_interval(values, level=1 - 0.05 / len(values))
    return i.low > 0, i.high < 0


def share(part: ArrayLike, whole: ArrayLike) -> Estimate:
    """The share of one sum of bands in another, each per photograph (N,)."""
    return interval(np.stack([part, whole]), lambda mean: mean[0] / mean[1])


def gains(table: Worths | SampledWorths) -> np.ndarray:
    """v(all) - v(none) of each photograph, of all coalitions or of a sample: (N,)."""
    if isinstance(table, Worths):
        return table.table[-1] - table.table[0]
    ends = next(iter(table.tables.values()))[table.draw == 0]
    return np.diff(ends.reshape(-1, 2))[:, 0]


def near_0(found: Estimate) -> str:
    """An estimate with limits, "0" where all that would be printed is 0.

    >>> near_0(Estimate(1e-7, 0, -1e-7, 1e-7, 9, "photographs"))
    '0'
    """
    text = found.limits(".4f")
    return text if any(digit in text for digit in "123456789") else "0"


def sid_bars(m: str, values: ArrayLike, what: str) -> pd.DataFrame:
    """The SID of values (M, N) with limits, a row for each band."""
    i = interval(values, spectral_importance).within(0, 1)
    about = {"band": range(len(values)), "model": m, "values": what}
    return pd.DataFrame(about | columns("sid", i))


def judged_words(verdicts: Sequence[str], margin: float, n_images: str) -> str:
    """How many distances are judged inside the margin, beyond it, or not.

    >>> judged_words([SUPPORTED, UNDECIDED], 0.1, "9").partition(";")[0]
    'Of 2 distances (n = 9 photographs) 1 has 95 % limits inside the margin of 0.1'
    """

    def counted(verdict: str, one: str, more: str) -> str:
        k = list(verdicts).count(verdict)
        return f"{k or 'none'} {more if k > 1 else one}"

    return (
        f"Of {len(verdicts)} distances (n = {n_images} photographs) "
        f"{counted(SUPPORTED, 'has', 'have')} 95 % limits inside the margin of {margin:g}; "
        f"{counted(CONTRADICTED, 'lies', 'lie')} beyond it, for all {len(verdicts)} together "
        f"(95 %); {counted(UNDECIDED, 'is', 'are')} undecided."
    )


def hidden_words(lowest: Estimate | None, mixed: Mapping[int, np.ndarray], parts: int) -> str:
    """What a coarse band hides of a network.

    lowest: share of the lowest of so many parts in band 0, None where that may be worth 0;
    mixed: number of bands -> the coarse bands that hold parts of either sign.

    >>> hidden_words(None, {16: np.array([1, 3])}, 2).rpartition(", ")[2]
    'lie in the coarse bands 1 and 3 (M = 16).'
    """
    found = [f"{listed(bands)} (M = {M})" for M, bands in mixed.items() if len(bands)]
    text = "what the lowest part of band 0 holds of the band's value cannot be told, which may be 0"
    if lowest is not None:
        text = (
            f"the lowest of {parts} parts of band 0 holds {lowest.limits('.0%')} of the band's "
            f"value; spread evenly it would be {1 / parts:.0%}"
        )
    if not found:
        return f"{text}. In no coarse band do parts of either sign lie beyond doubt."
    return (
        f"{text}. Parts of either sign, each beyond doubt, lie in the coarse bands "
        f"{'; '.join(found)}."
    )


def mixed_signs(signs: tuple[np.ndarray, np.ndarray], coarse: int) -> np.ndarray:
    """The coarse bands in which finer bands of either sign lie, from `clear_signs`."""
    above, below = (pooled_values(some, coarse).astype(bool) for some in signs)
    return np.flatnonzero(above & below)


@dataclass(frozen=True)
class Ranks:
    """Scores of networks at every number of bands, and whether they rank the networks alike.

    psi: network and number of bands -> values (M, N);  every: the numbers of bands, the coarse one
    first, whose weights beta ** i the others may take over frequency.
    """

    psi: Mapping[Game, np.ndarray]
    every: Sequence[int]
    beta: float
    seed: int

    @property
    def models(self) -> list[str]:
        """The networks."""
        return list(dict.fromkeys(m for m, _ in self.psi))

    @property
    def worthy(self) -> list[str]:
        """Those with plain shares: v(all) - v(none) is clearly above 0 at every number of bands."""
        sums = {m: [self.psi[m, M].sum(0) for M in self.every] for m in self.models}
        return [m for m, found in sums.items() if not any(map(may_be_zero, found))]

    def how(self, kind: str, M: int) -> dict:
        """The settings of a kind of score at M bands."""
        normalise, adapt, score = KINDS[kind]
        beta = self.beta ** (self.every[0] / M) if adapt else self.beta
        return dict(beta=beta, kind=score, normalise=normalise)

    def scores(self, kind: str, M: int) -> dict[str, Estimate]:
        """Network -> its score, of the networks that have one."""
        asked = self.worthy if kind == SHARES else self.models
        how = self.how(kind, M) | {"n_resamples": 500, "seed": self.seed}
        found = {m: score_estimate(self.psi[m, M], **how) for m in asked}
        return {m: e for m, e in found.items() if e}

    def order_words(self, scores: Mapping[tuple[str, int], Mapping[str, Estimate]]) -> list[str]:
        """For each kind of score, whether it ranks the networks alike at every number of bands."""
        text = []
        for kind in KINDS:
            at = {M: scores[kind, M] for M in self.every}
            told = [m for m in at[self.every[0]] if all(m in found for found in at.values())]
            if len(told) < 2:
                continue
            orders = {M: tuple(sorted(told, key=lambda m: -at[M][m].value)) for M in self.every}
            each = [
                f"{', '.join(o)} at M = {listed([M for M in self.every if orders[M] == o])}"
                for o in dict.fromkeys(orders.values())
            ]
            alike = "alike" if len(each) == 1 else "not alike"
            text.append(f"**{kind}**: {alike} at every M: {'; '.join(each)}.")
        return text

    def turned(self) -> list[str]:
        """Pairs that change places by plain shares, with paired intervals on either side of 0."""

        def sign(M: int, a: str, b: str) -> int:
            score = mean_score(**self.how(SHARES, M))
            i = paired_interval(self.psi[a, M], self.psi[b, M], score, n_resamples=500)
            return int(i.low > 0) - int(i.high < 0)

        pairs = itertools.combinations(self.worthy, 2)
        return [f"{a} and {b}" for a, b in pairs if {1, -1} <= {sign(M, a, b) for M in self.every}]


def sampling_errors(
    exact: Mapping[str, Worths], psi: Mapping[Game, np.ndarray], n_draws: int, seed: int
) -> tuple[int, dict[str, float], dict[str, np.ndarray]]:
    """The L1 error of SIDs from a seventh of the passes, or from two pairs, with the truth known.

    Returns pairs of coalitions a photograph, passes a photograph, and errors (n_draws,) by network.
    """
    coarse = next(iter(exact.values())).provenance["n_bands"]
    rng = np.random.default_rng([seed, coarse])

    def cost(n_pairs: int) -> float:  # a coalition that is drawn again costs nothing
        draws = [draw_pairs(coarse, n_pairs, rng) for _ in range(50)]
        return 2 + np.mean([len(np.unique(d)) for d in draws])

    def error(m: str, values: np.ndarray) -> float:
        means = np.stack([values.mean(1), psi[m, coarse].mean(1)], axis=1)
        return np.abs(np.diff(spectral_importance(means))).sum()

    n_pairs = max([2, *(k for k in range(2, 2**coarse // 7) if cost(k) <= 2**coarse / 7)])
    passes, errors = {}, {}
    for m, w in exact.items():
        drawn = [resampled_table(w.table, n_pairs, rng) for _ in range(n_draws)]
        passes[m] = np.mean([p for _, p in drawn])
        errors[m] = np.array([error(m, e.values) for e, _ in drawn])
    return n_pairs, passes, errors


def ended(w: Worths | SampledWorths, values: ArrayLike) -> dict[str, object]:
    """How a measurement ended: why, after how many passes, and with which standard errors."""
    row = {"ended by": "all coalitions", "from draws (nats)": 0.0}
    n, played = np.shape(values)[1], w.tables[next(iter(w.tables))].size
    if isinstance(w, SampledWorths):
        played = sum(len(np.unique(w.coalition[w.image == k])) for k in w.images)
        spread = np.sqrt(w.estimates.draw_variance.sum(1)) / n
        row = {"ended by": w.provenance["stopped"], "from draws (nats)": spread.max()}
    row |= {"forward passes": played, "photographs": n}
    row["largest standard error (nats)"] = standard_errors(values).max()
    return row


def ended_words(fine: Mapping[Game, SampledWorths]) -> str:
    """How many measurements ended for which reason."""
    why = {
        "budget": "because the budget was spent",
        "exact": "because all coalitions would have taken hardly more passes",
    }
    stopped = [w.provenance["stopped"] for w in fine.values()]
    told = [f"{stopped.count(r)} ended {words}" for r, words in why.items() if r in stopped]
    budget = next(iter(fine.values())).provenance["budget"]
    return (
        f"Of {len(fine)} measurements with at most {budget:,} forward passes each, {listed(told)}."
    )
