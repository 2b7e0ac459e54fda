"""How often verdicts are wrong: worlds in which a claim sits exactly at its threshold.

For every rule that decides a claim (`iaside.verdicts`), worlds of the size of the default study are
drawn and judged by the kit's own functions. Counted as false is

* of a claim with one number exactly at its threshold: any verdict that is decided;
* of a claim with parts, some at the threshold and all others far on the claimed side: the same.
  *Contradicted* is false, since every part is at or beyond the threshold on the claimed side;
  *supported* is false, since some part is not beyond it;
* of a page of claims: a false *contradicted* that survives Holm's correction.

Each rule is tried with one part at the threshold, with all of them, and with all but one; in
several populations (normal, skewed, heavy-tailed, of few values), or with several shares of the
scatter that trainings or networks have beside photographs. The worst of these cases counts.

Power is that of an effect that a test of known normal spread, at .05 / (number of parts), finds in
80 % of cases: all parts so far on the claimed side (*supported* is right), and one part so far on
the other (*contradicted* is right); of null claims, no effect and one so far outside the margin;
of coefficients, .8. It is a mean over populations, and stands beside that of the naive rule: each
part by its estimate over its plain standard error over photographs (of coefficients: over networks,
whatever their design), with one critical value, from 1.96 up, for both verdicts and all parts,
raised until that rule, too, is wrong in at most 5 % of each of the same worlds. The raised value
knows what no study does, the spread and the shape of these worlds: a rule that has to estimate the
scatter of three trainings cannot come close to it where that scatter is all there is.

    python benchmarks/verdicts.py [--worlds 4000] [--rules NAME ...] [--processes 2]

World k of a rule has its own seed, so that the number of processes changes nothing. To save time
limits rest on fewer resamples and permutations than a report's, as many as their level takes.
Prints a line per rule: its rate of false verdicts in the worst case, with limits (Wilson's, at
95 % for all of its cases at once), and that case; the rate of the naive rule at 1.96, and the value
it is raised to; power; the share of decided verdicts that say they are close to the threshold. The
last line is JSON: these rates, the largest of them, and power (ours, the raised naive rule's).
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from iaside.clean import wilson
from iaside.estimate import Estimate
from iaside.intervals import (
    Levels,
    at_levels,
    crossed_difference,
    distance_at_levels,
    draws,
    mean_interval,
    nonuniformity,
    of_resamples,
    resampled_scores,
)
from iaside.score import no_score, robustness_score, spectral_importance
from iaside.shapley import coalitions, non_additivity
from iaside.tables import Worths
from iaside.trends import over_seeds
from iaside.verdicts.architecture import parameter_count
from iaside.verdicts.correlation import beta_075_best, src_adversarial, src_mce
from iaside.verdicts.data_size import more_data_more_robust
from iaside.verdicts.importance import low_frequencies_not_enough, untrained_uniform
from iaside.verdicts.match import profile_predicts_loss
from iaside.verdicts.rules import (
    CONTRADICTED,
    RISK,
    SUPPORTED,
    UNDECIDED,
    decide,
    every_reading,
    find,
    holm,
)
from iaside.zoo import Profile

AT = "at the threshold"  # truth of a case in which every decided verdict is false
FAR = 30  # standard errors: a part so far on the claimed side never decides
RESAMPLES = 2000  # of rules with few parts, whose tails these hold; verdicts take 20,000


class Case(NamedTuple):
    """One way in which a world can be: its name, what is true, what was decided of it, and how far
    the worst part lies on the claimed side in the naive rule's standard errors."""

    name: str
    truth: str
    verdict: str
    close: bool
    p: float | None
    lead: float


# -- worlds that differ by where their parts lie ---------------------------------------------------


def moved(part: Levels, by: float) -> Levels:
    return lambda level: part(level) + by


def cases(
    claim_id: str, parts: Sequence[Levels], naive_se: Sequence[float], se: float, name: str = "",
    readings: bool = False,
) -> list[Case]:
    """Every case of one world, by moving its parts: a mean moves, and its limits with it.

    parts: k, all drawn at the threshold (of a null claim: at 0); naive_se: of each, as the naive
    rule estimates it; se: the true one. readings: the parts are readings, of which a verdict needs
    all.
    """
    claim, k = find(claim_id), len(parts)
    parts = [functools.cache(part) for part in parts]
    effect = effect_of(k) * se
    sign = -1 if claim.kind == "less" else 1
    at, beyond = (claim.threshold, 0.0) if claim.kind == "null" else (0.0, sign * FAR * se)
    opposite = at + effect if claim.kind == "null" else -sign * effect
    well = 0.0 if claim.kind == "null" else sign * effect
    places = {
        ("one part", AT): [at] + (k - 1) * [beyond],
        ("all parts", AT): k * [at],
        ("all but one", AT): (k - 1) * [at] + [beyond],
        ("all parts", SUPPORTED): k * [well],
        ("one part", CONTRADICTED): [opposite] + (k - 1) * [opposite if readings else beyond],
    }
    if k < 3:
        del places["all but one", AT]
    if k < 2:
        del places["all parts", AT]
    found = []
    for (which, truth), by in places.items():
        now = {str(i): moved(part, by[i]) for i, part in enumerate(parts)}
        leads = [
            lead_of(claim, part(1 - RISK).value, s)
            for part, s in zip(now.values(), naive_se, strict=True)
        ]
        if readings:
            record = every_reading({name: decide(claim_id, part) for name, part in now.items()})
            lead = max(min(leads), 0.0) or min(max(leads), 0.0)
        else:
            record, lead = decide(claim_id, now), min(leads)
        found.append(case(f"{which}, {name}" if name else which, truth, record, lead))
    return found


