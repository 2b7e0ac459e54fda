"""The study of mending: what each remedy does to trained networks, at deployments held out.

All arms begin with the same weights and make the same number of updates; most differ from one
deployment to the next in the band only, so that a network serves all deployments with one band.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from iaside.backend.device import pick_device
from iaside.estimate.shares import centroid, survival_per_image
from iaside.game.exact import coalition_passes, coalition_worths
from iaside.inputs.classifier import load_model
from iaside.inputs.folding import folded
from iaside.inputs.splits import stratified_order
from iaside.robustness.responses import response_passes, responses
from iaside.shapley import shapley_values
from iaside.spectral import band_masks
from iaside.tables import CLEAN, Condition, Responses
from iaside.training.data import load_data
from iaside.training.plans import BANDS, FACTORS
from iaside.training.profiles import settings_of
from iaside.training.remedies import ARMS, Diagnosis, Mending, arm_factors, arm_name, diagnose
from iaside.training.training import train_plan, training_passes


def fine_tunings(
    base: Mapping, start: str, tuning: Mapping, diagnoses: Sequence[Diagnosis]
) -> dict[str, dict]:
    """The networks that all arms need, name -> complete settings of a training from ``start``.

    base: settings of the training of the weights;  tuning: ``epochs``, ``lr`` and ``strengths``.
    """
    plain = _own(base) | {name: FACTORS[name] for name in ("noise", "fraction", "adversary")}
    plain |= {name: FACTORS[name] for name in ("penalty", "strength", "band")}
    plain |= {"epochs": tuning["epochs"], "lr": tuning["lr"], "schedule": "cosine"}
    plain |= {"every": 0, "warm_up": 0, "start": start}
    found = {}
    for diagnosis in diagnoses:
        for arm in ARMS:
            factors = arm_factors(arm, diagnosis, tuning["strengths"])
            found[arm_name(factors)] = plain | factors
    return found


def _own(base: Mapping) -> dict:
    return {k: v for k, v in base.items() if k not in ("key", "files", "plan")}


def mend_network(
    weights: str | os.PathLike,
    folder: str | os.PathLike,
    partial: str | os.PathLike,
    settings: Mapping,
    device: str = "auto",
    workers: object = None,
    progress: bool = True,
) -> Mending:
    """Diagnose one trained network at every deployment, fine-tune every arm, and ask all of them.

    weights: final.safetensors of a training, with its settings.json beside it;  folder: gets the
    fine-tuned networks (``train_plan``);  partial: keeps what a kill must not lose;  settings: of
    the section: deployments (corruption -> severity), n_images (for the diagnosis), n_judged
    (others, for the comparison), epochs, lr, strengths (remedy -> one), seed, precision, engine,
    batch_size.

    Errors: FileNotFoundError for weights that were not trained here; ValueError for fewer images
    held out than are asked for; those of ``train_plan`` and ``responses``.
    """
    weights, partial = Path(weights), Path(partial)
    base, device = settings_of(weights.parent), pick_device(device)
    data = load_data(base, settings["seed"])
    n, judged = settings["n_images"], settings["n_judged"]
    check_images_held(n, judged, len(data.held_labels))
    order = stratified_order(data.held_labels.tolist(), settings["seed"])[: n + judged]
    x, y = data.held_images[order].float() / 255, data.held_labels[order]
    conditions = [Condition(name, float(s)) for name, s in settings["deployments"].items()]

    def ask(path: Path) -> Responses:
        model = folded(load_model(path.parent.name, weights=path)).to(device)
        return _asked(model, x, y, conditions, settings, partial)

    was = ask(weights)
    worths = coalition_worths(
        folded(load_model(weights.parent.name, weights=weights)).to(device),
        x[:n],
        y[:n],
        band_masks(BANDS, tuple(x.shape[-2:])),
        precision=settings["precision"],
        batch_size=settings["batch_size"],
        resume=partial / "worths",
        progress=False,
        workers=1,
        engine=settings["engine"],
    )
    values = shapley_values(worths.table)
    rows = [was.row(c) for c in conditions]
    diagnoses = [
        diagnose(
            values, survival_per_image(was.partner_energy(c)[:, :n], was.change_energy[k][:, :n])
        )
        for c, k in zip(conditions, rows, strict=True)
    ]
    networks = fine_tunings(base, str(weights), settings, diagnoses)
    train_plan(
        networks,
        _own(base),
        folder,
        partial / "training",
        settings["seed"],
        str(device),
        workers,
        progress,
    )
    answers = {name: ask(Path(folder) / name / "final.safetensors") for name in networks}
    arms = [
        [arm_name(arm_factors(arm, found, settings["strengths"])) for found in diagnoses]
        for arm in ARMS
    ]

    def each(table: str, of: Responses) -> np.ndarray:
        return of.tables[table][[of.row(CLEAN), *rows], n:]

    passes = {
        name: training_passes(s, len(data.labels), len(data.held_labels))
        for name, s in networks.items()
    }
    change = was.change_energy[rows].sum(2)
    return Mending(
        conditions,
        *(
            np.stack([[each(t, answers[name]).astype(kind) for name in row] for row in arms])
            for t, kind in (("correct", bool), ("log_likelihood", np.float32))
        ),
        each("correct", was).astype(bool),
        each("log_likelihood", was).astype(np.float32),
        values.mean(1),
        *(np.stack([getattr(d, k) for d in diagnoses]) for k in ("survival", "damage")),
        *(np.array([getattr(d, k) for d in diagnoses]) for k in ("band", "elsewhere")),
        np.asarray(centroid(change.T / change.sum(1))),
        np.array([[passes[name] for name in row] for row in arms]),
        {
            "network": weights.parent.name,
            "architecture": base["architecture"],
            "seed": base["seed"],
            "images": base["images"],
            "n_images": n,
            "diagnosis_passes": coalition_passes(BANDS, n),
            "corrupted_as": was.corrupted_as(),
            "precision": settings["precision"],
            "device": device.type,
            "networks": list(networks),
        },
    )


def check_images_held(n: int, judged: int, held: int) -> None:
    """Refuse to diagnose and judge on more images than are held out."""
    if n + judged > held:
        raise ValueError(
            f"n_images={n} and n_judged={judged} are {n + judged} images, of which {held} are held "
            "out: take fewer"
        )


def _asked(model, x: Tensor, y: Tensor, conditions, settings: Mapping, partial: Path) -> Responses:
    return responses(
        model,
        x,
        y,
        conditions,
        band_masks(BANDS, tuple(x.shape[-2:])),
        seed=settings["seed"],
        precision=settings["precision"],
        batch_size=settings["batch_size"],
        resume=partial / "responses",
        cache=partial.parent,
        progress=False,
        workers=1,
        engine=settings["engine"],
    )


def most_fine_tunings(base: Mapping, tuning: Mapping) -> dict[str, dict]:
    """`fine_tunings` where no two deployments damage the same bands: as many as there can be."""
    bands = [(k % BANDS, BANDS - 1 - k % BANDS) for k in range(len(tuning["deployments"]))]
    found = [Diagnosis(*[np.zeros(BANDS)] * 3, *pair) for pair in bands]
    return fine_tunings(base, "", tuning, found)


def asking_passes(deployments: Mapping, n_images: int, asked: int, networks: int) -> int:
    """Images that ``mend_network`` shows networks besides the fine-tuning.

    n_images: of the diagnosis;  asked: all of them;  networks: that are fine-tuned.

    >>> asking_passes({"fog": 5}, n_images=10, asked=30, networks=9)
    3226
    """
    each = response_passes(dict.fromkeys(deployments, 1), asked)[0]
    return int((1 + networks) * each) + coalition_passes(BANDS, n_images)
