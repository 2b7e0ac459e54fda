"""What the page of one model shows, answer first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from iaside.card import markup
from iaside.card.advice import remedy, where
from iaside.card.deployment import PAIRED
from iaside.card.harms import ATTACK, Harm
from iaside.card.record import helping, placed
from iaside.robustness.corruptions import SETS, strengths_for

if TYPE_CHECKING:
    from iaside.card.card import Card
    from iaside.card.deployment import Deployment
    from iaside.estimate.estimate import Estimate

ONE_SCORE = (
    "A score alone says little: over the 28 CIFAR-10 networks on record a higher one went with "
    "more corruption error, not less."
)
NAT = "A nat lost: the probability of the right class falls to 37 % of what it was."
NO_REMEDY = "No remedy is named: which one helps such a network has not been shown."
NOT_ASKED = "No remedy is named: there is no deployment that clearly costs."


def body(card: Card) -> str:
    parts = [
        markup.heading(card.name, card.what_was_tested),
        markup.section(
            "What follows", markup.sentences(card.advice), markup.note(f"{NAT} {_remedy(card)}")
        ),
        markup.section("By which frequencies it decides", _profile(card)),
        markup.section("One photograph, in bands", _pictures(card)),
        markup.section("What hurts it", _harms(card)),
    ]
    if card.deployment is not None:
        parts.append(markup.section(f"In the deployment {card.deployment.name}", _deployment(card)))
    return "".join([*parts, markup.section("Settings", settings(card.about))])


def _remedy(card: Card) -> str:
    """Why no remedy is named, where none is."""
    if not helping(card):
        return NO_REMEDY
    return "" if remedy(card) else NOT_ASKED


def _profile(card: Card) -> str:
    e = card.explanation
    score = e.src("signed")
    strongest, weakest = int(e.psi.value.argmax()), int(e.psi.value.argmin())
    alt = (
        f"Shapley value of each band with 95 % intervals; the largest, {e.psi[strongest].limits()} "
        f"nats, has band {strongest}, {where(card, strongest)}."
    )
    drawn = [(_drawn(card, "psi"), alt)]
    if e.sid is not None:
        alt = f"Share of each band above the weakest (SID), {e.sid[strongest].limits()} of band "
        drawn.append((_drawn(card, "sid"), f"{alt}{strongest}."))
    bands = (
        f"Strongest: band {strongest} ({where(card, strongest)}), {e.psi[strongest].limits()} "
        f"nats; weakest: band {weakest} ({where(card, weakest)}), {e.psi[weakest].limits()} nats "
        f"(Shapley values, {e.psi.n} photographs)."
    )
    text = "SID and score are not given: these are too few pictures to tell the weakest band."
    if score is not None:
        text = f"Signed spectral robustness score {score.limits()}. {placed(card)} {ONE_SCORE}"
    return markup.figures(*drawn) + markup.paragraph(bands) + markup.paragraph(text)


def _drawn(card: Card, kind: str) -> Figure:
    figure = Figure(figsize=(5, 2.7), layout="constrained")
    card.explanation.plot(kind, figure.subplots())
    return figure


def _pictures(card: Card) -> str:
    shown = "".join(
        markup.picture(p.pixels, f"{p.title}: confidence in its class {p.confidence:.0%}")
        for p in card.pictures
    )
    channels = card.about.get("channels", 3)
    of_mean = markup.note(f"Shown is the mean of the {channels} channels.")
    return f'<div class="pictures">{shown}</div>{"" if channels in (1, 3) else of_mean}'


def _harms(card: Card) -> str:
    from iaside.card.card import beside_reference

    beside = beside_reference(card)
    head = ["", "pictures no longer right", "log-likelihood lost (nats)"]
    if beside:
        head.append(f"more than {card.reference.name} (nats)")
    more = {h.name: [limits(beside.get(h.name))] if beside else [] for h in card.harms}
    rows = [[h.name, *_lost(h), *more[h.name]] for h in card.harms]
    return markup.table(head, rows) + markup.note(harms_note(card))


def harms_note(card: Card) -> str:
    """How the harms were measured, and what was left out."""
    strengths = SETS[strengths_for(*map(int, card.about["image size"].split("x")))]
    said = [f"{card.explanation.psi.n} photographs; 95 % intervals over them."]
    if card.reference is not None:
        said.append(f"Beside it {card.reference.name}: {card.reference.why}.")
    if attacked := [h for h in card.harms if h.condition in ATTACK.values()]:
        said.append(f"Attacks: {attacked[0].nats_lost.n} of them.")
    said.append(f"JPEG, contrast and fog: severity 3 of {strengths}; low light: of 3DCC.")
    return " ".join([*said, *card.left_out])


def _lost(harm: Harm) -> list[str]:
    return [limits(harm.accuracy_lost, ".0%"), limits(harm.nats_lost)]


def limits(estimate: Estimate | None, spec: str = ".2f") -> str:
    return "" if estimate is None else estimate.limits(f"z{spec}")  # z: no -0.00


def _deployment(card: Card) -> str:
    there = card.deployment
    kept = there.survival.clip(0, 1)  # an estimate of 100 % lies above it about as often as below
    rows = [[f"{k}: {where(card, k)}", f"{share:.0%}"] for k, share in enumerate(kept)]
    return "".join(
        [
            *(markup.paragraph(line) for line in deployment_lines(there)),
            markup.figures(densities(there)),
            markup.table(["band", "share that survives"], rows),
        ]
    )


def deployment_lines(there: Deployment) -> list[str]:
    """What was foreseen and measured in a deployment, and of what."""
    if there.paired:
        what = f"measured on {there.n} pairs of pictures ({PAIRED})"
        how = ""
    else:
        what = f"measured on {there.n} pictures there against the clean ones ({there.what})"
        how = (
            " These are other photographs: the difference is also that of what they show. The "
            "prediction takes what a band has more for noise and what it has less for blur, less "
            "what other photographs of the same kind differ by; it does not see noise in the place "
            "of what was blurred."
        )
    measured = f"Predicted from the spectra: {there.predicted.limits()} nats lost; {what}: "
    lines = [f"{measured}{there.measured.limits()} nats.{how}"]
    if there.labelled:
        lines.append(f"Accuracy lost: {there.accuracy_lost.limits('.0%')}.")
    return lines


def densities(there: Deployment) -> tuple[Figure, str]:
    """The energy spectral density of clean and of degraded pictures, drawn and in words."""
    figure = Figure(figsize=(5, 2.7), layout="constrained")
    axis = figure.subplots()
    frequencies = np.arange(1, there.densities.shape[1])
    for density, label in zip(there.densities, ("clean pictures", there.name), strict=True):
        axis.plot(frequencies, density[1:], label=label)
    axis.set(xscale="log", yscale="log", xlabel="cycles per image", ylabel="energy density")
    axis.legend()
    clean, degraded = there.densities[:, -1]
    return figure, (
        f"Energy spectral density against frequency, of clean pictures and of {there.name}: at the "
        f"highest frequencies {degraded:.2g} there and {clean:.2g} clean."
    )


def settings(about: dict) -> str:
    return markup.table(["", ""], [[key, str(value)] for key, value in about.items()], "settings")