def case(name: str, truth: str, record: Mapping, lead: float) -> Case:
    return Case(name, truth, record["verdict"], record["close"], record["p"], lead)


def lead_of(claim, value: float, se: float) -> float:
    """How far a number lies on the claimed side, in standard errors."""
    if claim.kind == "null":
        on_side = claim.threshold - abs(value)
    else:
        on_side = (value - claim.threshold) * (-1 if claim.kind == "less" else 1)
    return on_side / se if se > 0 else np.sign(on_side) * np.inf


@functools.cache
def effect_of(k: int, power: float = 0.8) -> float:
    """Standard errors that a test of known spread, at .05 / k, finds with that power."""
    return stats.norm.ppf(1 - RISK / k / 2) + stats.norm.ppf(power)


# -- what is drawn ---------------------------------------------------------------------------------


def gamma(rng, shape):  # skewness 2, as of an exponential
    return rng.exponential(size=shape) - 1


def student(rng, shape):  # 3 degrees of freedom: as heavy a tail as has a variance
    return rng.standard_t(3, size=shape) / np.sqrt(3)


def answers(rng, shape):  # accuracy gained or lost, zero for seven photographs of ten
    return rng.choice([-1.0, 0.0, 1.0], size=shape, p=[0.15, 0.7, 0.15]) / np.sqrt(0.3)


def normal(rng, shape):
    return rng.normal(size=shape)


POPULATIONS = {"normal": normal, "skewed": gamma, "heavy-tailed": student, "answers": answers}


def plain_se(values: np.ndarray) -> np.ndarray:
    return values.std(-1, ddof=1) / np.sqrt(values.shape[-1])


def one_mean(values: np.ndarray, n_resamples: int) -> Levels:
    return at_levels(values[None], lambda mean: mean[0], n_resamples)


# -- photographs -----------------------------------------------------------------------------------


def mean_of_photographs(rng, claim_id="snr_power_law", n=24, k=1, share=0.5, resamples=RESAMPLES):
    """k means over n photographs; share: of the variance that the parts have in common."""
    found = []
    for name, draw in POPULATIONS.items():
        if name == "answers":  # of networks that agree on a share of the photographs
            common = draw(rng, (1, n))
            own, same = draw(rng, (k, n)), rng.random((k, n)) < share
            values = np.where(same, common, own)
        else:
            values = np.sqrt(share) * draw(rng, (1, n)) + np.sqrt(1 - share) * draw(rng, (k, n))
        if k == 1:
            values = draw(rng, (1, n))
        parts = [one_mean(row, resamples) for row in values]
        found += cases(claim_id, parts, plain_se(values), 1 / np.sqrt(n), name)
    return found


def readings_of_photographs(rng, claim_id="fampe_over_attexplore", n=10):
    """2 x 2 readings of one claim on the same photographs; a verdict needs all of them."""
    found = []
    for name, draw in list(POPULATIONS.items())[:3]:
        values = np.sqrt(0.7) * draw(rng, (1, n)) + np.sqrt(0.3) * draw(rng, (4, n))
        parts = [one_mean(row, RESAMPLES) for row in values]
        found += cases(claim_id, parts, plain_se(values), 1 / np.sqrt(n), name, readings=True)
    return found


def right_answers(rng, n=24, k=4):
    """k networks that lose as many right answers as they win, on a share of the photographs."""
    found, claim = [], find("low_frequencies_not_enough")
    for share in (0.3, 0.6, 1.0):
        for which, truth, at, lost in (
            ("one part", AT, 1, 0.5), ("all parts", AT, k, 0.5),
            ("all parts", SUPPORTED, k, 0.9), ("one part", CONTRADICTED, 1, 0.1),
        ):  # fmt: skip
            tables, leads = {}, []
            for i in range(k):
                differs = rng.random(n) < (share if i < at else 1.0)
                whole = np.where(differs, rng.random(n) < (lost if i < at else 1.0), True)
                part = np.where(differs, ~whole, True)
                tables[str(i)] = np.stack([whole, part, whole, whole]).astype(float)
                change = tables[str(i)][3] - tables[str(i)][1]
                leads.append(lead_of(claim, change.mean(), plain_se(change)))
            record = low_frequencies_not_enough(tables, dict.fromkeys(tables, 1))
            found.append(case(f"{which}, {share:.0%} differ", truth, record, min(leads)))
    return found


