"""Frequency-aware sampling around images: energy cutoff, band weights, samples."""

from __future__ import annotations

import torch
from torch import Tensor

from iaside.attribution.options import check_options
from iaside.backend.precision import undisturbed
from iaside.backend.seeds import random_like

EPS = 16 / 255


@undisturbed
def energy_cutoff(images: Tensor, kappa: float = 0.9, include_dc: bool = False) -> Tensor:
    """Find the radius that holds a share of the energy of each image.

    Shapes: images (B, C, H, W); returns (B,), the smallest radius, in cycles per shorter side,
    up to which frequencies hold at least ``kappa`` of the energy of all channels. The mean (DC)
    does not count unless ``include_dc``: it would outweigh all the rest.
    Errors: ValueError for kappa outside (0, 1].
    Source: docs/methods.md, Attribution, a reconstruction of the energy-based cutoff of Yavari et
    al. 2025.

    >>> wave = torch.cos(torch.arange(32) * (2 * torch.pi * 5 / 32)).expand(1, 1, 32, 32)
    >>> energy_cutoff(0.5 + 0.4 * wave).tolist()
    [5.0]
    """
    check_options({"kappa": kappa})
    x = images.cpu().double()  # not every device has double
    power = torch.fft.fft2(x).abs().square().sum(1)
    if not include_dc:
        power[:, 0, 0] = 0
    radius, order = _radii(images, full=True).flatten().sort(stable=True)
    held = power.flatten(1)[:, order].cumsum(1)
    wanted = kappa * held[:, -1:] * (1 - 1e-12)  # the last sum must reach kappa=1
    place = torch.searchsorted(held.contiguous(), wanted.contiguous())[:, 0]
    return radius[place.clamp(max=len(radius) - 1)].to(images)


@undisturbed
def band_weights(
    images: Tensor, alpha: float = 0.1, kappa: float = 0.9, include_dc: bool = False
) -> Tensor:
    """How strongly FAMPE perturbs each frequency of each image, between 0 and 1.

    Shapes: images (B, C, H, W); returns (B, 1, H, W//2 + 1), for ``torch.fft.rfft2``.
    Errors: ValueError for alpha outside [0, 1] or kappa outside (0, 1].
    Source: docs/methods.md, Attribution, a reconstruction: alpha weights the low frequencies.

    >>> band_weights(torch.rand(1, 3, 8, 8), alpha=0.0)[0, 0, 0, 0].item()
    0.0
    """
    check_options({"alpha": alpha, "kappa": kappa})
    cutoff = energy_cutoff(images, kappa, include_dc)[:, None, None, None]
    low = _radii(images).to(images) <= cutoff
    top = max(alpha, 1 - alpha)
    weights = torch.where(low, alpha / top, (1 - alpha) / top).to(images)
    if not include_dc:
        weights[..., 0, 0] = 0
    return weights


@undisturbed
def frequency_samples(
    x: Tensor,
    weights: Tensor,
    generators: list[torch.Generator],
    samples: int = 20,
    rho: float = 0.5,
    sigma: float = EPS,
    mode: str = "multiplicative",
) -> Tensor:
    """Draw frequency-aware samples around images (Fig. 2 of Yavari et al. 2025).

    Shapes: x (B, C, H, W); weights as ``band_weights`` returns them; generators one per image;
    returns (samples, B, C, H, W), not clipped to [0, 1]. The rest as in ``explore``.
    Source: docs/methods.md, Attribution, a reconstruction.

    >>> x = torch.rand(1, 3, 16, 16)
    >>> frequency_samples(x, band_weights(x), [torch.Generator()], samples=4).shape
    torch.Size([4, 1, 3, 16, 16])
    """
    draws = generators
    channels, (height, width) = x.shape[1], x.shape[-2:]
    noise = random_like(torch.randn, draws, (samples, channels, height, width), x)
    spectrum = torch.fft.rfft2(x + sigma * noise)
    if mode == "multiplicative":
        u = random_like(torch.rand, draws, (samples, channels, height, width // 2 + 1), x)
        spectrum = spectrum * (1 + 2 * rho * (u - 0.5) * weights)
    else:
        white = random_like(torch.randn, draws, (samples, channels, height, width), x)
        spectrum = spectrum + rho * weights * _band_rms(x, weights) * torch.fft.rfft2(
            white, norm="ortho"
        )
    return torch.fft.irfft2(spectrum, s=(height, width))


def _band_rms(x: Tensor, weights: Tensor) -> Tensor:
    """Root mean square of the coefficients in the band of each frequency, (B, 1, H, W//2 + 1)."""
    power = torch.fft.rfft2(x).abs().square().mean(1, keepdim=True)
    power[..., 0, 0] = 0
    rms = torch.zeros_like(weights)
    for value in weights.unique():
        band = (weights == value).to(x)
        energy, cells = ((t * band).sum((-2, -1), keepdim=True) for t in (power, 1))
        rms += band * (energy / cells.clamp(min=1)).sqrt()
    return rms


def _radii(x: Tensor, full: bool = False) -> Tensor:
    """Cycles per shorter side of each frequency of fft2 (full) or rfft2, float64 on the CPU."""
    height, width = x.shape[-2:]
    side = min(height, width)
    columns = torch.fft.fftfreq if full else torch.fft.rfftfreq
    ky = torch.fft.fftfreq(height, dtype=torch.float64, device="cpu")[:, None] * side
    kx = columns(width, dtype=torch.float64, device="cpu")[None] * side
    return (ky.square() + kx.square()).sqrt()
