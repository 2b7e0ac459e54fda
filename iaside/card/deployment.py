"""A model in a deployment: what its pictures lack, the loss foreseen from that, and the loss."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy
import torch
from torch import Tensor

from iaside.backend.content import by_content
from iaside.card.harms import Clean
from iaside.estimate.accuracy import accuracy_interval
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval
from iaside.estimate.resampling import draws
from iaside.estimate.shares import survival_per_image
from iaside.estimate.unpaired import unpaired_difference
from iaside.inputs.asked import Asked
from iaside.inputs.degraded import Degraded
from iaside.inputs.predicted import answers
from iaside.robustness.measures import predicted_losses
from iaside.spectral import band_energy, esd

PAIRED = "log-likelihood of the class that it gives to the clean picture"
LABELLED = "log-likelihood of the right class"
CONFIDENCE = "log-probability of the class that it gives, as there are no labels"
HALVES = scipy.stats.norm.ppf((np.arange(100) + 0.5) / 100)  # places of a normal distribution
LARGEST = 30.0  # of a log ratio of energies: beyond it all is lost


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
    others. Between two samples of the same kind next to no loss is found on average
    (`survival_by_halves`), so that a share may come out above 1 and a loss below 0. Resamples draw
    from both sets.

    >>> survival, loss = foreseen(np.ones((2, 9)), np.ones((2, 9)), 4 * np.ones((2, 7)))
    >>> survival.round(6).tolist(), round(float(loss.value), 6)
    ([0.25, 0.25], 1.5)
    """
    weights = [
        np.concatenate([np.full((n, 1), 1 / n), draws(n, n_resamples, seed + k)], axis=1)
        for k, n in enumerate((values.shape[1], degraded_energy.shape[1]))
    ]
    survival = survival_by_halves(clean_energy, degraded_energy, *weights)
    resampled = ((1 - survival) * (values @ weights[0])).sum(0)
    return survival[:, 0], _percentiles(resampled, values.shape[1] + degraded_energy.shape[1])


def survival_by_halves(
    clean: np.ndarray, degraded: np.ndarray, of_clean: np.ndarray, of_degraded: np.ndarray
) -> np.ndarray:
    """The share of each band that survives, of spectra of different photographs, (M, R).

    Put into `survival_of_spectra`, energies that differ by chance alone look like a loss: what a
    band happens to have more is taken for noise, and what it has less for blur. So which of the two
    it was, and how much, are asked of two halves of the photographs that know nothing of each
    other: where nothing was lost, what the one takes for noise is as often less as more in the
    other. Averaged over all such halves, of a normal distribution of the log ratio of energies.

    Shapes: energies (M, N) and (M, n), weights of the photographs (N, R) and (n, R) in R resamples.
    """
    (log_c, var_c), (log_d, var_d) = map(_log_mean, (clean, degraded), (of_clean, of_degraded))
    with np.errstate(invalid="ignore"):  # no energy in either: the same
        ratio = np.nan_to_num(log_d - log_c, nan=0.0, posinf=LARGEST, neginf=-LARGEST)
    ratio, variance = ratio.clip(-LARGEST, LARGEST), var_c + var_d
    lost = np.zeros(ratio.shape)
    for z in HALVES:  # how far the halves lie from the whole, one to each side
        apart = z * np.sqrt(variance)
        lost += _lost(ratio + apart > 0, ratio - apart, 2 * variance)
    return 1 - lost / len(HALVES)


def _lost(noisy: np.ndarray, ratio: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The share of a band that is lost to noise or to blur, if its log ratio of energies is known
    up to a variance: that of `survival_of_spectra`, less what the variance adds to it."""
    variance = variance.clip(max=1)  # of so few photographs no correction is one
    by_noise = 1 - np.exp(-ratio - variance / 2)
    root = np.exp(ratio / 2)
    change = 1 - 2 * root * np.exp(-variance / 8) + root**2 * np.exp(-variance / 2)
    return np.where(noisy, by_noise, change / (1 + change))


def _log_mean(energy: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The log of mean energies without the bias of a log, and its variance, (M, R) each."""
    mean, square = energy @ weights, energy**2 @ weights
    n = energy.shape[1]
    relative = np.divide(square, mean**2, out=np.ones(mean.shape), where=mean > 0) - 1
    variance = relative.clip(min=0) / max(1, n - 1)
    with np.errstate(divide="ignore"):
        return np.log(mean) + variance / 2, variance


def _percentiles(resampled: np.ndarray, n: int) -> Estimate:
    low, high = np.quantile(resampled[1:], [0.025, 0.975])
    return Estimate(resampled[0], resampled[1:].std(ddof=1), low, high, n, "photographs")


def _mean(rows: np.ndarray) -> Estimate:
    return interval(rows[None], lambda mean: mean[0])


def _densities(clean: Tensor, degraded: Tensor) -> np.ndarray:
    return torch.stack([esd(x).mean(0) for x in (clean, degraded)]).double().numpy()
