"""Tables and sentences of 30_importance: Shapley values, their controls, interactions, bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval, mean_interval, nonuniformity, standard_errors
from iaside.estimate.shares import centroid, entropy, share_of_worth
from iaside.explanation import Explanation
from iaside.game.samples import Controls
from iaside.score import SCORES, spectral_importance
from iaside.shapley import shapley_values
from iaside.study.pages.common import columns
from iaside.verdicts.choices import DECOMPOSITIONS


def bars(explained: Mapping[str, Explanation], weights: str) -> pd.DataFrame:
    """A row for each network and band: psi and SID with their limits, and what the weights are."""
    rows = [e.to_frame().assign(model=m, weights=weights) for m, e in explained.items()]
    return pd.concat(rows)


def control_bars(untrained: Mapping[str, ArrayLike], normalise: str) -> list[pd.DataFrame]:
    """The same of randomly initialised networks, a frame each: (M, K) values over initialisations.

    >>> frame, = control_bars({"net": np.ones((2, 5)) + np.eye(2, 5)}, "minmax")
    >>> frame["weights"][0], frame["psi"].tolist()
    ('randomly initialised, n = 5 initialisations', [1.2, 1.2])
    """
    frames = []
    for m, psi in untrained.items():
        n, unit = psi.shape[1], "initialisations"
        row = {
            "model": m,
            "weights": f"randomly initialised, n = {n} {unit}",
            "band": range(len(psi)),
        }
        row |= columns("psi", mean_interval(psi, unit=unit))
        row |= columns("sid", mean_interval(spectral_importance(psi, normalise), unit=unit))
        frames.append(pd.DataFrame(row))
    return frames


def top_words(explained: Mapping[str, Explanation], sure: Mapping) -> tuple[str, list[str]]:
    """Which band most networks have most of their worth from, and each network's share.

    sure: the networks whose v(all) - v(none) is clearly above 0; of others no share is told.
    """
    top = {m: int(e.psi.value.argmax()) for m, e in explained.items()}
    shares = {m: share_of_worth(explained[m].values, i) for m, i in top.items()}
    band, count = Counter(top.values()).most_common(1)[0]
    M, n = next(iter(explained.values())).values.shape
    lowest = f"band 0 holds the lowest frequencies, band {M - 1} the highest; n = {n} photographs"
    if len(top) == 1:
        ((m, share),) = shares.items()
        return f"{m} draws most from band {band}, {share} ({lowest}).", []
    told = [m for m, e in sure.items() if top[m] == band]
    told.sort(key=lambda m: explained[m].psi.value[band] / explained[m].psi.value.sum())
    ends = " to ".join(f"{shares[m]} ({m})" for m in dict.fromkeys(told[:1] + told[-1:]))
    text = f"{count} of {len(top)} networks draw most from band {band}{', ' * bool(ends)}{ends}"
    return f"{text} ({lowest}).", [f"{m}: {shares[m]} from band {i}" for m, i in top.items()]


def trained_words(e: Explanation, sure: bool) -> str:
    """How uneven the bands of a network are, or that nothing can be told of it."""
    if not sure:
        return (
            "v(all) - v(none) may be 0: no share of it is told, and its SID and scores say nothing"
        )
    return (
        "as a share of v(all) - v(none), the most unusual band differs from the mean band by "
        f"{nonuniformity(e.values):.0%}"
    )


def control_words(control: Controls, gain: float | None) -> str:
    """What a network's randomly initialised control shows; gain None is one that may be 0."""
    if control.refused or gain is None:
        return control.refused or "no share of a trained v(all) - v(none) that may be 0"
    share = np.abs(control.values.mean(1)).max() / gain
    spread = f"logit sd {min(control.logit_sd):.2g} to {max(control.logit_sd):.2g}"
    return (
        f"the largest band is worth {share:.2%} of the trained v(all) - v(none) "
        f"(n = {len(control.samples)} initialisations, {spread}; an estimate, its limits stand "
        "with the verdict)"
    )


def score_words(e: Explanation, kind: str) -> str:
    """A score, or why it is not given."""
    found = e.src(kind)
    return f"{found:.3f}" if found else f"not given: {e.no_score(kind)}"