# -- SIDs, scores and shares: no means, so that each case is drawn for itself ----------------------

MEANS = np.array([3, 2, 1, 0.6, 0.4, 0.3, 0.2, 0.1])
CLEAR = np.array([3, 1.4, 1.2, 1.0, 0.8, 0.7, 0.6, -0.9])  # its weakest band is told apart
TIED = np.array([3, 2, 1, 0.6, 0.4, 0.3, 0.1, 0.1])
FALLING = 1.5 * np.array([1, 0.75, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])  # spread over photographs
WORLDS_OF_SCORES = {  # the other network's mean values, and the spread of both
    "weakest bands clear": (np.array([3, 2, 1, 0.9, 0.8, 0.7, 0.6, -0.9]), np.full(8, 1.5)),
    "weakest bands tied": (TIED, FALLING),
    "weakest bands tied and loud": (TIED, np.full(8, 1.5)),
}


def profiles(rng, n: int, k: int, shared: float = 0.7) -> np.ndarray:
    """Deviations (k, 8, n) of k networks' values on the same photographs: log-normal, of mean 0 and
    spread 1; near bands, and to a share of the variance the networks, have them in common."""
    bands = np.arange(8)
    root = np.linalg.cholesky(0.5 ** np.abs(bands[:, None] - bands))
    normal = rng.normal(size=(k + 1, 8, n))
    z = root @ (np.sqrt(shared) * normal[:1] + np.sqrt(1 - shared) * normal[1:])
    return (np.exp(0.8 * z) - np.exp(0.32)) / np.sqrt((np.exp(0.64) - 1) * np.exp(0.64))


def signed(mean: np.ndarray) -> np.ndarray:
    return robustness_score(spectral_importance(mean), signed=True, norm="tight")


def lead_in_score(mean: np.ndarray) -> np.ndarray:
    return signed(mean[:8]) - signed(mean[8:])


def distance(mean: np.ndarray) -> np.ndarray:
    sids = spectral_importance(mean[:8]), spectral_importance(mean[8:])
    return np.abs(sids[0] - sids[1]).sum(0)


def along(statistic: Callable, first, second, direction, value: float) -> np.ndarray:
    """The mean values `first`, moved along a direction until the statistic is what it shall be."""
    def off(by):
        both = np.concatenate([first + by * direction, second])
        return float(statistic(both[:, None])[0]) - value

    return first + brentq(off, 0, 50) * direction


@functools.cache
def spread_of(statistic: Callable, first: tuple, second: tuple, n: int, size: tuple, shared: float):
    """The true standard error of a statistic of two networks, from 1,000 samples."""
    noise = profiles(np.random.default_rng(0), n * 1000, 2, shared) * np.array(size)[:, None]
    noise = noise.reshape(16, 1000, n).mean(2)
    return statistic(np.array(first + second)[:, None] + noise).std()


def two_scores(rng, claim_id="shufflenet_robust", n=24):
    """Signed SRC of one network minus that of another; nothing is decided where it is not given."""
    found, claim, up = [], find(claim_id), np.eye(8)[0]
    for name, (other, size) in WORLDS_OF_SCORES.items():
        equal = along(lead_in_score, CLEAR, other, up, 0.0)
        se = spread_of(lead_in_score, tuple(equal), tuple(other), n, tuple(size), 0.7)
        ahead = along(lead_in_score, CLEAR, other, up, effect_of(1) * se)
        noise = size[:, None] * profiles(rng, n, 2)
        for truth, first in ((AT, equal), (SUPPORTED, ahead)):
            psi = np.concatenate([first[:, None] + noise[0], other[:, None] + noise[1]])
            part = functools.cache(at_levels(psi, lead_in_score, 400))
            e = part(1 - RISK)
            lead = lead_of(claim, e.value, e.se)
            short = no_score(psi[:8], kind="signed") or no_score(psi[8:], kind="signed")
            found.append(case(name, truth, decide(claim_id, part, short=short), lead))
            if truth != AT:  # the other way round
                against = decide(claim_id, lambda level, part=part: -part(level), short=short)
                found.append(case(name, CONTRADICTED, against, lead_of(claim, -e.value, e.se)))
    return found


