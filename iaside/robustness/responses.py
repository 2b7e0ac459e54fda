"""A network's answers on perturbed images: a row per condition, a column per image.

A condition is a perturbation at a strength, in a band or at a cell of the Fourier heat map. Nothing
here judges: `robustness.measures` does, and reports.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from iaside.backend.checks import check_values
from iaside.backend.device import device_of, own_device
from iaside.backend.fingerprints import fingerprint, fingerprint_model, look
from iaside.backend.log import log
from iaside.backend.parallel import executor
from iaside.backend.partition import check_partition
from iaside.backend.precision import arithmetic, check_precision, undisturbed
from iaside.backend.resume import keep_array, kept_array, unfinished
from iaside.estimate.clean import at_floor, clean_summary, warn_of_chance
from iaside.inputs.asked import Asked
from iaside.inputs.checks import check_images, finite_logits, widened
from iaside.inputs.corrupted_sets import CorruptedSet
from iaside.inputs.labels import class_labels, places
from iaside.inputs.photographs import Photographs
from iaside.inputs.probe import PROBE, probe
from iaside.robustness.attacks import ATTACKS
from iaside.robustness.conditions import check_condition, condition_name, perturbed_images
from iaside.robustness.corrupted_photographs import (
    corrupted_pictures,
    corruptions,
    fitter,
    in_bytes,
    interpolation_of,
    resize,
)
from iaside.robustness.corruptions import SETS, VERSION, strengths_for
from iaside.robustness.perturb import attack_passes
from iaside.spectral import AT_ONCE, band_energy
from iaside.tables import CLEAN, CLEAN_CUT, CORRUPTIONS, FOURIER, TABLES, Condition, Responses

ATTACK_BATCH = 4  # images attacked at a time on a CPU: more are no faster


@undisturbed
def responses(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    conditions: Iterable[Condition],
    masks: Tensor,
    subset: Mapping[str, Sequence[int]] | None = None,
    heat_grid: int = 15,
    seed: int = 0,
    precision: str = "float32",
    batch_size: int = 8,
    resume: str | os.PathLike | None = None,
    cache: str | os.PathLike | None = None,
    workers: object = None,
    progress: bool = True,
    attack_batch: int = 1,
    outputs: str = "logits",
    pictures: Tensor | None = None,
    engine: str = "torch",
    published: CorruptedSet | None = None,
) -> Responses:
    """Ask a network about perturbed images, one condition after the other.

    Shapes: images (N, C, H, W) in [0, 1], labels (N,) class indices, masks (M, H, W//2 + 1),
    pictures (N, 3, h, w) in [0, 1].

    conditions: what to do; ``clean`` is always measured first. Sources are those of ``perturb``
    with a strength (``STRENGTH``), white_noise and pgd also with a band as place, and ``fourier``:
    the images plus ``strength`` times the unit-norm real Fourier basis function of a cell of
    ``heat_grid``, with a random sign for each channel, clipped to [0, 1].
    subset: source -> indices of the images it is measured on; other sources take all.
    Attacks are made in float32 against the model as it is, answers are given in ``precision``
    (float32 or bfloat16). An image that gives an attack no usable gradient is marked in the table
    ``no_gradient`` and has no answer (nan), as if it had not been asked. On a CPU attacks treat
    ``attack_batch`` images at a time, whatever ``batch_size``, which changes no byte then; several
    at a time are up to a third faster.
    resume: a folder for the measurement in progress; a later call with the same arguments goes on
    from there. cache: a folder for corrupted images, shared by all models that are given the same
    pictures. workers: who makes corruptions and asks, as in ``backend.parallel.executor``: by
    default this process. On another machine they want both folders where they are here.
    Images and pictures may be ``Photographs``: a few batches of them are in memory at a time, and
    no corrupted ones are kept in ``cache``, where they would take as much again for each condition.
    engine: who gives the answers, as in ``coalition_worths``; gradients are PyTorch's.
    outputs: what the model gives, as in ``inputs.probe``, which looks at it first. ``clean`` in
    the provenance says how many clean images are classified right.
    pictures: the same photographs as ImageNet-C cuts them (``load_images(..., like=CUT)``), so that
    corruptions do not depend on the input size: they are corrupted at that size, then resized to
    that of the images without a second crop, as the model's recipe interpolates (bilinear without
    one). None: ``pictures_of(images)``. Unless that is the images themselves, the condition
    ``clean_cut``, the pictures resized without a corruption, is measured besides: see
    ``Responses.partner``.
    published: the pictures as others have corrupted and published them (``corrupted_set``), in
    place of corruptions made here; ``pictures`` are then cut as these were.

    Errors: those of ``perturb``; ValueError for an unknown source, a band or cell that is not
    there, pictures that are not as many as the images, published ones that lack a condition or are
    of another size than the pictures, or nan answers. RuntimeWarning where the clean images are not
    clearly classified better than by chance, or probabilities were floored.
    Source: Luo et al. 2024, Figs. 7 to 9, Luo et al. 2023, Fig. 7; heat map: Yin et al. 2019;
    corruptions: docs/methods.md, Corruptions.

    >>> from iaside.spectral import band_masks
    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1)
    >>> r = responses(brightness, torch.rand(3, 3, 16, 16), torch.zeros(3).long(),
    ...               [Condition("white_noise", 0.1)], band_masks(2, (16, 16)), progress=False)
    >>> r.tables["correct"].shape
    (2, 3)
    """
    conditions = [Condition(s, float(strength), int(place)) for s, strength, place in conditions]
    conditions = list(dict.fromkeys([CLEAN, *conditions]))
    shown = widened(check_images(images, on_disk=True))
    if pictures is not None:
        same = pictures is images
        pictures = shown if same else widened(check_images(pictures, on_disk=True))
    images = shown
    masks = check_partition(masks, images.shape[2:])
    for condition in conditions:
        check_condition(condition, len(masks), heat_grid)
    if pictures is not None and len(pictures) != len(images):
        raise ValueError(
            f"there are {len(pictures)} pictures of {len(images)} images; "
            "load both with the same n and seed"
        )
    corrupted, made = any(c.source in CORRUPTIONS for c in conditions), None
    fit = fitter(model, images)
    if corrupted:
        pictures = pictures_of(images) if pictures is None else pictures
        if pictures is not images:
            conditions.insert(1, CLEAN_CUT)
        resized = pictures.shape[-2:] != images.shape[-2:]
        made = {"version": VERSION}
        if published is not None:
            if len(published) != len(images):
                raise ValueError(
                    f"published are {len(published)} pictures of {len(images)} images; ask for "
                    "both with the same source, n and seed"
                )
            asked_of = [(c.source, int(c.strength)) for c in conditions if c.source in CORRUPTIONS]
            made = {"published": published.check(asked_of, pictures.shape[-2:])}
        made |= {
            "pictures": fingerprint(pictures),
            "picture_size": list(pictures.shape[-2:]),
            "strengths": SETS[strengths_for(*pictures.shape[-2:])],
            "interpolation": interpolation_of(model) if resized else None,
        }
    device = device_of(model, None)
    pool = executor(workers, device)
    check_precision(precision)
    check_values({"batch_size": batch_size, "seed": seed})
    subset = {s: places(chosen, len(images)).numpy() for s, chosen in (subset or {}).items()}
    labels = class_labels(labels, len(images)).cpu()
    asked = probe(
        model, images, labels, outputs=outputs, precision=precision, device=device, engine=engine
    )
    provenance = {
        "model": fingerprint_model(asked.model, asked.answer),
        **asked.about,
        "images": fingerprint(images),
        "look": look(images),
        "labels": fingerprint(labels),
        "masks": fingerprint(masks),
        "n_images": len(images),
        "size": list(images.shape[-2:]),
        "subset": {s: chosen.tolist() for s, chosen in subset.items()},
        "heat_grid": heat_grid,
        "seed": seed,
        "precision": precision,
        "device": device.type,
        "corruptions": made,
    } | ({"attack_batch": attack_batch} if attack_batch > 1 else {})
    rows = _Rows(resume, provenance, len(masks), len(images))
    rest = [c for c in conditions if c not in rows]
    to_make = [c for c in conditions if c.source in CORRUPTIONS and published is None]
    at_once = attack_batch if device.type == "cpu" else int(batch_size)
    cache = None if isinstance(pictures, Photographs) else cache
    questions = _Questions(
        asked,
        images,
        labels,
        masks,
        subset,
        heat_grid,
        seed,
        precision,
        device,
        int(batch_size),
        at_once,
        pictures if corrupted else None,
        fit,
        CLEAN_CUT in conditions,
        cache and Path(cache),
        published,
        _at_a_time(images, int(batch_size), at_once),
    )
    with corruptions(pictures, to_make, cache, seed, workers, progress):
        if progress and rest:
            done = len(conditions) - len(rest)
            log.info(
                f"{len(conditions)} conditions of {len(images)} images, {done} already done; "
                f"{precision} on {device.type}"
            )
        asking = pool.each(_row, questions, [(c,) for c in rest], device, name=condition_name)
        for (condition,), row in tqdm(
            asking, total=len(rest), disable=not progress, unit="condition"
        ):
            rows.add(condition, row)
    found = np.stack([rows[c] for c in conditions])
    clean = dict(zip(("log_likelihood", "probability_t2", "accuracy"), found[0], strict=False))
    provenance |= clean_summary(clean, asked.classes)
    warn_of_chance(provenance)
    tables = {t: found[:, k] for k, t in enumerate(TABLES)}
    provenance |= at_floor(provenance, tables)
    return Responses(
        conditions,
        tables,
        band_energy(images, masks).double().numpy(),
        found[:, len(TABLES) :],
        provenance,
    )


def response_passes(
    counts: Mapping[str, int],
    n_images: int,
    subset: Mapping[str, int] | None = None,
    cut: bool = False,
) -> np.ndarray:
    """Images that ``responses`` shows the model, and gradients it asks of it, (2,) int64.

    counts: source -> its conditions, without the clean images;  subset: source -> its images;
    cut: whether there are other pictures to corrupt than the images, measured clean as well.

    >>> response_passes({"white_noise": 2, "fgsm": 1}, 10, {"fgsm": 3}).tolist()
    [42, 3]
    """
    total = np.array([PROBE + n_images + cut * n_images, 0])  # what the model does, clean images
    for source, conditions in counts.items():
        n = (subset or {}).get(source, n_images)
        attack = attack_passes(source, n, at_once=None) if source in ATTACKS else 0
        total = total + conditions * (attack + np.array([n, 0]))
    return total


class _Questions(NamedTuple):
    """Data shared by all conditions.  cut: whether there are pictures besides the images."""

    asked: Asked
    images: Tensor
    labels: Tensor
    masks: Tensor
    subset: dict[str, np.ndarray]
    heat_grid: int
    seed: int
    precision: str
    device: torch.device
    batch_size: int
    at_once: int
    pictures: Tensor | None
    fit: Callable
    cut: bool
    cache: Path | None
    published: CorruptedSet | None
    at_a_time: int


def _at_a_time(images: Tensor | Photographs, *batches: int) -> int:
    """Images that are in memory together: all that are, and of others whole batches."""
    return len(images) if isinstance(images, Tensor) else math.lcm(AT_ONCE, *batches)


def _row(of: _Questions, condition: Condition) -> np.ndarray:
    """One row: a condition in all tables and bands, for each image."""
    chosen = of.subset.get(condition.source, np.arange(len(of.images)))
    row = np.full((len(TABLES) + len(of.masks), len(of.images)), np.nan)
    for k in range(0, len(chosen), of.at_a_time):
        here = chosen[k : k + of.at_a_time]
        row[:, here] = _answers(of, condition, here)
    return row


def _answers(of: _Questions, condition: Condition, chosen: np.ndarray) -> np.ndarray:
    """The same of the chosen images alone."""
    device, masks = own_device(of.device), of.masks
    x, y = of.images[chosen], of.labels[chosen]
    row = np.full((len(TABLES) + len(masks), len(x)), np.nan)
    usable = np.ones(len(x), bool)
    if condition == CLEAN_CUT or condition.source in CORRUPTIONS:
        x = of.fit(in_bytes(of.pictures[chosen])) if of.cut else x
        perturbed, change = x, x  # of the clean cut, the energy of the pictures themselves
        if condition != CLEAN_CUT:
            perturbed = of.fit(
                corrupted_pictures(condition, of.pictures, chosen, of.seed, of.cache, of.published)
            )
            change = perturbed - x
    else:
        perturbed, usable = perturbed_images(
            condition, of.asked, x, y, chosen, masks, of.heat_grid, of.seed, device, of.at_once
        )
        change = perturbed - x
    answer = _answerer(of.asked, of.precision, device, of.batch_size)
    row[: len(TABLES) - 1] = answer(perturbed, y)
    if condition.source != FOURIER:
        row[len(TABLES) :] = band_energy(change, masks).double().numpy()
    row[:, ~usable] = np.nan
    row[len(TABLES) - 1] = ~usable
    return row


def _answerer(model: Asked, precision: str, device, batch_size: int) -> Callable:
    """A function (images, labels) -> rows of these images in all tables but the last, (4, n)."""

    @torch.no_grad()
    def answer(x: Tensor, y: Tensor) -> np.ndarray:
        rows = []
        for part, label in zip(x.split(batch_size), y.split(batch_size), strict=True):
            with arithmetic(precision, device):
                logits = model(part.to(device))
            logits, label = finite_logits(logits), label.to(device)[:, None]
            log_p = logits.log_softmax(-1)
            rows.append(
                torch.stack(
                    [
                        log_p.gather(1, label)[:, 0],
                        (logits / 2).softmax(-1).gather(1, label)[:, 0],
                        (log_p.argmax(1) == label[:, 0]).float(),
                        log_p.amax(1).exp(),
                    ]
                )
                .cpu()
                .double()
            )
        return torch.cat(rows, dim=1).numpy()

    return answer


class _Rows:
    """Measured conditions, each a file of its own where there is a folder: a kill loses one."""

    def __init__(self, resume, provenance: dict, n_bands: int, n_images: int) -> None:
        about = {**provenance, "tables": TABLES}
        self.folder = unfinished(resume, "robustness", about, __name__)
        self.shape = (len(TABLES) + n_bands, n_images)
        self.rows: dict[Condition, np.ndarray] = {}

    def _path(self, c: Condition) -> Path:
        return self.folder / f"{c.source}_{c.strength!r}_{c.place}.npz"

    def __contains__(self, condition: Condition) -> bool:
        if condition not in self.rows and self.folder is not None:
            row = kept_array(self._path(condition), self.shape, "f8")
            if row is not None:
                self.rows[condition] = row
        return condition in self.rows

    def __getitem__(self, condition: Condition) -> np.ndarray:
        return self.rows[condition]

    def add(self, condition: Condition, row: np.ndarray) -> None:
        self.rows[condition] = row
        if self.folder is not None:
            keep_array(self._path(condition), row)


@undisturbed
def pictures_of(images: Tensor) -> Tensor:
    """The pictures to corrupt where only the images are given.

    The images themselves, where their size is nearest to that of CIFAR-10-C or Tiny ImageNet-C or
    their shorter side is 224; else they are resized to that, bilinear.

    Shapes: images (N, 3, H, W) in [0, 1]; returns (N, 3, h, w) in [0, 1].

    >>> [pictures_of(torch.rand(2, 3, side, side)).shape[-1] for side in (260, 224, 64, 32)]
    [224, 224, 64, 32]
    """
    height, width = images.shape[-2:]
    if strengths_for(height, width) != 224 or min(height, width) == 224:
        return images
    ratio = 224 / min(height, width)
    return resize(images, (round(height * ratio), round(width * ratio)), "bilinear")


@undisturbed
def corrupt_all(
    images: Tensor,
    conditions: Iterable[Condition],
    folder: str | os.PathLike,
    seed: int = 0,
    workers: object = None,
    progress: bool = True,
) -> None:
    """Make the corrupted images that are not in the folder yet.

    Shapes: images (N, 3, H, W) in [0, 1]; each condition becomes a file of bytes (N, 3, H, W).
    workers: as in ``responses``.
    Errors: those of ``perturb``; RuntimeError for a condition at which workers die again and again.
    What was finished before stays.
    """
    with corruptions(images, list(conditions), folder, seed, workers, progress):
        pass
