"""What perturbations cost a model: noise, blur, corruptions, low light, attacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from iaside.backend.content import by_content
from iaside.card.budget import Plan
from iaside.estimate.estimate import Estimate
from iaside.robustness.measures import image_rows, measure
from iaside.robustness.noise import NOISES
from iaside.robustness.responses import responses
from iaside.tables import CLEAN, CLEAN_CUT, Condition, Responses

# What a card tries, in the order of the page: name, condition. Strengths that photographs meet.
# Corruptions know colour pictures only.
PLAIN = {
    "white noise, sd 0.1": Condition("white_noise", 0.1),
    "blur, 5 pixels": Condition("gaussian_blur", 5),
    "low light": Condition("low_light", 3),
    "JPEG": Condition("jpeg_compression", 3),
    "low contrast": Condition("contrast", 3),
    "fog": Condition("fog", 3),
}
ATTACK = {"PGD, 2/255": Condition("pgd", 2 / 255)}
BAND_NOISE = 8 / 255  # root mean square of noise that is confined to one band
BAND_ATTACK = 2 / 255  # and of an attack


@by_content
class Harm(NamedTuple):
    """What one perturbation costs: of accuracy, of log-likelihood (nats), with limits.

    rows: (N,) nats that every photograph loses; right: (N,) whether it is classified right then.
    NaN where it was not attacked, or an attack had no usable gradient.
    """

    name: str
    condition: Condition
    accuracy_lost: Estimate
    nats_lost: Estimate
    rows: np.ndarray
    right: np.ndarray

    def to_dict(self) -> dict:
        """Its numbers as JSON takes them."""
        return {
            "name": self.name,
            "accuracy_lost": self.accuracy_lost.as_dict(),
            "nats_lost": self.nats_lost.as_dict(),
        }


@by_content
class Clean(NamedTuple):
    """Answers to the photographs as they are, (N,) each: whether they are right, log-likelihood of
    the label (nats), confidence (the largest probability)."""

    right: np.ndarray
    log_likelihood: np.ndarray
    confidence: np.ndarray


def hurt(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    masks: Tensor,
    strongest: int,
    planned: Plan,
    how: Mapping,
) -> tuple[Clean, list[Harm]]:
    """Ask a model under all that is planned; attacks: all pixels, and its strongest band."""
    bands = range(len(masks)) if planned.in_bands else []
    own = [c for c in PLAIN.values() if c.source in NOISES]
    own += [Condition("white_noise", BAND_NOISE, k) for k in bands]
    of_colour = [c for c in PLAIN.values() if c.source not in NOISES]
    if images.shape[1] == 3:
        own, of_colour = own + of_colour, []
    found = [responses(model, images, labels, own, masks, **how)]
    if of_colour and images.shape[1] == 1:  # a grey picture is a colour one of equal channels
        as_colour = images.expand(-1, 3, -1, -1).contiguous()
        found.append(
            responses(
                lambda x: model(x.mean(1, keepdim=True)), as_colour, labels, of_colour, masks, **how
            )
        )
    if planned.attacked:
        attacks = [*ATTACK.values(), Condition("pgd", BAND_ATTACK, strongest)]
        few = slice(planned.attacked)
        how = {**how, "engine": "torch"}  # whose gradients are asked
        found.append(responses(model, images[few], labels[few], attacks, masks, **how))
    names = ("correct", "log_likelihood", "confidence")
    clean = Clean(*(found[0].tables[name][found[0].row(CLEAN)] for name in names))
    harms = {h.condition: h for r in found for h in _harms(r, len(images))}
    order = [*PLAIN.values(), *(c for c in harms if c not in PLAIN.values())]
    return clean, [harms[c] for c in order if c in harms]


def _harms(r: Responses, n: int) -> list[Harm]:
    named = {condition: name for name, condition in (PLAIN | ATTACK).items()}
    harms = []
    for condition in r.conditions:
        if condition in (CLEAN, CLEAN_CUT):
            continue
        kind = "noise" if condition.source == "white_noise" else "PGD"
        name = named.get(condition) or f"{kind} in band {condition.place}"
        lost = (measure(r, what, condition) for what in ("accuracy drop", "loss in nats"))
        rows = image_rows(r, "loss in nats", condition)[0], r.tables["correct"][r.row(condition)]
        harms.append(Harm(name, condition, *lost, *(_of_all(row, n) for row in rows)))
    return harms


def _of_all(row: np.ndarray, n: int) -> np.ndarray:
    """A row of the first pictures, NaN for those after them."""
    return np.concatenate([row, np.full(n - len(row), np.nan)])


def both(first: Sequence[float], second: Sequence[float]) -> np.ndarray:
    """Rows of two models (2, n) of the photographs that both were asked about."""
    rows = np.stack([first, second])
    return rows[:, ~np.isnan(rows).any(0)]