def distances(rng, claim_id="absences_alike", k=4, n=12, size=0.25, shared=0.95):
    """L1 distances of SIDs on the same photographs, within a margin."""
    found, claim = [], find(claim_id)
    for name, direction in (("a band", np.eye(8)[1]), ("the weakest band", np.eye(8)[7])):
        at = along(distance, MEANS, MEANS, direction, claim.threshold)
        se = spread_of(distance, tuple(at), tuple(MEANS), n, (size,) * 8, shared)
        out = along(distance, MEANS, MEANS, direction, claim.threshold + effect_of(k) * se)
        noise = size * np.stack([profiles(rng, n, 2, shared) for _ in range(k)])
        of = {
            place: [
                functools.cache(
                    distance_at_levels(first[:, None] + a, MEANS[:, None] + b, spectral_importance,
                                       RESAMPLES)
                )
                for a, b in (noise if place != "out" else noise[:1])
            ]
            for place, first in (("in", MEANS), ("at", at), ("out", out))
        }  # fmt: skip
        for which, truth, parts in (
            ("one part", AT, of["at"][:1] + of["in"][1:]),
            ("all parts", AT, of["at"]),
            ("all but one", AT, of["at"][:-1] + of["in"][-1:]),
            ("all parts", SUPPORTED, of["in"]),
            ("one part", CONTRADICTED, of["out"] + of["in"][1:]),
        ):
            record = decide(claim_id, {str(i): part for i, part in enumerate(parts)})
            found.append(case(f"{which}, {name}", truth, record, least_lead(claim, parts)))
    return found


def least_lead(claim, parts) -> float:
    """The naive rule's lead, with the standard error that an estimate has beside it."""
    each = [part(1 - RISK) for part in parts]
    return min(lead_of(claim, e.value, e.se) for e in each)


def unusual_bands(rng, claim_id="trained_nonuniform", k=4, n=24):
    """The most unusual band of k networks: one band is as far from the mean as the threshold, or
    half of the bands lie above and half below it."""
    found, claim = [], find(claim_id)
    one, all_ = np.eye(8)[0] - 1 / 8, np.repeat([1.0, -1.0], 4)
    se = claim.threshold / effect_of(k)  # of a band, so that a uniform one is told from it
    noise = profiles(rng, n, k)
    noise = se * np.sqrt(n) * (noise - noise.mean(1, keepdims=True))
    gain = 1 + 0.5 * np.sqrt(0.5) * rng.normal(size=(1, n))  # of v(all) - v(none)

    def part(i, far, pattern):
        psi = gain / 8 + noise[i] + far * (pattern / np.abs(pattern).max())[:, None]
        return functools.cache(functools.partial(nonuniformity, psi))

    for name, pattern in (("one band", one), ("all bands", all_)):
        out = claim.threshold + effect_of(k) * se
        at, far, ahead = (
            [part(i, by, pattern) for i in range(k)] for by in (claim.threshold, 1.0, out)
        )
        flat = [part(0, 0.0, pattern)]
        for which, truth, parts in (
            ("one part", AT, at[:1] + far[1:]),
            ("all parts", AT, at),
            ("all but one", AT, at[:-1] + far[-1:]),
            ("all parts", SUPPORTED, ahead),
            ("one part", CONTRADICTED, flat + far[1:]),
        ):
            record = decide(claim_id, {str(i): part for i, part in enumerate(parts)})
            found.append(case(f"{which}, {name}", truth, record, least_lead(claim, parts)))
    return found


def additive_games(rng, claim_id="least_squares_additive", k=4, n=24):
    """Percentiles of resamples: what sums of three bands' values miss of the probabilities."""
    found, claim = [], find(claim_id)
    x = np.array([[i >> band & 1 for band in range(3)] for i in range(8)], dtype=float)
    sums, all_three = x @ [0.4, 0.25, 0.15], x.prod(1) - x.sum(1) / 3

    def game(share):
        def off(by):
            return float(non_additivity(sums + by * all_three)) - share

        return (sums + brentq(off, 0, 20) * all_three)[:, None] if share else sums[:, None]

    # Photographs differ in how much they gain, and in each coalition.
    noise = 0.4 * rng.normal(size=(k, 1, n)) * x.mean(1)[:, None]
    noise = noise + 0.1 * rng.normal(size=(k, 8, n)) * (x.sum(1) > 0)[:, None]
    levels = {"in": 0.005, "at": claim.threshold, "out": 2 * claim.threshold}
    at = {
        place: [functools.cache(additivity(game(share) + one)) for one in noise]
        for place, share in levels.items()
    }
    for which, truth, parts in (
        ("one part", AT, at["at"][:1] + at["in"][1:]),
        ("all parts", AT, at["at"]),
        ("all but one", AT, at["at"][:-1] + at["in"][-1:]),
        ("all parts", SUPPORTED, at["in"]),
        ("one part", CONTRADICTED, at["out"][:1] + at["in"][1:]),
    ):
        record = decide(claim_id, {str(i): part for i, part in enumerate(parts)})
        found.append(case(which, truth, record, least_lead(claim, parts)))
    return found


def additivity(game: np.ndarray) -> Levels:
    n = game.shape[1]
    rows = [non_additivity(game.mean(1, keepdims=True)), non_additivity(game @ draws(n, RESAMPLES))]
    limits = of_resamples(np.concatenate(rows), n)
    return lambda level: limits(level).within(0, 1)


