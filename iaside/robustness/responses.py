"""A network's answers on perturbed images: a row per condition, a column per image.

A condition is a perturbation at a strength, in a band or at a cell of the Fourier heat map. Nothing
here judges: `robustness` reads the tables.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from iaside.backend.checks import check_values
from iaside.backend.device import device_of, own_device
from iaside.backend.executors import in_one_thread
from iaside.backend.files import alone, held, read_npz, remove_unused, replacing
from iaside.backend.fingerprints import fingerprint, fingerprint_model, look
from iaside.backend.keys import code_hash
from iaside.backend.parallel import executor
from iaside.backend.precision import arithmetic, check_precision, undisturbed
from iaside.estimate.clean import at_floor, clean_summary, warn_of_chance
from iaside.inputs.labels import class_labels, places
from iaside.inputs.probe import PROBE, Asked, check_images, probe, recipe_of, widened
from iaside.robustness.attacks import ATTACKS
from iaside.robustness.corruptions import SETS, VERSION, strengths_for
from iaside.robustness.perturb import attack_passes, perturb, perturb_noting
from iaside.spectral import band_energy, check_partition
from iaside.tables import (
    CLEAN,
    CLEAN_CUT,
    CORRUPTIONS,
    FOURIER,
    TABLES,
    Condition,
    Responses,
    heat_frequencies,
    measure_again,
    unfinished,
)

STRENGTH = {  # what perturb calls the strength of a source
    "white_noise": "sigma",
    "gaussian_blur": "kernel",
    "fgsm": "eps",
    "pgd": "eps",
    "pgd_restarts": "eps",
    **dict.fromkeys(CORRUPTIONS, "severity"),
}
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
    engine: who gives the answers, as in ``coalition_worths``; gradients are PyTorch's.
    outputs: what the model gives, as in ``inputs.probe``, which looks at it first. ``clean`` in
    the provenance says how many clean images are classified right.
    pictures: the same photographs as ImageNet-C cuts them (``load_images(..., like=CUT)``), so that
    corruptions do not depend on the input size: they are corrupted at that size, then resized to
    that of the images without a second crop, as the model's recipe interpolates (bilinear without
    one). None: ``pictures_of(images)``. Unless that is the images themselves, the condition
    ``clean_cut``, the pictures resized without a corruption, is measured besides: see
    ``Responses.partner``.

    Errors: those of ``perturb``; ValueError for an unknown source, a band or cell that is not
    there, pictures that are not as many as the images, or nan answers. RuntimeWarning where the
    clean images are not clearly classified better than by chance, or probabilities were floored.
    Source: seed 002 Figs. 7 to 9, seed 001 Fig. 7; heat map: Yin et al. 2019, methods 4;
    corruptions: methods 9.4.

    >>> from iaside.spectral import band_masks
    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1)
    >>> r = responses(brightness, torch.rand(3, 3, 16, 16), torch.zeros(3).long(),
    ...               [Condition("white_noise", 0.1)], band_masks(2, (16, 16)), progress=False)
    >>> r.tables["correct"].shape
    (2, 3)
    """
    conditions = [Condition(s, float(strength), int(place)) for s, strength, place in conditions]
    conditions = list(dict.fromkeys([CLEAN, *conditions]))
    shown = widened(check_images(images))
    if pictures is not None:
        pictures = shown if pictures is images else widened(check_images(pictures))
    images = shown
    masks = check_partition(masks, *images.shape[-2:])
    for condition in conditions:
        _check_condition(condition, len(masks), heat_grid)
    if pictures is not None and len(pictures) != len(images):
        raise ValueError(
            f"there are {len(pictures)} pictures of {len(images)} images; "
            "load both with the same n and seed"
        )
    corrupted, made = any(c.source in CORRUPTIONS for c in conditions), None
    fit = _fitter(model, images)
    if corrupted:
        pictures = pictures_of(images) if pictures is None else pictures
        if pictures is not images:
            conditions.insert(1, CLEAN_CUT)
        resized = pictures.shape[-2:] != images.shape[-2:]
        made = {
            "version": VERSION,
            "pictures": fingerprint(pictures),
            "picture_size": list(pictures.shape[-2:]),
            "strengths": SETS[strengths_for(*pictures.shape[-2:])],
            "interpolation": _interpolation(model) if resized else None,
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
    wanted = [c for c in conditions if c.source in CORRUPTIONS]
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
        attack_batch if device.type == "cpu" else int(batch_size),
        pictures if corrupted else None,
        fit,
        CLEAN_CUT in conditions,
        cache and Path(cache),
    )
    with _corruptions(pictures, wanted, cache, seed, workers, progress):
        if progress and rest:
            done = len(conditions) - len(rest)
            print(
                f"{len(conditions)} conditions of {len(images)} images, {done} already done; "
                f"{precision} on {device.type}",
                file=sys.stderr,
                flush=True,
            )
        asking = pool.each(_row, questions, [(c,) for c in rest], device, name=_named)
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
    """What all conditions have in common.  cut: whether there are pictures besides the images."""

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


