"""Predictors and measures of robustness over networks: scores of the game and what is cheaper.

Each is a mean over photographs and a function of it, so that all are put to the same test on the
same networks (`estimate.correlation`). Measures are oriented so that higher is better: a
positive coefficient means that networks predicted to be robust are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from iaside.robustness.masking import filters, seen
from iaside.robustness.measures import corruption_rows, image_rows, on_resamples, ratio
from iaside.score import mean_score
from iaside.shapley import leave_one_out
from iaside.tables import CLEAN, CORRUPTIONS, Condition, Responses, Rivals, describe

CHEAP = "clean error"  # what the score has to add to; chosen before any number was seen
SECOND = "mean confidence"
SCORE = "SRC, signed"  # the one that decides
GRADIENT = 2  # forward passes that a gradient counts as, as in the plan
KINDS = ("accuracy left", "accuracy left, relative", "loss in nats", "mPE", "mCE")


class Predictor(NamedTuple):
    """passes: forward passes a photograph;  rows: of each network (k, N);  of: their means (k, R)
    -> (R,)."""

    passes: int
    rows: list[np.ndarray]
    of: Callable[[np.ndarray], np.ndarray] = ratio

    def on_resamples(self) -> np.ndarray:
        """The predictor of each network on the photographs and on resamples, (networks, 1 + R)."""
        return on_resamples(self.rows, self.of)[0]


def low_gradient_share(shares: ArrayLike) -> np.ndarray:
    """The share of the lowest quarter of the bands, one at least: (M, N) -> (N,).

    >>> low_gradient_share([[0.5, 0.0], [0.2, 0.1], [0.2, 0.4], [0.1, 0.5]]).tolist()
    [0.5, 0.0]
    """
    shares = np.asarray(shares, dtype=float)
    return shares[: max(1, round(len(shares) / 4))].sum(0)


def predictors(
    values: Sequence[np.ndarray],
    games: Sequence[Mapping[str, np.ndarray]],
    answers: Sequence[Responses],
    rivals: Sequence[Rivals],
    classes: int,
    beta: float = 0.75,
) -> dict[str, Predictor]:
    """The predictors of robustness of each network, the most expensive first.

    values: Shapley values (M, N); games: tables of worths (2**M, N), with ``log_likelihood`` and
    ``accuracy``; answers: under perturbations; rivals: as `rivals` measures them; classes:
    of the networks, whose inverse is chance.
    Leave one band out is the signed score of v(all) - v(all but i). Of masking the share correct
    decides a threshold.
    """
    m = len(values[0])
    low = 2 ** max(1, round(m / 4)) - 1  # the coalition of the lowest quarter of the bands
    most = max(rivals, key=lambda r: len(r.octaves))
    masked = [seen(r, classes).reshape(-1, r.gradient_share.shape[1]) for r in rivals]
    levels = 1 + len(most.octaves) * (len(most.noise_sd) - 1)

    def of_filter(part: int) -> Callable[[np.ndarray], np.ndarray]:
        def at(mean: np.ndarray) -> np.ndarray:  # a larger picture has one octave more
            octaves = most.octaves[: len(mean) // len(most.noise_sd)]
            shape = len(octaves), len(most.noise_sd), -1
            return filters(mean.reshape(shape), octaves, 1 / classes)[part]

        return at

    def clean(table: str) -> list[np.ndarray]:
        return [r.tables[table][r.row(CLEAN)][None] for r in answers]

    lone = [leave_one_out(game["log_likelihood"]) for game in games]
    return {
        SCORE: Predictor(2**m, list(values), mean_score(beta, "signed")),
        "SRC, as printed": Predictor(2**m, list(values), mean_score(beta, "paper")),
        "masking, bandwidth": Predictor(levels, masked, of_filter(0)),
        "masking, centre": Predictor(levels, masked, of_filter(1)),
        "masking, peak": Predictor(levels, masked, of_filter(2)),
        "leave one band out": Predictor(1 + m, lone, mean_score(beta, "signed")),
        "gradient, low share": Predictor(
            1 + GRADIENT, [low_gradient_share(r.gradient_share)[None] for r in rivals]
        ),
        "low-pass accuracy": Predictor(1, [game["accuracy"][low][None] for game in games]),
        SECOND: Predictor(1, clean("confidence")),
        CHEAP: Predictor(1, [1 - right for right in clean("correct")]),
    }


def conditions_asked(r: Responses) -> dict[str, list[Condition]]:
    """Under what robustness is to be told: all corruptions, the strongest noise, blur and PGD,
    PGD of many steps, and PGD as strong as that."""
    asked = {"all corruptions": [c for c in r.conditions if c.source in CORRUPTIONS]}
    plain = [c for c in r.conditions if c.place < 0]
    for source in ("white_noise", "gaussian_blur", "pgd", "pgd_restarts"):
        if found := [c for c in plain if c.source == source]:
            strongest = max(found, key=lambda c: c.strength)
            asked[describe(strongest)] = [strongest]
            same = Condition("pgd", strongest.strength)
            if source == "pgd_restarts" and same in plain:
                asked[describe(same)] = [same]
    return {name: those for name, those in asked.items() if those}


def robustness_rows(r: Responses, kind: str, conditions: Sequence[Condition]) -> np.ndarray:
    """The terms that a kind of measure averages, oriented so that higher is better.

    Shapes: (1, N), or (2, N) of ``accuracy left, relative``, the ratio of whose means it is; nan
    where an image was not asked or not attacked.
    Errors: ValueError for an unknown kind; those of `iaside.robustness.measures.image_rows`.
    """
    if kind in ("accuracy left", "accuracy left, relative"):
        left, clean = (
            r.tables["correct"][[of(c) for c in conditions]].mean(0) for of in (r.row, r.partner)
        )
        return left[None] if kind == "accuracy left" else np.stack([left, clean + 0 * left])
    if kind == "mCE":
        return -corruption_rows(r)
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not known; choose one of {', '.join(KINDS)}")
    return -image_rows(r, kind, conditions)


def measured(answers: Sequence[Responses]) -> dict[tuple[str, str], tuple[np.ndarray, int]]:
    """(kind, under) -> a measure of each network on resamples of the photographs, and their number.

    Every kind of `KINDS` under all of `conditions_asked`, mCE under all corruptions alone.
    """
    asked = conditions_asked(answers[0])
    found = {}
    for kind in KINDS:
        for under, conditions in asked.items():
            if kind != "mCE" or under == "all corruptions":
                rows = [robustness_rows(r, kind, conditions) for r in answers]
                found[kind, under] = on_resamples(rows)
    return found
