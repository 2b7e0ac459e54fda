"""Attribution maps: FAMPE and AttEXplore, which explore a model along attacks, and baselines.

FAMPE is rebuilt from its public descriptions (methods 2.2): neither its code nor its equations are
public, so every detail that they leave open is a choice made here, and an option. The others follow
their authors' published code, some through captum.

Every image has random numbers of its own, drawn from ``seed`` and from its place in the set. On a
CPU a pass of the model never mixes images: what becomes of one is the same to the last bit whatever
the others are. Elsewhere rounding depends on the batch, and the signs in most methods show it.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from iaside.attribution import baselines
from iaside.backend.checks import not_finite
from iaside.backend.content import by_content
from iaside.backend.gradients import cross_entropy, gradients, predictions
from iaside.backend.precision import undisturbed
from iaside.backend.seeds import generators, random_like, seeds_of
from iaside.inputs.differentiable import differentiable, probed_with_labels
from iaside.inputs.probe import PROBE, Asked, check_images, probe

PRODUCTS = ("gradient", "update")  # what the moves of FAMPE and AttEXplore are multiplied with
AT_ONCE = {"cpu": 10}  # images (copies, points of a path) per pass of the model
ELSEWHERE = 64
EPS = 16 / 255


@by_content
class Exploration(NamedTuple):
    """An attack and what it attributes.

    attribution (B, C, H, W), by the product that was asked for; by_gradient and by_update, the same
    with either product, as the attack does not depend on it; path (T + 1, B, C, H, W) from the
    images to the attacked ones; loss_change (B,), cross-entropy at the end of the path minus at its
    start, in nats, which a complete attribution sums to; success (B,) bool, whether the prediction
    is no longer the target; radius (B,), the cutoff in cycles per shorter side (nan for AttEXplore,
    which has none).
    Where an attribution is zero everywhere, which is warned of, no gradient showed a way: such an
    image was not attacked, and success=False there is no robustness.
    """

    attribution: Tensor
    path: Tensor
    loss_change: Tensor
    success: Tensor
    radius: Tensor
    by_gradient: Tensor
    by_update: Tensor

    @property
    def adversarial(self) -> Tensor:
        """The attacked images, (B, C, H, W): the frequency-aware attack alone."""
        return self.path[-1]


@undisturbed
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
    outputs: str = "logits",
    **options,
) -> Tensor:
    """Say how much every pixel and channel speaks for the target.

    Shapes: images (B, C, H, W) float32 or float64 in [0, 1]; targets (B,) class indices, or None
    for the model's predictions; returns (B, C, H, W), whose sum over channels is the heat map.

    Methods and options (defaults are the published ones):

    ``fampe``, ``attexplore``: as in ``explore``.
    ``saliency``: gradient of the probability. ``smoothgrad``: samples=50, sigma=0.15.
    ``integrated_gradients``: steps=50, from black. ``fast_ig``: image times gradient of the loss.
    ``guided_ig``: steps=15, fraction=0.25, max_dist=0.02, from black; adds up on smooth networks
    only. With max-pooling rounding decides much of its map (``baselines.guided_ig``).
    ``expected_gradients``: samples=4, references=images, (R, C, H, W) that baselines are drawn of.
    ``deeplift``: rescale rule for the logit, from black; adds up to its change, or is refused:
    networks that multiply activations or normalise by them (gates, attention) have no rule.
    ``big``: steps=50, path_steps=50, eps=(16/255,): from the nearest adversarial example.
    ``agi``: classes=20, steps=20, eps=0.05. ``la``: classes=20, steps=20, spatial_range=20.
    ``mfaba``: steps=50, variant="sharp" or "smooth".

    seed, first: image i draws from (seed, first + i), so that a set can be done in pieces.
    batch_size: images per pass of the model; None is 10 on a CPU and 64 elsewhere. progress: a bar.

    outputs: what the model gives, as in ``iaside.inputs.probe``, which looks at it first.

    Errors: ValueError/TypeError for an unknown method or option, a value out of range, images
    outside [0, 1], targets that do not fit, a model that ``inputs.probe`` refuses or that gives no
    gradient (torch.no_grad, NumPy, ONNX), deeplift of a network that it does not add up for, and a
    map that is not finite, as the gradient is then not; ImportError with the line that installs
    captum. A map of zeros is a RuntimeWarning. Both name images by their place in the set, which
    counts from ``first``.
    Source: methods 2.2 to 2.4 (seed 003; AttEXplore: Zhu et al. 2024).

    >>> nn = torch.nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5)).eval()
    >>> attribute(net, torch.rand(2, 3, 16, 16), method="fampe", steps=2, samples=2).shape
    torch.Size([2, 3, 16, 16])
    """
    function, options = _prepared(method, options)
    model, pieces = _pieces(
        model, images, targets, options, seed, first, batch_size, progress, outputs
    )
    maps = []
    with differentiable(model, method, images.device) as model:
        for piece in pieces:
            try:
                found = function(model, *piece, **options)
            except baselines.DoesNotAddUp as error:
                before = first + sum(map(len, maps))
                places = [before + place for place in error.places]
                raise baselines.DoesNotAddUp(f"{error} (images {places})", places) from None
            maps.append(found.attribution if method in EXPLORERS else found)
            _check_finite(maps, method, first)
    maps = torch.cat(maps)
    _warn_of_zeros(maps, method, first)
    return maps


@undisturbed
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
    outputs: str = "logits",
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
    that a copy is enlarged, to less than 1.15 times its sides, and put anywhere on black of 1.15
    times its sides (257 for 224), the size that the model gets it in: a model that refuses that
    size, or has other classes there, gets it resized back, a choice made here. smooth=True, the
    gradient blurred by a 7x7 Gaussian kernel; momentum=1.0, of normalised gradients. These make
    the *update*, which
    moves are the sign of. product: what moves are multiplied with, the mean ``gradient`` (default
    of fampe; then a complete attribution of the loss, but for sampling) or the ``update``
    (attexplore, as published).

    Shapes, seeds, batch_size, outputs and errors as in ``attribute``. Low and high parts of an
    attribution are those with alpha=1 and alpha=0.
    Source: methods 2.2, a reconstruction (FAMPE, seed 003), and 2.3 (AttEXplore).

    >>> nn = torch.nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5)).eval()
    >>> x = torch.rand(2, 3, 16, 16)
    >>> attack = explore(net, x, alpha=0.1, steps=4, samples=2, eps=0.1)
    >>> bool((attack.adversarial - x).abs().max() <= 0.1 + 1e-6), attack.path.shape
    (True, torch.Size([5, 2, 3, 16, 16]))
    """
    if method not in EXPLORERS:
        raise ValueError(f"method={method!r} is no attack; choose one of {', '.join(EXPLORERS)}")
    function, options = _prepared(method, options)
    model, pieces = _pieces(
        model, images, targets, options, seed, first, batch_size, progress, outputs
    )
    done = []
    with differentiable(model, method, images.device) as model:
        for piece in pieces:
            done.append(function(model, *piece, **options))
            _check_finite([found.attribution for found in done], method, first)
    found = Exploration(
        *(
            torch.cat(field, dim=1 if name == "path" else 0)
            for name, field in zip(Exploration._fields, zip(*done, strict=True), strict=True)
        )
    )
    _warn_of_zeros(found.attribution, method, first)
    return found


