"""What may tell how robust a network is, side by side: scores of the game and what is cheaper.

Every predictor and every measure of robustness is a mean over photographs and a function of it, so
that all are put to the same test on the same networks (`estimate.correlation`). A measure here is
turned so that more is better: a positive coefficient says that what is predicted to hold up does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from iaside.estimate.correlation import (
    MIN_MODELS,
    between_families,
    correlation,
    correlation_row,
    independent,
    several,
)
from iaside.estimate.intervals import accuracy_interval
from iaside.robustness.measures import corruption_rows, image_rows, on_resamples, ratio
from iaside.score import mean_score
from iaside.shapley import leave_one_out
from iaside.tables import CLEAN, CORRUPTIONS, Condition, Responses, Rivals, called

LEAST_GAIN = 0.3  # a partial coefficient below this is not worth a game, whatever its sign
CHEAP = "clean error"  # what the score has to add to; chosen before any number was seen
SECOND = "mean confidence"
SCORE = "SRC, signed"  # the one that decides
GRADIENT = 2  # forward passes that a gradient counts as, as in the plan
KINDS = ("accuracy left", "accuracy left, relative", "loss in nats", "mPE", "mCE")


# -- the filter of critical-band masking -----------------------------------------------------------


class Filter(NamedTuple):
    """Where a network can be disturbed.  bandwidth: octaves at half height; centre: cycles an
    image; peak: inverse of the noise that is enough there, 1 at a sd of half the lowest; why: what
    is missing."""

    bandwidth: float
    centre: float
    peak: float
    why: str = ""


def thresholds(values: ArrayLike, chance: float) -> np.ndarray:
    """How many steps of noise it takes in each octave until half of what is above chance is lost.

    Steps are those of the levels, interpolated between them; the last one where it is not lost;
    nan where nothing is above chance without noise.

    Shapes: values (K, S, ...) at S levels, the first without noise; returns (K, ...).
    Source: methods 9.5 (half-way from clean to chance in the place of 50 % of 16 classes).

    >>> thresholds([[0.9, 0.9, 0.3, 0.1], [0.9, 0.8, 0.7, 0.6]], chance=0.1).round(3).tolist()
    [1.667, 3.0]
    """
    v = np.asarray(values, dtype=float)
    level = (v[:, :1] + chance) / 2
    below = v <= level
    first = np.where(below.any(1), below.argmax(1), 0)[:, None]  # 0 is none: the clean is above
    before, after = (np.take_along_axis(v, k, 1) for k in (np.maximum(first - 1, 0), first))
    with np.errstate(invalid="ignore", divide="ignore"):
        steps = first - 1 + (before - level) / (before - after)
    steps = np.where(first > 0, steps, v.shape[1] - 1)
    return np.where(v[:, :1] > chance, steps, np.nan)[:, 0]


def masking_filter(values: ArrayLike, octaves: ArrayLike, chance: float) -> Filter:
    """The filter through which a network sees, of its answers under octaves of noise.

    A Gaussian over octaves of the steps that a threshold (`thresholds`) is below the last level:
    its width at half height, its centre, and two to the power of its height less the levels of
    noise. The best centre within half an octave of those measured, in steps of 1/40 octave, and
    width, of 128 from 1/4 to twice all octaves.

    Shapes: values (K, S), the mean at each level (share correct, say), the first without noise;
    octaves (K,) centres.
    Source: Subramanian et al. 2023, methods 9.5; theirs counts whole steps.

    >>> steps = 3 * np.exp(-0.5 * (np.arange(7) - 4.0) ** 2)  # of 4 that there are
    >>> values = [np.clip(4.5 - step - np.arange(5), 0, 1) for step in steps]
    >>> found = masking_filter(values, 1.75 * 2.0 ** np.arange(7), chance=0.0)
    >>> round(found.bandwidth, 1), round(found.centre, 1), round(found.peak, 1)
    (2.4, 28.0, 0.5)
    """
    values = np.asarray(values, dtype=float)
    if np.isnan(values).any():
        return Filter(
            np.nan, np.nan, np.nan, "in grey not clearly better than chance, or not asked"
        )
    if not values[0, 0] > chance:
        return Filter(np.nan, np.nan, np.nan, "no better than chance without noise")
    found = filters(values[:, :, None], octaves, chance)[:, 0]
    if np.isnan(found).any():
        return Filter(np.nan, np.nan, np.nan, "no noise is enough, in any octave")
    return Filter(*map(float, found))


def filters(values: ArrayLike, octaves: ArrayLike, chance: float) -> np.ndarray:
    """`masking_filter` of many: values (K, S, R) -> bandwidth, centre and peak (3, R).

    nan where there is no filter.
    """
    values, octaves = np.asarray(values, dtype=float), np.asarray(octaves, dtype=float)
    k, steps = len(octaves), values.shape[1] - 1
    heard = steps - thresholds(values, chance)
    centres = np.arange(-0.5, k - 0.5 + 1e-9, 1 / 40)
    widths = np.geomspace(0.25, 2 * k, 128) / 2.355
    shapes = np.exp(-0.5 * ((np.arange(k) - centres[:, None, None]) / widths[:, None]) ** 2)
    shapes = shapes.reshape(-1, k)
    norms = (shapes**2).sum(1)
    found = np.full((3, values.shape[2]), np.nan)
    usable = np.flatnonzero(np.isfinite(heard).all(0) & (heard > 0).any(0))
    for part in np.array_split(usable, -(-len(usable) // 64) or 1):
        height = np.clip(shapes @ heard[:, part] / norms[:, None], 0, steps)
        gain = height * (2 * (shapes @ heard[:, part]) - height * norms[:, None])
        best = gain.argmax(0)
        centre, width = np.unravel_index(best, (len(centres), len(widths)))
        found[0, part] = 2.355 * widths[width]
        found[1, part] = octaves[0] * 2 ** centres[centre]
        found[2, part] = 2.0 ** (height[best, np.arange(len(part))] - steps)
    return found


def seen(r: Rivals, classes: int) -> np.ndarray:
    """Whether answers are right at each octave and level, (K, S, N); nan of a network that is not
    clearly better than chance without noise: noise has nothing to take from it.

    Clearly: the 95 % interval of its accuracy over photographs lies above.
    """
    right = r.tables["correct"]
    clearly = accuracy_interval(right[0, 0]).low > 1 / classes
    return right if clearly else np.full_like(right, np.nan)


def without_filter(rivals: Mapping[str, Rivals], classes: int) -> dict[str, str]:
    """The networks that masking finds no filter of, and why."""
    found = {
        name: masking_filter(seen(r, classes).mean(2), r.octaves, 1 / classes).why
        for name, r in rivals.items()
    }
    return {name: why for name, why in found.items() if why}


# -- predictors ------------------------------------------------------------------------------------


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
    """What may predict, of each network, dearest first.

    values: Shapley values (M, N); games: tables of worths (2**M, N), with ``log_likelihood`` and
    ``accuracy``; answers: under perturbations; rivals: as `rivals` measures them; classes:
    of the networks, whose inverse is chance.
    Leave one band out is the signed score of v(all) - v(all but i). Of masking the share correct
    decides a threshold.
    """
    m = len(values[0])
    low = 2 ** max(1, round(m / 4)) - 1  # the coalition of the lowest quarter of the bands
    first = rivals[0]
    masked = [seen(r, classes).reshape(-1, r.gradient_share.shape[1]) for r in rivals]
    levels = 1 + len(first.octaves) * (len(first.noise_sd) - 1)

    def of_filter(part: int) -> Callable[[np.ndarray], np.ndarray]:
        shape = len(first.octaves), len(first.noise_sd), -1
        return lambda mean: filters(mean.reshape(shape), first.octaves, 1 / classes)[part]

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


# -- measures --------------------------------------------------------------------------------------


def conditions_asked(r: Responses) -> dict[str, list[Condition]]:
    """Under what robustness is to be told: all corruptions, the strongest noise, blur and PGD,
    PGD of many steps, and PGD as strong as that."""
    asked = {"all corruptions": [c for c in r.conditions if c.source in CORRUPTIONS]}
    plain = [c for c in r.conditions if c.place < 0]
    for source in ("white_noise", "gaussian_blur", "pgd", "pgd_restarts"):
        if found := [c for c in plain if c.source == source]:
            strongest = max(found, key=lambda c: c.strength)
            asked[called(strongest)] = [strongest]
            same = Condition("pgd", strongest.strength)
            if source == "pgd_restarts" and same in plain:
                asked[called(same)] = [same]
    return {name: those for name, those in asked.items() if those}


def robustness_rows(r: Responses, kind: str, conditions: Sequence[Condition]) -> np.ndarray:
    """What a kind of measure averages, of every image, turned so that more is better.

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


