"""Training data: images, noisy labels, batches, augmentation."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from iaside.backend.content import by_content
from iaside.backend.device import channels_last
from iaside.inputs.splits import load_split

PAD = 4  # pixels on each side, of the random crop of augmentation


@by_content
class Data(NamedTuple):
    """Both halves of a data set: images uint8 (N, 3, H, W), labels int64 (N,)."""

    images: Tensor
    labels: Tensor
    held_images: Tensor
    held_labels: Tensor

    @property
    def n_classes(self) -> int:
        return int(max(self.labels.max(), self.held_labels.max())) + 1


def complete(settings: Mapping, shared: Mapping) -> dict:
    """The settings of a network with those that it shares with the whole study.

    >>> complete({"noise": 0.4, "images": None, "epochs": 3}, {"images": "x", "epochs": 9})
    {'images': 'x', 'epochs': 3, 'noise': 0.4}
    """
    return {**shared, **{name: value for name, value in settings.items() if value is not None}}


def load_data(settings: Mapping, seed: int) -> Data:
    """The data set of complete settings; ``seed`` draws what is held out."""
    return Data(
        *load_split(
            settings["images"], settings["held_out"], seed, settings["side"], settings["classes"]
        )
    )


def reassign(labels: Tensor, noise: float, n_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Give a share of the labels new ones, drawn uniformly from all classes, the true one included.

    Shapes: labels (N,); returns the labels (N,) and the indices (round(noise * N),) that were drawn
    again, in ascending order. Those of a lower noise are among those of a higher one.
    Source: Luo et al. 2024, section 4.3; docs/methods.md, Training: labels are wrong with
    probability noise * (1 - 1 / classes).

    >>> labels, indices = reassign(torch.zeros(10).long(), 0.4, 10, seed=0)
    >>> len(indices), int((labels != 0).sum()) <= 4
    (4, True)
    """
    rng = np.random.default_rng([seed, 1])
    order, drawn = rng.permutation(len(labels)), rng.integers(n_classes, size=len(labels))
    indices = torch.from_numpy(np.sort(order[: round(noise * len(labels))]))
    labels = labels.clone()
    labels[indices] = torch.from_numpy(drawn)[indices]
    return labels, indices


def batch_of(update: int, batch: int, n: int, seed: int) -> np.ndarray:
    """The indices of an update's images: all n are seen once, in a new order, before any again.

    >>> sorted(np.concatenate([batch_of(k, 2, 6, seed=0) for k in range(3)]).tolist())
    [0, 1, 2, 3, 4, 5]
    """
    places = np.arange(update * batch, (update + 1) * batch)
    return np.concatenate(
        [_shuffled(n, seed, int(k))[places[places // n == k] % n] for k in np.unique(places // n)]
    )


@functools.lru_cache(maxsize=4)
def _shuffled(n: int, seed: int, times: int) -> np.ndarray:
    return np.random.default_rng([seed, 2, times]).permutation(n)


def augmented(x: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    """Random crops of images padded with black, and where ``flip`` holds, half of them mirrored.

    Shapes: x (B, C, H, W); returns the same. generator: a CPU generator.
    """
    n, _, height, width = x.shape
    moves = torch.randint(2 * PAD + 1, (2, n), generator=generator)
    mirrored = torch.rand(n, generator=generator) < (0.5 if flip else 0)
    rows = (moves[0][:, None] + torch.arange(height))[:, :, None]
    columns = moves[1][:, None] + torch.arange(width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)[:, None, :]
    each = torch.arange(n)[:, None, None]
    index = tuple(k.to(x.device) for k in (each, rows, columns))
    return F.pad(x, [PAD] * 4).permute(0, 2, 3, 1)[index].permute(0, 3, 1, 2)


def as_pixels(images: Tensor) -> Tensor:
    """Images uint8 as pixels in [0, 1], others as they are."""
    return channels_last(images.float() / 255 if images.dtype == torch.uint8 else images)
