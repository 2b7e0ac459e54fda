"""Verdicts on FAMPE and its maps (Yavari et al. 2025, reports of 81_attribution_report).

Insertion Scores are (networks, photographs), nan where a network has no such map; the photographs
are the same for all. FAMPE's product and the ranking of pixels are left open by the sources: a
verdict needs every reading, (product, rank), and scores map each to method -> scores. FAMPE at
alpha = 0.1 is the method ``fampe(0.1)``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from iaside.estimate.accuracy import accuracy_difference
from iaside.estimate.best import Best, best_interval, lead_at_levels
from iaside.estimate.correlation import correlation_at_levels
from iaside.estimate.estimate import Estimate
from iaside.estimate.resampling import Levels
from iaside.verdicts.photographs import over_photographs
from iaside.verdicts.rules import decide, every_reading, find

Scores = Mapping[str, ArrayLike]
Readings = Mapping[tuple[str, str], Scores]
ALPHA = 0.1  # at which the claims are made: fixed, as whoever explains cannot know a better one
EQUAL = 0.5  # all frequencies are perturbed alike
PUBLISHED_GAIN = 13.02  # percent


def fampe(alpha: float) -> str:
    """The name of FAMPE at an alpha among methods.

    >>> fampe(0.1)
    'fampe alpha=0.1'
    """
    return f"fampe alpha={alpha:g}"


def lead(first: ArrayLike, second: ArrayLike) -> Levels:
    """How much higher a method scores than another, by its level: in pairs, mean over networks.

    Shapes: both (networks, photographs), or (photographs,) of one. Networks without any photograph
    that has both are left out, photographs that a network lacks too.

    >>> print(lead([[0.4, 0.5, 0.6, 0.4, 0.5]], [[0.3, 0.4, 0.5, 0.3, 0.4]])(0.95))
    0.10 [0.10, 0.10], n = 5 photographs
    """
    first, second = _of_both(first, second)
    return over_photographs(first - second)


def relative_gain(first: ArrayLike, second: ArrayLike) -> Levels:
    """By how many percent the mean score of a method is above another's, mean over networks.

    Shapes and what is left out as in `lead`.

    >>> gain = relative_gain([[0.6, 0.9, 0.6, 0.9, 0.6]], [[0.4, 0.6, 0.4, 0.6, 0.4]])
    >>> float(gain(0.95).value.round(6))
    50.0
    """
    first, second = _of_both(first, second)
    k = len(first)
    return over_photographs(
        np.concatenate([first, second]), lambda mean: 100 * (mean[:k] / mean[k:] - 1).mean(0)
    )


def fampe_over_attexplore(scores: Readings, note: str = "", data: str = "") -> dict:
    """Whether FAMPE attains a higher Insertion Score than AttEXplore.

    Errors: ValueError where a reading or a method is lacking; so for all that take scores.
    Source: Yavari et al. 2025, abstract.

    >>> one = {fampe(0.1): np.linspace(0.5, 0.6, 9)[None], "attexplore": np.full((1, 9), 0.4)}
    >>> rows = {(p, r): one for p in ("gradient", "update") for r in ("pixel", "channel")}
    >>> fampe_over_attexplore(rows)["verdict"]
    'supported'
    >>> rows["update", "channel"] = {"attexplore": one[fampe(0.1)], fampe(0.1): one["attexplore"]}
    >>> fampe_over_attexplore(rows)["verdict"]
    'undecided'
    """

    def parts(s: Scores) -> Levels:
        return lead(*_methods(s, fampe(ALPHA), "attexplore"))

    return _in_every_reading("fampe_over_attexplore", scores, parts, note, data)


def fampe_gain_13(scores: Readings, note: str = "", data: str = "") -> dict:
    """Whether FAMPE's average gain over AttEXplore is 13.02 %, within 5 percentage points.

    Source: Yavari et al. 2025, abstract.

    >>> one = {fampe(0.1): 1.13 * np.linspace(0.5, 0.6, 9)[None],
    ...        "attexplore": np.linspace(0.5, 0.6, 9)[None]}
    >>> rows = {(p, r): one for p in ("gradient", "update") for r in ("pixel", "channel")}
    >>> fampe_gain_13(rows)["verdict"]
    'supported'
    """

    def parts(s: Scores) -> Levels:
        gain = relative_gain(*_methods(s, fampe(ALPHA), "attexplore"))
        return lambda level: gain(level) - PUBLISHED_GAIN

    return _in_every_reading("fampe_gain_13", scores, parts, note, data)


def fampe_best(scores: Readings, others: Sequence[str], note: str = "", data: str = "") -> dict:
    """Whether FAMPE outperforms each of the other methods, its parts.

    Source: Yavari et al. 2025, abstract, Fig. 3.

    >>> one = {fampe(0.1): np.linspace(0.5, 0.6, 9)[None], "saliency": np.full((1, 9), 0.4)}
    >>> rows = {(p, r): one for p in ("gradient", "update") for r in ("pixel", "channel")}
    >>> fampe_best(rows, ["saliency"])["verdict"]
    'supported'
    """

    def parts(s: Scores) -> Mapping[str, Levels]:
        return {other: lead(*_methods(s, fampe(ALPHA), other)) for other in others}

    return _in_every_reading("fampe_best", scores, parts, note, data)


def fampe_decoupling_helps(scores: Readings, note: str = "", data: str = "") -> dict:
    """Whether FAMPE scores higher at alpha = 0.1 than where all frequencies are perturbed alike.

    Source: Yavari et al. 2025, TL;DR.

    >>> one = {fampe(0.1): np.linspace(0.5, 0.6, 9)[None], fampe(0.5): np.full((1, 9), 0.4)}
    >>> rows = {(p, r): one for p in ("gradient", "update") for r in ("pixel", "channel")}
    >>> fampe_decoupling_helps(rows)["verdict"]
    'supported'
    """

    def parts(s: Scores) -> Levels:
        return lead(*_methods(s, fampe(ALPHA), fampe(EQUAL)))

    return _in_every_reading("fampe_decoupling_helps", scores, parts, note, data)


def fampe_high_matters(scores: Readings, note: str = "", data: str = "") -> dict:
    """Whether FAMPE scores higher where it perturbs mostly high frequencies than mostly low ones.

    Source: Yavari et al. 2025, abstract (its direction: arXiv 2510.03245v2).

    >>> one = {fampe(0.1): np.linspace(0.5, 0.6, 9)[None], fampe(0.9): np.full((1, 9), 0.4)}
    >>> rows = {(p, r): one for p in ("gradient", "update") for r in ("pixel", "channel")}
    >>> fampe_high_matters(rows)["verdict"]
    'supported'
    """

    def parts(s: Scores) -> Levels:
        return lead(*_methods(s, fampe(ALPHA), fampe(1 - ALPHA)))

    return _in_every_reading("fampe_high_matters", scores, parts, note, data)


def importance_predicts_alpha(
    scores: Readings, leanings: Mapping[str, ArrayLike], note: str = "", data: str = ""
) -> dict:
    """Whether photographs that a network reads by low bands gain most from high perturbations.

    leanings: network -> (photographs,), of Shapley values to low bands; its networks in the order
    of the scores' rows. The parts are the networks.
    Source: Yavari et al. 2025, abstract (its direction: arXiv 2510.03245v2).

    >>> one = {fampe(0.1): np.linspace(0.5, 0.6, 20)[None], fampe(0.9): np.full((1, 20), 0.4)}
    >>> rows = {(p, r): one for p in ("gradient", "update") for r in ("pixel", "channel")}
    >>> importance_predicts_alpha(rows, {"net": np.arange(20)})["verdict"]
    'supported'
    """

    def parts(s: Scores) -> Mapping[str, Levels]:
        high, low = _methods(s, fampe(ALPHA), fampe(1 - ALPHA))
        return {
            name: rank_correlation(leaning, gain)
            for (name, leaning), gain in zip(leanings.items(), high - low, strict=True)
        }

    return _in_every_reading("importance_predicts_alpha", scores, parts, note, data)


def rank_correlation(x: ArrayLike, y: ArrayLike) -> Levels:
    """Spearman's coefficient over the photographs that have both, by its level.

    Shapes: x, y (photographs,), nan where there is none.
    Source: limits as in `iaside.estimate.correlation`.

    >>> print(rank_correlation([1, 2, 3, np.nan], [2, 4, 5, 6])(0.95))
    1.00 (no interval), n = 3 photographs
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    both = np.isfinite(x) & np.isfinite(y)
    limits = correlation_at_levels(x[both], y[both])
    return lambda level: replace(limits(level), unit="photographs")