def exact_numbers(rng, claim_id="src_prefers_low"):
    """A number without an error, at the threshold and a little off it."""
    found = []
    for truth, value in ((AT, 0.0), (SUPPORTED, 1e-9), (CONTRADICTED, -1e-9)):
        value += find(claim_id).threshold
        part = functools.partial(_exact, value)
        lead = np.sign(value) * np.inf if truth != AT else 0.0
        found.append(case("exact", truth, decide(claim_id, part, exact=True), lead))
    return found


def _exact(value, level):
    return Estimate.exact(value, 7, "bands")


# -- initialisations -------------------------------------------------------------------------------


def initialisations(rng, claim_id="untrained_uniform", n=5, networks=4, bands=8):
    """Bands of untrained networks; those of one network have a common part."""
    # So that a test of known spread supports in 80 %: each part has to lie within the margin.
    se = find(claim_id).threshold / (1.96 + stats.norm.ppf((1 + 0.8 ** (1 / networks / bands)) / 2))
    spread = se * np.sqrt(n)
    found = []
    for name, draw in list(POPULATIONS.items())[:2]:
        common = np.repeat(draw(rng, (networks, 1, n)), bands, axis=1)
        values = np.sqrt(0.3) * common + np.sqrt(0.7) * draw(rng, (networks, bands, n))
        values = spread * values.reshape(-1, n)
        limits = functools.cache(functools.partial(mean_interval, values, unit="initialisations"))
        parts = [lambda level, i=i, f=limits: f(level)[i] for i in range(len(values))]
        found += cases(claim_id, parts, plain_se(values), spread / np.sqrt(n), name)
    return found


def controls(rng, n=24, k=5, bands=8):
    """Bands of one untrained network against the worth of its trained twin, which is measured too.

    The worth of a photograph scatters by half of its mean; initialisations by 1 or 5 % of it.
    """
    found, margin = [], find("untrained_uniform").threshold
    for scatter in (0.01, 0.05):
        worth = rng.gamma(4, 0.25, n)  # mean 1, standard deviation .5
        trained = {"net": np.tile(worth / bands, (bands, 1))}
        for name, truth, mean in (
            ("one part", AT, margin * np.eye(bands)[0]), ("all parts", AT, np.full(bands, margin)),
            ("all parts", SUPPORTED, np.zeros(bands)),
            ("one part", CONTRADICTED, margin * np.eye(bands)[0] + 3 * scatter * np.eye(bands)[0]),
        ):  # fmt: skip
            values = mean[:, None] + scatter * rng.normal(size=(bands, k))
            lead = min(
                lead_of(find("untrained_uniform"), row.mean() / worth.mean(), plain_se(row))
                for row in values
            )
            record = untrained_uniform({"net": values}, trained)
            found.append(case(f"{name}, scatter {scatter:g}", truth, record, lead))
    return found


# -- trainings and networks that saw the same photographs ------------------------------------------

# Scatter of trainings, or networks, in standard errors over photographs.
SCATTER = {"photographs only": 0.0, "both alike": 1.0, "hardly photographs": 4.0}


def scores_of(values):
    return resampled_scores([v[None] for v in values], lambda mean: mean[0])


