"""Trends along a factor of training or along its epochs, with intervals for few networks.

A number about trained networks has two sources of uncertainty: other seeds would have given other
networks, and other photographs other numbers for the same networks. The intervals here cover both;
with fewer than three trainings there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from iaside.backend.content import by_content
from iaside.estimate.coefficients import EXACT, coefficient, orders, share_as_far
from iaside.estimate.crossed import crossed_mean, resampled_scores
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval, mean_interval
from iaside.estimate.resampling import Levels
from iaside.estimate.shares import entropy
from iaside.score import mean_score, no_sid, spectral_importance
from iaside.shapley import shapley_values
from iaside.training.plans import FACTORS, SHARED, Profile

Cells = Mapping[float, Sequence[Profile]]  # the value of a factor -> networks that have it
MIN_BANDS = 4  # with fewer bands any order of them is likely


def families(profiles: Mapping[str, Profile], factor: str) -> dict[str, dict]:
    """Networks that differ in one factor and their seed only: family -> value -> its profiles.

    Families of a single value are left out. A family is called by its architecture, its images
    and the settings its plan has for itself, of these what is not the study's.

    Errors: ValueError for an unknown factor.

    >>> from iaside.training.plans import networks
    >>> made = networks({"a": {"architecture": "small_cnn", "noise": [0.4, 0], "seed": [0, 1]}})
    >>> found = families({n: Profile(n, settings) for n, settings in made.items()}, "noise")
    >>> {name: {x: len(p) for x, p in values.items()} for name, values in found.items()}
    {'small_cnn': {0.0: 2, 0.4: 2}}
    """
    if factor not in FACTORS:
        raise ValueError(f"{factor!r} is no factor; the factors are {', '.join(FACTORS)}")
    found: dict[str, dict] = {}
    for profile in profiles.values():
        of = profile.settings
        fixed = set(FACTORS) - {"architecture", "images", "seed", factor}
        if any(of[name] != FACTORS[name] for name in fixed):
            continue
        own = [f"{name} {of[name]}" for name in SHARED if name in of and name != "every"]
        images = [Path(of["images"]).stem] if of["images"] else []
        values = found.setdefault(", ".join([of["architecture"], *images, *own]), {})
        values.setdefault(of[factor], []).append(profile)
    return {name: dict(sorted(values.items())) for name, values in found.items() if len(values) > 1}


def seed_rows(seeds: Sequence[int], cells: Sequence[Hashable]) -> np.ndarray:
    """Return which of K networks have a seed in common, one of each cell: (S, C) indices.

    seeds, cells: of each network, K each; cells are what differs otherwise (levels of a factor,
    architectures), in the order in which they come. Seeds that some cell lacks are left out.

    Networks of one seed begin with the same weights and see images in the same order. What differs
    between cells is therefore taken seed by seed, and S of these differences are S draws whatever
    each cell scatters by.
    Errors: ValueError for two networks of one seed and cell.
    Source: docs/methods.md, Verdicts (the unit is the training).

    >>> seed_rows([0, 1, 2, 0, 1], ["a", "a", "a", "b", "b"]).tolist()
    [[0, 3], [1, 4]]
    """
    names = list(dict.fromkeys(cells))
    at: dict = {}
    for k, (seed, cell) in enumerate(zip(seeds, cells, strict=True)):
        if (seed, cell) in at:
            raise ValueError(f"two networks have seed {seed} in cell {cell!r}; give one of them")
        at[seed, cell] = k
    shared = [s for s in dict.fromkeys(seeds) if all((s, cell) in at for cell in names)]
    rows = [[at[s, cell] for cell in names] for s in shared]
    return np.array(rows, dtype=int).reshape(len(shared), len(names))


def over_seeds(scores: ArrayLike, n_images: int) -> Levels:
    """`crossed.crossed_mean` of scores (S, 1 + R), one row per seed, as a function of the level.

    No seed has no mean: NaN.

    >>> print(over_seeds(np.zeros((0, 9)), 24)(0.95))
    none, n = 0 trainings
    """
    if not len(scores):
        return lambda level: Estimate.unsure(np.nan, 0, "trainings")
    return partial(crossed_mean, scores, n_images)


def over_groups(groups: Mapping[str, Sequence[Profile]], scores: ArrayLike) -> np.ndarray:
    """The mean over groups (architectures) of scores of all their networks, seed by seed.

    Shapes: scores (K, 1 + R), networks in the order of the groups; returns (S, 1 + R).
    """
    seeds = [p.settings["seed"] for some in groups.values() for p in some]
    rows = seed_rows(seeds, [name for name, some in groups.items() for _ in some])
    return np.asarray(scores, dtype=float)[rows].mean(1)


@dataclass(frozen=True)
class Score:
    """A number of each network: of which values per photograph, and which statistic of their means.

    values: a profile -> (M, N);  statistic: mean values (M, R) -> (R,). What its methods return
    are functions of the level, with limits over trainings (Student's with one degree of freedom
    less than there are) and over photographs (`crossed.crossed_mean`).

    >>> correct = [np.eye(1, 9), np.ones((1, 9)), np.ones((1, 9))]
    >>> networks = [Profile(str(k), {"seed": k}, answers={"correct": c}) for k, c in
    ...             enumerate(correct)]
    >>> print(ACCURACY.mean(networks)(0.95))
    0.70 [-0.57, 1.98], n = 3 trainings
    """

    values: Callable[[Profile], np.ndarray]
    statistic: Callable[[np.ndarray], np.ndarray]

    def each(self, networks: Sequence[Profile]) -> np.ndarray:
        """The score of K networks on the photographs and on resamples of them, (K, 1 + R)."""
        return resampled_scores([self.values(p) for p in networks], self.statistic)

    def mean(self, networks: Sequence[Profile]) -> Levels:
        """The mean over networks that differ in their seed only."""
        return partial(crossed_mean, self.each(networks), self._n_images(networks))

    def slope(self, cells: Cells) -> Levels:
        """The least-squares slope against the numbers that name the cells, seed by seed.

        Errors: ValueError for fewer than two cells.
        """
        x = np.array(list(cells), dtype=float)
        if len(x) < 2:
            raise ValueError(f"a slope needs at least two different x, got {x.tolist()}")
        return self._contrast(cells, (x - x.mean()) / ((x - x.mean()) ** 2).sum())

    def rise(self, cells: Cells) -> Levels:
        """The score in the last of the cells minus that in the first, seed by seed.

        Errors: ValueError for fewer than two cells.
        """
        if len(cells) < 2:
            raise ValueError(f"a difference needs two cells, got {list(cells)}")
        ends = [list(cells.items())[k] for k in (0, -1)]
        return self._contrast(dict(ends), [-1, 1])

    def _contrast(self, cells: Cells, weights: ArrayLike) -> Levels:
        networks = [p for some in cells.values() for p in some]
        of = [cell for cell, some in cells.items() for _ in some]
        rows = seed_rows([p.settings["seed"] for p in networks], of)
        scores = np.einsum("c,scr->sr", np.asarray(weights, float), self.each(networks)[rows])
        return over_seeds(scores, self._n_images(networks))

    def _n_images(self, networks: Sequence[Profile]) -> int:
        return self.values(networks[0]).shape[-1]


def game(profile: Profile) -> np.ndarray:
    """The Shapley values of a final network, (M, N)."""
    return shapley_values(profile.final.table)


def signed_src(beta: float = 0.75) -> Score:
    """The signed SRC of final networks, above 0 for low bands (`score.robustness_score`)."""
    return Score(game, mean_score(beta, "signed"))


def high_part(mean: ArrayLike) -> np.ndarray:
    """The part of sum |psi| that the upper half of the bands has; mean values (M, ...) -> (...).

    >>> high_part([2.0, 1.0, 0.0, -1.0])
    np.float64(0.25)
    """
    size = np.abs(mean)
    return size[-(len(size) // 2) :].sum(0) / size.sum(0)


def unclear(networks: Iterable[Profile]) -> str:
    """Why scores of networks are biased, in words: not all show which band is the weakest.

    "" where all do (`score.no_sid`). Networks whose profile is only larger would else seem to have
    another score.

    >>> from iaside.tables import Worths
    >>> even = Worths({"log_likelihood": np.eye(8, 9)}, {})
    >>> unclear([Profile("a", {}, [1], {1: even})])
    'which band is the weakest is not clear in 1 of 1 networks'
    """
    untold = [bool(no_sid(game(p))) for p in networks]
    said = f"which band is the weakest is not clear in {sum(untold)} of {len(untold)} networks"
    return said if any(untold) else ""


ACCURACY = Score(lambda p: p.answers["correct"][-1][None], lambda mean: mean[0])
WORTH = Score(game, lambda mean: mean.sum(0))
ENTROPY = Score(game, lambda mean: entropy(spectral_importance(mean)))
HIGH = Score(game, high_part)


def worth_of_all(networks: Sequence[Profile]) -> Estimate:
    """v(all) - v(none) of the mean of these very networks, with limits over photographs.

    Where it does not lie above 0 a distribution over bands is noise, and cannot be read.
    """
    return interval(np.mean([game(p).sum(0) for p in networks], 0)[None], lambda mean: mean[0])


def readable(cells: Cells) -> Cells:
    """The cells in which the networks know something that a distribution can share out.

    See `worth_of_all`.
    """
    return {x: some for x, some in cells.items() if worth_of_all(some).low > 0}


# -- along the epochs of one network ---------------------------------------------------------------


def half_epochs(epochs: ArrayLike, values: ArrayLike) -> np.ndarray:
    """Return the epoch at which each band first reaches half of its final value.

    Between checkpoints values are taken to run straight, and from 0 at epoch 0: to an untrained
    network no band is worth anything. Otherwise bands that pass their half between the same two
    checkpoints could not be told apart.

    Shapes: epochs (E,), increasing from above 0; values (E, M, ...), the last being final; returns
    (M, ...), NaN for bands whose final value is not above 0: nothing was learnt of them.
    Errors: ValueError for fewer than two epochs or epochs that do not increase from above 0.
    Source: Luo et al. 2023, Sec. 4.3, Fig. 6 (which bands are learnt first), as a number.

    >>> half_epochs([2, 4], [[3.0, 1.0, 0.0], [4.0, 4.0, -1.0]]).round(2).tolist()
    [1.33, 2.67, nan]
    """
    epochs, values = np.asarray(epochs, dtype=float), np.asarray(values, dtype=float)
    if len(epochs) < 2 or epochs[0] <= 0 or (np.diff(epochs) <= 0).any():
        raise ValueError(f"two or more epochs that increase from above 0 are needed, got {epochs}")
    epochs = np.concatenate([[0.0], epochs])
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.concatenate([np.zeros_like(values[:1]), values]) / np.where(
            values[-1] > 0, values[-1], np.nan
        )
    after = (share >= 0.5).argmax(0)  # 0 where all is NaN
    before = np.maximum(after - 1, 0)
    low, high = (np.take_along_axis(share, k[None], 0)[0] for k in (before, after))
    with np.errstate(invalid="ignore"):
        return epochs[before] + (0.5 - low) / (high - low) * (epochs[after] - epochs[before])


def order_learnt(epochs: ArrayLike, values: ArrayLike, learnt: ArrayLike) -> np.ndarray:
    """Return Spearman's rho of band index with the epoch of `half_epochs`: above 0, low ones first.

    Shapes: epochs (E,), values (E, M, R), learnt (M,) bool, the bands that are worth something in
    the end; returns (R,), NaN for fewer than four such bands. One whose final value is not above 0
    in some column counts there as the last one learnt.

    >>> values = np.array([[4, 3, 2, 1], [4, 4, 4, 4]])[:, :, None]
    >>> order_learnt([1, 2], values, np.ones(4, bool)).round(6)
    array([1.])
    """
    bands, half = np.flatnonzero(learnt), half_epochs(epochs, values)
    if len(bands) < MIN_BANDS:
        return np.full(half.shape[1], np.nan)
    half = np.where(np.isnan(half), np.inf, half)[bands].T
    return coefficient(np.broadcast_to(bands, half.shape), half, method="spearman")


@by_content
class Learning(NamedTuple):
    """How one network came to its bands: (E, M, N) values, and what follows from them."""

    psi: np.ndarray  # (E, M, N), values at each checkpoint
    learnt: np.ndarray  # (M,) bool: the final value lies above 0
    half: np.ndarray  # (M, 1 + R), of `half_epochs`; NaN for what was not learnt
    order: np.ndarray  # (1 + R,), of `order_learnt`
    early: int  # halves before the first checkpoint, whose order is that of their shares there


def learning(profile: Profile) -> Learning:
    """Read the order of learning off the checkpoints of a network and resamples of its photographs.

    Errors: those of `half_epochs`.
    """
    epochs = profile.epochs
    psi = np.stack([shapley_values(profile.worths[e].table) for e in epochs])
    learnt = mean_interval(psi[-1]).low > 0
    flat = psi.reshape(-1, psi.shape[-1])

    def resampled(what: Callable) -> np.ndarray:
        def of_means(mean: np.ndarray) -> np.ndarray:
            return what(epochs, mean.reshape(*psi.shape[:2], -1))

        return resampled_scores([flat], of_means)[0]

    half = np.where(learnt[:, None], resampled(half_epochs), np.nan)
    order = resampled(partial(order_learnt, learnt=learnt))
    return Learning(psi, learnt, half, order, int((half[learnt, 0] <= epochs[0]).sum()))


def order_by_chance(learnings: Sequence[Learning], mean: Callable) -> float:
    """Return how likely a mean of rho this far from 0 is were the bands in any other order.

    A permutation test, two-sided: all orders of the bands up to seven, else random ones. One order
    holds for all networks, since they see the same photographs and may agree for these alone.

    mean: what makes one number of those of the networks, (K, P) -> (P,).
    Source: docs/methods.md, Verdicts.

    >>> one = Learning(None, np.ones(5, bool), np.arange(5.0)[:, None], None, 0)
    >>> round(order_by_chance([one, one], lambda rows: rows.mean(0)), 4)
    0.0167
    """
    n_bands = len(learnings[0].learnt)
    numbers = np.concatenate([np.arange(n_bands)[None], orders(n_bands, None)])
    found = mean(np.stack([_rho(numbers, c.half[:, 0], c.learnt) for c in learnings]))
    return share_as_far(found[1:], found[0], exact=n_bands <= EXACT)


def _rho(numbers: np.ndarray, half: np.ndarray, learnt: np.ndarray) -> np.ndarray:
    """Spearman's rho of each numbering of the bands, (P, M), with their half epochs (M,)."""
    if learnt.sum() < MIN_BANDS:
        return np.full(len(numbers), np.nan)
    numbers = numbers[:, learnt]
    return coefficient(numbers, np.broadcast_to(half[learnt], numbers.shape))