def attack_transfers(
    correct: Mapping[str, tuple[ArrayLike, ArrayLike]], note: str = "", data: str = ""
) -> dict:
    """Whether attacks that are crafted on one network cost others accuracy.

    correct: pair of networks -> (clean, attacked), whether the other network is right, 0 or 1, each
    (photographs,): those that were attacked. The parts are the pairs.
    Source: Yavari et al. 2025, abstract.

    >>> attack_transfers({"a to b": (np.ones(20), np.zeros(20))})["verdict"]
    'supported'
    """

    def part(clean: ArrayLike, attacked: ArrayLike) -> Levels:
        return lambda level: accuracy_difference(clean, attacked, level)

    parts = {pair: part(*both) for pair, both in correct.items()}
    return decide("attack_transfers", parts, note, data)


def fampe_cutoff_grid(
    cells: Mapping[tuple[str, str], ArrayLike], note: str = "", data: str = ""
) -> dict:
    """Whether some cell of the grid of alpha and cutoff stands out from the mean of all.

    cells: reading -> Insertion Scores of one network, (cells, photographs). What was the best of
    many looks better than it is: its limits hold for all cells at once (`lead_at_levels`), and
    nothing can contradict that some cell is above their mean.
    Source: Yavari et al. 2025, Fig. 4; docs/methods.md, Attribution.

    >>> rows = np.linspace(0.5, 0.6, 9) + np.array([[0.0], [0.2], [0.0]])
    >>> cells = {(p, r): rows for p in ("gradient", "update") for r in ("pixel", "channel")}
    >>> fampe_cutoff_grid(cells)["verdict"]
    'supported'
    """

    def parts(rows: ArrayLike) -> Levels:
        rows = _complete(rows)
        none = Estimate.unsure(np.nan, 0, "photographs")
        return lead_at_levels(rows) if rows.size else lambda level: none

    return _in_every_reading("fampe_cutoff_grid", cells, parts, note, data)