def _row(of: _Questions, condition: Condition) -> np.ndarray:
    """What a condition gives in all tables and bands, for each image."""
    device, masks = own_device(of.device), of.masks
    chosen = of.subset.get(condition.source, np.arange(len(of.images)))
    x, y = of.images[chosen], of.labels[chosen]
    row = np.full((len(TABLES) + len(masks), len(of.images)), np.nan)
    usable = np.ones(len(x), bool)
    if condition == CLEAN_CUT or condition.source in CORRUPTIONS:
        x = of.fit(_in_bytes(of.pictures[chosen])) if of.cut else x
        perturbed, change = x, x  # of the clean cut, the energy of the pictures themselves
        if condition != CLEAN_CUT:
            perturbed = of.fit(_corrupted(condition, of.pictures, chosen, of.seed, of.cache))
            change = perturbed - x
    else:
        perturbed, usable = _perturbed(
            condition, of.asked, x, y, chosen, masks, of.heat_grid, of.seed, device, of.at_once
        )
        change = perturbed - x
    answer = _answerer(of.asked, of.precision, device, of.batch_size)
    row[: len(TABLES) - 1, chosen] = answer(perturbed, y)
    if condition.source != FOURIER:
        row[len(TABLES) :, chosen] = band_energy(change, masks).double().numpy()
    row[:, chosen[~usable]] = np.nan
    row[len(TABLES) - 1, chosen] = ~usable
    return row


def _named(condition: Condition) -> str:
    return f"{condition.source} {condition.strength:g}"


def _check_condition(condition: Condition, n_bands: int, heat_grid: int) -> None:
    source, strength, place = condition
    if source == "clean":
        return
    if source not in STRENGTH and source != FOURIER:
        raise ValueError(
            f"{source!r} is no source of perturbations that has a strength; "
            f"choose one of {', '.join((*STRENGTH, FOURIER))}"
        )
    if source == FOURIER:
        heat_cells(heat_grid)  # which refuses what has no middle
    option = STRENGTH.get(source, "norm")
    whole = option in ("kernel", "severity") and strength.is_integer()
    check_values({option: int(strength) if whole else strength})
    places = {FOURIER: heat_grid**2, "white_noise": n_bands, "pgd": n_bands}.get(source, 0)
    if not (place == -1 and source != FOURIER) and not 0 <= place < places:
        raise ValueError(f"{condition}: its place must be below {places}, or -1 for none")


def _answerer(model: Asked, precision: str, device, batch_size: int) -> Callable:
    """A function (images, labels) -> rows of these images in all tables but the last, (4, n)."""

    @torch.no_grad()
    def answer(x: Tensor, y: Tensor) -> np.ndarray:
        rows = []
        for part, label in zip(x.split(batch_size), y.split(batch_size), strict=True):
            with arithmetic(precision, device):
                logits = model(part.to(device))
            logits, label = logits.float(), label.to(device)[:, None]
            if not logits.isfinite().all():
                raise ValueError(
                    "the model returned nan or infinite logits; check its weights, and try "
                    "precision='float32'"
                )
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


