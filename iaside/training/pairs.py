"""Matched pairs of trainings: networks that differ in one intervention only, and its effect.

Intervals account for other trainings and other images, which all networks share: as
`crossed.crossed_mean`, with Student's degrees of freedom of the trainings (pairs of them, in a
difference). With fewer than three trainings there are no limits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import ArrayLike

from iaside.estimate.crossed import resampled_scores
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval
from iaside.estimate.shares import centroid
from iaside.score import mean_score, score_range, spectral_importance
from iaside.tables import CLEAN, CORRUPTIONS, Condition, Responses
from iaside.training.plans import FACTORS, Profile, select
from iaside.training.trends import game, over_seeds, seed_rows

# -- which networks --------------------------------------------------------------------------------


def matched_pairs(
    profiles: Mapping[str, Profile], first: Mapping, second: Mapping
) -> list[tuple[Profile, Profile]]:
    """Pairs of networks that differ in some factors only: one has those of first, one of second.

    Factors that neither names are at their default; architecture and seed are free, but the same
    in both of a pair.

    Errors: ValueError for an unknown factor, or where first and second do not name the same ones.

    >>> from iaside.training.plans import networks
    >>> made = networks({"a": {"architecture": "small_cnn", "adversary": ["none", "pgd"]}})
    >>> profiles = {name: Profile(name, settings) for name, settings in made.items()}
    >>> pairs = matched_pairs(profiles, {"adversary": "pgd"}, {"adversary": "none"})
    >>> [(a.name, b.name) for a, b in pairs]
    [('small_cnn-pgd-seed0', 'small_cnn-seed0')]
    """
    if set(first) != set(second):
        raise ValueError(
            f"matched pairs differ in the same factors, but first names {sorted(first)} and second "
            f"{sorted(second)}"
        )
    shared = [name for name in FACTORS if name not in first]
    others = {
        tuple(profile.settings[name] for name in shared): profile
        for profile in select(profiles, **second).values()
    }
    found = []
    for profile in select(profiles, **first).values():
        partner = others.get(tuple(profile.settings[name] for name in shared))
        if partner is not None:
            found.append((profile, partner))
    return found


INTERVENTIONS = {  # in words, for factors that act on the training itself
    "noise": "label noise",
    "fraction": "less data",
    "adversary": "adversarial training",
    "penalty": "spectral penalty",
    "augment": "augmentation",
}


def intervention(settings: Mapping) -> str:
    """The intervention on a training in words: its factors that are not at default.

    Neither amounts nor kinds count, nor architecture, images and seed.

    >>> intervention(FACTORS | {"adversary": "pgd", "penalty": "jafr", "strength": -0.1})
    'adversarial training + spectral penalty'
    >>> intervention(FACTORS)
    'nothing'
    """
    done = [words for name, words in INTERVENTIONS.items() if settings[name] != FACTORS[name]]
    return " + ".join(done) or "nothing"


# -- what trainings of one kind say ----------------------------------------------------------------


def share_right(r: Responses, conditions: Sequence[Condition]) -> np.ndarray:
    """The share of some conditions under which each image is classified rightly, (N,).

    nan for images that were not asked under all of them, or that one of these attacks had no
    usable gradient for. Errors: ValueError for a condition that was not measured.
    """
    return r.tables["correct"][[r.row(c) for c in conditions]].mean(0)


def _over_trainings(
    networks: Sequence[Profile], values: Sequence[np.ndarray], statistic: Callable, level: float
) -> Estimate:
    """The mean over trainings of a statistic of the means of values (M, N), one array each.

    Architectures count the same, seed by seed. Of no images everything is nan.
    """
    n = values[0].shape[-1]
    if n == 0:
        return Estimate.unsure(np.nan, len(networks), "trainings")
    return over_seeds(_by_seed(networks, resampled_scores(values, statistic)), n)(level)


def _by_seed(networks: Sequence[Profile], scores: np.ndarray) -> np.ndarray:
    """The mean over architectures of the scores (K, ...) of all networks, seed by seed."""
    seeds, builds = ([p.settings[name] for p in networks] for name in ("seed", "architecture"))
    return scores[seed_rows(seeds, builds)].mean(1)


def share_limits(found: Estimate, n_images: int, level: float, lowest: float = 0) -> Estimate:
    """Cut the limits of a share, or of a difference of shares, at what it can be.

    Where neither images nor trainings part, resampling sees no spread: the limits are then as far
    off as Wilson's for unanimous answers.
    """
    if found.se < 1e-9:
        z2 = scipy.stats.norm.ppf((1 + level) / 2) ** 2
        reach = z2 / (n_images + z2)
        found = replace(found, low=found.low - reach, high=found.high + reach)
    return found.within(lowest, 1)


def _mean_share(networks, each: np.ndarray, level: float, lowest: float = 0) -> Estimate:
    each = _asked(each)
    found = _over_trainings(networks, each[:, None], _first, level)
    return share_limits(found, each.shape[1], level, lowest)


def _asked(each: np.ndarray) -> np.ndarray:
    """Of numbers (K, N) the columns of images that every network was asked about."""
    return each[:, ~np.isnan(each).any(0)]


def _first(mean: np.ndarray) -> np.ndarray:
    return mean[0]


def accuracy(
    networks: Sequence[Profile], conditions: Sequence[Condition], level: float = 0.95
) -> Estimate:
    """The mean accuracy of final networks under some conditions, over trainings and images.

    Images that were not asked under all of them are left out.
    Errors: ValueError for a condition that was not measured.
    """
    each = np.stack([share_right(p.responses, conditions) for p in networks])
    return _mean_share(networks, each, level)


def clean_accuracy(networks: Sequence[Profile], level: float = 0.95) -> Estimate:
    """The mean accuracy of final networks on all held-out images."""
    each = np.stack([p.answers["correct"][-1] for p in networks]).astype(float)
    return _mean_share(networks, each, level)


def signed_score(networks: Sequence[Profile], beta: float = 0.75, level: float = 0.95) -> Estimate:
    """The mean signed SRC of final networks."""
    values = [game(p) for p in networks]
    found = _over_trainings(networks, values, mean_score(beta, "signed"), level)
    return found.within(*score_range(len(values[0]), beta, "signed"))


def importances(networks: Sequence[Profile], level: float = 0.95) -> list[Estimate]:
    """The mean min-max SID of final networks, band by band."""
    values = [game(p) for p in networks]

    def of_band(band: int) -> Estimate:
        return _over_trainings(networks, values, lambda m: spectral_importance(m)[band], level)

    return [of_band(band).within(0, 1) for band in range(len(values[0]))]


def gradient_bias(networks: Sequence[Profile], level: float = 0.95) -> Estimate:
    """The mean low-frequency bias B of the input gradient of final networks, over their images."""
    each = _asked(_biases(networks))
    return _over_trainings(networks, each[:, None], _first, level)


def _biases(networks: Sequence[Profile]) -> np.ndarray:
    return np.stack([p.answers["bias"] for p in networks])


# -- differences in pairs --------------------------------------------------------------------------

# Each is a mean over pairs of trainings, paired over images; n counts the pairs.
Couples = Sequence[tuple[Profile, Profile]]
OF_SIGNS = 1.5  # E[U (1 - U)] of a uniform U is 1/6, the variance of a fair coin 1/4


def accuracy_gain(couples: Couples, *groups: Sequence[Condition], level: float = 0.95) -> Estimate:
    """Accuracy of the first minus that of the second network under some conditions.

    Several groups of conditions count the same each, however many conditions they have. Images
    that were not asked under all of them are left out.
    Errors: ValueError for a condition that was not measured.
    """
    firsts, seconds = zip(*couples, strict=True)
    first, second = (
        np.stack([np.mean([share_right(p.responses, g) for g in groups], axis=0) for p in side])
        for side in (firsts, seconds)
    )
    return _mean_share(firsts, first - second, level, lowest=-1)


def share_of_wins(
    couples: Couples, groups: Sequence[Sequence[Condition]], level: float = 0.95
) -> Estimate:
    """The share of groups of conditions (corruptions, say) under which the first is the more
    accurate; a draw counts half.

    One quality of a training may decide all its groups: three that win everything are then three
    answers, and no spread between them says so (17 % false). The limits therefore hold one half
    wherever the exact sign test of the trainings does not reject it, that is with five or fewer.
    And where both are equally accurate, resamples of the images turn a sign with a variance of 1/6
    on average, other images with 1/4: theirs is multiplied by `OF_SIGNS`.

    Errors: ValueError for a condition that was not measured.
    """
    ahead = np.stack(
        [
            [share_right(a.responses, g) - share_right(b.responses, g) for g in groups]
            for a, b in couples
        ]
    )
    ahead = ahead[:, :, ~np.isnan(ahead).any((0, 1))]

    def won(mean: np.ndarray) -> np.ndarray:
        # Sums of shares of right answers: what differs by rounding only is a draw.
        return (np.sign(mean.round(9)).mean(0) + 1) / 2

    firsts, n = [first for first, _ in couples], ahead.shape[2]
    if n == 0:
        return Estimate.unsure(np.nan, len(couples), "trainings")
    scores = _by_seed(firsts, resampled_scores(ahead, won))
    scores[:, 1:] *= np.sqrt(OF_SIGNS)  # only their spread counts
    found = share_limits(over_seeds(scores, n)(level), n, level)
    most = [(scores[:, 0] > 0.5).sum(), (scores[:, 0] < 0.5).sum()]
    if sum(most) and scipy.stats.binomtest(max(most), sum(most)).pvalue <= 1 - level:
        return found
    return replace(found, low=np.minimum(found.low, 0.5), high=np.maximum(found.high, 0.5))


def score_difference(couples: Couples, beta: float = 0.75, level: float = 0.95) -> Estimate:
    """Signed SRC of the first minus that of the second network, final networks, on the same images.

    Errors: ValueError when the two have different numbers of images, and those of ``score``.
    """
    both = [np.concatenate([game(first), game(second)]) for first, second in couples]

    score = mean_score(beta, "signed")

    def lead(mean: np.ndarray) -> np.ndarray:
        return np.subtract(*map(score, np.split(mean, 2)))

    return _over_trainings([first for first, _ in couples], both, lead, level)


def bias_difference(couples: Couples, level: float = 0.95) -> Estimate:
    """B of the input gradient of the first minus that of the second network, image by image."""
    firsts, seconds = zip(*couples, strict=True)
    change = _asked(_biases(firsts) - _biases(seconds))
    return _over_trainings(firsts, change[:, None], _first, level)


# -- which corruptions are of low and which of high frequency --------------------------------------


def change_centroid(r: Responses, source: str) -> Estimate:
    """Where in the spectrum a source changes images: the mean band of the energy of its change,
    from 0 (all in the lowest band) to 1 (all in the highest), with its interval over images.

    Energies are pooled over images and strengths; changes of the mean (DC) do not count.
    Errors: ValueError for a source that was not measured, or changed nothing.
    Source: Chan et al. 2022 order corruptions by B of the spectrum of the change; tables hold its
    energy per band, whose centroid orders them by the same question.
    """
    rows = [k for k in r.rows(source) if r.conditions[k].place < 0]
    if not rows:
        raise ValueError(f"{source} was not measured")
    energy = r.change_energy[rows][:, :, r.measured_images(rows)].sum(0)
    if not energy.sum() > 0:
        raise ValueError(f"{source} changed no image, so that it has no place in the spectrum")
    return interval(energy, lambda mean: centroid(mean / mean.sum(0))).within(0, 1)


GROUPS = ("low", "middle", "high")


def frequency_groups(centroids: Mapping[str, float]) -> dict[str, str]:
    """Part corruptions into thirds, low, middle and high, by where they change images.

    centroids: name -> its place in the spectrum. What cannot be shared evenly goes to the middle.
    Source: docs/methods.md, Penalties (the thirds are this kit's choice; the paper's lists are not
    published).

    >>> frequency_groups({"fog": 0.1, "noise": 0.6, "jpeg": 0.5, "blur": 0.2})
    {'fog': 'low', 'blur': 'middle', 'jpeg': 'middle', 'noise': 'high'}
    """
    order = sorted(centroids, key=centroids.__getitem__)
    third, n = len(order) // 3, len(order)
    return {
        name: GROUPS[0] if k < third else GROUPS[2] if k >= n - third else GROUPS[1]
        for k, name in enumerate(order)
    }


# -- a study of adversaries, JaFR and augmentation -------------------------------------------------

KINDS = {"none": "standard training", "fgsm": "FGSM training", "pgd": "PGD training"}


class Treatments:
    """The networks of a study that were trained without and with JaFR, an adversary, augmentation.

    profiles: networks whose responses were measured;  images: the data set of plans that name
    none. Only architectures that were trained with JaFR are compared, where there are any: others
    would blur the comparison.

    data_sets: what plans say of their images (None: `images`);  strengths: of JaFR, 0 included;
    cells: (data set, kind, strength) -> networks;  centroids, groups: data set -> corruption ->
    its place in the spectrum, and ``low``, ``middle`` or ``high``;  conditions: data set -> words
    -> what networks were asked about.
    """

    def __init__(self, profiles: Mapping[str, Profile], images: str) -> None:
        self.profiles, self.images = profiles, images
        with_jafr = [p for p in profiles.values() if p.settings["penalty"] == "jafr"]
        compared = with_jafr or list(profiles.values())
        self.strengths = sorted({0.0} | {p.settings["strength"] for p in with_jafr})
        self.data_sets = list(dict.fromkeys(p.settings["images"] for p in compared))
        self._augmented = {p.settings["images"]: p.settings["augment"] for p in compared}
        builds = {p.settings["architecture"] for p in compared}
        self.cells = {
            (d, kind, s): list(found.values())
            for d in self.data_sets
            for kind in KINDS
            for s in self.strengths
            if (found := select(profiles, architecture=builds, **self._factors(d, kind, s)))
        }
        self.centroids, self.groups, self.conditions = {}, {}, {}
        for d in self.data_sets:
            r = self.responses(d)
            self.centroids[d] = {c: change_centroid(r, c) for c in CORRUPTIONS if r.rows(c)}
            places = {c: float(place.value) for c, place in self.centroids[d].items()}
            self.groups[d] = frequency_groups(places)
            self.conditions[d] = _conditions(r, self.groups[d])

    def responses(self, data_set: str | None) -> Responses:
        """The answers of the first network on a data set."""
        return next(found[0].responses for key, found in self.cells.items() if key[0] == data_set)

    def title(self, data_set: str | None) -> str:
        """The name of a data set in figures and tables."""
        return Path(data_set or self.images).stem

    def _factors(self, data_set, kind: str, strength: float, augment: bool | None = None) -> dict:
        return {
            "images": data_set,
            "adversary": kind,
            "strength": strength,
            "penalty": "jafr" if strength else "none",
            "augment": self._augmented[data_set] if augment is None else augment,
        }

    def couples(self, data_set: str | None, one: tuple, other: tuple) -> Couples:
        """Matched pairs of two trainings, each (kind, strength) or (kind, strength, augment)."""
        first, second = (self._factors(data_set, *how) for how in (one, other))
        return matched_pairs(self.profiles, first, second)

    def best(self, data_set: str | None, recommended: Sequence[float]) -> dict[str, float]:
        """Kind of training -> the recommended strength that it was trained with."""
        return {kind: s for d, kind, s in self.cells if d == data_set and s in recommended}


def _conditions(r: Responses, groups: Mapping[str, str]) -> dict[str, list[Condition]]:
    """What networks were asked about, in words: corruptions by frequency, and attacks."""
    members = {f"{g} corruptions": [c for c, of in groups.items() if of == g] for g in GROUPS}
    members["all corruptions"] = list(groups)
    asked = {u: [c for c in r.conditions if c.source in own] for u, own in members.items()}
    attacks = {
        name.upper(): [c for c in r.conditions if c.source == source and c.place < 0]
        for name, source in (("fgsm", "fgsm"), ("pgd", "pgd"), ("pgd", "pgd_restarts"))
        if r.rows(source)  # of PGD the strongest that was measured
    }
    return {"clean": [CLEAN]} | asked | {name: some for name, some in attacks.items() if some}


# -- what they rely on -----------------------------------------------------------------------------


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
    weight = np.broadcast_to(
        np.where(np.isin(np.arange(width // 2 + 1), (0, width // 2)), 1, 2), spectrum.shape
    )
    inside = radius <= side // 2
    total = np.bincount(radius[inside], (weight * spectrum)[inside])
    return total / np.bincount(radius[inside], weight[inside]) / np.average(spectrum, None, weight)
