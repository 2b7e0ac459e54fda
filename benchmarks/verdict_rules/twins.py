"""Rules over twins: two trainings from the same weights, or that differ in one setting."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np

from iaside.tables import Condition
from iaside.training.plans import Profile
from iaside.verdicts import jafr, mend
from iaside.verdicts.rules import CONTRADICTED, SUPPORTED
from verdict_rules.networks import SCATTER
from verdict_rules.trainings import (
    CORRUPTIONS,
    K,
    M,
    N,
    of_trainings,
    of_two_profiles,
    trained,
    with_errors,
)
from verdict_rules.worlds import AT, World, of_draws


def study_of(twins: Mapping[str, list], conditions: Mapping[str, list]) -> SimpleNamespace:
    """What verdicts ask of `twins.Treatments`: pairs for each kind of training, one data set."""
    return SimpleNamespace(
        data_sets=[None],
        images="digits",
        title=str,
        conditions={None: conditions},
        groups={None: dict.fromkeys(c.source for c in CORRUPTIONS)},
        couples=lambda d, one, other: twins.get(one[0], twins.get("none")),
        best=lambda d, recommended: dict.fromkeys(twins, 0.01),
    )


def pair(seed: int, **of_first) -> tuple[Profile, Profile]:
    """Twins of which the second has 0 of everything."""
    nothing = {name: np.zeros_like(values) for name, values in of_first.items()}
    return trained(seed, **of_first), trained(seed, **nothing)


def gains_of_twins() -> list[World]:
    """Accuracy gained on the high corruptions."""

    def verdict(values):
        twins = {"none": [pair(s, under=row) for s, row in enumerate(values[0])]}
        return jafr.jafr_high_gain(study_of(twins, {jafr.HIGH: CORRUPTIONS[:1]}), [0.01])

    return of_trainings("jafr_high_gain", verdict, size=0.05)


def gains_and_losses() -> list[World]:
    """Accuracy gained on the low and lost on the high corruptions, the two parts of a claim."""

    def verdict(values):
        under = [np.stack([gain[0], -loss[0]]) for gain, loss in zip(*values, strict=True)]
        twins = {"none": [pair(s, under=rows) for s, rows in enumerate(under)]}
        asked = {jafr.LOW: CORRUPTIONS[:1], jafr.HIGH: CORRUPTIONS[1:2]}
        return jafr.jafr_mirrored(study_of(twins, asked), [0.01])

    return of_trainings("jafr_mirrored", verdict, parts=2, size=0.05)


def gains_of_fine_tunings() -> list[World]:
    """Accuracy gained by one remedy over another, from the same weights."""

    def verdict(values):
        return mend.targeted_beats_generic([mended(s, r) for s, r in enumerate(values[0])])

    return of_trainings("targeted_beats_generic", verdict, size=0.05)


def gains_over_two() -> list[World]:
    """Accuracy gained over no remedy, and over the same one elsewhere, the two parts of a claim."""

    def verdict(values):
        both = zip(*values, strict=True)
        return mend.penalty_mends([mended(s, *rows) for s, rows in enumerate(both)])

    return of_trainings("penalty_mends", verdict, parts=2, size=0.05)


def mended(seed: int, over: np.ndarray, over_another: np.ndarray | None = None) -> SimpleNamespace:
    """What verdicts ask of `remedies.Mending`: one deployment, gains (1, N) of every image."""
    gains = {"penalty_elsewhere": over_another}
    return SimpleNamespace(
        deployments=[Condition("fog")],
        provenance={"seed": seed, "architecture": "a"},
        gain=lambda arm, other, deployment, under: gains.get(other, over)[0],
    )


def gradients_of_twins() -> list[World]:
    """The bias of the gradient, in three kinds of training."""

    def verdict(values):
        twins = {
            kind: [pair(s, bias=row[0]) for s, row in enumerate(rows)]
            for kind, rows in zip(("none", "fgsm", "pgd"), values, strict=True)
        }
        return jafr.jafr_shifts_spectrum(study_of(twins, {}), [0.01])

    return of_trainings("jafr_shifts_spectrum", verdict, parts=3)


def wins_of_twins(k: int = 6) -> list[World]:
    """The share of 15 corruptions under which the first twin is the more accurate; trainings differ
    in one quality that helps, or not, under all of them."""
    asked = {jafr.ALL: CORRUPTIONS}

    def world(scatter, ahead):
        def draw(rng):
            twins, image = [], rng.normal(size=(2, 15, N))
            for seed in range(k):
                sides = []
                for side, by in enumerate((ahead, 0.0)):
                    quality = (scatter * rng.normal() + by) / np.sqrt(N)
                    under = np.sqrt(0.7) * image[side] + np.sqrt(0.3) * rng.normal(size=(15, N))
                    sides.append(trained(seed, under=quality + under))
                twins.append(tuple(sides))
            return jafr.jafr_over_pgd(study_of({"none": twins}, asked), [0.01])

        return draw

    return of_draws(
        "jafr_over_pgd",
        {(name, AT): world(scatter, 0.0) for name, scatter in SCATTER.items()}
        | {
            ("both alike", SUPPORTED): world(1.0, 4.0),
            ("both alike", CONTRADICTED): world(1.0, -4.0),
        },
    )


def scores_of_twins() -> list[World]:
    """The signed SRC of twins that differ in the size of their profile alone, or in its slope."""

    def world(means, other, scatter):
        def draw(rng):
            common = rng.normal(size=(2, M, N))
            twins = [
                tuple(
                    trained(seed, psi=with_errors(rng, m * (1 + scatter * rng.normal(size=M)), c))
                    for m, c in zip((means, other), common, strict=True)
                )
                for seed in range(K)
            ]
            return jafr.jafr_less_low_than_pgd(study_of({"none": twins}, {}), [0.01])

        return draw

    return of_draws("jafr_less_low_than_pgd", of_two_profiles(world))