def best_cell(cells: ArrayLike, level: float = 0.95) -> Best:
    """The best cells of a grid, their score, and how far it is above the mean of all cells.

    Shapes: cells (K, photographs), nan where a photograph has no map; those that lack one are left
    out. Limits as in `iaside.estimate.best.best_interval`.

    >>> best_cell([[0.1, 0.2, 0.3, 0.2, 0.1], [0.4, 0.4, 0.5, 0.5, 0.4]]).rows
    [1]
    """
    cells = _complete(cells)
    if not cells.size:
        none = Estimate.unsure(np.nan, 0, "photographs")
        return Best([], none, none)
    return best_interval(cells, level)


def _complete(cells: ArrayLike) -> np.ndarray:
    cells = np.asarray(cells, dtype=float)
    return cells[:, np.isfinite(cells).all(0)]


def _in_every_reading(
    claim_id: str, scores: Mapping, parts: Callable, note: str, data: str
) -> dict:
    """The verdict that every reading of a claim comes to."""
    wanted = list(itertools.product(*find(claim_id).readings.values()))
    if lacking := [reading for reading in wanted if reading not in scores]:
        raise ValueError(
            f"{claim_id!r} needs every reading, and {lacking[0]!r} is not among the scores; "
            "measure it (80_attributions)"
        )
    return every_reading(
        {
            ", ".join(reading): decide(claim_id, parts(scores[reading]), note, data)
            for reading in wanted
        }
    )


def _methods(scores: Scores, *names: str) -> list[np.ndarray]:
    """The scores of methods, each (networks, photographs)."""
    if lacking := [name for name in names if name not in scores]:
        raise ValueError(
            f"there are no scores of {lacking[0]!r}, but of {', '.join(scores)}; measure it "
            "(80_attributions)"
        )
    return [np.atleast_2d(np.asarray(scores[name], dtype=float)) for name in names]


def _of_both(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The rows of networks that have both of a pair on some photograph."""
    first, second = (np.atleast_2d(np.asarray(v, dtype=float)) for v in (first, second))
    having = np.isfinite(first + second).any(1)
    return first[having], second[having]