def other_distributions(e: Explanation, sure: bool) -> dict:
    """Centroid and entropy of the SID, and the signed SRC of other normalisations, as text.

    sure: whether v(all) - v(none) is clearly above 0, so that shares of it can be told.
    """

    def summary(of: Callable) -> str:
        found = interval(e.values, lambda mean: of(spectral_importance(mean)))
        return found.within(0, 1).limits(".3f") if e.sid is not None else "not given"

    def signed(normalise: str) -> str:
        return score_words(Explanation(e.worths, normalise, e.beta), "signed")

    return {
        "centroid": summary(centroid),
        "entropy": summary(entropy),
        "signed SRC of positive": signed("positive"),
        "signed SRC of share": signed("share") if sure else "v(all) - v(none) may be 0",
    }


def score_rows(explained: Mapping[str, Explanation]) -> list[dict]:
    """A row for each network and kind of score that is given."""
    found = {(m, kind): e.src(kind) for m, e in explained.items() for kind in SCORES}
    return [{"model": m, "kind": k} | columns("score", s) for (m, k), s in found.items() if s]


def interaction_words(pair: tuple, i: Estimate) -> str:
    """How many pairs of bands are clearly substitutes or complements, and the strongest of each.

    pair: the two bands of each pair, as `np.tril_indices` gives them;  i: their interactions.

    >>> low, high = np.array([-3.0, -0.1]), np.array([-2.0, 0.3])
    >>> i = Estimate((low + high) / 2, high, low, high, 9, "photographs")
    >>> interaction_words(([1, 2], [0, 0]), i).partition("; ")[2]
    'strongest substitutes: 0 and 1, -2.50 [-3.00, -2.00]'
    """
    clear = (i.low > 0) | (i.high < 0)
    seen = np.where(clear, i.value, 0)
    ends = {"substitutes": (seen.argmin(), -1), "complements": (seen.argmax(), 1)}
    found = [
        f"strongest {kind}: {pair[1][k]} and {pair[0][k]}, {i[k].limits()}"
        for kind, (k, sign) in ends.items()
        if seen[k] * sign > 0
    ]
    below, above = (clear & (i.value < 0)).sum(), (clear & (i.value > 0)).sum()
    counts = f"of {len(clear)} pairs {below} are clearly substitutes, {above} clearly complements"
    return f"{counts}; {'; '.join(found) or 'no pair is clear of zero'}"


def prefixes(name: str, found: Mapping[str, Estimate]) -> pd.DataFrame:
    """A row for each network and low-pass prefix {}, {0}, {0, 1}, ..., with limits."""
    rows = [
        pd.DataFrame({"prefix": range(len(i.value)), "model": m} | columns(name, i))
        for m, i in found.items()
    ]
    return pd.concat(rows)


def decompositions(explained: Mapping[str, Explanation]) -> pd.DataFrame:
    """Every way to share out the worth: mean over photographs and its standard error, as text."""

    def words(values: np.ndarray) -> list[str]:
        pairs = zip(values.mean(1), standard_errors(values), strict=True)
        return [f"{v:.2f} ± {se:.2f}" for v, se in pairs]

    methods = {"Shapley": shapley_values} | DECOMPOSITIONS
    tables = {
        m: {k: words(f(e.worths.table)) for k, f in methods.items()} for m, e in explained.items()
    }
    return pd.concat({m: pd.DataFrame(t).rename_axis("band").T for m, t in tables.items()})


def information(likelihood: np.ndarray, classes: int) -> dict:
    """The identity of Luo et al. (2024, Theorem 3.6) for one network, as far as photographs tell.

    Shapes: likelihood (2**M, N), log-likelihood of every coalition and photograph, in nats.

    >>> information(np.log([[0.25] * 5, [0.8] * 5]), 2)["KL, empty image"]
    '0.693'
    """
    entropy = np.log(classes)
    C = interval(likelihood[:1], lambda mean: mean[0])
    whole = interval(likelihood[-1:] + entropy, lambda mean: mean[0])
    least = max(whole.value, 0)
    return {
        "C": C.limits(".3f"),
        "H(Y)": f"{entropy:.3f}",
        "H(Y) + mean log-likelihood": whole.limits(".3f"),
        "I(X; Y), by the estimates": f"{least:.3f} to {entropy:.3f}",
        "KL, whole photograph": f"{least - whole.value:.3f} to {entropy - whole.value:.3f}",
        "KL, empty image": f"{-(entropy + C.value):.3f}",
    }
