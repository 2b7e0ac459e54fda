"""Rules over photographs: means, ratios of means, right answers, readings, games."""

from __future__ import annotations

import functools
import itertools

import numpy as np
from scipy.optimize import brentq

from iaside.estimate.estimate import Estimate
from iaside.shapley import non_additivity
from iaside.verdicts import attribution, resolution
from iaside.verdicts.architecture import shufflenet_adversarial
from iaside.verdicts.attribution import PUBLISHED_GAIN, fampe
from iaside.verdicts.bands import esd_power_law
from iaside.verdicts.importance import (
    least_squares_additive,
    least_squares_efficient,
    low_bands_preferred,
    low_frequencies_not_enough,
    value_is_information,
)
from iaside.verdicts.rules import CONTRADICTED, SUPPORTED, decide, find
from iaside.verdicts.snr import snr_decays, snr_power_law
from verdict_rules.worlds import (
    AT,
    BOTH_WAYS,
    POPULATIONS,
    World,
    effect_of,
    lead_of,
    normal,
    of_draws,
    of_means,
    on_photographs,
    places,
    plain_se,
    spread_within,
)

READINGS = list(itertools.product(("gradient", "update"), ("pixel", "channel")))
OTHERS = ("attexplore", "saliency", "big")
# At the threshold readings may be one and the same: that a verdict needs them all then saves none.
ALIKE = 1.0


# -- means -----------------------------------------------------------------------------------------


def a_mean(n: int) -> list[World]:
    def verdict(values):
        return snr_power_law({"a": values}) if n > 15 else esd_power_law(values[0])

    return [
        world
        for name, draw in POPULATIONS.items()
        for world in of_means(
            "snr_power_law" if n > 15 else "esd_power_law",
            1,
            1 / np.sqrt(n),
            functools.partial(on_photographs, draw=draw, k=1, n=n, share=0),
            verdict,
            name,
        )
    ]


def parts_of_means(k: int = 4, n: int = 24) -> list[World]:
    """Perturbations of the same photographs."""

    def verdict(values):
        return snr_decays({str(i): row[None] for i, row in enumerate(values)})

    return [
        world
        for name, draw in (BOTH_WAYS | POPULATIONS).items()
        if name != "answers"
        for world in of_means(
            "snr_decays",
            k,
            1 / np.sqrt(n),
            functools.partial(on_photographs, draw=draw, k=k, n=n, share=0.5),
            verdict,
            name,
        )
    ]


def means_within_a_margin(k: int = 4, n: int = 24) -> list[World]:
    """Answers to the empty image, over the prior of 10 classes."""
    se, prior = spread_within(find("value_is_information").threshold, k), np.log(10)

    def verdict(values):
        nets = {str(i): prior * (row - 1) for i, row in enumerate(values)}
        return value_is_information(nets, dict.fromkeys(nets, 10))

    return [
        world
        for name, draw in BOTH_WAYS.items()
        for world in of_means(
            "value_is_information",
            k,
            se,
            lambda rng, draw=draw: se * np.sqrt(n) * on_photographs(rng, draw, k, n, 0.5),
            verdict,
            name,
        )
    ]


def means_of_draws(k: int = 4, n: int = 12) -> list[World]:
    """L1 distances from sampled coalitions, each a sum of eight errors without their signs."""
    mean, spread = 8 * np.sqrt(2 / np.pi), np.sqrt(8 * (1 - 2 / np.pi))
    se = 0.01

    def draw(rng):
        return se * np.sqrt(n) * (np.abs(rng.normal(size=(k, n, 8))).sum(2) - mean) / spread

    def verdict(values):
        nets = {str(i): row for i, row in enumerate(values)}
        return resolution.sampling_inaccurate(nets, n_images=24)

    return list(of_means("sampling_inaccurate", k, se, draw, verdict))


# -- ratios of means -------------------------------------------------------------------------------


