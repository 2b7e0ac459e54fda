"""Rules over networks: coefficients within and between designs, groups, clusters, predictions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from iaside.estimate.crossed import resampled_scores
from iaside.score import spectral_importance
from iaside.training.early import Early
from iaside.verdicts.architecture import (
    parameter_count,
    silhouette,
    transformers_cluster,
    transformers_more_robust,
)
from iaside.verdicts.correlation import (
    beta_075_best,
    robust_features_robust_models,
    src_adversarial,
    src_mce,
)
from iaside.verdicts.dynamics import tradeoffs_early
from iaside.verdicts.match import profile_beats_score, profile_predicts_loss
from iaside.verdicts.rules import CONTRADICTED, SUPPORTED, find
from verdict_rules.profiles import MEANS, profiles
from verdict_rules.worlds import AT, World, lead_of, of_all, of_draws, of_means, plain_se

FAMILIES = np.repeat(range(7), [5, 4, 3, 3, 2, 2, 2])  # 21 networks
ALONE = np.arange(21)
# How networks without a correlation depend: by designs, or as scatter grows with the score.
UNEVEN = {"scatter uneven": {"uneven": True}}
NO_DESIGNS = {"no designs": {}} | UNEVEN
ALIKE = {"designs alike": {}} | UNEVEN
ORDERED = {
    "designs ordered": {"of_designs": 0.95},
    "designs ordered against": {"of_designs": -0.95},
}
DESIGNS = ALIKE | ORDERED
PLAIN_SE = 1.06 / np.sqrt(21 - 3)  # of a coefficient over as many independent networks
FOLD = 1.5  # spreads below the mean from which on the printed score is that of the opposite
STRONG = 0.97  # a coefficient so far on the claimed side hardly ever decides
# Scatter of trainings, or networks, in standard errors over photographs.
SCATTER = {"photographs only": 0.0, "both alike": 1.0, "hardly photographs": 4.0}


# -- coefficients ----------------------------------------------------------------------------------


def scores_of_networks(rng, rhos, families, n=None, of_designs=0.0, uneven=False, error=0.5):
    """A score of k networks, and a measure for each of rhos that goes with it so within designs;
    means of designs go with each other by `of_designs`; uneven: a measure scatters in proportion to
    the score. Each is (k, 1 + R) on n photographs, or (k,) where no photographs are drawn."""
    rhos = 2 * np.sin(np.pi / 6 * np.array(rhos))[:, None]  # Pearson's for Spearman's
    k = len(families)
    x, other = rng.normal(size=k), np.sqrt(0.8) * rng.normal(size=(1, k))
    ys = rhos * x + np.sqrt(1 - rhos**2) * (other + np.sqrt(0.2) * rng.normal(size=(len(rhos), k)))
    if uneven:
        ys = ys * np.abs(x)
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


def correlations(
    claim_id: str,
    verdict: Callable,
    families=FAMILIES,
    k=1,
    n: int | None = 24,
    designs=DESIGNS,
    rho: float = 0.0,
    printed: Callable = lambda x: x,
) -> list[World]:
    """Spearman's coefficients over 21 networks, within 7 designs or of independent networks.

    printed: the score as printed, of the signed one; a verdict needs both.
    """
    claim = find(claim_id)
    side = 0.0 if claim.kind == "null" else -STRONG
    effect = 0.8 * (-1 if claim.kind == "less" else 1)
    worlds = {
        ("one part", AT): [rho] + (k - 1) * [side],
        ("all parts", AT): k * [rho],
        ("all but one", AT): (k - 1) * [rho] + [side],
        ("all parts", SUPPORTED): k * [side if claim.kind == "null" else effect],
        ("one part", CONTRADICTED): [-0.8 if claim.kind == "greater" else 0.8] + (k - 1) * [side],
    }
    if k == 1:
        del worlds["one part", AT], worlds["all but one", AT]
    found = []
    for (which, truth), rhos in worlds.items():
        for name, how in (designs if truth == AT else {"alike": {}}).items():

            def one(rng, rhos=rhos, how=how):
                x, *ys = scores_of_networks(rng, rhos, families, n, **how)
                plain = np.array([[spearman(score, y) for y in ys] for score in (printed(x), x)])
                leads = lead_of(claim, plain, PLAIN_SE).min(1)
                return verdict(x, ys, families, n), of_all(leads, readings=True)

            found.append(World(f"{which}, {name}", truth, one))
    return found


def with_mce(x, ys, families, n):
    """Of networks that all lean to low bands: the printed score is the signed one."""
    return src_mce(x, x, ys[0], families, n)


def folded_scores() -> list[World]:
    """Some networks lean to high bands, which the printed score takes for the opposite: a few; or
    half of them, so that the printed score says nothing where the signed one says all."""

    def folded(fold, **how):
        def printed(x):
            return np.abs(x + fold)

        def verdict(x, ys, families, n):
            return src_mce(printed(x), x, ys[0], families, n)

        return correlations("src_mce", verdict, ALONE, printed=printed, **how)

    half = [
        world
        for rho in (-STRONG, STRONG)
        for world in folded(0.0, rho=rho, designs={f"half folded, signed {rho:g}": {}})
        if world.truth == AT
    ]
    return folded(FOLD, designs=NO_DESIGNS) + half


def with_attacks(x, ys, families, n):
    return src_adversarial(x, x, {str(i): y for i, y in enumerate(ys)}, families, n)


def with_parameters(x, ys, families, n):
    return parameter_count(x, ys[0][:, 0], families, n)  # known without an error


def with_kinds(x, ys, families, n):
    """Of kinds of training with one network each."""
    kinds = [str(f) for f in families]
    return tradeoffs_early(Early(kinds, kinds, [1] * len(kinds), x, ys[0], {}, n))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Over all networks, on the photographs as they are."""
    x, y = (v.reshape(len(v), -1)[:, 0].argsort().argsort() for v in (x, y))
    return np.corrcoef(x, y)[0, 1]


