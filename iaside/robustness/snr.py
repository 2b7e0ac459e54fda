"""The spectral effect of perturbations of equal energy, and a network's responses to them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from iaside.backend.device import own_device
from iaside.backend.parallel import executor
from iaside.backend.precision import arithmetic
from iaside.backend.resume import Table, unfinished
from iaside.inputs.asked import Asked
from iaside.robustness.attacks import ATTACKS
from iaside.robustness.energy import match_energy
from iaside.robustness.perturb import perturb_noting
from iaside.spectral import band_energy, esd


def spectra(x: Tensor, masks: Tensor) -> np.ndarray:
    """ESD of each radius and energy in each band, side by side.

    Shapes: x (B, C, H, W), masks (M, H, W//2 + 1); returns (B, radii + M) float64.

    >>> from iaside.spectral import band_masks
    >>> spectra(torch.rand(2, 3, 8, 8), band_masks(2, (8, 8))).shape
    (2, 7)
    """
    return torch.cat([esd(x), band_energy(x, masks).T], 1).cpu().double().numpy()


@torch.no_grad()
def answers_correctly(model, image: Tensor, label: Tensor) -> bool:
    """Whether a network gives an image (1, C, H, W) its label, in true float32."""
    with arithmetic("float32", image.device):
        return bool(model(image).argmax(1) == label)


def perturbation_spectra(
    asked: Asked,
    images: Tensor,
    labels: Tensor,
    sources: Mapping[str, tuple[Sequence[int], Mapping]],
    energy: float,
    masks: Tensor,
    seed: int,
    about: Mapping,
    resume: str | os.PathLike | None = None,
    progress: bool = True,
    workers: object = None,
) -> np.ndarray:
    """Perturb images one at a time, each from its own seed, and scale the change to an energy.

    Shapes: images (N, C, H, W) in [0, 1], labels (N,), masks (M, H, W//2 + 1); returns (sources, N,
    radii + M + 1) float64: ``spectra`` of the change and whether the network still answers
    correctly, nan where nothing was asked.

    sources: name -> the images it is measured on, and what ``perturb`` is given.  energy: of the
    change, as a share of the image's own.  about: what all this depends on, by which a measurement
    in progress is found again in the folder ``resume``.  workers: who perturbs, as in
    ``iaside.backend.parallel.executor``: by default this process.
    An attack that left an image unchanged, or that found no usable gradient, is a row of zeros.
    """
    table = Table(
        unfinished(resume, "snr", about, __name__),
        (len(sources), len(images), spectra(images[:1], masks).shape[1] + 1),
    )
    jobs = [
        (s, int(k))
        for s, (chosen, _) in enumerate(sources.values())
        for k in chosen
        if np.isnan(table[s, k]).any()
    ]
    pool, device = executor(workers, images.device), images.device
    common = asked, images, labels, [how for _, how in sources.values()], energy, masks, seed
    rows = pool.each(_row, common, jobs, device, name=lambda s, k: f"image {k}")
    for (s, k), row in tqdm(rows, total=len(jobs), unit="image", disable=not progress):
        table[s, k] = row
    return table.values


def _row(common: tuple, s: int, k: int) -> list:
    """The spectral change of an image by a source, and whether the network is still correct."""
    asked, images, labels, sources, energy, masks, seed = common
    device = own_device(images.device)
    one, label = images[k : k + 1].to(device), labels[k : k + 1].to(device)
    with arithmetic("float32", device):
        changed = _perturbed(asked, one, label, k, seed, **sources[s])
        if not changed.equal(one):
            changed = match_energy(one, changed, energy)
        return [*spectra(changed - one, masks)[0], answers_correctly(asked, changed, label)]


def _perturbed(asked: Asked, one: Tensor, label: Tensor, k: int, seed: int, name, **how) -> Tensor:
    attack = {"model": asked, "labels": label} if name in ATTACKS else {}
    changed, usable = perturb_noting(one, name, seed=seed, first=k, clamp=False, **how, **attack)
    return changed if usable else one  # a random start is no attack