def worth(rng, shape) -> np.ndarray:
    """v(all) - v(none) of photographs: mean 1, standard deviation .5."""
    return rng.gamma(4, 0.25, shape)


def shares_of_worth(k: int = 4, n: int = 24) -> list[World]:
    """What the low bands of networks are worth more than the high ones, over v(all) - v(none)."""
    se = 0.1

    def verdict(values):
        gain, lean = values[:, 0], values[:, 1]
        return low_bands_preferred(
            {
                str(i): np.stack([(w + d) / 2, (w - d) / 2])
                for i, (w, d) in enumerate(zip(gain, lean, strict=True))
            }
        )

    return _ratios("low_bands_preferred", k, se, n, verdict)


def shares_within_a_margin(k: int = 4, n: int = 24) -> list[World]:
    """What the sum of least-squares values of two bands misses of the worth of both."""
    se = spread_within(find("least_squares_efficient").threshold, k)

    def verdict(values):
        return least_squares_efficient(
            {
                str(i): np.stack([0 * w, (w + 3 * d) / 2, (w + 3 * d) / 2, w])
                for i, (w, d) in enumerate(values)
            }
        )

    return _ratios("least_squares_efficient", k, se, n, verdict)


def _ratios(claim_id, k, se, n, verdict) -> list[World]:
    """The mean of one row over that of a measured worth, of which networks share half."""
    claim, found = find(claim_id), []
    for name, draw in BOTH_WAYS.items():
        for (which, truth), by in places(claim_id, k, se).items():

            def one(rng, by=by, draw=draw):
                gain = (worth(rng, (1, n)) + worth(rng, (k, n))) / 2
                lean = se * np.sqrt(n) * on_photographs(rng, draw, k, n, 0.5) + by[:, None]
                shares = lean.mean(1) / gain.mean(1)
                naive = plain_se((lean - shares[:, None] * gain) / gain.mean(1)[:, None])
                leads = lead_of(claim, shares, naive)
                return verdict(np.stack([gain, lean], 1)), leads.min()

            found.append(World(f"{which}, {name}", truth, one))
    return found


def relative_changes(k: int = 2, n: int = 24, others: int = 2) -> list[World]:
    """How much attacks change one network less than others, each over its clean probability."""
    se = 0.1

    def verdict(values):
        return shufflenet_adversarial({str(i): list(rows) for i, rows in enumerate(values)})

    def world(by, draw_from):
        def draw(rng):
            clean = rng.uniform(0.4, 1.6, (k, 1 + others, n))
            own = se * np.sqrt(n) * draw_from(rng, (k, 1 + others, n))
            change = clean * (0.5 + 0.2 * rng.normal(size=n)) + own
            change[:, 0] += by[:, None]
            return verdict(np.stack([change, clean], 2))

        return draw

    return of_draws(
        "shufflenet_adversarial",
        {
            (f"{which}, {name}", truth): world(by, population)
            for name, population in BOTH_WAYS.items()
            for (which, truth), by in places("shufflenet_adversarial", k, 1.2 * se).items()
        },
    )


def gains_in_percent(n: int = 10, networks: int = 2) -> list[World]:
    """By how many percent a method scores higher, in all readings within a margin of 13.02."""
    se = spread_within(find("fampe_gain_13").threshold, 1)

    def world(by, share, draw_from):
        def draw(rng):
            base = rng.uniform(0.3, 0.7, (networks, n))
            noise = se * np.sqrt(n) * on_photographs(rng, draw_from, len(READINGS), n, share)
            rows = {}
            for reading, move, own in zip(READINGS, by, noise, strict=True):
                gain = (1 + (PUBLISHED_GAIN + move) / 100) * base + own / 100 * 0.5
                rows[reading] = {fampe(0.1): gain, "attexplore": base}
            return attribution.fampe_gain_13(rows)

        return draw

    found = places("fampe_gain_13", len(READINGS), se, readings=True)
    return of_draws(
        "fampe_gain_13",
        {
            (f"{which}, {name}, {share:.0%} shared", truth): world(by, share, population)
            for name, population in BOTH_WAYS.items()
            for (which, truth), by in found.items()
            for share in (0.7, 0.95, ALIKE)
            if truth == AT or share < ALIKE
        },
    )


