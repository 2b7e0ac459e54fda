"""Cheaper predictors of robustness, measured: critical-band masking and input gradients.

Other alternatives to the spectral score need no pass of their own: confidence and clean error are
in every table of responses, and leaving one band out is in that of all coalitions. Verdicts are
drawn elsewhere: `predictors` reads the tables.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from iaside.backend.checks import check_values
from iaside.backend.device import device_of, own_device
from iaside.backend.fingerprints import fingerprint, fingerprint_model, look
from iaside.backend.gradients import cross_entropy, gradients
from iaside.backend.parallel import executor
from iaside.backend.partition import check_partition
from iaside.backend.precision import arithmetic, check_precision, undisturbed
from iaside.backend.resume import Table, unfinished
from iaside.backend.seeds import generators, seeds_of
from iaside.estimate.clean import clean_summary, warn_of_chance
from iaside.inputs.asked import Asked
from iaside.inputs.checks import check_images, finite_logits, widened
from iaside.inputs.differentiable import differentiable
from iaside.inputs.labels import class_labels
from iaside.inputs.probe import PROBE, probe
from iaside.spectral import band_energy
from iaside.tables import Rivals

LOWEST = 1.75  # cycles an image: the centre of the lowest octave
CONTRAST = 0.2
NOISE_SD = (0.02, 0.04, 0.08, 0.16)  # each twice the one before
LUMA = (0.299, 0.587, 0.114)  # of ITU-R BT.601, as Pillow's grey
GRADIENTS = 4  # pictures a pass with gradients on a CPU: more are no faster


@undisturbed
def rivals(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    masks: Tensor,
    noise_sd: Sequence[float] = NOISE_SD,
    contrast: float = CONTRAST,
    seed: int = 0,
    precision: str = "float32",
    batch_size: int = 8,
    resume: str | os.PathLike | None = None,
    workers: object = None,
    progress: bool = True,
    outputs: str = "logits",
    engine: str = "torch",
) -> Rivals:
    """Ask a network about grey pictures under octaves of noise, and for its input gradients.

    Shapes: images (N, C, H, W) in [0, 1], labels (N,) class indices, masks (M, H, W//2 + 1).

    Critical-band masking: every picture in grey at ``contrast`` (`grey`), as it is and with noise
    (`octave_noise`) of each octave that fits the size (`octaves`) at each standard deviation of
    ``noise_sd``, cut to [0, 1]: whether the answer is right, and the log-likelihood. The noise of
    picture i depends on (seed, i) and the size alone: it is the same for all networks of one size,
    and at every standard deviation. Answers are given in ``precision`` by ``engine``, as in
    ``coalition_worths``.
    Input gradient: of the log-likelihood with respect to the pixels of the picture itself, in true
    float32 by PyTorch: the share of its energy in each band of ``masks``, the mean of each channel
    left out; nan for a picture whose gradient is not finite or zero everywhere but there.

    resume, workers, batch_size, outputs: as in ``responses``.
    Errors: ValueError/TypeError for images outside [0, 1], labels or masks that do not fit, noise
    that is not above 0 and rising, a contrast that is no share, pictures too small for an octave, a
    model that ``iaside.inputs.probe`` refuses or that gives no gradient, nan or infinite answers.
    Source: Subramanian et al. 2023; ideal octaves instead of the levels of a Laplacian
    pyramid, noise for each picture at every level instead of one drawn, mid-grey instead of
    ImageNet's mean.

    >>> from iaside.spectral import band_masks
    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), x[:, 0, 0, 0]], 1)
    >>> r = rivals(brightness, torch.rand(3, 3, 16, 16), torch.zeros(3).long(),
    ...            band_masks(2, (16, 16)), progress=False)
    >>> r.tables["correct"].shape, r.gradient_share.shape
    ((3, 5, 3), (2, 3))
    """
    images = widened(check_images(images))
    masks = check_partition(masks, images.shape[2:])
    _check(noise_sd, contrast)
    check_precision(precision)
    check_values({"batch_size": batch_size, "seed": seed})
    centres, _ = octaves(*images.shape[-2:])
    device = device_of(model, None)
    pool = executor(workers, device)
    labels = class_labels(labels, len(images)).cpu()
    asked = probe(
        model, images, labels, outputs=outputs, precision=precision, device=device, engine=engine
    )
    about = {
        "model": fingerprint_model(asked.model, asked.answer),
        **asked.about,
        "images": fingerprint(images),
        "look": look(images),
        "labels": fingerprint(labels),
        "masks": fingerprint(masks),
        "n_images": len(images),
        "n_bands": len(masks),
        "size": list(images.shape[-2:]),
        "noise_sd": [float(sd) for sd in noise_sd],
        "contrast": contrast,
        "seed": seed,
        "precision": precision,
        "device": device.type,
    }
    of = _Questions(
        asked, images, labels, masks, float(contrast), seed, precision, device, int(batch_size)
    )
    n = len(images)
    levels = [(0, 0.0), *((k, float(sd)) for k in range(len(centres)) for sd in noise_sd)]
    answers = Table(unfinished(resume, "masking", about, __name__), (len(levels), 2, n))
    slopes = Table(unfinished(resume, "slopes", about, __name__), (2 + len(masks), n))
    todo = [(r, *levels[r]) for r in range(len(levels)) if np.isnan(answers[r]).any()]
    at_once = GRADIENTS if device.type == "cpu" else int(batch_size)
    parts = [slice(k, min(k + at_once, n)) for k in range(0, n, at_once)]
    parts = [(here,) for here in parts if np.isnan(slopes[:2, here]).any()]
    with tqdm(total=len(todo) + len(parts), disable=not progress, unit="job") as bar:
        for (row, *_), found in pool.each(_masked, of, todo, device, name=_level):
            answers[row] = found
            bar.update()
        for (here,), found in pool.each(_slopes, of, parts, device, name=_some):
            slopes[:, here] = found
            bar.update()
    log_p, correct = (_by_octave(answers[:, k], len(centres)) for k in range(2))
    clean = dict(zip(("log_likelihood", "accuracy"), slopes[:2], strict=True))
    about |= clean_summary(clean, asked.classes)
    warn_of_chance(about)
    tables = {"log_likelihood": log_p, "correct": correct}
    return Rivals(np.array(centres), np.array([0.0, *noise_sd]), tables, slopes[2:], about)


def rival_passes(height: int, width: int, n_sd: int, n_images: int) -> np.ndarray:
    """Images that ``rivals`` shows the model, and gradients it asks of it, (2,) int64.

    >>> rival_passes(224, 224, 4, 24).tolist()  # six to see what the model does first
    [726, 24]
    """
    levels = 1 + len(octaves(height, width)[0]) * n_sd
    return np.array([PROBE + (levels + 1) * n_images, n_images])


@undisturbed
def grey(x: Tensor, contrast: float = CONTRAST) -> Tensor:
    """Pictures in grey, of their own structure at a contrast around mid-grey.

    Every channel is 0.5 + contrast (Y - mean of Y), Y the luma of ITU-R BT.601 where there are
    three channels, else their mean.

    Shapes: x (B, C, H, W) in [0, 1]; returns (B, C, H, W).
    Source: Subramanian et al. 2023.

    >>> y = grey(torch.rand(2, 3, 8, 8))
    >>> torch.allclose(y.mean((2, 3)), torch.tensor(0.5)), bool(y[:, 0].equal(y[:, 2]))
    (True, True)
    """
    channels = x.shape[1]
    weights = LUMA if channels == len(LUMA) else (1 / channels,) * channels
    y = torch.einsum("bchw,c->bhw", x, torch.tensor(weights, device=x.device).to(x))[:, None]
    y = 0.5 + contrast * (y - y.mean((2, 3), keepdim=True))
    return y.expand_as(x).clamp(0, 1)


@undisturbed
def octaves(height: int, width: int) -> tuple[list[float], Tensor]:
    """The octaves of noise that fit a size: their centres in cycles an image, and masks.

    Centres are 1.75 * 2**k up to half the shorter side; a band holds the frequencies from its
    centre over the square root of 2 to less than its centre times that.

    Shapes: masks (K, H, W//2 + 1) of 0.0 and 1.0.
    Errors: ValueError for pictures too small for two.
    Source: Subramanian et al. 2023: seven at 224 pixels, four at 32.

    >>> octaves(32, 32)[0], len(octaves(224, 224)[0])
    ([1.75, 3.5, 7.0, 14.0], 7)
    """
    half, centres = min(height, width) / 2, []
    while LOWEST * 2 ** len(centres) <= half:
        centres.append(LOWEST * 2 ** len(centres))
    if len(centres) < 2:
        raise ValueError(f"pictures of {height}x{width} pixels hold no two octaves of noise")
    ky = torch.fft.fftfreq(height, 1 / height, dtype=torch.float64)[:, None]
    kx = torch.fft.rfftfreq(width, 1 / width, dtype=torch.float64)
    radius = (ky.square() + kx.square()).sqrt()
    low = torch.tensor(centres, dtype=torch.float64)[:, None, None] / 2**0.5
    return centres, ((radius >= low) & (radius < 2 * low)).float()


@undisturbed
def octave_noise(
    height: int, width: int, octave: int, seed: int = 0, first: int = 0, n: int = 1
) -> Tensor:
    """White Gaussian noise confined to one octave, with a root mean square of exactly 1.

    Shapes: returns (n, 1, H, W) on the CPU; the noise of picture i is drawn from (seed, first + i),
    and its white noise is the same in all octaves.
    Errors: ValueError for an octave that the size does not hold.

    >>> octave_noise(32, 32, 2).square().mean().round(decimals=5).item()
    1.0
    """
    _, masks = octaves(height, width)
    if not 0 <= octave < len(masks):
        raise ValueError(f"octave={octave!r}: {height}x{width} pixels hold 0 to {len(masks) - 1}")
    draws = generators(seeds_of(seed, first, n))
    white = torch.stack([torch.randn((1, height, width), generator=g) for g in draws])
    noise = torch.fft.irfft2(torch.fft.rfft2(white.double()) * masks[octave], s=(height, width))
    return (noise / noise.square().mean((2, 3), keepdim=True).sqrt()).float()


class _Questions(NamedTuple):
    """Data shared by all jobs."""

    asked: Asked
    images: Tensor
    labels: Tensor
    masks: Tensor
    contrast: float
    seed: int
    precision: str
    device: torch.device
    batch_size: int


@torch.no_grad()
def _masked(of: _Questions, row: int, octave: int, sd: float) -> np.ndarray:
    """Log-likelihood and whether right of every grey picture under noise, (2, N)."""
    device, found = own_device(of.device), []
    for first in range(0, len(of.images), of.batch_size):
        x = grey(of.images[first : first + of.batch_size], of.contrast)
        if sd:
            noise = octave_noise(*x.shape[-2:], octave, of.seed, first, len(x))
            x = (x + sd * noise.to(x)).clamp(0, 1)
        with arithmetic(of.precision, device):
            logits = of.asked(x.to(device))
        found.append(_judged(logits, of.labels[first : first + len(x)].to(device)))
    return np.concatenate(found, 1)


def _slopes(of: _Questions, here: slice) -> np.ndarray:
    """Log-likelihood, whether right, and the share of the gradient in each band, (2 + M, n)."""
    device = own_device(of.device)
    x, y = of.images[here].to(device), of.labels[here].to(device)
    with differentiable(of.asked, "the input gradient", device) as model:
        (slope,), logits = gradients(model, x, [(cross_entropy, y)], len(x))
    return np.concatenate([_judged(logits, y), gradient_shares(slope, of.masks)])


@undisturbed
def gradient_shares(slope: Tensor, masks: Tensor) -> np.ndarray:
    """The share of the energy of gradients in each band, the mean of each channel left out.

    Shapes: slope (B, C, H, W), masks (M, H, W//2 + 1); returns (M, B) float64, nan for a gradient
    that is not finite or has no energy but in the mean.

    >>> from iaside.spectral import band_masks
    >>> gradient_shares(torch.zeros(1, 3, 8, 8), band_masks(2, (8, 8))).tolist()
    [[nan], [nan]]
    """
    slope = slope.detach().double()
    largest = slope.abs().amax((1, 2, 3), keepdim=True)  # squares of small ones would be 0
    usable = (largest > 0) & largest.isfinite()
    slope = torch.where(usable, slope / torch.where(usable, largest, 1), 0)
    slope = slope - slope.mean((2, 3), keepdim=True)
    energy = band_energy(slope, masks.to(slope.device)).cpu().numpy()
    total = energy.sum(0)
    usable = total > 1e-20 * slope[0].numel()  # what rounding leaves of a mean
    return np.divide(energy, total, out=np.full(energy.shape, np.nan), where=usable)


def _judged(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Log-likelihood of the label and whether it is the answer, (2, n) float64."""
    logits = finite_logits(logits)
    log_p = logits.log_softmax(-1).gather(1, labels[:, None])[:, 0]
    right = logits.argmax(1) == labels
    return torch.stack([log_p, right.to(log_p)]).cpu().double().numpy()


def _by_octave(levels: np.ndarray, n_octaves: int) -> np.ndarray:
    """Rows of no noise and of every octave's levels (1 + K * S, N) -> (K, 1 + S, N)."""
    none = np.broadcast_to(levels[0], (n_octaves, 1, levels.shape[1]))
    return np.concatenate([none, levels[1:].reshape(n_octaves, -1, levels.shape[1])], 1)


def _level(row: int, octave: int, sd: float) -> str:
    return f"noise of sd {sd:g} in octave {octave}"


def _some(here: slice) -> str:
    return f"images {here.start} to {here.stop - 1}"


def _check(noise_sd: Sequence[float], contrast: float) -> None:
    for sd in noise_sd:
        check_values({"sigma": sd})
    if not len(noise_sd) or min(noise_sd) <= 0 or list(noise_sd) != sorted(set(noise_sd)):
        raise ValueError(f"noise_sd={list(noise_sd)!r} must be numbers above 0, the least first")
    check_values({"amount": contrast})
    if not contrast:
        raise ValueError("contrast=0 leaves nothing to see; give a share above 0, up to 1")
