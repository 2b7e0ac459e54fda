"""One training update: learning rate, adversarial examples, loss."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iaside.spectral import band_masks
from iaside.training.penalties import PENALTIES, coalition_dropout, input_gradient, noise_in
from iaside.training.plans import BANDS

SCHEDULES = ("constant", "cosine", "cyclic")


def learning_rate(schedule: str, peak: float, done: float) -> float:
    """The learning rate when a share ``done`` of the updates has been made.

    ``constant``; ``cosine`` from the peak to 0; ``cyclic``, which rises linearly over the first two
    fifths and falls linearly to 0. Errors: ValueError for another schedule.

    >>> [learning_rate("cyclic", 0.3, done) for done in (0, 0.2, 0.4, 1)]
    [0.0, 0.15, 0.3, 0.0]
    """
    if schedule == "constant":
        return peak
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "cyclic":
        return peak * min(done / 0.4, (1 - done) / 0.6)
    raise ValueError(f"schedule={schedule!r} must be one of {', '.join(SCHEDULES)}")


def warmup_factor(warm_up: int, epochs: float) -> float:
    """How much of its strength an adversary has after some epochs: it grows to 1 over ``warm_up``.

    Source: Chan et al. 2022, whose code does so for SVHN, over 5 epochs (docs/methods.md,
    Penalties).

    >>> warmup_factor(0, 0.1), warmup_factor(5, 0.5), warmup_factor(5, 7)
    (1.0, 0.1, 1.0)
    """
    return min(1.0, epochs / warm_up) if warm_up else 1.0


def attacked(
    net: nn.Module, x: Tensor, y: Tensor, kind: str, eps: float, steps: int, warm: float = 1.0
) -> Tensor:
    """The images that adversarial training shows, no pixel changed by more than eps.

    ``fgsm`` is one step of 1.25 eps, ``pgd`` ``steps`` of eps / 4, both from the image itself and
    against the network in the mode it is in. warm: from 0 to 1, shrinks the step of fgsm and the
    eps of pgd, as the published code does while it warms up. Source: docs/methods.md, Training.
    Errors: ValueError when the gradient is not finite; a RuntimeWarning when it is zero for all
    images, which then are shown as they are.
    """
    if kind == "fgsm":
        step, steps = 1.25 * eps * warm, 1
    else:
        step, eps = eps / 4, eps * warm
    change = torch.zeros_like(x)
    for _ in range(steps):
        gradient = input_gradient(net, (x + change).clamp(0, 1), y)
        change = (change + step * gradient.sign()).clamp(-eps, eps)
    _warn_of_no_slope(kind, change)
    return (x + change).clamp(0, 1)


def _warn_of_no_slope(kind: str, change: Tensor) -> None:
    if not change.any():
        warnings.warn(
            f"the {kind} adversary found a gradient of zero for every image of a batch: the "
            "network, dead or saturated, is trained on images that nothing attacked",
            RuntimeWarning,
            stacklevel=3,
        )


def loss_of(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    settings: Mapping,
    generator: torch.Generator,
    warm: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of a batch, its penalty (not yet times its strength), and the logits.

    Shapes: x (B, 3, H, W) in [0, 1], y (B,); returns (), (), (B, classes). Penalties are of the
    images as they are, the cross-entropy of what the adversary made of them, ``warm`` as it is
    by now. Coalition dropout with a ``band`` leaves out that band alone; its strength may be one
    for each band.
    """
    penalty, eps, band = settings["penalty"], settings["eps"] / 255, settings.get("band")
    shown = x
    if penalty == "coalition_dropout":
        masks = band_masks(BANDS, tuple(x.shape[-2:])).to(x.device)
        left_out = settings["strength"]
        if not isinstance(left_out, tuple | list):
            left_out = [left_out * (band in (None, b)) for b in range(BANDS)]
        shown = coalition_dropout(x, masks, [1 - p for p in left_out], generator)
    elif penalty == "white_noise":
        shown = noise_in(x, settings["strength"], band, generator)
    if settings["adversary"] != "none":
        shown = attacked(net, shown, y, settings["adversary"], eps, settings["steps"], warm)
    logits = net(shown)
    loss, extra = F.cross_entropy(logits, y), torch.zeros((), device=x.device)
    if penalty in PENALTIES:
        options = {"gradalign": {"eps": eps, "generator": generator}, "band_share": {"band": band}}
        extra = PENALTIES[penalty](net, x, y, **options.get(penalty, {}))
        loss = loss + settings["strength"] * extra
    return loss, extra, logits