# -- readings of attribution methods ---------------------------------------------------------------


def readings(n: int = 10) -> list[World]:
    """2 x 2 readings of one claim on the same photographs; a verdict needs all of them."""

    def verdict(values):
        return attribution.fampe_over_attexplore(
            {
                reading: {fampe(0.1): row[None], "attexplore": np.zeros((1, n))}
                for reading, row in zip(READINGS, values, strict=True)
            }
        )

    return [
        world
        for name, draw in list(POPULATIONS.items())[:3]
        for share in (0.7, ALIKE)
        for world in of_means(
            "fampe_over_attexplore",
            4,
            1 / np.sqrt(n),
            functools.partial(on_photographs, draw=draw, k=4, n=n, share=share),
            verdict,
            f"{name}, {share:.0%} shared",
            readings=True,
        )
        if share < ALIKE or (world.truth == AT and world.name.startswith("all parts"))
    ]


def readings_of_parts(n: int = 10) -> list[World]:
    """2 x 2 readings of a claim against three other methods, its parts."""
    k = len(OTHERS)

    def world(by, draw_from=normal, alike=False):
        def draw(rng):
            own = on_photographs(rng, draw_from, len(READINGS) * k, n, 0.9).reshape(-1, k, n)
            own = np.broadcast_to(own[:1], own.shape) if alike else own
            return attribution.fampe_best(
                {
                    reading: {fampe(0.1): np.zeros((1, n))}
                    | {
                        other: -(row + b)[None]
                        for other, row, b in zip(OTHERS, rows, by, strict=True)
                    }
                    for reading, rows in zip(READINGS, own, strict=True)
                },
                OTHERS,
            )

        return draw

    found = places("fampe_best", k, 1 / np.sqrt(n))
    worlds = {key: world(by) for key, by in found.items()}
    worlds |= {
        (f"{which}, {name}, readings alike", truth): world(by, draw_from, alike=True)
        for (which, truth), by in found.items()
        for name, draw_from in BOTH_WAYS.items()
        if truth == AT
    }
    return of_draws("fampe_best", worlds)


def the_best_cell(n: int = 8, cells: int = 30) -> list[World]:
    """The best of a grid of cells against the mean of all, which are alike; nothing contradicts.

    Or they are alike but that ten of them scatter twice as much.
    """
    up = effect_of(cells) / np.sqrt(n)
    unequal = np.repeat([2.0, 1.0], [10, cells - 10])[:, None]

    def world(by, draw_from, alike, scatter=1.0):
        def draw(rng):
            own = on_photographs(rng, draw_from, len(READINGS) * cells, n, 0.5)
            own = own.reshape(len(READINGS), cells, n)
            own = np.broadcast_to(own[:1], own.shape) if alike else own
            rows = scatter * own + by * np.eye(cells)[0][:, None]
            return attribution.fampe_cutoff_grid(dict(zip(READINGS, rows, strict=True)))

        return draw

    populations = BOTH_WAYS | {"heavy-tailed": POPULATIONS["heavy-tailed"]}
    worlds = {
        (f"{name}, readings alike" if alike else name, truth): world(by, draw, alike)
        for name, draw in populations.items()
        for truth, by, alike in ((AT, 0.0, False), (AT, 0.0, True), (SUPPORTED, up, False))
    }
    worlds |= {
        (f"{name}, spreads unequal, readings alike", AT): world(0.0, draw, True, unequal)
        for name, draw in BOTH_WAYS.items()
    }
    return of_draws("fampe_cutoff_grid", worlds)


