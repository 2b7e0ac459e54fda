"""What a model answers to images, and the classes that these are, where nobody gives labels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from iaside.backend.device import device_of
from iaside.backend.precision import arithmetic, undisturbed
from iaside.inputs.asked import Asked
from iaside.inputs.probe import probe

BATCH = 8


def answers(asked: Asked, images: Tensor) -> Tensor:
    """Logits of a model on the CPU, without gradients, a few pictures at a time."""
    device = device_of(asked, None)
    with torch.no_grad():
        return torch.cat([asked(part.to(device)).cpu() for part in images.split(BATCH)])


@undisturbed
def predicted(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    outputs: str = "logits",
    precision: str = "float32",
    device: str | torch.device | None = None,
) -> Tensor:
    """The class that a model gives to each image, (N,) int64.

    Shapes: images (N, C, H, W) in [0, 1]; outputs, precision, device as in ``probe``, which raises
    what is wrong with the model.

    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)) - 0.5, 0 * x[:, 0, 0, 0]], 1)
    >>> predicted(brightness, torch.tensor([0.2, 0.9]).view(2, 1, 1, 1).expand(2, 3, 8, 8))
    tensor([1, 0])
    """
    at = device_of(model, device)
    asked = probe(model, images, outputs=outputs, precision=precision, device=at)
    with arithmetic(precision, at):
        return answers(asked, images).argmax(1)
