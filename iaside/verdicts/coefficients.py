"""Coefficients over networks in words: intervals, ranges, covariates."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from iaside.estimate.correlation import (
    MIN_MODELS,
    between_families,
    correlation_row,
    networks_needed,
    without_a_family,
)
from iaside.estimate.estimate import Estimate
from iaside.estimate.families import several
from iaside.estimate.reliability import without_error
from iaside.estimate.resampling import LEAST

Families = Sequence[Hashable]


def why_no_limits(row: Mapping) -> str:
    """Why a coefficient has no limits, "" where it has: row as of `correlation.correlation_row`.

    >>> from iaside.estimate.correlation import correlation_row
    >>> why_no_limits(correlation_row([1, 2, 4], [1, 3, 2]))
    '3 independent, 5 needed'
    """
    if row["why"] or np.isfinite(row["low"]):
        return row["why"]
    if row["independent"] < MIN_MODELS:
        return f"{max(row['independent'], 0)} independent, {MIN_MODELS} needed"
    return f"fewer than {LEAST['photographs']} photographs"


def given_words(row: Mapping) -> str:
    """A coefficient with its limits, or none of two independent networks, where it is -1 or 1.

    row: as of `correlation.correlation_row`.

    >>> from iaside.estimate.correlation import correlation_row
    >>> given_words(correlation_row([1, 2, 4], [1, 3, 2], given=[2, 1, 3]))
    'none'
    """
    if row["independent"] < 3:
        return "none"
    return _words_of(row)


def corrected_words(found: Estimate) -> str:
    """A coefficient of `correlation.without_error` in words: it may be none, or beyond 1.

    >>> corrected_words(Estimate(-0.5, 0.2, -1.7, 0.1, 9, "networks"))
    '-0.50 [beyond -1, +0.10]'
    >>> corrected_words(Estimate.unsure(float("nan"), 9, "networks"))
    'none (errors explain the spread)'
    """
    if np.isnan(found.value):
        return "none (errors explain the spread)"
    value, low, high = (
        f"{v:+.2f}" if abs(v) <= 1 else f"beyond {np.sign(v):+.0f}"
        for v in (found.value, found.low, found.high)
    )
    return f"{value} [{low}, {high}]"


def needed_words(row: Mapping) -> str:
    """How many networks would settle a coefficient that limits leave open, "" where they do not.

    row: as of `correlation.correlation_row`. By `correlation.networks_needed`.

    >>> from iaside.estimate.correlation import correlation_row
    >>> needed_words(correlation_row(range(9), range(9)))
    ''
    >>> needed_words(correlation_row(range(6), [3, 2, 5, 4, 1, 0]))
    '14'
    """
    if row["why"] or row["low"] > 0 or row["high"] < 0:
        return ""
    most = networks_needed(row["value"], row["n"] - row["independent"])
    return "more than 200" if np.isinf(most) else f"{max(most, row['n'] + 1):.0f}"


def coefficient_words(
    x: ArrayLike,
    y: ArrayLike,
    families: Families,
    n_images: int | None = None,
    trainings: Families | None = None,
    given: Mapping[str, ArrayLike] | None = None,
) -> dict[str, str]:
    """A table row about the coefficient of a score with a measure, column -> words.

    The one that decides (`within_designs`) with limits, p, the family means and the coefficient
    within trainings, ranges without a network and without a family, the partial coefficients, the
    one corrected for errors of measurement, and how many networks would settle it.

    trainings: how each network was trained; given: name -> a third number.

    >>> x = np.arange(8.0)[:, None] + np.zeros((8, 3))
    >>> row = coefficient_words(x, -x, list("aabbccdd"), 9)
    >>> row["within families"].partition(" ")[0], row["family means"], row["without a family"]
    ('-1.00', '-1.00 (no interval), n = 4 families', '-1.00 to -1.00')
    """
    groups = several(families)
    how = {"groups": groups, "n_images": n_images}
    row, y = correlation_row(x, y, **how), columns(y)
    of_trainings = several(trainings or [""] * len(families))
    if len(set(trainings or "")) < 2:  # all alike: the same as over all networks
        of_trainings = None
    found = {"all networks" if groups is None else "within families": _words_of(row)}
    found["p"] = "none" if np.isnan(row["p"]) else f"{row['p']:.3f}"
    found["networks needed"] = needed_words(row)
    if groups is not None:
        found["all networks"] = _words_of(correlation_row(x, y, n_images=n_images))
        found["family means"] = f"{between_families(x, y, families, n_images=n_images):+.2f}"
    if of_trainings is not None:
        told = correlation_row(x, y, groups=of_trainings, n_images=n_images)
        found["within trainings"] = _words_of(told)
    found["without a network"] = range_words(row)
    if groups is not None:
        low, high = without_a_family(x, y, families, within=True)
        found["without a family"] = range_words({"loo_low": low, "loo_high": high})
    for name, third in (given or {}).items():
        found[f"given {name}"] = given_words(correlation_row(x, y, given=third, **how))
    found["corrected for error"] = corrected_words(without_error(x, y, n_images or 1, groups))
    return found | {"why no limits": why_no_limits(row)}


def _words_of(row: Mapping) -> str:
    ends = (row[name] for name in ("value", "se", "low", "high", "n", "unit"))
    return Estimate(*ends).limits("+.2f")


def range_words(row: Mapping) -> str:
    """The range of a coefficient when one network is left out: row as of `correlation_row`.

    >>> range_words({"loo_low": -1.0, "loo_high": 0.5}), range_words({"loo_low": float("nan")})
    ('-1.00 to +0.50', 'none')
    """
    if not np.isfinite(row["loo_low"]):
        return "none"
    return f"{row['loo_low']:+.2f} to {row['loo_high']:+.2f}"


def nearly_constant(
    sids: Mapping[str, ArrayLike], accuracies: Mapping[str, float], n_classes: int
) -> dict[str, str]:
    """The networks whose game is nearly a constant, and why: one band holds all, or none does.

    A band with more than .95 of the SID, or an accuracy below twice that of guessing.

    >>> sids = {"a": [0.98, 0.02, 0.0], "b": [0.5, 0.5, 0.0], "c": [0.5, 0.5, 0.0]}
    >>> nearly_constant(sids, {"a": 0.9, "b": 0.15, "c": 0.9}, 10)
    {'a': 'band 0 has 98 % of its SID', 'b': '15 % accurate, where guessing is 0.1'}
    """
    found = {}
    for name, sid in sids.items():
        sid, guessing = np.asarray(sid, dtype=float), 1 / n_classes
        if sid.max() > 0.95:
            found[name] = f"band {sid.argmax()} has {sid.max():.0%} of its SID".replace("%", " %")
        elif accuracies[name] < 2 * guessing:
            said = f"{accuracies[name]:.0%} accurate, where guessing is {guessing:.2g}"
            found[name] = said.replace("%", " %")
    return found


def columns(scores: ArrayLike) -> np.ndarray:
    scores = np.asarray(scores, dtype=float)
    return scores.reshape(len(scores), -1)