def map_passes(method: str, **options) -> np.ndarray:
    """Images that ``attribute`` shows the model for one image, and gradients it asks, (2,) int64.

    On a CPU. An upper bound for ``big``, ``agi`` and ``mfaba``, which end when the model is fooled.

    >>> map_passes("fampe", steps=10, samples=20).tolist()  # and where it starts, ends
    [209, 200]
    """
    function, options = _prepared(method, options)
    options = (function.__kwdefaults__ or {}) | options
    if method in EXPLORERS:
        how = _explore.__kwdefaults__ | options
        copies = how["steps"] * how["samples"]
        return np.array([PROBE + (how["diversity"] > 0) + copies + 2, copies])
    passes = baselines.PASSES[method]
    asked = {name: options[name] for name in inspect.signature(passes).parameters}
    return np.array(passes(**asked)) + (PROBE, 0)


@undisturbed
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


# -- methods that explore a model along an attack -------------------------------------------------


def _fampe(
    model,
    x,
    y,
    draws,
    at_once,
    *,
    alpha=0.1,
    kappa=0.9,
    mode="multiplicative",
    include_dc=False,
    rho=0.5,
    sigma=EPS,
    samples=20,
    product="gradient",
    **how,
) -> Exploration:
    weights = band_weights(x, alpha, kappa, include_dc)

    def sample(at: Tensor) -> Tensor:
        return frequency_samples(at, weights, draws, samples, rho, sigma, mode)

    done = _explore(model, x, y, draws, at_once, sample, product=product, **how)
    return done._replace(radius=energy_cutoff(x, kappa, include_dc))


