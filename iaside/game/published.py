"""What the published I-ASIDE code computes, for comparison only.

Its boxes are not symmetric about DC, it takes the magnitude of the (therefore complex) result and
stretches the contrast over the whole batch: an image's worth depends on its batch mates, and the
bands it was scored on are not quite the bands that were asked for (docs/methods.md, Bands and
Absent bands).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from iaside.backend.device import own_device
from iaside.backend.fingerprints import fingerprint, fingerprint_model
from iaside.backend.parallel import executor
from iaside.backend.precision import arithmetic, check_precision, undisturbed
from iaside.backend.resume import Table, unfinished
from iaside.inputs.checks import check_images, widened
from iaside.inputs.labels import class_labels
from iaside.inputs.probe import PROBE, probe
from iaside.shapley import coalitions

BATCH = 10  # the published batch, over which contrast is stretched
JOB = 32  # coalitions of a batch that are one job


def published_mask(members: np.ndarray, size: tuple[int, int]) -> Tensor:
    """The published transfer function of a coalition, DC in the middle of the plane.

    Shapes: members (M,) bool; returns (H, W) of 0.0 and 1.0.
    Errors: ValueError for sides below 16 pixels, which the published code refuses.
    Source: the authors' published code; docs/methods.md, Bands.

    >>> int(published_mask(np.eye(8, dtype=bool)[0], (224, 224)).sum())
    784
    """
    side = min(size)
    if side < 16:
        raise ValueError(f"images of {size[0]}x{size[1]} pixels: the published code needs 16")
    mask = torch.zeros(size)
    for band in reversed(range(len(members))):
        if members[band]:
            for radius, inside in (
                (side * (band + 1) // len(members), 1.0),
                (side * band // len(members), 0.0),
            ):
                low = (side - radius) // 2
                mask[low : low + radius, low : low + radius] = inside
    return mask


@undisturbed
def published_filter(x: Tensor, members: np.ndarray, spectrum: Tensor | None = None) -> Tensor:
    """The published filtering of a batch: boxes, magnitude, contrast stretched over the batch.

    Shapes: x (B, C, H, W), members (M,) bool; returns (B, C, H, W) in [0, 1]. spectrum: the full
    transform of x where it is known already.
    Source: the authors' published code; docs/methods.md, Absent bands.

    >>> published_filter(torch.rand(2, 3, 16, 16), np.array([True, False])).max().item()
    1.0
    """
    if not members.any():
        return torch.zeros_like(x)
    spectrum = torch.fft.fft2(x) if spectrum is None else spectrum
    mask = torch.fft.ifftshift(published_mask(members, x.shape[-2:])).to(x)
    y = torch.fft.ifft2(spectrum * mask).abs()
    y = y - y.min()
    return y / y.max() if y.max() > 0 else y


def published_passes(n_bands: int, n_images: int) -> int:
    """Forward passes of ``published_worths``.

    >>> published_passes(8, 5)
    1286
    """
    return 2**n_bands * n_images + PROBE


@undisturbed
@torch.no_grad()
def published_worths(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    n_bands: int,
    precision: str = "float32",
    resume: str | os.PathLike | None = None,
    outputs: str = "logits",
    workers: object = None,
    engine: str = "torch",
) -> np.ndarray:
    """Log-likelihood of every coalition under the published filter, in batches of ten images.

    The same images serve all coalitions (the published sampler draws others for each), so that
    the difference to ``coalition_worths`` is the filter's alone.

    Shapes: images (N, C, H, W) in [0, 1], labels (N,); returns (2**M, N) float64.
    precision: float32 or bfloat16, as in ``coalition_worths``. resume: a folder for the
    measurement in progress, outputs: what the model gives, workers and engine: who evaluates and
    who answers: as in ``coalition_worths``.
    Errors: those of ``iaside.inputs.probe``, which looks at the model first; ValueError for nan or
    infinite answers.
    Source: the authors' published code; docs/methods.md, Bands and Absent bands; zero absence, as
    in both papers.

    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1)
    >>> published_worths(brightness, torch.rand(3, 3, 16, 16), torch.zeros(3).long(), 2).shape
    (4, 3)
    """
    check_precision(precision)
    images = widened(check_images(images))
    device = images.device
    labels = class_labels(labels, len(images)).to(device)
    asked = probe(model, images, labels, outputs=outputs, precision=precision, engine=engine)
    about = {"model": fingerprint_model(asked.model, asked.answer)} | asked.about
    about |= {"images": fingerprint(images), "labels": fingerprint(labels)}
    about |= {"n_bands": n_bands, "precision": precision, "device": device.type}
    path = unfinished(resume, "published", about, __name__)
    table = Table(path, (2**n_bands, len(images)))
    jobs = []
    for start in range(0, len(images), BATCH):
        todo = np.flatnonzero(np.isnan(table[:, start : start + BATCH]).any(1))
        jobs += [(start, todo[k : k + JOB]) for k in range(0, len(todo), JOB)]
    common = asked, images, labels, n_bands, precision
    for (start, _), (row, log_p) in executor(workers, device).each(
        _rows, common, jobs, device, name=lambda start, _: f"images from {start}"
    ):
        table[row, start : start + BATCH] = log_p
    return table.values


@torch.no_grad()
def _rows(common: tuple, start: int, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Coalitions and the log-likelihoods of a batch of images under them."""
    asked, images, labels, n_bands, precision = common
    device, members = own_device(images.device), coalitions(n_bands)
    x = images[start : start + BATCH].to(device)
    y = labels[start : start + BATCH, None].to(device)
    spectrum = torch.fft.fft2(x)
    for row in rows.tolist():
        shown = published_filter(x, members[row], spectrum)
        with arithmetic(precision, device):
            logits = asked(shown)
        log_p = logits.float().log_softmax(-1).gather(1, y)[:, 0]
        if not log_p.isfinite().all():
            raise ValueError(
                f"the model returned nan or infinite worths for images {start} to "
                f"{start + len(x) - 1}; check its weights, and try precision='float32'"
            )
        yield row, log_p.cpu().double().numpy()