def given_accuracy() -> list[World]:
    """A coefficient within designs, of two scores that both go with the accuracy."""

    def world(rho, **how):
        def draw(rng):
            x, y = scores_of_networks(rng, [rho], FAMILIES, **how)
            accuracy = rng.normal(size=len(FAMILIES))
            return robust_features_robust_models(
                x + 0.75 * accuracy, y + 0.75 * accuracy, accuracy, FAMILIES
            )

        return draw

    return of_draws(
        "robust_features_robust_models",
        {
            **{(name, AT): world(0.0, **how) for name, how in DESIGNS.items()},
            ("designs alike", SUPPORTED): world(-0.8),
            ("designs alike", CONTRADICTED): world(0.8),
        },
    )


def best_of(betas=(0.5, 0.75, 0.95)) -> list[World]:
    """Betas that serve equally well: 0.75 is none the better. Power: 0.75 serves best, or least."""
    claim, own, families = find("beta_075_best"), np.array(betas) == 0.75, FAMILIES[:9]

    def world(rhos):
        def one(rng):
            x, *ys = scores_of_networks(rng, rhos, families)
            size = np.abs([spearman(x, y) for y in ys])
            lead = (size[own][0] - size[~own].max()) / (1.06 * np.sqrt(2 / 6))
            record = beta_075_best(dict(zip(betas, ys, strict=True)), x, families)
            return record, lead_of(claim, lead, 1.0)

        return one

    return [
        World("betas alike", truth, world(rhos))
        for truth, rhos in (
            (AT, np.full(len(betas), 0.6)),
            (SUPPORTED, np.where(own, 0.9, 0.2)),
            (CONTRADICTED, np.where(own, 0.2, 0.9)),
        )
    ]


# -- predictions -----------------------------------------------------------------------------------


def orders_of_losses(networks=6, corruptions=12, resamples=20) -> list[World]:
    """Predicted and measured losses, each of one quality of a network that decides all."""
    families = [str(i) for i in range(networks)]

    def world(rho):
        def one(rng):
            quality = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], networks).T
            noise = 0.3 * rng.normal(size=(2, networks, corruptions, 1 + resamples))
            predicted, measured = quality[:, :, None, None] + noise
            r = spearman(*quality)
            lead = np.arctanh(np.clip(r, -0.999, 0.999)) * np.sqrt(networks * corruptions - 3)
            return profile_predicts_loss(predicted, measured, families, n_images=24), lead

        return one

    return [
        World("one quality", truth, world(rho))
        for truth, rho in ((AT, 0.0), (SUPPORTED, 0.8), (CONTRADICTED, -0.8))
    ]


def orders_against_a_rival(networks=6, corruptions=12, resamples=20) -> list[World]:
    """A prediction and a rival of equal merit: neither goes with the losses, or both do alike."""
    families = [str(i) for i in range(networks)]

    def world(own, other):
        def draw(rng):
            quality = rng.normal(size=networks)
            guesses = [
                rho * quality + np.sqrt(1 - rho**2) * rng.normal(size=networks)
                for rho in (own, other)
            ]
            noise = 0.3 * rng.normal(size=(3, networks, 1, 1 + resamples))
            predicted, rival = (g[:, None, None] + e for g, e in zip(guesses, noise, strict=False))
            measured = (
                quality[:, None, None]
                + noise[2]
                + 0.3 * rng.normal(size=(networks, corruptions, 1 + resamples))
            )
            predicted = np.repeat(predicted, corruptions, axis=1)
            return profile_beats_score(predicted, measured, -rival[:, 0], families, n_images=24)

        return draw

    return of_draws(
        "profile_beats_score",
        {
            ("neither predicts", AT): world(0.0, 0.0),
            ("both predict alike", AT): world(0.7, 0.7),
            ("one part", SUPPORTED): world(0.95, 0.0),
            ("one part", CONTRADICTED): world(0.0, 0.95),
        },
    )


