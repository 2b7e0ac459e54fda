"""Noise, blur, attacks and ImageNet-C corruptions of images, all asked for in one form.

Every image has its own random numbers, drawn from ``seed`` and from its place in the set, and an
attack treats every image for itself: what becomes of an image does not depend on its batch, but
for the rounding of the model, which the signs in fgsm and pgd make visible. Where every byte must
be independent of it, give fgsm and pgd one image at a time.
"""

from __future__ import annotations

import contextlib
import copy
import math
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from iaside.backend.gradients import slopes_of
from iaside.backend.machine import arithmetic, not_finite, undisturbed
from iaside.inputs.labels import class_labels
from iaside.inputs.probe import PROBE, Asked, check_images, in_a_line, probe
from iaside.robustness.corruptions import corrupt
from iaside.spectral import Masks, bands_of, check_masks
from iaside.tables import CORRUPTIONS

ATTACKS = ("fgsm", "pgd", "pgd_restarts", "sparsefool", "pixle")
NOISES = ("white_noise", "poisson", "salt_and_pepper", "gaussian_blur")
NAMES = (*NOISES, *ATTACKS, *CORRUPTIONS)
_GLOBAL_NUMPY = threading.Lock()  # pixle of torchattacks draws from numpy's global generator
# At most; classes that SparseFool sees. Its authors allow DeepFool 50 steps, of which four ImageNet
# networks took 4 at most, on 15 photographs.
SPARSEFOOL_STEPS, DEEPFOOL_STEPS, LIKELIEST = 20, 10, 10
RESTARTS, STRONG_STEPS = 3, 50  # of pgd_restarts

_TAKES = {  # name -> (options it needs, options it may have besides)
    "white_noise": ((), ("sigma", "band", "masks")),
    "poisson": (("photons",), ()),
    "salt_and_pepper": (("amount",), ()),
    "gaussian_blur": (("kernel",), ("sigma",)),
    "fgsm": (("model", "labels", "eps"), ()),
    "pgd": (("model", "labels"), ("eps", "steps", "band", "masks")),
    "pgd_restarts": (("model", "labels", "eps"), ("steps",)),
    "sparsefool": (("model", "labels"), ("steps",)),
    "pixle": (("model", "labels"), ()),
    **{name: (("severity",), ()) for name in CORRUPTIONS},
}


def _is(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)


