"""Tables and figures of 61_choices_report: how far each choice moves the importance of bands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from iaside.estimate.clean import may_be_zero
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval, paired_distance, paired_interval
from iaside.estimate.shares import centroid, noise_distance
from iaside.game.exact import coalition_images
from iaside.score import mean_score, score_range, spectral_importance
from iaside.shapley import coalitions, least_squares_values, shapley_values
from iaside.spectral import band_masks
from iaside.tables import Worths
from iaside.verdicts import figures
from iaside.verdicts.choices import DECOMPOSITIONS

KINDS = ["absence", "partition", "value", "decomposition", "filter"]  # in the order of the page
FIRST_VERSION = "least squares of probability (001)"  # two choices at once, as they were made first
UNTOLD = "v(all) - v(none) may be 0"


def kinds_of(about: Mapping) -> dict[str, str]:
    """Choice -> kind of choice, in the order of the page, from the provenance of 60_choices.

    >>> list(kinds_of({"choices": {"value": ["probability"]}}))[0]
    'probability'
    """
    choices = {c: kind for kind, names in about["choices"].items() for c in names}
    choices |= dict.fromkeys([*DECOMPOSITIONS, FIRST_VERSION], "decomposition")
    return dict(sorted(choices.items(), key=lambda item: KINDS.index(item[1])))


def values_of(worths: Worths, choices: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Values (M, N) under every choice, the reference first: Shapley values of the first table."""
    tables = {"reference": worths.table}
    tables |= {c: worths.tables[c] for c in choices if c in worths.tables}
    others = {d: f(worths.table) for d, f in DECOMPOSITIONS.items()}
    others[FIRST_VERSION] = least_squares_values(worths.tables["probability"])
    return {c: shapley_values(t) for c, t in tables.items()} | others


class Moved:
    """One network under every choice: scores, SIDs, and how far they are from the reference's.

    psi: choice -> values (M, N), "reference" among them;  kinds: choice -> kind of choice.
    Scores are plain, also where they are not given: changes of them are what is asked.
    """

    def __init__(self, worths: Worths, kinds: Mapping[str, str], beta: float) -> None:
        self.psi, self.kinds = values_of(worths, kinds), kinds
        self.about, self.reference = worths.provenance, self.psi["reference"]
        self.M, self.n = self.reference.shape
        self.signed, self.printed = (mean_score(beta, kind) for kind in ("signed", "paper"))
        ends = score_range(self.M, beta, "signed")
        self.score = {c: interval(v, self.signed).within(*ends) for c, v in self.psi.items()}
        self.sid = {c: interval(v, spectral_importance).within(0, 1) for c, v in self.psi.items()}
        self.unit = self.score["reference"].se  # what sampling alone does to the score,
        self.apart = noise_distance(self.sid["reference"])  # and, in L1, to the SID

    @cached_property
    def difference(self) -> dict[str, Estimate]:
        """Choice -> signed score minus the reference's, paired."""
        return {c: paired_interval(self.psi[c], self.reference, self.signed) for c in self.kinds}

    @cached_property
    def distance(self) -> dict[str, Estimate]:
        """Choice -> L1 distance of the SID from the reference's, where bands are the same."""
        same = [c for c, kind in self.kinds.items() if kind != "partition"]
        return {c: paired_distance(self.psi[c], self.reference, spectral_importance) for c in same}

    def row(self, c: str) -> dict[str, str]:
        """What a choice changes, as text."""
        printed = paired_interval(self.psi[c], self.reference, self.printed)
        far = self.distance.get(c)
        return {
            "signed SRC": self.score[c].limits(".3f"),
            "minus reference": self.difference[c].limits("+.3f"),
            "in its standard errors": f"{self.difference[c].value / self.unit:+.1f}",
            "SRC as printed, minus reference": printed.limits("+.3f"),
            "L1 distance of SIDs": far.limits() if far else "",
            "in what sampling does": f"{far.value / self.apart:.1f}" if far else "",
        }

    def told(self, partitions: Sequence[str]) -> list[str]:
        """The partitions under which v(all) - v(none) is clearly not 0, so that shares are told."""
        return [p for p in partitions if not may_be_zero(self.psi[p].sum(0))]

    def cumulative(self, p: str) -> dict[str, np.ndarray]:
        """Shares of v(all) - v(none), added up from the lowest band, at the edges of bands.

        An edge is the radius of the disc that holds as many frequencies, 1 at Nyquist's of an axis.
        """
        share = interval(self.psi[p], lambda mean: mean.cumsum(0) / mean.sum(0))
        cells = np.cumsum(self.about["cells"][p])
        limits = dict(reached_low=share.low, reached_high=share.high) if p == "reference" else {}
        return {"edge": np.sqrt(4 / np.pi * cells / cells[-1]), "reached": share.value} | limits

    def radius(self, p: str, normalise: str) -> Callable:
        """The statistic of mean values (M, R) that is their mean radius, weighted by shares."""
        r = np.array(self.about["radius"][p])
        return lambda mean: r @ spectral_importance(mean, normalise)

    def radius_words(self, p: str, normalise: str) -> str:
        """The mean radius under a partition, or why it is not told."""
        if normalise == "share" and not self.told([p]):
            return UNTOLD
        i = interval(self.psi[p], self.radius(p, normalise))
        return (i.within(0, 2**0.5) if normalise == "minmax" else i).limits()

    def radius_gap(self, p: str, normalise: str) -> str:
        """Mean radius minus the reference's, in standard errors of the reference's."""
        if normalise == "share" and len(self.told([p, "reference"])) < 2:
            return UNTOLD
        here, there = self.radius(p, normalise), self.radius("reference", normalise)
        both = np.concatenate([self.psi[p], self.reference])
        gap = interval(both, lambda mean: here(mean[: self.M]) - there(mean[self.M :]))
        return f"{gap.value / interval(self.reference, there).se:+.1f}"

    def partition_row(self, p: str) -> dict[str, str]:
        """What a partition of the spectrum changes, as text."""
        middle = interval(self.psi[p], lambda mean: centroid(spectral_importance(mean)))
        row = {
            "signed SRC": self.score[p].limits(".3f"),
            "centroid": middle.within(0, 1).limits(),
            "mean radius (SID)": self.radius_words(p, "minmax"),
            "mean radius (shares)": self.radius_words(p, "share"),
        }
        if p == "reference":
            return row
        return row | {
            "SRC, minus reference / its SE": self.row(p)["in its standard errors"],
            "radius (SID), the same": self.radius_gap(p, "minmax"),
            "radius (shares), the same": self.radius_gap(p, "share"),
        }


