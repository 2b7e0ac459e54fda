"""The one-call path: a model and images in, values and scores with intervals out."""

from __future__ import annotations

import html
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np
import scipy

from iaside.backend.files import read_json, read_npz, reading, write_text
from iaside.estimate.clean import clean_line, may_be_zero
from iaside.estimate.comparison import Comparison, row
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval, mean_interval, paired_interval
from iaside.estimate.rounding import total_worth
from iaside.estimate.shares import normalisation_noise
from iaside.game.samples import SampledWorths
from iaside.score import (
    check_settings,
    no_score,
    no_sid,
    score_difference,
    score_estimate,
    sid_difference,
    sid_estimate,
    spectral_importance,
)
from iaside.shapley import shapley_values
from iaside.tables import Worths, check_same_pictures

if TYPE_CHECKING:  # reports read explanations without torch, which takes seconds to import
    import pandas as pd
    from matplotlib.axes import Axes
    from torch import Tensor

    from iaside.game.game import Game, Settings
    from iaside.spectral import Masks

MIN_IMAGES_PER_CLASS = 5


@dataclass(eq=False)
class Explanation:
    """Which frequency bands a model lives on, with intervals; computed from a worths table.

    values (M, N): Shapley value of every band for every image, in the unit of the worths; of
    sampled worths unbiased estimates, whose noise is part of every interval.
    psi, sid, score: ``Estimate`` (value, se, low, high) of the mean values (M,), of the
    spectral importance distribution (M,) and of the spectral robustness score. A SID and its score
    are None where the sample does not show what they cut off (the weakest band, for "positive" the
    values below 0), or the score's sign where it is dropped, and where they pass narrowly limits
    allow for that (``score_estimate``); bias="none" gives them all the same.
    labels: (N,) class indices, needed by ``per_class`` only. score_kind: "paper" as printed
    in the papers, "tight" with the reachable maximum 1, "signed" also with the sign kept.

    Errors: ValueError for an unknown score_kind or bias, and those of ``iaside.score``.
    Source: Luo et al. 2024, Eqs. 3, 10 and 11.

    >>> w = Worths({"log_likelihood": np.random.default_rng(0).normal(size=(4, 9))}, {})
    >>> Explanation(w).psi.estimate.shape
    (2,)
    """

    worths: Worths | SampledWorths
    normalise: str = "minmax"
    beta: float = 0.75
    score_kind: str = "paper"
    level: float = 0.95
    labels: np.ndarray | None = None
    bias: str = "corrected"
    values: np.ndarray = field(init=False, repr=False)
    psi: Estimate = field(init=False, repr=False)
    sid: Estimate | None = field(init=False, repr=False)
    score: Estimate | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_settings(self.normalise, self.beta, self.score_kind, self.level, self.bias)
        if isinstance(self.worths, SampledWorths):
            self.values = self.worths.estimates.values
        else:
            self.values = shapley_values(self.worths.table)
        unit = self.worths.provenance.get("unit", "photographs")
        self.psi = replace(interval(self.values, lambda mean: mean, self.level), unit=unit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # too few images: said for psi
            self.sid = self._sid(self.values)
            self.score = self.src()
        if self.normalise == "minmax" and self.sid is not None and self.values.shape[1] > 1:
            normalisation_noise(self.values)

    def src(
        self, kind: str | None = None, beta: float | np.ndarray | None = None
    ) -> Estimate | None:
        """The score of another kind or at another beta, (); at several betas, (betas,).

        None where the score is not given; NaN at those betas of several where it is not.
        """
        if not _ordered(self):
            return None
        kind = kind or self.score_kind
        betas = np.asarray(self.beta if beta is None else beta, dtype=float)
        found = [
            score_estimate(self.values, b, kind, self.bias, self.level, self.normalise)
            for b in betas.ravel()
        ]
        if not any(found):
            return None
        none = Estimate.unsure(np.nan, self.psi.n, self.psi.unit)
        numbers = np.array([[*(one or none)] for one in found]).T.reshape(4, *betas.shape)
        return Estimate(*(part[()] for part in numbers), self.psi.n, self.psi.unit)

    def no_score(self, kind: str | None = None) -> str:
        """Why a score of a kind is not given, in words; "" where it is."""
        if not _ordered(self):
            return "the players have no order from low to high frequencies"
        return no_score(self.values, self.beta, kind or self.score_kind, self.normalise)

    def _sid(self, values: np.ndarray) -> Estimate | None:
        found = sid_estimate(values, self.bias, self.level, self.normalise)
        return found and replace(found, unit=self.psi.unit)

    @property
    def gain(self) -> np.ndarray:
        """v(all) - v(none) of every image, (N,), which its values add up to."""
        return total_worth(self.values)

    @property
    def shares(self) -> Estimate | None:
        """Each band's share of v(all) - v(none), (M,), signed; None where that may be 0.

        Unlike the min-max SID they do not depend on which band is the weakest.
        """
        if may_be_zero(self.gain, self.level):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # too few images: said for psi
            shares = interval(self.values, lambda mean: mean / mean.sum(0), self.level)
            return replace(shares, unit=self.psi.unit)

    def sid_per_image(self) -> np.ndarray:
        """The SID of every single image, (M, N); without intervals."""
        return spectral_importance(self.values, self.normalise)

    def per_class(self) -> dict[int, Estimate | None]:
        """The SID of every class that has at least 5 images, with intervals over its images.

        None for a class whose images do not show what is cut off (``sid_estimate``).
        Errors: ValueError when the explanation has no labels.
        """
        if self.labels is None:
            raise ValueError("this explanation has no labels; pass labels=(N,) class indices")
        labels = np.asarray(self.labels)
        classes, counts = np.unique(labels, return_counts=True)
        return {
            int(c): self._sid(self.values[:, labels == c])
            for c in classes[counts >= MIN_IMAGES_PER_CLASS]
        }

    def these_images(self) -> Estimate:
        """The mean values (M,) of these very images: exact, or with the error of the sample only.

        ``psi`` is for images in general, of which these are a sample.
        """
        mean, n = self.values.mean(1), self.values.shape[1]
        if not isinstance(self.worths, SampledWorths):
            return Estimate.exact(mean, n, self.psi.unit)
        se = np.sqrt(self.worths.estimates.draw_variance.sum(1)) / n
        reach = scipy.stats.t.ppf((1 + self.level) / 2, len(self.worths.image) // 2 - 2 * n) * se
        return Estimate(mean, se, mean - reach, mean + reach, n, self.psi.unit)

    def to_frame(self) -> pd.DataFrame:
        """A tidy table with one row per band and its values, SID and intervals.

        Where the SID is not given, its columns are NaN.
        """
        import pandas as pd

        columns = {"band": np.arange(len(self.values))}
        not_given = Estimate.unsure(np.full(len(self.values), np.nan), self.psi.n, self.psi.unit)
        for name, quantity in (("psi", self.psi), ("sid", self.sid or not_given)):
            columns[name] = quantity.estimate
            columns |= {f"{name}_{part}": getattr(quantity, part) for part in ("se", "low", "high")}
        return pd.DataFrame(columns)

    def __str__(self) -> str:
        about = self.worths.provenance
        what = self.psi.unit.replace("photographs", "images")
        setting = [f"{self.values.shape[1]} {what}", f"{len(self.values)} bands"]
        setting += [str(about[k]) for k in ("precision",) if k in about]
        setting += ["sampled"] * isinstance(self.worths, SampledWorths)
        value = next(iter(self.worths.tables))
        rows = mean_interval(np.vstack([self.gain, self.values]), self.level)
        gain = rows[0].limits(".3g")
        lines = [
            f"{', '.join(setting)}; v(all) - v(none) = {gain} ({value})",
            *clean_line(about, self.level).splitlines(),
        ]
        name, shown = ("SID", self.sid) if self.sid is not None else ("share", self.shares)
        limits = f"[{self.level:.0%} interval]"
        lines.append(f"band     psi  {limits}" + f"    {name:>5s}  {limits}" * (shown is not None))
        for i in range(len(self.values)):
            beside = "" if shown is None else f"    {row(shown[i], 6)}"
            lines.append(f"{i:4d} {row(self.psi[i], 7)}{beside}")
        if may_be_zero(self.gain, self.level):
            lines.append("v(all) - v(none) may be 0: the SID and its score say nothing")
        what = f"SRC ({self.score_kind}, beta {self.beta}, SID {self.normalise})"
        if self.score is not None:
            low, high = (f"{limit:.3f}" for limit in (self.score.low, self.score.high))
            lines.append(f"{what} {self.score.value:.3f}  [{low}, {high}]")
        else:
            why = self.no_score()
            whose = "score" if self.sid is not None else "SID and score"
            lines.append(f"{what}: {whose} not given: {why}")
        return "\n".join(lines)

    __repr__ = __str__

    def plot(self, value: str | None = None, ax: Axes | None = None) -> np.ndarray:
        """Draw the SID or the mean values with their intervals; returns the Axes, (1,).

        value: "sid", "psi", or None for the SID where it is given and else psi. ax: where to draw,
        None for a new figure, ``plot()[0].figure``.
        Errors: ValueError for value="sid" where it is not given.
        """
        from iaside import plots

        if value is None:
            value = "psi" if self.sid is None else "sid"
        if value == "sid" and self.sid is None:
            raise ValueError(
                f"the SID is not given: {no_sid(self.values, self.normalise)}; draw value='psi', "
                "or explain with bias='none'"
            )
        return plots.importance(self.to_frame().assign(model=""), value, ax=ax)

    def to_dict(self) -> dict:
        """Settings, bands and score as JSON takes them; numbers that are not given are None."""
        named = {k: getattr(self, k) for k in _SETTINGS}
        labels = None if self.labels is None else np.asarray(self.labels).tolist()
        bands = self.to_frame().astype(object)
        return {
            "settings": named,
            "labels": labels,
            "bands": bands.where(bands.notna(), None).to_dict("records"),
            "score": self.score and self.score.as_dict(),
            "provenance": self.worths.provenance,
        }

    def _repr_html_(self) -> str:
        """The table and its figure, in a notebook."""
        from iaside import plots

        lines = html.escape(str(self))
        figure = plots.data_uri(self.plot()[0].figure)
        return f'<pre>{lines}</pre><img alt="bands with 95 % intervals" src="{figure}">'

    def save(self, path: str | os.PathLike) -> None:
        """Write the worths to ``path`` (npz), and beside it a table (csv) and all else.

        ``load`` brings it back.
        """
        stem = str(path).removesuffix(".npz")  # a name such as resnet18.a1_in1k keeps its tag
        self.worths.save(f"{stem}.npz")
        write_text(f"{stem}.csv", self.to_frame().to_csv(index=False))
        write_text(f"{stem}.explanation.json", json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Explanation:
        """What ``save`` wrote. Errors: FileNotFoundError, or DamagedError that names the file."""
        stem = str(path).removesuffix(".npz")
        remedy = "save the explanation again"
        about = read_json(Path(f"{stem}.explanation.json"), "an explanation", remedy)
        sampled = "coalition" in read_npz(f"{stem}.npz")
        worths = (SampledWorths if sampled else Worths).load(f"{stem}.npz")
        with reading(f"{stem}.explanation.json", "an explanation", remedy):
            labels = None if about["labels"] is None else np.array(about["labels"])
            return cls(worths, labels=labels, **about["settings"])


_SETTINGS = ("normalise", "beta", "score_kind", "level", "bias")


def explain(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor | Literal["predicted"] | None,
    n_bands: int = 8,
    metric: str = "linf",
    spacing: str = "linear",
    masks: Masks | None = None,
    normalise: str = "minmax",
    beta: float = 0.75,
    score_kind: str = "paper",
    level: float = 0.95,
    tolerance: float | None = None,
    budget: int | None = None,
    bias: str = "corrected",
    *,
    relative: bool = False,
    resume: str | os.PathLike | None = None,
    progress: bool = True,
    **settings: Unpack[Settings],
) -> Explanation:
    """Explain by frequency bands what a model's predictions rest on.

    Shapes: images (N, C, H, W) in [0, 1], or signals (N, C, T) with ``masks``; labels (N,) class
    indices or (N, classes), or with a function as value any numbers that it takes, (N, ...), or
    "predicted" for the classes that the model gives to the images, which the provenance and the
    printed table say. ``settings`` are those of ``Game`` (value, absence, outputs, precision,
    batch_size, ...), resume and progress those of ``exact``; ``masks`` replaces the partition that
    n_bands, metric and spacing would make. With a tolerance (standard error of the mean values;
    with ``relative=True`` as a share of their sum) or a budget (forward passes) coalitions are
    sampled until it is reached (``sample``): up to 64 bands, and the columns are the images
    visited. With few passes an image it is rarely clear which band is the weakest, and then psi and
    shares are given but no SID and no score (``Explanation``); bias="none" gives these, too.

    Errors: as ``band_masks``, ``Game``, ``exact`` and ``sample``; ValueError for
    normalise="share" where v(all) - v(none) of several images is not clearly above 0, which is
    seen first.
    Source: Luo et al. 2024, sections 3.1 to 3.4.

    >>> import torch
    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1)
    >>> e = explain(brightness, torch.rand(9, 3, 16, 16), torch.zeros(9).long(), n_bands=3,
    ...             batch_size=8, progress=False)
    >>> print(e.psi.n, "photographs; strongest: band", e.psi.value.argmax())
    9 photographs; strongest: band 0
    """
    from iaside.backend.partition import check_partition
    from iaside.game.exact import exact  # here: a table is read without torch
    from iaside.game.game import Game
    from iaside.game.sampling import check_request, sample
    from iaside.inputs.checks import check_images
    from iaside.inputs.predicted import predicted
    from iaside.spectral import band_masks

    check_settings(normalise, beta, score_kind, level, bias)
    sampled = tolerance is not None or budget is not None
    if sampled:
        check_request(tolerance, budget)
    elif relative:
        raise ValueError("relative=True says how to read tolerance=; give that too")
    images = check_images(images, on_disk=True, signals=True)
    if masks is None:
        if images.ndim == 3:  # or grey pictures without their channel would be taken for signals
            raise ValueError(
                f"images {tuple(images.shape)} are signals (N, C, T): give masks=band_masks("
                f"{n_bands}, {tuple(images.shape[2:])}), or grey pictures as images[:, None]"
            )
        masks = band_masks(n_bands, tuple(images.shape[-2:]), metric, spacing, images)
    if not callable(masks) and len(check_partition(masks, images.shape[2:])) == 1:
        raise ValueError("one band has all the worth and no share to tell; take 2 bands or more")
    own = isinstance(labels, str) and labels == "predicted"
    if own:
        how = {k: settings[k] for k in ("outputs", "precision", "device") if k in settings}
        labels = predicted(model, images, **how)
    game = Game(model, images, labels, masks, **settings)
    if own:
        game.provenance["labels_from"] = "the model"
    if normalise == "share":
        _check_gain(game, level)
    if sampled:
        worths = sample(game, tolerance, budget, relative, resume, progress)
    else:
        worths = exact(game, resume, progress)
    of_classes = game.labels is not None and game.labels.ndim == 1
    hard = game.labels.cpu().numpy() if of_classes and not game.labels.is_floating_point() else None
    if hard is not None and sampled:
        hard = hard[worths.images]
    return Explanation(worths, normalise, beta, score_kind, level, hard, bias)


def _check_gain(game: Game, level: float) -> None:
    """Two passes an image say whether there is something that shares can be divided by."""
    none, whole = game.per_image(np.repeat([[False], [True]], game.n_players, axis=1))
    gain = whole - none
    spectral_importance([gain.mean(), 0.0], "share")
    if len(gain) > 1 and may_be_zero(gain, level):
        raise ValueError(
            f"normalise='share' divides by v(all) - v(none), {gain.mean():.3g} on average of "
            f"{len(gain)} images and not clearly above 0; use normalise='minmax', or the raw "
            "values (psi)"
        )


def _ordered(e: Explanation) -> bool:
    """Whether its players go from low to high frequencies, as orientations do not."""
    return e.worths.provenance.get("ordered", True)


def _columns(e: Explanation) -> np.ndarray:
    """The images that the columns of the values are of."""
    return e.worths.images if isinstance(e.worths, SampledWorths) else np.arange(e.values.shape[1])


def compare(first: Explanation, second: Explanation) -> Comparison:
    """Compare two models on the same images, image by image.

    Returns the differences of mean values (M,), SID (M,) and score, first minus second; each
    resample draws the same images for both, so what the images have in common cancels. There is no
    difference (None) of what one of the two explanations does not give, and limits allow for the
    choice where both do (``score_estimate``).
    Errors: ValueError when the value, the absence, the photographs, labels or score settings of
    the two differ. Other crops of the same photographs are the same (``check_same_pictures``).

    >>> w = Worths({"v": np.random.default_rng(0).normal(size=(4, 9))}, {})
    >>> compare(Explanation(w), Explanation(w)).score.estimate
    np.float64(0.0)
    """
    for what in _SETTINGS:
        if getattr(first, what) != getattr(second, what):
            raise ValueError(
                f"{what} is {getattr(first, what)!r} in one explanation and "
                f"{getattr(second, what)!r} in the other; make both with the same"
            )
    names = [list(e.worths.tables)[0] for e in (first, second)]
    if names[0] != names[1]:
        raise ValueError(f"worths are {names[0]} and {names[1]}; compare the same value")
    fills = [e.worths.provenance.get("absence") for e in (first, second)]
    if fills[0] != fills[1]:
        raise ValueError(f"absent bands are {fills[0]} and {fills[1]}; compare the same absence")
    if first.worths.provenance.get("labels") != second.worths.provenance.get("labels"):
        raise ValueError(
            "the two explanations were made with different labels, so not on the same images; "
            "use load_images with the same source, n and seed for both"
        )
    seen = [_columns(e) for e in (first, second)]
    if not np.array_equal(*seen):
        raise ValueError(
            f"one explanation is of {len(seen[0])} images and the other of {len(seen[1])}, not all "
            "the same; sampled worths need a tolerance that visits all images, or subset="
        )
    check_same_pictures(first.worths.provenance, second.worths.provenance)

    pair, level = (first.values, second.values), first.level
    how = first.beta, first.score_kind, first.bias, level, first.normalise
    found = (
        paired_interval(*pair, lambda mean: mean, level),
        sid_difference(*pair, first.bias, level, first.normalise),
        score_difference(*pair, *how) if _ordered(first) else None,
    )
    return Comparison(*(one and replace(one, unit=first.psi.unit) for one in found))
