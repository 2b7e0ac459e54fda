"""Attribution maps by the name of their method, and the attacks that some of them follow.

FAMPE is rebuilt from its public descriptions (docs/methods.md, Attribution): neither its code nor
its equations are public, so every detail that they leave open is a choice made here, and an option.
The others follow their authors' published code, some through captum.

Every image has random numbers of its own, drawn from ``seed`` and from its place in the set. On a
CPU a pass of the model never mixes images: what becomes of one is the same to the last bit whatever
the others are. Elsewhere rounding depends on the batch, and the signs in most methods show it.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from numbers import Real

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from iaside.attribution import baselines
from iaside.attribution.explorers import Exploration, attexplore, explore_along, fampe
from iaside.attribution.options import check_options, is_count
from iaside.backend.checks import not_finite
from iaside.backend.gradients import predictions
from iaside.backend.precision import undisturbed
from iaside.backend.seeds import generators, seeds_of
from iaside.inputs.asked import Asked
from iaside.inputs.checks import check_images
from iaside.inputs.differentiable import differentiable, probed_with_labels
from iaside.inputs.probe import PROBE, probe

AT_ONCE = {"cpu": 10}  # images (copies, points of a path) per pass of the model
ELSEWHERE = 64


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
    Source: docs/methods.md, Attribution (Yavari et al. 2025; AttEXplore: Zhu et al. 2024).

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
    Source: docs/methods.md, Attribution (FAMPE is a reconstruction).

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
        how = explore_along.__kwdefaults__ | options
        copies = how["steps"] * how["samples"]
        return np.array([PROBE + (how["diversity"] > 0) + copies + 2, copies])
    passes = baselines.PASSES[method]
    asked = {name: options[name] for name in inspect.signature(passes).parameters}
    return np.array(passes(**asked)) + (PROBE, 0)


_FUNCTIONS = {"fampe": fampe, "attexplore": attexplore}
_FUNCTIONS |= {function.__name__: function for function in baselines.METHODS}
METHODS = tuple(_FUNCTIONS)
EXPLORERS = ("fampe", "attexplore")


def _prepared(method: str, options: dict) -> tuple[Callable, dict]:
    """The function of a method and its checked options."""
    if method not in _FUNCTIONS:
        raise ValueError(f"method={method!r} is not known; choose one of {', '.join(METHODS)}")
    function = _FUNCTIONS[method]
    takes = _options_of(function)
    if method in EXPLORERS:
        takes |= _options_of(explore_along)
        takes -= {"loss", "direction"}
    for option in options:
        if option not in takes:
            known = ", ".join(sorted(takes)) or "no options"
            raise ValueError(f"{option}= means nothing to {method}; it takes {known}")
    check_options(options)
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
    if batch_size is not None and not is_count(batch_size):
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
