"""Spectral penalties: terms of a training loss about the frequencies a network relies on.

All have one form, ``penalty(model, x, y) -> scalar``, to be added to the loss times a strength;
all but coalition dropout and noise (which change the images instead) are of the input gradient,
so that their own gradient takes a second backward pass. They compute in float32 also inside
autocast, in the mode the model is in (batch norm sees a training batch twice), and on the images
as they are: adversarial training penalises at the clean images. Under ``torch.no_grad`` they
measure, and build no graph.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from iaside.spectral import Masks, band_energy, band_masks, bands_of, check_masks
from iaside.training.plans import BANDS

EPSILON = 1e-5  # of the published JaFR: in the logarithm and in the weights
REDUCTIONS = ("sum", "sumlog", "product")
Model = Callable[[Tensor], Tensor]


def low_frequency_bias(spectrum: Tensor, reduce: str = "sum") -> Tensor:
    """How much a magnitude spectrum leans to low frequencies: B of JaFR, exactly as published.

    Rows and columns are weighted from +1 at frequency 0 to -1 at the highest; only frequencies
    that are non-negative on both axes take part, so that half of all orientations are invisible
    (``jafr_radial`` sees them). White noise is the neutral point (3.52 at 32 x 32). The scale does
    not matter while the spectrum is far above 1e-5: where it may not be, divide it by its mean.

    Shapes: spectrum (..., H, W//2 + 1), |rfft2| of images, gradients or differences; returns
    (...). The published code takes squares; here each axis has weights of its own length.
    reduce: ``sum`` the logarithm of the sum over rows and columns of weighted products; ``sumlog``
        the sum of their logarithms; ``product`` is the same number, as the published logarithm of
        their product would be if it did not overflow.
    Errors: ValueError for an unknown reduce or fewer than two frequencies an axis, TypeError for a
    complex spectrum.
    Source: Chan et al. 2022, equation as products; here as a log-sum-exp, which cannot overflow.

    >>> radius = torch.fft.fftfreq(32)[:, None].hypot(torch.fft.rfftfreq(32)).clamp(min=1 / 32)
    >>> [round(low_frequency_bias(radius**-a).item(), 1) for a in (-1.0, 0.0, 1.0)]
    [1.2, 3.5, 9.9]
    """
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce={reduce!r} is not known; choose one of {', '.join(REDUCTIONS)}")
    if spectrum.is_complex():
        raise TypeError("the spectrum is complex; give its magnitude, torch.fft.rfft2(x).abs()")
    quadrant = spectrum[..., : spectrum.shape[-2] // 2 + 1, :]
    if min(quadrant.shape[-2:]) < 2:
        raise ValueError(
            f"a spectrum of {spectrum.shape[-2]}x{spectrum.shape[-1]} frequencies has no low and "
            "high ones; it needs images of at least 2x2 pixels"
        )
    log = (quadrant + EPSILON).log()
    down, across = (
        torch.linspace(1, -1, n, dtype=log.dtype, device=log.device) + EPSILON
        for n in log.shape[-2:]
    )
    lines = torch.cat([(log * across).sum(-1), (log * down[:, None]).sum(-2)], -1)
    return lines.logsumexp(-1) if reduce == "sum" else lines.sum(-1)


def input_gradient(
    model: Model, x: Tensor, y: Tensor, create_graph: bool = False, reduction: str = "mean"
) -> Tensor:
    """Gradient of the cross-entropy with respect to the pixels.

    Shapes: x (B, C, H, W), y (B,) class indices; returns (B, C, H, W), float32 for float32 images
    also inside autocast.
    create_graph: keep what a second backward pass needs.
    reduction: ``mean`` over the batch, as losses are and as JaFR is published; ``sum`` gives every
        image its own gradient, whatever the batch.
    Errors: ValueError when the gradient is not finite.
    Source: Chan et al. 2022; docs/methods.md, Penalties.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    >>> input_gradient(net, torch.rand(5, 3, 4, 4), torch.zeros(5, dtype=torch.long)).shape
    torch.Size([5, 3, 4, 4])
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        loss = nn.functional.cross_entropy(model(x), y, reduction=reduction)
        gradient = torch.autograd.grad(loss, x, create_graph=create_graph)[0]
    _refuse_non_finite(gradient)
    return gradient


def _refuse_non_finite(gradient: Tensor) -> None:
    if not gradient.isfinite().all():
        raise ValueError(
            "the gradient of the cross-entropy with respect to the images has nan or infinite "
            "values: the network has diverged; lower the learning rate or the penalty's strength"
        )


def fourier_sensitivity(gradient: Tensor) -> Tensor:
    """Share of the input gradient's power at each radial frequency, the mean (DC) left out.

    Every image counts the same, however large its gradient; one without a gradient does not count.

    Shapes: gradient (B, C, H, W), averaged over channels; returns (R,), which sums to 1: entry k
    is for the frequencies whose distance from DC rounds to k + 1 cycles per shorter side, the
    corners of the spectrum included.
    Errors: ValueError for images with a side under 6 pixels, which have no third of a spectrum.
    Source: Fourier sensitivity (Chari).

    >>> fourier_sensitivity(torch.randn(2, 3, 8, 8)).sum().isclose(torch.tensor(1.0)).item()
    True
    """
    height, width = gradient.shape[-2:]
    side = min(height, width)
    if side < 6:
        raise ValueError(
            f"images of {height}x{width} pixels have no low, middle and high third of radial "
            "frequencies; take images of at least 6x6 pixels"
        )
    at = {"device": gradient.device, "dtype": gradient.dtype}
    ky, kx = (side * torch.fft.fftfreq(n, **at) for n in (height, width))
    radius = ky[:, None].hypot(kx).round().flatten()
    corner = round(math.hypot(*(side * (n // 2) / n for n in (height, width))))
    shells = (radius[:, None] == torch.arange(1, corner + 1, **at)).to(gradient)
    power = torch.fft.fft2(_to_one(gradient).mean(1)).abs().square().flatten(1) @ shells
    total, eps = power.sum(1, keepdim=True), torch.finfo(power.dtype).eps
    shares = power / total.clamp(min=eps)  # below is rounding, beside a largest entry of 1
    return shares.sum(0) / (total > eps).sum().clamp(min=1)


def _to_one(gradient: Tensor) -> Tensor:
    """Each image's gradient over its largest entry: that of a confident network is tiny, and its
    squares would not be numbers any more. Only for what does not depend on scale."""
    largest = gradient.detach().abs().amax(dim=(1, 2, 3), keepdim=True)
    return gradient / largest.clamp(min=torch.finfo(gradient.dtype).tiny)


def _in_float32(penalty: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(penalty)
    def run(model: Model, x: Tensor, y: Tensor, **options) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return penalty(model, x, y, **options)

    return run


def _gradient(model: Model, x: Tensor, y: Tensor) -> Tensor:
    return input_gradient(model, x, y, create_graph=torch.is_grad_enabled())


@_in_float32
def jafr(model: Model, x: Tensor, y: Tensor, *, reduce: str = "sum") -> Tensor:
    """Jacobian frequency regularisation: minus the low-frequency bias of the mean input gradient.

    Added to the loss times a strength: a positive one biases to low frequencies, a negative one
    to high. The spectrum is the mean of |rfft2| over batch and channels; the gradient is that of
    the batch's mean loss, hence 1e-5 means more for larger batches and for confident networks.

    Shapes: x (B, C, H, W), y (B,) class indices; returns ().
    reduce, errors: as ``low_frequency_bias`` and ``input_gradient``.
    Source: Chan et al. 2022; docs/methods.md, Penalties (strength 0.001, batch 128,
    PreActResNet-18, CIFAR-10).

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    >>> x, y = torch.rand(5, 3, 8, 8), torch.zeros(5, dtype=torch.long)
    >>> loss = nn.functional.cross_entropy(net(x), y) + 0.001 * jafr(net, x, y)
    >>> loss.backward()
    """
    spectrum = torch.fft.rfft2(_gradient(model, x, y)).abs().mean(dim=(0, 1))
    return -low_frequency_bias(spectrum, reduce)


@_in_float32
def jafr_radial(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """The same intent without JaFR's blind quadrants: -log of low over high gradient energy.

    Low is below half the Nyquist frequency in Euclidean radius, without the mean (DC); energies
    are summed over the batch, channels and the full plane. White noise has 1.47 at 32 x 32.

    Shapes: x (B, C, H, W), y (B,) class indices; returns ().
    Errors: as ``input_gradient``; ValueError for a side under 4 pixels.
    Source: docs/methods.md, Penalties (radial ratio), this kit's.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    >>> jafr_radial(net, torch.rand(5, 3, 8, 8), torch.zeros(5, dtype=torch.long)).shape
    torch.Size([])
    """
    masks = band_masks(2, x.shape[-2:], metric="l2")  # first: it refuses images that are too small
    gradient = _gradient(model, x, y)
    number = torch.finfo(gradient.dtype)
    scaled = gradient / gradient.detach().abs().amax().clamp(min=number.tiny)
    low, high = (band_energy(scaled, masks).sum(1) + number.eps**2).log()
    return high - low


@_in_float32
def lsf(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Low spatial frequencies wanted: the share of gradient power above a sixth of the side N.

    Shapes: x (B, C, H, W), y (B,) class indices; returns () from 0 to 1.
    Errors: as ``input_gradient`` and ``fourier_sensitivity``.
    Source: Fourier sensitivity (Chari): strength 0.5; N the shorter side, the share at
    radii over N // 6 cycles.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    >>> 0 <= lsf(net, torch.rand(5, 3, 8, 8), torch.zeros(5, dtype=torch.long)).item() <= 1
    True
    """
    return fourier_sensitivity(_gradient(model, x, y))[min(x.shape[-2:]) // 6 :].sum()


@_in_float32
def msf(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Middle frequencies wanted: the share of gradient power outside radii N // 6 to N // 3.

    Shapes, errors, source: as ``lsf``.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    >>> 0 <= msf(net, torch.rand(5, 3, 8, 8), torch.zeros(5, dtype=torch.long)).item() <= 1
    True
    """
    sensitivity, side = fourier_sensitivity(_gradient(model, x, y)), min(x.shape[-2:])
    return sensitivity[: side // 6].sum() + sensitivity[side // 3 :].sum()


@_in_float32
def hsf(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """High frequencies wanted: the share of gradient power at radii up to N // 3.

    Shapes, errors, source: as ``lsf``.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    >>> 0 <= hsf(net, torch.rand(5, 3, 8, 8), torch.zeros(5, dtype=torch.long)).item() <= 1
    True
    """
    return fourier_sensitivity(_gradient(model, x, y))[: min(x.shape[-2:]) // 3].sum()


@_in_float32
def asf(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """All frequencies wanted: minus the entropy (bits) of gradient power over radii to N // 2.

    Shapes, errors, source: as ``lsf``; returns () from -log2(N // 2) to 0.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    >>> -2 <= asf(net, torch.rand(5, 3, 8, 8), torch.zeros(5, dtype=torch.long)).item() <= 0
    True
    """
    inner = fourier_sensitivity(_gradient(model, x, y))[: min(x.shape[-2:]) // 2]
    share = inner / inner.sum().clamp(min=torch.finfo(inner.dtype).eps)
    return (share * share.clamp(min=1e-12).log2()).sum()


@_in_float32
def gradalign(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 8 / 255,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Gradient alignment: 1 - cosine of the input gradients at x and at x + U(-eps, eps).

    The baseline against catastrophic overfitting in FGSM training; it knows no frequency. Images
    whose gradient is zero do not count.

    Shapes: x (B, C, H, W), y (B,) class indices; returns () from 0 to 2, a mean over images.
    eps: in pixels as they are in [0, 1];  generator: a CPU generator for the noise, else torch's.
    Errors: as ``input_gradient``; ValueError for eps outside (0, 1].
    Source: docs/methods.md, Training (strength 0.2). Both gradients are differentiated, as in the
    formula; the published FGSM training holds that at x fixed.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    >>> x, y = torch.rand(5, 3, 8, 8), torch.zeros(5, dtype=torch.long)
    >>> gradalign(net, x, y).item() < 1e-5  # a linear network of two classes has one direction
    True
    """
    if not 0 < eps <= 1:
        raise ValueError(f"eps={eps!r} must be above 0 and at most 1, as pixels are: 8/255, not 8")
    # On the CPU, so that a seed means the same noise everywhere.
    noise = torch.rand(x.shape, generator=generator, device="cpu").to(x) * 2 - 1
    here, there = (_to_one(_gradient(model, at, y)).flatten(1) for at in (x, x + eps * noise))
    counts = (here != 0).any(1) & (there != 0).any(1)
    apart = 1 - nn.functional.cosine_similarity(here, there)
    return (apart * counts).sum() / counts.sum().clamp(min=1)


@_in_float32
def band_share(model: Model, x: Tensor, y: Tensor, *, band: int) -> Tensor:
    """A band unwanted: its share of the input gradient's energy, the mean (DC) left out.

    Every image counts the same, however large its gradient.

    Shapes: x (B, C, H, W), y (B,) class indices; returns () from 0 to 1.
    band: one of the 8 bands of ``band_masks``.
    Errors: as ``input_gradient``; ValueError for a band that is not there, or a side under 16.
    Source: docs/methods.md, Mending (the band that the decomposition found), this kit's.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
    >>> 0 <= band_share(net, torch.rand(5, 3, 16, 16), torch.zeros(5).long(), band=7).item() <= 1
    True
    """
    if not 0 <= band < BANDS:
        raise ValueError(f"band={band!r} is not there; training knows bands 0 to {BANDS - 1}")
    masks = band_masks(BANDS, x.shape[-2:])
    energy = band_energy(_to_one(_gradient(model, x, y)), masks)
    total = energy.sum(0)
    share = energy[band] / total.clamp(min=torch.finfo(total.dtype).eps)
    return share.sum() / (total > 0).sum().clamp(min=1)


PENALTIES: dict[str, Callable[[Model, Tensor, Tensor], Tensor]] = {
    "jafr": jafr,
    "jafr_radial": jafr_radial,
    "lsf": lsf,
    "msf": msf,
    "hsf": hsf,
    "asf": asf,
    "gradalign": gradalign,
    "band_share": band_share,
}


# Images through the network for each of a batch, and gradients back: an input gradient is one, and
# that of a gradient goes through the network twice more.
PASSES: dict[str, tuple[int, int]] = {name: (1, 3) for name in PENALTIES} | {"gradalign": (2, 6)}


def coalition_dropout(
    x: Tensor, masks: Masks, keep: float | Iterable[float], generator: torch.Generator | None = None
) -> Tensor:
    """Show a random coalition of bands of each image, as training images.

    An absent band is zero, as in the game with ``absence="zero"``; nothing is rescaled or clipped,
    so the expected image has each band times its ``keep``.

    Shapes: x (B, C, H, W); masks as ``split_bands``; returns (B, C, H, W).
    keep: the probability that a band is present, one for all or one per band.
    generator: a CPU generator that draws the coalitions, else torch's.
    Errors: those of ``split_bands``; ValueError for a keep outside [0, 1] or not one per band.
    Source: docs/methods.md, Penalties, this kit's.

    >>> x = torch.rand(2, 3, 16, 16)
    >>> shown = coalition_dropout(x, band_masks(4, (16, 16)), keep=[1, 0.5, 0.5, 0.5])
    >>> torch.allclose(shown.mean((2, 3)), x.mean((2, 3)), atol=1e-5)  # band 0 holds the mean
    True
    """
    masks, n_bands = check_masks(masks, x[:1])
    chances = list(keep) if isinstance(keep, Iterable) else [keep] * n_bands
    if len(chances) != n_bands or not all(0 <= k <= 1 for k in chances):
        raise ValueError(
            f"keep={keep!r} must be one probability from 0 to 1, or one for each of {n_bands} bands"
        )
    drawn = torch.rand(len(x), n_bands, generator=generator, device="cpu")
    members = drawn < torch.tensor(chances, device="cpu")
    members = members.to(x)[:, :, None, None]
    if callable(masks):
        return (bands_of(x, masks) * members.transpose(0, 1)[..., None]).sum(0)
    present = (members * masks.to(x)).sum(1)  # one transform per image, not one per band
    return torch.fft.irfft2(torch.fft.rfft2(x) * present[:, None], s=x.shape[-2:])


def noise_in(
    x: Tensor, sigma: float, band: int | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Add white noise to training images, or noise of the same size that lies in one band.

    Nothing is clipped, so that what is confined to a band stays there.

    Shapes: x (B, C, H, W); returns the same.
    sigma: root mean square of the noise of each image;  band: one of the 8 of ``band_masks``, None
        for all;  generator: a CPU generator, else torch's.
    Source: docs/methods.md, Mending, this kit's.

    >>> change = noise_in(torch.zeros(2, 3, 16, 16), 0.1, band=7)
    >>> round(change.square().mean().sqrt().item(), 6)
    0.1
    """
    noise = torch.randn(x.shape, generator=generator, device="cpu").to(x)
    if band is not None:
        mask = band_masks(BANDS, tuple(x.shape[-2:]))[band : band + 1]
        noise = bands_of(noise, mask.to(x))[0]
        noise = noise / noise.square().mean((1, 2, 3), keepdim=True).sqrt()
    return x + sigma * noise
