"""The attribution methods that FAMPE is compared with, as their authors published them.

Saliency, SmoothGrad, integrated and expected gradients go through captum. Each function takes
model, images (B, C, H, W), targets (B,), one generator per image, the images per pass of the model
and its own options, which ``attribution.attribute`` documents and checks; it returns (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from iaside.attribution.rescale import Rescale
from iaside.backend.checks import told_apart
from iaside.backend.device import channels_last
from iaside.backend.gradients import cross_entropy, gradients, probability
from iaside.backend.inside import is_scripted
from iaside.backend.seeds import numpy_seeded
from iaside.inputs.asked import Asked
from iaside.inputs.checks import check_images


class DoesNotAddUp(ValueError):
    """A network has no DeepLIFT map; places: of the images that show it, among those given."""

    def __init__(self, message: str, places: list[int]):
        super().__init__(message)
        self.places = places


def fast_ig(model, x, y, draws, at_once) -> Tensor:
    (slope,), _ = gradients(model, x, [(cross_entropy, y)], at_once)
    return x * slope


def guided_ig(model, x, y, draws, at_once, *, steps=15, fraction=0.25, max_dist=0.02) -> Tensor:
    """Guided IG, whose maps are only as certain as the gradient at black, where its path begins.

    In a black image the values that a max-pooling compares are equal, so that rounding picks the
    pixels that get the gradient, and these decide which go first. Maps of SqueezeNet 1.1 for eight
    photographs in float32 and float64 correlate by 0.29 to 0.83 (median 0.71). More digits are no
    remedy: in float64 those of images stored channels first and last correlate by 0.30 to 0.83.
    """
    return torch.cat(
        [
            _guided_path(model, image, label, at_once, steps, fraction, max_dist)
            for image, label in zip(x.split(1), y.split(1), strict=True)
        ]
    )


def _guided_path(model, x, y, at_once, steps: int, fraction: float, max_dist: float) -> Tensor:
    """Guided IG (Kapishnikov et al. 2021): the pixels of the smallest gradients go first.

    A pixel's progress is its share of the way from black, and each step has to cover its share of
    the way of all pixels together, none being further than max_dist from the straight path.
    """
    z, attribution = torch.zeros_like(x), torch.zeros_like(x)
    whole = x.sum()
    for step in range(1, steps + 1):
        (slope,), _ = gradients(model, z, [(probability, y)], at_once)
        low = max(step / steps - max_dist, 0.0) * x
        high = min(step / steps + max_dist, 1.0) * x
        start, z = z, torch.maximum(z, low)
        left = whole * (1 - step / steps)  # what has to be left of the way after this step
        free = z < high
        while free.any():
            excess = (x - z).sum() - left
            if excess <= 1e-6 * whole:
                break
            sizes = slope.abs().nan_to_num(nan=torch.inf)  # nan is never chosen: no end
            chosen = free & (sizes <= sizes[free].quantile(fraction, interpolation="lower"))
            room = torch.where(chosen, high - z, 0.0)
            z = z + room * (excess / room.sum()).clamp(max=1)
            free = free & ~chosen
        attribution += (z - start) * slope
    return attribution


def big(model, x, y, draws, at_once, *, steps=50, path_steps=50, eps=(16 / 255,)) -> Tensor:
    """Boundary-based IG (Wang et al. 2022), from the nearest adversarial example found."""
    nearest, distance = x, torch.full_like(x[:, 0, 0, 0], torch.inf)
    for radius in sorted(eps):
        z, fooled = x, torch.zeros_like(y, dtype=torch.bool)
        for _ in range(steps):
            (slope,), logits = gradients(model, z, [(cross_entropy, y)], at_once)
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
    return straight_path(model, x, nearest, y, at_once, path_steps)


def straight_path(model, x, baseline, y, at_once, steps: int) -> Tensor:
    """Integrated gradients of the probability from a baseline, by the trapezoid rule."""
    mean = torch.zeros_like(x)
    for k in range(steps + 1):
        at = baseline + k / steps * (x - baseline)
        (slope,), _ = gradients(model, at, [(probability, y)], at_once)
        mean += slope / steps * (0.5 if k in (0, steps) else 1.0)
    return (x - baseline) * mean


def agi(model, x, y, draws, at_once, *, classes=20, steps=20, eps=0.05) -> Tensor:
    """AGI (Pan et al. 2021): towards other classes, each until it is predicted."""
    return _towards(model, x, y, draws, at_once, classes, steps, eps, until_reached=True)


def la(model, x, y, draws, at_once, *, classes=20, steps=20, spatial_range=20) -> Tensor:
    """LA (Zhu et al. 2024): towards other classes and away from the target, all near the image."""
    size = x / spatial_range
    attribution = _towards(
        model, x, y, draws, at_once, max(1, classes - 1), steps, size, until_reached=False
    )
    z = x
    for _ in range(steps):
        (away,), _ = gradients(model, z, [(probability, y)], at_once)
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
        n_classes = model(x[:1]).shape[1]
    classes = min(classes, n_classes - 1)
    orders = [torch.randperm(n_classes - 1, generator=g, device="cpu") for g in draws]
    others = torch.stack(orders, 1)[:classes].to(y)
    others = (others + (others >= y)).flatten()  # every class but the target
    start, own = x.repeat(classes, 1, 1, 1), y.repeat(classes)
    z, attribution = start, torch.zeros_like(start)
    size = size.repeat(classes, 1, 1, 1) if isinstance(size, Tensor) else size
    going = torch.ones_like(own, dtype=torch.bool)
    for _ in range(steps):
        asked = [(probability, others), (probability, own)]
        (to, away), logits = gradients(model, z, asked, at_once)
        if until_reached:
            going = going & (logits.argmax(1) != others)
            if not going.any():
                break
        z = (start + size * to.sign()).clamp(0, 1)
        attribution -= going[:, None, None, None] * away * (z - start)
    return attribution.unflatten(0, (classes, -1)).sum(0)


def mfaba(model, x, y, draws, at_once, *, steps=50, variant="sharp") -> Tensor:
    """MFABA (Zhu et al. 2023): down the probability until another class is predicted."""
    z, attribution = x, torch.zeros_like(x)
    going = torch.ones_like(y, dtype=torch.bool)
    for _ in range(steps):
        (slope,), logits = gradients(model, z, [(probability, y)], at_once)
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


def deeplift(model, x, y, draws, at_once) -> Tensor:
    """DeepLIFT (Shrikumar et al. 2017) by its rescale rule, for the logit, from black.

    Not through captum, whose rule overwrites where windows of a max-pool overlap and knows neither
    ReLU6 nor functions. Of the logit: no rule of this kind adds up through a softmax.
    """
    if is_scripted(model):
        raise ValueError(
            "deeplift has rules for the functions that a model calls, and those of TorchScript are "
            "out of sight; give the torch model itself, or take integrated_gradients"
        )
    if isinstance(model, Asked) and model.way.singly:
        raise ValueError(
            "deeplift shows a model an image and black together, and this one takes one picture at "
            "a time; give one that takes batches, or take integrated_gradients"
        )
    image = _leaf(x)
    with Rescale():
        outputs = model(channels_last(torch.cat([image, torch.zeros_like(x)])))
    logits, of_black = outputs.gather(1, y.repeat(2)[:, None])[:, 0].chunk(2)
    try:
        (multiplier,) = torch.autograd.grad(logits.sum(), image)
    except CheckpointError as error:
        raise ValueError(
            "deeplift has no rule for functions that torch.utils.checkpoint calls again; leave "
            "checkpoints out of the model, or take integrated_gradients"
        ) from error
    attribution = x * multiplier
    total, change = attribution.double().sum((1, 2, 3)), (logits - of_black).detach().double()
    rounding = 1e-5 * attribution.abs().double().sum((1, 2, 3))
    wrong = (total - change).abs() > 1e-3 * change.abs() + rounding  # nan: said of any map
    if wrong.any():
        name = getattr(getattr(model, "model", model), "name", "this network")
        of = total[wrong][0].item(), change[wrong][0].item()
        raise DoesNotAddUp(
            f"deeplift does not add up for {name}: a map sums to {told_apart(*of)} where the logit "
            f"changes by {of[1]:.4g}; products of activations, softmax and norms "
            "of each image have no rule; take integrated_gradients",
            wrong.nonzero().flatten().tolist(),
        )
    return attribution


# -- through captum ---------------------------------------------------------------------


def saliency(model, x, y, draws, at_once) -> Tensor:
    return captum_attr().Saliency(probabilities(model)).attribute(_leaf(x), y, abs=False)


def integrated_gradients(model, x, y, draws, at_once, *, steps=50) -> Tensor:
    # Gauss-Legendre: the weights of captum's trapezoid rule sum to 1 - 1 / steps.
    method = captum_attr().IntegratedGradients(probabilities(model))
    return method.attribute(
        x, target=y, n_steps=steps, internal_batch_size=max(at_once, len(x))
    ).detach()


def smoothgrad(model, x, y, draws, at_once, *, samples=50, sigma=0.15) -> Tensor:
    captum = captum_attr()
    tunnel = captum.NoiseTunnel(captum.Saliency(probabilities(model)))
    how = {"nt_samples": samples, "nt_samples_batch_size": min(at_once, samples), "abs": False}
    return image_by_image(
        draws, x, y, lambda xs, ys: tunnel.attribute(_leaf(xs), target=ys, stdevs=sigma, **how)
    )


def expected_gradients(model, x, y, draws, at_once, *, samples=4, references=None) -> Tensor:
    if references is None:
        raise ValueError(
            "expected_gradients needs references=, the images that baselines are drawn of"
        )
    references = check_images(references, wide=True)
    shap, references = captum_attr().GradientShap(probabilities(model)), references.to(x)
    return image_by_image(
        draws,
        x,
        y,
        lambda xs, ys: shap.attribute(xs, references, n_samples=samples, stdevs=0.0, target=ys),
    )


def probabilities(model: Callable) -> Callable:
    return lambda x: model(channels_last(x)).softmax(1)


def captum_attr():
    try:
        import captum.attr
    except ImportError as error:
        raise ImportError(
            "this method needs captum; run: pip install 'iaside[attribution]'"
        ) from error
    return captum.attr


def _leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


def image_by_image(draws, x: Tensor, y: Tensor, function: Callable) -> Tensor:
    """Captum draws from the global generators: each image gets them seeded, and for itself."""
    devices = [x.device] if x.device.type != "cpu" else []
    kind = x.device.type if devices else "cuda"
    done = []
    for g, xs, ys in zip(draws, x.split(1), y.split(1), strict=True):
        seed = int(torch.randint(2**31, (), generator=g, device="cpu"))
        with torch.random.fork_rng(devices=devices, device_type=kind), numpy_seeded(seed):
            torch.manual_seed(seed)
            done.append(function(xs, ys).detach())
    return torch.cat(done)


# For one image and the options of a method: images the model is shown, and gradients asked of it.
# Those of big, agi and mfaba are upper bounds: they end when the model is fooled.
PASSES: dict[str, Callable[..., tuple[int, int]]] = {
    "saliency": lambda: (1, 1),
    "smoothgrad": lambda samples: (samples, samples),
    "integrated_gradients": lambda steps: (steps, steps),
    "fast_ig": lambda: (1, 1),
    "guided_ig": lambda steps: (steps, steps),
    "expected_gradients": lambda samples: (samples, samples),
    "deeplift": lambda: (2, 2),
    "big": lambda steps, path_steps, eps: (len(eps) * steps + path_steps + 1,) * 2,
    "agi": lambda classes, steps: (1 + steps * classes, 2 * steps * classes),
    "la": lambda classes, steps: (
        1 + steps * max(1, classes - 1) + steps,
        2 * steps * max(1, classes - 1) + steps,
    ),
    "mfaba": lambda steps: (steps, steps),
}
METHODS = (
    saliency,
    smoothgrad,
    integrated_gradients,
    fast_ig,
    guided_ig,
    expected_gradients,
    deeplift,
    big,
    agi,
    la,
    mfaba,
)
