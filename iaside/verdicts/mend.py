"""Verdicts on remedies: what a fine-tuning gains at the deployment that was diagnosed.

trainings: what was done to each trained network, which differ in their seed (and architecture:
then a verdict is on the mean over these, seed by seed). None where there is no training.
"""

from __future__ import annotations

from collections.abc import Sequence

from iaside.estimate.crossed import resampled_scores
from iaside.estimate.resampling import Levels
from iaside.training.pairs import share_limits
from iaside.training.remedies import ARMS, ELSEWHERE, Mending
from iaside.training.trends import over_seeds, seed_rows
from iaside.verdicts.rules import decide

Trainings = Sequence[Mending]
TARGETED, GENERIC, PENALTY = "augmentation", "adversarial", "penalty"  # the arms that decide


def targeted_beats_generic(trainings: Trainings, data: str = "") -> dict | None:
    """Judge whether noise in the diagnosed band gains more than PGD training, by deployment."""
    parts = {
        name: gain(trainings, TARGETED, GENERIC, d) for d, name in enumerate(deployments(trainings))
    }
    return decide("targeted_beats_generic", parts, data=data) if parts else None


def penalty_mends(trainings: Trainings, data: str = "") -> dict | None:
    """Judge whether a penalty on the diagnosed band gains more than none, and than elsewhere."""
    parts = {
        f"{name}, against {ARMS[other]}": gain(trainings, PENALTY, other, d)
        for d, name in enumerate(deployments(trainings))
        for other in ("none", PENALTY + ELSEWHERE)
    }
    return decide("penalty_mends", parts, data=data) if parts else None


def deployments(trainings: Trainings) -> list[str]:
    """The names of the deployments, the same of all trainings. Errors: ValueError where not."""
    found = [[c.source for c in m.deployments] for m in trainings]
    if any(names != found[0] for names in found):
        raise ValueError(f"trainings were mended for different deployments: {found}; mend all anew")
    return found[0] if found else []


def gain(
    trainings: Trainings, arm: str, other: str, deployment: int, under: int | None = None
) -> Levels:
    """Accuracy of one arm minus that of another, the mean over trainings, paired over images.

    Arguments as of `Mending.gain`.
    """
    rows = [m.gain(arm, other, deployment, under) for m in trainings]
    n = len(rows[0])
    scores = resampled_scores([row[None] for row in rows], lambda mean: mean[0])
    about = [m.provenance for m in trainings]
    index = seed_rows([p["seed"] for p in about], [p["architecture"] for p in about])
    limits = over_seeds(scores[index].mean(1), n)
    return lambda level: share_limits(limits(level), n, level, -1)