# -- side by side ----------------------------------------------------------------------------------


def side_by_side(
    found: Mapping[str, Predictor],
    measures: Mapping[tuple[str, str], tuple[np.ndarray, int]],
    families: Sequence[Hashable],
) -> list[dict]:
    """Spearman's coefficient of every predictor with every measure, plain and given clean accuracy.

    By one rule for all: within families where some family has several networks, else plain, and
    that of the family means beside (``between``). Networks that a predictor says nothing of are
    left out of its rows (``n``).
    Returns a dict per coefficient: predictor, passes, measure, under, given, over, between and the
    columns of `iaside.estimate.correlation.correlation_row`.
    """
    drawn = {name: p.on_resamples() for name, p in found.items()}
    error, rows = drawn[CHEAP], []
    for (kind, under), (y, images) in measures.items():
        for name, x in drawn.items():
            known = np.isfinite(x[:, 0]) & np.isfinite(y[:, 0])
            own = [f for f, there in zip(families, known, strict=True) if there]
            for given in ("", "clean accuracy")[: 1 + (name != CHEAP)]:
                how = {"given": error[known] if given else None, "n_images": images}
                row = _row(x[known], y[known], own, how)
                about = {"predictor": name, "passes": found[name].passes, "measure": kind}
                rows.append(about | {"under": under, "given": given} | row)
    return rows