def peak(psi: ArrayLike, score: Callable) -> int:
    """Return the index of the checkpoint of the highest score, the last one where there is none.

    Only checkpoints count whose v(all) - v(none) has an interval over photographs above 0: a
    distribution of nothing is noise.

    Shapes: psi (E, M, N); score maps mean values (M, R) to (R,).

    >>> peak(np.ones((3, 2, 9)) * [[[1]], [[2]], [[-1]]], lambda mean: mean[0])
    1
    """
    psi = np.asarray(psi, dtype=float)
    scores = score(psi.mean(2).T)
    scores = np.where(mean_interval(psi.sum(1)).low > 0, scores, -np.inf)
    return int(scores.argmax()) if np.isfinite(scores).any() else len(psi) - 1


@by_content
class SecondStage(NamedTuple):
    """From the epoch of the highest score to the last: per network and resample, and the epochs."""

    fall: np.ndarray  # of the score, (K, 1 + R)
    rise: np.ndarray  # of held-out accuracy, (K, 1 + R)
    picked: np.ndarray  # index of the checkpoint, (2, K)
    n: tuple[int, int]  # photographs that each half measures the fall and the rise on, at least


def second_stage(
    psi: Sequence[ArrayLike],
    correct: Sequence[ArrayLike],
    chosen: ArrayLike,
    score: Callable,
    n_resamples: int = 400,
    seed: int = 0,
) -> SecondStage:
    """Return how far a score falls, and accuracy rises, from the epoch of its highest value on.

    The highest of several noisy values is too high, and would fall afterwards without any cause:
    the epoch is picked on a random half of the held-out photographs and both changes are measured
    on the other half. This is done both ways and averaged.

    Shapes: psi K arrays (E, M, N), correct K arrays (E, L) of all held-out photographs, chosen (N,)
    indices of those of psi among them; score maps mean values (M, R) to (R,).
    Source: Luo et al. 2023, Sec. 4.3, Fig. 6, as a number.

    >>> psi = np.linspace(2, 1, 3)[:, None, None] * np.ones((3, 2, 20))
    >>> correct = np.array([[0] * 20, [0] * 20, [1] * 20])
    >>> found = second_stage([psi], [correct], np.arange(20), lambda mean: mean[0])
    >>> found.fall[0, 0].round(6), found.rise[0, 0].round(6), found.picked.tolist()
    (np.float64(1.0), np.float64(1.0), [[0], [0]])
    """
    psi, correct = ([np.asarray(v, dtype=float) for v in part] for part in (psi, correct))
    side = np.random.default_rng(seed).permutation(correct[0].shape[1]) % 2
    n_bands, falls, rises, picked, sizes = psi[0].shape[1], [], [], [], []

    def lost(mean: np.ndarray) -> np.ndarray:
        return score(mean[:n_bands]) - score(mean[n_bands:])

    for half in (0, 1):
        picks, measures = side[np.asarray(chosen)] == half, side[np.asarray(chosen)] != half
        at = [peak(values[:, :, picks], score) for values in psi]
        ends = [np.concatenate([v[k], v[-1]])[:, measures] for k, v in zip(at, psi, strict=True)]
        gained = [(c[-1] - c[k])[None, side != half] for k, c in zip(at, correct, strict=True)]
        falls.append(resampled_scores(ends, lost, n_resamples, seed + half))
        rises.append(resampled_scores(gained, lambda mean: mean[0], n_resamples, seed + half))
        picked.append(at)
        sizes.append((measures.sum(), (side != half).sum()))
    n = tuple(int(size) for size in np.min(sizes, axis=0))
    return SecondStage(np.mean(falls, axis=0), np.mean(rises, axis=0), np.array(picked), n)
