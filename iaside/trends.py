"""What changes along a factor of training and along its epochs, with limits for few networks.

A number about trained networks is uncertain twice over: other seeds would have given other
networks, and other photographs other numbers of the same networks. The limits here hold both. With
a handful of networks resampling them says too little (two networks have three resamples), so for
them the limits are Student's; for the photographs, of which all networks see the same, resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from iaside.content import by_content
from iaside.estimate import Estimate
from iaside.intervals import LEAST, mean_interval
from iaside.robustness import MIN_MODELS, coefficient
from iaside.rounding import flat
from iaside.zoo import FACTORS, SHARED, Profile

MIN_BANDS = 4  # with fewer bands any order of them is likely


def families(profiles: Mapping[str, Profile], factor: str) -> dict[str, dict]:
    """Networks that differ in one factor and their seed only: family -> value -> its profiles.

    Families of a single value are left out. A family is called by its architecture, its images
    and the settings its plan has for itself, of these what is not the study's.

    Errors: ValueError for an unknown factor.

    >>> from iaside.zoo import networks
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
    return {
        name: dict(sorted(values.items())) for name, values in found.items() if len(values) > 1
    }


def network_scores(
    values: Sequence[ArrayLike], statistic: Callable, n_resamples: int = 400, seed: int = 0
) -> np.ndarray:
    """Return a statistic of each of K networks on the photographs and on resamples of them.

    Shapes: values K arrays (M, N) of the same N photographs; statistic maps mean values (M, R),
    one column per resample, to (..., R). Returns (K, ..., 1 + n_resamples): column 0 is on the
    photographs as they are, each further one on the same resample for all networks. With fewer
    than 5 photographs resamples say nothing: NaN.
    Errors: ValueError for no network or for different photographs.

    >>> scores = network_scores([np.ones((2, 9)), np.eye(2, 9)], lambda mean: mean[0])
    >>> scores.shape, scores[:, 0].round(2).tolist()
    ((2, 401), [1.0, 0.11])
    """
    values = [np.asarray(v, dtype=float) for v in values]
    counts = {v.shape[-1] for v in values}
    if len(counts) != 1:
        raise ValueError(f"networks are compared on the same photographs, got {sorted(counts)}")
    n = counts.pop()
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples).T / n
    weights = np.concatenate([np.full((n, 1), 1 / n), drawn], axis=1)
    scores = np.stack([np.asarray(statistic(v @ weights), dtype=float) for v in values])
    if n < LEAST["photographs"]:
        scores[..., 1:] = np.nan
    return scores


def over_photographs(scores: ArrayLike, level: float = 0.95) -> Estimate:
    """Return the mean of a score over these very networks, with limits over photographs only.

    Shapes: scores (K, ..., 1 + R) as `network_scores` gives them; the fields are (...). The reach
    is the normal quantile times the spread over resamples, around the estimate: resamples of a SID
    are flatter than the SID, so their own quantiles would lie to one side of it.

    >>> scores = network_scores([np.arange(25.0)[None]], lambda mean: mean[0])
    >>> f"{over_photographs(scores):.0f}"
    '12 [9, 15]'
    """
    mean = np.mean(scores, axis=0)
    estimate, se = mean[..., 0][()], mean[..., 1:].std(axis=-1, ddof=1)
    reach = stats.norm.ppf((1 + level) / 2) * se
    return Estimate(estimate, se, estimate - reach, estimate + reach, len(scores), "trainings")


def average(scores: ArrayLike, level: float = 0.95) -> Estimate:
    """Return the mean of a score over networks; scores and limits as in `slope`.

    >>> f"{average([[1.0] * 9, [2.0] * 9, [3.0] * 9, [4.0] * 9, [5.0] * 9]):.2f}"
    '3.00 [0.81, 5.19]'
    """
    return _last_coefficient(np.ones((len(scores), 1)), scores, level)