def increments(
    found: Mapping[str, Predictor],
    measures: Mapping[tuple[str, str], tuple[np.ndarray, int]],
    families: Sequence[Hashable],
) -> list[dict]:
    """What the signed score adds to each other predictor: its coefficient given that one.

    Rows as those of `side_by_side`; ``level_low`` and ``level_high`` are limits that hold for all
    measures together (Bonferroni).
    """
    drawn = {name: p.on_resamples() for name, p in found.items()}
    x, rows = drawn[SCORE], []
    level = 1 - 0.05 / max(len(measures), 1)
    for (kind, under), (y, images) in measures.items():
        for name, z in drawn.items():
            if name in (SCORE, "SRC, as printed"):
                continue
            known = np.isfinite(np.stack([x[:, 0], y[:, 0], z[:, 0]])).all(0)
            own = [f for f, there in zip(families, known, strict=True) if there]
            how = {"given": z[known], "n_images": images}
            row = _row(x[known], y[known], own, how)
            limits = (np.nan, np.nan)
            if np.isfinite(row["low"]):
                all_of_them = correlation(
                    x[known], y[known], groups=several(own), level=level, **how
                )
                limits = float(all_of_them.low), float(all_of_them.high)
            rows.append(
                {"predictor": SCORE, "measure": kind, "under": under, "given": name}
                | row
                | dict(zip(("level_low", "level_high"), limits, strict=True))
            )
    return rows


def _row(x: np.ndarray, y: np.ndarray, families: Sequence[Hashable], how: Mapping) -> dict:
    if len(x) < 2:
        nothing = dict.fromkeys(("value", "se", "low", "high", "p", "between"), np.nan)
        return nothing | {
            "n": len(x),
            "over": "networks",
            "independent": len(x),
            "why": f"it takes 2 networks, not {len(x)}",
        }
    groups = several(families)
    row = correlation_row(x, y, groups=groups, **how)
    if independent(len(x), groups, how["given"]) < 3:  # of two any coefficient is -1 or 1
        row |= {"value": np.nan, "why": row["why"] or "fewer than 3 independent networks"}
    between = between_families(x, y, families, **how) if groups is not None else None
    return row | {
        "over": "networks" if groups is None else "within families",
        "between": np.nan if between is None else float(between.value),
    }


# -- in words --------------------------------------------------------------------------------------


def verdict(rows: Sequence[Mapping]) -> str:
    """What the increments over one predictor come to: yes, in part, no, or cannot be told.

    yes: every interval lies above 0; in part: some do, with limits that hold for all together; no:
    none does, and every interval ends below `LEAST_GAIN`. Pairs without a coefficient do not count.

    >>> row = {"value": 0.1, "low": -0.1, "high": 0.2, "level_low": -0.2, "level_high": 0.3}
    >>> verdict([row]), verdict([row | {"high": 0.5}]), verdict([row | {"low": 0.05}])
    ('no', 'cannot be told', 'yes')
    """
    told = [row for row in rows if math.isfinite(row["value"])]
    if not told or not all(math.isfinite(row["low"]) for row in told):
        return "cannot be told"
    if all(row["low"] > 0 for row in told):
        return "yes"
    if any(row["level_low"] > 0 for row in told):
        return "in part"
    return "no" if all(row["high"] < LEAST_GAIN for row in told) else "cannot be told"


