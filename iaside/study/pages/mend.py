"""Tables of 86_mend_report: what each remedy gained, where, and what it cost."""

from __future__ import annotations

import pandas as pd

from iaside.estimate.estimate import Estimate
from iaside.study.pages.common import columns
from iaside.training.remedies import ARMS
from iaside.verdicts.mend import Trainings, deployments, gain

CLEAN = -1  # in the place of a deployment


def gains(trainings: Trainings, other: str = "none") -> dict[tuple[str, str, str], Estimate]:
    """What every arm gains over another, in accuracy: (deployment, arm, asked about) -> Estimate.

    Asked about: the deployment that was diagnosed, the one that changes pictures farthest from
    where it does, and clean images.
    """
    found = {}
    for d, name in enumerate(deployments(trainings)):
        opposite = trainings[0].opposite(d)
        about = {"the deployment": d, "the opposite one": opposite, "clean images": CLEAN}
        if opposite == d:
            del about["the opposite one"]
        for arm in ARMS:
            if arm != other:
                for words, under in about.items():
                    found[name, arm, words] = gain(trainings, arm, other, d, under)(0.95)
    return found


def gain_rows(found: dict[tuple[str, str, str], Estimate]) -> pd.DataFrame:
    """`gains` as rows for figures: `deployment`, `arm`, `asked about`, `gain` and its limits."""
    return pd.DataFrame(
        {"deployment": d, "arm": ARMS[arm], "asked about": words} | columns("gain", e)
        for (d, arm, words), e in found.items()
    )


def diagnosis_rows(trainings: Trainings) -> pd.DataFrame:
    """Where each deployment damages each network: a row for each pair of them."""
    rows = []
    for m in trainings:
        for d, condition in enumerate(m.deployments):
            damage = m.damage[d]
            rows.append(
                {
                    "network": m.provenance["network"],
                    "deployment": condition.source,
                    "band": int(m.band[d]),
                    "damage (nats)": damage[m.band[d]],
                    "another band": int(m.elsewhere[d]),
                    "its damage": damage[m.elsewhere[d]],
                    "all bands": damage.sum(),
                    "accuracy before": m.before[1 + d].mean(),
                    "clean accuracy": m.before[0].mean(),
                }
            )
    return pd.DataFrame(rows)


def cost_rows(trainings: Trainings) -> pd.DataFrame:
    """What each arm takes: images forward and gradients back, the mean over trainings."""
    first = trainings[0]
    mean = sum(m.passes.mean(1) for m in trainings) / len(trainings)
    table = pd.DataFrame(mean, index=list(ARMS.values()), columns=["passes", "gradients"])
    game = first.provenance["diagnosis_passes"]
    table.loc["the diagnosis"] = [game, 0]
    return table.round().astype(int)
