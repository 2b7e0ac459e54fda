"""Whether attribution maps say what matters to a model: insertion, deletion, infidelity, sanity.

Everything is per image, so that methods can be compared in pairs. `examine` puts many methods to
all of it and leaves tables; nothing here judges.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur
from tqdm import tqdm

from iaside.attribution.baselines import captum_attr, image_by_image, probabilities
from iaside.attribution.explorers import EXPLORERS, _check_options, attribute, explore, map_passes
from iaside.backend.checks import check_values
from iaside.backend.device import device_of, own_device
from iaside.backend.files import reading
from iaside.backend.fingerprints import fingerprint, fingerprint_model
from iaside.backend.gradients import predictions
from iaside.backend.parallel import executor
from iaside.backend.precision import arithmetic, check_precision, undisturbed
from iaside.backend.seeds import descending, generators, seeds_of
from iaside.estimate.clean import clean_summary, warn_of_chance
from iaside.estimate.rounding import flat
from iaside.inputs.differentiable import differentiable, probed_with_labels
from iaside.inputs.labels import class_labels, plain
from iaside.inputs.probe import PROBE, Asked, check_images, probe
from iaside.robustness.perturb import attack_passes, perturb_noting
from iaside.tables import Table, checked, load_table, save_table, unfinished

SUBSTRATES = ("zero", "blur", "mean")
RANKS = ("pixel", "channel")


@undisturbed
@torch.no_grad()
def insertion(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    attribution: Tensor,
    steps: int = 224,
    substrate: str = "zero",
    rank: str = "pixel",
    batch_size: int = 10,
    seed: int = 0,
    first: int = 0,
    outputs: str = "logits",
) -> np.ndarray:
    """Probability of the target while pixels are put in, those of the largest attribution first.

    Shapes: images, attribution (B, C, H, W); targets (B,), the model's predictions as published;
    returns (B, steps + 1) float64: point k has k/steps of the pixels, the last one is the image.
    substrate: where it starts: ``zero`` black, ``blur`` the image under an 11x11 Gaussian of
    sigma 5, ``mean`` its mean colour.
    rank: ``pixel`` orders pixels by the sum over channels; ``channel`` orders every channel for
    itself, as the code of AttEXplore does: its numbers are not comparable (``examine`` has both).
    batch_size: points per pass of the model. outputs: what the model gives, as in ``inputs.probe``,
    which looks at it first.
    seed, first: pixels of equal attribution (``ties``) follow each other in an order that image i
    draws from (seed, first + i), on the CPU, so that every device sees the same: of a constant map
    it is that of a random one. ``deletion`` draws the same order, and so do all maps of an image,
    which are compared in pairs. Nothing is drawn for pixels that differ, by however little.

    Errors: those of ``inputs.probe``; ValueError/TypeError for shapes that differ, attributions
    that are not finite, an unknown substrate or rank, steps below 1 or above the number of pixels,
    a seed or first that is no integer from 0.
    Source: methods 2.5 (Petsiuk et al. 2018).

    >>> sums = lambda x: torch.stack([x.sum((1, 2, 3)), x[:, 0, 0, 0] * 0], 1)
    >>> x, maps = torch.ones(1, 1, 2, 2), torch.rand(1, 1, 2, 2)
    >>> curve = insertion(sums, x, torch.tensor([0]), maps, steps=4)
    >>> curve.round(2).tolist()
    [[0.5, 0.73, 0.88, 0.95, 0.98]]
    """
    return _curves(
        model,
        images,
        targets,
        attribution,
        steps,
        substrate,
        rank,
        batch_size,
        seed,
        first,
        outputs,
        put_in=True,
    )


@undisturbed
@torch.no_grad()
def deletion(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    attribution: Tensor,
    steps: int = 224,
    substrate: str = "zero",
    rank: str = "pixel",
    batch_size: int = 10,
    seed: int = 0,
    first: int = 0,
    outputs: str = "logits",
) -> np.ndarray:
    """Probability of the target while pixels are taken out, those of the largest attribution first.

    Everything as in ``insertion``, from the image to the substrate; equal pixels in the same order.

    >>> sums = lambda x: torch.stack([x.sum((1, 2, 3)), x[:, 0, 0, 0] * 0], 1)
    >>> x, maps = torch.ones(1, 1, 2, 2), torch.rand(1, 1, 2, 2)
    >>> curve = deletion(sums, x, torch.tensor([0]), maps, steps=2)
    >>> curve.round(2).tolist()
    [[0.98, 0.88, 0.5]]
    """
    return _curves(
        model,
        images,
        targets,
        attribution,
        steps,
        substrate,
        rank,
        batch_size,
        seed,
        first,
        outputs,
        put_in=False,
    )


def ties(attribution: Tensor, rank: str = "pixel") -> np.ndarray:
    """Share of the pixels of each map that have their attribution in common with another pixel.

    How much of the order of ``insertion`` and ``deletion`` is drawn: 0 where all pixels differ, 1
    for a constant map. Equal is what is equal in every bit, but that 0 and -0 are the same.

    Shapes: attribution (B, C, H, W); returns (B,) float64. rank: as in ``insertion``: with
    ``channel`` the share of the values that another one of their channel equals.
    Errors: those of ``insertion`` for attributions and rank.

    >>> ties(torch.tensor([[[[0.0, 0.0], [3.0, 1.0]]]])).tolist()
    [0.5]
    """
    ordered = _ranked(_map(attribution), rank).sort(dim=2).values
    equal = ordered[..., 1:] == ordered[..., :-1]
    tied = F.pad(equal, (1, 0)) | F.pad(equal, (0, 1))
    return tied.double().mean((1, 2)).numpy()


def curve_area(curves: np.ndarray) -> np.ndarray:
    """Area under insertion or deletion curves (..., S + 1) -> (...), by the trapezoid rule.

    >>> float(curve_area([0.0, 1.0, 1.0]))
    0.75
    """
    curves = plain(curves, "curves").double().numpy()
    if curves.shape[-1:] < (2,):
        raise ValueError(f"curves are {curves.shape}; a curve has two points or more")
    return (curves.sum(-1) - (curves[..., 0] + curves[..., -1]) / 2) / (curves.shape[-1] - 1)


@undisturbed
def infidelity(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    attribution: Tensor,
    sigma: float = 0.1,
    samples: int = 10,
    seed: int = 0,
    first: int = 0,
    outputs: str = "logits",
) -> np.ndarray:
    """How badly an attribution predicts what small noise does to the probability of the target.

    Mean squared error over noise of standard deviation ``sigma``, through captum, each attribution
    scaled as serves it best: methods differ in their units. Smaller is better.

    Shapes: images, attribution (B, C, H, W); targets (B,); returns (B,) float64. Image i draws from
    (seed, first + i).
    Source: Yeh et al. 2019; asked for by reviewers of AttEXplore (methods 2.3).

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)).eval()
    >>> x = torch.rand(1, 3, 2, 2)
    >>> infidelity(net, x, torch.tensor([0]), torch.ones_like(x)).shape
    (1,)
    """
    captum_attr()
    from captum.metrics import infidelity as measure

    images = check_images(images)
    model, targets, attribution = _check_maps(model, images, targets, attribution, outputs)
    seeds = seeds_of(seed, first, len(images))

    def noise(x: Tensor) -> tuple[Tensor, Tensor]:
        change = sigma * torch.randn(x.shape).to(x)
        return change, x - change

    maps = iter(attribution.split(1))
    how = {"n_perturb_samples": samples, "normalize": True}
    with differentiable(model, "infidelity", images.device) as model, torch.no_grad():
        found = image_by_image(
            list(generators(seeds)),
            images,
            targets,
            lambda x, y: measure(probabilities(model), noise, x, next(maps), target=y, **how),
        )
    return found.cpu().double().numpy()


@undisturbed
def map_similarity(first: Tensor, second: Tensor) -> np.ndarray:
    """Spearman correlation of the absolute heat maps of two attributions, per image.

    Between a trained and a randomly initialised network it should be close to 0: a map that does
    not change explains the image, not the model (Adebayo et al. 2018).

    Shapes: both (B, C, H, W); returns (B,) float64, nan for a map that is constant (but for
    rounding).

    >>> a = torch.rand(1, 3, 8, 8)
    >>> map_similarity(a, 2 * a).round(6).tolist()
    [1.0]
    """
    first, second = _map(first), _map(second)
    if first.shape != second.shape:
        raise ValueError(
            f"attributions are {tuple(first.shape)} and {tuple(second.shape)}; give two of the "
            "same images"
        )
    a, b = (t.sum(1).abs().flatten(1).cpu().double().numpy() for t in (first, second))
    # A pixel is known to the roundings of its channels, in the precision of the map.
    rounding = [
        4 * t.shape[1] * torch.finfo(torch.promote_types(t.dtype, torch.float16)).eps
        for t in (first, second)
    ]
    still = flat(a, tolerance=rounding[0]) | flat(b, tolerance=rounding[1])
    a, b = stats.rankdata(a, axis=1), stats.rankdata(b, axis=1)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    spread = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.divide((a * b).sum(1), spread, out=np.full(len(a), np.nan), where=~still)


@undisturbed
def completeness_gap(attribution: Tensor, change: Tensor) -> np.ndarray:
    """By how much an attribution fails to add up to what it explains, relative to that.

    Shapes: attribution (B, C, H, W); change (B,), of the probability (deeplift: of the logit) from
    the baseline to the image or of the loss along a path; returns (B,) float64: 0 is complete, 1 is
    off by as much as there is to explain, nan where that is nothing.

    >>> completeness_gap(torch.ones(1, 1, 2, 2), torch.tensor([5.0])).round(3).tolist()
    [0.2]
    """
    total = _map(attribution).cpu().double().sum((1, 2, 3)).numpy()
    change = plain(change, "changes").cpu().double().numpy()
    if change.shape != total.shape:
        raise ValueError(
            f"changes are {change.shape}, and there are {len(total)} maps; give one for each"
        )
    off, size = np.abs(total - change), np.abs(change)
    return np.divide(off, size, out=np.full(len(size), np.nan), where=size > 0)


# -- the curves -----------------------------------------------------------------------------------


def _curves(
    model,
    images,
    targets,
    attribution,
    steps,
    substrate,
    rank,
    batch_size,
    seed,
    first,
    outputs,
    put_in: bool,
) -> np.ndarray:
    images = check_images(images, wide=True)
    check_values({"steps": steps, "batch_size": batch_size})
    without, seeds = _substrate(images, substrate), seeds_of(seed, first, len(images))
    model, targets, attribution = _check_maps(model, images, targets, attribution, outputs)
    start, end = (without, images) if put_in else (images, without)
    pixels = attribution.shape[-2] * attribution.shape[-1]
    if steps > pixels:
        raise ValueError(f"steps={steps!r} must be from 1 to {pixels}, the number of pixels")
    counts = (torch.arange(steps + 1) * pixels / steps).round().long()
    places = _places(attribution, rank, seeds).to(start.device)
    found = []
    with arithmetic("float32", start.device):
        for a, b, place, target in zip(start, end, places, targets, strict=True):
            scores = []
            for part in counts.to(place).split(int(batch_size)):
                new = place < part[:, None, None, None]
                shown = torch.where(new, b, a)
                scores.append(model(shown).softmax(1)[:, target])
            found.append(torch.cat(scores))
    return torch.stack(found).cpu().double().numpy()


def _places(attribution: Tensor, rank: str, seeds: list[int]) -> Tensor:
    """The place of every pixel in the order of decreasing attribution, (B, 1 or C, H, W)."""
    values = _ranked(attribution, rank)
    order = torch.stack(
        [
            torch.stack([descending(row, generator) for row in rows])
            for rows, generator in zip(values, generators(seeds), strict=True)
        ]
    )
    return order.argsort(dim=2).view(*values.shape[:2], *attribution.shape[-2:])


def _ranked(attribution: Tensor, rank: str) -> Tensor:
    """What pixels are ordered by: sums over channels, or each channel, (B, 1 or C, H * W).

    On the CPU, with at least the precision of float32, and one channel after the other: a sum over
    a dimension adds in an order of its own, for which pixels of equal channels can differ.
    """
    if rank not in RANKS:
        raise ValueError(f"rank={rank!r} is not known; choose one of {', '.join(RANKS)}")
    values = attribution.cpu().flatten(2)
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    return values if rank == "channel" else functools.reduce(torch.add, values.split(1, dim=1))


def _substrate(images: Tensor, substrate: str) -> Tensor:
    if substrate == "zero":
        return torch.zeros_like(images)
    if substrate == "blur":
        if min(images.shape[-2:]) < 6:
            raise ValueError(
                f"substrate='blur' needs images of at least 6 pixels a side, got "
                f"{tuple(images.shape[-2:])}; take another one of {', '.join(SUBSTRATES)}"
            )
        return gaussian_blur(images, 11, 5.0)
    if substrate == "mean":
        return images.mean((2, 3), keepdim=True).expand_as(images)
    raise ValueError(f"substrate={substrate!r} is not known; choose one of {', '.join(SUBSTRATES)}")


def _check_maps(
    model, images: Tensor, targets: Tensor, attribution: Tensor, outputs: str
) -> tuple[Asked, Tensor, Tensor]:
    attribution = _map(attribution)
    if attribution.shape != images.shape:
        raise ValueError(
            f"attributions are {tuple(attribution.shape)} and images {tuple(images.shape)}; "
            "give one value per pixel and channel of each image"
        )
    return *probed_with_labels(model, images, targets, outputs), attribution


def _map(attribution: Tensor) -> Tensor:
    """Attributions as plain finite numbers (B, C, H, W), from a tensor or an array."""
    attribution = plain(attribution, "attributions")
    if attribution.ndim != 4:
        raise ValueError(
            f"attributions are {tuple(attribution.shape)}; give (B, C, H, W), one value per pixel "
            "and channel of each image"
        )
    if not attribution.isfinite().all():
        raise ValueError("attributions must be finite, got nan or infinity; see how they were made")
    return attribution


# -- many methods on the same images ---------------------------------------------------------------

# What they should add up to is the change from black of the probability, of deeplift the logit's.
# Guided IG does so on smooth networks: its points see slopes that are the smallest before a move.
FROM_BLACK = ("integrated_gradients", "guided_ig", "deeplift")
QUANTITIES = (
    "insertion",
    "insertion_channel",
    "deletion",
    "infidelity",
    "total",
    "change",
    "success",
    "passes",
    "similarity",
    "radius",
    "ties",
    "ties_channel",
)


@dataclass(eq=False)
class Examination:
    """What became of each variant of a method on each image: a row per variant, a column per image.

    tables (K, N) float64, nan where it was not asked or means nothing: ``insertion``, ``deletion``
    areas; ``ties`` the share of the pixels whose order there is drawn, as another one has the same
    attribution; ``insertion_channel`` and ``ties_channel``, where every channel is ordered for
    itself; ``infidelity``; ``total`` the sum of the attribution and ``change`` what it
    promises to sum to; ``success`` whether the attack along the way changed the prediction;
    ``passes`` images that the model saw with gradients; ``similarity`` to the map of the untrained
    twin; ``radius`` the cutoff; ``correct <judge>`` whether that network classifies what the attack
    made of it. The last and ``success`` are nan too where no usable gradient showed the attack a
    way, and so is everything but ``passes`` and ``radius`` where a map is zero everywhere, which is
    no map.
    maps (K, S, H, W) float16, heat maps of the first S images, scaled to a largest absolute value
    of 1; variants: name -> method and options.

    >>> e = Examination({"a": {"method": "saliency"}}, {"insertion": np.ones((1, 2))}, {}, None)
    >>> e.rows("a")
    {'insertion': array([1., 1.])}
    """

    variants: dict[str, dict]
    tables: dict[str, np.ndarray]
    provenance: dict
    maps: np.ndarray | None

    def rows(self, variant: str) -> dict[str, np.ndarray]:
        """All quantities of one variant, (N,) each. Errors: ValueError naming those measured."""
        if variant not in self.variants:
            raise ValueError(f"{variant!r} was not examined; there is: {', '.join(self.variants)}")
        k = list(self.variants).index(variant)
        return {name: table[k] for name, table in self.tables.items()}

    def save(self, path: str | os.PathLike, **more: np.ndarray) -> None:
        """Write everything, and further arrays, to one npz, whole or not at all."""
        save_table(path, self.provenance, self.tables | {"maps": self.maps} | more)

    @classmethod
    def load(cls, path: str | os.PathLike) -> tuple[Examination, dict[str, np.ndarray]]:
        """Read what ``save`` wrote, and the further arrays.

        Errors: FileNotFoundError, or ValueError for another file, or one without a quantity.
        """
        with reading(path, "an attribution table", "measure it (80_attributions)"):
            provenance, arrays = load_table(path)
            variants = {name: provenance["variants"][name] for name in provenance["rows"]}
            k, n = len(variants), arrays["insertion"].shape[-1]
            tables = {
                name: checked(arrays.pop(name), name, (k, n))
                for name in dict.fromkeys((*QUANTITIES, *provenance["quantities"]))
            }
            maps = checked(arrays.pop("maps"), "maps", (k, None, None, None))
            return cls(variants, tables, provenance, maps), arrays


@undisturbed
def examine(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    variants: Mapping[str, Mapping],
    judges: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    twin: Callable[[Tensor], Tensor] | None = None,
    only: Mapping[str, int] | None = None,
    n_twin: int = 0,
    n_shown: int = 0,
    steps: int = 224,
    substrate: str = "zero",
    infidelity_samples: int = 10,
    seed: int = 0,
    resume: str | os.PathLike | None = None,
    progress: bool = True,
    workers: object = None,
    outputs: str = "logits",
    precision: str = "float32",
) -> Examination:
    """Make every map of every image, and examine it.

    Shapes: images (N, C, H, W) in [0, 1] on any device, labels (N,) class indices. Maps and curves
    are those of the model's own predictions; ``correct`` is by the labels.

    variants: name -> {"method": ..., options}: those of ``attribute``, ``clean`` (nothing is done)
    and ``pgd`` (of ``perturb``, against the prediction). Those that differ in ``product`` alone
    share an attack, and cost no more than their curves. only: name -> that variant on so many
    images only, the first ones, with insertion curves, ties and nothing else. judges: networks
    (with .input_size) that answer to what the attacks made, resized to fit. twin: the network with
    random weights, whose maps of the first n_twin images are compared. n_shown: heat maps that are
    kept.
    steps, substrate: of ``insertion``, which is measured with either rank, as AttEXplore's code and
    its descriptions differ, and of ``deletion``, by pixels. infidelity_samples: 0 leaves it out.
    resume: a folder for the measurement in progress. workers: who examines, as in
    ``backend.parallel.executor``: by default this process. outputs: what model and twin give, as in
    ``inputs.probe``; ``clean`` in the provenance says how many images the model classifies right.
    precision: float32, or bfloat16 (autocast): of every pass of every network, gradients included.

    Errors: those of ``attribute`` and ``insertion``; ValueError for a name of a variant in ``only``
    that there is none of, and for deeplift in bfloat16, where it does not add up. One
    RuntimeWarning counts the maps that are zero everywhere.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2)).eval()
    >>> found = examine(net, torch.rand(2, 3, 8, 8), torch.tensor([0, 1]),
    ...                 {"gradient": {"method": "saliency"}}, steps=4, progress=False)
    >>> found.tables["insertion"].shape
    (1, 2)
    """
    judges, only = dict(judges or {}), dict(only or {})
    if unknown := [name for name in only if name not in variants]:
        raise ValueError(f"only= names {unknown[0]!r}; there is: {', '.join(variants)}")
    check_precision(precision)
    if precision == "bfloat16" and "deeplift" in {v["method"] for v in variants.values()}:
        raise ValueError(
            "deeplift adds up in float32 only: leave it out of the methods, or bfloat16 out of "
            "precision"
        )
    images = check_images(images, wide=True, on_disk=True)
    device = device_of(model, None)
    pool = executor(workers, device)
    labels = class_labels(labels, len(images)).cpu()
    looks = {"outputs": outputs, "device": device, "precision": precision}
    asked = {"model": probe(model, images, labels, **looks)}
    if twin is not None:
        asked["twin"] = probe(twin, images, labels, **looks)
    for name, net in judges.items():
        own = outputs if net is asked["model"].model else "logits"
        shown = _fitted(images[:2].to(device), net)
        asked[name] = probe(net, shown, labels, **looks | {"outputs": own})
    for net in asked.values():
        net.narrow = precision == "bfloat16"
    known = {name: fingerprint_model(net.model, net.answer) for name, net in asked.items()}
    model, twin = asked["model"], asked.get("twin")
    targets, clean = _clean(model, images, labels, device)
    quantities = [*QUANTITIES, *(f"correct {name}" for name in judges)]
    provenance = {
        "networks": known,
        **model.about,
        "images": fingerprint(images),
        "labels": fingerprint(labels),
        "n_images": len(images),
        "variants": {name: dict(variant) for name, variant in variants.items()},
        "rows": list(variants),  # in this order; JSON sorts names
        "only": only,
        "quantities": quantities,
        "n_twin": n_twin,
        "n_shown": n_shown,
        "steps": steps,
        "substrate": substrate,
        "infidelity_samples": infidelity_samples,
        "seed": seed,
        "precision": precision,
        "device": device.type,
    }
    place = unfinished(resume, "examination", provenance, __name__)
    rows = Table(place, (len(variants), len(images), 1 + len(quantities)))
    size = (len(variants), n_shown, *images.shape[-2:])
    maps = Table(place and f"{place}-maps", size)

    def kept(name: str, i: int) -> bool:
        """Whether the heat map of a variant is."""
        mapped = variants[name]["method"] not in ("clean", "pgd")
        return mapped and i < n_shown and name not in only

    rest = [
        (k, i)
        for i in range(len(images))
        for k, name in enumerate(variants)
        if i < only.get(name, len(images))
        and (np.isnan(rows[k, i, 0]) or kept(name, i) and np.isnan(maps[k, i]).any())
    ]
    if progress and rest:
        print(
            f"{len(variants)} variants on {len(images)} images, {len(rest):,} maps to make on "
            f"{device.type}",
            file=sys.stderr,
            flush=True,
        )
    common = _Common(
        asked,
        images,
        labels,
        targets,
        dict(variants),
        list(judges),
        only,
        n_twin,
        seed,
        device,
        infidelity_samples,
        {"steps": steps, "substrate": substrate},
    )
    # Variants that share an attack on an image are a job: it is made once.
    jobs: dict[tuple, list[str]] = {}
    for k, i in rest:
        name = list(variants)[k]
        jobs.setdefault((i, _attack_of(variants[name])), []).append(name)
    examined = pool.each(
        _examined_here,
        common,
        [(i, names) for (i, _), names in jobs.items()],
        device,
        name=lambda i, names: f"image {i}",
    )
    places = {name: k for k, name in enumerate(variants)}
    for (i, _), (name, found, heat) in tqdm(
        examined, total=len(rest), disable=not progress, unit="map"
    ):
        k = places[name]
        if kept(name, i):
            maps[k, i] = heat / max(np.abs(heat).max(), np.finfo(heat.dtype).tiny)
        rows[k, i] = [1, *(found.get(q, np.nan) for q in quantities)]
    found = rows.values[:, :, 1:]
    tables = {q: found[:, :, j] for j, q in enumerate(quantities)}
    _warn_of_zeros(tables["insertion"], provenance)
    provenance |= clean
    warn_of_chance(provenance)
    return Examination(provenance["variants"], tables, provenance, maps.values.astype(np.float16))


def examination_passes(
    variants: Mapping[str, Mapping],
    n_images: int,
    n_judges: int = 0,
    only: Mapping[str, int] | None = None,
    n_twin: int = 0,
    steps: int = 224,
    infidelity_samples: int = 10,
) -> np.ndarray:
    """Images that ``examine`` shows the model, its twin and its judges, and gradients, (2,) int64.

    An upper bound where a method of the variants has one (``map_passes``).

    >>> examination_passes({"a": {"method": "saliency"}}, 2, steps=4, infidelity_samples=0).tolist()
    [40, 2]
    """
    looks = PROBE * (1 + (n_twin > 0) + n_judges)
    total = np.array([looks + n_images, 0])  # with what is predicted
    curve, attacked = np.array([steps + 1, 0]), {}  # images, by the attack
    for name, variant in variants.items():
        n, whole = (only or {}).get(name, n_images), name not in (only or {})
        options = dict(variant)
        method = options.pop("method")
        attacks = method in ("clean", "pgd", *EXPLORERS)
        each = np.array([n_judges if whole and attacks else 0, 0])
        if method == "pgd":
            each += attack_passes("pgd", steps=options.get("steps"), at_once=None)
        elif method != "clean":
            a_map = map_passes(method, **options) - (PROBE, 0)  # the model has been seen
            asked = {"model": n, "twin": min(n, n_twin) if whole else 0}
            for net, images in asked.items():
                attack = (net, *_attack_of(variant)) if method in EXPLORERS else (net, name)
                before = attacked.get(attack, 0)
                total += max(0, images - before) * a_map
                attacked[attack] = max(images, before)
            each += curve * (len(RANKS) + whole)
            each[0] += 2 if method in FROM_BLACK else 0
            if whole:
                each[0] += infidelity_samples + 1 if infidelity_samples else 0
        total += n * each
    return total


def _attack_of(variant: Mapping) -> tuple:
    """What the attack depends on that a map of FAMPE or AttEXplore is made along."""
    return tuple(sorted((name, repr(v)) for name, v in variant.items() if name != "product"))


def _mapped(net, who: str, x, y, variant: Mapping, draw: Mapping, references, known: dict):
    """A map, the images seen with gradients for it, and the attack along the way, if any.

    known: the attacks on this image so far, and what they cost.
    """
    method = variant["method"]
    options = {name: value for name, value in variant.items() if name != "method"}
    if method == "expected_gradients":
        options["references"] = references
    if method not in EXPLORERS:
        with _counted(net) as seen:
            return attribute(net, x, y, method, **draw, **options), seen, None
    product = options.pop("product", None)
    if product is not None:
        _check_options({"product": product})
    attack = who, *_attack_of(variant)
    if attack not in known:
        with _counted(net) as seen:
            known[attack] = explore(net, x, y, method, **draw, **options), seen
    e, seen = known[attack]
    return {None: e.attribution, "gradient": e.by_gradient, "update": e.by_update}[product], seen, e


def _examined(model, x, y, variant, references, i, seed, how, whole, samples, twin, known):
    """Everything about one map of one image, and its heat map."""
    method = variant["method"]
    options = {name: value for name, value in variant.items() if name != "method"}
    if method == "clean":
        return {"attacked": x}, None
    draw = {"seed": seed, "first": i}
    if method == "pgd":
        attacked, usable = perturb_noting(x, "pgd", model=model, labels=y, **draw, **options)
        return {"attacked": attacked} if usable else {}, None
    found = {}
    a, seen, e = _mapped(model, "model", x, y, variant, draw, references, known)
    if e is not None:
        found |= {"radius": e.radius.item(), "attacked": e.adversarial, "success": float(e.success)}
        if method == "fampe" and options.get("product") != "update":
            found["change"] = e.loss_change.item()
    found["passes"] = float(sum(seen)) if seen else np.nan
    heat = a.sum(1)[0].cpu().numpy()
    if not a.any():  # no gradient showed a way: no map to judge, and nobody resisted an attack
        return {q: found[q] for q in ("passes", "radius") if q in found}, heat
    if method in FROM_BLACK:
        with torch.no_grad(), arithmetic("float32", x.device):
            outputs = model(torch.cat([x, torch.zeros_like(x)]))
        explained = (outputs if method == "deeplift" else outputs.softmax(1))[:, y.item()]
        found["change"] = (explained[0] - explained[1]).item()
    if twin is not None:
        other = _mapped(twin, "twin", x, y, variant, draw, references, known)[0]
        found["similarity"] = map_similarity(a, other)[0]
    if samples:
        found["infidelity"] = infidelity(model, x, y, a, samples=samples, **draw)[0]
    found["total"] = a.cpu().double().sum().item()
    for rank in RANKS:
        of = "" if rank == "pixel" else f"_{rank}"
        found[f"ties{of}"] = ties(a, rank)[0]
        curves = insertion(model, x, y, a, rank=rank, **how, **draw)
        found[f"insertion{of}"] = curve_area(curves)[0]
    if whole:
        found["deletion"] = curve_area(deletion(model, x, y, a, **how, **draw))[0]
    return found, heat


class _Common(NamedTuple):
    """What all maps have in common."""

    asked: dict[str, Asked]
    images: Tensor
    labels: Tensor
    targets: Tensor
    variants: Mapping[str, Mapping]
    judges: list[str]
    only: Mapping[str, int]
    n_twin: int
    seed: int
    device: torch.device
    samples: int
    how: dict


def _examined_here(of: _Common, i: int, names: list[str]) -> Iterator[tuple]:
    """Everything about some variants on one image: of each its name, that and its heat map."""
    device, known = own_device(of.device), {}  # the attacks on it
    x, y = of.images[i : i + 1].to(device), of.targets[i : i + 1].to(device)
    for name in names:
        whole = name not in of.only
        twin = of.asked.get("twin") if whole and i < of.n_twin else None
        with warnings.catch_warnings():  # counted once, of all
            warnings.filterwarnings("ignore", ".* maps of images .* are zero everywhere")
            found, heat = _examined(
                of.asked["model"],
                x,
                y,
                of.variants[name],
                of.images,
                i,
                of.seed,
                of.how,
                whole,
                of.samples if whole else 0,
                twin,
                known,
            )
        attacked = found.pop("attacked", None)
        if attacked is not None and whole:
            found |= {
                f"correct {j}": _is_correct(
                    of.asked[j], _fitted(attacked, of.asked[j].model), of.labels[i : i + 1]
                )
                for j in of.judges
            }
        yield name, found, heat


def _warn_of_zeros(insertion: np.ndarray, provenance: dict) -> None:
    """Count the maps that were asked for and are none, which have no insertion curve."""
    n, blank = provenance["n_images"], []
    for row, (name, variant) in zip(insertion, provenance["variants"].items(), strict=True):
        asked = min(provenance["only"].get(name, n), n)
        none = int(np.isnan(row[:asked]).sum())
        if none and variant["method"] not in ("clean", "pgd"):
            blank.append(f"{name} {none} of {asked}")
    if blank:
        warnings.warn(
            f"maps that are zero everywhere are none and left out: {', '.join(blank)}; does the "
            "model round or saturate?",
            RuntimeWarning,
            stacklevel=5,
        )


@contextlib.contextmanager
def _counted(model) -> Iterator[list[int]]:
    """How many images each pass with gradients shows a module, inside."""
    seen: list[int] = []
    if not isinstance(model, torch.nn.Module):
        yield seen
        return
    hook = model.register_forward_pre_hook(
        lambda module, args: seen.append(len(args[0]) if torch.is_grad_enabled() else 0)
    )
    try:
        yield seen
    finally:
        hook.remove()


def _fitted(x: Tensor, net) -> Tensor:
    """Images resized to what a network takes."""
    size = inspect.getattr_static(net, "input_size", None)
    pair = isinstance(size, list | tuple) and len(size) == 2  # other words of a model are its own
    if not pair or tuple(size) == tuple(x.shape[-2:]):
        return x
    how = {"mode": "bilinear", "align_corners": False, "antialias": True}
    return F.interpolate(x, size=size, **how).clamp(0, 1)


@torch.no_grad()
def _clean(model: Asked, images: Tensor, labels: Tensor, device) -> tuple[Tensor, dict]:
    """What the model predicts, and what a provenance keeps of that."""
    with arithmetic("float32", device):
        answers = torch.cat([model(x.to(device)).cpu().double() for x in images.split(1)])
    known = {
        "log_likelihood": answers.log_softmax(1).gather(1, labels[:, None])[:, 0].numpy(),
        "accuracy": (answers.argmax(1) == labels).numpy(),
    }
    return answers.argmax(1), clean_summary(known, model.classes)


@torch.no_grad()
def _is_correct(net: Asked, x: Tensor, label: Tensor) -> float:
    return float(predictions(net, x).cpu() == label)
