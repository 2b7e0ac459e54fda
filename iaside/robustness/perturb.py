"""Noise, blur, attacks and ImageNet-C corruptions of images, all asked for in one form.

Every image has its own random numbers, drawn from ``seed`` and from its place in the set, and an
attack treats every image for itself: what becomes of an image does not depend on its batch, but
for the rounding of the model, which the signs in fgsm and pgd make visible. Where every byte must
be independent of it, give fgsm and pgd one image at a time.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from iaside.backend.checks import check_values, not_finite
from iaside.backend.precision import undisturbed
from iaside.backend.seeds import generators, seeds_of
from iaside.inputs.checks import check_images
from iaside.inputs.differentiable import differentiable, probed_with_labels
from iaside.inputs.probe import PROBE
from iaside.robustness.attacks import (
    ATTACKS,
    DEEPFOOL_STEPS,
    LIKELIEST,
    RESTARTS,
    SPARSEFOOL_STEPS,
    STRONG_STEPS,
    WatchedModel,
    attack,
    confined_pgd,
    has_direction,
    has_signs,
    pgd_restarts,
    sparsefool,
)
from iaside.robustness.energy import check_band, match_energy, norm, shrink_to_fit
from iaside.robustness.noise import NOISES, corrupted
from iaside.spectral import Masks
from iaside.tables import CORRUPTIONS

NAMES = (*NOISES, *ATTACKS, *CORRUPTIONS)
_TAKES = {  # name -> (options it needs, options it may have besides)
    **{name: (noise.needs, noise.may) for name, noise in NOISES.items()},
    "fgsm": (("model", "labels", "eps"), ()),
    "pgd": (("model", "labels"), ("eps", "steps", "band", "masks")),
    "pgd_restarts": (("model", "labels", "eps"), ("steps",)),
    "sparsefool": (("model", "labels"), ("steps",)),
    "pixle": (("model", "labels"), ()),
    **{name: (("severity",), ()) for name in CORRUPTIONS},
}


@undisturbed
def perturb(
    x: Tensor,
    name: str,
    *,
    seed: int = 0,
    first: int = 0,
    sigma: float | None = None,
    photons: float | None = None,
    amount: float | None = None,
    kernel: int | None = None,
    severity: int | None = None,
    model: Callable[[Tensor], Tensor] | None = None,
    labels: Tensor | None = None,
    eps: float | None = None,
    steps: int | None = None,
    band: int | None = None,
    masks: Masks | None = None,
    energy: float | None = None,
    clamp: bool | None = None,
    outputs: str = "logits",
) -> Tensor:
    """Perturb images.

    Shapes: x (B, C, H, W) float32 or float64 in [0, 1]; labels (B,) class indices; returns the
    perturbed images, of the shape, dtype and device of x.

    ``white_noise``: sigma, the standard deviation. ``poisson``: photons, the mean count at pixel
    value 1. ``salt_and_pepper``: amount, the share of pixels that turn white or black, all
    channels together. ``gaussian_blur``: kernel, the side in pixels, and sigma unless it follows
    from that as in torchvision (3, 5, 7: 0.8, 1.1, 1.4). ``low_light``: severity 1 to 5, that of
    3DCC (Kar et al. 2022): darker (gamma 2, white at 0.6 to 0.2), with shot and read noise; any
    number of channels. The names in ``CORRUPTIONS``: severity
    1 to 5; three channels, at least 32 pixels a side; they compute in 8 bits, as published, with
    the strengths of ImageNet-C, Tiny ImageNet-C or CIFAR-10-C, whichever's pictures (224, 64 or 32
    pixels) are nearest in size; a higher severity need not change an image more.

    ``fgsm``, ``pgd`` (``steps``, else 10, of eps/4, random start), ``pgd_restarts``, ``pixle``,
    ``sparsefool``: model and labels, all but the last through torchattacks; eps is the largest
    change of a pixel. ``pgd_restarts`` is ``pgd`` of 50 steps from up to three random starts, the
    first that of ``pgd``: the first attacks every image, each further one those that are still
    classified correctly. An image becomes what the first start made of it that breaks it; where
    none does, what gives its label the lowest probability.
    The model takes pixels in [0, 1] and is in eval mode; it is left as it was found. outputs: what
    it gives, as in ``inputs.probe``, which looks at it first: what that returns may be given as
    model, so that many calls look once. SparseFool
    looks at the ten likeliest classes of each image only and gives up after ``steps``, else 20, as
    its authors' code does; it leaves an image alone that is misclassified already. It changes the
    steepest values first, equally steep ones in an order that is drawn.

    An image gives fgsm, pgd, pgd_restarts or sparsefool *no usable gradient* when none of the
    gradients that the attack asks of the model for it shows a way: of a model that rounds its
    pixels, say, or divides by zero. To the first three, which take signs, one pixel whose slope is
    neither 0 nor nan does; to sparsefool, and pgd in a band, only a gradient that is finite
    everywhere and not all zero.
    Such an image comes back as it was, pgd's with a random start, and a RuntimeWarning names it:
    nothing was attacked, so that a right answer afterwards is no sign of robustness.
    ``perturb_noting`` tells without a warning.

    band, masks: confine ``white_noise`` or ``pgd`` to one frequency band of ``band_masks``.
    sigma is then exactly the root mean square of the perturbation of each image, and eps the
    largest that the attack may reach (an L2 ball), so that bands are compared at equal energy.

    energy: scale the perturbation of each image so that its squared norm is this fraction of the
    image's; ``white_noise`` then needs no sigma and a confined ``pgd`` no eps.
    clamp: whether pixels are brought back into [0, 1]; by default they are, except with energy
    or band, which clipping would undo. With band, clamp=True never clips but shrinks the
    perturbation of each image as a whole until it fits. One saturated pixel can forbid that, and
    most photographs have some: hence not by default.

    seed, first: image i draws from (seed, first + i). When a set is perturbed in pieces, let
    ``first`` count the images before the piece: the result is that of the whole set. Calls may
    run in several threads; only ``pixle`` then takes turns.

    Errors: ValueError/TypeError for images outside [0, 1], an unknown name, an option missing,
    out of range or not taken by that name, labels that do not fit, a model in training mode, one
    that fgsm, pgd or sparsefool get no gradient of (torch.no_grad, NumPy, ONNX), or a perturbation
    that cannot be scaled; ImportError with the line that installs what is missing.
    Source: Luo et al. 2024, Figs. 2, 8 and 9; energy as docs/methods.md, Spectral SNR, strengths as
    docs/methods.md, Robustness measures.

    >>> x = torch.rand(2, 3, 32, 32)
    >>> y = perturb(x, "white_noise", sigma=0.1, seed=0)
    >>> y.shape, bool(y.equal(perturb(x, "white_noise", sigma=0.1, seed=0)))
    (torch.Size([2, 3, 32, 32]), True)
    >>> y = perturb(x, "salt_and_pepper", amount=0.05, energy=0.1)
    >>> round((((y - x) ** 2).sum() / (x ** 2).sum()).item(), 4)
    0.1
    """
    given = {
        "sigma": sigma,
        "photons": photons,
        "amount": amount,
        "kernel": kernel,
        "severity": severity,
        "model": model,
        "labels": labels,
        "eps": eps,
        "steps": steps,
        "band": band,
        "masks": masks,
        "energy": energy,
    }
    given = {option: value for option, value in given.items() if value is not None}
    how = {"seed": seed, "first": first, "clamp": clamp, "outputs": outputs}
    y, usable = perturb_noting(x, name, **how, **given)
    if not usable.all():
        warnings.warn(
            f"{name} found no usable gradient (zero, nan or inf) for images "
            f"{(~usable).nonzero().flatten().tolist()}: they were not attacked, and right answers "
            "there are no robustness; does the model round or saturate? pixle, noise and "
            "corruptions need no gradient",
            RuntimeWarning,
            stacklevel=3,
        )
    return y


@undisturbed
def perturb_noting(
    x: Tensor,
    name: str,
    *,
    seed: int = 0,
    first: int = 0,
    clamp: bool | None = None,
    outputs: str = "logits",
    **given,
) -> tuple[Tensor, Tensor]:
    """Perturb images as ``perturb`` does, and say which of them gave a usable gradient.

    Shapes: as there; returns the images and (B,) bool on the CPU, False where an attack asked for
    gradients and got none that it could follow; no warning.
    Errors: those of ``perturb``.

    >>> smooth = lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x.mean((1, 2, 3))], 1)
    >>> rounds = lambda x: smooth((255 * x).round() / 255)
    >>> x, labels = torch.rand(2, 3, 8, 8), torch.zeros(2).long()
    >>> perturb_noting(x, "fgsm", model=smooth, labels=labels, eps=0.1)[1].tolist()
    [True, True]
    >>> perturb_noting(x, "fgsm", model=rounds, labels=labels, eps=0.1)[1].tolist()
    [False, False]
    """
    x = check_images(x, wide=True)
    _check_options(name, given)
    check_values(given)
    seeds = seeds_of(seed, first, len(x))
    energy, band = given.get("energy"), given.get("band")
    if band is not None:
        given["masks"] = check_band(x, band, given["masks"])
    if name in ATTACKS:
        given["model"], given["labels"] = probed_with_labels(
            given["model"], x, given["labels"], outputs
        )
    x = x.detach()
    usable = torch.ones(len(x), dtype=torch.bool, device="cpu")
    if name in ATTACKS:
        with differentiable(given["model"], name, x.device) as model:
            signs = name in ("fgsm", "pgd", "pgd_restarts") and band is None
            watched = WatchedModel(model, len(x), has_signs if signs else has_direction)
            y = _made(x, name, seeds, **given | {"model": watched})
        usable = watched.usable | ~watched.asked
    else:
        y = _made(x, name, seeds, **given)

    if energy is not None:
        y = match_energy(x, y, energy)
    if broken := not_finite(y):  # before they are clamped, which makes 1 of inf
        raise ValueError(
            f"{name} made nan or inf of images {broken}: noise has no direction in an empty band, "
            "an attack none where a model returns nan or inf, and what is too strong has no number"
        )
    if clamp is None:
        clamp = energy is None and band is None
    if clamp:
        y = y.clamp(0, 1) if band is None else shrink_to_fit(x, y)
    return y, usable


def _made(x: Tensor, name: str, seeds: list[int], energy=None, **given) -> Tensor:
    """The images under what ``name`` does, before energy and clamping."""
    if name in NOISES:
        return NOISES[name].make(x, seeds, **given)
    if name in ATTACKS:
        return _attacked(x, name, seeds, energy, **given)
    return corrupted(x, name, seeds, **given)


def _attacked(
    x: Tensor,
    name: str,
    seeds: list[int],
    energy: float | None,
    model: WatchedModel,
    labels: Tensor,
    eps: float | None = None,
    steps: int | None = None,
    band: int | None = None,
    masks: Masks | None = None,
) -> Tensor:
    match name:
        case "pgd" if band is not None:
            radius = eps * x[0].numel() ** 0.5 if energy is None else math.sqrt(energy) * norm(x)
            return confined_pgd(x, seeds, model, labels, radius, steps or 10, band, masks)
        case "sparsefool":
            done = []
            for i, (label, draw) in enumerate(zip(labels, generators(seeds), strict=True)):
                with model.of([i]):
                    done.append(
                        sparsefool(model, x[i : i + 1], label, draw, steps or SPARSEFOOL_STEPS)
                    )
            return torch.cat(done)
        case "pgd_restarts":
            return pgd_restarts(x, seeds, model, labels, eps, steps or STRONG_STEPS)
    return attack(name, x, seeds, model, labels, eps, steps or 10)


def attack_passes(
    name: str, n: int = 1, steps: int | None = None, at_once: int | None = 1
) -> np.ndarray:
    """Images that n attacks show the model, and gradients they ask of it, (2,) int64.

    at_once: images given to ``perturb`` at a time, which sees what the model does with two of them
    first; None where the model is what ``iaside.inputs.probe`` has returned.
    An upper bound for ``pgd_restarts``, ``sparsefool`` and ``pixle``, which end when the model is
    fooled; equal for the others. Errors: ValueError for a name that is no attack.

    >>> attack_passes("pgd", n=8).tolist()
    [128, 80]
    """
    if name not in ATTACKS:
        raise ValueError(f"{name!r} is no attack; choose one of {', '.join(ATTACKS)}")
    usual = {"fgsm": 1, "pgd": 10, "pgd_restarts": STRONG_STEPS}
    steps = steps or usual.get(name, SPARSEFOOL_STEPS)
    each = {
        "fgsm": (1, 1),
        "pgd": (steps, steps),
        "pgd_restarts": (RESTARTS * (steps + 1), RESTARTS * steps),
        "sparsefool": (
            1 + steps * (2 + 2 * DEEPFOOL_STEPS),
            steps * (1 + (LIKELIEST - 1) * DEEPFOOL_STEPS),
        ),
        "pixle": (1 + 20 * 10, 0),  # restarts and iterations of torchattacks
    }[name]
    calls = 0 if at_once is None else math.ceil(n / at_once)
    return n * np.array(each) + np.array([calls * PROBE, 0])


def _check_options(name: str, given: dict) -> None:
    if name not in _TAKES:
        raise ValueError(f"name={name!r} is not known; choose one of {', '.join(NAMES)}")
    needs, may = _TAKES[name]
    allowed = f"{name} takes {', '.join((*needs, *may))}, and seed, first, energy, clamp"
    for option in given:
        if option not in (*needs, *may, "energy"):
            raise ValueError(f"{option}= means nothing to {name}; {allowed}")
    for option in needs:
        if option not in given:
            raise ValueError(f"{name} needs {option}=; {allowed}")
    if ("band" in given) != ("masks" in given):
        raise ValueError(f"band= and masks= go together; {allowed}")
    if name == "white_noise" and ("sigma" in given) == ("energy" in given):
        raise ValueError("white_noise needs either sigma= or energy=, which both set its size")
    if name == "pgd" and "band" in given and ("eps" in given) == ("energy" in given):
        raise ValueError("pgd in a band needs either eps= or energy=, which both set its size")
    if name == "pgd" and "band" not in given and "eps" not in given:
        raise ValueError(f"pgd needs eps=; {allowed}")
