"""A model in a deployment: what its pictures lack, the loss foreseen from that, and the loss."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iaside.backend.content import by_content
from iaside.card.harms import Clean
from iaside.estimate.accuracy import accuracy_interval
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval
from iaside.estimate.resampling import draws
from iaside.estimate.unpaired import unpaired_difference
from iaside.inputs.asked import Asked, recipe_of
from iaside.inputs.image_files import find_images
from iaside.inputs.images import count_images, load_images, load_pairs
from iaside.inputs.listing import find_source
from iaside.inputs.predicted import answers
from iaside.robustness.measures import predicted_losses, survival_of_spectra, survival_per_image
from iaside.spectral import band_energy, esd

N_PICTURES = 200  # of degraded ones that have no clean counterpart: a pass each
PAIRED = "log-likelihood of the class that it gives to the clean picture"
LABELLED = "log-likelihood of the right class"
CONFIDENCE = "log-probability of the class that it gives, as there are no labels"


@by_content
class Deployment(NamedTuple):
    """What a deployment does to the spectrum, and to the model, as its profile predicts and as
    measured.

    what: whose loss is measured, in nats: ``PAIRED`` where each picture has a clean counterpart;
    else ``LABELLED`` or ``CONFIDENCE``, compared with the photographs that the model was tested on,
    which are others.  survival: (M,) share of each band that survives;  rows: (n,) what is
    averaged, of each degraded picture: the loss of pairs, else the value there;  accuracy_lost:
    None where not labelled;  densities: (2, R) energy spectral density, clean and degraded.
    """

    name: str
    n: int
    what: str
    survival: np.ndarray
    predicted: Estimate
    measured: Estimate
    accuracy_lost: Estimate | None
    rows: np.ndarray
    densities: np.ndarray

    @property
    def paired(self) -> bool:
        return self.what == PAIRED

    @property
    def labelled(self) -> bool:
        return self.what == LABELLED

    def to_dict(self) -> dict:
        """Its numbers as JSON takes them."""
        return {
            "name": self.name,
            "n": self.n,
            "what": self.what,
            "survival": self.survival.tolist(),
            "predicted": self.predicted.as_dict(),
            "measured": self.measured.as_dict(),
            "accuracy_lost": self.accuracy_lost and self.accuracy_lost.as_dict(),
            "densities": self.densities.tolist(),
        }


@by_content
class Degraded(NamedTuple):
    """Pictures of a deployment: with clean ones row by row, or with labels, or alone."""

    name: str
    pictures: Tensor
    clean: Tensor | None = None
    labels: Tensor | None = None


def read_deployment(
    folder: str | os.PathLike,
    model: Callable,
    shape: tuple[int, int, int],
    classes: object = None,
    labelled: bool = True,
    seed: int = 0,
) -> Degraded:
    """The pictures of a folder: of clean/ and degraded/, or degraded ones alone, up to 200.

    shape: (C, H, W) of what the model takes;  classes: which label a named class has, as in
    ``load_images``;  labelled: whether labels are wanted. A folder of pictures with nothing else
    has none.
    Errors: those of ``load_images``; ValueError for a model of other channels than one or three.
    """
    channels, *size = shape
    if channels not in (1, 3):
        raise ValueError(
            f"deployment={str(folder)!r}: pictures are read in one or three channels, and the "
            f"model takes {channels}; leave it out, and give such arrays to ia.report as images"
        )
    path = find_source(folder)
    if (path / "clean").is_dir() and (path / "degraded").is_dir():
        clean, degraded = (_channels(x, channels) for x in load_pairs(path, tuple(size)))
        return Degraded(path.name, degraded, clean)
    fits = list(recipe_of(model).get("input_size", ()))[-2:] == size
    how = {"like": model} if fits else {"input_size": tuple(size)}
    source = pictures_alone(path) or path
    how |= {"n": min(N_PICTURES, count_images(source)), "seed": seed}
    if source is not path or not labelled:
        return Degraded(path.name, _channels(load_images(source, labels=False, **how), channels))
    pictures, labels = load_images(path, classes=classes, **how)
    return Degraded(path.name, _channels(pictures, channels), labels=labels)


def pictures_alone(path: Path) -> tuple[list[Path], list[int]] | None:
    """The pictures of a folder that holds nothing else, in the form of a source of ``load_images``
    whose labels mean nothing; None for any other folder."""
    if not path.is_dir():
        return None
    pictures, others = find_images(path)
    if others or not pictures or any(picture.parent != path for picture in pictures):
        return None
    return pictures, [0] * len(pictures)


def _channels(pictures: Tensor, channels: int) -> Tensor:
    same = pictures.shape[1] == channels
    return pictures if same else pictures.mean(1, keepdim=True)


def deployed(
    asked: Asked, shown: Degraded, images: Tensor, clean: Clean, values: np.ndarray, masks: Tensor
) -> Deployment:
    """What it costs the model there, and what the values (M, N) of its bands predict.

    images: (N, C, H, W) that the model was tested on, which gave `clean` and `values`.
    """
    if shown.clean is not None:
        return _of_pairs(asked, shown, values, masks)
    log_p = answers(asked, shown.pictures).log_softmax(1).double()
    energies = (band_energy(x, masks).double().numpy() for x in (images, shown.pictures))
    survival, predicted = foreseen(values, *energies)
    if shown.labels is None:
        what, rows, before = CONFIDENCE, log_p.amax(1).numpy(), np.log(clean.confidence)
        accuracy_lost = None
    else:
        what, before = LABELLED, clean.log_likelihood
        rows = log_p.gather(1, shown.labels[:, None])[:, 0].numpy()
        right = (log_p.argmax(1) == shown.labels).numpy()
        accuracy_lost = unpaired_difference(*map(accuracy_interval, (clean.right, right)))
    measured = unpaired_difference(*map(_mean, (before, rows)))
    return Deployment(
        shown.name, len(rows), what, survival, predicted, measured, accuracy_lost, rows,
        _densities(images, shown.pictures),
    )  # fmt: skip


def _of_pairs(asked: Asked, shown: Degraded, values: np.ndarray, masks: Tensor) -> Deployment:
    clean, degraded = shown.clean, shown.pictures
    energy = band_energy(clean, masks).numpy(), band_energy(degraded - clean, masks).numpy()
    survival = survival_per_image(*energy)
    before, after = (answers(asked, x).log_softmax(1) for x in (clean, degraded))
    given = before.argmax(1, keepdim=True)
    lost = (before.gather(1, given) - after.gather(1, given))[:, 0].double().numpy()
    resampled = predicted_losses(
        values, np.broadcast_to(survival.mean(-1)[None, :, None], (1, *values.shape))
    )[0]
    return Deployment(
        shown.name, len(clean), PAIRED, survival.mean(-1), _percentiles(resampled, values.shape[1]),
        _mean(lost), None, lost, _densities(clean, degraded),
    )  # fmt: skip


def foreseen(
    values: np.ndarray,
    clean_energy: np.ndarray,
    degraded_energy: np.ndarray,
    n_resamples: int = 400,
    seed: int = 0,
) -> tuple[np.ndarray, Estimate]:
    """The share of each band that survives, (M,), and the loss that a profile predicts of it.

    Shapes: values and clean_energy (M, N) of the same photographs, degraded_energy (M, n) of
    others. Resamples draw from both.

    >>> survival, loss = foreseen(np.ones((2, 9)), np.ones((2, 9)), 4 * np.ones((2, 7)))
    >>> survival.round(6).tolist(), float(loss.value)
    ([0.25, 0.25], 1.5)
    """
    weights = [
        np.concatenate([np.full((n, 1), 1 / n), draws(n, n_resamples, seed + k)], axis=1)
        for k, n in enumerate((values.shape[1], degraded_energy.shape[1]))
    ]
    psi, clean, degraded = (
        rows @ weights[k] for rows, k in ((values, 0), (clean_energy, 0), (degraded_energy, 1))
    )
    survival = survival_of_spectra(clean, degraded)
    resampled = ((1 - survival) * psi).sum(0)
    return survival[:, 0], _percentiles(resampled, values.shape[1] + degraded_energy.shape[1])


def _percentiles(resampled: np.ndarray, n: int) -> Estimate:
    low, high = np.quantile(resampled[1:], [0.025, 0.975])
    return Estimate(resampled[0], resampled[1:].std(ddof=1), low, high, n, "photographs")


def _mean(rows: np.ndarray) -> Estimate:
    return interval(rows[None], lambda mean: mean[0])


def _densities(clean: Tensor, degraded: Tensor) -> np.ndarray:
    return torch.stack([esd(x).mean(0) for x in (clean, degraded)]).double().numpy()