def _attexplore(
    model,
    x,
    y,
    draws,
    at_once,
    *,
    rho=0.5,
    sigma=EPS,
    samples=20,
    product="update",
    compat=None,
    **how,
) -> Exploration:
    rows, columns = (_dct_matrix(side).to(x) for side in x.shape[-2:])

    def sample(at: Tensor) -> Tensor:
        noise = random_like(torch.randn, draws, (samples, *at.shape[1:]), at)
        u = random_like(torch.rand, draws, (samples, *at.shape[1:]), at)
        coefficients = rows @ (at + sigma * noise) @ columns.T
        return rows.T @ (coefficients * (1 + 2 * rho * (u - 0.5))) @ columns

    if compat is not None:
        how |= {"loss": _published_loss, "direction": -1}
    return _explore(model, x, y, draws, at_once, sample, product=product, **how)


def _explore(
    model,
    x,
    y,
    draws,
    at_once,
    sample,
    *,
    product,
    steps=10,
    eps=EPS,
    diversity=0.5,
    smooth=True,
    momentum=1.0,
    loss=None,
    direction=1,
) -> Exploration:
    loss = loss or cross_entropy
    path, kept = [x], torch.zeros_like(x)
    by_gradient, by_update = torch.zeros_like(x), torch.zeros_like(x)
    larger = bool(diversity) and _takes_larger(model, x)
    for _ in range(steps):
        at = path[-1]
        copies = sample(at)
        places = _places(draws, len(copies), diversity, x)
        asked = loss, y.repeat(len(copies))
        slopes = _slopes(model, copies.flatten(0, 1), *asked, at_once, places, larger)
        gradient = slopes.unflatten(0, copies.shape[:2]).mean(0)
        update = _smoothed(gradient) if smooth else gradient
        size = update.abs().mean((1, 2, 3), keepdim=True)
        kept = update / size.clamp(min=torch.finfo(x.dtype).tiny) + momentum * kept
        moved = at + direction * eps / steps * kept.sign()
        moved = torch.minimum(torch.maximum(moved, x - eps), x + eps).clamp(0, 1)
        step = direction * (moved - at)
        by_gradient += step * gradient
        by_update += step * kept
        path.append(moved)
    with torch.no_grad():
        before, after = (model(end) for end in (x, path[-1]))
    return Exploration(
        by_gradient if product == "gradient" else by_update,
        torch.stack(path),
        cross_entropy(after, y) - cross_entropy(before, y),
        after.argmax(1) != y,
        torch.full_like(x[:, 0, 0, 0], torch.nan),
        by_gradient,
        by_update,
    )


def _published_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(logits.softmax(1).softmax(1), targets)


def _slopes(model, copies: Tensor, loss, targets, at_once, places: list, larger: bool) -> Tensor:
    """Gradients with respect to the copies, which the model is shown at their places.

    Copies without a place have another size than those with one, and passes of their own.
    """
    slopes = torch.empty_like(copies)
    for whole in (True, False):
        chosen = [i for i, place in enumerate(places) if (place is None) == whole]

        def view(xs: Tensor, here: slice, chosen=chosen) -> Tensor:
            return _enlarged(xs, [places[i] for i in chosen[here]], larger)

        if chosen:
            asked = [(loss, targets[chosen])]
            (found,), _ = gradients(model, copies[chosen], asked, at_once, None if whole else view)
            slopes[chosen] = found
    return slopes


def _frame(x: Tensor) -> list[int]:
    """The sides of the black that enlarged copies are put on."""
    return [int(side * 1.15) for side in x.shape[-2:]]


def _places(draws, n: int, probability: float, x: Tensor) -> list[tuple[int, int, int, int] | None]:
    """Input diversity: height, width, top and left of each of n copies of each image.

    None for a copy that is shown as it is. As the published code draws them, where images are
    square: sides from H to just below the frame's, anywhere in it.
    """
    if not probability:
        return [None] * (n * len(x))
    (height, width), frame = x.shape[-2:], _frame(x)
    found = []
    for coin, size, down, right in random_like(torch.rand, draws, (n, 4), x).flatten(0, 1).tolist():
        h, w = height + int(size * (frame[0] - height)), width + int(size * (frame[1] - width))
        place = h, w, int(down * (frame[0] - h)), int(right * (frame[1] - w))
        found.append(place if coin < probability else None)
    return found


