"""What every rule of the benchmark shares: worlds, where their parts lie, and how they scatter."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from iaside.estimate import best, coefficients, crossed, intervals
from iaside.verdicts import importance
from iaside.verdicts.rules import CONTRADICTED, RISK, SUPPORTED, find

AT = "at the threshold"  # truth of a world in which every decided verdict is false
FAR = 30  # standard errors: a part so far on the claimed side never decides
RESOLVED = 800  # resamples for each part: 20 in a tail of .05 / 2 / parts; reports take 20,000
MOST = 1600  # with more parts tails are moved out as Student's, as reports do at finer levels
PERMUTATIONS = 1000  # of networks; reports take 10,000


class World(NamedTuple):
    """One way in which the world can be: its name, what is true in it, and one draw of it: the
    record of the verdict, and how far its worst part lies on the claimed side in the naive rule's
    standard errors."""

    name: str
    truth: str
    draw: Callable[[np.random.Generator], tuple[Mapping, float]]


def with_fewer_resamples(parts: int) -> None:
    """From now on limits of this process rest on as many resamples as their levels take."""
    most = min(RESOLVED * parts, MOST)
    for function, n in (
        (intervals.at_levels, most),
        (intervals.distance_at_levels, most),
        (best.lead_at_levels, most),
        (crossed.resampled_scores, 200),
    ):
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        given = zip(names[-len(function.__defaults__) :], function.__defaults__, strict=True)
        function.__defaults__ = tuple(n if name == "n_resamples" else v for name, v in given)
    importance.N_RESAMPLES = most
    coefficients.PERMUTATIONS = PERMUTATIONS
    coefficients.orders.cache_clear()


# -- where parts lie -------------------------------------------------------------------------------


def places(claim_id: str, k: int, se: float, readings: bool = False) -> dict:
    """(which, truth) -> where each of k parts lies, (k,); se: the true standard error of a part.

    readings: the parts are readings, of which a verdict needs all.
    """
    claim = find(claim_id)
    effect, sign = effect_of(k) * se, -1 if claim.kind == "less" else 1
    null, at = claim.kind == "null", claim.threshold
    beyond = 0.0 if null else at + sign * FAR * se
    opposite = at + effect if null else at - sign * effect
    well = 0.0 if null else at + sign * effect
    found = {
        ("one part", AT): [at] + (k - 1) * [beyond],
        ("all parts", AT): k * [at],
        ("all but one", AT): (k - 1) * [at] + [beyond],
        ("all parts", SUPPORTED): k * [well],
        ("one part", CONTRADICTED): [opposite] + (k - 1) * [opposite if readings else beyond],
    }
    drop = (
        []
        if k > 2
        else [("all but one", AT)]
        if k == 2
        else [("all but one", AT), ("all parts", AT)]
    )
    return {key: np.array(by) for key, by in found.items() if key not in drop}


def of_means(
    claim_id: str,
    k: int,
    se: float,
    draw: Callable,
    verdict: Callable,
    name: str = "",
    readings: bool = False,
    naive: Callable | None = None,
    where: np.ndarray | float = 1.0,
) -> Iterator[World]:
    """Worlds of k parts whose means are moved to `places`.

    draw: a generator -> values (k, ..., n), each part of mean 0; verdict: values -> its record;
    naive: values -> estimates and standard errors of the parts (None: means and `plain_se`); where:
    what of a part is moved.
    """
    claim = find(claim_id)
    naive = naive or (lambda row: (row.mean(-1), plain_se(row)))
    for (which, truth), by in places(claim_id, k, se, readings).items():

        def one(rng, by=by):
            values = draw(rng)
            values = values + by.reshape(k, *(1,) * (values.ndim - 1)) * where
            return verdict(values), of_all(lead_of(claim, *naive(values)), readings)

        yield World(f"{which}, {name}" if name else which, truth, one)


def of_draws(claim_id: str, worlds: Mapping[tuple[str, str], Callable]) -> list[World]:
    """Worlds of (name, truth) -> a function from a generator to a record, whose own standard errors
    the naive rule takes."""
    claim = find(claim_id)

    def world(draw):
        def one(rng):
            record = draw(rng)
            return record, lead_of_record(claim, record)

        return one

    return [World(name, truth, world(draw)) for (name, truth), draw in worlds.items()]


@functools.cache
def effect_of(k: int, power: float = 0.8) -> float:
    """Standard errors that a test of known spread, at .05 / k, finds with that power."""
    return stats.norm.ppf(1 - RISK / k / 2) + stats.norm.ppf(power)


def spread_within(margin: float, k: int, power: float = 0.8) -> float:
    """The standard error at which a test of known spread puts all of k zeros inside a margin."""
    return margin / (1.96 + stats.norm.ppf((1 + power ** (1 / k)) / 2))


# -- the naive rule --------------------------------------------------------------------------------


def lead_of(claim, value, se):
    """How far numbers lie on the claimed side, in standard errors."""
    if claim.kind == "null":
        on_side = claim.threshold - np.abs(value)
    else:
        on_side = (value - claim.threshold) * (-1 if claim.kind == "less" else 1)
    se = np.asarray(se, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        sure = np.where(on_side == 0, 0.0, np.sign(on_side) * np.inf)
        return np.where(se > 0, on_side / se, sure)


def lead_of_record(claim, record: Mapping) -> float:
    """The lead of the worst part of a record; 0 of a part without a number or an error."""
    parts: dict[str, list[float]] = {}
    for row in record["parts"] or [record | {"part": ""}]:
        value, se = row["value"], row["se"]
        told = value is not None and se is not None and np.isfinite([value, se]).all()
        reading = ", ".join(row["part"].split(", ")[: len(claim.readings or ())])
        parts.setdefault(reading, []).append(float(lead_of(claim, value, se)) if told else 0.0)
    return of_all([min(leads) for leads in parts.values()], bool(claim.readings))


def of_all(leads: Sequence[float] | np.ndarray, readings: bool) -> float:
    """The lead of all parts: the least; of readings the least size, 0 where they disagree."""
    return max(min(leads), 0.0) or min(max(leads), 0.0) if readings else min(leads)


def plain_se(values: np.ndarray) -> np.ndarray:
    return values.std(-1, ddof=1) / np.sqrt(values.shape[-1])


# -- what is drawn ---------------------------------------------------------------------------------


def gamma(rng, shape):  # skewness 2, as of an exponential
    return rng.exponential(size=shape) - 1


def gamma_down(rng, shape):
    return -gamma(rng, shape)


def student(rng, shape):  # 3 degrees of freedom: as heavy a tail as has a variance
    return rng.standard_t(3, size=shape) / np.sqrt(3)


def answers(rng, shape):  # accuracy gained or lost, zero for seven photographs of ten
    return rng.choice([-1.0, 0.0, 1.0], size=shape, p=[0.15, 0.7, 0.15]) / np.sqrt(0.3)


def normal(rng, shape):
    return rng.normal(size=shape)


POPULATIONS = {"normal": normal, "skewed": gamma, "heavy-tailed": student, "answers": answers}
# Of one part either skew is the other's mirror image; of several, one side is the harder to tell.
BOTH_WAYS = {"normal": normal, "skewed": gamma, "skewed down": gamma_down}


def on_photographs(rng, draw: Callable, k: int, n: int, share: float) -> np.ndarray:
    """Deviations (k, n) of variance 1, of which parts have a share in common."""
    if draw is answers:  # of networks that agree on a share of the photographs
        return np.where(rng.random((k, n)) < share, draw(rng, (1, n)), draw(rng, (k, n)))
    return np.sqrt(share) * draw(rng, (1, n)) + np.sqrt(1 - share) * draw(rng, (k, n))
