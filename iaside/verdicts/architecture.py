"""Verdicts on the score and the architecture of networks: size, families, transformers.

values are Shapley values (M, N) of the same photographs, one array per network.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from iaside.estimate.correlation import jackknifed
from iaside.estimate.crossed import crossed_difference, resampled_scores
from iaside.estimate.families import family_means
from iaside.estimate.intervals import at_levels
from iaside.estimate.resampling import Levels
from iaside.estimate.weakest import flat, score_lead_at_levels
from iaside.score import mean_score, robustness_score, spectral_importance
from iaside.verdicts.correlation import Families, within_designs
from iaside.verdicts.rules import decide

Values = Mapping[str, ArrayLike]


def parameter_count(
    src: ArrayLike,
    parameters: ArrayLike,
    families: Families,
    n_images: int | None = None,
    data: str = "",
) -> dict:
    """Judge whether the score does not go with the number of parameters, by `within_designs`.

    src (K,) or (K, 1 + R), parameters (K,).
    """
    return within_designs("parameter_count", src, {"": parameters}, families, n_images, data=data)


def shufflenet_robust(own: ArrayLike, others: Values, beta: float = 0.75, data: str = "") -> dict:
    """Judge whether shufflenet_v2_x0_5 has a higher signed score than the mean of other networks.

    own (M, N) of it, others: network -> (M, N).
    """
    part, short = score_lead(own, list(others.values()), beta), _withheld({"it": own, **others})
    note = f"{len(others)} other networks"
    return decide("shufflenet_robust", part, note=note, data=data, short=short)


def shufflenet_adversarial(attacks: Mapping[str, Sequence[ArrayLike]], data: str = "") -> dict:
    """Judge whether attacks change shufflenet_v2_x0_5 less than other networks, relative to clean.

    attacks: attack -> (2, N) of each network, its own first: change of the true class's
    probability, and this probability without the attack, of the photographs that all have.

    >>> rng = np.random.default_rng(0)
    >>> own, other = ([change + rng.random(30) / 9, np.full(30, 0.9)] for change in (0.1, 0.5))
    >>> shufflenet_adversarial({"pgd": [own, other, other]})["verdict"]
    'supported'
    """
    parts = {
        name: at_levels(
            np.concatenate([np.asarray(pair, dtype=float) for pair in pairs]),
            lambda mean: mean[0] / mean[1] - np.mean(mean[2::2] / mean[3::2], axis=0),
        )
        for name, pairs in attacks.items()
    }
    return decide("shufflenet_adversarial", parts, data=data)


def efficientnet_comparable(
    own: ArrayLike, transformers: Values, beta: float = 0.75, data: str = ""
) -> dict:
    """Judge whether efficientnet_v2_s has about the mean signed score of vision transformers."""
    part = score_lead(own, list(transformers.values()), beta)
    note, short = f"transformers: {', '.join(transformers)}", _withheld({"it": own, **transformers})
    return decide("efficientnet_comparable", part, note=note, data=data, short=short)


def efficientnet_over_older(
    own: ArrayLike, older: Values, beta: float = 0.75, data: str = ""
) -> dict:
    """Judge whether efficientnet_v2_s has a higher signed score than each of some older networks.

    >>> values = np.random.default_rng(0).random((3, 30)) / 9
    >>> low, flat = values + [[3.0], [1.0], [0.0]], values + [[1.0], [1.0], [0.0]]
    >>> efficientnet_over_older(low, {"alexnet": flat, "resnet18": flat})["verdict"]
    'supported'
    """
    parts = {name: score_lead(own, [values], beta) for name, values in older.items()}
    short = _withheld({"it": own, **older})
    return decide("efficientnet_over_older", parts, data=data, short=short)


def transformers_more_robust(
    transformers: Values,
    convnets: Values,
    families: Mapping[str, Hashable],
    beta: float = 0.75,
    data: str = "",
) -> dict:
    """Judge whether vision transformers have a higher signed score than ConvNets.

    A statement on networks: limits allow for other networks, each group with its own degrees of
    freedom, and other photographs. Each family counts once, with its mean; it takes 4 of them a
    group.
    """
    sides = [list(group.values()) for group in (transformers, convnets)]
    scores = resampled_scores(sides[0] + sides[1], mean_score(beta, "signed"))
    first, second = (
        family_means(part, [families[name] for name in group])
        for part, group in zip(
            np.split(scores, [len(sides[0])]), (transformers, convnets), strict=True
        )
    )
    n = np.shape(sides[0][0])[1]
    return decide(
        "transformers_more_robust",
        lambda level: crossed_difference(first, second, n, level),
        note=_groups(transformers, convnets, first, second),
        data=data,
    )


def transformers_cluster(
    transformers: Values, convnets: Values, families: Mapping[str, Hashable], data: str = ""
) -> dict:
    """Judge whether vision transformers lie closer to each other than to ConvNets, among the SIDs.

    The mean silhouette of the transformers in L1 distances; limits as in `transformers_more_robust`
    with the jackknife over networks, a family left out at a time.
    """
    everything = [*transformers.values(), *convnets.values()]
    n = np.shape(everything[0])[1]
    sids = resampled_scores(everything, spectral_importance)
    own, others = sids[: len(transformers)], sids[len(transformers) :]
    first, second = ([families[name] for name in group] for group in (transformers, convnets))
    own_left_out = jackknifed(lambda index: silhouette(own[index], others), first)
    others_left_out = jackknifed(lambda index: silhouette(own, others[index]), second)
    # To be subtracted: of the other side only what it adds to the spread over networks.
    spread = np.zeros_like(others_left_out)
    spread[:, 0] = others_left_out[:, 0] - others_left_out[:, 0].mean()
    return decide(
        "transformers_cluster",
        lambda level: crossed_difference(own_left_out, spread, n, level),
        note=_groups(transformers, convnets, own_left_out, spread),
        data=data,
    )


def silhouette(own: ArrayLike, others: ArrayLike) -> np.ndarray:
    """Return the mean silhouette of a group against another, in L1 distances.

    (b - a) / max(a, b) with a the mean distance to the rest of the group and b that to the others:
    1 for a cluster far from all else, below 0 for one that is none.

    Shapes: own (A, M, R) with A at least 2, others (B, M, R); returns (R,).

    >>> silhouette([[[0.0]], [[1.0]]], [[[4.0]], [[6.0]]]).round(2)
    array([0.78])
    """
    own, others = np.asarray(own, dtype=float), np.asarray(others, dtype=float)
    if len(own) < 2:
        return np.full(own.shape[-1], np.nan)
    near = np.abs(own[:, None] - own[None]).sum(2).sum(1) / (len(own) - 1)
    far = np.abs(own[:, None] - others[None]).sum(2).mean(1)
    with np.errstate(invalid="ignore"):
        return ((far - near) / np.maximum(far, near)).mean(0)


def score_lead(own: ArrayLike, others: Sequence[ArrayLike], beta: float) -> Levels:
    """The signed score of a network minus its mean over others, paired over the photographs."""
    row = robustness_score(np.eye(len(own)), beta, signed=True, norm="tight")
    return score_lead_at_levels(own, others, row)


def _withheld(networks: Values) -> str:
    """Which networks' bands may all be worth the same, in words; "" where none are."""
    alike = [name for name, values in networks.items() if np.shape(values)[1] > 1 and flat(values)]
    return f"the bands may all be worth the same: {', '.join(alike)}" if alike else ""


def _groups(transformers: Values, convnets: Values, first, second) -> str:
    return (
        f"{len(transformers)} transformers of {len(first)} families, "
        f"{len(convnets)} ConvNets of {len(second)}"
    )
