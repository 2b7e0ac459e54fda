"""Rules on SIDs, scores and shares of photographs: no means, so that truth is looked for."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from iaside.score import mean_score, spectral_importance
from iaside.verdicts.architecture import (
    efficientnet_comparable,
    efficientnet_over_older,
    shufflenet_robust,
)
from iaside.verdicts.choices import absences_alike
from iaside.verdicts.importance import sid_linear, trained_nonuniform
from iaside.verdicts.resolution import m8_suffices
from iaside.verdicts.rules import CONTRADICTED, SUPPORTED, find
from verdict_rules.worlds import AT, effect_of, of_draws

MEANS = np.array([3, 2, 1, 0.6, 0.4, 0.3, 0.2, 0.1])
CLEAR = np.array([3, 1.4, 1.2, 1.0, 0.8, 0.7, 0.6, -0.9])  # its weakest band is told apart
TIED = np.array([3, 2, 1, 0.6, 0.4, 0.3, 0.1, 0.1])
FALLING = 1.5 * np.array([1, 0.75, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])  # spread over photographs
OTHER_CLEAR = np.array([3, 2, 1, 0.9, 0.8, 0.7, 0.6, -0.9])
WORLDS_OF_SCORES = {  # the other network's mean values, and the spread of both
    "weakest bands clear": (OTHER_CLEAR, np.full(8, 1.5)),
    "weakest bands tied": (TIED, FALLING),
    "weakest bands tied and loud": (TIED, np.full(8, 1.5)),
}
UP = np.eye(8)[0]
FIVE, FOUR = [0, 1, 3, 6, 7], [0, 2, 5, 7]  # bands, where eight would take too long


def profiles(rng, n: int, k: int, shared: float = 0.7, bands: int = 8) -> np.ndarray:
    """Deviations (k, bands, n) of k networks' values on the same photographs: log-normal, of mean
    0 and spread 1; near bands, and to a share of the variance the networks, have them in common."""
    at = np.arange(bands)
    root = np.linalg.cholesky(0.5 ** np.abs(at[:, None] - at))
    normal = rng.normal(size=(k + 1, bands, n))
    z = root @ (np.sqrt(shared) * normal[:1] + np.sqrt(1 - shared) * normal[1:])
    return (np.exp(0.8 * z) - np.exp(0.32)) / np.sqrt((np.exp(0.64) - 1) * np.exp(0.64))


signed = mean_score()


def lead_in_score(mean: np.ndarray) -> np.ndarray:
    return signed(mean[: len(mean) // 2]) - signed(mean[len(mean) // 2 :])


def distance(mean: np.ndarray) -> np.ndarray:
    sids = spectral_importance(mean[:8]), spectral_importance(mean[8:])
    return np.abs(sids[0] - sids[1]).sum(0)


def along(statistic: Callable, first, second, direction, value: float) -> np.ndarray:
    """The mean values `first`, moved along a direction until the statistic is what it shall be."""

    def off(by):
        both = np.concatenate([first + by * direction, second])
        return float(statistic(both[:, None])[0]) - value

    return first + brentq(off, 0, 50) * direction


def spread_of(statistic: Callable, first, second, n: int, size, shared: float) -> float:
    """The true standard error of a statistic of two networks, from 1,000 samples."""
    rng = np.random.default_rng(0)
    noise = profiles(rng, n * 1000, 2, shared, len(first)) * np.reshape(size, (-1, 1))
    noise = noise.reshape(2 * len(first), 1000, n).mean(2)
    return statistic(np.concatenate([first, second])[:, None] + noise).std()


# -- differences of scores -------------------------------------------------------------------------


def two_scores(n: int = 24):
    """Signed SRC of one network minus that of another, also where the weakest bands are tied."""
    found = {}
    for name, (other, size) in WORLDS_OF_SCORES.items():
        other, size, own, up = other[FIVE], size[FIVE], CLEAR[FIVE], UP[FIVE]
        equal = along(lead_in_score, own, other, up, 0.0)
        se = spread_of(lead_in_score, equal, other, n, size, 0.7)
        ahead = along(lead_in_score, own, other, up, effect_of(1) * se)

        def draw(rng, first, second, size=size):
            noise = size[:, None] * profiles(rng, n, 2, bands=5)
            return shufflenet_robust(first[:, None] + noise[0], {"": second[:, None] + noise[1]})

        found |= {
            (name, AT): functools.partial(draw, first=equal, second=other),
            (name, SUPPORTED): functools.partial(draw, first=ahead, second=other),
            (name, CONTRADICTED): functools.partial(draw, first=other, second=ahead),
        }
    return of_draws("shufflenet_robust", found)


def scores_within_a_margin(n: int = 24):
    """A score minus the mean of two others', exactly at the margin, within it or beyond it."""
    other, margin = OTHER_CLEAR[FOUR], find("efficientnet_comparable").threshold
    equal, at, out = (
        along(lead_in_score, CLEAR[FOUR], other, UP[FOUR], by) for by in (0, margin, 2 * margin)
    )

    def draw(rng, first):
        noise = 0.5 * profiles(rng, n, 3, bands=4)
        return efficientnet_comparable(
            first[:, None] + noise[0], {str(i): other[:, None] + noise[i] for i in (1, 2)}
        )

    return of_draws(
        "efficientnet_comparable",
        {
            ("one part", truth): functools.partial(draw, first=first)
            for truth, first in ((AT, at), (SUPPORTED, equal), (CONTRADICTED, out))
        },
    )


