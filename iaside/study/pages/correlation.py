"""Tables of 50_correlation: measures of robustness, what predicts them, and published ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iaside.estimate.accuracy import accuracy_interval
from iaside.estimate.correlation import correlation, no_correlation
from iaside.estimate.crossed import resampled_scores
from iaside.explanation import Explanation
from iaside.robustness.measures import (
    MEASURES,
    corruption_error,
    corruption_rows,
    harm,
    image_rows,
    measure,
    on_resamples,
)
from iaside.robustness.summaries import network_row
from iaside.robustness.testbed import PGD, join, read
from iaside.score import SCORES, robustness_score, spectral_importance
from iaside.tables import CLEAN, CORRUPTIONS, Condition, Responses

Cases = Mapping[str, Sequence[Condition]]


def measured(answers: Mapping[str, Responses], cases: Cases) -> pd.DataFrame:
    """Every measure of robustness of each network under each case, with limits: a row each."""
    rows = []
    for m, r in answers.items():
        found = {(k, u): measure(r, k, some) for k in MEASURES for u, some in cases.items()}
        found |= {("error, % of AlexNet's", c): corruption_error(r, [c]) for c in CORRUPTIONS}
        found |= {("mCE", "all corruptions"): corruption_error(r)}
        for (k, u), i in found.items():
            numbers = dict(zip(("value", "se", "low", "high"), map(float, i), strict=True))
            rows.append({"model": m, "kind": k, "under": u} | numbers)
    return pd.DataFrame(rows)


def scores_on_resamples(values: Sequence[ArrayLike], kind: str, beta: float) -> np.ndarray:
    """A score of K networks on their photographs and on R resamples, uncorrected: (K, 1 + R)."""
    how = SCORES[kind]
    return resampled_scores(
        values, lambda mean: robustness_score(spectral_importance(mean), beta, **how)
    )


def harm_on_resamples(
    answers: Iterable[Responses], kind: str, conditions: Sequence[Condition]
) -> tuple[np.ndarray, int]:
    """A measure of K networks, turned so that more is worse: (K, 1 + R), and its photographs."""
    rows = (
        corruption_rows(r) if kind == "mCE" else image_rows(r, kind, conditions) for r in answers
    )
    found, images = on_resamples(list(rows))
    return harm(kind, found), images


def network_table(
    explained: Mapping[str, Explanation],
    known: Mapping[str, Mapping],
    wide: pd.DataFrame,
    cases: Cases,
) -> pd.DataFrame:
    """A row for each network, as networks.csv holds it: bands, scores and every measure.

    known: network -> what stands before the measures;  wide: their values, by kind and case.
    """
    rows = []
    for m, e in explained.items():
        about = known[m] | {"mCE": wide["mCE", "all corruptions"][m]}
        about |= {f"{kind}, {u}": wide[kind, u][m] for kind in MEASURES for u in cases}
        rows.append(network_row(m, e.values, about))
    return pd.DataFrame(rows)


def published(
    models: Mapping, answers: Mapping[str, Responses], score: pd.Series, pgd: Sequence[Condition]
) -> tuple[pd.DataFrame, list[str]]:
    """What the ImageNet testbed (Taori et al. 2020) has of the same weights, beside what is here.

    Returns the table of the networks that join, and a sentence for each coefficient of the score.
    """
    joined = join(models, read("data/published/imagenet_testbed.csv"))
    score = score.loc[joined.index]
    known = pd.DataFrame({"the weights of": joined["row"], "SRC, paper": score.round(3)})
    known["mCE, here"] = [corruption_error(answers[m]).limits(".0f") for m in joined.index]
    known["mCE, published"] = joined["mCE"].round(1)
    for eps in PGD:
        for c in (c for c in pgd if np.isclose(255 * c.strength, eps, rtol=0.01)):
            rows = [(r, r.row(c)) for r in map(answers.get, joined.index)]
            left = [
                accuracy_interval(r.tables["correct"][k][r.measured_images(k)]) for r, k in rows
            ]
            known[f"accuracy under PGD {eps:g}/255, here"] = [i.limits() for i in left]
        known[f"accuracy under PGD {eps:g}/255, published"] = (joined[eps] / 100).round(3)
    text = []
    for what in joined.columns[1:] if len(joined) else ():
        y = joined[what].dropna()
        few = f"n = {len(y)}, two are needed" if len(y) < 2 else no_correlation(score[y.index], y)
        found = f"none: {few}" if few else f"{correlation(score[y.index], y):+.2f}"
        name = f"accuracy under PGD {what:g}/255" if what in PGD else what
        text.append(f"SRC with the published {name}: {found}")
    return known, text


def confined_noise(answers: Mapping[str, Responses]) -> dict[str, np.ndarray]:
    """Change of the true class's probability under noise confined to each band: (M, N)."""
    changes = {}
    for m, r in answers.items():
        p = np.exp(r.tables["log_likelihood"])
        noisy = [k for k in r.rows("white_noise") if r.conditions[k].place >= 0]
        changes[m] = np.abs(p[noisy] - p[r.row(CLEAN)])
    return changes


def lowest_attacked(answers: Mapping[str, Responses]) -> dict[str, np.ndarray]:
    """Right answers clean and under PGD of 8/255 in band 0, (2, N), of networks that have it."""
    found = {}
    for m, r in answers.items():
        for c in r.conditions:
            if c.source == "pgd" and c.place == 0 and round(c.strength * 255) == 8:
                if len(asked := r.measured_images(r.row(c))):
                    found[m] = r.tables["correct"][[r.row(CLEAN), r.row(c)]][:, asked]
    return found
