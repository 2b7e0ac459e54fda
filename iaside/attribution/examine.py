"""Examine attribution methods on the same images: every map, and every metric of it."""

from __future__ import annotations

import contextlib
import inspect
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from iaside.attribution.examination_table import FROM_BLACK, QUANTITIES, Examination, attack_of
from iaside.attribution.faithfulness import (
    RANKS,
    curve_area,
    deletion,
    infidelity,
    insertion,
    map_similarity,
    ties,
)
from iaside.attribution.maps import EXPLORERS, attribute, explore
from iaside.attribution.options import check_options
from iaside.backend.device import device_of, own_device
from iaside.backend.fingerprints import fingerprint, fingerprint_model
from iaside.backend.gradients import predictions
from iaside.backend.log import log
from iaside.backend.parallel import executor
from iaside.backend.precision import arithmetic, check_precision, undisturbed
from iaside.backend.resume import Table, unfinished
from iaside.estimate.clean import clean_summary, warn_of_chance
from iaside.inputs.asked import Asked
from iaside.inputs.checks import check_images
from iaside.inputs.labels import class_labels
from iaside.inputs.probe import probe
from iaside.robustness.perturb import perturb_noting


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
    engine: str = "torch",
) -> Examination:
    """Make every map of every image, and examine it.

    Shapes: images (N, C, H, W) in [0, 1] on any device, labels (N,) class indices. Maps and curves
    are those of the model's own predictions; ``correct`` is by the labels.

    variants: name -> {"method": ..., options}: those of ``attribute``, ``clean`` (nothing is done)
    and ``pgd`` (of ``perturb``, against the prediction). Those that differ in ``product`` alone
    share an attack, and cost no more than their curves. only: name -> that variant on so many
    images only, the first ones, with insertion curves, ties and nothing else. judges: networks
    (with .input_size) that classify the attacked images, resized to fit. twin: the
    randomly initialised control, whose maps of the first n_twin images are compared. n_shown:
    heat maps that are kept.
    steps, substrate: of ``insertion``, which is measured with either rank, as AttEXplore's code and
    its descriptions differ, and of ``deletion``, by pixels. infidelity_samples: 0 leaves it out.
    resume: a folder for the measurement in progress. workers: who examines, as in
    ``backend.parallel.executor``: by default this process. outputs: of model and control, as in
    ``inputs.probe``; ``clean`` in the provenance says how many images the model classifies right.
    precision: float32, or bfloat16 (autocast): of every pass of every network, gradients included.
    engine: who answers where no gradient is wanted, as in ``coalition_worths``: curves, infidelity,
    predictions and judges; ``engines`` in the provenance says of each network who that is.

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
    asked = {"model": probe(model, images, labels, **looks, engine=engine)}
    if twin is not None:  # only its gradients are asked
        asked["twin"] = probe(twin, images, labels, **looks)
    for name, net in judges.items():
        own = outputs if net is asked["model"].model else "logits"
        shown = _fitted(images[:2].to(device), net)
        asked[name] = probe(net, shown, labels, **looks | {"outputs": own}, engine=engine)
    for net in asked.values():
        net.narrow = precision == "bfloat16"
    known = {name: fingerprint_model(net.model, net.answer) for name, net in asked.items()}
    model, twin = asked["model"], asked.get("twin")
    targets, clean = _clean(model, images, labels, device)
    quantities = [*QUANTITIES, *(f"correct {name}" for name in judges)]
    provenance = {
        "networks": known,
        **model.about,
        "engines": {name: net.answers for name, net in asked.items()},
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
        log.info(
            f"{len(variants)} variants on {len(images)} images, {len(rest):,} maps to make on "
            f"{device.type}"
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
        jobs.setdefault((i, attack_of(variants[name])), []).append(name)
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
        check_options({"product": product})
    attack = who, *attack_of(variant)
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
    """Data shared by all maps."""

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
    """The predictions of the model, and their entry in the provenance."""
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