def several_scores(n: int = 24, k: int = 2):
    """A score against each of several others, its parts."""
    other, size = OTHER_CLEAR[FOUR], 1.0
    equal = along(lead_in_score, CLEAR[FOUR], other, UP[FOUR], 0.0)
    se = spread_of(lead_in_score, equal, other, n, size, 0.7)
    ahead = along(lead_in_score, CLEAR[FOUR], other, UP[FOUR], effect_of(k) * se)
    far = other - 2.4 * UP[FOUR]  # its score is far below

    def draw(rng, first, others):
        noise = size * profiles(rng, n, 1 + k, bands=4)
        older = {
            str(i): b[:, None] + e for i, (b, e) in enumerate(zip(others, noise[1:], strict=True))
        }
        return efficientnet_over_older(first[:, None] + noise[0], older)

    return of_draws(
        "efficientnet_over_older",
        {
            (name, truth): functools.partial(draw, first=first, others=others)
            for name, truth, first, others in (
                ("one part", AT, equal, [other] + (k - 1) * [far]),
                ("all parts", AT, equal, k * [other]),
                ("all parts", SUPPORTED, ahead, k * [other]),
                ("one part", CONTRADICTED, other, [ahead] + (k - 1) * [far]),
            )
        },
    )


# -- distances of SIDs -----------------------------------------------------------------------------


def of_choices(pairs) -> dict:
    """Two networks, two schemes each, as of `absences_alike`."""
    psi = {}
    for i, (first, second) in enumerate(pairs):
        net, choice = divmod(i, 2)
        own = psi.setdefault(str(net), {})
        own[("gaussian", "replacement")[choice]] = first
        own["reference"] = second
    return absences_alike(psi)


def of_resolutions(pairs) -> dict:
    first, second = zip(*pairs, strict=True)
    return m8_suffices(*({str(i): v for i, v in enumerate(side)} for side in (first, second)))


