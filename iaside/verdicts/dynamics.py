"""Verdicts on what happens along the epochs of a training.

groups: an architecture and its number of epochs -> networks that differ in their seed. A verdict is
on the mean over groups, seed by seed. None where there is no group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from iaside.estimate.correlation import MIN_MODELS, correlation_at_levels
from iaside.estimate.estimate import Estimate
from iaside.estimate.resampling import Levels
from iaside.training.early import Early
from iaside.training.plans import Profile
from iaside.training.trends import (
    Learning,
    SecondStage,
    order_by_chance,
    over_groups,
    over_seeds,
    unclear,
)
from iaside.verdicts.rules import decide, withheld

Groups = Mapping[str, Sequence[Profile]]


def low_bands_learnt_first(
    groups: Groups, courses: Mapping[str, Learning], data: str = ""
) -> dict | None:
    """Judge whether low bands reach half of their final value first.

    courses: name of each network -> `trends.learning` of it.
    """
    if not groups:
        return None
    each = [courses[p.name] for some in groups.values() for p in some]
    early, halves = sum(c.early for c in each), sum(int(c.learnt.sum()) for c in each)
    notes = [
        f"{early} of {halves} halves lie before the first checkpoint: the share there was used",
        *left_out(each),
    ]
    if none := sum(bool(np.isnan(c.order[0])) for c in each):
        notes.append(f"{none} of {len(each)} networks learnt too few bands to order them")
    note = "; ".join(notes)
    return decide("low_bands_learnt_first", order(groups, courses), note=note, data=data)


def left_out(courses: Sequence[Learning]) -> list[str]:
    """Say how many networks leave each band out of their order, of the bands that any leaves out.

    courses: one for each network.

    >>> from iaside.training.trends import Learning
    >>> one = Learning(np.zeros((3, 2, 9)), np.array([False, True]), None, None, 1)
    >>> left_out([one, one])
    ['band 0 left out in 2 of 2 networks']
    """
    counts = np.sum([~course.learnt for course in courses], axis=0)
    n = len(courses)
    return [f"band {b} left out in {k} of {n} networks" for b, k in enumerate(counts) if k]


def order(groups: Groups, courses: Mapping[str, Learning]) -> Levels:
    """The mean of Spearman's rho of band and epoch over groups and seeds.

    Student's limits hold 0 wherever a permutation of the bands does not reject it
    (`trends.order_by_chance`): three bounded numbers that scatter little by chance would else
    decide too often.
    """
    each = [courses[p.name] for some in groups.values() for p in some]
    limits = over_seeds(over_groups(groups, [c.order for c in each]), each[0].psi.shape[-1])
    p = order_by_chance(each, lambda rows: over_groups(groups, rows).mean(0))

    def within(level: float) -> Estimate:
        e = limits(level).within(-1, 1)
        low, high = np.minimum(e.low, 0.0), np.maximum(e.high, 0.0)
        return replace(e, low=low, high=high) if p > 1 - level else e

    return within


def second_stage_tradeoff(groups: Groups, stage: SecondStage | None, data: str = "") -> dict | None:
    """Judge whether the signed SRC falls and accuracy rises after the epoch of the highest SRC.

    stage: `trends.second_stage` of the networks in the order of the groups.
    """
    if not groups:
        return None
    why, parts = unclear(p for some in groups.values() for p in some), changes(groups, stage)
    parts |= {name: withheld(part, why) for name, part in parts.items() if "SRC" in name}
    return decide("second_stage_tradeoff", parts, note=why, data=data)


def changes(groups: Groups, stage: SecondStage) -> dict[str, Levels]:
    """Both changes of the second stage, means over groups and seeds."""
    both = {"fall of signed SRC": stage.fall, "rise of held-out accuracy": stage.rise}
    return {
        name: over_seeds(over_groups(groups, scores), n)
        for (name, scores), n in zip(both.items(), stage.n, strict=True)
    }


def tradeoffs_early(found: Early | None, data: str = "") -> dict | None:
    """Judge whether the leaning to low bands a fifth of the way goes with the trade in the end.

    Spearman's coefficient of the means of kinds of training, so that n counts these: networks of
    one kind differ in their seed only, and are no further draws of kinds.
    """
    if found is None:
        return None
    kinds, early, final = found.of_kinds()
    limits = correlation_at_levels(early, final, n_images=found.n_images)
    note = f"n counts the kinds of training, of {len(found.names)} networks"
    return decide("tradeoffs_early", limits, note=note, data=data, short=few_kinds(len(kinds)))


def few_kinds(n: int) -> str:
    """Why so many kinds of training decide nothing, "" where they may.

    >>> few_kinds(4)
    '4 kinds of training, 5 are needed'
    """
    return "" if n >= MIN_MODELS else f"{n} kinds of training, {MIN_MODELS} are needed"
