"""One photograph in bands, with the confidence of a model under each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iaside.backend.content import by_content
from iaside.game.exact import coalition_images
from iaside.inputs.asked import Asked
from iaside.inputs.predicted import answers


@by_content
class Picture(NamedTuple):
    """A photograph with some bands left, (H, W, 3) uint8, and the confidence in its class."""

    title: str
    pixels: np.ndarray
    confidence: float


def pictures_of(
    asked: Asked, images: Tensor, labels: Tensor, masks: Tensor, psi: np.ndarray, known: np.ndarray
) -> list[Picture]:
    """One photograph: whole, low, middle and high bands of it, with and without its main band.

    known: (N,) log-likelihoods; the photograph is the one in the middle of them.
    """
    k = int(np.argsort(known)[len(known) // 2])
    m, strongest = len(masks), int(psi.argmax())
    third = max(1, m // 3)
    parts = {
        "low-pass": range(third),
        "band-pass": range(third, m - third),
        "high-pass": range(m - third, m),
    }
    kept = {"as it is": [*range(m)]}
    kept |= {f"{name}: {_named(bands)}": [*bands] for name, bands in parts.items() if bands}
    kept[f"strongest band alone: {strongest}"] = [strongest]
    kept[f"without the strongest band: {strongest}"] = [j for j in range(m) if j != strongest]
    members = np.array([np.isin(np.arange(m), bands) for bands in kept.values()])
    shown = coalition_images(images[k : k + 1], masks, members)[:, 0]
    sure = answers(asked, shown).softmax(1)[:, int(labels[k])]
    # Without the lowest band a picture is faint and around zero: shown on grey, as strong as it can
    centred = [
        x if members[i, 0] else 0.5 + x / (2 * x.abs().max().clamp(min=1e-6))
        for i, x in enumerate(shown)
    ]
    return [
        Picture(title, _bytes(x), float(c)) for title, x, c in zip(kept, centred, sure, strict=True)
    ]


def _named(bands: range) -> str:
    return f"bands {bands[0]} to {bands[-1]}" if len(bands) > 1 else f"band {bands[0]}"


def _bytes(x: Tensor) -> np.ndarray:
    """Pixels (C, H, W) as people see them, (H, W, 3): of other channels than three, their mean."""
    seen = x if len(x) == 3 else x.mean(0, keepdim=True).expand(3, -1, -1)
    return (seen.clamp(0, 1) * 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
