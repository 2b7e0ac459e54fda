"""Verdicts on what goes with the score over networks, and on which bands are the fragile ones.

Of K networks scores are (K,), or (K, 1 + R) as `crossed.resampled_scores` gives them; `n_images`
is the number of photographs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from iaside.estimate.accuracy import accuracy_difference
from iaside.estimate.coefficients import coefficient
from iaside.estimate.correlation import (
    MIN_MODELS,
    between_families,
    correlation_at_levels,
    independent,
    no_correlation,
    over_networks,
)
from iaside.estimate.crossed import crossed_mean, resampled_scores
from iaside.estimate.estimate import Estimate
from iaside.estimate.families import several
from iaside.estimate.intervals import at_levels
from iaside.estimate.resampling import Levels
from iaside.verdicts.coefficients import Families, columns
from iaside.verdicts.rules import CONTRADICTED, SUPPORTED, decide, every_reading, find


def src_mce(
    printed: ArrayLike,
    signed: ArrayLike,
    mce: ArrayLike,
    families: Families,
    n_images: int | None = None,
    data: str = "",
) -> dict:
    """Judge whether the score falls with the mean corruption error, by `both_scores`.

    >>> score = [1, 2, 3, 4, 5, 6, 7, 8]
    >>> src_mce(score, score, [8, 7, 6, 5, 4, 3, 1, 2], list("abcdefgh"))["verdict"]
    'supported'
    """
    return both_scores("src_mce", printed, signed, {"": mce}, families, n_images, data)


def src_adversarial(
    printed: ArrayLike,
    signed: ArrayLike,
    mpe: Mapping[str, ArrayLike],
    families: Families,
    n_images: int | None = None,
    data: str = "",
) -> dict:
    """Judge whether the score falls with mPE under every attack, by `both_scores`.

    mpe: attack and strength -> mPE of each network.
    """
    return both_scores("src_adversarial", printed, signed, mpe, families, n_images, data)


def src_corruptions(
    printed: ArrayLike,
    signed: ArrayLike,
    mpe: Mapping[str, ArrayLike],
    families: Families,
    n_images: int | None = None,
    data: str = "",
) -> dict:
    """Judge whether the score falls with mPE under noise and blur, by `both_scores`."""
    return both_scores("src_corruptions", printed, signed, mpe, families, n_images, data)


def src_adversarial_t2(
    printed: ArrayLike,
    signed: ArrayLike,
    mpe: Mapping[str, ArrayLike],
    families: Families,
    n_images: int | None = None,
    data: str = "",
) -> dict:
    """Judge whether the score falls with mPE at softmax temperature 2, by `both_scores`."""
    return both_scores("src_adversarial_t2", printed, signed, mpe, families, n_images, data)


def robust_features_robust_models(
    signed: ArrayLike,
    mce: ArrayLike,
    accuracy: ArrayLike,
    families: Families,
    n_images: int | None = None,
    data: str = "",
) -> dict:
    """Judge whether the signed score falls with mCE given clean accuracy, by `within_designs`."""
    return within_designs(
        "robust_features_robust_models",
        signed,
        {"": mce},
        families,
        n_images,
        given=accuracy,
        data=data,
    )


def beta_075_best(
    scores: Mapping[float, ArrayLike],
    mce: ArrayLike,
    families: Families,
    n_images: int | None = None,
    data: str = "",
) -> dict:
    """Judge whether the score at beta = 0.75 goes with mCE more than at any other beta.

    Each other beta is a part of its own, |rho(0.75)| - |rho(beta)|: the largest of several noisy
    coefficients is too large, and 0.75 would lose to it without cause. Limits are the jackknife's
    over the networks that `deciding` names (`over_networks`), and the photographs'.

    scores: beta -> score of each network; 0.75 must be among them, and another.
    Errors: ValueError without 0.75 or any other beta.
    Source: Luo et al. 2024, Assumption 3.8; docs/methods.md, Verdicts.
    """
    scores = {round(float(beta), 6): columns(score) for beta, score in scores.items()}
    if 0.75 not in scores or len(scores) < 2:
        raise ValueError(
            f"beta = 0.75 is compared with others, got {sorted(scores)}; give it and another"
        )
    mce, groups = columns(mce), several(families)
    # A network that is alone in its family says nothing of differences within designs.
    members = (
        np.arange(len(mce))
        if groups is None
        else np.array(
            [k for k, name in enumerate(families) if list(families).count(name) > 1], dtype=int
        )
    )
    numbers = None if groups is None else [list(dict.fromkeys(families)).index(f) for f in families]

    def size(score: np.ndarray, index: np.ndarray) -> np.ndarray:
        own = None if numbers is None else np.array(numbers)[members[index]][None]
        pair = np.broadcast_arrays(score[members[index]], mce[members[index]])
        return np.abs(coefficient(*(v.T for v in pair), groups=own))

    def lead(beta: float) -> Levels:
        def statistic(index: np.ndarray) -> np.ndarray:
            return size(scores[0.75], index) - size(scores[beta], index)

        limits = over_networks(statistic, range(len(members)), n_images)
        return lambda level: replace(limits(level), n=len(families))

    found = {f"beta {beta:g}": lead(beta) for beta in scores if beta != 0.75}
    words, short = deciding(families)
    return decide("beta_075_best", found, note=words, data=data, short=short)


def high_bands_fragile(changes: Mapping[str, ArrayLike], data: str = "") -> dict:
    """Judge whether noise in one of the high bands changes more than noise in one of the low ones.

    changes: network -> (M, N), the change of the true class's probability of each photograph under
    noise of equal energy in each band. Parts: the networks; the mean over networks is in the note.

    >>> changes = np.arange(4.0)[:, None] + np.random.default_rng(0).normal(size=(4, 30)) / 9
    >>> high_bands_fragile({"a": changes, "b": changes})["verdict"]
    'supported'
    """
    gaps = {}
    for name, change in changes.items():
        change = np.asarray(change, dtype=float)
        half = len(change) // 2
        gaps[name] = (change[-half:].mean(0) - change[:half].mean(0))[None]
    parts = {name: at_levels(gap, lambda mean: mean[0]) for name, gap in gaps.items()}
    return decide("high_bands_fragile", parts, note=_in_general(gaps), data=data)


def low_frequency_attacks(answers: Mapping[str, ArrayLike], data: str = "") -> dict:
    """Judge whether attacks confined to band 0 lower the accuracy.

    answers: network -> (2, N), zeros and ones, right answers to each photograph without and with
    the attack. Parts: the networks; the mean over networks is in the note.

    >>> low_frequency_attacks({"a": [[1] * 9, [0] * 9]})["verdict"]
    'supported'
    """
    answers = {name: np.asarray(pair, dtype=float) for name, pair in answers.items()}
    parts = {
        name: lambda level, pair=pair: accuracy_difference(*pair, level)
        for name, pair in answers.items()
    }
    lost = {name: (pair[0] - pair[1])[None] for name, pair in answers.items()}
    return decide("low_frequency_attacks", parts, note=_in_general(lost), data=data)


def selections(
    families: Mapping[str, Hashable],
    constant: Sequence[str] = (),
    ours: Sequence[str] = (),
    least: int = MIN_MODELS,
) -> dict[tuple[Hashable, str], list[str]]:
    """(family, who is left out) -> networks, of every family of so many: all of them, and without.

    families: network -> its family; constant, ours: networks to do without, where there are any.

    >>> found = selections(dict.fromkeys("abcdefg", "cnn") | {"z": "vgg"}, ["a"], ["b", "z"])
    >>> {left_out: "".join(names) for (_, left_out), names in found.items()}
    {'nobody': 'abcdefg', 'a': 'bcdefg', 'b': 'acdefg', 'a, b': 'cdefg'}
    """
    found = {}
    for name in dict.fromkeys(families.values()):
        members = [m for m, of in families.items() if of == name]
        if len(members) < least:
            continue
        for without in ([], constant, ours, [*constant, *ours]):
            gone = [m for m in members if m in without]
            found[name, ", ".join(gone) or "nobody"] = [m for m in members if m not in gone]
    return found


def both_scores(
    claim_id: str,
    printed: ArrayLike,
    signed: ArrayLike,
    ys: Mapping[str, ArrayLike],
    families: Families,
    n_images: int | None = None,
    data: str = "",
) -> dict:
    """Judge by the score as printed and by the signed one, each by `within_designs`: both needed.

    The printed score is an absolute value, and high for a network whose lowest bands harm it; the
    papers mean one that leans on low bands, which the signed score tells. What holds for one of
    them alone is no finding about the score that the claim speaks of.

    >>> lean = np.arange(-6.0, 7.0)  # of the networks below 0 the printed score says the opposite
    >>> both_scores("src_mce", abs(lean), lean, {"": -lean}, range(13))["verdict"]
    'undecided'
    """
    return every_reading(
        {
            how: within_designs(claim_id, score, ys, families, n_images, data=data)
            for how, score in (("printed", printed), ("signed", signed))
        }
    )


def by_other_measures(record: dict, others: Mapping[str, dict]) -> dict:
    """A record whose note says what other measures of robustness make of the claim.

    others: measure -> the record by it. They decide nothing: the claim is about its own measure.

    >>> one = {"verdict": "supported", "note": ""}
    >>> by_other_measures(one, {"accuracy left": {"verdict": "undecided"}})["note"]
    'not by every measure of robustness: undecided by accuracy left'
    """
    if not others:
        return record
    found: dict[str, list[str]] = {}
    for name, other in others.items():
        found.setdefault(other["verdict"], []).append(name)
    said = ", ".join(f"{verdict} by {' and '.join(names)}" for verdict, names in found.items())
    alike = "also" if list(found) == [record["verdict"]] else "not by every measure of robustness:"
    return record | {"note": "; ".join(filter(None, [record["note"], f"{alike} {said}"]))}


def within_designs(
    claim_id: str,
    x: ArrayLike,
    ys: Mapping[str, ArrayLike],
    families: Families,
    n_images: int | None = None,
    given: ArrayLike | None = None,
    data: str = "",
) -> dict:
    """Judge Spearman's coefficient of x with each part of ys over networks.

    The rule was fixed beforehand: where some family has several networks the coefficient within
    families decides, and the claim reads "within designs"; else the plain one. The coefficient of
    the family means is shown; where it points the other way (of three families or more) the part
    is undecided. It takes 5 independent networks (`correlation.independent`).
    Source: docs/methods.md, Verdicts.

    >>> x, y = np.arange(12.0), np.arange(12.0)[::-1]
    >>> within_designs("src_mce", x, {"": y}, list("aaabbbcccddd"))["note"].partition(";")[0]
    'within designs: 12 networks of 4 families, 9 of them independent'
    """
    groups, parts, said = several(families), {}, {}  # what is said -> of which parts
    words, short = deciding(families, given)
    for name, y in ys.items():
        how = {"given": given, "n_images": n_images}
        parts[name] = correlation_at_levels(x, y, groups=groups, **how)
        line = ""
        if why := no_correlation(x, y, given=given, groups=groups):
            line = f"no coefficient, {why}"
        elif independent(len(families), groups, given) < 3:  # of two any coefficient is -1 or 1
            parts[name] = _without_value(parts[name])
        elif groups is not None and len(set(families)) > 2:  # two say nothing
            between = between_families(x, y, families, **how)
            line = f"family means {between:+.2f}"
            if not short and _opposite(find(claim_id), parts[name](0.95), between):
                line += f" against {parts[name](0.95).limits('+.2f')} within: undecided"
                parts[name] = _without_limits(parts[name])
        said.setdefault(line, []).append(name)
    lines = [
        line if len(names) == len(parts) else f"{', '.join(names)}: {line}"
        for line, names in said.items()
        if line
    ]
    return decide(claim_id, parts, note="; ".join([words, *lines]), data=data, short=short)


def deciding(families: Families, given: ArrayLike | None = None) -> tuple[str, str]:
    """Say over which networks a coefficient is taken, and why nothing can be decided, "" if it can.

    >>> deciding(["lite", "lite", "squeezenet"])[1]
    '2 independent networks, 5 are needed'
    """
    groups, n = several(families), len(families)
    m = independent(n, groups, given)
    if groups is None:
        words = f"{n} networks, each of a family of its own"
    else:
        words = f"within designs: {n} networks of {len(set(families))} families"
    if m < MIN_MODELS:
        return words, f"{max(m, 0)} independent networks, {MIN_MODELS} are needed"
    return words + ("" if m == n else f", {m} of them independent"), ""


def _opposite(claim, within: Estimate, between: Estimate) -> bool:
    """Whether the family means say another thing than what would be the verdict."""
    if claim.kind == "null" and claim.side(within) == SUPPORTED:
        return claim.side(between) == CONTRADICTED
    return within.value * between.value < 0


def _without_limits(part: Levels) -> Levels:
    def unsure(level: float) -> Estimate:
        found = part(level)
        return Estimate.unsure(found.value, found.n, found.unit)

    return unsure


def _without_value(part: Levels) -> Levels:
    found = part(0.95)
    return lambda level: Estimate.unsure(np.nan, found.n, found.unit)


def _in_general(rows: Mapping[str, np.ndarray]) -> str:
    """The mean over networks with limits for other networks and photographs, in words."""
    if len({row.shape for row in rows.values()}) > 1:
        return ""
    scores = resampled_scores(list(rows.values()), lambda mean: mean[0])
    n = next(iter(rows.values())).shape[-1]
    return f"mean over networks: {crossed_mean(scores, n, unit='networks'):.2f}"