def _enlarged(x: Tensor, places: list[tuple[int, int, int, int]], larger: bool) -> Tensor:
    """The images resized and put on black; for a model of one size that is resized back."""
    (height, width), shown = _frame(x), []
    how = {"mode": "bilinear", "align_corners": False}
    for image, (h, w, top, left) in zip(x.split(1), places, strict=True):
        around = left, width - w - left, top, height - h - top
        shown.append(F.pad(F.interpolate(image, size=(h, w), **how), around))
    on_black = torch.cat(shown)
    return on_black if larger else F.interpolate(on_black, size=x.shape[-2:], **how)


@torch.no_grad()
def _takes_larger(model, x: Tensor) -> bool:
    """Whether the model has the same classes for images of the frame's size.

    Transformers and others refuse it; some without global pooling answer with more of them.
    """
    try:
        answer = model(x.new_zeros(1, x.shape[1], *_frame(x)))
    except Exception:  # each runtime has its own
        return False
    return answer.shape == (1, model.classes)


def _smoothed(gradient: Tensor) -> Tensor:
    """Translation invariance: a 7x7 Gaussian blur of every channel."""
    line = torch.linspace(-3, 3, 7).to(gradient).square().div(-2).exp()
    kernel = torch.outer(line, line) / line.sum() ** 2
    channels = gradient.shape[1]
    return F.conv2d(gradient, kernel.expand(channels, 1, 7, 7), padding=3, groups=channels)


def _dct_matrix(side: int) -> Tensor:
    """The orthonormal DCT-II as a matrix, (side, side) float64."""
    n = torch.arange(side, dtype=torch.float64, device="cpu")
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


# -- what is asked, and whether it can be done ----------------------------------------------------

_FUNCTIONS = {"fampe": _fampe, "attexplore": _attexplore}
_FUNCTIONS |= {function.__name__: function for function in baselines.METHODS}
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
    "product": (" or ".join(PRODUCTS), lambda v: v in PRODUCTS),
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


def _pieces(
    model, images, targets, options, seed, first, batch_size, progress, outputs
) -> tuple[Asked, Iterator[tuple]]:
    """The model as it is asked, and (images, targets, generators, images per pass), as many images
    as one pass takes copies of.

    Everything is checked before the first of them.
    """
    images = check_images(images, wide=True)
    seeds = seeds_of(seed, first, len(images))
    if batch_size is not None and not _count(batch_size):
        raise ValueError(f"batch_size={batch_size!r} must be at least 1, or None")
    at_once = batch_size or AT_ONCE.get(images.device.type, ELSEWHERE)
    if targets is None:
        model = probe(model, images, outputs=outputs)
        targets = predictions(model, images, at_once)
    model, targets = probed_with_labels(model, images, targets, outputs)
    copies = max(options.get("samples", 1), options.get("classes", 1))
    together = _together(images.device, at_once, copies)
    images = images.detach().clone()  # autograd refuses tensors made in inference mode

    def pieces():
        for k in tqdm(range(0, len(images), together), disable=not progress, unit="batch"):
            here = slice(k, k + together)
            yield images[here], targets[here], list(generators(seeds[here])), at_once

    return model, pieces()


def _check_finite(maps: list[Tensor], method: str, first: int) -> None:
    """Refuse the last of the maps where it is not finite, naming the image's place in the set."""
    if broken := not_finite(maps[-1]):
        before = first + sum(map(len, maps[:-1]))
        raise ValueError(
            f"the {method} maps of images {[before + k for k in broken]} are nan or inf, as a "
            "gradient of the model is there; leave these images out, or mend the model: no "
            "division by what can be 0, no root of 0"
        )


def _warn_of_zeros(maps: Tensor, method: str, first: int) -> None:
    blank = (~maps.flatten(1).any(1)).nonzero().flatten() + first
    if len(blank):
        warnings.warn(
            f"the {method} maps of images {blank.tolist()} are zero everywhere: what the model is "
            "asked there has no slope (does it round or saturate?), or there was no way to go",
            RuntimeWarning,
            stacklevel=4,
        )


def _together(device: torch.device, at_once: int, copies: int) -> int:
    """Images of one pass: on a CPU one, so that rounding depends on no other image."""
    return 1 if device.type == "cpu" else max(1, at_once // copies)