def _perturbed(
    condition, model, x, y, chosen, masks, heat_grid, seed, device, at_once
) -> tuple[Tensor, np.ndarray]:
    """The chosen images under a condition, on the CPU. Image i draws from (seed, i) in the set.

    And which of them gave an attack a usable gradient: all, where none is needed.
    """
    source, strength, place = condition
    every = np.ones(len(x), bool)
    if source == "clean":
        return x, every
    if source == FOURIER:
        return fourier_noise(x, strength, heat_grid, place, seed, chosen.tolist()), every
    strength = int(strength) if STRENGTH[source] == "kernel" else strength
    options = {STRENGTH[source]: strength, "seed": seed}
    if place >= 0:
        options |= {"band": place, "masks": masks}
    if source not in ATTACKS:
        parts = [
            perturb(x[k : k + 1], source, first=int(i), **options) for k, i in enumerate(chosen)
        ]
        return torch.cat(parts), every
    parts = []
    for k in range(0, len(x), at_once):
        here = slice(k, k + at_once)
        xs, ys = x[here].to(device), y[here].to(device)
        parts.append(
            perturb_noting(xs, source, model=model, labels=ys, first=int(chosen[k]), **options)
        )
    attacked, usable = map(torch.cat, zip(*parts, strict=True))
    return attacked.cpu(), usable.numpy()


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
            row = _kept(self._path(condition), self.shape, "f8")
            if row is not None:
                self.rows[condition] = row
        return condition in self.rows

    def __getitem__(self, condition: Condition) -> np.ndarray:
        return self.rows[condition]

    def add(self, condition: Condition, row: np.ndarray) -> None:
        self.rows[condition] = row
        if self.folder is not None:
            _keep(self._path(condition), row)


def _keep(path: Path, array: np.ndarray) -> None:
    """Write an array as npz, which has a checksum."""
    with replacing(path) as file:
        np.savez(file, array=array)


