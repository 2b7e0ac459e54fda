"""Rules over trainings: slopes over a factor, the course of a training, initialisations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np

from iaside.score import mean_score
from iaside.shapley import coalitions
from iaside.tables import Condition, Responses, Worths
from iaside.training.plans import Profile
from iaside.training.trends import learning, second_stage
from iaside.verdicts.data_size import more_data_more_robust
from iaside.verdicts.dynamics import low_bands_learnt_first, second_stage_tradeoff
from iaside.verdicts.importance import untrained_uniform
from iaside.verdicts.label_noise import (
    noise_less_robust_features,
    noise_lowers_accuracy,
    noise_more_uniform,
)
from iaside.verdicts.rules import CONTRADICTED, SUPPORTED, find
from verdict_rules.networks import SCATTER
from verdict_rules.worlds import (
    AT,
    BOTH_WAYS,
    World,
    lead_of,
    of_draws,
    of_means,
    plain_se,
    spread_within,
)

K, N = 3, 100  # trainings in a cell, photographs
# Mean values of six bands, as games of eight take too long.
TIED = np.array([3, 2, 1, 0.4, 0.1, 0.1])
CLEAR = np.array([3, 1.4, 1.2, 1, 0.7, -0.9])  # its weakest band is told apart
NOTHING_HIGH = np.array([3, 2, 1, 0, 0, 0.0])
OF_BOTH_SIGNS = np.array([3, 2, 1, -0.5, 0.5, -0.6])
OF_ENTROPY = {"tied": TIED, "clear": CLEAR}
OF_HIGH_PARTS = OF_ENTROPY | {"nothing high": NOTHING_HIGH, "of both signs": OF_BOTH_SIGNS}
UPWARDS = np.array([-1, -1, 0, 0, 1, 1.0])  # more and more to the high bands
EVENER = np.array([-1.2, 0.3, 0.3, 0.3, 0.5, 0])  # more and more alike
LESS_LOW = CLEAR * np.array([0.5, 1, 1, 1, 1, 1])
M = len(TIED)
NOISE = (0.0, 0.5, 1.0)  # levels of wrong labels
CORRUPTIONS = [Condition(f"c{i}", 1.0) for i in range(15)]


def of_two_profiles(world: Callable) -> dict:
    """Worlds of two kinds of training: profiles that differ in size alone, and in their slope."""
    return {
        ("tied, of two sizes", AT): world(0.3 * TIED, TIED, 0.05),
        ("clear, of two sizes", AT): world(0.5 * CLEAR, CLEAR, 0.05),
        ("clear, alike", AT): world(CLEAR, CLEAR, 0.1),
        ("clear", SUPPORTED): world(LESS_LOW, CLEAR, 0.02),
        ("clear", CONTRADICTED): world(CLEAR, LESS_LOW, 0.02),
    }


def trained(seed: int, psi=None, correct=None, bias=None, under=None) -> Profile:
    """A network of which is known: values (M, N) or, along epochs, (E, M, N); right answers (N,);
    the bias of its gradient (N,); right answers under corruptions (C, N)."""
    epochs, worths, answers, responses = [], {}, {}, None
    if psi is not None:
        along = psi if psi.ndim == 3 else psi[None]
        epochs = list(range(1, 1 + len(along)))
        games = coalitions(along.shape[1]).astype(float) @ along
        worths = {
            e: Worths({"log_likelihood": game}, {}) for e, game in zip(epochs, games, strict=True)
        }
    if correct is not None:
        answers["correct"] = np.atleast_2d(correct)
    if bias is not None:
        answers["bias"] = bias
    if under is not None:
        nothing = np.zeros((1, under.shape[1]))
        tables = {"correct": under}
        responses = Responses(CORRUPTIONS[: len(under)], tables, nothing, nothing[None], {})
    settings = {"seed": seed, "architecture": "a"}
    return Profile(f"{seed}", settings, epochs, worths, answers, responses)


def of_trainings(
    claim_id: str, verdict: Callable, parts: int = 1, levels=(1.0,), weights=(1.0,), size=1.0
) -> list[World]:
    """Numbers of each training and photograph, (parts, K, levels, N), of which the more scatter the
    higher the level; photographs and trainings share the scatter in several ways."""
    found, x, w = [], np.array(levels), np.array(weights)
    for name, scatter in SCATTER.items():

        def draw(rng, scatter=scatter):
            # What photographs, seeds, and networks of both add.
            shape = (parts, K, len(x), N)
            own = np.sqrt(0.3) * rng.normal(size=shape)
            seeds = scatter / np.sqrt(N) * x[:, None] * rng.normal(size=(*shape[:3], 1))
            common = np.sqrt(0.7) * x[:, None] * rng.normal(size=(parts, 1, 1, N))
            return size * (common + own + seeds)

        def naive(values):
            rows = w @ values.mean(1)
            return rows.mean(-1), plain_se(rows)

        variance = 0.7 * (w @ x) ** 2 + (w**2 * (0.3 + (scatter * x) ** 2)).sum() / K
        found += of_means(
            claim_id,
            parts,
            size * np.sqrt(variance / N),
            draw,
            verdict,
            name,
            naive=naive,
            where=(x / (w @ x))[:, None],
        )
    return found


def with_errors(rng, means, common) -> np.ndarray:
    """Values (M, N) of mean values (M,), of which photographs of networks share a half."""
    return means[:, None] + 0.5 * common + 0.5 * rng.normal(size=common.shape)


# -- slopes over a factor --------------------------------------------------------------------------


def slopes_of_accuracy() -> list[World]:
    """Held-out accuracy against six levels of label noise, in two architectures."""
    x = np.linspace(0, 1, 6)
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()

    def verdict(values):
        return noise_lowers_accuracy(
            {
                str(i): {
                    level: [trained(s, correct=rows[s, j]) for s in range(K)]
                    for j, level in enumerate(x)
                }
                for i, rows in enumerate(values)
            }
        )

    return of_trainings("noise_lowers_accuracy", verdict, parts=2, levels=x, weights=weights)


def of_levels(rng, means_of: Callable, scatter: float) -> dict:
    """Networks at three levels of label noise: level -> one of each seed. Their values are of a
    size each; a training moves each band by a share of that size."""
    common = rng.normal(size=(M, N))
    return {
        level: [
            trained(
                seed,
                psi=with_errors(
                    rng, size * (means_of(level) + scatter * rng.normal(size=M)), common
                ),
            )
            for seed in range(K)
        ]
        for level, size in zip(NOISE, SIZES, strict=True)
    }


SIZES = (1.0, 0.65, 0.3)  # of a profile, at each level


def slopes_of_bands(
    claim_id: str, verdict: Callable, profiles: Mapping, tilt: np.ndarray
) -> list[World]:
    """What a distribution over bands says, against label noise that makes a profile smaller alone,
    whose errors therefore weigh more and more."""

    def world(means, scatter, by=0.0):
        def draw(rng):
            return verdict({"a": of_levels(rng, lambda x: means + by * x * tilt, scatter)})

        return draw

    found = {
        (f"{name}, {of_scatter}", AT): world(means, scatter)
        for name, means in profiles.items()
        for of_scatter, scatter in (("trainings alike", 0.01), ("trainings differ", 0.1))
    }
    found["clear", SUPPORTED] = world(CLEAR, 0.05, 1.0)
    found["clear", CONTRADICTED] = world(CLEAR + tilt, 0.05, -1.0)
    return of_draws(claim_id, found)


def slopes_of_entropy() -> list[World]:
    return slopes_of_bands("noise_more_uniform", noise_more_uniform, OF_ENTROPY, EVENER)


def slopes_of_high_parts() -> list[World]:
    return slopes_of_bands(
        "noise_less_robust_features", noise_less_robust_features, OF_HIGH_PARTS, UPWARDS
    )


def sizes_of_profiles() -> list[World]:
    """Trainings whose profile differs in its size alone, the weakest bands tied or told apart."""

    def world(first, last, scatter):
        def draw(rng):
            cells = {}
            for share, means in ((0.3, first), (1.0, last)):
                common = rng.normal(size=(M, N))
                cells[share] = [
                    trained(
                        seed,
                        psi=with_errors(rng, means * (1 + scatter * rng.normal(size=M)), common),
                    )
                    for seed in range(K)
                ]
            return more_data_more_robust({"a": cells})

        return draw

    return of_draws("more_data_more_robust", of_two_profiles(world))


# -- the course of a training ----------------------------------------------------------------------

NO_ORDER = np.array([1, 1, 0, 0, 1, 1])  # in two steps: Spearman's rho is 0


def orders_of_learning(epochs: int = 6) -> list[World]:
    """When bands reach half of their final value: in an order of each training's own, in one that
    goes with nothing, or from low to high. Bands that are learnt at once are told apart by what
    trainings scatter, or by what photographs do, which all trainings share.

    Trainings of two opposite orders, each in half of them, have a mean of 0, too, and are left
    out: three are alike in a quarter of cases, and no rule that three alike convince holds 5 %.
    """

    def world(order, late=1.0, scatter=0.2, of_images=0.0):
        def draw(rng):
            common, delays = rng.normal(size=(2, M, N))
            networks = []
            for seed in range(K):
                places = rng.permutation(M) if order is None else order
                half = 1.5 + 3 * late * places / places.max() + scatter * rng.normal(size=M)
                half = half[:, None] + of_images * delays
                share = 1 / (1 + np.exp(2 * (half - np.arange(1, 1 + epochs)[:, None, None])))
                psi = share * with_errors(rng, np.full(M, 1.0), common)
                networks.append(trained(seed, psi=psi + 0.1 * rng.normal(size=psi.shape)))
            courses = {p.name: learning(p) for p in networks}
            return low_bands_learnt_first({"a": networks}, courses)

        return draw

    return of_draws(
        "low_bands_learnt_first",
        {
            ("an order each", AT): world(None),
            ("an order of no kind", AT): world(NO_ORDER),
            ("all at once", AT): world(NO_ORDER, 0.0),
            ("all at once, both alike", AT): world(NO_ORDER, 0.0, 0.05, 0.5),
            ("all at once, photographs only", AT): world(NO_ORDER, 0.0, 0.0, 0.5),
            ("from low to high", SUPPORTED): world(np.arange(M)),
            ("from high to low", CONTRADICTED): world(np.arange(M)[::-1]),
        },
    )


def second_stages(epochs: int = 5) -> list[World]:
    """The fall of the signed SRC, and the rise of accuracy, after the epoch of the highest SRC."""
    flat = CLEAR * np.array([0.7, 1, 1, 1, 1, 1])

    def world(fall, rise):
        def draw(rng):
            networks, common, right = [], rng.normal(size=(M, N)), rng.random(N)
            for seed in range(K):
                share = np.linspace(0, fall, epochs)[:, None]
                means = (1 - share) * CLEAR + share * flat
                moved = means * (1 + 0.01 * rng.normal(size=M))
                psi = np.stack([with_errors(rng, m, common) for m in moved])
                reach = 0.5 + 0.3 * rise * np.linspace(0, 1, epochs)[:, None] + 0.01 * rng.normal()
                own = np.where(rng.random(N) < 0.7, right, rng.random((epochs, N)))
                networks.append(trained(seed, psi=psi, correct=own < reach))
            stage = second_stage(
                [
                    np.stack([w.table[1 << np.arange(M)] for w in p.worths.values()])
                    for p in networks
                ],
                [p.answers["correct"] for p in networks],
                np.arange(N),
                mean_score(),
                n_resamples=100,
            )
            return second_stage_tradeoff({"a": networks}, stage)

        return draw

    return of_draws(
        "second_stage_tradeoff",
        {
            ("no fall", AT): world(0.0, 1.0),
            ("no rise", AT): world(1.0, 0.0),
            ("neither", AT): world(0.0, 0.0),
            ("both", SUPPORTED): world(1.0, 1.0),
            ("accuracy falls", CONTRADICTED): world(1.0, -1.0),
        },
    )


# -- initialisations -------------------------------------------------------------------------------


def initialisations(n=5, networks=4, bands=8) -> list[World]:
    """Bands of untrained networks; those of one network have a common part."""
    k = networks * bands
    spread, found = spread_within(find("untrained_uniform").threshold, k) * np.sqrt(n), []
    trained_twins = {str(i): np.full((bands, 24), 1 / bands) for i in range(networks)}

    def verdict(values):
        nets = values.reshape(networks, bands, n)
        return untrained_uniform({str(i): net for i, net in enumerate(nets)}, trained_twins)

    for name, population in BOTH_WAYS.items():

        def draw(rng, population=population):
            common = np.repeat(population(rng, (networks, 1, n)), bands, axis=1)
            own = population(rng, (networks, bands, n))
            return spread * (np.sqrt(0.3) * common + np.sqrt(0.7) * own).reshape(-1, n)

        se = spread / np.sqrt(n)
        found += of_means("untrained_uniform", k, se, draw, verdict, name)
    return found


def controls(n=24, k=5, bands=8) -> list[World]:
    """Bands of one untrained network against the worth of its trained twin, which is measured too.

    The worth of a photograph scatters by half of its mean; initialisations by 1 or 5 % of it.
    """
    claim, first = find("untrained_uniform"), np.eye(bands)[0]
    found, margin = [], claim.threshold

    def one(rng, scatter, mean):
        worth = rng.gamma(4, 0.25, n)  # mean 1, standard deviation .5
        values = mean[:, None] + scatter * rng.normal(size=(bands, k))
        leads = lead_of(claim, values.mean(1) / worth.mean(), plain_se(values))
        record = untrained_uniform({"net": values}, {"net": np.tile(worth / bands, (bands, 1))})
        return record, min(leads)

    for scatter in (0.01, 0.05):
        for name, truth, mean in (
            ("one part", AT, margin * first),
            ("all parts", AT, np.full(bands, margin)),
            ("all parts", SUPPORTED, np.zeros(bands)),
            ("one part", CONTRADICTED, (margin + 3 * scatter) * first),
        ):
            draw = functools.partial(one, scatter=scatter, mean=mean)
            found.append(World(f"{name}, scatter {scatter:g}", truth, draw))
    return found
