"""Whether the score predicts robustness beyond cheaper predictors, in one paragraph."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from iaside.estimate.correlation import (
    MIN_MODELS,
    between_families,
    correlation,
    correlation_row,
    independent,
)
from iaside.estimate.families import several
from iaside.robustness.predictors import CHEAP, SCORE, SECOND, Predictor

LEAST_GAIN = 0.3  # a partial coefficient below this is not worth a game, whatever its sign


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
    """The signed score beyond each other predictor: its coefficient given that one.

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


def verdict(rows: Sequence[Mapping]) -> str:
    """The verdict on the increments over one predictor: yes, in part, no, or cannot be told.

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