def order_of_photographs(n: int = 24) -> list[World]:
    """Spearman's coefficient over photographs, in all readings."""

    def world(rho):
        def draw(rng):
            x = rng.normal(size=(1, n))
            y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=x.shape)
            rows = {
                reading: {fampe(0.1): y + 0.3 * rng.normal(size=y.shape), fampe(0.9): 0 * y}
                for reading in READINGS
            }
            return attribution.importance_predicts_alpha(rows, {"net": x[0]})

        return draw

    return of_draws(
        "importance_predicts_alpha",
        {
            ("one part", AT): world(0),
            ("one part", SUPPORTED): world(0.7),
            ("one part", CONTRADICTED): world(-0.7),
        },
    )


# -- right answers ---------------------------------------------------------------------------------


def right_answers(n: int = 24, k: int = 4) -> list[World]:
    """k networks that lose as many right answers as they win, on a share of the photographs."""
    claim, found = find("low_frequencies_not_enough"), []
    for share in (0.3, 0.6, 1.0):
        for which, truth, at, lost in (
            ("one part", AT, 1, 0.5),
            ("all parts", AT, k, 0.5),
            ("all parts", SUPPORTED, k, 0.9),
            ("one part", CONTRADICTED, 1, 0.1),
        ):

            def one(rng, share=share, at=at, lost=lost):
                tables, leads = {}, []
                for i in range(k):
                    differs = rng.random(n) < (share if i < at else 1.0)
                    whole = np.where(differs, rng.random(n) < (lost if i < at else 1.0), True)
                    part = np.where(differs, ~whole, True)
                    tables[str(i)] = np.stack([whole, part, whole, whole]).astype(float)
                    change = tables[str(i)][3] - tables[str(i)][1]
                    leads.append(lead_of(claim, change.mean(), plain_se(change)))
                record = low_frequencies_not_enough(tables, dict.fromkeys(tables, 1))
                return record, min(leads)

            found.append(World(f"{which}, {share:.0%} differ", truth, one))
    return found


# -- games -----------------------------------------------------------------------------------------


def additive_games(k: int = 4, n: int = 24) -> list[World]:
    """What sums of three bands' values miss of the probabilities of all coalitions."""
    claim = find("least_squares_additive")
    x = np.array([[i >> band & 1 for band in range(3)] for i in range(8)], dtype=float)
    sums, all_three = x @ [0.4, 0.25, 0.15], x.prod(1) - x.sum(1) / 3

    def game(share):
        def off(by):
            return float(non_additivity(sums + by * all_three)) - share

        return sums + brentq(off, 0, 20) * all_three if share else sums

    inside, at, out = game(0.005), game(claim.threshold), game(2 * claim.threshold)

    def world(games):
        def draw(rng):
            # Photographs differ in how much they gain, and in each coalition.
            noise = 0.4 * rng.normal(size=(k, 1, n)) * x.mean(1)[:, None]
            noise = noise + 0.1 * rng.normal(size=(k, 8, n)) * (x.sum(1) > 0)[:, None]
            return least_squares_additive(
                {str(i): g[:, None] + e for i, (g, e) in enumerate(zip(games, noise, strict=True))}
            )

        return draw

    return of_draws(
        "least_squares_additive",
        {
            ("one part", AT): world([at] + (k - 1) * [inside]),
            ("all parts", AT): world(k * [at]),
            ("all but one", AT): world((k - 1) * [at] + [inside]),
            ("all parts", SUPPORTED): world(k * [inside]),
            ("one part", CONTRADICTED): world([out] + (k - 1) * [inside]),
        },
    )


def exact_numbers() -> list[World]:
    """A number without an error, at the threshold and a little off it."""

    def world(value):
        def draw(rng):
            e = Estimate.exact(find("src_prefers_low").threshold + value, 7, "bands")
            return decide("src_prefers_low", lambda level: e, exact=True), np.sign(value) * np.inf

        return draw

    return [
        World("exact", AT, lambda rng: (world(0.0)(rng)[0], 0.0)),
        World("exact", SUPPORTED, world(1e-9)),
        World("exact", CONTRADICTED, world(-1e-9)),
    ]