# -- groups of networks ----------------------------------------------------------------------------


def groups_of_networks(sizes, n: int = 24) -> list[World]:
    """Two groups; networks of the first scatter as much as, or four times as much as, those of the
    second, and photographs move the first group alone. Scores move so little that they are linear
    in what moves them."""
    found, base, small = [], np.array([1.0, 0.5, 0.0]), 0.01
    names = [[f"{side}{i}" for i in range(m)] for side, m in zip("ab", sizes, strict=True)]
    families = {name: name for side in names for name in side}
    first_alone = np.repeat([1.0, 0.0], sizes)[:, None]
    for name, scatter in SCATTER.items():
        for ratio in (1.0, 4.0) if scatter else (1.0,):
            spreads = scatter, scatter / ratio

            def draw(rng, spreads=spreads):
                of_image = np.sqrt(0.7) * rng.normal(size=n)
                return np.concatenate(
                    [
                        moves * of_image
                        + np.sqrt(0.3) * rng.normal(size=(m, n))
                        + s / np.sqrt(n) * rng.normal(size=(m, 1))
                        for m, s, moves in zip(sizes, spreads, (1, 0), strict=True)
                    ]
                )[None]

            def verdict(values):
                psi = base[:, None] + small * np.eye(3)[0][:, None] * values[0][:, None]
                sides = np.split(psi, [sizes[0]])
                return transformers_more_robust(
                    *(
                        dict(zip(own, side, strict=True))
                        for own, side in zip(names, sides, strict=True)
                    ),
                    families,
                )

            def naive(values):
                gap = values[:, : sizes[0]].mean(1) - values[:, sizes[0] :].mean(1)
                return gap.mean(-1), plain_se(gap)

            own = sum((0.3 + s**2) / m for m, s in zip(sizes, spreads, strict=True))
            se = np.sqrt((0.7 + own) / n)
            found += of_means(
                "transformers_more_robust",
                1,
                se,
                draw,
                verdict,
                f"{name}, {ratio:g}",
                naive=naive,
                where=first_alone,
            )
    return found


def clusters(sizes=(4, 9), n: int = 24) -> list[World]:
    """Transformers that lie no closer to each other than to ConvNets: all of one population, alike
    or different, or twice as scattered and so far off that the mean silhouette is 0."""
    names = [[f"{side}{i}" for i in range(m)] for side, m in zip("ab", sizes, strict=True)]
    families = {name: name for side in names for name in side}
    off = np.array([0, 1, -1, 0.5, 0, 0, 0, 0])

    def networks(rng, scatter, apart, r=None):
        """True mean values of both groups, (networks, 8) or (networks, 8, r)."""
        shape = () if r is None else (r,)
        wide = (slice(None), *(None for _ in shape))
        return [
            (MEANS + by * off)[wide] + 0.2 * s * MEANS[wide] * rng.normal(size=(m, 8, *shape))
            for m, s, by in zip(sizes, scatter, (apart, 0.0), strict=True)
        ]

    def mean_silhouette(apart, scatter):
        groups = networks(np.random.default_rng(0), scatter, apart, 2000)
        sids = [np.stack([spectral_importance(psi) for psi in group]) for group in groups]
        return silhouette(*sids).mean()

    far = brentq(lambda apart: mean_silhouette(apart, (2, 1)), 0, 3)

    def world(scatter, apart):
        def draw(rng):
            groups = networks(rng, scatter, apart)
            noise = np.split(0.3 * profiles(rng, n, sum(sizes)), [sizes[0]])
            sides = [
                {name: psi[:, None] + e for name, psi, e in zip(own, group, errors, strict=True)}
                for own, group, errors in zip(names, groups, noise, strict=True)
            ]
            return transformers_cluster(*sides, families)

        return draw

    return of_draws(
        "transformers_cluster",
        {
            ("networks alike", AT): world((0, 0), 0),
            ("networks differ", AT): world((1, 1), 0),
            ("scattered and apart", AT): world((2, 1), far),
            ("close and apart", SUPPORTED): world((0.5, 1), 1.0),
            ("scattered", CONTRADICTED): world((3, 0.5), 0),
        },
    )
