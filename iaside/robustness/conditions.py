"""Conditions of a table of responses: which there are, and how images are perturbed for one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from iaside.backend.checks import ALLOWED, check_values
from iaside.backend.precision import undisturbed
from iaside.inputs.checks import check_images
from iaside.robustness.attacks import ATTACKS
from iaside.robustness.noise import NOISES
from iaside.robustness.perturb import perturb, perturb_noting
from iaside.tables import CORRUPTIONS, FOURIER, Condition, heat_frequencies

STRENGTH = {  # what perturb calls the strength of a source
    **{name: noise.strength for name, noise in NOISES.items()},
    "fgsm": "eps",
    "pgd": "eps",
    "pgd_restarts": "eps",
    **dict.fromkeys(CORRUPTIONS, "severity"),
}


def condition_name(condition: Condition) -> str:
    return f"{condition.source} {condition.strength:g}"


def _as_option(option: str, strength: float) -> float | int:
    """A strength as perturb takes it: an integer where the option must be one."""
    fits = ALLOWED[option][1]
    return strength if fits(strength) or not float(strength).is_integer() else int(strength)


def check_condition(condition: Condition, n_bands: int, heat_grid: int) -> None:
    source, strength, place = condition
    if source == "clean":
        return
    if source not in STRENGTH and source != FOURIER:
        raise ValueError(
            f"{source!r} is no source of perturbations that has a strength; "
            f"choose one of {', '.join((*STRENGTH, FOURIER))}"
        )
    if source == FOURIER:
        heat_cells(heat_grid)  # which refuses what has no middle
    option = STRENGTH.get(source, "norm")
    check_values({option: _as_option(option, strength)})
    places = {FOURIER: heat_grid**2, "white_noise": n_bands, "pgd": n_bands}.get(source, 0)
    if not (place == -1 and source != FOURIER) and not 0 <= place < places:
        raise ValueError(f"{condition}: its place must be below {places}, or -1 for none")


def perturbed_images(
    condition, model, x, y, chosen, masks, heat_grid, seed, device, at_once
) -> tuple[Tensor, np.ndarray]:
    """The chosen images under a condition, on the CPU. Image i draws from (seed, i) in the set.

    And which of them gave an attack a usable gradient: all, where none is needed.
    """
    source, strength, place = condition
    every = np.ones(len(x), bool)
    if source == "clean":
        return x, every
    if source == FOURIER:
        return fourier_noise(x, strength, heat_grid, place, seed, chosen.tolist()), every
    option = STRENGTH[source]
    options = {option: _as_option(option, strength), "seed": seed}
    if place >= 0:
        options |= {"band": place, "masks": masks}
    if source not in ATTACKS:
        parts = [
            perturb(x[k : k + 1], source, first=int(i), **options) for k, i in enumerate(chosen)
        ]
        return torch.cat(parts), every
    parts = []
    for k in range(0, len(x), at_once):
        here = slice(k, k + at_once)
        xs, ys = x[here].to(device), y[here].to(device)
        parts.append(
            perturb_noting(xs, source, model=model, labels=ys, first=int(chosen[k]), **options)
        )
    attacked, usable = map(torch.cat, zip(*parts, strict=True))
    return attacked.cpu(), usable.numpy()


@undisturbed
def fourier_noise(
    x: Tensor, norm: float, grid: int, cell: int, seed: int = 0, index: Sequence[int] | None = None
) -> Tensor:
    """Add a Fourier basis function of a given L2 norm per channel to images, clipped to [0, 1].

    The grid spans the whole spectrum: cell (i, j) of grid x grid, counted row by row, is the
    frequency closest to (i, j) * side / (grid - 1) - side / 2 cycles per image, DC in the middle.
    The sign of each channel of image k of the set is drawn from (seed, k); index: which of the set
    these images are, None for the first ones.

    Shapes: x (B, C, H, W) in [0, 1]; returns the same.
    Errors: ValueError/TypeError for pixels outside [0, 1], a norm that is no number from 0, an even
    grid or one below 3, a cell that it has not, or another number of places than of images.
    Source: Yin et al. 2019 (irfft2 of one cell, unit norm, sign per channel).

    >>> x = torch.full((1, 3, 16, 16), 0.5)
    >>> y = fourier_noise(x, 1.0, 5, 12)  # the middle: DC
    >>> sorted({round(v, 4) for v in (y - x).abs().flatten().tolist()})
    [0.0625]
    """
    x = check_images(x)
    check_values({"norm": norm, "seed": seed})
    index = range(len(x)) if index is None else index
    heat_cells(grid)  # which refuses what has no middle
    if not 0 <= cell < grid**2 or len(index) != len(x):
        raise ValueError(
            f"cell={cell} of grid={grid} for {len(index)} places of {len(x)} images: cells count "
            f"from 0 to {grid**2 - 1}, and every image has one place"
        )
    height, width = x.shape[-2:]
    ky = heat_frequencies(height, grid)[cell // grid]
    kx = heat_frequencies(width, grid)[cell % grid]
    rows = torch.arange(height, dtype=torch.float64)[:, None] * ky / height
    phase = 2 * math.pi * (rows + torch.arange(width, dtype=torch.float64) * kx / width)
    wave = phase.cos()
    wave = (wave / wave.norm()).to(x)
    signs = torch.stack(
        [
            torch.randint(
                0, 2, (x.shape[1], 1, 1), generator=torch.Generator().manual_seed(seed + 7919 * k)
            )
            * 2
            - 1
            for k in index
        ]
    )
    return (x + norm * signs.to(x) * wave).clamp(0, 1)


def heat_cells(grid: int) -> list[int]:
    """The cells of a heat map that have to be measured: a wave equals the one reflected at DC.

    Errors: ValueError for an even grid or one below 3, which has no middle.

    >>> heat_cells(3)
    [0, 1, 2, 3, 4]
    """
    if grid < 3 or grid % 2 == 0:
        raise ValueError(f"heat_grid={grid} must be an odd number from 3, with DC in its middle")
    return list(range(grid**2 // 2 + 1))
