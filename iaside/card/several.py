"""Several models on the same photographs: how each differs from the first, in pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from iaside.backend.content import by_content
from iaside.card.advice import where
from iaside.card.card import Card, Written
from iaside.card.deployment import Deployment
from iaside.card.harms import both
from iaside.estimate.accuracy import accuracy_difference
from iaside.estimate.estimate import Estimate
from iaside.estimate.intervals import at_levels, interval
from iaside.estimate.unpaired import unpaired_difference
from iaside.explanation import compare

ALIKE = "No difference is clear with these pictures."


@by_content
class Difference(NamedTuple):
    """What one model has more than the first, picture by picture, with 95 % limits.

    accuracy, log_likelihood (nats): on the photographs as they are;  psi: (M,) nats, and clear:
    the bands in which it differs with limits that hold for all of them at once, as estimates with
    these limits;  score: signed SRC, None where one of the two has none;  harms: name -> nats lost
    more, and accuracy under it;  deployment: nats lost more there.
    """

    accuracy: Estimate
    log_likelihood: Estimate
    psi: Estimate
    clear: dict[int, Estimate]
    score: Estimate | None
    harms: dict[str, tuple[Estimate, Estimate]]
    deployment: Estimate | None


@dataclass(eq=False)
class Cards(Written):
    """Cards of several models on the same photographs, as one page of differences from the first.

    cards: name -> card; differences: name -> ``Difference`` from the first model; advice:
    sentences, each with the number it rests on.

    ``str(cards)`` is the summary, ``cards.save("cards.html")`` the page.
    """

    cards: dict[str, Card]
    differences: dict[str, Difference] = field(init=False)
    advice: list[str] = field(init=False)

    def __post_init__(self) -> None:
        first, *others = self.cards.values()
        n = len(others)
        self.differences = {other.name: difference(other, first, n) for other in others}
        self.advice = [
            sentence
            for other in others
            for sentence in _said(other, first, self.differences[other.name], n)
        ] or [ALIKE]

    @property
    def first(self) -> Card:
        """The model that the others are compared with."""
        return next(iter(self.cards.values()))

    @property
    def title(self) -> str:
        return " and ".join(self.cards)

    def to_dict(self) -> dict:
        """All numbers as JSON takes them."""
        return {
            "cards": {name: card.to_dict() for name, card in self.cards.items()},
            "first": self.first.name,
            "differences": {
                name: {
                    "accuracy": d.accuracy.as_dict(),
                    "log_likelihood": d.log_likelihood.as_dict(),
                    "psi": d.psi.as_dict(),
                    "score": d.score and d.score.as_dict(),
                    "harms": {
                        harm: {"nats": nats.as_dict(), "accuracy": accuracy.as_dict()}
                        for harm, (nats, accuracy) in d.harms.items()
                    },
                    "deployment": d.deployment and d.deployment.as_dict(),
                }
                for name, d in self.differences.items()
            },
            "advice": self.advice,
        }

    def body(self) -> str:
        from iaside.card.side_by_side import body

        return body(self)

    def __str__(self) -> str:
        tested = (f"{card.name}: {card.what_was_tested}" for card in self.cards.values())
        return "\n".join([*tested, *self.advice])


def difference(card: Card, first: Card, n_others: int = 1) -> Difference:
    """How a model differs from the first one, in pairs of photographs.

    n_others: how many are compared with the first, which limits of `clear` bands allow for.
    Errors: those of ``compare``, for other photographs or labels.
    """
    compared = compare(card.explanation, first.explanation)
    apart = card.explanation.values - first.explanation.values
    together = _allowing_for(len(apart) * n_others)
    at_once = at_levels(apart, lambda mean: mean)(together)
    clear = {k: at_once[k] for k in range(len(apart)) if _clear(at_once[k])}
    scores = [c.explanation.src("signed") for c in (card, first)]
    signed = None
    if all(scores):
        from iaside.score import score_difference

        e = card.explanation
        pair = e.values, first.explanation.values
        signed = score_difference(*pair, e.beta, "signed", e.bias, e.level, e.normalise)
    theirs = {harm.name: harm for harm in first.harms}
    return Difference(
        accuracy_difference(card.clean.right, first.clean.right),
        _mean(card.clean.log_likelihood - first.clean.log_likelihood),
        compared.psi,
        clear,
        signed,
        {
            harm.name: found
            for harm in card.harms
            if harm.name in theirs and (found := _harm(harm, theirs[harm.name]))
        },
        _deployment(card, first),
    )


def _harm(own, theirs) -> tuple[Estimate, Estimate] | None:
    """Nats lost more, and accuracy under it; None where no photograph was asked of both."""
    nats, right = both(own.rows, theirs.rows), both(own.right, theirs.right)
    if not (nats.size and right.size):
        return None
    return _mean(nats[0] - nats[1]), accuracy_difference(*right)


def _deployment(card: Card, first: Card) -> Estimate | None:
    """Nats lost more in the deployment: in pairs, of its pictures and of the clean ones."""
    own, theirs = card.deployment, first.deployment
    if own is None or theirs is None or own.what != theirs.what:
        return None
    there = _mean(own.rows - theirs.rows)
    if own.paired:
        return there
    before = [_before(c, c.deployment) for c in (card, first)]
    return unpaired_difference(_mean(before[0] - before[1]), there)


def _before(card: Card, placed: Deployment) -> np.ndarray:
    """What a deployment without pairs is compared with, of each clean photograph."""
    return card.clean.log_likelihood if placed.labelled else np.log(card.clean.confidence)


def _said(card: Card, first: Card, d: Difference, n_others: int) -> list[str]:
    """Sentences on what differs clearly, each with its number."""
    said, name, than = [], card.name, first.name
    if _clear(d.accuracy):
        more = "more" if d.accuracy.value > 0 else "fewer"
        said.append(
            f"{name} classifies {_size(d.accuracy, '.0%')} {more} pictures right than {than}."
        )
    if _clear(d.log_likelihood):
        better = "more" if d.log_likelihood.value > 0 else "less"
        said.append(
            f"{name} gives the right class {_size(d.log_likelihood)} nats {better} "
            f"log-likelihood than {than}."
        )
    said += [
        f"Band {k} ({where(card, k)}) is worth {_size(found)} nats "
        f"{'more' if found.value > 0 else 'less'} to {name} than to {than}."
        for k, found in d.clear.items()
    ]
    harms = {h.name: h for h in card.harms if h.name in d.harms}
    level = _allowing_for(len(harms) * n_others)
    theirs = {h.name: h for h in first.harms}
    lost = {}
    for harm in harms.values():
        nats = both(harm.rows, theirs[harm.name].rows)
        lost[harm.name] = interval(nats, lambda mean: mean[0] - mean[1], level)
    clear = {harm: found for harm, found in lost.items() if _clear(found)}
    for pick, more in ((max, "more"), (min, "less")):
        harm = pick(clear, key=lambda h: clear[h].value, default=None)
        if harm is not None and (clear[harm].value > 0) == (more == "more"):
            said.append(f"Under {harm} {name} loses {_size(clear[harm])} nats {more} than {than}.")
    if d.deployment is not None and _clear(d.deployment):
        more = "more" if d.deployment.value > 0 else "less"
        said.append(
            f"In the deployment {card.deployment.name} {name} loses {_size(d.deployment)} nats "
            f"{more} than {than}."
        )
    if d.score is not None and _clear(d.score):
        more = "above" if d.score.value > 0 else "below"
        said.append(f"The score of {name} is {_size(d.score)} {more} that of {than}.")
    return said


def _size(found: Estimate, spec: str = ".2f") -> str:
    """A clear difference without its sign, which is said in words."""
    return (found if found.value > 0 else -found).limits(spec)


def _clear(found: Estimate) -> bool:
    """Whether its limits do not hold 0, as they are printed."""
    return bool(found.low >= 0.005 or found.high <= -0.005)


def _allowing_for(n: int) -> float:
    """The level of each of n intervals which hold at once in 95 % of cases (Bonferroni)."""
    return 1 - 0.05 / max(1, n)


def _mean(rows: np.ndarray) -> Estimate:
    return interval(rows[None], lambda mean: mean[0])