def mean_of_trainings(rng, claim_id="jafr_high_gain", k=3, n=100, parts=1, noise=(1.0,)):
    """Differences of twins, or slopes over levels of label noise, seed by seed.

    noise: the levels, of which a seed's networks scatter the more, the more noise.
    """
    found, x = [], np.array(noise)
    weights = x if len(x) == 1 else (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    for name, scatter in SCATTER.items():
        limits, naive = [], []
        for _ in range(parts):
            # (k, levels, n): what photographs, seeds, and networks of both add
            own = np.sqrt(0.3) * rng.normal(size=(k, len(x), n))
            seeds = scatter / np.sqrt(n) * x[:, None] * rng.normal(size=(k, len(x), 1))
            values = weights @ (np.sqrt(0.7) * x[:, None] * rng.normal(size=n) + own + seeds)
            limits.append(over_seeds(scores_of(values), n))
            naive.append(plain_se(values.mean(0)))
        variance = 0.7 * (weights @ x) ** 2 + (weights**2 * (0.3 + (scatter * x) ** 2)).sum() / k
        found += cases(claim_id, limits, naive, np.sqrt(variance / n), name)
    return found


def groups_of_networks(rng, sizes, claim_id="transformers_more_robust", n=24):
    """Two groups; networks of the first scatter as much as, or four times as much as, those of the
    second, and photographs move the first group alone."""
    found = []
    for name, scatter in SCATTER.items():
        for ratio in (1.0, 4.0) if scatter else (1.0,):
            spreads = scatter / ratio, scatter
            of_image = np.sqrt(0.7) * rng.normal(size=n)
            first, second = (
                moves * of_image + np.sqrt(0.3) * rng.normal(size=(m, n))
                + s / np.sqrt(n) * rng.normal(size=(m, 1))
                for m, s, moves in zip(sizes, spreads[::-1], (1, 0), strict=True)
            )  # fmt: skip
            both = scores_of(np.concatenate([first, second]))
            limits = functools.partial(_groups, both[: sizes[0]], both[sizes[0] :], n)
            naive = plain_se(first.mean(0) - second.mean(0))
            own = sum((0.3 + s**2) / m for m, s in zip(sizes, spreads[::-1], strict=True))
            se = np.sqrt((0.7 + own) / n)
            found += cases(claim_id, [limits], [naive], se, f"{name}, {ratio:g}")
    return found


def _groups(first, second, n, level):
    return crossed_difference(first, second, n, level, "networks")


# -- correlations over networks --------------------------------------------------------------------

FAMILIES = np.repeat(range(7), [5, 4, 3, 3, 2, 2, 2])  # 21 networks
ALONE = np.arange(21)
# A tenth of the permutations of a report: .05 / 6 takes no more.
importlib.import_module("iaside.correlation").PERMUTATIONS = 1000
DESIGNS = {"designs alike": 0.0, "designs ordered": 0.95, "designs ordered against": -0.95}
STRONG = 0.97  # a coefficient so far on the claimed side hardly ever decides


def scores_of_networks(rng, rhos, of_designs, families, n=None, error=0.5):
    """A score of k networks, and a measure for each of rhos that goes with it so within designs;
    means of designs go with each other by `of_designs`. Each is (k, 1 + R) on n photographs, or
    (k,) where no photographs are drawn."""
    rhos = 2 * np.sin(np.pi / 6 * np.array(rhos))[:, None]  # Pearson's for Spearman's
    k = len(families)
    x, other = rng.normal(size=k), np.sqrt(0.8) * rng.normal(size=(1, k))
    ys = rhos * x + np.sqrt(1 - rhos**2) * (other + np.sqrt(0.2) * rng.normal(size=(len(rhos), k)))
    if families is not ALONE:
        of_x, of_y = rng.normal(size=(2, 7))
        of_y = of_designs * of_x + np.sqrt(1 - of_designs**2) * of_y
        x, ys = x + 2 * of_x[families], ys + 2 * of_y[families]
    true = np.concatenate([x[None], ys])
    if n is None:
        return true
    # Photographs move all networks alike, and each on its own.
    errors = rng.normal(size=(len(true), 1, n)) + rng.normal(size=(len(true), k, n))
    values = true[:, :, None] + error * np.sqrt(n / 2) * errors
    found = resampled_scores(list(values.transpose(1, 0, 2)), lambda mean: mean, 50)
    return found.transpose(1, 0, 2)


def correlations(rng, claim_id, verdict, families=FAMILIES, k=1, n=24, designs=DESIGNS, rho=0.0):
    """Spearman's coefficients over 21 networks, within 7 designs or of independent networks."""
    claim = find(claim_id)
    side = 0.0 if claim.kind == "null" else -STRONG
    effect = 0.8 * (-1 if claim.kind == "less" else 1)
    worlds = {
        ("one part", AT): [rho] + (k - 1) * [side],
        ("all parts", AT): k * [rho],
        ("all but one", AT): (k - 1) * [rho] + [side],
        ("all parts", SUPPORTED): k * [side if claim.kind == "null" else effect],
        ("one part", CONTRADICTED): [0.8] + (k - 1) * [side],
    }
    if k == 1:
        del worlds["one part", AT], worlds["all but one", AT]
    found = []
    for (which, truth), rhos in worlds.items():
        for name, of_designs in (designs if truth == AT else dict.fromkeys(["alike"], 0.0)).items():
            x, *ys = scores_of_networks(rng, rhos, of_designs, families, n)
            record = verdict(x, ys, families, n)
            plain = [spearman(x, y) for y in ys]
            lead = min(lead_of(claim, r, 1.06 / np.sqrt(21 - 3)) for r in plain)
            found.append(case(f"{which}, {name}", truth, record, lead))
    return found


def orders_of_losses(rng, networks=6, corruptions=15, resamples=20):
    """Predicted and measured losses, each of one quality of a network that decides all corruptions.
    """
    found, families = [], [str(i) for i in range(networks)]
    for truth, rho in ((AT, 0.0), (SUPPORTED, 0.8), (CONTRADICTED, -0.8)):
        quality = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], networks).T
        noise = 0.3 * rng.normal(size=(2, networks, corruptions, 1 + resamples))
        predicted, measured = quality[:, :, None, None] + noise
        r = stats.spearmanr(*quality)[0]
        lead = np.arctanh(np.clip(r, -0.999, 0.999)) * np.sqrt(networks * corruptions - 3)
        record = profile_predicts_loss(predicted, measured, families, n_images=24)
        found.append(case("one quality", truth, record, lead))
    return found