OPENING = {
    "yes": "**Yes**: whatever robustness is measured by, and under every perturbation here, the "
    "score tells more than {cheap} does.",
    "in part": "**In part**: for some measures of robustness the score tells more than {cheap} "
    "does, for others that is not shown.",
    "no": "**No**: under no perturbation here the score tells more than {cheap} does, by any "
    "measure, nor can it by as much as {least:g}.",
    "cannot be told": "**It cannot be told** from these networks whether the score tells more than "
    "{cheap} does.",
}


def answer(rows: Sequence[Mapping], added: Sequence[Mapping], passes: Mapping[str, int]) -> str:
    """Whether the score is worth its price, in one paragraph with its numbers.

    rows, added: of `side_by_side` and `increments`;  passes: of each predictor.
    """
    over = [row for row in added if row["given"] == CHEAP]
    word = verdict(over)
    given, second = _counted(over), _counted([r for r in added if r["given"] == SECOND])
    said = [
        OPENING[word].format(cheap=CHEAP, least=LEAST_GAIN),
        f"It costs {passes[SCORE]} forward passes a photograph, {CHEAP} {passes[CHEAP]}.",
        given and f"Given {CHEAP}, its coefficient with robustness {given}.",
        second and f"Given {SECOND}, it {second}.",
        _strongest(rows),
        _not_beaten(added, passes) if given else "",
        _short(added),
    ]
    return " ".join(line for line in said if line)


def _counted(rows: Sequence[Mapping]) -> str:
    """How many of some coefficients lie on which side of 0, and the median."""
    told = [row for row in rows if math.isfinite(row["value"])]
    if not told:
        return ""
    above, below = sum(r["low"] > 0 for r in told), sum(r["high"] < 0 for r in told)
    kinds = list(dict.fromkeys(r["measure"] for r in told if r["low"] > 0))
    median = np.median([row["value"] for row in told])
    low, high = (f(told, key=lambda r: r["value"])["value"] for f in (min, max))
    which = f" ({'; '.join(kinds)})" if kinds and above < len(told) else ""
    return (
        f"is {median:+.2f} in the median over {len(told)} pairs of a measure and a perturbation"
        f" ({low:+.2f} to {high:+.2f}), with a 95 % interval above 0 for {above}{which} and "
        f"below 0 for {below}"
    )


def _strongest(rows: Sequence[Mapping]) -> str:
    """The mean size of every predictor's plain coefficients, and the largest of the cheap ones."""
    plain = [row for row in rows if row["given"] == "" and math.isfinite(row["value"])]
    names = list(dict.fromkeys(row["predictor"] for row in plain))
    if SCORE not in names:
        return ""
    size = {
        name: np.mean([abs(r["value"]) for r in plain if r["predictor"] == name]) for name in names
    }
    passes = {row["predictor"]: row["passes"] for row in plain}
    cheap = {name: s for name, s in size.items() if passes[name] < passes[SCORE]}
    if not cheap:
        return ""
    best = max(cheap, key=cheap.get)
    return (
        f"By itself its coefficient is {size[SCORE]:.2f} in size on average; the largest of "
        f"what is cheaper, picked afterwards, is that of {best}, {cheap[best]:.2f} "
        f"({passes[best]} passes)."
    )


def _not_beaten(added: Sequence[Mapping], passes: Mapping[str, int]) -> str:
    """To which of what is cheaper the score is not shown to add."""
    names = [
        name
        for name in dict.fromkeys(row["given"] for row in added)
        if passes[name] < passes[SCORE]
        and name != CHEAP
        and verdict([row for row in added if row["given"] == name]) not in ("yes", "in part")
    ]
    if not names:
        return ""
    listed = ", ".join(f"{name} ({passes[name]})" for name in names)
    return f"It is not shown to add to what these tell, with their passes: {listed}."


def _short(rows: Sequence[Mapping]) -> str:
    """Where no interval can be given, how few networks there are."""
    if any(math.isfinite(row["low"]) for row in rows):
        return ""
    most = max((row["independent"] for row in rows), default=0)
    return f"An interval takes {MIN_MODELS} independent networks: here it is {max(most, 0)}."
