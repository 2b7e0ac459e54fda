"""How a network holds up: its answers on perturbed images, mPE and mCE, and what goes with what.

`responses` is the one measurement: a row per condition (a perturbation at a strength, in a band, at
a place of the heat map), a column per image. Everything else here reads such tables or correlates
numbers over models.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import stats
from torch import Tensor
from tqdm import tqdm

from iaside.machine import (
    arithmetic,
    device_of,
    fingerprint,
    fingerprint_model,
    replacing,
    resolve_precision,
    save_table,
    settings_key,
)
from iaside.perturb import ATTACKS, CORRUPTIONS, perturb
from iaside.score import Interval, accuracy_difference, interval, within
from iaside.spectral import band_energy

STRENGTH = {  # what perturb calls the strength of a source
    "white_noise": "sigma", "gaussian_blur": "kernel", "fgsm": "eps", "pgd": "eps",
    **dict.fromkeys(CORRUPTIONS, "severity"),
}  # fmt: skip
FOURIER = "fourier"
TABLES = ("log_likelihood", "probability_t2", "correct", "confidence")

# Mean top-1 error of AlexNet over the five severities, in the order of CORRUPTIONS.
ALEXNET = (
    0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816,
    0.826572, 0.819324, 0.564592, 0.853204, 0.646056, 0.717840, 0.606500,
)  # fmt: skip
MIN_MODELS = 5  # with fewer models no order of them is unlikely enough: limits are NaN


class Condition(NamedTuple):
    """What was done to the images. place: the band, or the cell of the heat map; -1 for neither."""

    source: str
    strength: float = 0.0
    place: int = -1


CLEAN = Condition("clean")


# -- the two means of the papers -------------------------------------------------------------------


def mean_prediction_error(p_clean: ArrayLike, p_perturbed: ArrayLike) -> np.ndarray:
    """Return the mean prediction error mPE, the mean change of the true class's probability.

    Shapes: both (..., N), probabilities of the true class of N images; returns (...).
    Errors: ValueError for different shapes or numbers outside [0, 1].
    Source: seed 002 Eq. 12, E |Q(y|x) - Q(y|x*)|.

    >>> float(mean_prediction_error([0.9, 0.5], [0.4, 0.5]))
    0.25
    """
    p, q = np.asarray(p_clean, dtype=float), np.asarray(p_perturbed, dtype=float)
    if p.shape[-1:] != q.shape[-1:] or p.ndim == 0:
        raise ValueError(f"p_clean {p.shape} and p_perturbed {q.shape} must be of the same images")
    for name, value in (("p_clean", p), ("p_perturbed", q)):
        if not ((value >= 0) & (value <= 1)).all():
            raise ValueError(f"{name} must hold probabilities, from 0 to 1")
    return np.abs(p - q).mean(-1)


def mean_corruption_error(errors: Mapping[str, ArrayLike]) -> float:
    """Return the mean corruption error mCE of ImageNet-C, in percent of AlexNet's.

    errors: name of each of the 15 corruptions -> top-1 errors from 0 to 1 at the five severities,
    (5,), or their mean, ().
    Errors: ValueError for corruptions that are missing or unknown, or errors outside [0, 1].
    Source: seed 002 Fig. 7; Hendrycks and Dietterich 2019, methods 1.11.

    >>> round(mean_corruption_error(dict(zip(CORRUPTIONS, ALEXNET))), 6)
    100.0
    """
    if set(errors) != set(CORRUPTIONS):
        missing, unknown = set(CORRUPTIONS) - set(errors), set(errors) - set(CORRUPTIONS)
        raise ValueError(
            f"mCE needs the errors of exactly the 15 corruptions; missing: "
            f"{', '.join(sorted(missing)) or 'none'}; "
            f"unknown: {', '.join(sorted(unknown)) or 'none'}"
        )
    ratios = []
    for name, reference in zip(CORRUPTIONS, ALEXNET, strict=True):
        error = np.asarray(errors[name], dtype=float)
        if not ((error >= 0) & (error <= 1)).all():
            raise ValueError(f"the errors under {name} must lie between 0 and 1, got {error}")
        ratios.append(error.mean() / reference)
    return float(100 * np.mean(ratios))


# -- the measurement -------------------------------------------------------------------------------


@dataclass
class Responses:
    """A network's answers: a row per condition, a column per image, nan where nothing was asked.

    tables: ``log_likelihood`` of the true class in nats, ``probability_t2`` its probability at
    softmax temperature 2, ``correct`` 0 or 1, ``confidence`` the largest probability; each (K, N).
    clean_energy (M, N), change_energy (K, M, N): energy of the image and of the perturbation in
    each band, DC excluded; nan for the heat map.

    >>> energies = np.ones((2, 3)), np.zeros((1, 2, 3))
    >>> r = Responses([CLEAN], {"correct": np.ones((1, 3))}, *energies, {})
    >>> r.rows("clean")
    [0]
    """

    conditions: list[Condition]
    tables: dict[str, np.ndarray]
    clean_energy: np.ndarray
    change_energy: np.ndarray
    provenance: dict

    def rows(self, source: str, strength: float | None = None, place: int | None = None):
        """The rows of a source, optionally of one strength and place, in the order measured."""
        return [
            k for k, c in enumerate(self.conditions)
            if c.source == source and strength in (None, c.strength) and place in (None, c.place)
        ]  # fmt: skip

    def row(self, condition: Condition) -> int:
        """The row of one condition. Errors: ValueError naming those that were measured."""
        if condition not in self.conditions:
            of_source = [c for c in self.conditions if c.source == condition.source]
            raise ValueError(
                f"{condition} was not measured; there is: {of_source or 'nothing of that source'}"
            )
        return self.conditions.index(condition)

    def asked(self, rows: int | Sequence[int]) -> np.ndarray:
        """The images that were measured under all these conditions."""
        correct = self.tables["correct"][np.atleast_1d(rows)]
        return np.flatnonzero(~np.isnan(correct).any(0))

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to one npz, whole or not at all."""
        source, strength, place = map(np.array, zip(*self.conditions, strict=True))
        conditions = {"source": source, "strength": strength, "place": place}
        energies = {"clean_energy": self.clean_energy, "change_energy": self.change_energy}
        save_table(path, self.provenance, conditions | energies | self.tables)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Responses:
        """Read what ``save`` wrote. Errors: FileNotFoundError, or ValueError for another file."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"no robustness table at {path}; measure it (40_robustness)")
        with np.load(path, allow_pickle=False) as data:
            if "change_energy" not in data:
                raise ValueError(f"{path} is not a robustness table: it has no change_energy")
            triples = zip(
                data["source"].tolist(), data["strength"].tolist(), data["place"].tolist(),
                strict=True,
            )  # fmt: skip
            return cls(
                [Condition(*triple) for triple in triples], {t: data[t] for t in TABLES},
                data["clean_energy"], data["change_energy"], json.loads(str(data["provenance"])),
            )  # fmt: skip


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
    workers: int | None = None,
    progress: bool = True,
) -> Responses:
    """Ask a network about perturbed images, one condition after the other.

    Shapes: images (N, C, H, W) in [0, 1], labels (N,) class indices, masks (M, H, W//2 + 1).

    conditions: what to do; ``clean`` is always measured first. Sources are those of ``perturb``
    with a strength (``STRENGTH``), white_noise and pgd also with a band as place, and ``fourier``:
    the images plus ``strength`` times the unit-norm real Fourier basis function of a cell of
    ``heat_grid``, with a random sign for each channel, clipped to [0, 1].
    subset: source -> indices of the images it is measured on; other sources take all.
    Attacks are made in float32 against the model as it is, answers are given in ``precision``
    (float32, bfloat16 or auto). On a CPU attacks treat one image at a time, which costs nothing
    there and makes every byte independent of ``batch_size``.
    resume: a folder for the measurement in progress; a later call with the same arguments goes on
    from there. cache: a folder for corrupted images, shared by all models of one input size.
    workers: processes that make corruptions; None is one per core.

    Errors: those of ``perturb``; ValueError for an unknown source, a band or cell that is not there
    or nan answers.
    Source: seed 002 Figs. 7 to 9, seed 001 Fig. 7; heat map: Yin et al. 2019, methods 4.

    >>> from iaside.spectral import band_masks
    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1)
    >>> r = responses(brightness, torch.rand(3, 3, 16, 16), torch.zeros(3).long(),
    ...               [Condition("white_noise", 0.1)], band_masks(2, (16, 16)), progress=False)
    >>> r.tables["correct"].shape
    (2, 3)
    """
    conditions = [Condition(s, float(strength), int(place)) for s, strength, place in conditions]
    conditions = list(dict.fromkeys([CLEAN, *conditions]))
    for condition in conditions:
        _check_condition(condition, len(masks), heat_grid)
    device = device_of(model, None)
    precision = resolve_precision(precision, device)
    subset = {s: np.asarray(chosen, dtype=int) for s, chosen in (subset or {}).items()}
    answer = _answerer(model, precision, device, batch_size)
    first = answer(images[:1], labels[:1])  # what the model cannot do is said before the long part
    provenance = {
        "model": fingerprint_model(model, torch.from_numpy(first)),
        "images": fingerprint(images),
        "labels": fingerprint(labels),
        "masks": fingerprint(masks),
        "n_images": len(images),
        "size": list(images.shape[-2:]),
        "subset": {s: chosen.tolist() for s, chosen in subset.items()},
        "heat_grid": heat_grid,
        "seed": seed,
        "precision": precision,
        "device": device.type,
        "corruptions": _corruption_library(),
    }
    if cache is not None:
        wanted = [c for c in conditions if c.source in CORRUPTIONS]
        corrupt_all(images, wanted, cache, seed, workers, progress)
    rows = _Rows(resume, provenance, len(masks), len(images))
    rest = [c for c in conditions if c not in rows]
    if progress and rest:
        done = len(conditions) - len(rest)
        print(
            f"{len(conditions)} conditions of {len(images)} images, {done} already done; "
            f"{precision} on {device.type}",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    for condition in tqdm(rest, disable=not progress, unit="condition"):
        chosen = subset.get(condition.source, np.arange(len(images)))
        x, y = images[chosen], labels[chosen]
        perturbed = _perturbed(condition, model, x, y, chosen, images, masks, heat_grid, seed,
                               device, batch_size, cache)  # fmt: skip
        row = np.full((len(TABLES) + len(masks), len(images)), np.nan)
        row[: len(TABLES), chosen] = answer(perturbed, y)
        if condition.source != FOURIER:
            row[len(TABLES) :, chosen] = band_energy(perturbed - x, masks).double().numpy()
        rows.add(condition, row)
    found = np.stack([rows[c] for c in conditions])
    return Responses(
        conditions, {t: found[:, k] for k, t in enumerate(TABLES)},
        band_energy(images, masks).double().numpy(), found[:, len(TABLES) :], provenance,
    )  # fmt: skip


def _check_condition(condition: Condition, n_bands: int, heat_grid: int) -> None:
    source, strength, place = condition
    if source == "clean":
        return
    if source not in STRENGTH and source != FOURIER:
        raise ValueError(
            f"{source!r} is no source of perturbations that has a strength; "
            f"choose one of {', '.join((*STRENGTH, FOURIER))}"
        )
    places = {FOURIER: heat_grid**2, "white_noise": n_bands, "pgd": n_bands}.get(source, 0)
    if not (place == -1 and source != FOURIER) and not 0 <= place < places:
        raise ValueError(f"{condition}: its place must be below {places}, or -1 for none")


def _answerer(model, precision: str, device, batch_size: int) -> Callable:
    """A function (images, labels) -> the four tables' rows for these images, (4, n)."""

    @torch.no_grad()
    def answer(x: Tensor, y: Tensor) -> np.ndarray:
        rows = []
        for part, label in zip(x.split(batch_size), y.split(batch_size), strict=True):
            part = part.to(device).contiguous(memory_format=torch.channels_last)
            with arithmetic(precision, device):
                logits = model(part)
            logits, label = logits.float(), label.to(device)[:, None]
            if not logits.isfinite().all():
                raise ValueError(
                    "the model returned nan or infinite logits; check its weights, and try "
                    "precision='float32'"
                )
            log_p = logits.log_softmax(-1)
            rows.append(torch.stack([
                log_p.gather(1, label)[:, 0],
                (logits / 2).softmax(-1).gather(1, label)[:, 0],
                (log_p.argmax(1) == label[:, 0]).float(),
                log_p.amax(1).exp(),
            ]).cpu().double())  # fmt: skip
        return torch.cat(rows, dim=1).numpy()

    return answer


