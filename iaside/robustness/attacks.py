"""Attacks: gradient signs with restarts and in one band, SparseFool, Pixle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from iaside.backend.gradients import slopes_of
from iaside.backend.seeds import descending, generators, normal_like, numpy_seeded
from iaside.robustness.energy import confined, norm
from iaside.spectral import Masks

ATTACKS = ("fgsm", "pgd", "pgd_restarts", "sparsefool", "pixle")
# At most; classes that SparseFool sees. Its authors allow DeepFool 50 steps, of which four ImageNet
# networks took 4 at most, on 15 photographs.
SPARSEFOOL_STEPS, DEEPFOOL_STEPS, LIKELIEST = 20, 10, 10
RESTARTS, STRONG_STEPS = 3, 50  # of pgd_restarts


def attack(name: str, x: Tensor, seeds, model, labels, eps, steps) -> Tensor:
    """FGSM, PGD or Pixle as torchattacks implements them."""
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
        with numpy_seeded(seed):
            done.append(torchattacks.Pixle(logits)(image, label))
    return torch.cat(done)


def pgd_restarts(
    x: Tensor, seeds: list[int], model: WatchedModel, labels, eps, steps: int
) -> Tensor:
    """PGD from several random starts, each on the images that the ones before have not broken."""
    found, lowest = x.clone(), torch.full((len(x),), torch.inf, device=x.device)
    left = torch.arange(len(x), device=x.device)
    for restart in range(RESTARTS):
        draws = [_of_restart(seeds[i], restart) for i in left.tolist()]
        with model.of(left.tolist()):
            y = attack("pgd", x[left], draws, model, labels[left], eps, steps)
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


def sparsefool(
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
        if not has_direction(normal):
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
    order = descending(w.abs(), draw)
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


class WatchedModel:
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


def has_direction(slope: Tensor) -> Tensor:
    """Which gradients (B, ...) have a direction: finite, and not zero everywhere."""
    flat = slope.detach().flatten(1)
    return flat.isfinite().all(1) & flat.any(1)


def has_signs(slope: Tensor) -> Tensor:
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
        for image, g in zip(batch, generators(self.seeds), strict=True):
            start = torch.empty(image.shape, dtype=image.dtype)
            image.copy_(start.uniform_(low, high, generator=g))
        self.seeds = []  # what a model may draw later is its own
        return batch


def confined_pgd(x, seeds, model, labels, radius, steps: int, band: int, masks: Masks) -> Tensor:
    """PGD whose perturbation stays in one band, in the L2 ball of a given radius per image.

    Signs and clipping to an L-infinity ball would leave the band; the direction of the projected
    gradient and shrinking as a whole do not. Steps of a quarter of the radius, random start.
    """
    x, labels = x.clone(), labels.clone()  # autograd refuses tensors made in inference mode
    delta = confined(normal_like(x, seeds), band, masks)
    delta = delta / norm(delta) * (radius / 2)
    for _ in range(steps):
        delta = delta.detach().requires_grad_()
        # The sum: in a mean, the rounding of a gradient would depend on the number of images.
        loss = nn.functional.cross_entropy(model(x + delta), labels, reduction="sum")
        slope = torch.autograd.grad(loss, delta)[0]
        # As in the other attacks, an image without a direction stays where it is.
        slope = torch.where(has_direction(slope)[:, None, None, None], slope, 0)
        slope = confined(slope, band, masks)
        tiny = torch.finfo(x.dtype).tiny
        slope = slope / slope.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=tiny)
        step = slope / norm(slope).clamp(min=tiny) * (radius / 4)
        delta = confined(delta.detach() + step, band, masks)
        delta = delta * (radius / norm(delta).clamp(min=tiny)).clamp(max=1)
    return x + delta