def _kept(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray | None:
    """What ``_keep`` wrote; None, with a warning, for anything else, and where there is nothing."""
    if not path.exists():
        return None
    try:
        array = read_npz(path)["array"]
        if array.shape != tuple(shape) or array.dtype != dtype:
            raise ValueError(f"{array.dtype} {array.shape} instead of {dtype} {tuple(shape)}")
        return array
    except Exception as error:  # zipfile, zlib and NumPy have a dozen kinds for damaged bytes
        measure_again(path, f"cannot be read ({error})")
        return None


@undisturbed
def fourier_noise(
    x: Tensor, norm: float, grid: int, cell: int, seed: int = 0, index: Sequence[int] | None = None
) -> Tensor:
    """Add a Fourier basis function of a given L2 norm per channel to images, clipped to [0, 1].

    The grid spans the whole spectrum: cell (i, j) of grid x grid, counted row by row, is the
    frequency closest to (i, j) * side / (grid - 1) - side / 2 cycles per image, DC in the middle.
    The sign of each channel of image k of the set is drawn from (seed, k); index: which of the set
    these images are, None for the first ones.

    Shapes: x (B, C, H, W) in [0, 1]; returns the same.
    Errors: ValueError/TypeError for pixels outside [0, 1], a norm that is no number from 0, an even
    grid or one below 3, a cell that it has not, or another number of places than of images.
    Source: Yin et al. 2019, methods 4 (irfft2 of one cell, unit norm, sign per channel).

    >>> x = torch.full((1, 3, 16, 16), 0.5)
    >>> y = fourier_noise(x, 1.0, 5, 12)  # the middle: DC
    >>> sorted({round(v, 4) for v in (y - x).abs().flatten().tolist()})
    [0.0625]
    """
    x = check_images(x)
    check_values({"norm": norm, "seed": seed})
    index = range(len(x)) if index is None else index
    heat_cells(grid)  # which refuses what has no middle
    if not 0 <= cell < grid**2 or len(index) != len(x):
        raise ValueError(
            f"cell={cell} of grid={grid} for {len(index)} places of {len(x)} images: cells count "
            f"from 0 to {grid**2 - 1}, and every image has one place"
        )
    height, width = x.shape[-2:]
    ky = heat_frequencies(height, grid)[cell // grid]
    kx = heat_frequencies(width, grid)[cell % grid]
    rows = torch.arange(height, dtype=torch.float64)[:, None] * ky / height
    phase = 2 * math.pi * (rows + torch.arange(width, dtype=torch.float64) * kx / width)
    wave = phase.cos()
    wave = (wave / wave.norm()).to(x)
    signs = torch.stack(
        [
            torch.randint(
                0, 2, (x.shape[1], 1, 1), generator=torch.Generator().manual_seed(seed + 7919 * k)
            )
            * 2
            - 1
            for k in index
        ]
    )
    return (x + norm * signs.to(x) * wave).clamp(0, 1)


def heat_cells(grid: int) -> list[int]:
    """The cells of a heat map that have to be measured: a wave equals the one reflected at DC.

    Errors: ValueError for an even grid or one below 3, which has no middle.

    >>> heat_cells(3)
    [0, 1, 2, 3, 4]
    """
    if grid < 3 or grid % 2 == 0:
        raise ValueError(f"heat_grid={grid} must be an odd number from 3, with DC in its middle")
    return list(range(grid**2 // 2 + 1))


# -- corrupted images, made once ------------------------------------------------------------------


@undisturbed
def pictures_of(images: Tensor) -> Tensor:
    """What of some images is corrupted, where there are no other pictures of them.

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
    return _resized(images, (round(height * ratio), round(width * ratio)), "bilinear")


def _fitter(model: Callable, images: Tensor) -> Callable[[Tensor], Tensor]:
    """A function from pictures to the size of the images."""
    size, how = tuple(images.shape[-2:]), _interpolation(model)
    return lambda x: x.to(images) if x.shape[-2:] == size else _resized(x, size, how).to(images)


def _interpolation(model: Callable) -> str:
    return recipe_of(model).get("interpolation", "bilinear")


def _resized(x: Tensor, size: tuple[int, int], how: str) -> Tensor:
    from torchvision.transforms import functional as F  # here: it takes a second to import

    options = {"size": list(size), "interpolation": F.InterpolationMode(how), "antialias": True}
    if how in ("box", "hamming", "lanczos"):  # of PIL, which knows floats channel by channel only
        channels = [
            F.resize(Image.fromarray(channel.numpy()), **options)
            for channel in x.cpu().float().flatten(0, 1)
        ]
        resized = torch.from_numpy(np.stack(channels)).unflatten(0, x.shape[:2]).to(x)
    else:
        resized = torch.cat([F.resize(part, **options) for part in x.split(1)])
    return resized.clamp(0, 1)  # bicubic and lanczos overshoot


def _in_bytes(x: Tensor) -> Tensor:
    return (x * 255).round() / 255


def _corrupted(condition: Condition, pictures: Tensor, chosen, seed: int, cache) -> Tensor:
    """The chosen pictures, corrupted. Picture i draws from (seed, i) in the set."""
    if cache is not None:
        path = _corrupted_folder(cache, pictures, seed) / _file_of(condition)
        corrupted = _kept(path, pictures.shape, "u1")
        if corrupted is None:
            raise FileNotFoundError(f"{path} has gone since it was made; run this again")
        return torch.from_numpy(corrupted[chosen]).to(pictures) / 255
    severity = int(condition.strength)
    return torch.cat(
        [
            perturb(
                pictures[i : i + 1], condition.source, first=int(i), severity=severity, seed=seed
            )
            for i in chosen
        ]
    )


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
    with _corruptions(images, list(conditions), folder, seed, workers, progress):
        pass


@contextlib.contextmanager
def _corruptions(images, conditions, folder, seed, workers, progress) -> Iterator[None]:
    """Have the corrupted images there, in a folder if there is one, as long as they are needed.

    What other code has made goes from that folder, but for what another process has in use.
    """
    if folder is None or not conditions:
        yield
        return
    place = _corrupted_folder(folder, images, seed)
    with held(place):
        os.utime(place)  # what was not in use for long goes, too: see iaside.study.notebook.tidy
        for other in place.parent.glob("corrupted-*"):
            if not other.name.endswith(_made_by()):
                remove_unused(other)
        with alone(place.parent):  # another stage makes the same ones
            _corrupt_missing(place, images, conditions, seed, workers, progress)
        yield


def _corrupt_missing(place: Path, images, conditions, seed, workers, progress) -> None:
    todo = [c for c in conditions if _kept(place / _file_of(c), images.shape, "u1") is None]
    if not todo:
        return
    made = in_one_thread(executor(workers)).each(
        _corrupt_to, (images, place, seed), [(c,) for c in todo], name=_named
    )
    for _ in tqdm(
        made, total=len(todo), disable=not progress, unit="corruption", desc="corrupting"
    ):
        pass


def _corrupt_to(of: tuple[Tensor, Path, int], condition: Condition) -> None:
    images, place, seed = of
    y = perturb(images.cpu(), condition.source, severity=int(condition.strength), seed=seed)
    _keep(place / _file_of(condition), (y * 255).round().to(torch.uint8).numpy())


def _corrupted_folder(folder, images: Tensor, seed: int) -> Path:
    return Path(folder) / f"corrupted-{fingerprint(images)}-{seed}-{VERSION}{_made_by()}"


def _made_by() -> str:
    """How the names of what today's code has corrupted end."""
    return f"-{code_hash(__name__)[:16]}"


def _file_of(condition: Condition) -> str:
    return f"{condition.source}-{int(condition.strength)}.npz"
