"""A card from a model and images: all of it measured, within the minutes that it may take."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor

from iaside.backend.device import device_of
from iaside.backend.precision import undisturbed
from iaside.card.budget import Plan, plan, plan_beside, speed_of
from iaside.card.card import Card
from iaside.card.deployment import deployed
from iaside.card.harms import PLAIN, hurt
from iaside.card.pictures import pictures_of
from iaside.card.reference import Reference, chosen
from iaside.card.several import Cards
from iaside.explanation import explain
from iaside.inputs.asked import Asked
from iaside.inputs.checks import check_images
from iaside.inputs.degraded import Degraded, read_deployment
from iaside.inputs.predicted import predicted
from iaside.inputs.probe import probe
from iaside.robustness.noise import NOISES
from iaside.spectral import band_masks

MINUTES = 5.0
Predicted = Literal["predicted"]
Model = Callable[[Tensor], Tensor]


class Options(TypedDict, total=False):
    """What ``report`` takes by name."""

    name: str | None
    n_bands: int
    reference: Model | Literal[False] | None
    deployment: str | os.PathLike | None
    classes: object
    budget: float
    outputs: str
    engine: str
    device: str | torch.device | None
    seed: int
    resume: str | os.PathLike | None
    progress: bool
    about: Mapping | None


@overload
def report(
    model: Model,
    images: Tensor,
    labels: Tensor | Predicted | None = None,
    **options: Unpack[Options],
) -> Card: ...
@overload
def report(
    model: Mapping[str, Model] | Sequence[Model],
    images: Tensor | Mapping[str, Tensor],
    labels: Tensor | Predicted | None = None,
    **options: Unpack[Options],
) -> Cards: ...


@undisturbed
def report(
    model: Model | Mapping[str, Model] | Sequence[Model],
    images: Tensor | Mapping[str, Tensor],
    labels: Tensor | Predicted | None = None,
    *,
    name: str | None = None,
    n_bands: int = 8,
    reference: Model | Literal[False] | None = None,
    deployment: str | os.PathLike | None = None,
    classes: object = None,
    budget: float = MINUTES,
    outputs: str = "logits",
    engine: str = "torch",
    device: str | torch.device | None = None,
    seed: int = 0,
    resume: str | os.PathLike | None = None,
    progress: bool = True,
    about: Mapping | None = None,
) -> Card | Cards:
    """Test a model on images and write down by which frequencies it decides and what hurts it.

    Shapes: images (N, C, H, W) in [0, 1]; labels (N,) class indices, or None or "predicted" for
    the classes that the model gives to the clean images, which the card says.
    model: several (a list, or name -> model) are compared on one page, with differences from the
    first on the same images; ``images`` may then be name -> images, the same photographs as each
    model wants them.
    name: what the page calls the model;  reference: another model of the same classes and image
    size, which meets the same perturbations; None takes the smallest pretrained network at hand
    that fits, where the minutes allow for it, False none;  deployment: a folder with clean/ and
    degraded/ pictures of equal names, or of degraded ones alone, labelled as ``load_images`` knows
    it or not;  classes: which label a class of that name has there, as in ``load_images``;
    budget: minutes that all of it may take, by a timing of a few passes: where all 2**n_bands
    coalitions do not fit in, coalitions are sampled, and what else does not is left out, a network
    at hand first, which the card says;  outputs,
    engine, device, seed, resume, progress: as in ``explain``;  about: what else the settings of the
    page shall say.

    Attacks are made where the model gives gradients, and left out where not. Images of one channel
    meet all perturbations; those of other channels than one or three only noise, blur and low
    light.
    Errors: those of ``explain``, ``perturb`` and ``load_images``; ValueError for a budget in which
    each image cannot have one round of coalitions, and for models of different classes.
    Source: the profile as in Luo et al. 2024; advice by rule (``card.advice``).

    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1)
    >>> images = torch.rand(9, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> card = report(brightness, images, torch.zeros(9).long(), n_bands=3, progress=False)
    >>> len(card.harms) > 5, card.advice[0].partition(":")[0]
    (True, 'Band 0 (below 5 cycles per image) matters most')
    """
    how = {"outputs": outputs, "engine": engine, "resume": resume, "progress": progress}
    how |= {"device": device, "seed": seed, "n_bands": n_bands}
    if callable(model):
        models = {name or named(model): model}
        images = dict.fromkeys(models, check_images(images))
    else:
        models, images = _several(model, images)
        if callable(reference) or name is not None:
            given = "reference" if callable(reference) else "name"
            raise ValueError(f"{given}= is for one model: give several as {{name: model, ...}}")
    about = dict(about or {})
    if labels is None or (isinstance(labels, str) and labels == "predicted"):
        first = next(iter(models))
        labels = predicted(models[first], images[first], outputs)
        whose = "the model itself" if len(models) == 1 else f"{first} itself"
        about["labels"] = f"the classes that {whose} gives to the clean pictures"
    tested = dict(models)
    if callable(reference):
        tested[named(reference)] = reference
        images[named(reference)] = images[next(iter(models))]
    seen = {
        n: probe(m, images[n], labels, outputs=outputs, device=device_of(m, device))
        for n, m in tested.items()
    }
    _check_alike(seen)
    shown = {
        n: deployment
        and read_deployment(
            deployment, models[n], images[n].shape[1:], classes, "labels" not in about, seed
        )
        for n in models
    }
    how["minutes"] = budget / len(models)
    how["reference"] = reference if callable(model) else False
    cards = {
        n: _card(n, m, images[n], labels, shown.get(n) or None, about=about, **how)
        for n, m in models.items()
    }
    return next(iter(cards.values())) if callable(model) else Cards(cards)


def _several(models, images) -> tuple[dict[str, Model], dict[str, Tensor]]:
    """Models and their images by name."""
    if not isinstance(models, Mapping):
        names = [named(model) for model in models]
        if len(set(names)) < len(names):
            names = [f"{name} ({k})" for k, name in enumerate(names, 1)]
        models = dict(zip(names, models, strict=True))
    if len(models) < 2:
        raise ValueError(f"{len(models)} models in a list: give the model itself, or several")
    if not isinstance(images, Mapping):
        images = dict.fromkeys(models, images)
    if missing := [name for name in models if name not in images]:
        raise ValueError(f"images has no entry for {missing[0]!r}: give all, or one tensor")
    return dict(models), {name: check_images(images[name]) for name in models}


def _check_alike(seen: Mapping[str, Asked]) -> None:
    """Refuse models that cannot be compared, before anything long."""
    (first, model), *others = seen.items()
    for name, other in others:
        if other.classes != model.classes:
            raise ValueError(
                f"{name} has {other.classes} classes and {first} {model.classes}: only networks of "
                "the same classes are compared; leave it out"
            )


def named(model: Model) -> str:
    """What a page calls a model: its name, or its kind."""
    return getattr(model, "name", None) or type(model).__name__


def _card(
    name: str,
    model: Model,
    images: Tensor,
    labels: Tensor,
    shown: Degraded | None,
    n_bands: int,
    minutes: float,
    device,
    seed: int,
    about: Mapping,
    reference: Model | Literal[False] | None,
    **how,
) -> Card:
    start = time.perf_counter()
    outputs, engine = how["outputs"], how["engine"]
    at = device_of(model, device)
    asked = probe(model, images, labels, outputs=outputs, engine=engine, device=at)
    masks = band_masks(n_bands, tuple(images.shape[-2:]))
    whole = (2 + len(PLAIN)) * len(images)
    given = whole + (0 if shown is None else 2 * len(shown.pictures))
    size = speed_of(asked, images, labels), len(images), n_bands, minutes, given
    own = "labels" in about
    other, why, planned = _beside(asked, reference, images, labels, own, size, whole, how, at)
    if how["progress"]:
        print(f"{name}: {planned}", file=sys.stderr, flush=True)
    sampled = {} if planned.passes is None else {"budget": planned.passes}
    explanation = explain(
        model, images, labels, masks=masks, device=device, seed=seed, **sampled, **how
    )
    psi = explanation.psi.value
    how["seed"] = seed
    met = images, labels, masks, int(psi.argmax()), planned
    clean, harms = hurt(model, *met, how)
    beside = None
    if other is not None:
        if reference is None:
            how["outputs"] = "logits"  # of those at hand
        beside = Reference(named(other), why, hurt(other, *met, how)[1])
    known = explanation.worths.provenance
    made = {
        "passes of the game": explanation.worths.forwards,
        "coalitions": "all" if planned.passes is None else "a sample",
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "seed": seed,
        "device": str(at),
        "image size": "x".join(map(str, images.shape[-2:])),
        "channels": images.shape[1],
        **{k: known[k] for k in ("model", "images", "precision", "engine") if k in known},
        "versions": f"iaside {_version()}, torch {torch.__version__}",
    }
    return Card(
        name,
        explanation,
        clean,
        harms,
        [*planned.left_out, *_of_colour(images.shape[1])],
        pictures_of(asked, images, labels, masks, psi, clean.log_likelihood),
        {**about, **made},
        beside,
        deployment=shown and deployed(asked, shown, images, clean, explanation.values, masks),
    )


def _beside(
    asked: Asked,
    reference: Model | Literal[False] | None,
    images: Tensor,
    labels: Tensor,
    own: bool,
    size: tuple,
    whole: int,
    how: Mapping,
    device: torch.device,
) -> tuple[Model | None, str, Plan]:
    """The network to compare with, and why it; None where there is none; and what is measured.

    own: whether the labels are the model's own answers;  size: what ``plan`` is told of the model;
    whole: passes of a network under all perturbations.
    """
    if reference is False:
        return None, "", plan(*size)
    outputs, why, other = how["outputs"], "as asked for", reference
    if reference is None:
        other, why = chosen(asked, images, None if own else labels)
        if other is None:
            planned = plan(*size)
            left_out = [*planned.left_out, f"No reference network: {why}."]
            return None, why, planned._replace(left_out=left_out)
        outputs, other = "logits", other.to(device)
    theirs = probe(other, images, labels, outputs=outputs, engine=how["engine"], device=device)
    speed = speed_of(theirs, images, labels)
    if reference is None:
        planned, fits = plan_beside(*size, speed, whole, named(other))
        return (other if fits else None), why, planned
    planned = plan(*size, speed, whole)
    return other, why, planned if speed.a_step else planned._replace(attacked=0)


def _of_colour(channels: int) -> list[str]:
    """What images of so many channels cannot meet, in a sentence."""
    names = [name for name, c in PLAIN.items() if c.source not in NOISES]
    whole = "left out: they are of colour pictures"
    return (
        []
        if channels in (1, 3)
        else [f"{', '.join(names)}: {whole}, these have {channels} channels."]
    )


def _version() -> str:
    import iaside

    return iaside.__version__
