"""Tables of 78_plans: the score and robustness over networks whose cause is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from iaside.estimate.coefficients import METHODS, coefficient
from iaside.estimate.correlation import coefficients, correlation, correlation_row
from iaside.estimate.estimate import Estimate
from iaside.estimate.families import family_means
from iaside.estimate.intervals import interval
from iaside.robustness.measures import image_rows, measure, on_resamples
from iaside.tables import CORRUPTIONS, Condition, Responses
from iaside.training.pairs import INTERVENTIONS, share_right

SOURCES = {
    "corruptions": CORRUPTIONS,
    "white noise": ["white_noise"],
    "FGSM": ["fgsm"],
    "PGD": ["pgd"],
}
KINDS = ("error", "accuracy drop", "mPE", "relative mPE")


def under(conditions: Sequence[Condition]) -> dict[str, list[Condition]]:
    """The measured conditions on the whole spectrum, by kind of source."""
    found = {
        u: [c for c in conditions if c.source in those and c.place < 0]
        for u, those in SOURCES.items()
    }
    return {u: some for u, some in found.items() if some}


def harm(r: Responses, kind: str, conditions: Sequence[Condition]) -> Estimate:
    """A measure of one network under some conditions, more is worse, with limits over images."""
    if kind != "error":
        return measure(r, kind, conditions)
    wrong = 1 - share_right(r, conditions)
    if not (wrong := wrong[None, ~np.isnan(wrong)]).size:
        return Estimate.unsure(np.nan, 0, "photographs")
    return interval(wrong, lambda mean: mean[0]).within(0, 1)


@dataclass(frozen=True)
class Looks:
    """Correlations of a score with measures, over networks and within what they share.

    signed, clean: the score and clean accuracy (K, 1 + R) on the photographs and on resamples;
    why: the cause of each network;  designs: causes or architectures -> the group of each network.
    """

    responses: Sequence[Responses]
    signed: np.ndarray
    clean: np.ndarray
    why: pd.Series
    designs: Mapping[str, pd.Series]

    def on_images(self, kind: str, conditions: Sequence[Condition]) -> tuple[np.ndarray, int]:
        """A measure of each network, (K, 1 + R), and the number of photographs."""
        if kind == "error":
            rows = [1 - share_right(r, conditions)[None] for r in self.responses]
        else:
            rows = [image_rows(r, kind, conditions) for r in self.responses]
        return on_resamples(rows)

    def plain(self, kind: str, conditions: Sequence[Condition]) -> dict:
        """The coefficient over all networks by every method, as text."""
        y, images = self.on_images(kind, conditions)
        row, how = correlation_row(self.signed, y, n_images=images), {"n_images": images}
        given = correlation(self.signed, y, given=self.clean, **how)
        ends = f"{row['loo_low']:+.2f} to {row['loo_high']:+.2f}"
        found = {
            "spearman": correlation(self.signed, y, **how).limits("+.2f"),
            "p": round(row["p"], 4),
            "without one": ends if np.isfinite(row["loo_low"]) else "none",
            "given accuracy": given.limits("+.2f"),
        }
        for method in (k for k in METHODS if k != "spearman"):
            pair = self.signed[:, :1].T, y[:, :1].T
            found[method] = f"{coefficient(*pair, method=method)[0]:+.2f}"
        return found | {"why none": row["why"]}

    def all(self, kind: str, conditions: Sequence[Condition]) -> dict[str, dict]:
        """`correlation_row` of one measure over networks, recipes, groups, within and without."""
        y, images = self.on_images(kind, conditions)

        def look(chosen=slice(None), means=None, given=False, groups=None) -> dict:
            pair = [
                v[chosen] if means is None else family_means(v, means) for v in (self.signed, y)
            ]
            z = self.clean[chosen] if given else None
            return correlation_row(*pair, given=z, groups=groups, n_images=images)

        recipe = pd.Series({name: name.rpartition("-seed")[0] for name in self.why.index})
        found = {"all networks": look(), "recipes": look(means=recipe)}
        for words in INTERVENTIONS.values():
            rest = ~self.why.str.contains(words).to_numpy()
            if 0 < rest.sum() < len(rest):
                found[f"without {words}"] = look(rest)
        quiet = ~self.why.str.contains(INTERVENTIONS["noise"]).to_numpy()
        found["given accuracy"] = look(given=True)
        found["given accuracy, without label noise"] = look(quiet, given=True)
        for words, groups in self.designs.items():
            found[f"within {words}"] = look(groups=groups)
            found[f"within {words}, given accuracy"] = look(given=True, groups=groups)
            found[f"between {words}"] = look(means=groups)
        return found


def every_coefficient(
    predictors: pd.DataFrame,
    wide: pd.DataFrame,
    accuracy: pd.Series,
    designs: Mapping[str, pd.Series],
    quiet: pd.Index,
    headline: Sequence[tuple[str, str]],
) -> pd.DataFrame:
    """Coefficients of every predictor with every measure: of all, within groups, and of some.

    predictors, wide: a row for each network;  quiet: the networks without label noise, of which
    the measures of `headline` are taken.
    """
    rows = [{"networks": "all"} | row for row in coefficients(predictors, wide, accuracy)]
    for words, groups in designs.items():
        rows += [
            {"networks": "all"} | row | {"over": f"within {words}"}
            for row in coefficients(predictors, wide, accuracy, groups)
            if row["over"] != "networks"
        ]
    some = predictors.loc[quiet], wide.loc[quiet, list(headline)], accuracy[quiet]
    rows += [{"networks": "without label noise"} | row for row in coefficients(*some)]
    frame = pd.DataFrame(rows)
    return frame.assign(what=frame["measure"] + ", " + frame["under"])


def looked_words(told: pd.DataFrame, designs: Mapping) -> list[str]:
    """A line for each way to look at one measure, from rows of `Looks.all` indexed by the way."""
    units = {"recipes": "recipes"} | {f"between {words}": words for words in designs}
    lines = []
    for over, row in told.iterrows():
        unit = units.get(over, "networks")
        size = f"n = {row.n} {unit}, {max(row.independent, 0)} after what was fitted"
        found = f"rho = {row.rho:+.2f} [{row.rho_low:+.2f}, {row.rho_high:+.2f}]"
        if not np.isfinite(row.rho_low):
            found = row.why or "too few for an interval"
        lines.append(f"* {over}: {found}, {size}")
    return lines