def distances(claim_id="absences_alike", verdict=of_choices, k=4, n=12, size=0.25, shared=0.95):
    """L1 distances of SIDs on the same photographs, within a margin."""
    found, claim = {}, find(claim_id)

    def draw(rng, firsts):
        if verdict is of_choices:  # both schemes of a network have one reference
            noise = size * np.stack([profiles(rng, n, 3, shared) for _ in range(k // 2)])
            pairs = [(noise[i // 2, i % 2], noise[i // 2, 2]) for i in range(k)]
        else:
            pairs = size * np.stack([profiles(rng, n, 2, shared) for _ in range(k)])
        return verdict(
            [
                (first[:, None] + a, MEANS[:, None] + b)
                for first, (a, b) in zip(firsts, pairs, strict=True)
            ]
        )

    for name, direction in (("a band", np.eye(8)[1]), ("the weakest band", np.eye(8)[7])):
        at = along(distance, MEANS, MEANS, direction, claim.threshold)
        se = spread_of(distance, at, MEANS, n, size, shared)
        out = along(distance, MEANS, MEANS, direction, claim.threshold + effect_of(k) * se)
        for which, truth, firsts in (
            ("one part", AT, [at] + (k - 1) * [MEANS]),
            ("all parts", AT, k * [at]),
            ("all but one", AT, (k - 1) * [at] + [MEANS]),
            ("all parts", SUPPORTED, k * [MEANS]),
            ("one part", CONTRADICTED, [out] + (k - 1) * [MEANS]),
        ):
            found[f"{which}, {name}", truth] = functools.partial(draw, firsts=firsts)
    return of_draws(claim_id, found)


def linear_sids(k: int = 4, n: int = 24):
    """The distance of the mean SID from the SID of the mean, which photographs' spread makes."""
    margin = find("sid_linear").threshold
    many = profiles(np.random.default_rng(0), 50_000, 1)[0]

    def apart(size):
        values = MEANS[:, None] + size * many
        each, whole = spectral_importance(values), spectral_importance(values.mean(1))
        return np.abs(each.mean(1) - whole).sum()

    at, near, out = (brentq(lambda s, d=d: apart(s) - d, 0, 3) for d in (margin, 0.02, 2 * margin))

    def draw(rng, sizes):
        noise = profiles(rng, n, k)
        return sid_linear(
            {
                str(i): MEANS[:, None] + size * own
                for i, (size, own) in enumerate(zip(sizes, noise, strict=True))
            }
        )

    return of_draws(
        "sid_linear",
        {
            (which, truth): functools.partial(draw, sizes=sizes)
            for which, truth, sizes in (
                ("one part", AT, [at] + (k - 1) * [near]),
                ("all parts", AT, k * [at]),
                ("all but one", AT, (k - 1) * [at] + [near]),
                ("all parts", SUPPORTED, k * [near]),
                ("one part", CONTRADICTED, [out] + (k - 1) * [near]),
            )
        },
    )


# -- shares ----------------------------------------------------------------------------------------


def unusual_bands(k: int = 4, n: int = 24):
    """The most unusual band of k networks: one band is as far from the mean as the threshold, or
    half of the bands lie above and half below it."""
    found, at = {}, find("trained_nonuniform").threshold
    se = at / effect_of(k)  # of a band, so that a uniform one is told from it
    out = at + effect_of(k) * se

    def draw(rng, pattern, fars):
        noise = profiles(rng, n, k)
        noise = se * np.sqrt(n) * (noise - noise.mean(1, keepdims=True))
        gain = 1 + 0.5 * np.sqrt(0.5) * rng.normal(size=(1, n))  # of v(all) - v(none)
        shape = (pattern / np.abs(pattern).max())[:, None]
        return trained_nonuniform(
            {
                str(i): gain / 8 + own + far * shape
                for i, (own, far) in enumerate(zip(noise, fars, strict=True))
            }
        )

    for name, pattern in (("one band", UP - 1 / 8), ("all bands", np.repeat([1.0, -1.0], 4))):
        for which, truth, fars in (
            ("one part", AT, [at] + (k - 1) * [1.0]),
            ("all parts", AT, k * [at]),
            ("all but one", AT, (k - 1) * [at] + [1.0]),
            ("all parts", SUPPORTED, k * [out]),
            ("one part", CONTRADICTED, [0.0] + (k - 1) * [1.0]),
        ):
            found[f"{which}, {name}", truth] = functools.partial(draw, pattern=pattern, fars=fars)
    return of_draws("trained_nonuniform", found)
