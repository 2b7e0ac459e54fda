"""Whether a map says what matters to a model: insertion, deletion, infidelity, sanity.

Everything is per image, so that methods can be compared in pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import scipy
import torch
from torch import Tensor
from torch.nn import functional as F

from iaside.attribution.baselines import captum_attr, image_by_image, probabilities
from iaside.backend.checks import check_values
from iaside.backend.precision import arithmetic, undisturbed
from iaside.backend.seeds import descending, generators, seeds_of
from iaside.estimate.rounding import flat
from iaside.inputs.asked import Asked
from iaside.inputs.checks import check_images
from iaside.inputs.differentiable import differentiable, probed_with_labels
from iaside.inputs.labels import plain

SUBSTRATES = ("zero", "blur", "mean")
RANKS = ("pixel", "channel")


@undisturbed
@torch.no_grad()
def insertion(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    attribution: Tensor,
    steps: int = 224,
    substrate: str = "zero",
    rank: str = "pixel",
    batch_size: int = 10,
    seed: int = 0,
    first: int = 0,
    outputs: str = "logits",
) -> np.ndarray:
    """Probability of the target while pixels are put in, those of the largest attribution first.

    Shapes: images, attribution (B, C, H, W); targets (B,), the model's predictions as published;
    returns (B, steps + 1) float64: point k has k/steps of the pixels, the last one is the image.
    substrate: where it starts: ``zero`` black, ``blur`` the image under an 11x11 Gaussian of
    sigma 5, ``mean`` its mean colour.
    rank: ``pixel`` orders pixels by the sum over channels; ``channel`` orders every channel for
    itself, as the code of AttEXplore does: its numbers are not comparable (``examine`` has both).
    batch_size: points per pass of the model. outputs: what the model gives, as in ``inputs.probe``,
    which looks at it first.
    seed, first: pixels of equal attribution (``ties``) follow each other in an order that image i
    draws from (seed, first + i), on the CPU, so that every device sees the same: of a constant map
    it is that of a random one. ``deletion`` draws the same order, and so do all maps of an image,
    which are compared in pairs. Nothing is drawn for pixels that differ, by however little.

    Errors: those of ``inputs.probe``; ValueError/TypeError for shapes that differ, attributions
    that are not finite, an unknown substrate or rank, steps below 1 or above the number of pixels,
    a seed or first that is no integer from 0.
    Source: docs/methods.md, Attribution (Petsiuk et al. 2018).

    >>> sums = lambda x: torch.stack([x.sum((1, 2, 3)), x[:, 0, 0, 0] * 0], 1)
    >>> x, maps = torch.ones(1, 1, 2, 2), torch.rand(1, 1, 2, 2)
    >>> curve = insertion(sums, x, torch.tensor([0]), maps, steps=4)
    >>> curve.round(2).tolist()
    [[0.5, 0.73, 0.88, 0.95, 0.98]]
    """
    return _curves(
        model,
        images,
        targets,
        attribution,
        steps,
        substrate,
        rank,
        batch_size,
        seed,
        first,
        outputs,
        put_in=True,
    )


@undisturbed
@torch.no_grad()
def deletion(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    attribution: Tensor,
    steps: int = 224,
    substrate: str = "zero",
    rank: str = "pixel",
    batch_size: int = 10,
    seed: int = 0,
    first: int = 0,
    outputs: str = "logits",
) -> np.ndarray:
    """Probability of the target while pixels are taken out, those of the largest attribution first.

    Everything as in ``insertion``, from the image to the substrate; equal pixels in the same order.

    >>> sums = lambda x: torch.stack([x.sum((1, 2, 3)), x[:, 0, 0, 0] * 0], 1)
    >>> x, maps = torch.ones(1, 1, 2, 2), torch.rand(1, 1, 2, 2)
    >>> curve = deletion(sums, x, torch.tensor([0]), maps, steps=2)
    >>> curve.round(2).tolist()
    [[0.98, 0.88, 0.5]]
    """
    return _curves(
        model,
        images,
        targets,
        attribution,
        steps,
        substrate,
        rank,
        batch_size,
        seed,
        first,
        outputs,
        put_in=False,
    )


def ties(attribution: Tensor, rank: str = "pixel") -> np.ndarray:
    """Share of the pixels of each map that have their attribution in common with another pixel.

    How much of the order of ``insertion`` and ``deletion`` is drawn: 0 where all pixels differ, 1
    for a constant map. Equal is what is equal in every bit, but that 0 and -0 are the same.

    Shapes: attribution (B, C, H, W); returns (B,) float64. rank: as in ``insertion``: with
    ``channel`` the share of the values that another one of their channel equals.
    Errors: those of ``insertion`` for attributions and rank.

    >>> ties(torch.tensor([[[[0.0, 0.0], [3.0, 1.0]]]])).tolist()
    [0.5]
    """
    ordered = _ranked(_map(attribution), rank).sort(dim=2).values
    equal = ordered[..., 1:] == ordered[..., :-1]
    tied = F.pad(equal, (1, 0)) | F.pad(equal, (0, 1))
    return tied.double().mean((1, 2)).numpy()


def curve_area(curves: np.ndarray) -> np.ndarray:
    """Area under insertion or deletion curves (..., S + 1) -> (...), by the trapezoid rule.

    >>> float(curve_area([0.0, 1.0, 1.0]))
    0.75
    """
    curves = plain(curves, "curves").double().numpy()
    if curves.shape[-1:] < (2,):
        raise ValueError(f"curves are {curves.shape}; a curve has two points or more")
    return (curves.sum(-1) - (curves[..., 0] + curves[..., -1]) / 2) / (curves.shape[-1] - 1)


@undisturbed
def infidelity(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    attribution: Tensor,
    sigma: float = 0.1,
    samples: int = 10,
    seed: int = 0,
    first: int = 0,
    outputs: str = "logits",
) -> np.ndarray:
    """How badly an attribution predicts what small noise does to the probability of the target.

    Mean squared error over noise of standard deviation ``sigma``, through captum, each attribution
    scaled as serves it best: methods differ in their units. Smaller is better.

    Shapes: images, attribution (B, C, H, W); targets (B,); returns (B,) float64. Image i draws from
    (seed, first + i).
    Source: Yeh et al. 2019; asked for by reviewers of AttEXplore (docs/methods.md, Attribution).

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)).eval()
    >>> x = torch.rand(1, 3, 2, 2)
    >>> infidelity(net, x, torch.tensor([0]), torch.ones_like(x)).shape
    (1,)
    """
    captum_attr()
    from captum.metrics import infidelity as measure

    images = check_images(images)
    model, targets, attribution = _check_maps(model, images, targets, attribution, outputs)
    seeds = seeds_of(seed, first, len(images))

    def noise(x: Tensor) -> tuple[Tensor, Tensor]:
        change = sigma * torch.randn(x.shape).to(x)
        return change, x - change

    maps = iter(attribution.split(1))
    how = {"n_perturb_samples": samples, "normalize": True}
    with differentiable(model, "infidelity", images.device) as model, torch.no_grad():
        found = image_by_image(
            list(generators(seeds)),
            images,
            targets,
            lambda x, y: measure(probabilities(model), noise, x, next(maps), target=y, **how),
        )
    return found.cpu().double().numpy()


@undisturbed
def map_similarity(first: Tensor, second: Tensor) -> np.ndarray:
    """Spearman correlation of the absolute heat maps of two attributions, per image.

    Between a trained and a randomly initialised network it should be close to 0: a map that does
    not change explains the image, not the model (Adebayo et al. 2018).

    Shapes: both (B, C, H, W); returns (B,) float64, nan for a map that is constant (but for
    rounding).

    >>> a = torch.rand(1, 3, 8, 8)
    >>> map_similarity(a, 2 * a).round(6).tolist()
    [1.0]
    """
    first, second = _map(first), _map(second)
    if first.shape != second.shape:
        raise ValueError(
            f"attributions are {tuple(first.shape)} and {tuple(second.shape)}; give two of the "
            "same images"
        )
    a, b = (t.sum(1).abs().flatten(1).cpu().double().numpy() for t in (first, second))
    # A pixel is known to the roundings of its channels, in the precision of the map.
    rounding = [
        4 * t.shape[1] * torch.finfo(torch.promote_types(t.dtype, torch.float16)).eps
        for t in (first, second)
    ]
    still = flat(a, tolerance=rounding[0]) | flat(b, tolerance=rounding[1])
    a, b = scipy.stats.rankdata(a, axis=1), scipy.stats.rankdata(b, axis=1)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    spread = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.divide((a * b).sum(1), spread, out=np.full(len(a), np.nan), where=~still)


def _curves(
    model,
    images,
    targets,
    attribution,
    steps,
    substrate,
    rank,
    batch_size,
    seed,
    first,
    outputs,
    put_in: bool,
) -> np.ndarray:
    images = check_images(images, wide=True)
    check_values({"steps": steps, "batch_size": batch_size})
    without, seeds = _substrate(images, substrate), seeds_of(seed, first, len(images))
    model, targets, attribution = _check_maps(model, images, targets, attribution, outputs)
    start, end = (without, images) if put_in else (images, without)
    pixels = attribution.shape[-2] * attribution.shape[-1]
    if steps > pixels:
        raise ValueError(f"steps={steps!r} must be from 1 to {pixels}, the number of pixels")
    counts = (torch.arange(steps + 1) * pixels / steps).round().long()
    places = _places(attribution, rank, seeds).to(start.device)
    found = []
    with arithmetic("float32", start.device):
        for a, b, place, target in zip(start, end, places, targets, strict=True):
            scores = []
            for part in counts.to(place).split(int(batch_size)):
                new = place < part[:, None, None, None]
                shown = torch.where(new, b, a)
                scores.append(model(shown).softmax(1)[:, target])
            found.append(torch.cat(scores))
    return torch.stack(found).cpu().double().numpy()


def _places(attribution: Tensor, rank: str, seeds: list[int]) -> Tensor:
    """The place of every pixel in the order of decreasing attribution, (B, 1 or C, H, W)."""
    values = _ranked(attribution, rank)
    order = torch.stack(
        [
            torch.stack([descending(row, generator) for row in rows])
            for rows, generator in zip(values, generators(seeds), strict=True)
        ]
    )
    return order.argsort(dim=2).view(*values.shape[:2], *attribution.shape[-2:])


def _ranked(attribution: Tensor, rank: str) -> Tensor:
    """The order criterion: sums over channels, or each channel, (B, 1 or C, H * W).

    On the CPU, with at least the precision of float32, and one channel after the other: a sum over
    a dimension adds in an order of its own, for which pixels of equal channels can differ.
    """
    if rank not in RANKS:
        raise ValueError(f"rank={rank!r} is not known; choose one of {', '.join(RANKS)}")
    values = attribution.cpu().flatten(2)
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    return values if rank == "channel" else functools.reduce(torch.add, values.split(1, dim=1))


def _substrate(images: Tensor, substrate: str) -> Tensor:
    if substrate == "zero":
        return torch.zeros_like(images)
    if substrate == "blur":
        if min(images.shape[-2:]) < 6:
            raise ValueError(
                f"substrate='blur' needs images of at least 6 pixels a side, got "
                f"{tuple(images.shape[-2:])}; take another one of {', '.join(SUBSTRATES)}"
            )
        from torchvision.transforms.functional import gaussian_blur  # a second to import

        return gaussian_blur(images, 11, 5.0)
    if substrate == "mean":
        return images.mean((2, 3), keepdim=True).expand_as(images)
    raise ValueError(f"substrate={substrate!r} is not known; choose one of {', '.join(SUBSTRATES)}")


def _check_maps(
    model, images: Tensor, targets: Tensor, attribution: Tensor, outputs: str
) -> tuple[Asked, Tensor, Tensor]:
    attribution = _map(attribution)
    if attribution.shape != images.shape:
        raise ValueError(
            f"attributions are {tuple(attribution.shape)} and images {tuple(images.shape)}; "
            "give one value per pixel and channel of each image"
        )
    return *probed_with_labels(model, images, targets, outputs), attribution


def _map(attribution: Tensor) -> Tensor:
    """Attributions as plain finite numbers (B, C, H, W), from a tensor or an array."""
    attribution = plain(attribution, "attributions")
    if attribution.ndim != 4:
        raise ValueError(
            f"attributions are {tuple(attribution.shape)}; give (B, C, H, W), one value per pixel "
            "and channel of each image"
        )
    if not attribution.isfinite().all():
        raise ValueError("attributions must be finite, got nan or infinity; see how they were made")
    return attribution
