"""Measures of robustness from responses: mPE, mCE, losses with intervals, matching."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from iaside.estimate.accuracy import accuracy_difference, accuracy_interval
from iaside.estimate.crossed import resampled_scores
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval
from iaside.estimate.shares import survival_per_image
from iaside.tables import CLEAN, CLEAN_CUT, CORRUPTIONS, FOURIER, Condition, Responses

# Mean top-1 error of AlexNet over the five severities, in the order of CORRUPTIONS.
ALEXNET = (
    0.886428,
    0.894468,
    0.922640,
    0.819880,
    0.826268,
    0.785948,
    0.798360,
    0.866816,
    0.826572,
    0.819324,
    0.564592,
    0.853204,
    0.646056,
    0.717840,
    0.606500,
)


# -- the two means of the papers -------------------------------------------------------------------


def mean_prediction_error(p_clean: ArrayLike, p_perturbed: ArrayLike) -> np.ndarray:
    """Return the mean prediction error mPE, the mean change of the true class's probability.

    Shapes: both (..., N), probabilities of the true class of N images; returns (...).
    Errors: ValueError for different shapes or numbers outside [0, 1].
    Source: Luo et al. 2024, Eq. 12, E |Q(y|x) - Q(y|x*)|.

    >>> float(mean_prediction_error([0.9, 0.5], [0.4, 0.5]))
    0.25
    """
    p, q = np.asarray(p_clean, dtype=float), np.asarray(p_perturbed, dtype=float)
    if p.shape[-1:] != q.shape[-1:] or p.ndim == 0:
        raise ValueError(f"p_clean {p.shape} and p_perturbed {q.shape} must be of the same images")
    for name, value in (("p_clean", p), ("p_perturbed", q)):
        if not ((value >= 0) & (value <= 1)).all():
            wrong = value[~((value >= 0) & (value <= 1))][0].item()
            raise ValueError(f"{name} must hold probabilities, from 0 to 1, got {wrong!r}")
    return np.abs(p - q).mean(-1)


def mean_corruption_error(errors: Mapping[str, ArrayLike]) -> float:
    """Return the mean corruption error mCE of ImageNet-C, in percent of AlexNet's.

    errors: name of each of the 15 corruptions -> top-1 errors from 0 to 1 at the five severities,
    (5,), or their mean, ().
    Errors: ValueError for corruptions that are missing or unknown, or errors outside [0, 1].
    Source: Luo et al. 2024, Fig. 7; Hendrycks and Dietterich 2019.

    >>> round(mean_corruption_error(dict(zip(CORRUPTIONS, ALEXNET))), 6)
    100.0
    """
    if set(errors) != set(CORRUPTIONS):
        missing, unknown = set(CORRUPTIONS) - set(errors), set(errors) - set(CORRUPTIONS)
        raise ValueError(
            f"mCE needs the errors of exactly the 15 corruptions; missing: "
            f"{', '.join(sorted(missing)) or 'none'}; "
            f"unknown: {', '.join(sorted(unknown)) or 'none'}"
        )
    ratios = []
    for name, reference in zip(CORRUPTIONS, ALEXNET, strict=True):
        error = np.asarray(errors[name], dtype=float)
        if not ((error >= 0) & (error <= 1)).all():
            raise ValueError(
                f"the errors under {name} must lie between 0 and 1, got {error.tolist()}"
            )
        ratios.append(error.mean() / reference)
    return float(100 * np.mean(ratios))


# -- what a table says, with intervals over images -------------------------------------------------

LEFT = ("accuracy left", "relative accuracy")  # the more, the more robust; of others the less
MEASURES = ("accuracy drop", "mPE", "mPE at T = 2", "relative mPE", "loss in nats", *LEFT)


def measure(r: Responses, kind: str, conditions: Condition | Sequence[Condition]) -> Estimate:
    """The effect of some conditions on a network, averaged, with its interval over images.

    kind: ``accuracy left`` share of correct answers under the perturbation, clean accuracy
    included; ``relative accuracy`` the same over clean accuracy; ``accuracy drop`` share of correct
    answers lost; ``mPE`` mean change of the true class's probability; ``mPE at T = 2`` the same at
    softmax temperature 2; ``relative mPE`` mPE over the
    clean probability, which a network cannot lower by being unsure; ``loss in nats`` of
    log-likelihood. All compare every image with itself, a corrupted one with its clean partner
    (``Responses.partner``), and leave out those that an attack had no usable gradient for
    (``tables.without_gradient``); where none is left the numbers are NaN.
    Errors: ValueError for an unknown kind or a condition that was not measured.
    Source: Luo et al. 2024, Eq. 12; temperature: Luo et al. 2023, A4; relative: docs/methods.md,
    Robustness measures.
    """
    rows = image_rows(r, kind, conditions)
    rows = rows[:, ~np.isnan(rows).any(0)]
    if not rows.size:
        return Estimate.unsure(np.nan, 0, "photographs")
    if isinstance(conditions, Condition) or len(conditions) == 1:
        clean, changed = _tables(r, kind, conditions)
        asked = ~np.isnan(clean + changed)[0]
        if kind == "accuracy drop":
            return accuracy_difference(clean[0, asked], changed[0, asked])
        if kind == "accuracy left":
            return accuracy_interval(changed[0, asked])
    ends = {
        "accuracy drop": (-1, 1),
        "relative accuracy": (0, np.inf),
        "relative mPE": (0, np.inf),
        "loss in nats": (-np.inf, np.inf),
    }
    return interval(rows, ratio).within(*ends.get(kind, (0, 1)))


def image_rows(r: Responses, kind: str, conditions: Condition | Sequence[Condition]) -> np.ndarray:
    """The terms that `measure` averages: (1, N), or (2, N) where the measure is a ratio.

    NaN where an image was not asked or not attacked. `ratio` of the means is the measure. Errors
    as in `measure`.
    """
    clean, changed = _tables(r, kind, conditions)
    if kind in ("accuracy drop", "loss in nats"):
        return (clean - changed).mean(0)[None]
    if kind in LEFT:  # of the images that were asked, clean too
        left, asked = changed.mean(0), np.where(np.isnan(changed).any(0), np.nan, clean.mean(0))
        return np.stack([left, asked]) if kind == "relative accuracy" else left[None]
    change = np.abs(clean - changed).mean(0)
    return np.stack([change, clean.mean(0)]) if kind == "relative mPE" else change[None]


def harm(kind: str, values: ArrayLike) -> np.ndarray:
    """A measure turned so that more is worse: 1 less what is left, all others as they are.

    >>> harm("accuracy left", [0.75]).tolist(), harm("mPE", [0.25]).tolist()
    ([0.25], [0.25])
    """
    values = np.asarray(values, dtype=float)
    return 1 - values if kind in LEFT else values


def pooled(conditions: Sequence[Condition]) -> dict[str, list[Condition]]:
    """What is averaged over -> its conditions: all corruptions, and all strengths of each other
    perturbation of the whole picture.

    >>> made = [CLEAN, Condition("pgd", 0.1), Condition("pgd", 0.2), Condition("pgd", 0.1, 3)]
    >>> {name: len(some) for name, some in pooled(made).items()}
    {'pgd, all strengths': 2}
    """
    found: dict[str, list[Condition]] = {}
    for c in conditions:
        if c.source in CORRUPTIONS:
            found.setdefault("all corruptions", []).append(c)
        elif c.place < 0 and c.source not in (FOURIER, CLEAN.source, CLEAN_CUT.source):
            found.setdefault(f"{c.source}, all strengths", []).append(c)
    return found


def ratio(mean: np.ndarray) -> np.ndarray:
    """The only row of means (1, R), or the first over the second, (2, R) -> (R,).

    >>> ratio(np.array([[1.0], [4.0]]))
    array([0.25])
    """
    return mean[0] / mean[1] if len(mean) > 1 else mean[0]


def on_resamples(
    rows: Sequence[ArrayLike], statistic: Callable = ratio, n_resamples: int = 400, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Return a measure of K networks on the photographs and on resamples of them, and their number.

    As `crossed.resampled_scores`, but an image may be missing (NaN) for some networks: each mean
    is that of the images that a resample has of it. The number is that of the fewest images.

    Shapes: rows K arrays (k, N) of the same N photographs (`image_rows`); statistic maps means
    (k, R) to (R,); returns (K, 1 + n_resamples).
    Errors: ValueError for different photographs.

    >>> scores, n = on_resamples([[[1.0, 3.0, 2.0, 2.0, 2.0, np.nan]]])
    >>> float(scores[0, 0]), n
    (2.0, 5)
    """
    rows = [np.asarray(row, dtype=float) for row in rows]
    asked = [~np.isnan(row).any(0) for row in rows]
    filled = [np.vstack([np.where(a, row, 0), a]) for row, a in zip(rows, asked, strict=True)]

    def of_the_asked(mean: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample may hold none of them
            return statistic(mean[:-1] / mean[-1])

    n = int(min(a.sum() for a in asked))
    return resampled_scores(filled, of_the_asked, n_resamples, seed), n


def _tables(r: Responses, kind: str, conditions) -> tuple[np.ndarray, np.ndarray]:
    """The tables that a measure compares: clean and changed, each (conditions, N)."""
    if kind not in MEASURES:
        raise ValueError(f"kind={kind!r} is not known; choose one of {', '.join(MEASURES)}")
    conditions = [conditions] if isinstance(conditions, Condition) else conditions
    named = dict.fromkeys((*LEFT, "accuracy drop"), "correct") | {"mPE at T = 2": "probability_t2"}
    table = r.tables[named.get(kind, "log_likelihood")]
    pair = [table[[of(c) for c in conditions]] for of in (r.partner, r.row)]
    return tuple(np.exp(each) if kind in ("mPE", "relative mPE") else each for each in pair)


def corruption_error(r: Responses, names: Sequence[str] = CORRUPTIONS) -> Estimate:
    """The mean corruption error in percent of AlexNet's, with its interval over images.

    names: corruptions to average over; all 15 give the mCE (``mean_corruption_error``). AlexNet's
    errors are of the whole ImageNet validation set, these of the images at hand.
    Errors: ValueError for a corruption that was not measured.
    """
    rows = corruption_rows(r, names)
    return interval(rows[:, ~np.isnan(rows).any(0)], ratio)


def corruption_rows(r: Responses, names: Sequence[str] = CORRUPTIONS) -> np.ndarray:
    """What `corruption_error` averages, of every image, (1, N); NaN where one was not asked."""
    rows = {name: r.rows(name) for name in names}
    if missing := [name for name in names if not rows[name]]:
        raise ValueError(f"{', '.join(missing)} were not measured")
    wrong = 1 - r.tables["correct"]
    reference = dict(zip(CORRUPTIONS, ALEXNET, strict=True))
    relative = [wrong[rows[name]].mean(0) / reference[name] for name in names]
    return 100 * np.mean(relative, axis=0)[None]


def trivial_predictors(r: Responses, accuracies: ArrayLike) -> dict[str, float]:
    """Predictors of robustness that need no game: the baselines.

    Clean error, mean confidence on the clean images, and accuracy with the lowest quarter of the
    bands (one at least) only.

    Shapes: accuracies (2**M, N), the table ``accuracy`` of a network's worths.
    Source: docs/methods.md, Predictors.
    """
    n_bands = len(accuracies).bit_length() - 1
    clean = r.row(CLEAN)
    return {
        "clean error": float(1 - r.tables["correct"][clean].mean()),
        "confidence": float(r.tables["confidence"][clean].mean()),
        "low-pass accuracy": float(np.mean(accuracies[2 ** max(1, round(n_bands / 4)) - 1])),
    }


def heat_map(r: Responses, table: str = "correct") -> np.ndarray:
    """Error (or mean of another table) of each cell of the heat map, (G, G), DC in the middle.

    Errors: ValueError when no heat map was measured.
    """
    rows = r.rows(FOURIER)
    if not rows:
        raise ValueError("no heat map was measured; add conditions of the source 'fourier'")
    means = np.nanmean(r.tables[table][rows], axis=1)
    half = 1 - means if table == "correct" else means
    grid = r.provenance["heat_grid"]
    return np.concatenate([half, half[-2::-1]]).reshape(grid, grid)


# -- from a profile to a deployment ---------------------------------------------------------------


def band_survival(clean_energy: ArrayLike, change_energy: ArrayLike) -> np.ndarray:
    """Return how much of each band survives a perturbation: the Wiener weight s / (1 + s).

    s is the signal-to-noise ratio of the band, its energy over that of the perturbation in it.

    Shapes: both (..., M, N), energies of N images; returns (..., M), the mean over images.
    Errors: ValueError for negative energies. A band without any energy survives.
    Source: docs/methods.md, Matching (the practice note: profiles matched to a deployment).

    >>> band_survival([[3.0], [1.0]], [[1.0], [0.0]])
    array([0.75, 1.  ])
    """
    return survival_per_image(clean_energy, change_energy).mean(-1)


def predicted_loss(psi: ArrayLike, survival: ArrayLike) -> np.ndarray:
    """Return the loss that a profile predicts: sum over bands of (1 - survival) * value.

    Shapes: psi (M, ...) mean values of bands, survival (K, M); returns (K, ...) in the unit of psi.
    Source: docs/methods.md, Matching.

    >>> predicted_loss([4.0, 1.0], [[0.75, 0.0]])
    array([2.])
    """
    return np.tensordot(1 - np.asarray(survival, dtype=float), np.asarray(psi, dtype=float), 1)


def predicted_losses(
    values: ArrayLike, survival: ArrayLike, n_resamples: int = 400, seed: int = 0
) -> np.ndarray:
    """Return `predicted_loss` on the photographs and on resamples of them, (C, 1 + n_resamples).

    Shapes: values (M, N) of the bands of every photograph, survival (C, M, N) under C perturbations
    (`survival_per_image`).

    >>> values = np.array([[4.0], [1.0]]) + np.zeros((2, 9))
    >>> predicted_losses(values, np.full((1, 2, 9), 0.5)).shape
    (1, 401)
    """
    survival = np.asarray(survival, dtype=float)
    n_perturbations, n_bands, n = survival.shape
    psi, kept = (
        resampled_scores([each], lambda mean: mean, n_resamples, seed)[0]
        for each in (values, survival.reshape(-1, n))
    )
    return ((1 - kept.reshape(n_perturbations, n_bands, -1)) * psi).sum(1)
