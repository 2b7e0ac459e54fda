"""FAMPE and AttEXplore: gradients of perturbed copies, accumulated along an attack."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from iaside.attribution.frequency import EPS, band_weights, energy_cutoff, frequency_samples
from iaside.backend.content import by_content
from iaside.backend.gradients import cross_entropy, gradients
from iaside.backend.seeds import random_like


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


def fampe(
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

    done = explore_along(model, x, y, draws, at_once, sample, product=product, **how)
    return done._replace(radius=energy_cutoff(x, kappa, include_dc))


def attexplore(
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
    return explore_along(model, x, y, draws, at_once, sample, product=product, **how)


def explore_along(
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
