"""Partition the spectrum, split images into bands that add up to them, measure spectra.

Everything lives in the layout of ``torch.fft.rfft2``: H rows of signed frequencies, W//2 + 1
columns of non-negative ones. A mask that depends on |frequency| alone is then exactly Hermitian,
so every band of a real image is a real image. Signals (B, C, T) are images of one axis: T//2 + 1
frequencies, up to that of Nyquist.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from iaside.backend.checks import is_whole
from iaside.backend.partition import WHOLE, WORDS, bands_made, check_partition, in_units
from iaside.backend.precision import undisturbed

METRICS = ("linf", "l2", "l2_corner")
SPACINGS = ("linear", "log2", "equal_cells", "equal_energy")
Masks = Tensor | Callable[[Tensor], Tensor]
AT_ONCE = 16  # images that are transformed together: memory must not grow with their number


@undisturbed
def band_masks(
    n_bands: int,
    size: Sequence[int],
    metric: str = "linf",
    spacing: str = "linear",
    images: Tensor | None = None,
) -> Tensor:
    """Cut the spectrum of an image or a signal into bands, lowest frequencies first.

    The radius r of a frequency is 0 at DC and 1 at the Nyquist frequency of an axis:
    ``linf`` max(|u|, |v|), ``l2`` the Euclidean norm with the corners (r > 1) in the last band,
    ``l2_corner`` the Euclidean norm over sqrt(2), so that 1 is the corner. Bands are
    ``linear`` [i/M, (i+1)/M), ``log2`` octaves, ``equal_cells`` (as equal a number of
    frequencies as whole shells allow) or ``equal_energy`` (the same for the mean spectral energy
    of ``images`` without DC). All comparisons are made in integers.

    size: (H, W), or (T,) of signals. Their radius is the frequency over that of Nyquist, half the
    sampling rate f: the linear band i has i f/2M to (i+1) f/2M Hz, the last one Nyquist's as well
    (an odd T has none). All metrics are one there.

    Shapes: images (B, C, *size), for ``equal_energy`` only; returns (M, H, W//2 + 1) or
    (M, T//2 + 1) of 0.0 and 1.0, with sum 1 everywhere.
    Errors: ValueError for an unknown name, n_bands < 1, sides below 2 * n_bands, an empty band.
    Source: Luo et al. 2024, section 3.2, Fig. 14; partition as docs/methods.md, Bands.

    >>> band_masks(8, (32, 32)).shape
    torch.Size([8, 32, 17])
    >>> cells_per_band(band_masks(8, (32, 32)), 32).tolist()
    [9, 40, 72, 104, 136, 168, 200, 295]
    >>> band_masks(2, (8,))
    tensor([[1., 1., 0., 0., 0.],
            [0., 0., 1., 1., 1.]])
    """
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r} is not known; choose one of {', '.join(METRICS)}")
    if spacing not in SPACINGS:
        raise ValueError(f"spacing={spacing!r} is not known; choose one of {', '.join(SPACINGS)}")
    if len(size) not in WORDS or not all(is_whole(side) for side in size):
        raise ValueError(
            f"size={size!r} must be (H, W), two whole numbers of pixels, or (T,), one of samples"
        )
    kind, unit, _ = WORDS[len(size)]
    if not is_whole(n_bands) or n_bands < 1:
        raise ValueError(f"n_bands={n_bands!r} must be a whole number, at least 1")
    if min(size) < 2 * n_bands:
        raise ValueError(
            f"n_bands={n_bands} needs {kind}s of at least {2 * n_bands} {unit}"
            f"{' a side' * (len(size) > 1)}, got {in_units(size)}; take fewer bands or larger "
            f"{kind}s"
        )
    if spacing == "equal_energy" and images is None:
        raise ValueError("spacing='equal_energy' needs images=, whose mean energy it divides")

    shell = _shell_key(size, metric)
    if spacing in ("linear", "log2"):
        band = torch.zeros_like(shell)
        for p, q in _inner_edges(n_bands, spacing):
            band += _reaches(shell, p, q, size, metric)
    else:
        weight = _multiplicity(size)
        if spacing == "equal_energy":
            weight = weight * sum(
                _spectrum(part.double()).abs().square().sum(dim=(0, 1)).cpu()
                for part in images.split(AT_ONCE)
            )
            weight.view(-1)[0] = 0  # DC would outweigh all the rest together
        band = _equal_shares(shell, weight, n_bands)
    masks = torch.nn.functional.one_hot(band, int(n_bands)).movedim(-1, 0).float()
    if empty := [i for i in range(n_bands) if not masks[i].any()]:
        raise ValueError(
            f"{n_bands} {spacing} bands of {kind}s of {in_units(size)} leave band {empty[0]} "
            f"empty; take fewer bands or larger {kind}s"
        )
    return masks


def _spectrum(x: Tensor, norm: str = "backward") -> Tensor:
    """Of images (..., C, H, W) or signals (..., C, T) along all axes but batch and channel."""
    return torch.fft.rfftn(x, dim=tuple(range(2, x.ndim)), norm=norm)


def _cycles(size: Sequence[int]) -> tuple[Tensor, ...]:
    """|frequency| along each axis in every cell of the half spectrum, in cycles per image."""
    axes = [torch.minimum(k, n - k) for n in size for k in [torch.arange(n)]]
    axes[-1] = axes[-1][: size[-1] // 2 + 1]
    return torch.meshgrid(axes, indexing="ij")


def _shell_key(size: Sequence[int], metric: str) -> Tensor:
    """An integer that orders the frequencies by radius; equal radius, equal integer."""
    area = math.prod(size)
    axes = torch.stack([k * (area // n) for k, n in zip(_cycles(size), size, strict=True)])
    if metric == "linf":
        return axes.amax(0)  # r = 2 key / area
    return axes.square().sum(0)  # r = 2 sqrt(key) / area, and over sqrt(axes) for l2_corner


def _inner_edges(n_bands: int, spacing: str) -> list[tuple[int, int]]:
    """The M - 1 radii p/q at which a new band begins."""
    linear = spacing == "linear"
    return [(i, n_bands) if linear else (1, 2 ** (n_bands - i)) for i in range(1, n_bands)]


def _reaches(key: Tensor, p: int, q: int, size: Sequence[int], metric: str) -> Tensor:
    """Whether a radius is at least p/q, without leaving the integers."""
    area = math.prod(size)
    if metric == "linf":
        return key >= -(-p * area // (2 * q))
    axes = len(size) if metric == "l2_corner" else 1
    return key >= -(-axes * (p * area) ** 2 // (4 * q * q))


def _equal_shares(shell: Tensor, weight: Tensor, n_bands: int) -> Tensor:
    """Fill band after band with whole shells, each to an equal share of what is left by then.

    A shell that outweighs a share fills a band alone, so that no band stays empty.
    """
    keys, index = torch.unique(shell, return_inverse=True)
    per_shell = torch.bincount(index.flatten(), weights=weight.flatten().double()).tolist()
    left, held, band, of_shell = sum(per_shell), 0.0, 0, []
    for k, w in enumerate(per_shell):
        full = held > 0 and held + w / 2 > left / (n_bands - band)
        needed = len(keys) - k <= n_bands - 1 - band  # one shell for each band still to come
        if band < n_bands - 1 and (full or needed):
            left, held, band = left - held, 0.0, band + 1
        held += w
        of_shell.append(band)
    return torch.tensor(of_shell)[index]


def _multiplicity(size: Sequence[int]) -> Tensor:
    """How many cells of the full spectrum each cell of the half spectrum stands for."""
    weight = torch.full((*size[:-1], size[-1] // 2 + 1), 2.0, dtype=torch.float64)
    weight[..., 0] = 1
    if size[-1] % 2 == 0:
        weight[..., -1] = 1
    return weight


def check_masks(masks: Masks, images: Tensor) -> tuple[Masks, int]:
    """Masks that cut these images into bands which add up to them again, and how many bands.

    A callable is tried on every image, and must cut it as it did beside another and before; masks
    of whole numbers or bool become floats.

    Shapes: masks and images as in ``split_bands``, a callable among them.
    Errors: those of ``split_bands``; ValueError for a callable whose bands are not of the image
    alone, or change in number.

    >>> thirds = torch.full((3, 8, 5), 1 / 3)
    >>> check_masks(thirds, torch.rand(2, 3, 8, 8))[1]
    3
    >>> check_masks(thirds[:2], torch.rand(2, 3, 8, 8))
    Traceback (most recent call last):
    ValueError: masks do not share out every frequency: they sum to 0.666667 at ky = 0, kx = 0 ...
    """
    if not callable(masks):
        masks = check_partition(masks, images.shape[2:])
        return masks, len(masks)
    with torch.no_grad():  # it may hold weights
        pair = [split_bands(one, masks) for one in images[:2].split(1)]
        rest = [len(split_bands(images[i : i + 1], masks)) for i in range(2, len(images))]
    counts = [*map(len, pair), *rest]
    if len(set(counts)) > 1:
        other = next(i for i, count in enumerate(counts) if count != counts[0])
        raise ValueError(
            f"the callable given as masks made {counts[0]} bands of image 0 and {counts[other]} "
            f"of image {other}; it must make as many of every image"
        )
    with torch.no_grad():
        again = split_bands(images[:2], masks)
    off = (again - torch.cat(pair, 1)).abs() if len(again) == counts[0] else torch.tensor(math.inf)
    if (off > WHOLE * again.abs().amax() + 1e-6).any():
        raise ValueError(
            "the callable given as masks made other bands of an image when it was asked again "
            f"with {'another beside it' if len(images) > 1 else 'the same'}; it must cut each "
            "image for itself, and draw nothing or the same each time"
        )
    return masks, counts[0]


@undisturbed
def cells_per_band(masks: Tensor, width: int) -> Tensor:
    """Count the frequencies of the full spectrum in each band.

    Shapes: masks (M, H, W//2 + 1) or (M, T//2 + 1); returns (M,) integers that sum to H * width,
    or to the width T.
    Errors: those of ``split_bands`` for masks.

    >>> cells_per_band(band_masks(2, (4, 4)), 4).tolist()
    [1, 15]
    """
    masks = check_partition(masks, width)
    weight = _multiplicity((*masks.shape[1:-1], width))
    return (masks.double().cpu() * weight).flatten(1).sum(1).long()


@undisturbed
def band_radii(masks: Tensor, width: int) -> Tensor:
    """Mean Euclidean radius of the frequencies in each band, 1 at the Nyquist frequency of an axis.

    One coordinate for all partitions, whatever metric and spacing cut them.

    Shapes: masks (M, H, W//2 + 1) or (M, T//2 + 1); returns (M,) float64, the corners of the
    spectrum of images at sqrt(2).
    Errors: those of ``split_bands`` for masks.

    >>> band_radii(band_masks(2, (4, 4)), 4).round(decimals=3).tolist()
    [0.0, 0.848]
    """
    masks = check_partition(masks, width)
    size = (*masks.shape[1:-1], width)
    radius = sum((k.double() * (2 / n)) ** 2 for k, n in zip(_cycles(size), size, strict=True))
    cells = masks.double().cpu() * _multiplicity(size)
    return (cells * radius.sqrt()).flatten(1).sum(1) / cells.flatten(1).sum(1)


@undisturbed
def split_bands(x: Tensor, masks: Masks) -> Tensor:
    """Split images, or signals, into frequency bands that add up to them again.

    ``masks`` may be any callable x -> (M, B, C, H, W) whose result sums to x (wavelet levels,
    colour channels, image patches ...): the game is the same.

    Shapes: x (B, C, H, W) float32 or float64; masks (M, H, W//2 + 1); returns (M, B, C, H, W). Of
    signals x (B, C, T), (M, T//2 + 1) and (M, B, C, T).
    Errors: TypeError for another dtype, ValueError for masks of another image size, masks that do
    not sum to 1 at every frequency or are not the same at ky and -ky in the first or last column
    (where a half spectrum holds both), and a callable's bands that do not sum to x; each message
    says where it is worst.
    Source: Luo et al. 2024, Eq. 5 with one band present; it is linear, so coalitions are sums of
    bands.

    >>> x = torch.rand(2, 3, 32, 32)
    >>> bands = split_bands(x, band_masks(8, (32, 32)))
    >>> torch.allclose(bands.sum(0), x, atol=1e-5)
    True
    """
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"images are {x.dtype}; split them as float32 or float64")
    return bands_of(x, masks if callable(masks) else check_partition(masks, x.shape[2:]))


def bands_of(x: Tensor, masks: Masks) -> Tensor:
    """``split_bands`` of masks that ``check_masks`` has seen, or of some of their rows."""
    if callable(masks):
        return bands_made(masks, x)
    axes = tuple(range(2 - x.ndim, 0))
    return torch.fft.irfftn(_spectrum(x) * masks[:, None, None].to(x), x.shape[2:], axes)


@undisturbed
def band_energy(x: Tensor, masks: Tensor) -> Tensor:
    """Energy of images in each frequency band, summed over channels, the mean (DC) left out.

    Shapes: x and masks as in ``split_bands``; returns (M, B), which sums over bands to the squared
    norm of the images without their mean.
    Errors: those of ``split_bands`` for masks.
    Source: Parseval's theorem; Luo et al. 2024, Fig. 1.

    >>> x = torch.rand(2, 3, 16, 16)
    >>> total = (x - x.mean((2, 3), keepdim=True)).square().sum((1, 2, 3))
    >>> torch.allclose(band_energy(x, band_masks(4, (16, 16))).sum(0), total, rtol=1e-4)
    True
    """
    masks = check_partition(masks, x.shape[2:])
    return torch.cat([_energy(part, masks) for part in x.split(AT_ONCE)], dim=1)


def _energy(x: Tensor, masks: Tensor) -> Tensor:
    power = _spectrum(x, "ortho").abs().square().sum(dim=1)
    power = (power * _multiplicity(x.shape[2:]).to(power)).flatten(1)
    power[:, 0] = 0
    return torch.einsum("mk,bk->mb", masks.flatten(1).to(power), power)


@undisturbed
def esd(x: Tensor) -> Tensor:
    """Radial energy spectral density of images, or that of signals, averaged over channels.

    With the unitary DFT, so that white noise of variance s^2 has density s^2 at every radius.

    Shapes: x (B, C, H, W) or (B, C, T); returns (B, R), entry r the mean energy of the frequencies
    whose Euclidean distance from DC rounds to r cycles per shorter side, r = 0 ... side // 2.
    Source: Luo et al. 2024, Eq. 2, with the number of lattice points as circumference.

    >>> esd(torch.ones(1, 1, 8, 8))[0].tolist()
    [64.0, 0.0, 0.0, 0.0, 0.0]
    """
    size, side = x.shape[2:], min(x.shape[2:])
    scaled = [k * (side / n) for k, n in zip(_cycles(size), size, strict=True)]
    radius = sum(k**2 for k in scaled).sqrt().round().long()
    n_radii = side // 2 + 1
    inside = radius < n_radii
    weight = _multiplicity(size)[inside]
    shells = torch.nn.functional.one_hot(radius[inside], n_radii).double() * weight[:, None]
    shells = (shells / shells.sum(0)).to(x)
    power = _spectrum(x, "ortho").abs().square().mean(dim=1)
    return power[:, inside.to(x.device)] @ shells


@undisturbed
def spectral_snr(x: Tensor, y: Tensor) -> Tensor:
    """Signal-to-noise ratio of perturbed images at each radial frequency.

    Shapes: x, y as in ``esd``, clean and perturbed; returns (R,), the mean ESD of x over the mean
    ESD of y - x (a plain ratio; ``10 * log10`` of it is dB), infinite where nothing was changed.
    Errors: ValueError when the shapes differ.
    Source: Luo et al. 2024, Eq. 1 and Fig. 2.

    >>> x = torch.rand(4, 3, 16, 16)
    >>> spectral_snr(x, 1.5 * x).allclose(torch.full((9,), 4.0))
    True
    """
    if x.shape != y.shape:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}; "
            "they must be the same images, clean and perturbed"
        )
    return esd(x).mean(0) / esd(y - x).mean(0)


@undisturbed
def decay_fits(profile: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit a power law and an exponential to radial profiles, by least squares on their logarithm.

    Radius 0 (DC) takes no part. Both models have two parameters, so the difference of their
    Akaike criteria compares them fairly.

    Shapes: profile (..., R) positive; returns exponents a of r^-a (...), rates b of e^-br per
    cycle (...), and AIC(exponential) - AIC(power law) (...), positive where the power law fits.
    Source: Luo et al. 2024, Figs. 1 and 2 ("power-law-like", "exponentially").

    >>> a, b, gain = decay_fits(torch.arange(0.0, 65.0).clamp(min=1) ** -2)
    >>> round(a.item(), 3), bool(gain > 0)
    (2.0, True)
    """
    radius = torch.arange(1, profile.shape[-1], dtype=torch.float64)
    y = profile[..., 1:].double().cpu().log()

    def line(x: Tensor) -> tuple[Tensor, Tensor]:
        dx, dy = x - x.mean(), y - y.mean(-1, keepdim=True)
        slope = (dy * dx).sum(-1) / dx.square().sum()
        return slope, (dy - slope[..., None] * dx).square().sum(-1)

    power, rss_power = line(radius.log())
    exponential, rss_exponential = line(radius)
    # What rounding leaves of an exact fit is no difference between the two.
    n = len(radius)
    rounding = n * (n * torch.finfo(torch.float64).eps * (1 + y.abs().amax(-1))) ** 2
    return (
        -power,
        -exponential,
        n * (rss_exponential.maximum(rounding) / rss_power.maximum(rounding)).log(),
    )
