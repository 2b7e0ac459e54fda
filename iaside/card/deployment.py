"""A model in a deployment: what its pictures lack, the loss foreseen from that, and the loss."""

from __future__ import annotations

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
from iaside.estimate.shares import survival_of_spectra, survival_per_image
from iaside.estimate.unpaired import unpaired_difference
from iaside.inputs.asked import Asked
from iaside.inputs.degraded import Degraded
from iaside.inputs.predicted import answers
from iaside.robustness.measures import predicted_losses
from iaside.spectral import band_energy, esd

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