def _perturbed(condition, model, x, y, chosen, images, masks, heat_grid, seed, device, batch_size,
               cache) -> Tensor:  # fmt: skip
    """The chosen images under a condition, on the CPU. Image i draws from (seed, i) in the set."""
    source, strength, place = condition
    if source == "clean":
        return x
    if source == FOURIER:
        return fourier_noise(x, strength, heat_grid, place, seed)
    strength = int(strength) if STRENGTH[source] in ("kernel", "severity") else strength
    options = {STRENGTH[source]: strength, "seed": seed}
    if place >= 0:
        options |= {"band": place, "masks": masks}
    if source in CORRUPTIONS and cache is not None:
        corrupted = np.load(_corrupted_folder(cache, images, seed) / _file_of(condition))
        return torch.from_numpy(corrupted[chosen]).to(x) / 255
    if source not in ATTACKS:
        parts = [perturb(x[k : k + 1], source, first=int(i), **options)
                 for k, i in enumerate(chosen)]  # fmt: skip
        return torch.cat(parts)
    at_once = 1 if device.type == "cpu" else batch_size
    parts = []
    for k in range(0, len(x), at_once):
        here = slice(k, k + at_once)
        xs, ys = x[here].to(device), y[here].to(device)
        parts.append(perturb(xs, source, model=model, labels=ys, first=int(chosen[k]), **options))
    return torch.cat(parts).cpu()


