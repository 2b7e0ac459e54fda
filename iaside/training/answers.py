"""What a network answers to images, and where a deployment that lies in a folder damages it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from iaside.backend.device import channels_last, device_of
from iaside.estimate.shares import survival_of_spectra, survival_per_image
from iaside.inputs.degraded import Degraded
from iaside.inputs.splits import stratified_order
from iaside.spectral import band_energy

AT_ONCE = 100  # images that are asked about at a time
LEAST = 5  # pictures to diagnose, and to judge


def answers(net: nn.Module, x: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Whether each image is classified rightly, and the log-likelihood of its class, each (N,)."""
    log_p = _log_probabilities(net, x)
    right = (log_p.argmax(1) == y).numpy().astype(float)
    return right, log_p.gather(1, y[:, None])[:, 0].double().numpy()


def seen_in_folder(
    net: nn.Module, shown: Degraded, images: Tensor, masks: Tensor, seed: int
) -> tuple[np.ndarray, tuple[Tensor, Tensor] | None]:
    """The share of each band that pictures of a folder have left, and others of them to judge by.

    images: clean ones, (N, C, H, W), which the degraded ones are compared with where they come
    without;  seed: draws which half is for the diagnosis. Returns (M, n) and pictures with their
    right answers; None where these are not known, and then all are for the diagnosis.
    Errors: ValueError for fewer than 5 to diagnose or to judge, or degraded ones that are not.
    """
    pictures, right, n = shown.pictures, shown.labels, len(shown.pictures)
    if shown.clean is not None:
        if torch.equal(shown.clean, pictures):
            raise ValueError(f"the deployment {shown.name} changes no image: nothing to mend")
        right = _log_probabilities(net, shown.clean).argmax(1)
    least = LEAST if right is None else 2 * LEAST
    if n < least:
        raise ValueError(
            f"the deployment {shown.name} has {n} pictures; {LEAST} to diagnose and, where the "
            f"right answers are known, {LEAST} to judge are the least: give more"
        )
    if right is None:
        return _left(shown, images, masks, torch.arange(n)), None
    order = torch.tensor(stratified_order(right.tolist(), seed))
    diagnosed, judged = order[: n // 2], order[n // 2 :]
    return _left(shown, images, masks, diagnosed), (pictures[judged], right[judged])


def _left(shown: Degraded, images: Tensor, masks: Tensor, those: Tensor) -> np.ndarray:
    """The share of each band that is left in some of the pictures, (M, n), or in their spectra."""
    if shown.clean is not None:
        return survival_of_pairs(shown.clean[those], shown.pictures[those], masks)
    means = (
        band_energy(x, masks).double().numpy().mean(1) for x in (images, shown.pictures[those])
    )
    return survival_of_spectra(*means)[:, None]


def survival_of_pairs(clean: Tensor, degraded: Tensor, masks: Tensor) -> np.ndarray:
    """The share of each band that is left of each image, (M, N)."""
    return survival_per_image(
        *(band_energy(x, masks).double().numpy() for x in (clean, degraded - clean))
    )


@torch.no_grad()
def _log_probabilities(net: nn.Module, x: Tensor) -> Tensor:
    """Of all classes, (N, K), in eval mode."""
    device, was = device_of(net, None), net.training
    net.eval()
    logits = [net(channels_last(part.to(device))).float().cpu() for part in x.split(AT_ONCE)]
    net.train(was)
    return torch.cat(logits).log_softmax(1)
