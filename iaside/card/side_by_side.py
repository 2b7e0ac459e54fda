"""What the page of several models shows: what differs first, then the numbers beside each other."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from iaside import plots
from iaside.card import markup
from iaside.card.advice import where
from iaside.card.page import NAT, densities, deployment_lines, harms_note, limits

if TYPE_CHECKING:
    from iaside.card.several import Cards


def body(cards: Cards) -> str:
    n, than = cards.first.explanation.psi.n, cards.first.name
    parts = [
        markup.heading(
            cards.title,
            f"{len(cards.cards)} models on the same {n} photographs: {_letters(cards)}. "
            f"Differences are from {than}, photograph by photograph, with 95 % intervals.",
        ),
        markup.section("What differs", markup.sentences(cards.advice), markup.note(NAT)),
        markup.section("What was tested", _tested(cards)),
        markup.section("By which frequencies they decide", _profiles(cards)),
        markup.section("What hurts them", _harms(cards)),
    ]
    if cards.first.deployment is not None:
        parts.append(
            markup.section(f"In the deployment {cards.first.deployment.name}", _deployment(cards))
        )
    return "".join([*parts, markup.section("Settings", _settings(cards))])


LETTERS = string.ascii_uppercase


def _letters(cards: Cards) -> str:
    return ", ".join(f"{a} is {name}" for a, name in zip(LETTERS, cards.cards, strict=False))


def _minus(cards: Cards) -> list[str]:
    return [f"{LETTERS[k]} - A" for k in range(1, len(cards.cards))]


def _tested(cards: Cards) -> str:
    differences = cards.differences.values()
    about = [card.explanation.worths.provenance["clean"] for card in cards.cards.values()]
    scores = [card.explanation.src("signed") for card in cards.cards.values()]
    rows = [
        ["top-1", *(f"{a['correct']:g} of {a['n']}" for a in about)]
        + [limits(d.accuracy, ".0%") for d in differences],
        ["log-likelihood (nats)", *(f"{a['log_likelihood']:.2f}" for a in about)]
        + [limits(d.log_likelihood) for d in differences],
        ["signed score", *(limits(s) or "not given" for s in scores)]
        + [limits(d.score) or "not given" for d in differences],
    ]
    return markup.table(["", *LETTERS[: len(cards.cards)], *_minus(cards)], rows)


def _profiles(cards: Cards) -> str:
    frames = [c.explanation.to_frame().assign(model="", network=n) for n, c in cards.cards.items()]
    figure = Figure(figsize=(7, 2.9), layout="constrained")
    plots.importance(pd.concat(frames), "psi", hue="network", ax=figure.subplots())
    strongest = [int(c.explanation.psi.value.argmax()) for c in cards.cards.values()]
    alt = "Shapley value of each band with 95 % intervals, side by side. " + " ".join(
        f"{name}: the largest is band {k}, {card.explanation.psi[k].limits()} nats."
        for (name, card), k in zip(cards.cards.items(), strongest, strict=True)
    )
    rows = [
        [f"{k}: {where(cards.first, k)}"]
        + [limits(d.psi[k]) + (" *" if k in d.clear else "") for d in cards.differences.values()]
        for k in range(len(cards.first.explanation.values))
    ]
    sizes = {card.about["image size"] for card in cards.cards.values()}
    said = "Nats. * differs clearly, with limits that hold for all bands at once."
    if len(sizes) > 1:
        said += (
            f" The networks take images of {', '.join(sorted(sizes))} pixels: a band is a part of "
            f"each one's own spectrum; the frequencies named are those of {cards.first.name}."
        )
    bands = markup.table(["band", *_minus(cards)], rows)
    return markup.figures((figure, alt)) + bands + markup.note(said)


def _harms(cards: Cards) -> str:
    lost = {n: {h.name: h.nats_lost for h in c.harms} for n, c in cards.cards.items()}
    names = dict.fromkeys(name for harms in lost.values() for name in harms)
    rows = []
    for harm in names:
        found = [d.harms.get(harm) for d in cards.differences.values()]
        rows.append(
            [harm, *(limits(harms.get(harm)) for harms in lost.values())]
            + [cell for one in found for cell in _pair(one)]
        )
    head = [f"{a}: nats lost" for a in LETTERS[: len(cards.cards)]]
    head += [cell for m in _minus(cards) for cell in (f"{m}: nats lost", f"{m}: accuracy then")]
    left_out = dict.fromkeys(harms_note(card) for card in cards.cards.values())
    return markup.table(["", *head], rows) + markup.note(" ".join(left_out))


def _pair(found) -> list[str]:
    return ["", ""] if found is None else [limits(found[0]), limits(found[1], ".0%")]


def _deployment(cards: Cards) -> str:
    lines = [
        f"{name}: {line}"
        for name, card in cards.cards.items()
        for line in deployment_lines(card.deployment)
    ]
    lines += [
        f"{name} loses {limits(d.deployment)} nats more than {cards.first.name}."
        for name, d in cards.differences.items()
        if d.deployment is not None
    ]
    drawn = densities(cards.first.deployment)
    return "".join(map(markup.paragraph, lines)) + markup.figures(drawn)


def _settings(cards: Cards) -> str:
    about = [card.about for card in cards.cards.values()]
    keys = dict.fromkeys(key for each in about for key in each)
    rows = []
    for key in keys:
        values = [str(each.get(key, "")) for each in about]
        same = len(set(values)) == 1
        each = (f"{a}: {value}" for a, value in zip(LETTERS, values, strict=False))
        rows.append([key, values[0] if same else "; ".join(each)])
    return markup.table(["", ""], rows, "settings")