def sizes_of_profiles(rng, k=3, n=100):
    """Trainings whose profile differs in its size alone, the weakest bands tied or told apart."""
    found = []
    for name, means in (("tied", TIED), ("clear", CLEAR)):
        cells = {}
        for size in (0.3, 1.0):
            common = rng.normal(size=(len(means), n))
            cells[size] = [
                trained_profile(means * size + 0.05 * size * rng.normal(size=8), common, rng, seed)
                for seed in range(k)
            ]
        record = more_data_more_robust({"a": cells})
        found.append(case(name, AT, record, 0.0))
    return found


def trained_profile(means, common, rng, seed):
    values = means[:, None] + 0.5 * common + 0.5 * rng.normal(size=common.shape)
    worths = Worths({"log_likelihood": coalitions(len(means)).astype(float) @ values}, {})
    return Profile(str(seed), {"seed": seed, "architecture": "a"}, [1], {1: worths})


def _src_mce(x, ys, families, n):
    return src_mce(x, ys[0], families, n)


def _src_adversarial(x, ys, families, n):
    return src_adversarial(x, {str(i): y for i, y in enumerate(ys)}, families, n)


def _parameter_count(x, ys, families, n):
    return parameter_count(x, ys[0][:, 0], families, n)  # known without an error


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Over all networks, on the photographs as they are."""
    x, y = (v.reshape(len(v), -1)[:, 0].argsort().argsort() for v in (x, y))
    return np.corrcoef(x, y)[0, 1]


def best_of(rng, betas=(0.5, 0.75, 0.95)):
    """Betas that serve equally well: 0.75 is none the better. Power: 0.75 serves best, or least."""
    found, own = [], np.array(betas) == 0.75
    for truth, rhos in (
        (AT, np.full(len(betas), 0.6)),
        (SUPPORTED, np.where(own, 0.9, 0.2)),
        (CONTRADICTED, np.where(own, 0.2, 0.9)),
    ):
        x, *ys = scores_of_networks(rng, rhos, 0.0, FAMILIES[:12])
        record = beta_075_best(dict(zip(betas, ys, strict=True)), x, FAMILIES[:12])
        size = np.abs([spearman(x, y) for y in ys])
        lead = (size[own][0] - size[~own].max()) / (1.06 * np.sqrt(2 / 9))
        found.append(case("betas alike", truth, record, lead))
    return found


# -- the run ---------------------------------------------------------------------------------------

RULES: dict[str, Callable] = {
    "a mean over 24 photographs": mean_of_photographs,
    "a mean over 10 photographs": functools.partial(mean_of_photographs, n=10),
    "4 parts over photographs": functools.partial(
        mean_of_photographs, claim_id="low_bands_preferred", k=4, resamples=3200
    ),
    "2 x 2 readings, 10 photographs": readings_of_photographs,
    "a difference of two scores": two_scores,
    "4 distances, 12 photographs": distances,
    "12 distances, 24 photographs": functools.partial(
        distances, claim_id="m8_suffices", k=12, n=24, size=0.35
    ),
    "4 most unusual bands": unusual_bands,
    "4 indices of additivity": additive_games,
    "a correlation, 21 networks": functools.partial(
        correlations, claim_id="src_mce", verdict=_src_mce, families=ALONE,
        designs={"no designs": 0.0},
    ),
    "a correlation within 7 designs": functools.partial(
        correlations, claim_id="src_mce", verdict=_src_mce
    ),
    "6 correlations within designs": functools.partial(
        correlations, claim_id="src_adversarial", verdict=_src_adversarial, k=6, n=None,
        designs={"designs alike": 0.0},
    ),
    "a correlation within a margin": functools.partial(
        correlations, claim_id="parameter_count", verdict=_parameter_count, rho=0.3,
        designs={"designs alike": 0.0},
    ),
    "the best of 3 betas": best_of,
    "an exact number": exact_numbers,
    "right answers of 4 networks, 24 photographs": right_answers,
    "right answers of 12 networks, 10 photographs": functools.partial(right_answers, n=10, k=12),
    "32 parts of 5 initialisations": initialisations,
    "8 bands of 5 initialisations over a measured worth": controls,
    "orders of losses, 6 networks": orders_of_losses,
    "scores of trainings that differ in size": sizes_of_profiles,
    "a mean over 3 trainings": mean_of_trainings,
    "two parts, 3 trainings": functools.partial(
        mean_of_trainings, claim_id="jafr_mirrored", parts=2
    ),
    "two slopes, 3 trainings a level": functools.partial(
        mean_of_trainings, claim_id="noise_lowers_accuracy", parts=2, noise=np.linspace(0, 1, 6)
    ),
    "4 networks against 4": functools.partial(groups_of_networks, sizes=(4, 4)),
    "4 networks against 9": functools.partial(groups_of_networks, sizes=(4, 9)),
}  # fmt: skip


def run(task: tuple[str, range]) -> list[list[Case]]:
    name, seeds = task
    number = sum(map(ord, name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return [RULES[name](np.random.default_rng([number, seed])) for seed in seeds]


def summary(worlds: list[list[Case]]) -> dict:
    """Rate of false verdicts of the worst case with its limits; power, ours and that of the naive
    rule with its critical value raised; share of the decided that say they are close."""
    columns = list(zip(*worlds, strict=True))  # one per case
    at = [column for column in columns if column[0].truth == AT]
    false = [np.mean([c.verdict != UNDECIDED for c in column]) for column in at]
    worst = int(np.argmax(false))
    # The worst of many cases is partly bad luck: limits that hold for all of them at once.
    low, high = (float(x) for x in wilson(false[worst], len(worlds), 1 - RISK / len(at)))
    leads = [np.array([c.lead for c in column]) for column in at]
    raised = max(stats.norm.ppf(1 - RISK / 2), *(np.quantile(np.abs(x), 1 - RISK) for x in leads))
    power = {}
    for truth in (SUPPORTED, CONTRADICTED):
        sign = 1 if truth == SUPPORTED else -1
        those = [c for column in columns for c in column if c.truth == truth]
        if those:
            power[truth] = [
                float(np.mean([c.verdict == truth for c in those])),
                float(np.mean([sign * c.lead > raised for c in those])),
            ]
    decided = [c.close for column in columns for c in column if c.verdict != UNDECIDED]
    return {
        "rate": [float(false[worst]), low, high],
        "where": at[worst][0].name,
        "naive": float(max(np.mean(np.abs(x) > stats.norm.ppf(1 - RISK / 2)) for x in leads)),
        "raised": float(raised),
        "power": power,
        "close": float(np.mean(decided)) if decided else 0.0,
    }


def page(worlds: Mapping[str, list[list[Case]]], n_claims: int = 69, n_true: int = 9) -> dict:
    """Whole pages of claims, as `summary` gives a rule: of those that sit at their threshold, some
    *contradicted* survives Holm's correction; power: the share that survives of a few that are
    rightly contradicted (without it / with it).

    Page k takes world k of every rule in turn, and later worlds once all rules had their turn.
    """
    at, against = (
        [list(column) for found in worlds.values() for column in zip(*found, strict=True)
         if column[0].truth == truth]
        for truth in (AT, CONTRADICTED)
    )  # fmt: skip
    n = min(map(len, at))
    false, right, survived = 0, 0, 0
    for k in range(n):
        rows = [
            {"id": str(i), "verdict": c.verdict, "p": c.p}
            for i in range(n_claims)
            for columns in [at if i >= n_true else against]
            for c in [columns[i % len(columns)][(k + i // len(columns) * 37) % n]]
        ]
        kept = {int(name) for name in holm(rows, tried=n_claims)}
        false += any(i >= n_true for i in kept)
        right += sum(row["verdict"] == CONTRADICTED for row in rows[:n_true])
        survived += sum(i < n_true for i in kept)
    low, high = (float(x) for x in wilson(false / n, n))
    return {"rate": [false / n, low, high], "decided": right / n / n_true,
            "survived": survived / n / n_true}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=4000, help="of each rule")
    parser.add_argument("--rules", nargs="*", choices=RULES, default=list(RULES), metavar="NAME")
    parser.add_argument("--processes", type=int, default=2)
    a = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started now
    size = max(1, min(100, a.worlds // a.processes))
    found, false, powers = {}, {}, {}
    with ProcessPoolExecutor(a.processes, mp_context=get_context("spawn")) as pool:
        for name in a.rules:
            parts = [range(s, min(s + size, a.worlds)) for s in range(0, a.worlds, size)]
            found[name] = [w for part in pool.map(run, [(name, p) for p in parts]) for w in part]
            s = summary(found[name])
            false[name], powers[name] = s["rate"], s["power"]
            power = "; ".join(
                f"{truth} {ours:.2f} (naive {naive:.2f})"
                for truth, (ours, naive) in s["power"].items()
            )
            print(
                f"{name:32} {limits(s['rate']):22} {s['where']}; naive {s['naive']:.1%}, raised to "
                f"{s['raised']:.1f}; power: {power}; {s['close']:.0%} close", flush=True,
            )  # fmt: skip
    s = page(found)
    false["Holm over a page of 69"] = s["rate"]
    print(f"{'Holm over a page of 69':32} {limits(s['rate']):22} of 9 rightly contradicted "
          f"{s['survived']:.2f} survive, {s['decided']:.2f} without it")  # fmt: skip
    worst = max(rate for rate, _, _ in false.values())
    print(json.dumps({"false_verdicts": false, "worst": worst, "power": powers}))


def limits(rate: Sequence[float]) -> str:
    return "{:.1%} [{:.1%}, {:.1%}]".format(*rate)


if __name__ == "__main__":
    main()
