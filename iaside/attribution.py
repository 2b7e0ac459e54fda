"""Attribution maps: FAMPE and AttEXplore, which explore a model along attacks, and baselines.

FAMPE is rebuilt from its public descriptions (methods 2.2): neither its code nor its equations are
public, so every detail that they leave open is a choice made here, and an option. The others follow
their authors' published code, Saliency to DeepLIFT through captum.

Every image has random numbers of its own, drawn from ``seed`` and from its place in the set. On a
CPU a pass of the model never mixes images: what becomes of one is the same to the last bit whatever
the others are. Elsewhere rounding depends on the batch, and the signs in most methods show it.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from iaside.machine import arithmetic
from iaside.perturb import _attackable, _check_attack, _check_images, _generators, _numpy_seeded

AT_ONCE = {"cpu": 10}  # images (copies, points of a path) per pass of the model
ELSEWHERE = 64
EPS = 16 / 255


class Exploration(NamedTuple):
    """An attack and what it attributes.

    attribution (B, C, H, W); path (T + 1, B, C, H, W) from the images to the attacked ones;
    loss_change (B,), cross-entropy at the end of the path minus at its start, in nats, which a
    complete attribution sums to; success (B,) bool, whether the prediction is no longer the target;
    radius (B,), the cutoff in cycles per shorter side (nan for AttEXplore, which has none).
    """

    attribution: Tensor
    path: Tensor
    loss_change: Tensor
    success: Tensor
    radius: Tensor

    @property
    def adversarial(self) -> Tensor:
        """The attacked images, (B, C, H, W): the frequency-aware attack alone."""
        return self.path[-1]


def attribute(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor | None = None,
    method: str = "fampe",
    *,
    seed: int = 0,
    first: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
    **options,
) -> Tensor:
    """Say how much every pixel and channel speaks for the target.

    Shapes: images (B, C, H, W) float32 or float64 in [0, 1]; targets (B,) class indices, or None
    for the model's predictions; returns (B, C, H, W), whose sum over channels is the heat map.

    Methods and options (defaults are the published ones):

    ``fampe``, ``attexplore``: as in ``explore``.
    ``saliency``: gradient of the probability. ``smoothgrad``: samples=50, sigma=0.15.
    ``integrated_gradients``: steps=50, from black. ``fast_ig``: image times gradient of the loss.
    ``guided_ig``: steps=15, fraction=0.25, max_dist=0.02, from black.
    ``expected_gradients``: samples=4, references=images, (R, C, H, W) that baselines are drawn of.
    ``deeplift``: rescale rule for the logit, from black; activations that captum does not know
    (ReLU6, SiLU, GELU) pass their plain gradient. Needs a module that uses each activation once.
    ``big``: steps=50, path_steps=50, eps=(16/255,): from the nearest adversarial example.
    ``agi``: classes=20, steps=20, eps=0.05. ``la``: classes=20, steps=20, spatial_range=20.
    ``mfaba``: steps=50, variant="sharp" or "smooth".

    seed, first: image i draws from (seed, first + i), so that a set can be done in pieces.
    batch_size: images per pass of the model; None is 10 on a CPU and 64 elsewhere. progress: a bar.

    Errors: ValueError/TypeError for an unknown method or option, a value out of range, images
    outside [0, 1], targets that do not fit, or a model in training mode; ImportError with the line
    that installs captum.
    Source: methods 2.2 to 2.4 (seed 003; AttEXplore: Zhu et al. 2024).

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5)).eval()
    >>> attribute(net, torch.rand(2, 3, 16, 16), method="fampe", steps=2, samples=2).shape
    torch.Size([2, 3, 16, 16])
    """
    function, options = _prepared(method, options)
    pieces = _pieces(model, images, targets, options, seed, first, batch_size, progress)
    with _differentiable(model, images.device):
        if method in EXPLORERS:
            return torch.cat([function(model, *piece, **options).attribution for piece in pieces])
        return torch.cat([function(model, *piece, **options) for piece in pieces])


def explore(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor | None = None,
    method: str = "fampe",
    *,
    seed: int = 0,
    first: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
    **options,
) -> Exploration:
    """Attack images along perturbed copies of themselves, and attribute the loss along the way.

    At each of ``steps`` the gradient of the cross-entropy is averaged over ``samples`` copies with
    noise of standard deviation ``sigma`` and randomly scaled frequencies; a step along the sign
    follows, inside [0, 1] and the ball of radius ``eps`` around the image. The attribution is the
    sum of the moves times gradients.

    ``fampe``: Fourier coefficients are scaled by 1 + 2 rho (u - 1/2) a, u uniform in [0, 1], a the
    weight of their band: (alpha, 1 - alpha) / max(alpha, 1 - alpha) for frequencies up to and
    beyond the cutoff, that of ``energy_cutoff`` at ``kappa``. alpha=0 leaves the low ones as they
    are, alpha=1 the high ones, alpha=0.5 scales all alike. The mean is left alone unless
    ``include_dc``. mode="additive" adds Gaussian noise instead, of rho times the RMS of each band.
    ``attexplore``: DCT coefficients scaled by 1 - rho to 1 + rho. compat="published" does what its
    code does: it lowers the loss, and puts two softmaxes before the cross-entropy.
    Both: steps=10, samples=20, eps=16/255, sigma=16/255, rho=0.5; diversity=0.5, the probability
    that a copy is shrunk (to 1/1.15 at least) onto black; smooth=True, the gradient blurred by a
    7x7 Gaussian kernel; momentum=1.0, of normalised gradients. These make the *update*, which
    moves are the sign of. product: what moves are multiplied with, the mean ``gradient`` (default
    of fampe; then a complete attribution of the loss, but for sampling) or the ``update``
    (attexplore, as published).

    Shapes, seeds, batch_size and errors as in ``attribute``. Low and high parts of an attribution
    are those with alpha=1 and alpha=0.
    Source: methods 2.2, a reconstruction (FAMPE, seed 003), and 2.3 (AttEXplore).

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5)).eval()
    >>> x = torch.rand(2, 3, 16, 16)
    >>> attack = explore(net, x, alpha=0.1, steps=4, samples=2, eps=0.1)
    >>> bool((attack.adversarial - x).abs().max() <= 0.1 + 1e-6), attack.path.shape
    (True, torch.Size([5, 2, 3, 16, 16]))
    """
    if method not in EXPLORERS:
        raise ValueError(f"method={method!r} is no attack; choose one of {', '.join(EXPLORERS)}")
    function, options = _prepared(method, options)
    pieces = _pieces(model, images, targets, options, seed, first, batch_size, progress)
    with _differentiable(model, images.device):
        done = [function(model, *piece, **options) for piece in pieces]
    return Exploration(*(
        torch.cat(field, dim=1 if name == "path" else 0)
        for name, field in zip(Exploration._fields, zip(*done, strict=True), strict=True)
    ))


def energy_cutoff(images: Tensor, kappa: float = 0.9, include_dc: bool = False) -> Tensor:
    """Find the radius that holds a share of the energy of each image.

    Shapes: images (B, C, H, W); returns (B,), the smallest radius, in cycles per shorter side,
    up to which frequencies hold at least ``kappa`` of the energy of all channels. The mean (DC)
    does not count unless ``include_dc``: it would outweigh all the rest.
    Errors: ValueError for kappa outside (0, 1].
    Source: methods 2.2 step 1, a reconstruction of the energy-based cutoff of seed 003.

    >>> wave = torch.cos(torch.arange(32) * (2 * torch.pi * 5 / 32)).expand(1, 1, 32, 32)
    >>> energy_cutoff(0.5 + 0.4 * wave).tolist()
    [5.0]
    """
    _check_options({"kappa": kappa})
    power = torch.fft.fft2(images.double()).abs().square().sum(1)
    if not include_dc:
        power[:, 0, 0] = 0
    radius, order = _radii(images, full=True).flatten().sort(stable=True)
    held = power.flatten(1)[:, order].cumsum(1)
    wanted = kappa * held[:, -1:] * (1 - 1e-12)  # the last sum must reach kappa=1
    place = torch.searchsorted(held.contiguous(), wanted.contiguous())[:, 0]
    return radius[place.clamp(max=len(radius) - 1)].to(images)


def band_weights(
    images: Tensor, alpha: float = 0.1, kappa: float = 0.9, include_dc: bool = False
) -> Tensor:
    """How strongly FAMPE perturbs each frequency of each image, between 0 and 1.

    Shapes: images (B, C, H, W); returns (B, 1, H, W//2 + 1), for ``torch.fft.rfft2``.
    Errors: ValueError for alpha outside [0, 1] or kappa outside (0, 1].
    Source: methods 2.2 steps 1 and 2, a reconstruction: alpha weights the low frequencies.

    >>> band_weights(torch.rand(1, 3, 8, 8), alpha=0.0)[0, 0, 0, 0].item()
    0.0
    """
    _check_options({"alpha": alpha, "kappa": kappa})
    cutoff = energy_cutoff(images, kappa, include_dc)[:, None, None, None]
    low = _radii(images).to(images) <= cutoff
    top = max(alpha, 1 - alpha)
    weights = torch.where(low, alpha / top, (1 - alpha) / top).to(images)
    if not include_dc:
        weights[..., 0, 0] = 0
    return weights


def frequency_samples(
    x: Tensor,
    weights: Tensor,
    generators: list[torch.Generator],
    samples: int = 20,
    rho: float = 0.5,
    sigma: float = EPS,
    mode: str = "multiplicative",
) -> Tensor:
    """Draw frequency-aware samples around images (Fig. 2 of seed 003).

    Shapes: x (B, C, H, W); weights as ``band_weights`` returns them; generators one per image;
    returns (samples, B, C, H, W), not clipped to [0, 1]. The rest as in ``explore``.
    Source: methods 2.2 step 2, a reconstruction.

    >>> x = torch.rand(1, 3, 16, 16)
    >>> frequency_samples(x, band_weights(x), [torch.Generator()], samples=4).shape
    torch.Size([4, 1, 3, 16, 16])
    """
    draws = generators
    channels, (height, width) = x.shape[1], x.shape[-2:]
    noise = _drawn(torch.randn, draws, (samples, channels, height, width), x)
    spectrum = torch.fft.rfft2(x + sigma * noise)
    if mode == "multiplicative":
        u = _drawn(torch.rand, draws, (samples, channels, height, width // 2 + 1), x)
        spectrum = spectrum * (1 + 2 * rho * (u - 0.5) * weights)
    else:
        white = _drawn(torch.randn, draws, (samples, channels, height, width), x)
        spectrum = spectrum + rho * weights * _band_rms(x, weights) * torch.fft.rfft2(
            white, norm="ortho"
        )
    return torch.fft.irfft2(spectrum, s=(height, width))


# -- methods that explore a model along an attack -------------------------------------------------


def _fampe(
    model, x, y, draws, at_once, *, alpha=0.1, kappa=0.9, mode="multiplicative", include_dc=False,
    rho=0.5, sigma=EPS, samples=20, product="gradient", **how,
) -> Exploration:
    weights = band_weights(x, alpha, kappa, include_dc)

    def sample(at: Tensor) -> Tensor:
        return frequency_samples(at, weights, draws, samples, rho, sigma, mode)

    done = _explore(model, x, y, draws, at_once, sample, product=product, **how)
    return done._replace(radius=energy_cutoff(x, kappa, include_dc))


def _attexplore(
    model, x, y, draws, at_once, *, rho=0.5, sigma=EPS, samples=20, product="update", compat=None,
    **how,
) -> Exploration:
    rows, columns = (_dct_matrix(side).to(x) for side in x.shape[-2:])

    def sample(at: Tensor) -> Tensor:
        noise = _drawn(torch.randn, draws, (samples, *at.shape[1:]), at)
        u = _drawn(torch.rand, draws, (samples, *at.shape[1:]), at)
        coefficients = rows @ (at + sigma * noise) @ columns.T
        return rows.T @ (coefficients * (1 + 2 * rho * (u - 0.5))) @ columns

    if compat is not None:
        how |= {"loss": _published_loss, "direction": -1}
    return _explore(model, x, y, draws, at_once, sample, product=product, **how)


def _explore(
    model, x, y, draws, at_once, sample, *, product, steps=10, eps=EPS, diversity=0.5, smooth=True,
    momentum=1.0, loss=None, direction=1,
) -> Exploration:  # fmt: skip
    loss = loss or _cross_entropy
    path, attribution, kept = [x], torch.zeros_like(x), torch.zeros_like(x)
    for _ in range(steps):
        at = path[-1]
        copies = sample(at)
        view = _views(draws, len(copies), diversity, x) if diversity else None
        targets = y.repeat(len(copies))
        (slopes,), _ = _gradients(model, copies.flatten(0, 1), [(loss, targets)], at_once, view)
        gradient = slopes.unflatten(0, copies.shape[:2]).mean(0)
        update = _smoothed(gradient) if smooth else gradient
        size = update.abs().mean((1, 2, 3), keepdim=True)
        kept = update / size.clamp(min=torch.finfo(x.dtype).tiny) + momentum * kept
        moved = at + direction * eps / steps * kept.sign()
        moved = torch.minimum(torch.maximum(moved, x - eps), x + eps).clamp(0, 1)
        factor = gradient if product == "gradient" else kept
        attribution += direction * (moved - at) * factor
        path.append(moved)
    with torch.no_grad():
        before, after = (model(_channels_last(end)) for end in (x, path[-1]))
    return Exploration(
        attribution, torch.stack(path), _cross_entropy(after, y) - _cross_entropy(before, y),
        after.argmax(1) != y, torch.full_like(x[:, 0, 0, 0], torch.nan),
    )  # fmt: skip


def _views(draws, n: int, probability: float, x: Tensor) -> Tensor:
    """Input diversity: each copy whole, or shrunk and put anywhere on black, (n * B, 2, 3).

    The published code hands the model larger images; shrinking them by as much inside their own
    size does the same for models that take one size only.
    """
    coin, size, down, right = _drawn(torch.rand, draws, (n, 4), x).flatten(0, 1).unbind(1)
    share = torch.where(coin < probability, 1 - size * (1 - 1 / 1.15), 1.0)
    zoom = 1 / share
    # Where the image begins, as a share of the black frame, to the coordinates of affine_grid.
    to = [zoom - 1 - 2 * zoom * (1 - share) * place for place in (right, down)]
    none = torch.zeros_like(zoom)
    return torch.stack([zoom, none, to[0], none, zoom, to[1]], 1).unflatten(1, (2, 3))


def _smoothed(gradient: Tensor) -> Tensor:
    """Translation invariance: a 7x7 Gaussian blur of every channel."""
    line = torch.linspace(-3, 3, 7).to(gradient).square().div(-2).exp()
    kernel = torch.outer(line, line) / line.sum() ** 2
    channels = gradient.shape[1]
    return F.conv2d(gradient, kernel.expand(channels, 1, 7, 7), padding=3, groups=channels)


def _dct_matrix(side: int) -> Tensor:
    """The orthonormal DCT-II as a matrix, (side, side) float64."""
    n = torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(torch.pi / side * n[:, None] * (n + 0.5)) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix


def _band_rms(x: Tensor, weights: Tensor) -> Tensor:
    """Root mean square of the coefficients in the band of each frequency, (B, 1, H, W//2 + 1)."""
    power = torch.fft.rfft2(x).abs().square().mean(1, keepdim=True)
    power[..., 0, 0] = 0
    rms = torch.zeros_like(weights)
    for value in weights.unique():
        band = (weights == value).to(x)
        mean = (power * band).sum((-2, -1), keepdim=True) / band.sum((-2, -1), keepdim=True).clamp(
            min=1
        )
        rms += band * mean.sqrt()
    return rms


# -- baselines written out ------------------------------------------------------------------------


def _fast_ig(model, x, y, draws, at_once) -> Tensor:
    (slope,), _ = _gradients(model, x, [(_cross_entropy, y)], at_once)
    return x * slope


def _guided_ig(model, x, y, draws, at_once, *, steps=15, fraction=0.25, max_dist=0.02) -> Tensor:
    return torch.cat([
        _guided_path(model, image, label, at_once, steps, fraction, max_dist)
        for image, label in zip(x.split(1), y.split(1), strict=True)
    ])


def _guided_path(model, x, y, at_once, steps: int, fraction: float, max_dist: float) -> Tensor:
    """Guided IG (Kapishnikov et al. 2021): the pixels of the smallest gradients go first.

    A pixel's progress is its share of the way from black, and each step has to cover its share of
    the way of all pixels together, none being further than max_dist from the straight path.
    """
    z, attribution = torch.zeros_like(x), torch.zeros_like(x)
    whole = x.sum()
    for step in range(1, steps + 1):
        (slope,), _ = _gradients(model, z, [(_probability, y)], at_once)
        low = max(step / steps - max_dist, 0.0) * x
        high = min(step / steps + max_dist, 1.0) * x
        start, z = z, torch.maximum(z, low)
        left = whole * (1 - step / steps)  # what has to be left of the way after this step
        free = z < high
        while free.any():
            excess = (x - z).sum() - left
            if excess <= 1e-6 * whole:
                break
            sizes = slope.abs()
            chosen = free & (sizes <= sizes[free].quantile(fraction, interpolation="lower"))
            room = torch.where(chosen, high - z, 0.0)
            z = z + room * (excess / room.sum()).clamp(max=1)
            free = free & ~chosen
        attribution += (z - start) * slope
    return attribution


def _big(model, x, y, draws, at_once, *, steps=50, path_steps=50, eps=(EPS,)) -> Tensor:
    """Boundary-based IG (Wang et al. 2022), from the nearest adversarial example found."""
    nearest, distance = x, torch.full_like(x[:, 0, 0, 0], torch.inf)
    for radius in sorted(eps):
        z, fooled = x, torch.zeros_like(y, dtype=torch.bool)
        for _ in range(steps):
            (slope,), logits = _gradients(model, z, [(_cross_entropy, y)], at_once)
            fooled = logits.argmax(1) != y
            if fooled.all():
                break
            moved = z + radius / steps * slope.sign()
            moved = torch.minimum(torch.maximum(moved, x - radius), x + radius).clamp(0, 1)
            z = torch.where(fooled[:, None, None, None], z, moved)
        far = (z - x).flatten(1).norm(dim=1)
        # An image that nothing fooled keeps the end of the longest attack.
        better = torch.where(fooled, far < distance, distance.isinf())
        nearest = torch.where(better[:, None, None, None], z, nearest)
        distance = torch.where(fooled & better, far, distance)
    return _straight_path(model, x, nearest, y, at_once, path_steps)


def _straight_path(model, x, baseline, y, at_once, steps: int) -> Tensor:
    """Integrated gradients of the probability from a baseline, by the trapezoid rule."""
    mean = torch.zeros_like(x)
    for k in range(steps + 1):
        at = baseline + k / steps * (x - baseline)
        (slope,), _ = _gradients(model, at, [(_probability, y)], at_once)
        mean += slope / steps * (0.5 if k in (0, steps) else 1.0)
    return (x - baseline) * mean


def _agi(model, x, y, draws, at_once, *, classes=20, steps=20, eps=0.05) -> Tensor:
    """AGI (Pan et al. 2021): towards other classes, each until it is predicted."""
    return _towards(model, x, y, draws, at_once, classes, steps, eps, until_reached=True)


def _la(model, x, y, draws, at_once, *, classes=20, steps=20, spatial_range=20) -> Tensor:
    """LA (Zhu et al. 2024): towards other classes and away from the target, all near the image."""
    size = x / spatial_range
    attribution = _towards(
        model, x, y, draws, at_once, max(1, classes - 1), steps, size, until_reached=False
    )
    z = x
    for _ in range(steps):
        (away,), _ = _gradients(model, z, [(_probability, y)], at_once)
        z = (x - size * away.sign()).clamp(0, 1)
        attribution -= away * (z - x)
    return attribution


def _towards(
    model, x, y, draws, at_once, classes: int, steps: int, size, until_reached: bool
) -> Tensor:
    """What the target loses on the way to other classes, added up over them.

    As published, every step starts at the image again, along the sign of the gradient found at the
    last point.
    """
    with torch.no_grad():
        n_classes = model(_channels_last(x[:1])).shape[1]
    classes = min(classes, n_classes - 1)
    orders = [torch.randperm(n_classes - 1, generator=g, device="cpu") for g in draws]
    others = torch.stack(orders, 1)[:classes].to(y)
    others = (others + (others >= y)).flatten()  # every class but the target
    start, own = x.repeat(classes, 1, 1, 1), y.repeat(classes)
    z, attribution = start, torch.zeros_like(start)
    size = size.repeat(classes, 1, 1, 1) if isinstance(size, Tensor) else size
    going = torch.ones_like(own, dtype=torch.bool)
    for _ in range(steps):
        asked = [(_probability, others), (_probability, own)]
        (to, away), logits = _gradients(model, z, asked, at_once)
        if until_reached:
            going = going & (logits.argmax(1) != others)
            if not going.any():
                break
        z = (start + size * to.sign()).clamp(0, 1)
        attribution -= going[:, None, None, None] * away * (z - start)
    return attribution.unflatten(0, (classes, -1)).sum(0)


def _mfaba(model, x, y, draws, at_once, *, steps=50, variant="sharp") -> Tensor:
    """MFABA (Zhu et al. 2023): down the probability until another class is predicted."""
    z, attribution = x, torch.zeros_like(x)
    going = torch.ones_like(y, dtype=torch.bool)
    for _ in range(steps):
        (slope,), logits = _gradients(model, z, [(_probability, y)], at_once)
        going = going & (logits.argmax(1) == y) if z is not x else going
        if not going.any():
            break
        if variant == "sharp":
            norm = slope.flatten(1).norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny)
            moved = (z - 0.1 * slope / norm[:, None, None, None]).clamp(0, 1)
        else:
            moved = z - 0.001 * slope.sign()
            moved = torch.minimum(torch.maximum(moved, x - 0.3), x + 0.3).clamp(0, 1)
        moved = torch.where(going[:, None, None, None], moved, z)
        attribution -= (moved - z) * slope
        z = moved
    return attribution


# -- baselines through captum ---------------------------------------------------------------------


def _saliency(model, x, y, draws, at_once) -> Tensor:
    return _captum().Saliency(_probabilities(model)).attribute(_leaf(x), y, abs=False)


def _integrated_gradients(model, x, y, draws, at_once, *, steps=50) -> Tensor:
    # Gauss-Legendre: the weights of captum's trapezoid rule sum to 1 - 1 / steps.
    method = _captum().IntegratedGradients(_probabilities(model))
    return method.attribute(
        x, target=y, n_steps=steps, internal_batch_size=max(at_once, len(x))
    ).detach()


def _smoothgrad(model, x, y, draws, at_once, *, samples=50, sigma=0.15) -> Tensor:
    captum = _captum()
    tunnel = captum.NoiseTunnel(captum.Saliency(_probabilities(model)))
    how = {"nt_samples": samples, "nt_samples_batch_size": min(at_once, samples), "abs": False}
    return _image_by_image(
        draws, x, y, lambda xs, ys: tunnel.attribute(_leaf(xs), target=ys, stdevs=sigma, **how)
    )


def _expected_gradients(model, x, y, draws, at_once, *, samples=4, references=None) -> Tensor:
    if references is None:
        raise ValueError(
            "expected_gradients needs references=, the images that baselines are drawn of"
        )
    _check_images(references)
    shap, references = _captum().GradientShap(_probabilities(model)), references.to(x)
    return _image_by_image(
        draws, x, y,
        lambda xs, ys: shap.attribute(xs, references, n_samples=samples, stdevs=0.0, target=ys),
    )  # fmt: skip


def _deeplift(model, x, y, draws, at_once) -> Tensor:
    if not isinstance(model, nn.Module):
        raise TypeError(f"deeplift follows modules, and the model is a {type(model).__name__}")
    own = copy.deepcopy(model)  # captum hooks it, and takes no in-place activations
    for module in own.modules():
        if getattr(module, "inplace", False):
            module.inplace = False
    # Of the logit: captum's rule for softmax does not add up, not even where all else is linear.
    method = _captum().DeepLift(own)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it sets hooks, which are gone with own
        return method.attribute(_leaf(x), torch.zeros_like(x), target=y).detach()


def _probabilities(model: Callable) -> Callable:
    return lambda x: model(_channels_last(x)).softmax(1)


def _captum():
    try:
        import captum.attr
    except ImportError as error:
        raise ImportError(
            "this method needs captum; run: pip install 'iaside[attribution]'"
        ) from error
    return captum.attr


def _leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


def _image_by_image(draws, x: Tensor, y: Tensor, function: Callable) -> Tensor:
    """Captum draws from the global generators: each image gets them seeded, and for itself."""
    devices = [x.device] if x.device.type != "cpu" else []
    kind = x.device.type if devices else "cuda"
    done = []
    for g, xs, ys in zip(draws, x.split(1), y.split(1), strict=True):
        seed = int(torch.randint(2**31, (), generator=g, device="cpu"))
        with torch.random.fork_rng(devices=devices, device_type=kind), _numpy_seeded(seed):
            torch.manual_seed(seed)
            done.append(function(xs, ys).detach())
    return torch.cat(done)


# -- small tools ----------------------------------------------------------------------------------


def _gradients(
    model, x: Tensor, asked: list[tuple[Callable, Tensor]], at_once: int, view: Tensor | None = None
) -> tuple[list[Tensor], Tensor]:
    """Gradients with respect to x of each (loss, targets), one tensor like x each, and logits.

    view (n, 2, 3): the model is shown the images through these affine maps.
    """
    slopes, logits = [], []
    for k in range(0, len(x), at_once):
        here = slice(k, k + at_once)
        xs = _channels_last(x[here]).detach().requires_grad_()
        seen = xs
        if view is not None:
            grid = F.affine_grid(view[here], list(xs.shape), align_corners=False)
            seen = _channels_last(F.grid_sample(xs, grid, align_corners=False))
        outputs = model(seen)
        losses = [loss(outputs, targets[here]).sum() for loss, targets in asked]
        slopes.append([
            torch.autograd.grad(loss, xs, retain_graph=loss is not losses[-1])[0] for loss in losses
        ])
        logits.append(outputs.detach())
    return [torch.cat(parts).to(x) for parts in zip(*slopes, strict=True)], torch.cat(logits)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets, reduction="none")


