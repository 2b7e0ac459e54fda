"""Mend a network where a deployment hurts it, in one call: diagnose, fine-tune, compare.

The rule, fixed beforehand: a deployment leaves a share w of each band; the band that it damages
most has the largest (1 - w) max(psi, 0), psi the band's Shapley value. The remedy works in that
band; the control, which is not to help, in the band that is damaged least. Pictures of the
deployment serve the diagnosis and the table before and after, never the training.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from iaside.backend.checks import is_number, is_whole
from iaside.backend.content import by_content
from iaside.backend.device import device_of
from iaside.backend.precision import undisturbed
from iaside.estimate.accuracy import accuracy_difference, accuracy_interval
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import mean_interval
from iaside.game.exact import coalition_passes, coalition_worths
from iaside.inputs.asked import recipe_of
from iaside.inputs.checks import check_images
from iaside.inputs.degraded import read_deployment
from iaside.inputs.images import load_images
from iaside.inputs.labels import class_labels
from iaside.inputs.photographs import Photographs
from iaside.inputs.splits import stratified_order
from iaside.shapley import shapley_values
from iaside.spectral import band_masks
from iaside.training.answers import answers, seen_in_folder, survival_of_pairs
from iaside.training.plans import BANDS, FACTORS
from iaside.training.remedies import Diagnosis, diagnose, remedy_factors
from iaside.training.training import repeatable, sgd, train_epoch, training_passes, updates_of


@by_content
class Change(NamedTuple):
    """A share of right answers before and after, the gain in it, and that in nats."""

    before: Estimate
    after: Estimate
    gain: Estimate
    nats: Estimate  # of the true class's log-likelihood


@dataclass(eq=False)
class Mended:
    """A fine-tuned copy of a network, and what it gained.

    model: the copy, in eval mode;  diagnosis: of the network as it was;  remedy: its name;
    changes: ``clean`` and ``deployment``, on images that neither diagnosis nor training saw; of
    a deployment whose right answers are not known there is none;
    passes: images forward and gradients back that it took, (2,).
    """

    model: nn.Module
    diagnosis: Diagnosis
    remedy: str
    changes: dict[str, Change]
    passes: np.ndarray

    def to_frame(self) -> pd.DataFrame:
        """The table before and after: a row for each kind of images."""
        return pd.DataFrame(
            {
                under: {
                    "accuracy before": f"{c.before:.3f}",
                    "accuracy after": f"{c.after:.3f}",
                    "gain": f"{c.gain:+.3f}",
                    "gain (nats)": f"{c.nats:+.3f}",
                }
                for under, c in self.changes.items()
            }
        ).T

    def __str__(self) -> str:
        d = self.diagnosis
        lines = [
            f"the deployment damages band {d.band} most ({d.damage[d.band]:.3f} nats; all bands "
            f"{d.damage.sum():.3f}); remedy: {self.remedy} in band {d.band}",
            *(
                f"{under}: accuracy {c.before:.3f} -> {c.after:.3f}, gain {c.gain:+.3f}"
                for under, c in self.changes.items()
            ),
            *["deployment: its pictures have no labels, so what it gains there is not known"]
            * ("deployment" not in self.changes),
            f"{self.passes[0]:,} passes and {self.passes[1]:,} gradients",
        ]
        return "\n".join(lines)


@undisturbed
def mend(
    model: nn.Module,
    images: object,
    labels: object = None,
    *,
    deployment: Tensor | Callable[[Tensor], Tensor] | str | os.PathLike,
    classes: object = None,
    remedy: str = "augmentation",
    strength: float | None = None,
    epochs: int = 2,
    lr: float = 0.01,
    batch: int = 32,
    held_out: float = 0.4,
    seed: int = 0,
    progress: bool = True,
) -> Mended:
    """Fine-tune a copy of a network where a deployment damages it most, and say what that gains.

    images: (N, C, H, W) in [0, 1], sides of 16 pixels or more, and labels (N,) class indices; or
    what ``load_images`` takes, read by the model's recipe where it has one: a folder, a DataLoader
    or data set with its labels, or arrays, paths or PIL's pictures and their labels.
    deployment: the same images as the deployment has them, (N, C, H, W), or a function that makes
    them: ``lambda x: ia.perturb(x, "shot_noise", severity=5)``. Or a folder of other pictures than
    ``images``, as ``report`` takes it: clean/ and degraded/ with pictures of equal names, where the
    right answer is the class that the network gave to the clean one; or degraded ones alone,
    labelled, or without labels, and then what is gained there is not known.
    classes: which label a class of that name has, as in ``load_images``.
    remedy: in the band that is damaged most (`diagnose`): ``augmentation`` adds noise confined to
    it to the images that are trained on, ``dropout`` leaves the band out of some, ``penalty`` adds
    its share of the input gradient's energy to the loss.  strength: of it (`REMEDIES`).
    epochs, lr, batch: of SGD, the learning rate falling to 0.
    held_out: the share of the images that is not trained on, drawn by ``seed``, stratified: one
    half is for the diagnosis, the other for the table before and after. Of a folder's pictures,
    none of which is trained on, too.

    The model gives logits and keeps its weights; training and measuring run where these are.
    Errors: those of ``load_images``; TypeError for what is no torch module; ValueError for images
    that do not go together, or too few, for settings out of range, where nothing is damaged, and a
    loss that diverges.
    Source: docs/methods.md, Mending.

    >>> g = torch.manual_seed(0)
    >>> images, labels = torch.rand(60, 3, 16, 16) / 2, torch.arange(60) % 2
    >>> images[labels == 1, 0] += 0.5
    >>> net = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(3, 2)).eval()
    >>> mended = mend(net, images, labels, deployment=lambda x: x / 2, progress=False)
    >>> len(mended.diagnosis.damage), list(mended.changes)
    (8, ['clean', 'deployment'])
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"mend fine-tunes a torch module, got a {type(model).__name__}; other callables "
            "have no weights to change"
        )
    images, labels = _read(images, labels, model, classes)
    _check(len(images), epochs, lr, batch, held_out)
    order = torch.tensor(stratified_order(labels.tolist(), seed))
    n = round(held_out * len(images) / 2)
    diagnosed, judged, trained = order[:n], order[n : 2 * n], order[2 * n :]
    masks = band_masks(BANDS, tuple(images.shape[-2:]))
    if isinstance(deployment, str | os.PathLike):
        shown = read_deployment(deployment, model, images.shape[1:], classes, seed=seed)
        left, there = seen_in_folder(model, shown, images[diagnosed], masks, seed)
    else:
        degraded = _degraded(deployment, images)
        left = survival_of_pairs(images[diagnosed], degraded[diagnosed], masks)
        there = degraded[judged], labels[judged]
    worths = coalition_worths(
        model, images[diagnosed], labels[diagnosed], masks, progress=progress, workers=1
    )
    diagnosis = diagnose(shapley_values(worths.table), left)
    settings = FACTORS | {
        "seed": seed,
        "batch": min(batch, len(trained)),
        "epochs": epochs,
        "lr": lr,
        "schedule": "cosine",
        "momentum": 0.9,
        "weight_decay": 0.0,
        "eps": 1.0,
        "steps": 1,
        "warm_up": 0,
        "precision": "float32",
        **remedy_factors(remedy, diagnosis.band, strength),
    }
    device = device_of(model, None)
    after = _fine_tuned(model, images[trained].to(device), labels[trained], settings)
    asked = {"clean": (images[judged], labels[judged])}
    if there is not None:
        asked["deployment"] = there
    changes = {
        under: _change(*(answers(net, x, y) for net in (model, after)))
        for under, (x, y) in asked.items()
    }
    passes = training_passes(settings, len(trained), 0)
    passes[0] += coalition_passes(BANDS, n) + 2 * sum(len(x) for x, _ in asked.values())
    return Mended(after, diagnosis, remedy, changes, passes)