def absent_pictures(x: Tensor, n_bands: int, absent: Mapping[str, Mapping], size: Sequence[int]):
    """Draw what a network is shown under absence schemes: only band 0, and all bands but it.

    Shapes: x (2, C, H, W), a photograph and its donor.  absent: scheme in words -> how bands are
    filled. Where band 0 is absent, half of white is added to what has no brightness of its own.
    """
    members = coalitions(n_bands)[[1, 2**n_bands - 2]]
    masks = band_masks(n_bands, size)
    shown = {c: coalition_images(x, masks, members, **how)[:, 0] for c, how in absent.items()}
    bright = [p[1] + (0 if c == "replacement" else 0.5) for c, p in shown.items()]
    figures.mosaic(
        [x[0], *(p[0] for p in shown.values()), x[1], *bright],
        ["photograph", *(f"band 0; {s}" for s in shown)]
        + ["the donor", *(f"bands 1-{n_bands - 1}; {s}" for s in shown)],
        columns=4,
        size=2.7,
    )


def leads(a: Moved, b: Moved) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Signed score of one network minus another's under every choice, and its change, paired."""

    def lead(mean: ArrayLike) -> np.ndarray:
        return a.signed(mean[: a.M]) - b.signed(mean[a.M :])

    both = {c: np.concatenate([a.psi[c], b.psi[c]]) for c in a.psi}
    changes = {c: paired_interval(both[c], both["reference"], lead) for c in a.kinds}
    return {c: interval(v, lead) for c, v in both.items()}, changes


def order_words(lead: Mapping[str, Estimate], change: Mapping[str, Estimate]) -> str:
    """Whether choices turn the order of two networks round, from what `leads` returns.

    >>> one = Estimate(0.2, 0.05, 0.1, 0.3, 9, "photographs")
    >>> order_words({"reference": one, "l2": -one}, {"l2": -one}).partition(".")[0]
    '+0'
    """

    def excludes_0(i: Estimate) -> bool:
        return i.low > 0 or i.high < 0

    def listed(names: list[str]) -> str:
        return f"{len(names)} ({', '.join(names)})" if names else "none"

    first = lead["reference"]
    turned = [c for c in change if lead[c].value * first.value < 0]
    clear = [c for c in turned if excludes_0(lead[c])]
    changed = [c for c, i in change.items() if excludes_0(i)]
    return (
        f"{first:+.3f} under the reference, {'an' if excludes_0(first) else 'no'} order that these "
        f"resolve. Of {len(change)} choices, {listed(turned)} turn it by their estimate; "
        f"{listed(clear)} with an interval on the other side of 0. The difference itself is "
        f"changed, with an interval that excludes 0, by {listed(changed)}."
    )