def apart(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Estimate:
    """Return the mean score of some networks minus that of others, limits as in `slope`.

    Shapes: first (A, 1 + R), second (B, 1 + R), on the same photographs and resamples of them.

    >>> f"{apart([[3.0] * 9, [4.0] * 9, [5.0] * 9], [[1.0] * 9, [2.0] * 9, [3.0] * 9]):.2f}"
    '2.00 [-0.78, 4.78]'
    """
    group = np.repeat([1.0, 0.0], [len(first), len(second)])
    return slope(group, np.concatenate([first, second]), level)


def slope(x: ArrayLike, scores: ArrayLike, level: float = 0.95) -> Estimate:
    """Return the least-squares slope of a score against x over networks, with limits.

    Shapes: x (K,), one number per network; scores (K, 1 + R) as `network_scores` gives them.

    Over networks the standard error is HC3's, about that of leaving out one network at a time,
    with Student's quantile at K - 2: seeds may scatter more at one x than at another. (In
    simulations with 5 to 13 networks, three times as much at one end, limits hold the truth in 92
    to 97 % of cases; those of the textbook in 87 to 93 %.) Over photographs it is the spread of the
    slope over resamples. The reach of the limits is the root of the sum of both squared. Below 5
    networks, or where one network alone decides, the limits are NaN.

    Errors: ValueError for unequal lengths, or an x that does not vary.

    >>> scores = np.repeat([[0.0], [1.1], [1.9], [3.1], [3.9]], 9, axis=1)
    >>> f"{slope([0, 1, 2, 3, 4], scores):.2f}"
    '0.98 [0.85, 1.11]'
    """
    x = np.asarray(x, dtype=float)
    if len(x) != len(scores):
        raise ValueError(f"{len(x)} values of x for {len(scores)} networks; give one to each")
    if len(x) == 0 or flat(x[None])[0]:
        raise ValueError(f"a slope needs at least two different x, got {x.tolist()}")
    return _last_coefficient(np.stack([np.ones(len(x)), x], axis=1), scores, level)


def _last_coefficient(design: np.ndarray, scores: ArrayLike, level: float) -> Estimate:
    scores, (k, p) = np.asarray(scores, dtype=float), design.shape
    solve = np.linalg.pinv(design)  # (p, K)
    found = solve[-1] @ scores
    free = 1 - np.einsum("kp,pk->k", design, solve)  # of each network: 1 - leverage
    if k < MIN_MODELS or free.min() < 1e-9:
        return Estimate.unsure(found[0], k, "trainings")
    residuals = scores[:, 0] - design @ (solve @ scores[:, 0])
    over_networks = np.sqrt((solve[-1] ** 2 * (residuals / free) ** 2).sum())
    estimate, over_images, low, _ = over_photographs(found[None], level)
    reach = np.hypot(stats.t.ppf((1 + level) / 2, k - p) * over_networks, estimate - low)
    se = np.hypot(over_networks, over_images)
    return Estimate(estimate, se, estimate - reach, estimate + reach, k, "trainings")


# -- along the epochs of one network ---------------------------------------------------------------


def half_epochs(epochs: ArrayLike, values: ArrayLike) -> np.ndarray:
    """Return the epoch at which each band first reaches half of its final value.

    Between checkpoints values are taken to run straight, and from 0 at epoch 0: to an untrained
    network no band is worth anything. Otherwise bands that pass their half between the same two
    checkpoints could not be told apart.

    Shapes: epochs (E,), increasing from above 0; values (E, M, ...), the last being final; returns
    (M, ...), NaN for bands whose final value is not above 0: nothing was learnt of them.
    Errors: ValueError for fewer than two epochs or epochs that do not increase from above 0.
    Source: seed 001 Sec. 4.3, Fig. 6 (which bands are learnt first), as a number.

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


def second_stage(
    psi: Sequence[ArrayLike], correct: Sequence[ArrayLike], chosen: ArrayLike, score: Callable,
    n_resamples: int = 400, seed: int = 0,
) -> SecondStage:
    """Return how far a score falls, and accuracy rises, from the epoch of its highest value on.

    The highest of several noisy values is too high, and would fall afterwards without any cause:
    the epoch is picked on a random half of the held-out photographs and both changes are measured
    on the other half. This is done both ways and averaged.

    Shapes: psi K arrays (E, M, N), correct K arrays (E, L) of all held-out photographs, chosen (N,)
    indices of those of psi among them; score maps mean values (M, R) to (R,).
    Source: seed 001 Sec. 4.3, Fig. 6, as a number.

    >>> psi = np.linspace(2, 1, 3)[:, None, None] * np.ones((3, 2, 20))
    >>> correct = np.array([[0] * 20, [0] * 20, [1] * 20])
    >>> found = second_stage([psi], [correct], np.arange(20), lambda mean: mean[0])
    >>> found.fall[0, 0].round(6), found.rise[0, 0].round(6), found.picked.tolist()
    (np.float64(1.0), np.float64(1.0), [[0], [0]])
    """
    psi, correct = ([np.asarray(v, dtype=float) for v in part] for part in (psi, correct))
    side = np.random.default_rng(seed).permutation(correct[0].shape[1]) % 2
    n_bands, falls, rises, picked = psi[0].shape[1], [], [], []

    def lost(mean: np.ndarray) -> np.ndarray:
        return score(mean[:n_bands]) - score(mean[n_bands:])

    for half in (0, 1):
        picks, measures = side[np.asarray(chosen)] == half, side[np.asarray(chosen)] != half
        at = [peak(values[:, :, picks], score) for values in psi]
        ends = [np.concatenate([v[k], v[-1]])[:, measures] for k, v in zip(at, psi, strict=True)]
        gained = [(c[-1] - c[k])[None, side != half] for k, c in zip(at, correct, strict=True)]
        falls.append(network_scores(ends, lost, n_resamples, seed + half))
        rises.append(network_scores(gained, lambda mean: mean[0], n_resamples, seed + half))
        picked.append(at)
    return SecondStage(np.mean(falls, axis=0), np.mean(rises, axis=0), np.array(picked))
