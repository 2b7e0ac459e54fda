"""Trainings side by side: networks that differ in one thing only, and what the thing did, with
intervals that allow for images and seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from iaside.content import by_content
from iaside.estimate import Estimate
from iaside.intervals import LEAST, interval
from iaside.score import centroid, robustness_score, spectral_importance
from iaside.shapley import shapley_values
from iaside.tables import Condition, Responses
from iaside.zoo import FACTORS, Profile, select

# -- which networks --------------------------------------------------------------------------------


def twins(
    profiles: Mapping[str, Profile], first: Mapping, second: Mapping
) -> list[tuple[Profile, Profile]]:
    """Pairs of networks that differ in some factors only: one has those of first, one of second.

    Factors that neither names are at their default; architecture and seed are free, but the same
    in both of a pair.

    Errors: ValueError for an unknown factor, or where first and second do not name the same ones.

    >>> from iaside.zoo import networks
    >>> made = networks({"a": {"architecture": "small_cnn", "adversary": ["none", "pgd"]}})
    >>> profiles = {name: Profile(name, settings) for name, settings in made.items()}
    >>> [(a.name, b.name) for a, b in twins(profiles, {"adversary": "pgd"}, {"adversary": "none"})]
    [('small_cnn-pgd-seed0', 'small_cnn-seed0')]
    """
    if set(first) != set(second):
        raise ValueError(
            f"twins differ in the same factors, but first names {sorted(first)} and second "
            f"{sorted(second)}"
        )
    shared = [name for name in FACTORS if name not in first]
    others = {
        tuple(profile.settings[name] for name in shared): profile
        for profile in select(profiles, **second).values()
    }
    found = []
    for profile in select(profiles, **first).values():
        twin = others.get(tuple(profile.settings[name] for name in shared))
        if twin is not None:
            found.append((profile, twin))
    return found


CAUSES = {  # in words, for factors that act on the training itself
    "noise": "label noise", "fraction": "less data", "adversary": "adversarial training",
    "penalty": "spectral penalty", "augment": "augmentation",
}  # fmt: skip


def cause(settings: Mapping) -> str:
    """What was done to a network in its training, in words: its factors that are not at default.

    Neither amounts nor kinds count, nor architecture, images and seed.

    >>> cause(FACTORS | {"adversary": "pgd", "penalty": "jafr", "strength": -0.1})
    'adversarial training + spectral penalty'
    >>> cause(FACTORS)
    'nothing'
    """
    done = [words for name, words in CAUSES.items() if settings[name] != FACTORS[name]]
    return " + ".join(done) or "nothing"


# -- what they say, over images and seeds ----------------------------------------------------------


def share_right(r: Responses, conditions: Sequence[Condition]) -> np.ndarray:
    """The share of some conditions under which each image is classified rightly, (N,).

    nan for images that were not asked under all of them, or that one of these attacks had no
    usable gradient for. Errors: ValueError for a condition that was not measured.
    """
    return r.tables["correct"][[r.row(c) for c in conditions]].mean(0)


def over_seeds(
    statistic: Callable[[np.ndarray], np.ndarray], n_images: int, level: float = 0.95,
    n_resamples: int = 1000, seed: int = 0,
) -> Estimate:
    """Return the mean of a statistic over trainings, with limits that allow for both of its draws:
    the images, which all networks share, and the seed of each training.

    statistic: weights of the images (N, R), columns that sum to 1 -> (S, R), the statistic of each
    of S trainings (or pairs of trainings) on images so weighted.

    Two parts add up to the variance of the mean: that of the bootstrap over images, drawn alike for
    all trainings, and the spread of the S estimates over S. Student's t has the degrees of freedom
    of Satterthwaite: with two seeds that agree the limits are those of the images, with two that do
    not, one degree of freedom widens them. Simulated with 2 to 4 seeds and 100 images, 95 % limits
    hold the truth in 89 % (two seeds, whose spread is the larger part) to 98 % of cases; those of
    the images alone in 14 to 95 %. One seed says nothing about others: the limits are then those of
    the images. Fewer than 5 images have no limits: NaN; of none there is no estimate either.

    >>> correct = np.array([[1, 1, 0, 0, 1, 1], [1, 0, 0, 0, 1, 1.0]])
    >>> f"{over_seeds(lambda weights: correct @ weights, 6):.2f}"
    '0.58 [0.06, 1.11]'
    """
    def at(weights):
        return np.asarray(statistic(weights), dtype=float)

    if n_images == 0:
        return Estimate.unsure(np.nan, 0, "trainings")
    each = at(np.full((n_images, 1), 1 / n_images))[:, 0]
    estimate, n_seeds = float(each.mean()), len(each)
    if n_images < LEAST["photographs"]:
        return Estimate.unsure(estimate, n_seeds, "trainings")
    drawn = np.random.default_rng(seed).multinomial(
        n_images, np.full(n_images, 1 / n_images), n_resamples
    )
    # A resample varies by (n - 1) / n of what a new set of images does.
    images = at(drawn.T / n_images).mean(0).var(ddof=1) * n_images / (n_images - 1)
    seeds = each.var(ddof=1) / n_seeds if n_seeds > 1 else 0.0
    variance = images + seeds
    if variance == 0:
        return Estimate.exact(estimate, n_seeds, "trainings")
    inverse = images**2 / (n_images - 1) + (seeds**2 / (n_seeds - 1) if n_seeds > 1 else 0)
    reach = stats.t.ppf((1 + level) / 2, variance**2 / inverse) * math.sqrt(variance)
    se = math.sqrt(variance)
    return Estimate(estimate, se, estimate - reach, estimate + reach, n_seeds, "trainings")


def accuracy_over_seeds(correct: ArrayLike, minus: ArrayLike | None = None) -> Estimate:
    """Return the mean accuracy of S trainings, or its lead over S others on the same images.

    ``over_seeds``, cut at what an accuracy (or a difference of two) can be. Where every image says
    the same, resampling sees no spread: the limits then are as far off as Wilson's for unanimous
    answers.

    Shapes: correct (S, N), share of right answers of each training to each image; minus (S, N),
    those of the trainings that are compared with these, in the same order. Images with nan, which
    were not asked, are left out.

    >>> f"{accuracy_over_seeds(np.zeros((2, 50))):.2f}"
    '0.00 [0.00, 0.07]'
    """
    values = np.asarray(correct, dtype=float) - (0 if minus is None else np.asarray(minus))
    values = values[:, ~np.isnan(values).any(0)]
    n = values.shape[1]
    found = over_seeds(lambda weights: values @ weights, n)
    if found.se < 1e-9:
        z2 = stats.norm.ppf(0.975) ** 2
        reach = z2 / (n + z2)
        found = replace(found, low=found.low - reach, high=found.high + reach)
    return found.within(0 if minus is None else -1, 1)


# -- what parts twins ------------------------------------------------------------------------------

Couples = Sequence[tuple[Profile, Profile]]


@by_content
class Difference(NamedTuple):
    """What parts the first from the second of each pair of twins: its mean over pairs with limits.

    n: images behind it;  pairs: trainings of each kind.

    >>> (-Difference(0.2, 0.1, 0.4, n=50, pairs=2)).judged
    (-0.2, -0.4, -0.1, 50)
    """

    estimate: float
    low: float
    high: float
    n: int
    pairs: int

    def __neg__(self) -> Difference:
        return self._replace(estimate=-self.estimate, low=-self.high, high=-self.low)

    @property
    def judged(self) -> tuple[float, float, float, int]:
        """As ``claims.record`` takes it. A single pair is one case, whatever its images say."""
        return self.estimate, self.low, self.high, self.n if self.pairs > 1 else 1


def accuracy_gain(couples: Couples, *groups: Sequence[Condition]) -> Difference:
    """Accuracy of the first minus that of the second twin under some conditions.

    Several groups of conditions count the same each, however many conditions they have. Images
    that were not asked under all of them are left out.
    Errors: ValueError for a condition that was not measured.
    """
    first, second = (
        np.stack([np.mean([share_right(p.responses, g) for g in groups], axis=0) for p in side])
        for side in zip(*couples, strict=True)
    )
    found = accuracy_over_seeds(first, second)
    n = int((~np.isnan(first - second).any(0)).sum())
    return Difference(found.estimate, found.low, found.high, n, len(couples))


def share_of_wins(couples: Couples, groups: Sequence[Sequence[Condition]]) -> Difference:
    """The share of groups of conditions (corruptions, say) under which the first twin is the more
    accurate; a draw counts half.

    Errors: ValueError for a condition that was not measured.
    """
    ahead = np.stack([
        [share_right(a.responses, g) - share_right(b.responses, g) for g in groups]
        for a, b in couples
    ])  # fmt: skip
    ahead = ahead[:, :, ~np.isnan(ahead).any((0, 1))]
    n = ahead.shape[2]
    # Sums of shares of right answers: what differs by rounding only is a draw.
    found = over_seeds(lambda w: (np.sign((ahead @ w).round(9)).mean(1) + 1) / 2, n)
    found = found.within(0, 1)
    return Difference(found.estimate, found.low, found.high, n, len(couples))


def score_difference(couples: Couples, beta: float = 0.75) -> Difference:
    """Signed SRC of the first minus that of the second twin, final networks, on the same images.

    Errors: ValueError when twins were not measured on equally many images, and those of ``score``.
    """
    first, second = (
        np.stack([shapley_values(p.final.table) for p in side])
        for side in zip(*couples, strict=True)
    )
    n = first.shape[2]
    found = over_seeds(lambda w: _scores(first, w, beta) - _scores(second, w, beta), n)
    return Difference(found.estimate, found.low, found.high, n, len(couples))


def _scores(values: np.ndarray, weights: np.ndarray, beta: float) -> np.ndarray:
    """The signed SRC of each of S networks on weighted images: (S, M, N), (N, R) -> (S, R)."""
    sid = spectral_importance(np.moveaxis(values @ weights, 1, 0))
    return robustness_score(sid, beta, signed=True, norm="tight")


def signed_score(networks: Sequence[Profile], beta: float = 0.75) -> Estimate:
    """The mean signed SRC of final networks that differ in their seed, with its limits."""
    values = np.stack([shapley_values(p.final.table) for p in networks])
    corners = robustness_score(np.eye(values.shape[1]), beta, signed=True, norm="tight")
    found = over_seeds(lambda w: _scores(values, w, beta), values.shape[2])
    return found.within(corners.min(), corners.max())


def importances(networks: Sequence[Profile]) -> list[Estimate]:
    """The mean min-max SID of final networks that differ in their seed, band by band."""
    values = np.stack([shapley_values(p.final.table) for p in networks])

    def of_band(band: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda w: spectral_importance(np.moveaxis(values @ w, 1, 0))[band]

    n_bands, n = values.shape[1:]
    return [over_seeds(of_band(band), n).within(0, 1) for band in range(n_bands)]


def gradient_bias(networks: Sequence[Profile]) -> Estimate:
    """The mean low-frequency bias B of the input gradient of final networks, over their images."""
    each = _biases(networks)
    each = each[:, ~np.isnan(each).any(0)]
    return over_seeds(lambda w: each @ w, each.shape[1])


def bias_difference(couples: Couples) -> Difference:
    """B of the input gradient of the first minus that of the second twin, image by image."""
    first, second = (_biases(side) for side in zip(*couples, strict=True))
    change = first - second
    change = change[:, ~np.isnan(change).any(0)]
    found = over_seeds(lambda w: change @ w, change.shape[1])
    return Difference(found.estimate, found.low, found.high, change.shape[1], len(couples))


def _biases(networks: Sequence[Profile]) -> np.ndarray:
    return np.stack([p.answers["bias"] for p in networks])


# -- which corruptions are of low and which of high frequency --------------------------------------


def change_centroid(r: Responses, source: str) -> Estimate:
    """Where in the spectrum a source changes images: the mean band of the energy of its change,
    from 0 (all in the lowest band) to 1 (all in the highest), with its interval over images.

    Energies are pooled over images and strengths; changes of the mean (DC) do not count.
    Errors: ValueError for a source that was not measured, or changed nothing.
    Source: methods 3.3 orders corruptions by B of the spectrum of the change; tables hold its
    energy per band, whose centroid orders them by the same question.
    """
    rows = [k for k in r.rows(source) if r.conditions[k].place < 0]
    if not rows:
        raise ValueError(f"{source} was not measured")
    energy = r.change_energy[rows][:, :, r.asked(rows)].sum(0)
    if not energy.sum() > 0:
        raise ValueError(f"{source} changed no image, so that it has no place in the spectrum")
    return interval(energy, lambda mean: centroid(mean / mean.sum(0))).within(0, 1)


GROUPS = ("low", "middle", "high")


def frequency_groups(centroids: Mapping[str, float]) -> dict[str, str]:
    """Part corruptions into thirds, low, middle and high, by where they change images.

    centroids: name -> its place in the spectrum. What cannot be shared evenly goes to the middle.
    Source: methods 3.3 (the thirds are this kit's choice; the paper's lists are not published).

    >>> frequency_groups({"fog": 0.1, "noise": 0.6, "jpeg": 0.5, "blur": 0.2})
    {'fog': 'low', 'blur': 'middle', 'jpeg': 'middle', 'noise': 'high'}
    """
    order = sorted(centroids, key=centroids.__getitem__)
    third, n = len(order) // 3, len(order)
    return {
        name: GROUPS[0] if k < third else GROUPS[2] if k >= n - third else GROUPS[1]
        for k, name in enumerate(order)
    }


# -- what they listen to ---------------------------------------------------------------------------


def radial_profile(spectrum: ArrayLike) -> np.ndarray:
    """The mean of a magnitude spectrum at each radial frequency, as a multiple of its mean.

    Shapes: spectrum (H, W//2 + 1), |rfft2| of something of even width; returns (R,): entry r is
    for frequencies whose distance from DC rounds to r cycles per shorter side, up to Nyquist.

    >>> radial_profile(np.full((8, 5), 3.0)).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    spectrum = np.asarray(spectrum, dtype=float)
    height, width = spectrum.shape[0], 2 * (spectrum.shape[1] - 1)
    side = min(height, width)
    ky = side * np.abs(np.fft.fftfreq(height))[:, None]
    kx = side * np.fft.rfftfreq(width)
    radius = np.hypot(ky, kx).round().astype(int)
    # Half of the plane: what is not on its edge stands for its mirror image too.
    weight = np.broadcast_to(np.where(np.isin(np.arange(width // 2 + 1), (0, width // 2)), 1, 2),
                             spectrum.shape)  # fmt: skip
    inside = radius <= side // 2
    total = np.bincount(radius[inside], (weight * spectrum)[inside])
    return total / np.bincount(radius[inside], weight[inside]) / np.average(spectrum, None, weight)
