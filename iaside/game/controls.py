"""Untrained controls: networks with random weights whose answers are neither lost nor certain.

With the batch-norm statistics that a library initialises (mean 0, variance 1) nothing normalises:
the signal of a deep network with random weights grows or vanishes from layer to layer. A control
therefore takes its statistics from the photographs of the study, and is refused where its logits
show that it is nearly certain of random classes, or the same for all. What is measured of several
initialisations is kept by `iaside.game.samples.Controls`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from iaside.backend.checks import told_apart
from iaside.backend.inside import is_sealed
from iaside.backend.precision import undisturbed
from iaside.game.samples import Controls, SampledWorths
from iaside.inputs.checks import check_images
from iaside.inputs.classifier import Classifier, check_classifier, load_model

LOGIT_SD = 0.01, 3.0  # of a control that is neither constant nor certain of random classes
ONE_BATCH = 128  # photographs at most: of a VGG they take 5 GB


class Control(NamedTuple):
    """An untrained network, and the standard deviation of all its logits on the photographs."""

    model: Classifier
    logit_sd: float


class UnusableControl(ValueError):
    """The logits of an untrained network say that it is no control."""


@undisturbed
def calibrated(model: Classifier, images: Tensor) -> Classifier:
    """A copy of a model whose batch norms have the mean and variance of some images.

    Shapes: images (N, 3, H, W) in [0, 1], for batch norms at least 2. They pass once, as one
    batch: a mean over batches would leave out the variance between these. Of more than 128, as many
    are taken, spread evenly. Only batch norms leave eval mode meanwhile. A model without them is
    only copied; a folded one has none any more, so fold afterwards.
    Errors: ValueError for batch norms and fewer than 2 images, and those of ``coalition_worths``
    for images.
    Source: docs/methods.md, Controls.

    >>> control = load_model("resnet18", pretrained=False)
    >>> 10 < control(torch.rand(2, 3, 64, 64)).std()
    tensor(True)
    >>> calibrated(control, torch.rand(9, 3, 64, 64))(torch.rand(2, 3, 64, 64)).std() < 3
    tensor(True)
    """
    check_classifier(model, "calibrated")
    if is_sealed(model):
        raise ValueError(
            "calibrated sets batch norms, and those of a scripted or exported network are out of "
            "reach; give the torch network itself"
        )
    batch = _batch(images)
    try:
        model = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"calibrated works on a copy, and {model.name} cannot be copied ({str(error)[:80]}); "
            "leave out what it holds besides layers"
        ) from error
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return model
    if len(batch) < 2:
        raise ValueError("1 image has no variance between images; calibrate on at least 2")
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the statistics become those of the batch, whatever they were
        norm.train()
    with torch.no_grad():
        model(batch.to(model.mean.device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


@undisturbed
def untrained_control(name: str, images: Tensor, seed: int = 0, **network) -> Control:
    """The untrained twin of a network, calibrated on images, with the spread of its logits.

    name, seed, and weights, recipe or packaged in ``network``: as ``load_model`` takes them;
    images: as ``calibrated``. A function of these alone, always computed on the CPU in float32.
    One initialisation is one draw: a statement about untrained networks needs at least 5 seeds.
    Errors: UnusableControl (a ValueError) for logits whose standard deviation, over images and
    classes, lies outside 0.01 to 3; those of ``load_model`` and ``calibrated``.
    Source: Luo et al. 2024, Fig. 6; docs/methods.md, Controls.

    >>> control = untrained_control("squeezenet1_1", torch.rand(2, 3, 224, 224), seed=1)
    >>> LOGIT_SD[0] < control.logit_sd < LOGIT_SD[1]
    True
    """
    model = calibrated(load_model(name, pretrained=False, seed=seed, **network), images)
    with torch.no_grad():
        sd = model(_batch(images)).double().std().item()
    low, high = LOGIT_SD
    if not low <= sd <= high:
        raise UnusableControl(
            f"no usable control: logit sd {told_apart(sd, low if sd < low else high, 3)} of "
            f"untrained {name} (seed {seed}) must lie from {low:g} to {high:g}; its architecture "
            "keeps no scale, so do without a control"
        )
    return Control(model, sd)


@undisturbed
def measured_controls(
    measure: Callable[[Classifier, int], SampledWorths],
    name: str,
    images: Tensor,
    seeds: Iterable[int],
    **network,
) -> Controls:
    """What is measured of one untrained control after another, or why there is none.

    measure: (model, seed) -> its worths;  name, images, network: as ``untrained_control``. One that
    is refused refuses all: to go on with the others would select.
    Errors: those of ``untrained_control``, but for UnusableControl, and of ``measure``.

    >>> from iaside.spectral import band_masks
    >>> x, y = torch.rand(5, 3, 64, 64), torch.zeros(5).long()
    >>> def game(model, seed):
    ...     from iaside.game.sampling import sampled_worths
    ...     return sampled_worths(model, x, y, band_masks(3, (64, 64)), budget=30, seed=seed,
    ...                           batch_size=6, progress=False)
    >>> measured_controls(game, "squeezenet1_1", x, range(2)).values.shape
    (3, 2)
    """
    samples, spread = [], []
    for seed in seeds:
        try:
            model, sd = untrained_control(name, images, seed, **network)
        except UnusableControl as error:
            return Controls([], [], str(error))
        with warnings.catch_warnings():  # untrained networks are at chance: said of each, it hides
            warnings.filterwarnings("ignore", "not clearly better than chance", RuntimeWarning)
            samples.append(measure(model, seed))
        spread.append(sd)
    return Controls(samples, spread)


def control_passes(n_images: int) -> int:
    """Forward passes at most of ``untrained_control``.

    >>> control_passes(70), control_passes(1000)
    (140, 256)
    """
    return 2 * min(n_images, ONE_BATCH)


def _batch(images: Tensor) -> Tensor:
    images = check_images(images, on_disk=True)
    n = min(len(images), ONE_BATCH)
    return images[torch.from_numpy(np.linspace(0, len(images) - 1, n).round().astype(int))]
