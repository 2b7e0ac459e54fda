"""Tables of the reports on trained networks: 70_label_noise, 72_dynamics, 73_data_size, 75_jafr."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from iaside.estimate.estimate import Estimate
from iaside.score import spectral_importance
from iaside.study.pages.common import columns
from iaside.training.plans import Profile
from iaside.training.trends import Score, game

Levels = Mapping[float, Sequence[Profile]]  # what networks differ in -> the trainings of it


def score_rows(
    found: Mapping[str, Levels], scores: Mapping[str, Score], factor: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each score at each level of a factor: means over trainings with limits; and single networks.

    found: architecture -> levels. The frames have a column for the factor, `family` and `what`.
    """
    rows, dots = [], []
    for what, score in scores.items():
        for f, levels in found.items():
            for x, some in levels.items():
                row = {factor: x, "family": f, "what": what}
                dots += [row | {"value": v} for v in score.each(some)[:, 0]]
                i = score.mean(some)(0.95)
                about = {"networks": len(some), "text": i.limits()}
                rows.append(row | about | columns("value", i))
    names = [factor, "family", "what"]
    means = pd.DataFrame(
        rows, columns=[*names, "networks", "text", "value", "value_low", "value_high"]
    )
    return means, pd.DataFrame(dots, columns=[*names, "value"])


def sid_rows(some: Sequence[Profile], **about: object) -> list[dict]:
    """The SID of some trainings with limits over trainings and photographs: a row a band."""
    rows = []
    for b in range(len(game(some[0]))):
        sid = Score(game, lambda mean, b=b: spectral_importance(mean)[b]).mean(some)(0.95)
        rows.append(about | {"band": b} | columns("sid", sid.within(0, 1)))
    return rows


def value_rows(some: Sequence[Profile], **about: object) -> list[dict]:
    """Shapley values of some trainings with limits, and the SID of their mean: a row a band."""
    shares = spectral_importance(np.mean([game(p).mean(1) for p in some], 0))
    rows = []
    for b, share in enumerate(shares):
        psi = Score(game, lambda mean, b=b: mean[b]).mean(some)(0.95)
        rows.append(about | {"band": b, "sid": share} | columns("psi", psi))
    return rows


def log_ranges(groups: Mapping[str, Sequence[Profile]], logged: Mapping[str, str]) -> pd.DataFrame:
    """What logs hold of each epoch: means over trainings, and their range.

    logged: column of the logs -> what it is called.
    """
    none = pd.DataFrame(columns=["epoch", "group", *logged])
    logs = [pd.DataFrame(p.log).assign(group=g) for g, some in groups.items() for p in some]
    long = pd.concat(logs or [none]).melt(["group", "epoch"], list(logged), "what", "value")
    by = long.replace({"what": logged}).groupby(["what", "group", "epoch"], sort=False)
    ranges = by["value"].agg(["mean", "min", "max"]).reset_index()
    names = {"mean": "value", "min": "value_low", "max": "value_high"}
    return ranges.rename(columns=names)


def flat(changes: Mapping[str, Mapping[str, Mapping[str, Estimate]]], spec: str) -> pd.DataFrame:
    """Changes of each architecture, score and way to compare as a table: a column an architecture.

    >>> one = Estimate(0.1, 0.01, 0.0, 0.2, 3, "pairs")
    >>> flat({"cnn": {"SRC": {"rise": one}}}, "+.1f").index.tolist()
    ['SRC, rise']
    """
    return pd.DataFrame(
        {
            f: {f"{s}, {what}": f"{i:{spec}}" for s, both in of.items() for what, i in both.items()}
            for f, of in changes.items()
        }
    )


def jafr_rows(
    found: Mapping[tuple, Estimate], name: str, label: Mapping, kinds: Mapping
) -> Iterable:
    """Rows (data set, row) of a table keyed by data set, kind of training, strength and more."""
    for (d, k, s, *under), i in found.items():
        row = {"training": kinds[k], "penalty": label[s], "strength": s, "kind": k}
        yield d, row | ({"under": under[0]} if under else {}) | columns(name, i)
