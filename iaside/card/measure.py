"""What a card says of a model, measured: its profile, what hurts it, a deployment, advice."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iaside.backend.content import by_content
from iaside.backend.device import device_of
from iaside.backend.files import write_text
from iaside.backend.precision import undisturbed
from iaside.card.advice import advise
from iaside.estimate.clean import clean_line
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import interval
from iaside.explanation import Explanation, explain
from iaside.game.exact import coalition_images
from iaside.game.surrogate import passes_per_image
from iaside.inputs.asked import Asked
from iaside.inputs.checks import check_images
from iaside.inputs.images import load_pairs
from iaside.inputs.probe import probe
from iaside.robustness.attacks import has_torchattacks
from iaside.robustness.measures import image_rows, measure, predicted_losses, survival_per_image
from iaside.robustness.responses import responses
from iaside.spectral import band_energy, band_masks
from iaside.tables import CLEAN, Condition, Responses

# What a card tries, in the order of the page: name, condition. Strengths that photographs meet.
PLAIN = {
    "white noise, sd 0.1": Condition("white_noise", 0.1),
    "blur, 5 pixels": Condition("gaussian_blur", 5),
    "JPEG, quality 15": Condition("jpeg_compression", 3),
    "low contrast": Condition("contrast", 3),
    "fog": Condition("fog", 3),
}
ATTACK = {"PGD, 2/255": Condition("pgd", 2 / 255)}
BAND_NOISE = 8 / 255  # root mean square of noise that is confined to one band
MINUTES = 5.0
SHARE_OF_GAME = 0.6  # of the budget; the rest is for what hurts
N_ATTACK = 20  # photographs that are attacked: a step costs three passes


@by_content
class Harm(NamedTuple):
    """What one perturbation costs: of accuracy, of log-likelihood (nats), with limits.

    rows: (N,) nats that every photograph loses, NaN where an attack had no usable gradient.
    """

    name: str
    condition: Condition
    accuracy_lost: Estimate
    nats_lost: Estimate
    rows: np.ndarray


@by_content
class Picture(NamedTuple):
    """A photograph with some bands left, (H, W, 3) uint8, and the confidence in its class."""

    title: str
    pixels: np.ndarray
    confidence: float


@by_content
class Deployment(NamedTuple):
    """What a deployment does to the spectrum, and to the model as its profile predicts it."""

    name: str
    n: int
    survival: np.ndarray  # (M,) share of each band that survives
    predicted: Estimate  # nats
    measured: Estimate  # nats, of the class that the model gives to the clean photograph


@dataclass(eq=False)
class Card:
    """One model's frequency profile, what hurts it and what follows, as a page.

    explanation: values, SID and score with intervals; harms: under perturbations; pictures: one
    photograph in bands; deployment: of ``report(deployment=...)``; advice: sentences, each with
    the number it rests on; about: settings, versions and hashes.

    ``str(card)`` is the summary, ``card.save("card.html")`` the page, in Jupyter it shows itself.
    """

    name: str
    explanation: Explanation
    harms: list[Harm]
    pictures: list[Picture]
    about: dict
    reference: Card | None = None
    deployment: Deployment | None = None
    advice: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.advice = advise(self)

    @property
    def what_was_tested(self) -> str:
        """Classes, n, top-1 with its interval, log-likelihood beside that of guessing."""
        return clean_line(self.explanation.worths.provenance).replace("\n", " ")

    def to_dict(self) -> dict:
        """All numbers as JSON takes them."""
        bands = self.explanation.to_frame().replace({np.nan: None})
        score = self.explanation.src("signed")
        placed = self.deployment
        return {
            "name": self.name,
            "tested": self.what_was_tested,
            "bands": bands.to_dict("records"),
            "signed_score": score and score.as_dict(),
            "harms": [
                {
                    "name": harm.name,
                    "accuracy_lost": harm.accuracy_lost.as_dict(),
                    "nats_lost": harm.nats_lost.as_dict(),
                }
                for harm in self.harms
            ],
            "deployment": placed
            and {
                "name": placed.name,
                "n": placed.n,
                "survival": placed.survival.tolist(),
                "predicted": placed.predicted.as_dict(),
                "measured": placed.measured.as_dict(),
            },
            "reference": self.reference and self.reference.to_dict(),
            "advice": self.advice,
            "about": self.about,
        }

    def to_html(self) -> str:
        """The page, complete in itself: no script, nothing from elsewhere."""
        from iaside.card.page import page

        return page(self)

    def save(self, path: str | os.PathLike) -> None:
        """Write the page (.html) or the numbers (.json), whole or not at all."""
        path = Path(path)
        if path.suffix not in (".html", ".json"):
            raise ValueError(f"a card is saved as .html or .json, not {path.name!r}")
        as_json = json.dumps(self.to_dict(), indent=1) + "\n"
        write_text(path, self.to_html() if path.suffix == ".html" else as_json)

    def _repr_html_(self) -> str:
        from iaside.card.page import body, style

        return f'<div class="iaside-card">{style()}{body(self)}</div>'

    def __str__(self) -> str:
        lines = [self.name, self.what_was_tested, str(self.explanation), *self.advice]
        return "\n".join(lines)


@undisturbed
def report(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor | None = None,
    *,
    name: str | None = None,
    n_bands: int = 8,
    reference: Callable[[Tensor], Tensor] | None = None,
    deployment: str | os.PathLike | None = None,
    budget: float = MINUTES,
    outputs: str = "logits",
    engine: str = "torch",
    device: str | torch.device | None = None,
    seed: int = 0,
    resume: str | os.PathLike | None = None,
    progress: bool = True,
    about: Mapping | None = None,
) -> Card:
    """Test a model on images and write down by which frequencies it decides and what hurts it.

    Shapes: images (N, C, H, W) in [0, 1]; labels (N,) class indices, or None for the classes that
    the model gives to the clean images, which the card says.
    name: what the page calls the model;  reference: another model of the same classes and image
    size, tested on the same images;  deployment: a folder with clean/ and degraded/ pictures of
    equal names;  budget: minutes that it may take, by a timing of a few passes: where all
    2**n_bands coalitions do not fit in it, coalitions are sampled;  outputs, engine, device, seed,
    resume, progress: as in ``explain``;  about: what else the settings of the page shall say.

    Attacks are made where the model gives gradients, and left out where not, which the card says.
    Errors: those of ``explain`` and ``perturb``; ValueError for a budget in which each image cannot
    have one round of coalitions.
    Source: the profile as in Luo et al. 2024; advice by rule (``card.advice``).

    >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1)
    >>> images = torch.rand(9, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> card = report(brightness, images, torch.zeros(9).long(), n_bands=3, progress=False)
    >>> len(card.harms) > 5, card.advice[0].partition(":")[0]
    (True, 'Band 0 (below 5 cycles per image) matters most')
    """
    images = check_images(images)
    settings = dict(about or {})
    if labels is None:
        labels = predicted(model, images, outputs)
        settings["labels"] = "the classes that the model itself gives to the clean pictures"
    asked = probe(model, images, labels, outputs=outputs)
    masks = band_masks(n_bands, tuple(images.shape[-2:]))
    name = name or getattr(model, "name", None) or type(model).__name__
    start = time.perf_counter()
    passes = _passes(asked, images, n_bands, budget)
    how = {"outputs": outputs, "engine": engine, "resume": resume, "progress": progress}
    sampled = {} if passes is None else {"budget": passes}
    explanation = explain(
        model, images, labels, masks=masks, device=device, seed=seed, **sampled, **how
    )
    answers = _hurt(model, images, labels, masks, explanation, seed, how)
    card = Card(
        name,
        explanation,
        _harms(answers),
        _pictures(asked, images, labels, masks, explanation),
        settings
        | {
            "passes of the game": explanation.worths.forwards,
            "coalitions": "all" if passes is None else "a sample",
            "minutes": round((time.perf_counter() - start) / 60, 1),
            "seed": seed,
            "device": str(device_of(model, device)),
            "image size": "x".join(map(str, images.shape[-2:])),
            **{
                key: explanation.worths.provenance[key]
                for key in ("model", "images", "precision", "engine")
                if key in explanation.worths.provenance
            },
        },
        deployment=None
        if deployment is None
        else _deployed(asked, deployment, tuple(images.shape[-2:]), masks, explanation),
    )
    if reference is not None:
        card.reference = report(
            reference, images, labels, n_bands=n_bands, budget=budget, outputs=outputs,
            engine=engine, device=device, seed=seed, resume=resume, progress=progress,
        )  # fmt: skip
    return card


def predicted(model: Callable[[Tensor], Tensor], images: Tensor, outputs: str = "logits") -> Tensor:
    """The class that a model gives to each image, (N,)."""
    return _answers(probe(model, images, None, outputs=outputs), images).argmax(1)


def _passes(asked: Asked, images: Tensor, n_bands: int, minutes: float) -> int | None:
    """Passes that the game may take in its share of the budget; None where all coalitions fit."""
    batch = images[: min(8, len(images))]
    _answers(asked, batch)
    start = time.perf_counter()
    _answers(asked, batch)
    seconds = (time.perf_counter() - start) / len(batch)
    may = int(SHARE_OF_GAME * 60 * minutes / seconds)
    if may >= 2**n_bands * len(images):
        return None
    least = passes_per_image(n_bands) * len(images)
    if may < least:
        needed = least * seconds / 60 / SHARE_OF_GAME
        raise ValueError(
            f"budget={minutes:g} minutes are too few: a pass takes {seconds:.2g} s here, and "
            f"{len(images)} images with one round of coalitions each {needed:.1f} minutes; give "
            "these, or fewer images"
        )
    return may


def _answers(asked: Asked, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([asked(part) for part in images.split(8)])


def _hurt(model, images, labels, masks, explanation, seed: int, how: Mapping) -> list[Responses]:
    """Answers under what is in a card: noise, corruptions, noise in each band; attacks, if any."""
    confined = [Condition("white_noise", BAND_NOISE, k) for k in range(len(masks))]
    conditions = [c for c in PLAIN.values() if c.source in _NOISE or images.shape[1] == 3]
    how = {k: how[k] for k in ("outputs", "progress", "resume")} | {"seed": seed}
    answers = [responses(model, images, labels, [*conditions, *confined], masks, **how)]
    strongest = int(explanation.psi.value.argmax())
    attacks = [Condition("pgd", BAND_NOISE / 4, strongest)]
    if has_torchattacks():
        attacks = [*ATTACK.values(), *attacks]
    few = slice(N_ATTACK)
    try:
        answers.append(responses(model, images[few], labels[few], attacks, masks, **how))
    except (ValueError, RuntimeError) as error:
        if "gradient" not in str(error):
            raise
    return answers


_NOISE = ("white_noise", "gaussian_blur")  # made of tensors: for images of any number of channels


def _harms(answers: Sequence[Responses]) -> list[Harm]:
    named = {condition: name for name, condition in (PLAIN | ATTACK).items()}
    harms = []
    for r in answers:
        for condition in r.conditions:
            if condition == CLEAN or condition.source == "clean_cut":
                continue
            kind = "noise" if condition.source == "white_noise" else "PGD"
            name = named.get(condition) or f"{kind} in band {condition.place} only"
            lost = (measure(r, what, condition) for what in ("accuracy drop", "loss in nats"))
            rows = image_rows(r, "loss in nats", condition)[0]
            harms.append(Harm(name, condition, *lost, rows))
    return harms


def _pictures(asked, images, labels, masks, explanation: Explanation) -> list[Picture]:
    """One photograph: whole, low, middle and high bands of it, and with its main band alone."""
    log_p = np.asarray(explanation.worths.table[-1] if hasattr(explanation.worths, "table") else 0)
    order = np.argsort(log_p) if log_p.ndim else np.arange(len(images))
    k = int(order[len(order) // 2])
    m, psi = len(masks), explanation.psi.value
    third = max(1, m // 3)
    kept = {
        "as it is": range(m),
        f"low-pass: bands 0 to {third - 1}": range(third),
        f"band-pass: bands {third} to {m - third - 1}": range(third, m - third),
        f"high-pass: bands {m - third} to {m - 1}": range(m - third, m),
        f"strongest band alone: {psi.argmax()}": [int(psi.argmax())],
        f"without the strongest band: {psi.argmax()}": [j for j in range(m) if j != psi.argmax()],
    }
    members = np.array([np.isin(np.arange(m), list(bands)) for bands in kept.values()])
    shown = coalition_images(images[k : k + 1], masks, members)[:, 0]
    sure = _answers(asked, shown).softmax(1)[:, int(labels[k])]
    # Without the lowest band a picture is faint and around zero: shown on grey, as strong as it can
    centred = [
        x if members[i, 0] else 0.5 + x / (2 * x.abs().max().clamp(min=1e-6))
        for i, x in enumerate(shown)
    ]
    pixels = [(x.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy() for x in centred]
    pixels = [np.repeat(p, 3, 2) if p.shape[2] == 1 else p for p in pixels]
    return [Picture(t, p, float(c)) for t, p, c in zip(kept, pixels, sure, strict=True)]


def _deployed(asked, folder, size: tuple[int, int], masks, explanation) -> Deployment:
    """Predicted from the spectra, measured by the class that each clean photograph is given."""
    clean, degraded = load_pairs(folder, size)
    energy = band_energy(clean, masks).numpy(), band_energy(degraded - clean, masks).numpy()
    survival = survival_per_image(*energy)
    before, after = (_answers(asked, x).log_softmax(1) for x in (clean, degraded))
    given = before.argmax(1, keepdim=True)
    lost = (before.gather(1, given) - after.gather(1, given))[:, 0].double().numpy()
    resampled = predicted_losses(
        explanation.values,
        np.broadcast_to(survival.mean(-1)[None, :, None], (1, *explanation.values.shape)),
    )[0]
    low, high = np.quantile(resampled[1:], [0.025, 0.975])
    predicted = Estimate(
        resampled[0], resampled[1:].std(ddof=1), low, high, explanation.psi.n, "photographs"
    )
    measured = interval(lost[None], lambda mean: mean[0])
    return Deployment(Path(folder).name, len(clean), survival.mean(-1), predicted, measured)


def beside_reference(card: Card) -> dict[str, Estimate]:
    """By how many nats the model loses more than its reference on the same photographs."""
    other = {} if card.reference is None else {harm.name: harm for harm in card.reference.harms}
    return {
        harm.name: interval((harm.rows - other[harm.name].rows)[None], lambda mean: mean[0])
        for harm in card.harms
        if harm.name in other and len(harm.rows) == len(other[harm.name].rows)
    }