class _Rows:
    """Measured conditions, each a file of its own where there is a folder: a kill loses one."""

    def __init__(self, resume, provenance: dict, n_bands: int, n_images: int) -> None:
        name = f"robustness-{settings_key(provenance)}"
        self.folder = None if resume is None else Path(resume) / name
        self.shape = (len(TABLES) + n_bands, n_images)
        self.rows: dict[Condition, np.ndarray] = {}

    def _path(self, c: Condition) -> Path:
        return self.folder / f"{c.source}_{c.strength!r}_{c.place}.npy"

    def __contains__(self, condition: Condition) -> bool:
        if condition not in self.rows and self.folder is not None:
            with contextlib.suppress(FileNotFoundError):
                self.rows[condition] = np.load(self._path(condition), allow_pickle=False)
        return condition in self.rows

    def __getitem__(self, condition: Condition) -> np.ndarray:
        return self.rows[condition]

    def add(self, condition: Condition, row: np.ndarray) -> None:
        self.rows[condition] = row
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._path(condition)) as file:
                np.save(file, row, allow_pickle=False)


def fourier_noise(x: Tensor, norm: float, grid: int, cell: int, seed: int = 0) -> Tensor:
    """Add a Fourier basis function of a given L2 norm per channel to images, clipped to [0, 1].

    The grid spans the whole spectrum: cell (i, j) of grid x grid, counted row by row, is the
    frequency closest to (i, j) * side / (grid - 1) - side / 2 cycles per image, DC in the middle.
    The sign of each channel of image k is drawn from (seed, k).

    Shapes: x (B, C, H, W); returns the same.
    Source: Yin et al. 2019, methods 4 (irfft2 of one cell, unit norm, sign per channel).

    >>> x = torch.full((1, 3, 16, 16), 0.5)
    >>> y = fourier_noise(x, 1.0, 5, 12)  # the middle: DC
    >>> sorted({round(v, 4) for v in (y - x).abs().flatten().tolist()})
    [0.0625]
    """
    height, width = x.shape[-2:]
    ky = heat_frequencies(height, grid)[cell // grid]
    kx = heat_frequencies(width, grid)[cell % grid]
    rows = torch.arange(height, dtype=torch.float64)[:, None] * ky / height
    phase = 2 * math.pi * (rows + torch.arange(width, dtype=torch.float64) * kx / width)
    wave = phase.cos()
    wave = (wave / wave.norm()).to(x)
    signs = torch.stack([
        torch.randint(0, 2, (x.shape[1], 1, 1),
                      generator=torch.Generator().manual_seed(seed + 7919 * k)) * 2 - 1
        for k in range(len(x))
    ])  # fmt: skip
    return (x + norm * signs.to(x) * wave).clamp(0, 1)


def heat_frequencies(side: int, grid: int) -> list[int]:
    """The signed frequencies, in cycles per image, of the rows or columns of a heat map.

    >>> heat_frequencies(224, 5)
    [-112, -56, 0, 56, 112]
    """
    return [round(side * (i / (grid - 1) - 0.5)) for i in range(grid)]


def heat_cells(grid: int) -> list[int]:
    """The cells of a heat map that have to be measured: a wave equals the one reflected at DC.

    Errors: ValueError for an even grid or one below 3, which has no middle.

    >>> heat_cells(3)
    [0, 1, 2, 3, 4]
    """
    if grid < 3 or grid % 2 == 0:
        raise ValueError(f"heat_grid={grid} must be an odd number from 3, with DC in its middle")
    return list(range(grid**2 // 2 + 1))


def heat_map(r: Responses, table: str = "correct") -> np.ndarray:
    """Error (or mean of another table) of each cell of the heat map, (G, G), DC in the middle.

    Errors: ValueError when no heat map was measured.
    """
    rows = r.rows(FOURIER)
    if not rows:
        raise ValueError("no heat map was measured; add conditions of the source 'fourier'")
    means = np.nanmean(r.tables[table][rows], axis=1)
    half = 1 - means if table == "correct" else means
    grid = r.provenance["heat_grid"]
    return np.concatenate([half, half[-2::-1]]).reshape(grid, grid)


# -- what a table says, with intervals over images -------------------------------------------------

MEASURES = ("accuracy drop", "mPE", "mPE at T = 2", "relative mPE", "loss in nats")


def measure(r: Responses, kind: str, conditions: Condition | Sequence[Condition]) -> Interval:
    """What some conditions do to a network, averaged over them, with its interval over images.

    kind: ``accuracy drop`` share of correct answers lost; ``mPE`` mean change of the true class's
    probability; ``mPE at T = 2`` the same at softmax temperature 2; ``relative mPE`` mPE over the
    clean probability, which a network cannot lower by being unsure; ``loss in nats`` of
    log-likelihood. All compare every image with itself.
    Errors: ValueError for an unknown kind or a condition that was not measured.
    Source: seed 002 Eq. 12; temperature: seed 001 A4; relative: methods 1.12.
    """
    single = isinstance(conditions, Condition)
    rows = [r.row(c) for c in ([conditions] if single else conditions)]
    images = r.asked([r.row(CLEAN), *rows])
    table = {"accuracy drop": "correct", "mPE at T = 2": "probability_t2"}.get(
        kind, "log_likelihood"
    )
    clean, changed = r.tables[table][r.row(CLEAN), images], r.tables[table][rows][:, images]
    if kind not in MEASURES:
        raise ValueError(f"kind={kind!r} is not known; choose one of {', '.join(MEASURES)}")
    if kind == "accuracy drop" and len(rows) == 1:
        return accuracy_difference(clean, changed[0])
    if kind in ("mPE", "relative mPE"):
        clean, changed = np.exp(clean), np.exp(changed)
    if kind in ("accuracy drop", "loss in nats"):
        found = interval((clean - changed).mean(0)[None], lambda mean: mean[0])
        return within(found, -1, 1) if kind == "accuracy drop" else found
    change = np.abs(clean - changed).mean(0)
    if kind == "relative mPE":
        return interval(np.stack([change, clean]), lambda mean: mean[0] / mean[1])
    return within(interval(change[None], lambda mean: mean[0]), 0, 1)


def corruption_error(r: Responses, names: Sequence[str] = CORRUPTIONS) -> Interval:
    """The mean corruption error in percent of AlexNet's, with its interval over images.

    names: corruptions to average over; all 15 give the mCE (``mean_corruption_error``). AlexNet's
    errors are of the whole ImageNet validation set, these of the images at hand.
    Errors: ValueError for a corruption that was not measured.
    """
    rows = {name: r.rows(name) for name in names}
    if missing := [name for name in names if not rows[name]]:
        raise ValueError(f"{', '.join(missing)} were not measured")
    images = r.asked(sum(rows.values(), []))
    wrong = 1 - r.tables["correct"][:, images]
    reference = dict(zip(CORRUPTIONS, ALEXNET, strict=True))
    relative = [wrong[rows[name]].mean(0) / reference[name] for name in names]
    return interval(100 * np.mean(relative, axis=0)[None], lambda mean: mean[0])


# -- corrupted images, made once ------------------------------------------------------------------


def corrupt_all(
    images: Tensor,
    conditions: Iterable[Condition],
    folder: str | os.PathLike,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Make the corrupted images that are not in the folder yet, in several processes.

    Shapes: images (N, 3, H, W) in [0, 1]; each condition becomes a file of bytes (N, 3, H, W).
    Errors: those of ``perturb``; a process that dies is a BrokenProcessPool, and what was finished
    before stays.
    """
    place = _corrupted_folder(folder, images, seed)
    todo = [c for c in conditions if not (place / _file_of(c)).exists()]
    if not todo:
        return
    place.mkdir(parents=True, exist_ok=True)
    with replacing(place / "clean.npy") as file:  # read by every process, not sent to each job
        np.save(file, images.cpu().numpy(), allow_pickle=False)
    # spawn: a forked child of a process with running torch threads may hang
    with ProcessPoolExecutor(workers or os.cpu_count(), get_context("spawn")) as pool:
        jobs = [pool.submit(_corrupt_to, place, condition, seed) for condition in todo]
        try:
            for job in tqdm(jobs, disable=not progress, unit="corruption", desc="corrupting"):
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _corrupt_to(place: Path, condition: Condition, seed: int) -> None:
    torch.set_num_threads(1)
    images = torch.from_numpy(np.load(place / "clean.npy", allow_pickle=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the corruption library, about its own internals
        y = perturb(images, condition.source, severity=int(condition.strength), seed=seed)
    with replacing(place / _file_of(condition)) as file:
        np.save(file, (y * 255).round().to(torch.uint8).numpy(), allow_pickle=False)


def _corrupted_folder(folder, images: Tensor, seed: int) -> Path:
    return Path(folder) / f"corrupted-{fingerprint(images)}-{seed}-{_corruption_library()}"


def _file_of(condition: Condition) -> str:
    return f"{condition.source}-{int(condition.strength)}.npy"


def _corruption_library() -> str:
    try:
        return version("imagecorruptions-imaug")
    except PackageNotFoundError:
        return "none"


# -- what goes with what, over models --------------------------------------------------------------


class Correlation(NamedTuple):
    """A coefficient over models, its limits, its permutation p and its leave-one-out range."""

    estimate: float
    low: float
    high: float
    p: float
    loo_low: float
    loo_high: float
    n: int


METHODS = ("pearson", "spearman", "kendall")


def correlation(
    x: ArrayLike,
    y: ArrayLike,
    method: str = "spearman",
    given: ArrayLike | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Correlation:
    """Correlate two numbers over models, with limits that few models cannot fool.

    method: ``pearson``, ``spearman`` (ranks) or ``kendall`` (tau-b). given: a third number whose
    linear share (of ranks for ``spearman``) is taken out of both first: the partial correlation.
    The limits are the wider on either side of the percentile bootstrap over models and of Fisher's
    transformation of the estimate shrunk by (n - 1) / n: a perfect order of a few models is no
    proof. Below 5 models (6 with ``given``) they are NaN. p: two-sided permutation test, exact up
    to 7 models. loo: the range of the estimate when one model is left out.

    Shapes: x, y, given (n,), one number per model.
    Errors: ValueError for unequal lengths, an unknown method, or given with ``kendall``. A constant
    x or y has no correlation: NaN throughout.
    Source: methods 1.11 (Pearson, Spearman, Kendall, permutation p, leave-one-out range), 4.

    >>> r = correlation([1, 2, 3, 4, 5, 6, 7, 8], [2, 1, 4, 3, 6, 5, 8, 7])
    >>> round(r.estimate, 3), r.low > 0, r.p < 0.01
    (0.905, True, True)
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    z = None if given is None else np.asarray(given, dtype=float)
    n = len(x)
    if x.ndim != 1 or y.shape != x.shape or (z is not None and z.shape != x.shape):
        raise ValueError(
            f"one number per model is needed, got shapes {x.shape}, {y.shape}"
            + ("" if z is None else f" and {z.shape}")
        )
    if method not in METHODS or (method == "kendall" and z is not None):
        raise ValueError(
            f"method={method!r} is not known{' with given=' if z is not None else ''}; "
            f"choose one of {', '.join(METHODS if z is None else METHODS[:2])}"
        )

    def at(index: np.ndarray) -> np.ndarray:
        return coefficient(x[index], y[index], None if z is None else z[index], method)

    everyone = np.arange(n)
    estimate = float(at(everyone[None])[0])
    without = np.array([np.delete(everyone, k) for k in everyone]) if n > 3 else everyone[None]
    loo = at(without)
    loo_low, loo_high = (float(np.nanmin(loo)), float(np.nanmax(loo))) if (
        np.isfinite(loo).any()) else (np.nan, np.nan)  # fmt: skip
    low = high = p = np.nan
    fewest = MIN_MODELS + (z is not None)
    if np.isfinite(estimate) and n >= fewest:
        rng = np.random.default_rng(seed)
        resampled = at(rng.integers(0, n, (n_resamples, n)))
        tail = (1 - level) / 2
        low, high = np.nanquantile(resampled, [tail, 1 - tail])
        # Fisher's: variance 1 / (n - 3), for ranks by 1.06 (Spearman) or 0.437 / (n - 4) (Kendall)
        free = n - 3 - (z is not None)
        variance = {"pearson": 1 / free, "spearman": 1.06**2 / free,
                    "kendall": 0.437 / max(n - 4, 1)}[method]  # fmt: skip
        reach = stats.norm.ppf(1 - tail) * math.sqrt(variance)
        centre = math.atanh(estimate * (n - 1) / n)
        low = float(min(low, math.tanh(centre - reach)))
        high = float(max(high, math.tanh(centre + reach)))
    if np.isfinite(estimate) and n > 2:
        p = _permutation_p(x, y, z, method, estimate, seed)
    return Correlation(estimate, low, high, p, loo_low, loo_high, n)


def over_models(
    statistic: Callable[[np.ndarray], np.ndarray], n: int, level: float = 0.95,
    n_resamples: int = 2000, seed: int = 0,
) -> Interval:
    """Return a statistic of n models with its percentile bootstrap interval over models.

    statistic: indices of models (R, n) -> (R,). Below 5 models the limits are NaN; resamples
    for which the statistic is NaN (two models only, say) take no part.

    >>> robust = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> float(over_models(lambda index: robust[index].mean(1), 5).estimate)
    3.0
    """
    estimate = float(statistic(np.arange(n)[None])[0])
    if n < MIN_MODELS:
        return Interval(estimate, np.nan, np.nan, np.nan)
    index = np.random.default_rng(seed).integers(0, n, (n_resamples, n))
    resampled = np.asarray(statistic(index), dtype=float)
    if not np.isfinite(resampled).any():
        return Interval(estimate, np.nan, np.nan, np.nan)
    tail = (1 - level) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    return Interval(estimate, float(np.nanstd(resampled, ddof=1)), float(low), float(high))


def groups_apart(
    first: np.ndarray, second: np.ndarray, level: float = 0.95, n_draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Limits of mean(first) - mean(second) when both models and photographs are drawn anew.

    Shapes: first (A, R), second (B, R), a score of each model of a group on R resamples of the
    same photographs: a draw takes one resample and, with replacement, models of each group.

    >>> low, high = groups_apart(np.ones((4, 50)), np.zeros((5, 50)))
    >>> float(low), float(high)
    (1.0, 1.0)
    """
    rng = np.random.default_rng(seed)
    photographs = rng.integers(0, first.shape[1], (n_draws, 1))
    means = [
        group[rng.integers(0, len(group), (n_draws, len(group))), photographs].mean(1)
        for group in (first, second)
    ]
    tail = (1 - level) / 2
    low, high = np.quantile(means[0] - means[1], [tail, 1 - tail])
    return low, high


# -- from a profile to a deployment ---------------------------------------------------------------


def band_survival(clean_energy: ArrayLike, change_energy: ArrayLike) -> np.ndarray:
    """Return how much of each band survives a perturbation: the Wiener weight s / (1 + s).

    s is the signal-to-noise ratio of the band, its energy over that of the perturbation in it.

    Shapes: both (..., M, N), energies of N images; returns (..., M), the mean over images.
    Errors: ValueError for negative energies. A band without any energy survives.
    Source: methods 5.2 (seed 000: profiles matched to a deployment).

    >>> band_survival([[3.0], [1.0]], [[1.0], [0.0]])
    array([0.75, 1.  ])
    """
    clean, change = np.asarray(clean_energy, dtype=float), np.asarray(change_energy, dtype=float)
    if (clean < 0).any() or (change < 0).any():
        raise ValueError("energies must be 0 or more")
    total = clean + change
    return np.divide(clean, total, out=np.ones(total.shape), where=total > 0).mean(-1)


def predicted_loss(psi: ArrayLike, survival: ArrayLike) -> np.ndarray:
    """Return the loss that a profile predicts: sum over bands of (1 - survival) * value.

    Shapes: psi (M, ...) mean values of bands, survival (K, M); returns (K, ...) in the unit of psi.
    Source: methods 5.2.

    >>> predicted_loss([4.0, 1.0], [[0.75, 0.0]])
    array([2.])
    """
    return np.tensordot(1 - np.asarray(survival, dtype=float), np.asarray(psi, dtype=float), 1)


def coefficient(x, y, z=None, method: str = "spearman") -> np.ndarray:
    """The coefficient of each row: x, y (and z) (R, n) -> (R,); NaN where a row is constant."""
    if method == "kendall":
        dx, dy = (np.sign(v[:, :, None] - v[:, None, :]) for v in (x, y))
        with np.errstate(invalid="ignore", divide="ignore"):
            return (dx * dy).sum((1, 2)) / np.sqrt((dx**2).sum((1, 2)) * (dy**2).sum((1, 2)))
    if method == "spearman":
        x, y = stats.rankdata(x, axis=1), stats.rankdata(y, axis=1)
        z = None if z is None else stats.rankdata(z, axis=1)
    xy = _pearson(x, y)
    if z is None:
        return xy
    xz, yz = _pearson(x, z), _pearson(y, z)
    room = (1 - xz**2) * (1 - yz**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Where the third number says everything about one of the two, nothing is left to correlate.
        return np.where(room > 1e-9, (xy - xz * yz) / np.sqrt(room), np.nan)


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    dx, dy = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    spread = (dx**2).sum(1) * (dy**2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, (dx * dy).sum(1) / np.sqrt(spread), np.nan)


def _permutation_p(x, y, z, method: str, estimate: float, seed: int) -> float:
    n = len(x)
    if n <= 7:
        orders = np.array(list(itertools.permutations(range(n))))
    else:
        rng = np.random.default_rng(seed)
        orders = rng.permuted(np.tile(np.arange(n), (10_000, 1)), axis=1)
    if z is not None:  # what is left of y without z is what may be exchanged
        rank = stats.rankdata if method == "spearman" else np.asarray
        x, y, z, method = rank(x), rank(y), rank(z), "pearson"
        fit = np.polynomial.Polynomial.fit(z, y, 1)(z)
        shuffled = fit + (y - fit)[orders]
    else:
        shuffled = y[orders]
    rows = len(orders)
    tiled = None if z is None else np.broadcast_to(z, (rows, n))
    others = coefficient(np.broadcast_to(x, (rows, n)), shuffled, tiled, method)
    extreme = np.abs(others) >= abs(estimate) - 1e-12
    exact = n <= 7
    return float((extreme.sum() + (not exact)) / (rows + (not exact)))