def _read(images, labels, model: nn.Module, classes) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and their labels (N,), in whatever form they come."""
    if isinstance(images, Tensor | Photographs):
        if labels is None:
            raise ValueError("labels=None: give the class of each image, (N,)")
        return check_images(images), class_labels(labels, len(images))
    if labels is not None and isinstance(images, str | os.PathLike):
        raise ValueError(f"{str(images)!r} comes with labels of its own: leave labels out")
    how = {"classes": classes} | ({"like": model} if recipe_of(model) else {})
    return load_images(images if labels is None else (images, labels), **how)


def _check(n: int, epochs: int, lr: float, batch: int, held_out: float) -> None:
    rules = {
        "epochs": (epochs, "a whole number from 1", is_whole(epochs) and epochs >= 1),
        "lr": (lr, "above 0", is_number((int, float), lr) and lr > 0),
        "batch": (batch, "a whole number from 2", is_whole(batch) and batch >= 2),
        "held_out": (
            held_out,
            "a share between 0 and 1",
            is_number((int, float), held_out) and 0 < held_out < 1,
        ),
    }
    for name, (value, rule, fine) in rules.items():
        if not fine:
            raise ValueError(f"{name}={value!r} must be {rule}")
    for_each = round(held_out * n / 2)
    if for_each < 5 or n - 2 * for_each < 2:
        raise ValueError(
            f"{n} images with held_out={held_out} leave {for_each} to diagnose, {for_each} to "
            f"judge and {n - 2 * for_each} to train on; 5, 5 and 2 are the least: give more images"
        )


def _degraded(deployment, images: Tensor) -> Tensor:
    """The images as the deployment has them. Errors: ValueError where they are not the same."""
    found = deployment(images.clone()) if callable(deployment) else deployment
    if not isinstance(found, Tensor) or found.shape != images.shape:
        what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"deployment must give the same images as it has them, {tuple(images.shape)}; got "
            f"{what}"
        )
    found = check_images(found)
    if torch.equal(found, images):
        raise ValueError("the deployment changes no image: there is nothing to mend")
    return found


def _fine_tuned(model: nn.Module, x: Tensor, y: Tensor, settings: Mapping) -> nn.Module:
    """A copy of the network, trained on; it takes gradients and is in the mode as the model."""
    net = copy.deepcopy(model)
    asked = [p.requires_grad for p in net.parameters()]
    net.train()
    for parameter in net.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    optimizer, steps = sgd(net, settings), updates_of(settings, len(x))
    with repeatable(x.device), torch.enable_grad():
        for epoch in range(1, settings["epochs"] + 1):
            train_epoch(net, optimizer, x, y, settings, epoch, steps, "the copy")
    for parameter, wanted in zip(net.parameters(), asked, strict=True):
        parameter.requires_grad_(wanted).grad = None
    return net.eval()


def _change(before: tuple, after: tuple) -> Change:
    (right, log_p), (right_now, log_p_now) = before, after
    return Change(
        accuracy_interval(right),
        accuracy_interval(right_now),
        accuracy_difference(right_now, right),
        mean_interval((log_p_now - log_p)[None])[0],
    )
