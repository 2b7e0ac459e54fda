"""Advice by rule: a sentence only where its number is clear, and the number in the sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iaside.card import record
from iaside.estimate.intervals import interval
from iaside.robustness.attacks import ATTACKS

if TYPE_CHECKING:
    from iaside.card.card import Card

# A claim on a remedy of ia.mend: what that calls it, what it is, and what it was compared with.
REMEDY = {
    "targeted_beats_generic": ("augmentation", "Noise in training", "PGD training"),
    "penalty_mends": (
        "penalty",
        "A penalty on the share of the input gradient",
        "no remedy and the same in another band",
    ),
}
NONE = "No advice can be given: no number below is clear enough with these pictures."


def advise(card: Card) -> list[str]:
    """Sentences that follow from a card; one that says so where none does.

    A sentence rests on an interval that does not hold zero. A remedy is named only where a study on
    record has shown it to help.
    """
    said = [
        _main_band(card),
        *_harmful_bands(card),
        _worst(card, False),
        _worst(card, True),
        _noise(card),
        _placed(card),
        remedy(card),
    ]
    return [sentence for sentence in said if sentence] or [NONE]


def where(card: Card, band: int) -> str:
    """Where a band lies, in cycles per image of the shorter side: "below 14 cycles per image"."""
    side = min(map(int, card.about["image size"].split("x")))
    width = side / 2 / len(card.explanation.values)
    low, high = round(band * width), round((band + 1) * width)
    return f"below {high} cycles per image" if band == 0 else f"{low} to {high} cycles per image"


def _main_band(card: Card) -> str:
    """The band with the largest value, where it leads the next one clearly."""
    values, psi = card.explanation.values, card.explanation.psi
    first, second = np.argsort(psi.value)[::-1][:2]
    lead = interval(values[[first, second]], lambda mean: mean[0] - mean[1])
    if not lead.low > 0:
        return ""
    shares = card.explanation.shares
    share = "" if shares is None else f", {shares[int(first)].limits('.0%')} of all it knows"
    return (
        f"Band {first} ({where(card, int(first))}) matters most: {psi[int(first)].limits()} nats"
        f"{share}; {lead.limits()} nats more than band {second}."
    )


def _harmful_bands(card: Card) -> list[str]:
    """Bands that make the model's answers worse."""
    psi = card.explanation.psi
    return [
        f"Band {k} ({where(card, k)}) misleads it: {psi[k].limits()} nats."
        for k in range(len(psi.value))
        if psi.high[k] < 0
    ]


def _worst(card: Card, attacks: bool) -> str:
    """The perturbation of whole pictures that costs most accuracy, attacks or what is none."""
    whole = [h for h in card.harms if h.condition.place < 0 and h.accuracy_lost.low > 0]
    whole = [h for h in whole if (h.condition.source in ATTACKS) == attacks]
    if not whole:
        return ""
    worst = max(whole, key=lambda h: h.accuracy_lost.value)
    which = "Under attack by" if attacks else "The largest loss, attacks apart, is under"
    return (
        f"{which} {worst.name}: {worst.accuracy_lost.limits('.0%')} of the pictures are no longer "
        "classified right."
    )


def _noise(card: Card) -> str:
    """The band in which noise of one energy costs most, where it leads the others clearly."""
    banded = [h for h in card.harms if h.condition.source == "white_noise"]
    rows = {h.condition.place: h.rows for h in banded if h.condition.place >= 0}
    if len(rows) < 2:
        return ""
    band = max(rows, key=lambda k: rows[k].mean())
    others = np.mean([lost for k, lost in rows.items() if k != band], 0)
    # The largest of M was looked for: an interval that holds for every one of them.
    lead = interval((rows[band] - others)[None], lambda mean: mean[0], 1 - 0.05 / len(rows))
    if not lead.low > 0:
        return ""
    return (
        f"Noise of one energy costs most in band {band} ({where(card, band)}): {lead.limits()} "
        "nats more than in the others on average."
    )


def _placed(card: Card) -> str:
    """What the deployment costs, measured; whether the profile foresaw it."""
    placed = card.deployment
    if placed is None or not placed.measured.low > 0:
        return ""
    said = "as its profile predicts"
    if placed.measured.low > placed.predicted.high:
        said = "more than its profile predicts"
    elif placed.measured.high < placed.predicted.low:
        said = "less than its profile predicts"
    what = "it loses" if placed.labelled or placed.paired else "its confidence falls by"
    return (
        f"In the deployment {placed.name} {what} {placed.measured.limits()} nats "
        f"({placed.n} pictures), {said} ({placed.predicted.limits()})."
    )


def remedy(card: Card) -> str:
    """What helps in a deployment that costs clearly, where a study of like networks has shown it:
    in the band that it damages most, by the rule of ``ia.mend``."""
    placed, shown = card.deployment, record.helping(card)
    if placed is None or not placed.measured.low > 0 or not shown:
        return ""
    damage = (1 - placed.survival) * card.explanation.psi.value.clip(0)
    band, best = int(damage.argmax()), max(shown, key=lambda row: float(row["low"]))
    name, what, against = REMEDY[best["claim"]]
    value, low, high = (f"{float(best[end]):.1%}" for end in ("value", "low", "high"))
    return (
        f"{what} in band {band} ({where(card, band)}), which {placed.name} damages most, is the "
        f"remedy that has been shown to help, by {value} [{low}, {high}] of accuracy over "
        f"{against} ({best['n']} trainings, {best['data']}): "
        f'ia.mend(..., remedy="{name}").'
    )
