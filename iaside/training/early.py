"""What a profile early in training says of the trade that the network ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from iaside.backend.content import by_content
from iaside.estimate.crossed import resampled_scores
from iaside.estimate.families import family_means
from iaside.shapley import shapley_values
from iaside.tables import CORRUPTIONS
from iaside.training.pairs import change_centroid, frequency_groups, share_right
from iaside.training.plans import Profile
from iaside.training.trends import high_part

FIFTH = 0.2  # of the epochs


def early_epoch(epochs: Sequence[int], share: float = FIFTH) -> int | None:
    """The last checkpoint within a share of the training, None where there is none before the end.

    epochs: of the checkpoints, in ascending order, the last one final.

    >>> early_epoch([1, 2, 3, 4, 5, 6]), early_epoch([2, 4, 6, 8, 10]), early_epoch([5, 10])
    (1, 2, None)
    """
    early = [e for e in epochs[:-1] if e <= share * epochs[-1]]
    return early[-1] if early else None


def leaning(mean: ArrayLike) -> np.ndarray:
    """How far band values lean to the low bands: 1 where the upper half has no part of sum |psi|,
    -1 where it has all. Mean values (M, ...) -> (...).

    >>> leaning([2.0, 1.0, 0.0, -1.0])
    np.float64(0.5)
    """
    return 1 - 2 * high_part(mean)


@by_content
class Early(NamedTuple):
    """Networks that have an early checkpoint and answers to corruptions, K of them."""

    names: list[str]
    kinds: list[str]  # of training: networks that differ in their seed are of one
    epochs: list[int]  # of the early checkpoint
    leaning: np.ndarray  # (K, 1 + R), of the early profile
    trade: np.ndarray  # (K, 1 + R), accuracy lost under low corruptions minus under high ones
    groups: dict[str, str]  # corruption -> low, middle or high
    n_images: int

    def of_kinds(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Each kind of training, and the mean of both numbers over its networks."""
        means = (family_means(v, self.kinds) for v in (self.leaning, self.trade))
        return list(dict.fromkeys(self.kinds)), *means


def early_signs(profiles: Mapping[str, Profile], images: str | None = None) -> Early | None:
    """Read the leaning a fifth of the way, and the final trade, off the networks of one data set.

    images: what their plans say of the data set. None where fewer than two networks have both.
    """
    some = {
        name: (p, epoch)
        for name, p in profiles.items()
        if p.settings["images"] == images
        and p.responses is not None
        and (epoch := early_epoch(p.epochs)) is not None
    }
    if len(some) < 2:
        return None
    first = next(iter(some.values()))[0].responses
    asked = [c for c in CORRUPTIONS if first.rows(c)]
    groups = frequency_groups({c: float(change_centroid(first, c).value) for c in asked})
    low, high = (
        [c for c in first.conditions if groups.get(c.source) == group] for group in ("low", "high")
    )
    if not low or not high:
        return None
    values = [shapley_values(p.worths[epoch].table) for p, epoch in some.values()]
    trades = [
        (share_right(p.responses, high) - share_right(p.responses, low))[None]
        for p, _ in some.values()
    ]
    return Early(
        list(some),
        [name.rpartition("-seed")[0] for name in some],
        [epoch for _, epoch in some.values()],
        resampled_scores(values, leaning),
        resampled_scores(trades, lambda mean: mean[0]),
        groups,
        values[0].shape[1],
    )
