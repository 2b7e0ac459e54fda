"""Gradients with respect to pixels, in passes of a few images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from iaside.backend.device import channels_last
from iaside.backend.precision import arithmetic, undisturbed


def gradients(
    model,
    x: Tensor,
    asked: list[tuple[Callable, Tensor]],
    at_once: int,
    view: Callable[[Tensor, slice], Tensor] | None = None,
) -> tuple[list[Tensor], Tensor]:
    """Gradients with respect to x of each (loss, targets), one tensor like x each, and logits.

    view: what the model is shown of the images at these places in x, instead of themselves.
    """
    slopes, logits = [], []
    for k in range(0, len(x), at_once):
        here = slice(k, k + at_once)
        xs = channels_last(x[here]).detach().requires_grad_()

        def passed(xs=xs, here=here):
            outputs = model(xs if view is None else channels_last(view(xs, here)))
            return outputs, [loss(outputs, targets[here]).sum() for loss, targets in asked]

        outputs, losses = passed()
        slopes.append(slopes_of(losses, xs, lambda passed=passed: passed()[1]))
        logits.append(outputs.detach())
    return [torch.cat(parts).to(x) for parts in zip(*slopes, strict=True)], torch.cat(logits)


def slopes_of(values: list[Tensor], at: Tensor, again: Callable[[], list]) -> list[Tensor]:
    """Gradients of several numbers that one pass has given; again: gives them by another pass.

    What torch.compile has made frees its memory in the first backward pass: then each has its own.
    """
    try:
        return [
            torch.autograd.grad(value, at, retain_graph=value is not values[-1])[0]
            for value in values
        ]
    except RuntimeError as error:
        if "donated buffer" not in str(error):
            raise
        return [torch.autograd.grad(again()[k], at)[0] for k in range(len(values))]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets, reduction="none")


def probability(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.softmax(1).gather(1, targets[:, None])[:, 0]


@undisturbed
@torch.no_grad()
def predictions(model: Callable[[Tensor], Tensor], images: Tensor, batch_size: int = 1) -> Tensor:
    """The likeliest class of each image in true float32, (B,) int64.

    >>> predictions(lambda x: x.mean((2, 3)), torch.eye(3)[:, :, None, None]).tolist()
    [0, 1, 2]
    """
    parts = images.split(batch_size)
    with arithmetic("float32", images.device):
        return torch.cat([model(channels_last(part)).argmax(1) for part in parts])