def _published_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return _cross_entropy(logits.softmax(1).softmax(1), targets)


def _probability(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.softmax(1).gather(1, targets[:, None])[:, 0]


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _radii(x: Tensor, full: bool = False) -> Tensor:
    """Cycles per shorter side of each frequency of fft2 (full) or rfft2, float64."""
    height, width = x.shape[-2:]
    side = min(height, width)
    columns = torch.fft.fftfreq if full else torch.fft.rfftfreq
    ky = torch.fft.fftfreq(height, dtype=torch.float64, device=x.device)[:, None] * side
    kx = columns(width, dtype=torch.float64, device=x.device)[None] * side
    return (ky.square() + kx.square()).sqrt()


def _drawn(kind: Callable, draws, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """(n, B, ...) random numbers of shape (n, ...) for each image, made on the CPU."""
    return torch.stack([kind(shape, generator=g, device="cpu") for g in draws], 1).to(like)


@contextlib.contextmanager
def _differentiable(model: Callable, device: torch.device) -> Iterator[None]:
    with _attackable(model), arithmetic("float32", device):
        yield


# -- what is asked, and whether it can be done ----------------------------------------------------

_FUNCTIONS = {
    "fampe": _fampe, "attexplore": _attexplore, "saliency": _saliency, "smoothgrad": _smoothgrad,
    "integrated_gradients": _integrated_gradients, "fast_ig": _fast_ig, "guided_ig": _guided_ig,
    "expected_gradients": _expected_gradients, "deeplift": _deeplift, "big": _big, "agi": _agi,
    "la": _la, "mfaba": _mfaba,
}  # fmt: skip
METHODS = tuple(_FUNCTIONS)
EXPLORERS = ("fampe", "attexplore")


def _is(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)


def _count(value: object) -> bool:
    return _is(Integral, value) and value >= 1


def _not_negative(value: object) -> bool:
    return _is(Real, value) and value >= 0


def _radius(value: object) -> bool:
    return _is(Real, value) and 0 < value <= 1


_ALLOWED = {  # option -> (what is allowed, in words and as a test)
    **dict.fromkeys(("steps", "samples", "classes", "path_steps"), ("an integer from 1", _count)),
    **dict.fromkeys(("sigma", "rho", "momentum"), ("a number from 0", _not_negative)),
    "alpha": ("from 0 (high frequencies) to 1 (low)", lambda v: _is(Real, v) and 0 <= v <= 1),
    "kappa": ("a share of the energy, above 0 and at most 1", _radius),
    "eps": (
        "above 0 and at most 1, as pixels are: 16/255, not 16 (big: a list of such)",
        lambda v: bool(v) and all(map(_radius, v if isinstance(v, list | tuple) else [v])),
    ),
    "diversity": ("a probability from 0 to 1", lambda v: _is(Real, v) and 0 <= v <= 1),
    "fraction": ("above 0 and at most 1", _radius),
    "max_dist": ("above 0 and at most 1", _radius),
    "spatial_range": ("a number from 1", lambda v: _is(Real, v) and v >= 1),
    "mode": ("multiplicative or additive", lambda v: v in ("multiplicative", "additive")),
    "product": ("gradient or update", lambda v: v in ("gradient", "update")),
    "compat": ("None or 'published'", lambda v: v in (None, "published")),
    "variant": ("sharp or smooth", lambda v: v in ("sharp", "smooth")),
    "smooth": ("True or False", lambda v: isinstance(v, bool)),
    "include_dc": ("True or False", lambda v: isinstance(v, bool)),
}


def _check_options(options: dict) -> None:
    for option, value in options.items():
        words, allowed = _ALLOWED.get(option, ("", lambda v: True))
        if not allowed(value):
            raise ValueError(f"{option}={value!r} is not possible; it must be {words}")


def _prepared(method: str, options: dict) -> tuple[Callable, dict]:
    """The function of a method and its checked options."""
    if method not in _FUNCTIONS:
        raise ValueError(f"method={method!r} is not known; choose one of {', '.join(METHODS)}")
    function = _FUNCTIONS[method]
    takes = _options_of(function)
    if method in EXPLORERS:
        takes |= _options_of(_explore)
        takes -= {"loss", "direction"}
    for option in options:
        if option not in takes:
            known = ", ".join(sorted(takes)) or "no options"
            raise ValueError(f"{option}= means nothing to {method}; it takes {known}")
    _check_options(options)
    single = isinstance(options.get("eps"), list | tuple) and method != "big"
    if single or (method == "big" and isinstance(options.get("eps"), Real)):
        raise ValueError(f"eps={options['eps']!r}: {method} takes {'one' if single else 'a list'}")
    return function, options


def _options_of(function: Callable) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


def _pieces(model, images, targets, options, seed, first, batch_size, progress) -> Iterator[tuple]:
    """(images, targets, generators, images per pass), as many images as one pass takes copies of.

    Everything is checked before the first of them.
    """
    _check_images(images)
    for name, value in (("seed", seed), ("first", first)):
        if not (_is(Integral, value) and value >= 0):
            raise ValueError(f"{name}={value!r} is not possible; it must be an integer from 0")
    if batch_size is not None and not _count(batch_size):
        raise ValueError(f"batch_size={batch_size!r} must be at least 1, or None")
    at_once = batch_size or AT_ONCE.get(images.device.type, ELSEWHERE)
    if targets is None:
        targets = predictions(model, images, at_once)
    targets = _check_attack(images, model, targets)
    copies = max(options.get("samples", 1), options.get("classes", 1))
    together = _together(images.device, at_once, copies)
    images = images.detach().clone()  # autograd refuses tensors made in inference mode

    def pieces():
        for k in tqdm(range(0, len(images), together), disable=not progress, unit="batch"):
            here = slice(k, k + together)
            seeds = [
                int(np.random.SeedSequence((seed, first + i)).generate_state(1)[0])
                for i in range(len(images))[here]
            ]
            yield images[here], targets[here], list(_generators(seeds)), at_once

    return pieces()


def _together(device: torch.device, at_once: int, copies: int) -> int:
    """Images of one pass: on a CPU one, so that rounding depends on no other image."""
    return 1 if device.type == "cpu" else max(1, at_once // copies)


@torch.no_grad()
def predictions(model: Callable[[Tensor], Tensor], images: Tensor, batch_size: int = 1) -> Tensor:
    """The likeliest class of each image, (B,) int64.

    >>> predictions(lambda x: x.mean((2, 3)), torch.eye(3)[:, :, None, None]).tolist()
    [0, 1, 2]
    """
    parts = images.split(batch_size)
    return torch.cat([model(_channels_last(part)).argmax(1) for part in parts])