_ALLOWED = {  # option -> (what is allowed, in words and as a test)
    "seed": ("an integer from 0", lambda v: _is(Integral, v) and v >= 0),
    "first": ("an integer from 0", lambda v: _is(Integral, v) and v >= 0),
    "norm": ("a number from 0", lambda v: _is(Real, v) and v >= 0),
    "sigma": ("a number from 0", lambda v: _is(Real, v) and v >= 0),
    "photons": ("a number above 0", lambda v: _is(Real, v) and v > 0),
    "amount": ("a share of the pixels, from 0 to 1", lambda v: _is(Real, v) and 0 <= v <= 1),
    "kernel": ("an odd integer", lambda v: _is(Integral, v) and v > 0 and v % 2 == 1),
    "severity": ("1, 2, 3, 4 or 5", lambda v: _is(Integral, v) and 1 <= v <= 5),
    "eps": ("from 0 to 1, as pixels are: 4/255, not 4", lambda v: _is(Real, v) and 0 <= v <= 1),
    "steps": ("an integer from 1", lambda v: _is(Integral, v) and v >= 1),
    "batch_size": ("an integer from 1", lambda v: _is(Integral, v) and v >= 1),
    "energy": ("a number above 0, as a share of the image's", lambda v: _is(Real, v) and v > 0),
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
    from that as in torchvision (3, 5, 7: 0.8, 1.1, 1.4). The names in ``CORRUPTIONS``: severity
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
    Source: seed 002 Figs. 2, 8 and 9; energy as methods 1.10, strengths as methods 1.12.

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
    seeds = _seeds(seed, first, len(x))
    energy, band = given.get("energy"), given.get("band")
    if band is not None:
        given["masks"] = _of_bands(x, band, given["masks"])
    if name in ATTACKS:
        given["model"], given["labels"] = asked_about(given["model"], x, given["labels"], outputs)
    x = x.detach()
    usable = torch.ones(len(x), dtype=torch.bool, device="cpu")
    if name in ATTACKS:
        with _attackable(given["model"], name, x.device) as model:
            signs = name in ("fgsm", "pgd", "pgd_restarts") and band is None
            watched = _Watched(model, len(x), _has_signs if signs else _has_direction)
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
        y = y.clamp(0, 1) if band is None else _shrink_to_fit(x, y)
    return y, usable


def _made(
    x: Tensor,
    name: str,
    seeds: list[int],
    *,
    sigma=None,
    photons=None,
    amount=None,
    kernel=None,
    severity=None,
    model=None,
    labels=None,
    eps=None,
    steps=None,
    band=None,
    masks=None,
    energy=None,
) -> Tensor:
    """The images under what ``name`` does, before energy and clamping."""
    match name:
        case "white_noise":
            return x + _white_noise(x, seeds, sigma, band, masks)
        case "poisson":
            return _poisson(x, seeds, photons)
        case "salt_and_pepper":
            return _salt_and_pepper(x, seeds, amount)
        case "gaussian_blur":
            return _gaussian_blur(x, kernel, sigma)
        case "pgd" if band is not None:
            radius = eps * x[0].numel() ** 0.5 if energy is None else math.sqrt(energy) * _norm(x)
            return _confined_pgd(x, seeds, model, labels, radius, steps or 10, band, masks)
        case "sparsefool":
            done = []
            for i, (label, draw) in enumerate(zip(labels, _generators(seeds), strict=True)):
                with model.of([i]):
                    done.append(
                        _sparsefool(model, x[i : i + 1], label, draw, steps or SPARSEFOOL_STEPS)
                    )
            return torch.cat(done)
        case "pgd_restarts":
            return _restarted(x, seeds, model, labels, eps, steps or STRONG_STEPS)
        case "fgsm" | "pgd" | "pixle":
            return _attack(name, x, seeds, model, labels, eps, steps or 10)
    return _corrupt(x, name, seeds, severity)


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


@undisturbed
def match_energy(x: Tensor, y: Tensor, energy: float) -> Tensor:
    """Scale the perturbation y - x of each image to a fraction of the energy of the image.

    Nothing is clamped afterwards.

    Shapes: x, y (B, C, H, W), clean and perturbed; returns (B, C, H, W).
    Errors: ValueError for an energy that is not positive, and for images that are black or were
    not changed, whose numbers it names.
    Source: seed 002 Fig. 2 (10 % of the energy), methods 1.10.

    >>> x = torch.rand(2, 3, 8, 8)
    >>> match_energy(x, 0.9 * x, 0.25).allclose(0.5 * x)
    True
    """
    check_values({"energy": energy})
    change, clean = _norm(y - x), _norm(x)
    for norm, what in ((clean, "black"), (change, "unchanged by the perturbation")):
        if not norm.all():
            raise ValueError(
                f"images {(norm.flatten() == 0).nonzero().flatten().tolist()} are {what}, so "
                "no perturbation has a given fraction of their energy; leave them out (an attack "
                "leaves alone what gives it no usable gradient, and what is misclassified: give "
                "the model's own predictions as labels)"
            )
    return x + (y - x) * (math.sqrt(energy) * clean / change)


# -- noise and blur --------------------------------------------------------------------------------


def _white_noise(x: Tensor, seeds: list[int], sigma: float | None, band, masks) -> Tensor:
    noise = _normal(x, seeds)
    if band is not None:
        noise = _confined(noise, band, masks)
        noise = noise / _norm(noise) * x[0].numel() ** 0.5
    return noise if sigma is None else sigma * noise  # without sigma, energy sets the size


def _poisson(x: Tensor, seeds: list[int], photons: float) -> Tensor:
    counts = [
        torch.poisson(image * photons, generator=g)
        for image, g in zip(x.cpu(), _generators(seeds), strict=True)
    ]
    return (torch.stack(counts) / photons).to(x)


def _salt_and_pepper(x: Tensor, seeds: list[int], amount: float) -> Tensor:
    size = (1, *x.shape[2:])
    u = torch.stack([torch.rand(size, generator=g) for g in _generators(seeds)]).to(x.device)
    return x.masked_fill(u < amount / 2, 0).masked_fill(u >= 1 - amount / 2, 1)


def _gaussian_blur(x: Tensor, kernel: int, sigma: float | None) -> Tensor:
    side = min(x.shape[2:])
    if kernel // 2 >= side:
        raise ValueError(
            f"kernel={kernel} is too large for images of {side} pixels a side; "
            f"take at most {2 * side - 1}"
        )
    if sigma == 0:
        raise ValueError("sigma=0 is no blur; give a number above 0, or none at all")
    # Here: it takes a second to import, and most reports only want the names of corruptions.
    from torchvision.transforms.functional import gaussian_blur

    return gaussian_blur(x, kernel, sigma)


def _corrupt(x: Tensor, name: str, seeds: list[int], severity: int) -> Tensor:
    """One of the ImageNet-C corruptions, which know bytes only."""
    if x.shape[1] != 3 or min(x.shape[2:]) < 32:
        raise ValueError(
            f"{name} takes images of 3 channels and at least 32 pixels a side, "
            f"got {x.shape[1]} channels and {x.shape[2]}x{x.shape[3]} pixels"
        )
    images = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    pairs = zip(images, seeds, strict=True)
    done = np.stack([corrupt(image, name, severity, seed) for image, seed in pairs])
    return torch.from_numpy(done).permute(0, 3, 1, 2).to(x) / 255


# -- attacks ---------------------------------------------------------------------------------------


def _attack(name: str, x: Tensor, seeds, model, labels, eps, steps) -> Tensor:
    """One of the attacks of torchattacks."""
    try:
        import torchattacks
    except ImportError as error:
        raise ImportError(
            f"{name} needs torchattacks; run: pip install --no-deps torchattacks==3.5.1"
        ) from error
    if name == "pixle" and x.shape[2] != x.shape[3]:
        raise ValueError(
            f"pixle takes square images, got {x.shape[2]}x{x.shape[3]} pixels "
            "(torchattacks takes rows for columns); crop them"
        )
    logits = _Logits(model, x.device)
    if name == "fgsm":
        return torchattacks.FGSM(logits, eps)(x, labels)
    if name == "pgd":
        with _UniformPerImage(seeds):
            return torchattacks.PGD(logits, eps, eps / 4, steps)(x, labels)
    done = []
    for i, seed in enumerate(seeds):
        image, label = x[i : i + 1], labels[i : i + 1]
        with _numpy_seeded(seed):
            done.append(torchattacks.Pixle(logits)(image, label))
    return torch.cat(done)


def _restarted(x: Tensor, seeds: list[int], model: _Watched, labels, eps, steps: int) -> Tensor:
    """PGD from several random starts, each on the images that the ones before have not broken."""
    found, lowest = x.clone(), torch.full((len(x),), torch.inf, device=x.device)
    left = torch.arange(len(x), device=x.device)
    for restart in range(RESTARTS):
        draws = [_of_restart(seeds[i], restart) for i in left.tolist()]
        with model.of(left.tolist()):
            y = _attack("pgd", x[left], draws, model, labels[left], eps, steps)
            with torch.no_grad():
                logits = model(y)
        told = logits.log_softmax(1).gather(1, labels[left, None])[:, 0].float()
        stands = logits.argmax(1) == labels[left]
        better = ~stands | ~(told >= lowest[left])  # of nan, too: its caller refuses it
        found[left[better]], lowest[left[better]] = y[better], told[better]
        left = left[stands]
        if not len(left):
            break
    return found


def _of_restart(seed: int, restart: int) -> int:
    """The seed of an image's start, the first its own."""
    if not restart:
        return seed
    return int(np.random.SeedSequence((seed, restart)).generate_state(1)[0])


def _sparsefool(
    model: Callable, image: Tensor, label: Tensor, draw: torch.Generator, steps: int
) -> Tensor:
    """SparseFool (Modas et al. 2019) of one image, among its ten likeliest classes.

    That of torchattacks starts every step at the image again: it fools few ImageNet networks, and
    when its linear solver cannot reach the plane it changes every pixel, one by one, for minutes.
    """
    scores = model(image)[0]
    likeliest = scores.topk(min(LIKELIEST, len(scores))).indices
    z = y = image
    for _ in range(steps):
        if not y.isfinite().all() or model(y)[0].argmax() != label:
            break
        normal, point = _deepfool(model, z, label, likeliest)
        if not _has_direction(normal):
            break
        z = _to_plane(z, normal, point, draw)
        y = (image + 1.02 * (z - image)).clamp(0, 1)
    return y.detach()


def _deepfool(model: Callable, x: Tensor, label: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Normal of the nearest decision boundary, and the point three times as far as it is."""
    others = classes[classes != label]
    move, other = torch.zeros_like(x), others[0]
    for _ in range(DEEPFOOL_STEPS):
        at = (x + move).requires_grad_()

        def gaps(at=at):
            f = model(at)[0]
            return list(f[others] - f[label])

        values = gaps()
        gap = torch.stack(values).detach()
        slopes = torch.cat(slopes_of(values, at, gaps))
        norm = slopes.flatten(1).norm(dim=1)
        distance = torch.where(norm.isfinite() & (norm > 0), gap.abs() / norm, torch.inf)
        if not distance.isfinite().any():
            break
        nearest = distance.argmin()
        reach = distance[nearest].clamp(min=1e-4)
        step = reach * slopes[nearest] / norm[nearest]
        if not step.isfinite().all():
            break
        move = move + step
        other = model(x + 1.02 * move)[0].argmax()
        if other != label:
            break
        other = others[nearest]
    at = (x + move).requires_grad_()
    f = model(at)[0]
    return torch.autograd.grad(f[other] - f[label], at)[0], x + 3 * move


def _to_plane(x: Tensor, normal: Tensor, point: Tensor, draw: torch.Generator) -> Tensor:
    """Move x to the plane through a point, changing as few values as a limit of [0, 1] allows.

    The steepest values go first, equally steep ones in random order, each as far as it can, until
    the plane is reached.
    """
    w, flat = normal.flatten(), x.flatten().clone()
    left = torch.dot(w, (point - x).flatten())
    w = w * left.sign()
    order = _falling(w.abs(), draw)
    w = w[order]
    room = torch.where(w > 0, 1 - flat[order], flat[order])
    before = (w.abs() * room).cumsum(0) - w.abs() * room  # gained by those that went first
    tiny = torch.finfo(w.dtype).tiny
    step = (left.abs() - before) / w.abs().clamp(min=tiny)
    flat[order] += w.sign() * step.clamp(min=0).minimum(room)
    return flat.view_as(x)


class _Logits(nn.Module):
    """A model as torchattacks wants it.

    The model stays out of the module tree, so that no train() or eval() reaches it. The empty
    parameter is where torchattacks looks for the device; without one it prints a complaint.
    Pixle shows every image twice in turn (how likely is the label, is it still the first?): without
    gradients the second answer is the first one.
    """

    def __init__(self, model: Callable, device: torch.device):
        super().__init__()
        self.here = nn.Parameter(torch.empty(0, device=device), requires_grad=False)
        self.eval()
        self.call = lambda x: model(x)
        self.last = torch.empty(0, device=device), None

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self.call(x)
        if not torch.equal(x, self.last[0]):
            self.last = x.clone(), self.call(x)
        return self.last[1]


class _Watched:
    """A model that notes of which images a gradient was asked, and of which one was usable."""

    def __init__(self, model: Callable, n: int, follows: Callable[[Tensor], Tensor]):
        self.model, self.here, self.follows = model, list(range(n)), follows
        self.asked, self.usable = torch.zeros(2, n, dtype=torch.bool, device="cpu")

    def __call__(self, x: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            x.register_hook(self._note)
        return self.model(x)

    @contextlib.contextmanager
    def of(self, here: list[int]) -> Iterator[None]:
        """Inside, the model is shown these images alone."""
        every, self.here = self.here, here
        yield
        self.here = every

    def _note(self, slope: Tensor) -> None:
        self.asked[self.here] = True
        self.usable[self.here] |= self.follows(slope).cpu()


def _has_direction(slope: Tensor) -> Tensor:
    """Which gradients (B, ...) have a direction: finite, and not zero everywhere."""
    flat = slope.detach().flatten(1)
    return flat.isfinite().all(1) & flat.any(1)


def _has_signs(slope: Tensor) -> Tensor:
    """Which gradients (B, ...) have a sign anywhere, which 0 and nan have not."""
    return slope.detach().flatten(1).nan_to_num(nan=0.0).any(1)


class _UniformPerImage(TorchFunctionMode):
    """Inside, the first ``batch.uniform_(low, high)`` fills each image from its own seed.

    PGD of torchattacks draws its start so, from the global generator and for the whole batch.
    """

    def __init__(self, seeds: list[int]):
        super().__init__()
        self.seeds = seeds

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not torch.Tensor.uniform_ or not self.seeds:
            return func(*args, **(kwargs or {}))
        batch, low, high = args
        for image, g in zip(batch, _generators(self.seeds), strict=True):
            start = torch.empty(image.shape, dtype=image.dtype)
            image.copy_(start.uniform_(low, high, generator=g))
        self.seeds = []  # what a model may draw later is its own
        return batch


def _confined_pgd(x, seeds, model, labels, radius, steps: int, band: int, masks: Masks) -> Tensor:
    """PGD whose perturbation stays in one band, in the L2 ball of a given radius per image.

    Signs and clipping to an L-infinity ball would leave the band; the direction of the projected
    gradient and shrinking as a whole do not. Steps of a quarter of the radius, random start.
    """
    x, labels = x.clone(), labels.clone()  # autograd refuses tensors made in inference mode
    delta = _confined(_normal(x, seeds), band, masks)
    delta = delta / _norm(delta) * (radius / 2)
    for _ in range(steps):
        delta = delta.detach().requires_grad_()
        # The sum: in a mean, the rounding of a gradient would depend on the number of images.
        loss = nn.functional.cross_entropy(model(x + delta), labels, reduction="sum")
        slope = torch.autograd.grad(loss, delta)[0]
        # As in the other attacks, an image without a direction stays where it is.
        slope = torch.where(_has_direction(slope)[:, None, None, None], slope, 0)
        slope = _confined(slope, band, masks)
        tiny = torch.finfo(x.dtype).tiny
        slope = slope / slope.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=tiny)
        step = slope / _norm(slope).clamp(min=tiny) * (radius / 4)
        delta = _confined(delta.detach() + step, band, masks)
        delta = delta * (radius / _norm(delta).clamp(min=tiny)).clamp(max=1)
    return x + delta


_NO_GRADIENT = (  # what autograd says of a model whose outputs do not depend on the pixels for it
    "does not require grad",
    "doesn't require grad",
    "been used in the graph",
    "Can't call numpy() on Tensor that requires grad",
    "nference tensor",
    "Can't export tensors that require gradient",
)
_BACKWARD = torch.autograd.graph._engine_run_backward.__code__  # all backward passes go through it


@contextlib.contextmanager
def _attackable(model: Asked, method: str, device: torch.device) -> Iterator[Asked]:
    """Gradients with respect to pixels, in true float32, whatever the caller's mode, and to nothing
    else.

    A model that gives no gradient at all is refused in the name of the method.
    """
    model = _out_of_inference(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    try:
        for p in trained:
            p.requires_grad_(False)
        with torch.enable_grad(), arithmetic("float32", device):
            yield model
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if "use_reentrant" in str(error):
            raise ValueError(
                f"{method} needs gradients with respect to the pixels alone, which re-entrant "
                "checkpointing does not give; let the model call torch.utils.checkpoint.checkpoint("
                "..., use_reentrant=False)"
            ) from error
        if "nference tensor" in str(error):
            why = (
                "it uses tensors made in torch.inference_mode, which take part in none: make or "
                "load it outside of that"
            )
        elif any(text in str(error) for text in _NO_GRADIENT):
            why = (
                "it computes in NumPy, ONNX, torch.no_grad or after detach: give the torch model "
                "itself"
            )
        elif any(f.f_code is _BACKWARD for f, _ in traceback.walk_tb(error.__traceback__)):
            why = f"its backward pass fails, {in_a_line(error)}"
        else:
            raise
        raise ValueError(
            f"{method} needs gradients with respect to the pixels, and the model gives none ({why})"
            "; or take what asks for no gradient: pixle, noise, blur and corruptions, the game of "
            "bands"
        ) from error
    finally:
        for p in trained:
            p.requires_grad_(True)


def _out_of_inference(model: Asked) -> Asked:
    """The model, or its copy where weights were made in inference mode, which forbids gradients."""
    if any(t.is_inference() for t in (*model.parameters(), *model.buffers())):
        with contextlib.suppress(RuntimeError):  # torch cannot copy what it has computed
            return copy.deepcopy(model)
    return model


# -- small tools -----------------------------------------------------------------------------------


def _generators(seeds: list[int]) -> Iterator[torch.Generator]:
    """On the CPU, so that every device sees the same numbers."""
    return (torch.Generator().manual_seed(seed) for seed in seeds)


def _seeds(seed: int, first: int, n: int) -> list[int]:
    """Those of n images: image i draws from (seed, first + i)."""
    check_values({"seed": seed, "first": first})
    return [int(np.random.SeedSequence((seed, first + i)).generate_state(1)[0]) for i in range(n)]


def _falling(values: Tensor, generator: torch.Generator) -> Tensor:
    """The places of values (P,), the largest first, in random order where values are equal.

    Ordered by place, equal pixels would be whole rows of an image, which look like one.
    """
    order = torch.randperm(len(values), generator=generator, device="cpu").to(values.device)
    return order[values[order].argsort(descending=True, stable=True)]


def _normal(x: Tensor, seeds: list[int]) -> Tensor:
    return torch.stack([torch.randn(x.shape[1:], generator=g) for g in _generators(seeds)]).to(x)


@contextlib.contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """numpy's global generator, seeded inside and as it was afterwards, for one at a time."""
    with _GLOBAL_NUMPY:
        before, state = np.random.get_bit_generator(), np.random.get_state()
        np.random.set_bit_generator(np.random.MT19937())  # no other kind can be seeded
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_bit_generator(before)
            np.random.set_state(state)


def _norm(d: Tensor) -> Tensor:
    """Euclidean norm of each image, (B, 1, 1, 1)."""
    return torch.linalg.vector_norm(d, dim=(1, 2, 3), keepdim=True)


def _confined(d: Tensor, band: int, masks: Masks) -> Tensor:
    """What of each image lies in one band."""
    if callable(masks):
        return bands_of(d, masks)[band].detach()  # it may hold weights
    return bands_of(d, masks[band : band + 1])[0]


def _shrink_to_fit(x: Tensor, y: Tensor) -> Tensor:
    """Scale the perturbation of each image down, as a whole, until all pixels are in [0, 1]."""
    delta = y - x
    room = torch.where(delta > 0, 1 - x, x)
    factor = (room / delta.abs()).nan_to_num(nan=1).amin(dim=(1, 2, 3), keepdim=True).clamp(max=1)
    if not factor.all():
        raise ValueError(
            f"images {(factor.flatten() == 0).nonzero().flatten().tolist()} have pixels at 0 or 1 "
            "that a perturbation confined to one band would push further, so none fits; leave "
            "clamp out, or give all images room first: 0.5 + 0.9 * (x - 0.5)"
        )
    return (x + factor * delta).clamp(0, 1)  # for the last rounding


# -- checks ----------------------------------------------------------------------------------------


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


def check_values(given: dict) -> None:
    """Refuse strengths and seeds, by their option, that are no number or out of range.

    >>> check_values({"sigma": float("nan")})
    Traceback (most recent call last):
    ValueError: sigma=nan is not possible; it must be a number from 0
    """
    for option, (words, allowed) in _ALLOWED.items():
        if option in given and not allowed(given[option]):
            raise ValueError(f"{option}={given[option]!r} is not possible; it must be {words}")


def _of_bands(x: Tensor, band: int, masks: Masks) -> Masks:
    """Masks as they can be used, when they fit the images and have such a band."""
    masks, n_bands = check_masks(masks, x.detach())
    if not _is(Integral, band) or not 0 <= band < n_bands:
        raise ValueError(f"band={band!r} is not possible; masks has bands 0 to {n_bands - 1}")
    return masks


def asked_about(
    model: Callable, x: Tensor, labels, outputs: str = "logits"
) -> tuple[Asked, Tensor]:
    """The model as it is to be asked, and the labels beside the images, when both fit these."""
    labels = class_labels(labels, len(x)).to(x.device)
    return probe(model, x, labels, outputs=outputs), labels
